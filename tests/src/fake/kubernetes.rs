//! A Kubernetes API server with one Deployment, and the controllers behind it.
//!
//! Paths, verbs and objects are those of the real one
//! ([API reference](https://kubernetes.io/docs/reference/kubernetes-api/)). On the way down the
//! controller takes pods without a node first, then pending ones, those that are not ready, those that cost
//! less, and the youngest; it acts at once.

use super::server::{Request, Response, Server};
use anyhow::Result;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The namespace.
pub const NAMESPACE: &str = "penstock";
/// The Deployment's name.
pub const DEPLOYMENT: &str = "importers";

const SELECTOR: &str = "app=importers";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A running stand-in.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    server: Arc<Server>,
    cluster: Arc<Mutex<Cluster>>,
}

/// What the API knows.
#[derive(Debug)]
pub struct Cluster {
    /// The number of pods there is to be.
    pub replicas: usize,
    /// The pods, the oldest first, with those on their way out.
    pub pods: Vec<FakePod>,
    /// New pods come up and are ready; otherwise they wait for a node.
    pub has_nodes: bool,
    /// New pods may be made; otherwise the namespace's quota is used up.
    pub has_quota: bool,
    /// The ReplicaSet new pods belong to.
    pub replica_set: &'static str,
    /// Seconds a pod has to end; what it is without one.
    pub grace_secs: Option<u32>,
    /// The most pods of one list's page.
    pub page: usize,
    /// What is refused, as `verb resource`.
    pub denied: BTreeSet<&'static str>,
    /// Status codes to give instead of answers, in order.
    pub faults: VecDeque<u16>,
    /// Parts left out of the scale.
    pub silent_on: BTreeSet<&'static str>,
    /// The calls that changed something, as `verb argument`.
    pub calls: Vec<String>,
    n_started: usize,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct FakePod {
    /// Its name.
    pub name: String,
    /// The ReplicaSet it belongs to.
    pub replica_set: &'static str,
    /// How far it is.
    pub phase: &'static str,
    /// Whether it has a node.
    pub has_node: bool,
    /// Whether its readiness probe succeeds.
    pub is_ready: bool,
    /// Whether it was told to go.
    pub is_leaving: bool,
    /// Its `pod-deletion-cost`.
    pub cost: Option<String>,
    created_at: DateTime<Utc>,
    number: usize,
}

/// Why a call is refused: the status, its reason and its message.
type Refusal = (u16, &'static str, String);

impl Kubernetes {
    /// Starts a server with a Deployment without pods.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start() -> Result<Self> {
        let cluster = Arc::new(Mutex::new(Cluster {
            replicas: 0,
            pods: Vec::new(),
            has_nodes: true,
            has_quota: true,
            replica_set: "importers-6d4cf56db6",
            grace_secs: Some(120),
            page: 500,
            denied: BTreeSet::new(),
            faults: VecDeque::new(),
            silent_on: BTreeSet::new(),
            calls: Vec::new(),
            n_started: 0,
        }));
        let shared = Arc::clone(&cluster);
        let server =
            Server::start(move |request| shared.lock().unwrap_or_else(PoisonError::into_inner).answer(&request));
        Ok(Self { server: Arc::new(server.await?), cluster })
    }

    /// Returns `http://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Returns a kubeconfig that leads here.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url()}}],
            "users": [{"name": "fake", "user": {"token": "fake"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": NAMESPACE}}],
        })
        .to_string()
    }

    /// Returns the cluster, to look at or to change.
    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// Returns the names of the pods that are to stay, the oldest first.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.pods.iter().filter(|pod| pod.is_active()).map(|pod| pod.name.clone()).collect()
    }

    /// Returns a pod to change.
    pub fn pod(&mut self, name: &str) -> Option<&mut FakePod> {
        self.pods.iter_mut().find(|pod| pod.name == name)
    }

    /// Lets what was told to go be gone.
    pub fn finish(&mut self) {
        self.pods.retain(|pod| !pod.is_leaving);
    }

