//! The calls to the API server, in our own words.

use super::order::{Pod, PodPhase};
use crate::pool::Silent;
use anyhow::{Context, anyhow, bail};
use chrono::{DateTime, Utc};
use k8s_openapi::api::{
    apps::v1::Deployment,
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1,
};
use kube::{
    Client, Config,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use std::{future::Future, time::Duration};

/// The annotation the ReplicaSet controller reads.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Pods of one page.
const PAGE: u32 = 500;

/// Most pages of a list.
const MOST_PAGES: usize = 100;

/// What a pod that says nothing of it has.
const DEFAULT_GRACE_SECS: i64 = 30;

/// What the scaler does, as verb, group, resource and subresource.
const RIGHTS: [(&str, &str, &str, &str); 5] = [
    ("get", "apps", "deployments", "scale"),
    ("patch", "apps", "deployments", "scale"),
    ("list", "", "pods", ""),
    ("patch", "", "pods", ""),
    ("delete", "", "pods", ""),
];

/// Where the API server is.
pub enum Place {
    /// Where `kubectl` finds it, or the pod's service account says.
    Found,
    /// Here.
    Given(Box<Config>),
}

/// One Deployment's part of the API.
pub struct Api {
    server: Place,
    /// The one configured, or found with the server.
    namespace: Option<String>,
    /// The Deployment's name.
    pub deployment: String,
    /// How long an answer may take, tries again included.
    limit: Duration,
    connected: Option<Connected>,
}

struct Connected {
    client: Client,
    /// The server's host and port, for messages.
    peer: String,
}

/// The Deployment's number.
#[derive(Clone, Debug)]
pub struct Scale {
    /// How many pods there are to be.
    pub replicas: i32,
    /// What they are found by.
    pub selector: String,
}

impl Api {
    /// Names the Deployment; the server is found at the first call.
    pub fn new(server: Place, namespace: Option<String>, deployment: String, limit: Duration) -> Self {
        Self { server, namespace, deployment, limit, connected: None }
    }

    /// Reads the number.
    ///
    /// # Errors
    /// When the call failed, or the answer lacks the number or the selector.
    pub async fn scale(&mut self) -> anyhow::Result<Scale> {
        let deployments = self.deployments().await?;
        let place = self.place();
        let name = self.deployment.clone();
        let scale = self.within(deployments.get_scale(&name)).await;
        let scale = scale.with_context(|| format!("read the scale of {place}"))?;
        // A number of 0 is left out of the JSON; a part that is missing as a whole is not 0.
        let spec = scale.spec.with_context(|| format!("the scale of {place} lacks its number"))?;
        let selector = scale.status.and_then(|status| status.selector).filter(|selector| !selector.is_empty());
        let selector = selector.with_context(|| format!("the scale of {place} lacks its selector"))?;
        Ok(Scale { replicas: spec.replicas.unwrap_or(0), selector })
    }

    /// Returns the pods of the Deployment's ReplicaSets, without those that have ended.
    ///
    /// # Errors
    /// When a call failed, or a pod lacks what it is known by.
    pub async fn pods(&mut self, selector: &str) -> anyhow::Result<Vec<Pod>> {
        let mut pods = Vec::new();
        let mut params = ListParams::default().labels(selector).limit(PAGE);
        let api = self.pods_api().await?;
        for _ in 0..MOST_PAGES {
            let page = self.within(api.list(&params)).await;
            let page = page.with_context(|| format!("list the pods of {}", self.place()))?;
            for pod in page.items {
                pods.extend(read(pod)?);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(pods),
            }
        }
        bail!("the list of the pods of {} does not end", self.place())
    }

    /// Sets the number.
    ///
    /// # Errors
    /// When the call failed, or its answer was lost: the number may have been set.
    pub async fn set_replicas(&mut self, replicas: i32) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let params = PatchParams::default();
        let (deployments, name) = (self.deployments().await?, self.deployment.clone());
        let patched = self.within(deployments.patch_scale(&name, &params, &patch)).await;
        patched.with_context(|| format!("set the replicas of {} to {replicas}", self.place()))?;
        Ok(())
    }

    /// Says what it costs to delete a pod; of one that is gone nothing needs saying.
    ///
    /// # Errors
    /// When the call failed.
    pub async fn set_cost(&mut self, pod: &str, cost: i32) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {DELETION_COST: cost.to_string()}}}));
        let api = self.pods_api().await?;
        let params = PatchParams::default();
        let patched = self.within(async {
            match api.patch(pod, &params, &patch).await {
                Err(error) if is_missing(&error) => Ok(()),
                patched => patched.map(|_| ()),
            }
        });
        patched.await.with_context(|| format!("write the deletion cost of pod {pod}"))
    }

    /// Deletes a pod; the ReplicaSet replaces it. Returns whether there was one.
    ///
    /// # Errors
    /// When the call failed for another reason than that there is no such pod.
    pub async fn delete(&mut self, pod: &str) -> anyhow::Result<bool> {
        let api = self.pods_api().await?;
        let deleted = self.within(async {
            match api.delete(pod, &DeleteParams::default()).await {
                Err(error) if is_missing(&error) => Ok(false),
                deleted => deleted.map(|_| true),
            }
        });
        deleted.await.with_context(|| format!("delete pod {pod}"))
    }

    /// Returns how long a pod of the Deployment has to finish once it is deleted.
    ///
    /// # Errors
    /// When the Deployment cannot be read.
    pub async fn grace_secs(&mut self) -> anyhow::Result<i64> {
        let (deployments, name) = (self.deployments().await?, self.deployment.clone());
        let found = self.within(deployments.get(&name)).await;
        let found = found.with_context(|| format!("read {}", self.place()))?;
        let template = found.spec.and_then(|spec| spec.template.spec);
        Ok(template.and_then(|pod| pod.termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE_SECS))
    }

    /// Asks the server for every right; returns a sentence about each that is missing.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn missing_rights(&mut self) -> anyhow::Result<Vec<String>> {
        let client = self.client().await?;
        let namespace = self.namespace();
        let reviews: kube::Api<SelfSubjectAccessReview> = kube::Api::all(client);
        let mut missing = Vec::new();
        for (verb, group, resource, subresource) in RIGHTS {
            let text = |text: &str| Some(text.to_owned());
            let attributes = ResourceAttributes {
                namespace: Some(namespace.clone()),
                verb: text(verb),
                group: text(group),
                resource: text(resource),
                subresource: text(subresource).filter(|text| !text.is_empty()),
                // A Role may name the Deployment; names of pods are not known beforehand.
                name: (resource == "deployments").then(|| self.deployment.clone()),
                ..ResourceAttributes::default()
            };
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
                ..SelfSubjectAccessReview::default()
            };
            let answer = self.within(reviews.create(&PostParams::default(), &review)).await;
            let status = answer.context("ask the API server for the scaler's rights")?.status;
            if !status.is_some_and(|status| status.allowed) {
                let slash = if subresource.is_empty() { "" } else { "/" };
                missing.push(format!("may not {verb} {resource}{slash}{subresource} in namespace {namespace}"));
            }
        }
        Ok(missing)
    }

    /// Returns the Deployment's name for people.
    pub fn place(&self) -> String {
        format!("deployment {}/{}", self.namespace(), self.deployment)
    }

    fn namespace(&self) -> String {
        self.namespace.clone().unwrap_or_else(|| "default".to_owned())
    }

    async fn client(&mut self) -> anyhow::Result<Client> {
        if let Some(connected) = &self.connected {
            return Ok(connected.client.clone());
        }
        let mut config = match &self.server {
            Place::Given(config) => config.as_ref().clone(),
            Place::Found => Config::infer()
                .await
                .context("find the API server: neither a kubeconfig nor a pod's service account can be used")?,
        };
        config.connect_timeout = Some(self.limit);
        config.read_timeout = Some(self.limit);
        config.write_timeout = Some(self.limit);
        let peer = config.cluster_url.authority().map_or_else(|| "an unknown host".to_owned(), ToString::to_string);
        let client = Client::try_from(config).map_err(plain).context("prepare the connection to the API server")?;
        self.namespace.get_or_insert_with(|| client.default_namespace().to_owned());
        self.connected = Some(Connected { client: client.clone(), peer });
        Ok(client)
    }

    async fn deployments(&mut self) -> anyhow::Result<kube::Api<Deployment>> {
        let client = self.client().await?;
        Ok(kube::Api::namespaced(client, &self.namespace()))
    }

    async fn pods_api(&mut self) -> anyhow::Result<kube::Api<v1::Pod>> {
        let client = self.client().await?;
        Ok(kube::Api::namespaced(client, &self.namespace()))
    }

    /// Bounds a call in time. The client tries again by itself when the server is busy (429, 503, 504).
    ///
    /// After a silence no connection of before is used any more.
    async fn within<T>(&mut self, call: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
        match tokio::time::timeout(self.limit, call).await {
            Ok(answer) => answer.map_err(plain),
            Err(_) => {
                let connected = self.connected.take();
                let peer = connected.map_or_else(String::new, |connected| format!(" at {}", connected.peer));
                Err(Silent { peer: format!("the API server{peer}"), after: self.limit }.into())
            }
        }
    }
}

