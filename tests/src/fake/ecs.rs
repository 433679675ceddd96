//! An ECS service: its desired count, its tasks, their protection, and the scheduler that brings them together.
//!
//! The protocol and the answers are those of the real API
//! ([ECS API](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/Welcome.html)).
//! The scheduler is the least helpful one the documentation allows: on the way down it takes the oldest
//! task that is not protected, and it acts at once.

use super::server::{Request, Response, Server};
use anyhow::Result;
use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The cluster's name.
pub const CLUSTER: &str = "imports";
/// The service's name.
pub const SERVICE: &str = "importers";

const ACCOUNT: &str = "arn:aws:ecs:eu-west-1:123456789012";

/// A running stand-in.
#[derive(Clone, Debug)]
pub struct Ecs {
    server: Arc<Server>,
    service: Arc<Mutex<EcsService>>,
}

/// What the API knows.
#[derive(Debug)]
pub struct EcsService {
    /// The number of tasks there is to be.
    pub desired: usize,
    /// The tasks, the oldest first, with those that have stopped.
    pub tasks: Vec<EcsTask>,
    /// How far new tasks come by themselves.
    pub launches_to: &'static str,
    /// Tasks are found for what is desired; otherwise there is no capacity.
    pub has_capacity: bool,
    /// Seconds a task's container has to stop; what it is without one.
    pub stop_timeout: Option<u32>,
    /// The most tasks of one list's page.
    pub page: usize,
    /// Actions that are refused.
    pub denied: BTreeSet<&'static str>,
    /// Parts left out of every answer.
    pub silent_on: BTreeSet<&'static str>,
    /// Answers to give instead of the real ones, in order.
    pub faults: VecDeque<EcsFault>,
    /// The calls that changed something, as `Action argument`.
    pub calls: Vec<String>,
    /// The deployments, the newest first.
    pub deployments: Vec<&'static str>,
    n_started: usize,
}

/// A task.
#[derive(Clone, Debug)]
pub struct EcsTask {
    /// The last part of its ARN.
    pub id: String,
    /// Where it is to go.
    pub desired_status: &'static str,
    /// Where it is.
    pub last_status: &'static str,
    /// Until when scale-in leaves it alone.
    pub protected_until: Option<DateTime<Utc>>,
    /// The deployment it belongs to.
    pub deployment: &'static str,
    created_at: DateTime<Utc>,
}

/// An answer that is none.
#[derive(Clone, Copy, Debug)]
pub enum EcsFault {
    /// Too many calls.
    Throttled,
    /// Something went wrong on the other side.
    Broken,
}