    /// Brings the pods to the number, as the controllers do.
    pub fn reconcile(&mut self) {
        while self.has_quota && self.names().len() < self.replicas {
            self.n_started += 1;
            let number = self.n_started;
            self.pods.push(FakePod {
                name: format!("{}-{number:05}", self.replica_set),
                replica_set: self.replica_set,
                phase: if self.has_nodes { "Running" } else { "Pending" },
                has_node: self.has_nodes,
                is_ready: self.has_nodes,
                is_leaving: false,
                cost: None,
                created_at: Utc::now(),
                number,
            });
        }
        while self.names().len() > self.replicas {
            let first = self.pods.iter_mut().filter(|pod| pod.is_active()).min_by_key(|pod| pod.rank());
            let Some(pod) = first else { return };
            pod.is_leaving = true;
        }
    }

    fn answer(&mut self, request: &Request) -> Response {
        let refuse = |(status, reason, message): Refusal| {
            let text = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": message, "reason": reason, "code": status,
            });
            Response { headers: json_headers(), ..Response::new(status, text.to_string()) }
        };
        if let Some(status) = self.faults.pop_front() {
            return refuse((status, "InternalError", "an error on the server".to_owned()));
        }
        match self.act(request) {
            Ok(answer) => Response { headers: json_headers(), ..Response::new(200, answer.to_string()) },
            Err(refusal) => refuse(refusal),
        }
    }

    fn act(&mut self, request: &Request) -> Result<Value, Refusal> {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let verb = match (request.method.as_str(), parts.len()) {
            ("GET", 5) => "list",
            ("GET", _) => "get",
            ("PATCH", _) => "patch",
            ("DELETE", _) => "delete",
            _ => "create",
        };
        let (namespace, resource, name, subresource) = match parts[..] {
            ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"] => return Ok(self.review(body)),
            ["apis", "apps", "v1", "namespaces", namespace, resource, name] => (namespace, resource, name, ""),
            ["apis", "apps", "v1", "namespaces", namespace, resource, name, sub] => (namespace, resource, name, sub),
            ["api", "v1", "namespaces", namespace, resource] => (namespace, resource, "", ""),
            ["api", "v1", "namespaces", namespace, resource, name] => (namespace, resource, name, ""),
            _ => return Err((404, "NotFound", "the server could not find the requested resource".to_owned())),
        };
        let full = if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
        if self.denied.contains(format!("{verb} {full}").as_str()) {
            let message = format!(
                "{full} \"{name}\" is forbidden: User \"scaler\" cannot {verb} resource \"{full}\" in the namespace \"{namespace}\""
            );
            return Err((403, "Forbidden", message));
        }
        let is_merge = request.header("content-type") == Some("application/merge-patch+json");
        if verb == "patch" && !is_merge {
            return Err((415, "UnsupportedMediaType", "only merge patches here".to_owned()));
        }
        match (verb, full.as_str()) {
            (_, "deployments" | "deployments/scale") if name != DEPLOYMENT || namespace != NAMESPACE => {
                Err((404, "NotFound", format!("deployments.apps \"{name}\" not found")))
            }
            ("get", "deployments") => Ok(self.deployment()),
            ("get", "deployments/scale") => Ok(self.scale()),
            ("patch", "deployments/scale") => {
                let replicas = body["spec"]["replicas"].as_u64().and_then(|n| usize::try_from(n).ok());
                let replicas = replicas.ok_or((422, "Invalid", "spec.replicas: must be 0 or more".to_owned()))?;
                self.calls.push(format!("scale {replicas}"));
                self.replicas = replicas;
                self.reconcile();
                Ok(self.scale())
            }
            ("list", "pods") => Ok(self.list(query)),
            ("patch" | "delete", "pods") => {
                let Some(pod) = self.pod(name) else {
                    return Err((404, "NotFound", format!("pods \"{name}\" not found")));
                };
                if verb == "delete" {
                    pod.is_leaving = true;
                } else if let Some(cost) = body["metadata"]["annotations"][DELETION_COST].as_str() {
                    pod.cost = Some(cost.to_owned());
                }
                let shown = pod.json();
                let cost = pod.cost.clone().unwrap_or_default();
                self.calls.push(if verb == "delete" {
                    format!("delete {name}")
                } else {
                    format!("cost {name} {cost}")
                });
                self.reconcile();
                Ok(shown)
            }
            _ => Err((405, "MethodNotAllowed", "the server does not allow this method here".to_owned())),
        }
    }

    fn scale(&self) -> Value {
        let mut scale = json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": {"name": DEPLOYMENT, "namespace": NAMESPACE, "resourceVersion": "1"},
            "spec": {"replicas": self.replicas},
            "status": {"replicas": self.names().len(), "selector": SELECTOR},
        });
        if self.replicas == 0 {
            scale["spec"] = json!({});
        }
        if let Some(parts) = scale.as_object_mut() {
            parts.retain(|part, _| !self.silent_on.contains(part.as_str()));
        }
        scale
    }

    fn deployment(&self) -> Value {
        let mut pod = json!({"containers": [{"name": "importer", "image": "penstock"}]});
        if let Some(secs) = self.grace_secs {
            pod["terminationGracePeriodSeconds"] = json!(secs);
        }
        json!({
            "kind": "Deployment", "apiVersion": "apps/v1",
            "metadata": {"name": DEPLOYMENT, "namespace": NAMESPACE},
            "spec": {
                "replicas": self.replicas, "selector": {"matchLabels": {"app": "importers"}},
                "template": {"metadata": {"labels": {"app": "importers"}}, "spec": pod},
            },
        })
    }

    fn list(&self, query: &str) -> Value {
        let field = |name: &str| {
            let found = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(known, _)| *known == name);
            found.map(|(_, value)| value.replace("%3D", "=")).unwrap_or_default()
        };
        let pods: Vec<&FakePod> = self.pods.iter().filter(|_| field("labelSelector") == SELECTOR).collect();
        let from: usize = field("continue").parse().unwrap_or(0);
        let limit = field("limit").parse().unwrap_or(usize::MAX).min(self.page);
        let to = pods.len().min(from.saturating_add(limit));
        let items: Vec<Value> = pods[from.min(to)..to].iter().map(|pod| pod.json()).collect();
        let mut metadata = json!({"resourceVersion": "1"});
        if to < pods.len() {
            metadata["continue"] = json!(to.to_string());
        }
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items})
    }

    fn review(&self, mut review: Value) -> Value {
        let attributes = &review["spec"]["resourceAttributes"];
        let text = |name: &str| attributes[name].as_str().unwrap_or_default();
        let mut asked = format!("{} {}", text("verb"), text("resource"));
        if !text("subresource").is_empty() {
            asked = format!("{asked}/{}", text("subresource"));
        }
        review["status"] = json!({"allowed": !self.denied.contains(asked.as_str())});
        review
    }
}