/// Says an error in the server's own words.
fn plain(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow!("{} ({})", status.message, status.code),
        other => other.into(),
    }
}

fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Reads a pod; `None` for one that has ended or has no owner.
fn read(pod: v1::Pod) -> anyhow::Result<Option<Pod>> {
    let name = pod.metadata.name.context("a pod without a name")?;
    let status = pod.status.unwrap_or_default();
    let phase = match status.phase.as_deref() {
        Some("Succeeded" | "Failed") => return Ok(None),
        Some("Running") => PodPhase::Running,
        Some("Unknown") => PodPhase::Unknown,
        _ => PodPhase::Pending,
    };
    let owners = pod.metadata.owner_references.unwrap_or_default();
    let owner = owners.into_iter().find(|owner| owner.controller == Some(true) && owner.kind == "ReplicaSet");
    let Some(owner) = owner else { return Ok(None) };
    let is_ready = status
        .conditions
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let annotations = pod.metadata.annotations.unwrap_or_default();
    Ok(Some(Pod {
        name,
        replica_set: Some(owner.uid),
        is_assigned: pod.spec.and_then(|spec| spec.node_name).is_some_and(|node| !node.is_empty()),
        phase,
        is_ready,
        is_leaving: pod.metadata.deletion_timestamp.is_some(),
        // What is no number counts as none.
        deletion_cost: annotations.get(DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0),
        created_at: pod.metadata.creation_timestamp.and_then(|at| read_time(at.0.as_millisecond())),
    }))
}

fn read_time(millis: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(millis)
}
