//! The calls to ECS, in our own words.

use anyhow::{Context, bail, ensure};
use aws_sdk_ecs::{
    Client,
    config::Builder,
    types::{DesiredStatus, SchedulingStrategy},
};
use chrono::{DateTime, Utc};
use service::aws::SilenceIsFinal;
use std::collections::{BTreeMap, BTreeSet};

/// Most tasks one call describes or lists.
const PAGE: usize = 100;

/// Most tasks one call protects.
const PROTECT_PAGE: usize = 10;

/// Most pages of a list: ten thousand tasks, twice what a service may have.
const MOST_PAGES: usize = 100;

/// What a container that says nothing of it has, in seconds.
const DEFAULT_STOP_TIMEOUT: i32 = 30;

/// Protection by a task's ARN; of a task that is not there it is not known.
pub type Protections = BTreeMap<String, Protection>;

/// Whether a task is protected against scale-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// One service's part of the API.
pub struct Api {
    client: Client,
    /// The cluster's name or ARN.
    pub cluster: String,
    /// The service's name.
    pub service: String,
    /// Tasks that were found to have ended; ECS lists them for another hour.
    gone: BTreeSet<String>,
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// The number ECS keeps running.
    pub desired: i32,
    /// Those under way; one when there is no rollout.
    pub n_deployments: usize,
    /// The one that new tasks belong to.
    pub current_deployment: Option<String>,
    /// Whether it has a task on every instance instead of a number.
    pub is_daemon: bool,
    /// What its tasks are made from.
    pub task_definition: Option<String>,
}

/// A task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its ARN.
    pub arn: String,
    /// Where it is to go: `RUNNING` or `STOPPED`.
    pub desired_status: String,
    /// Where it is.
    pub last_status: String,
    /// The deployment it belongs to.
    pub started_by: Option<String>,
    /// When ECS made it.
    pub created_at: Option<DateTime<Utc>>,
}

impl Task {
    /// Returns the last part of its ARN.
    pub fn id(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or(&self.arn)
    }
}

impl Api {
    /// Names the service.
    pub fn new(config: &aws_config::SdkConfig, cluster: String, service: String) -> Self {
        // A call that was not answered may have been carried out, so the next look comes before the next try.
        let config = Builder::from(config).retry_classifier(SilenceIsFinal).build();
        Self { client: Client::from_conf(config), cluster, service, gone: BTreeSet::new() }
    }

    /// Describes the service.
    ///
    /// # Errors
    /// When the call failed, or there is no such active service.
    pub async fn service(&self) -> anyhow::Result<Service> {
        let (cluster, service) = (&self.cluster, &self.service);
        let answer = self.client.describe_services().cluster(cluster).services(service).send().await;
        let answer = answer.with_context(|| {
            format!("describe service {service} in cluster {cluster}, which needs ecs:DescribeServices")
        })?;
        let found = answer.services.unwrap_or_default().into_iter().next();
        let found = found.with_context(|| format!("there is no service {service} in cluster {cluster}"))?;
        match found.status.as_deref() {
            Some("ACTIVE") => {}
            Some(status) => bail!("service {service} in cluster {cluster} is {status}, not ACTIVE"),
            None => bail!("the answer about service {service} lacks its status"),
        }
        let deployments = found.deployments.unwrap_or_default();
        let primary = deployments.iter().find(|deployment| deployment.status.as_deref() == Some("PRIMARY"));
        Ok(Service {
            desired: found.desired_count,
            n_deployments: deployments.len(),
            current_deployment: primary.and_then(|deployment| deployment.id.clone()),
            is_daemon: found.scheduling_strategy == Some(SchedulingStrategy::Daemon),
            task_definition: found.task_definition,
        })
    }

    /// Returns the service's tasks, with those that are stopping and without those that have.
    ///
    /// # Errors
    /// When a call failed, or an answer is not complete.
    pub async fn tasks(&mut self) -> anyhow::Result<Vec<Task>> {
        let mut arns = self.list(DesiredStatus::Running).await?;
        let stopped = self.list(DesiredStatus::Stopped).await?;
        self.gone.retain(|arn| stopped.contains(arn));
        arns.extend(stopped.into_iter().filter(|arn| !self.gone.contains(arn)));
        // A set, since a task that stops between the two lists is on both.
        let arns: Vec<String> = arns.into_iter().collect();
        let mut tasks = Vec::new();
        for page in arns.chunks(PAGE) {
            tasks.extend(self.describe(page).await?);
        }
        let ended = tasks.iter().filter(|task| task.desired_status == "STOPPED" && task.last_status == "STOPPED");
        self.gone.extend(ended.map(|task| task.arn.clone()));
        Ok(tasks)
    }

    async fn list(&self, status: DesiredStatus) -> anyhow::Result<BTreeSet<String>> {
        let mut arns = BTreeSet::new();
        let mut token = None;
        for _ in 0..MOST_PAGES {
            let call = self.client.list_tasks().cluster(&self.cluster).service_name(&self.service);
            let answer = call.desired_status(status.clone()).set_next_token(token).send().await;
            let answer = answer
                .with_context(|| format!("list the tasks of service {}, which needs ecs:ListTasks", self.service))?;
            arns.extend(answer.task_arns.with_context(|| format!("the list of {}'s tasks is missing", self.service))?);
            token = answer.next_token;
            if token.is_none() {
                return Ok(arns);
            }
        }
        bail!("the list of service {}'s tasks does not end", self.service)
    }