impl FakePod {
    fn is_active(&self) -> bool {
        !self.is_leaving && !matches!(self.phase, "Succeeded" | "Failed")
    }

    /// Returns where it stands in the order in which pods go.
    fn rank(&self) -> (bool, u8, bool, i64, std::cmp::Reverse<usize>) {
        let phase = match self.phase {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        let cost = self.cost.as_ref().and_then(|cost| cost.parse().ok()).unwrap_or(0);
        (self.has_node, phase, self.is_ready, cost, std::cmp::Reverse(self.number))
    }

    fn json(&self) -> Value {
        let mut pod = json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {
                "name": self.name, "namespace": NAMESPACE, "labels": {"app": "importers"},
                "creationTimestamp": self.created_at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": self.replica_set,
                    "uid": format!("uid-of-{}", self.replica_set), "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {"containers": [{"name": "importer", "image": "penstock"}]},
            "status": {
                "phase": self.phase,
                "conditions": [{"type": "Ready", "status": if self.is_ready { "True" } else { "False" }}],
            },
        });
        if self.has_node {
            pod["spec"]["nodeName"] = json!("node-1");
        }
        if let Some(cost) = &self.cost {
            pod["metadata"]["annotations"] = json!({DELETION_COST: cost});
        }
        if self.is_leaving {
            pod["metadata"]["deletionTimestamp"] = json!(Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
        pod
    }
}

fn json_headers() -> Vec<(&'static str, String)> {
    vec![("Content-Type", "application/json".to_owned())]
}