/// Why a call is refused: the exception and its message.
type Refusal = (&'static str, String);

impl Ecs {
    /// Starts a service without tasks.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start() -> Result<Self> {
        let service = Arc::new(Mutex::new(EcsService {
            desired: 0,
            tasks: Vec::new(),
            launches_to: "RUNNING",
            has_capacity: true,
            stop_timeout: Some(120),
            page: 100,
            denied: BTreeSet::new(),
            silent_on: BTreeSet::new(),
            faults: VecDeque::new(),
            calls: Vec::new(),
            deployments: vec!["ecs-svc/1"],
            n_started: 0,
        }));
        let shared = Arc::clone(&service);
        let server =
            Server::start(move |request| shared.lock().unwrap_or_else(PoisonError::into_inner).answer(&request));
        Ok(Self { server: Arc::new(server.await?), service })
    }

    /// Returns `http://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Returns the service, to look at or to change.
    pub fn service(&self) -> MutexGuard<'_, EcsService> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EcsService {
    /// Returns the ids of the tasks that are to run, the oldest first.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.tasks.iter().filter(|task| task.is_wanted()).map(|task| task.id.clone()).collect()
    }

    /// Protects a task or takes its protection off, as the task itself does through its agent.
    pub fn protect(&mut self, id: &str, on: bool) {
        for task in self.tasks.iter_mut().filter(|task| task.id == id) {
            task.protected_until = on.then(|| Utc::now() + Duration::minutes(30));
        }
        self.schedule();
    }

    /// Lets what is stopping have stopped; ECS shows such tasks for another hour.
    pub fn finish(&mut self) {
        for task in self.tasks.iter_mut().filter(|task| !task.is_wanted()) {
            task.last_status = "STOPPED";
        }
    }

    /// Brings the tasks to the desired count, as far as that goes.
    pub fn schedule(&mut self) {
        while self.has_capacity && self.ids().len() < self.desired {
            self.n_started += 1;
            self.tasks.push(EcsTask {
                id: format!("{:032x}", self.n_started),
                desired_status: "RUNNING",
                last_status: self.launches_to,
                protected_until: None,
                deployment: self.deployments.first().copied().unwrap_or_default(),
                created_at: Utc::now(),
            });
        }
        while self.ids().len() > self.desired {
            let Some(victim) = self.tasks.iter_mut().find(|task| task.is_wanted() && !task.is_protected()) else {
                return;
            };
            victim.stop();
        }
    }

    fn answer(&mut self, request: &Request) -> Response {
        let target = request.header("x-amz-target").unwrap_or_default().to_owned();
        let action = target.strip_prefix("AmazonEC2ContainerServiceV20141113.").unwrap_or_default();
        let refuse = |status: u16, (kind, message): Refusal| {
            Response::new(status, json!({"__type": kind, "message": message}).to_string())
        };
        match self.faults.pop_front() {
            Some(EcsFault::Throttled) => return refuse(400, ("ThrottlingException", "Rate exceeded".to_owned())),
            Some(EcsFault::Broken) => return refuse(500, ("ServerException", "Service Unavailable".to_owned())),
            None => {}
        }
        if let Some(denied) = self.denied.get(action) {
            let message = format!("User: arn:aws:iam::123456789012:user/x is not authorized to perform: ecs:{denied}");
            return refuse(400, ("AccessDeniedException", message));
        }
        let wish: Value = serde_json::from_str(&request.body).unwrap_or_default();
        match self.act(action, &wish) {
            Ok(mut answer) => {
                if let Some(parts) = answer.as_object_mut() {
                    parts.retain(|part, _| !self.silent_on.contains(part.as_str()));
                }
                let headers = vec![("Content-Type", "application/x-amz-json-1.1".to_owned())];
                Response { headers, ..Response::new(200, answer.to_string()) }
            }
            Err(refusal) => refuse(400, refusal),
        }
    }

    fn act(&mut self, action: &str, wish: &Value) -> Result<Value, Refusal> {
        let text = |name: &str| wish[name].as_str().unwrap_or_default().to_owned();
        if action == "DescribeTaskDefinition" {
            let mut container = json!({"name": "importer", "image": "penstock", "essential": true});
            if let Some(secs) = self.stop_timeout {
                container["stopTimeout"] = json!(secs);
            }
            let arn = format!("{ACCOUNT}:task-definition/importer:1");
            let definition = json!({"taskDefinitionArn": arn, "containerDefinitions": [container]});
            return Ok(json!({"taskDefinition": definition}));
        }
        if text("cluster") != CLUSTER {
            return Err(("ClusterNotFoundException", "Cluster not found.".to_owned()));
        }
        match action {
            "DescribeServices" => Ok(self.describe_services(wish)),
            "ListTasks" => self.list_tasks(wish),
            "DescribeTasks" => Ok(self.describe_tasks(wish)),
            "GetTaskProtection" => Ok(self.protection(&ids(wish))),
            "UpdateTaskProtection" => self.update_protection(wish),
            "UpdateService" => {
                let desired = wish["desiredCount"].as_u64().and_then(|n| usize::try_from(n).ok());
                if text("service") != SERVICE {
                    return Err(("ServiceNotFoundException", "Service not found.".to_owned()));
                }
                let desired = desired.ok_or(("InvalidParameterException", "desiredCount".to_owned()))?;
                self.calls.push(format!("UpdateService {desired}"));
                self.desired = desired;
                self.schedule();
                Ok(json!({"service": self.service()}))
            }
            "StopTask" => {
                let id = last(&text("task")).to_owned();
                let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) else {
                    return Err(("InvalidParameterException", "The referenced task was not found.".to_owned()));
                };
                task.stop();
                let stopped = task.json();
                self.calls.push(format!("StopTask {id}"));
                self.schedule();
                Ok(json!({"task": stopped}))
            }
            other => Err(("UnknownOperationException", other.to_owned())),
        }
    }

    fn service(&self) -> Value {
        let deployments: Vec<Value> = self
            .deployments
            .iter()
            .enumerate()
            .map(|(place, id)| json!({"id": id, "status": if place == 0 { "PRIMARY" } else { "ACTIVE" }}))
            .collect();
        let count = |status: &str| self.tasks.iter().filter(|task| task.last_status == status).count();
        json!({
            "serviceArn": format!("{ACCOUNT}:service/{CLUSTER}/{SERVICE}"), "serviceName": SERVICE,
            "clusterArn": format!("{ACCOUNT}:cluster/{CLUSTER}"), "status": "ACTIVE", "schedulingStrategy": "REPLICA",
            "desiredCount": self.desired, "runningCount": count("RUNNING"), "pendingCount": count("PENDING"),
            "taskDefinition": format!("{ACCOUNT}:task-definition/importer:1"), "deployments": deployments,
        })
    }

    fn describe_services(&self, wish: &Value) -> Value {
        if wish["services"][0] != SERVICE {
            let arn = format!("{ACCOUNT}:service/{CLUSTER}/{}", wish["services"][0].as_str().unwrap_or_default());
            return json!({"services": [], "failures": [{"arn": arn, "reason": "MISSING"}]});
        }
        json!({"services": [self.service()], "failures": []})
    }

    fn list_tasks(&self, wish: &Value) -> Result<Value, Refusal> {
        if wish["serviceName"] != SERVICE {
            return Err(("ServiceNotFoundException", "Service not found.".to_owned()));
        }
        let status = wish["desiredStatus"].as_str().unwrap_or("RUNNING");
        let arns: Vec<String> =
            self.tasks.iter().filter(|task| task.desired_status == status).map(EcsTask::arn).collect();
        let from: usize = wish["nextToken"].as_str().and_then(|token| token.parse().ok()).unwrap_or(0);
        let to = arns.len().min(from + self.page);
        let mut answer = json!({"taskArns": arns[from.min(to)..to]});
        if to < arns.len() {
            answer["nextToken"] = json!(to.to_string());
        }
        Ok(answer)
    }

    fn describe_tasks(&self, wish: &Value) -> Value {
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for id in ids(wish) {
            match self.tasks.iter().find(|task| task.id == id) {
                Some(task) => tasks.push(task.json()),
                None => failures.push(missing(&id)),
            }
        }
        json!({"tasks": tasks, "failures": failures})
    }

    fn protection(&self, ids: &[String]) -> Value {
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for id in ids {
            match self.tasks.iter().find(|task| task.id == *id) {
                Some(task) => {
                    let until = task.protected_until.filter(|_| task.is_protected());
                    let expires = until.map(|until| until.timestamp() as f64);
                    let mut shown = json!({"taskArn": task.arn(), "protectionEnabled": task.is_protected()});
                    if let Some(expires) = expires {
                        shown["expirationDate"] = json!(expires);
                    }
                    tasks.push(shown);
                }
                None => failures.push(missing(id)),
            }
        }
        json!({"protectedTasks": tasks, "failures": failures})
    }

    fn update_protection(&mut self, wish: &Value) -> Result<Value, Refusal> {
        let ids = ids(wish);
        if ids.is_empty() || ids.len() > 10 {
            return Err(("InvalidParameterException", "taskIds must have 1 to 10 elements".to_owned()));
        }
        let on = wish["protectionEnabled"].as_bool().unwrap_or(false);
        let minutes = wish["expiresInMinutes"].as_i64().unwrap_or(120);
        for task in self.tasks.iter_mut().filter(|task| ids.contains(&task.id)) {
            task.protected_until = on.then(|| Utc::now() + Duration::minutes(minutes));
            self.calls.push(format!("Protect {} {on} {minutes}", task.id));
        }
        self.schedule();
        Ok(self.protection(&ids))
    }
}