    async fn describe(&self, arns: &[String]) -> anyhow::Result<Vec<Task>> {
        let call = self.client.describe_tasks().cluster(&self.cluster).set_tasks(Some(arns.to_vec()));
        let answer = call.send().await;
        let answer = answer.with_context(|| {
            format!("describe the tasks of service {}, which needs ecs:DescribeTasks", self.service)
        })?;
        let described = answer.tasks.unwrap_or_default();
        let failures = answer.failures.unwrap_or_default();
        // A task that was on the list and is forgotten by now is gone; any other reason leaves that open.
        if let Some(failure) = failures.iter().find(|failure| failure.reason.as_deref() != Some("MISSING")) {
            bail!("describe task {}: {}", shown(&failure.arn), shown(&failure.reason));
        }
        let n_missing = arns.len().saturating_sub(described.len() + failures.len());
        ensure!(
            n_missing == 0,
            "the answer about service {}'s tasks lacks {n_missing} of {}",
            self.service,
            arns.len()
        );
        described.into_iter().map(read).collect()
    }

    /// Returns which of the tasks are protected.
    ///
    /// # Errors
    /// When a call failed.
    pub async fn protection(&self, arns: &[&str]) -> anyhow::Result<Protections> {
        let mut protections = Protections::new();
        for page in arns.chunks(PAGE) {
            let tasks = page.iter().map(|arn| (*arn).to_owned()).collect();
            let answer = self.client.get_task_protection().cluster(&self.cluster).set_tasks(Some(tasks)).send().await;
            let answer = answer.with_context(|| {
                format!("read the protection of service {}'s tasks, which needs ecs:GetTaskProtection", self.service)
            })?;
            for task in answer.protected_tasks.unwrap_or_default() {
                let Some(arn) = task.task_arn else { continue };
                protections.insert(arn, if task.protection_enabled { Protection::On } else { Protection::Off });
            }
        }
        Ok(protections)
    }

    /// Protects the tasks of these ids; an error when one of them is not protected afterwards.
    ///
    /// # Errors
    /// When a call failed, or one of the tasks is not protected afterwards.
    pub async fn protect(&self, ids: &[&str], minutes: i32) -> anyhow::Result<()> {
        for page in ids.chunks(PROTECT_PAGE) {
            let tasks: Vec<String> = page.iter().map(|id| (*id).to_owned()).collect();
            let call = self.client.update_task_protection().cluster(&self.cluster).set_tasks(Some(tasks));
            let answer = call.protection_enabled(true).expires_in_minutes(minutes).send().await;
            let answer = answer.context("protect the tasks that must stay, which needs ecs:UpdateTaskProtection")?;
            if let Some(failure) = answer.failures.unwrap_or_default().first() {
                bail!("protect task {}, which must stay: {}", shown(&failure.arn), shown(&failure.reason));
            }
            let done = answer.protected_tasks.unwrap_or_default();
            let is_done = |id: &&str| {
                let named = |arn: &String| arn.rsplit('/').next() == Some(*id);
                done.iter().any(|task| task.protection_enabled && task.task_arn.as_ref().is_some_and(named))
            };
            if let Some(id) = page.iter().find(|id| !is_done(id)) {
                bail!("ECS does not say that task {id}, which must stay, is protected");
            }
        }
        Ok(())
    }

    /// Sets the number of tasks.
    ///
    /// # Errors
    /// When the call failed, or its answer was lost: the number may have been set.
    pub async fn set_desired(&self, desired: i32) -> anyhow::Result<()> {
        let call = self.client.update_service().cluster(&self.cluster).service(&self.service).desired_count(desired);
        call.send().await.with_context(|| {
            format!("set the desired count of service {} to {desired}, which needs ecs:UpdateService", self.service)
        })?;
        Ok(())
    }

    /// Stops a task, protected or not; the service replaces it. Returns whether there was one.
    ///
    /// # Errors
    /// When the call failed for another reason than that there is no such task.
    pub async fn stop(&self, id: &str) -> anyhow::Result<bool> {
        let reason = "does nothing any more: no heartbeat";
        match self.client.stop_task().cluster(&self.cluster).task(id).reason(reason).send().await {
            Ok(_) => Ok(true),
            // Said of tasks that have been gone for long, and of ids that never were any.
            Err(error) if error.as_service_error().is_some_and(|error| error.is_invalid_parameter_exception()) => {
                Ok(false)
            }
            Err(error) => Err(error).with_context(|| format!("stop task {id}, which needs ecs:StopTask")),
        }
    }

    /// Returns how long the most patient container of a service's tasks may take to stop.
    ///
    /// # Errors
    /// When the task definition cannot be described.
    pub async fn longest_stop_timeout(&self, service: &Service) -> anyhow::Result<i32> {
        let definition = service.task_definition.as_deref().context("the service names no task definition")?;
        let answer = self.client.describe_task_definition().task_definition(definition).send().await;
        let answer = answer.with_context(|| format!("describe task definition {definition}"))?;
        let containers = answer.task_definition.and_then(|definition| definition.container_definitions);
        let timeouts = containers.unwrap_or_default().into_iter().map(|container| container.stop_timeout);
        timeouts
            .map(|secs| secs.unwrap_or(DEFAULT_STOP_TIMEOUT))
            .max()
            .with_context(|| format!("task definition {definition} has no containers"))
    }
}

fn read(task: aws_sdk_ecs::types::Task) -> anyhow::Result<Task> {
    let arn = task.task_arn.context("a task without an ARN")?;
    let missing = |what: &str| format!("the answer about task {arn} lacks its {what}");
    let desired_status = task.desired_status.with_context(|| missing("desired status"))?;
    let last_status = task.last_status.with_context(|| missing("status"))?;
    let created_at = task.created_at.and_then(|at| DateTime::from_timestamp(at.secs(), at.subsec_nanos()));
    Ok(Task { desired_status, last_status, started_by: task.started_by, created_at, arn })
}

fn shown(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("unknown")
}
