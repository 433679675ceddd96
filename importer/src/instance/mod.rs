//! The machine, task or pod this worker runs on: what it is called, that it is wanted while there is
//! work, and that it is about to go.
//!
//! | runs on | found by | while busy | drains on | says when drained |
//! |---|---|---|---|---|
//! | EC2 | instance metadata | scale-in protection, in an Auto Scaling group | target lifecycle state, spot notice, SIGTERM | `CompleteLifecycleAction` |
//! | ECS | `ECS_AGENT_URI` | task scale-in protection | SIGTERM | by ending |
//! | Kubernetes | `KUBERNETES_SERVICE_HOST` | | SIGTERM | by ending |
//! | elsewhere | | | SIGTERM | by ending |
//!
//! A pod or task leaves the instance below it alone: that one belongs to others too.

mod group;
mod guard;
mod metadata;
mod notice;
mod task;

pub use guard::Guard;

use crate::config::Manage;
use aws_sdk_sqs::config::SharedHttpClient;
use group::Group;
use guard::Protection;
use metadata::Metadata;
use service::words::chain;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use task::Task;
use tokio::{
    sync::{OnceCell, watch},
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long a start waits for the first look at the metadata, where there should be some: a worker that
/// is started on an instance about to go must not take messages.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// How long the end of the program waits for the last calls.
/// Shorter leaves an instance protected, or its group waiting; longer outlasts what a supervisor allows.
const LAST_WORDS: Duration = Duration::from_secs(10);
const LEAST_LAST_WORDS: Duration = Duration::from_secs(1);

/// What the worker and its surroundings tell each other.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The name the scaler knows this worker's machine under, once known.
    pub id: Arc<OnceLock<String>>,
    /// Told when work begins and ends.
    pub guard: Arc<Guard>,
    /// By when the process has to have ended, once that is known.
    pub end_by: Arc<watch::Sender<Option<Instant>>>,
}

/// Looks after the surroundings for as long as the program runs.
#[derive(Debug)]
pub struct Attendant {
    stop: CancellationToken,
    attending: JoinHandle<()>,
    looked: watch::Receiver<bool>,
    is_awaited: bool,
}

impl Attendant {
    /// Finds out where the program runs, in the background, and cancels `drain` when that is about to go.
    #[must_use]
    pub fn start(
        aws: &aws_config::SdkConfig,
        http_client: SharedHttpClient,
        manage: Manage,
        surroundings: &Surroundings,
        drain: CancellationToken,
    ) -> Self {
        let stop = CancellationToken::new();
        let (first_look, looked) = watch::channel(false);
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let place = Place::find(variable);
        let is_awaited = place == Place::Machine && metadata::is_likely();
        if let Some(id) = variable("PENSTOCK_INSTANCE_ID") {
            let _ = surroundings.id.set(id);
        }
        let attend = Attend {
            aws: aws.clone(),
            http_client,
            manage,
            surroundings: surroundings.clone(),
            drain,
            stop: stop.clone(),
            first_look,
        };
        Self { stop, attending: tokio::spawn(attend.run(place)), looked, is_awaited }
    }

    /// Waits for the first look at the metadata, where the machine says that there is some; else not at all.
    pub async fn looked(&self) {
        if self.is_awaited {
            let mut looked = self.looked.clone();
            let _ = timeout(FIRST_LOOK, looked.wait_for(|looked| *looked)).await;
        }
    }

    /// Says that the worker has drained: protection goes, and a group that waits for it may go on. Takes no longer than
    /// until `end`, but is given a moment.
    pub async fn end(self, end: Instant) {
        self.stop.cancel();
        let now = Instant::now();
        match timeout_at(end.clamp(now + LEAST_LAST_WORDS, now + LAST_WORDS), self.attending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error = error.to_string(), "looking after the instance failed"),
            Err(_) => warn!("instance services do not respond; exiting without them"),
        }
    }
}

/// Where a program may run, as its environment tells.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Pod { name: Option<String> },
    Task { agent: String, metadata: Option<String> },
    Machine,
}

impl Place {
    fn find(variable: impl Fn(&str) -> Option<String>) -> Self {
        if variable("KUBERNETES_SERVICE_HOST").is_some() {
            return Self::Pod { name: variable("HOSTNAME") };
        }
        match variable("ECS_AGENT_URI") {
            Some(agent) => Self::Task { agent, metadata: variable("ECS_CONTAINER_METADATA_URI_V4") },
            None => Self::Machine,
        }
    }
}