impl EcsTask {
    fn is_wanted(&self) -> bool {
        self.desired_status == "RUNNING"
    }

    /// Whether scale-in leaves it alone.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.protected_until.is_some_and(|until| until > Utc::now())
    }

    fn stop(&mut self) {
        self.desired_status = "STOPPED";
        self.last_status = "STOPPING";
    }

    fn arn(&self) -> String {
        format!("{ACCOUNT}:task/{CLUSTER}/{}", self.id)
    }

    fn json(&self) -> Value {
        json!({
            "taskArn": self.arn(), "clusterArn": format!("{ACCOUNT}:cluster/{CLUSTER}"),
            "desiredStatus": self.desired_status, "lastStatus": self.last_status, "launchType": "FARGATE",
            "group": format!("service:{SERVICE}"), "startedBy": self.deployment,
            "createdAt": self.created_at.timestamp_millis() as f64 / 1000.0,
        })
    }
}

/// Returns the ids of the tasks a call names by id or ARN.
fn ids(wish: &Value) -> Vec<String> {
    let tasks = wish["tasks"].as_array().into_iter().flatten();
    tasks.filter_map(|task| task.as_str()).map(|task| last(task).to_owned()).collect()
}

fn last(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

fn missing(id: &str) -> Value {
    json!({"arn": format!("{ACCOUNT}:task/{CLUSTER}/{id}"), "reason": "MISSING"})
}