struct Attend {
    aws: aws_config::SdkConfig,
    http_client: SharedHttpClient,
    manage: Manage,
    surroundings: Surroundings,
    drain: CancellationToken,
    stop: CancellationToken,
    /// Dropped with the rest, which also ends the wait for it.
    first_look: watch::Sender<bool>,
}

impl Attend {
    async fn run(self, place: Place) {
        match place {
            Place::Pod { name } => {
                if let Some(name) = name {
                    self.name(name);
                }
            }
            Place::Task { agent, metadata } => self.attend_task(&agent, metadata.as_deref()).await,
            Place::Machine => self.attend_machine().await,
        }
    }

    async fn attend_task(&self, agent: &str, metadata: Option<&str>) {
        if let Some(metadata) = metadata {
            match task::id(metadata).await {
                Ok(id) => self.name(id),
                Err(error) => debug!(error = chain(&error), "the task's metadata does not say its id"),
            }
        }
        if self.manage == Manage::Auto {
            self.protect(&Task::new(agent)).await;
        }
    }

    async fn attend_machine(&self) {
        let metadata = match Metadata::reach(self.http_client.clone()).await {
            Ok(metadata) => metadata,
            Err(error) => {
                debug!(error = chain(&error), "no instance metadata: not on EC2");
                return;
            }
        };
        self.name(metadata.instance_id.clone());
        if self.manage == Manage::Off {
            return;
        }
        let group = OnceCell::new();
        let leaving = CancellationToken::new();
        let protecting = async {
            tokio::select! {
                () = self.find_and_protect(&metadata, &group, &leaving) => {}
                // Protection means nothing any more to an instance that is leaving its group.
                () = leaving.cancelled() => {}
            }
        };
        tokio::join!(protecting, self.heed(&metadata, &group, &leaving));
        if let (true, Some(group)) = (leaving.is_cancelled(), group.get()) {
            group.complete().await;
        }
    }

    async fn find_and_protect(&self, metadata: &Metadata, group: &OnceCell<Group>, leaving: &CancellationToken) {
        tokio::select! {
            found = group::find(&self.aws, metadata) => match found {
                Some(found) => {
                    let _ = group.set(found);
                }
                None => return,
            },
            () = self.stop.cancelled() => return,
        }
        if let (Some(group), false) = (group.get(), leaving.is_cancelled()) {
            self.protect(group).await;
        }
    }

    /// Follows the metadata's notices until the program ends; an instance that is leaving its group is
    /// kept by heartbeats meanwhile.
    async fn heed(&self, metadata: &Metadata, group: &OnceCell<Group>, leaving: &CancellationToken) {
        let end_by = |at| {
            self.surroundings.end_by.send_replace(Some(at));
        };
        let terminated = tokio::select! {
            () = notice::until_terminated(metadata, &self.first_look, &self.drain, end_by) => true,
            () = self.stop.cancelled() => false,
        };
        if !terminated {
            return;
        }
        info!("the Auto Scaling group is ending this instance: draining");
        self.drain.cancel();
        self.first_look.send_replace(true);
        if group.get().is_none() {
            // Found out late, or only now: the instance has just been started, to end at once.
            if let Some(found) = group::find(&self.aws, metadata).await {
                let _ = group.set(found);
            }
        }
        leaving.cancel();
        if let Some(group) = group.get() {
            tokio::select! {
                () = group.keep_waiting() => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    async fn protect(&self, protection: &dyn Protection) {
        tokio::select! {
            () = guard::keep(&self.surroundings.guard, protection) => {}
            () = self.stop.cancelled() => guard::take_off(&self.surroundings.guard, protection).await,
        }
    }

    fn name(&self, id: String) {
        let _ = self.surroundings.id.set(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_or_task_leaves_the_instance_below_it_alone() {
        let place = |variables: &[(&str, &str)]| {
            Place::find(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        let agent = ("ECS_AGENT_URI", "http://169.254.170.2/api/x");
        assert_eq!(
            place(&[("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("HOSTNAME", "pod-1"), agent]),
            Place::Pod { name: Some("pod-1".into()) }
        );
        assert_eq!(place(&[agent]), Place::Task { agent: agent.1.into(), metadata: None });
        assert_eq!(place(&[("HOSTNAME", "laptop")]), Place::Machine);
    }
}
