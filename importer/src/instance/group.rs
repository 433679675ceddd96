//! The Auto Scaling group an EC2 instance belongs to.

use super::{
    guard::{ProtectError, Protection},
    metadata::Metadata,
};
use anyhow::Context;
use aws_sdk_autoscaling::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
};
use futures_util::future::{BoxFuture, join_all};
use service::words::chain;
use std::time::Duration;
use tokio::time::sleep;
use tracing::{debug, info, warn};

/// Time between tries to learn which group it is.
const RETRY: Duration = Duration::from_secs(10);
/// Tries to say that the instance may go; between them the group may still be on its way to the wait.
const COMPLETE_TRIES: u32 = 3;
/// A hook's timeout where AWS does not say one: its own default.
const DEFAULT_HOOK_TIMEOUT_SECS: i32 = 3600;
/// The transition a hook waits in when an instance goes.
const TERMINATING: &str = "autoscaling:EC2_INSTANCE_TERMINATING";
/// What the instance's role needs for everything here.
const PERMISSIONS: &str = "autoscaling:DescribeAutoScalingInstances, SetInstanceProtection, DescribeLifecycleHooks, \
                           RecordLifecycleActionHeartbeat, CompleteLifecycleAction";

/// An instance in its group.
#[derive(Debug, Clone)]
pub struct Group {
    client: Client,
    name: String,
    instance_id: String,
}

struct Hook {
    name: String,
    timeout: Duration,
}

/// Finds the group; None for an instance that is in none, or may not ask.
pub async fn find(aws: &aws_config::SdkConfig, metadata: &Metadata) -> Option<Group> {
    let client = Client::new(aws);
    let mut waiting = false;
    loop {
        match find_once(&client, metadata).await {
            Ok(name) => {
                return name.map(|name| {
                    info!(group = name, instance = metadata.instance_id, "in an Auto Scaling group");
                    Group { client, name, instance_id: metadata.instance_id.clone() }
                });
            }
            Err(FindError::Denied(error)) => {
                warn!(error, permissions = PERMISSIONS, "in an Auto Scaling group, but not permitted to call it");
                return None;
            }
            Err(FindError::Other(error)) => {
                if std::mem::replace(&mut waiting, true) {
                    debug!(error = chain(&error), "the Auto Scaling group is not known");
                } else {
                    warn!(error = chain(&error), "the Auto Scaling group is not known yet; asking again");
                }
                sleep(RETRY).await;
            }
        }
    }
}

enum FindError {
    Denied(String),
    Other(anyhow::Error),
}

async fn find_once(client: &Client, metadata: &Metadata) -> Result<Option<String>, FindError> {
    // Outside of groups there is no target state, and nothing to ask.
    if metadata.target_lifecycle_state().await.map_err(FindError::Other)?.is_none() {
        return Ok(None);
    }
    let asked = client.describe_auto_scaling_instances().instance_ids(&metadata.instance_id).send().await;
    match asked {
        Ok(answer) => {
            let instance = answer.auto_scaling_instances.unwrap_or_default().into_iter().next();
            Ok(instance.and_then(|instance| instance.auto_scaling_group_name))
        }
        Err(error) if is_denied(&error) => Err(FindError::Denied(text(error))),
        Err(error) => Err(FindError::Other(anyhow::Error::new(error).context("ask for the instance's group"))),
    }
}

impl Group {
    /// Keeps the group waiting for the drain by heartbeats to its hooks; ends only when it has none.
    pub async fn keep_waiting(&self) {
        let Some(hooks) = self.hooks_or_warn().await else { return };
        join_all(hooks.iter().map(|hook| self.keep_hook_waiting(hook))).await;
    }

    async fn keep_hook_waiting(&self, hook: &Hook) {
        // At a third of the timeout, so that two may fail; AWS accepts them for 48 h or 100 timeouts.
        let interval = (hook.timeout / 3).max(Duration::from_secs(1));
        loop {
            sleep(interval).await;
            let beat = self
                .client
                .record_lifecycle_action_heartbeat()
                .auto_scaling_group_name(&self.name)
                .lifecycle_hook_name(&hook.name)
                .instance_id(&self.instance_id)
                .send()
                .await;
            match beat {
                Ok(_) => debug!(hook = hook.name, "lifecycle action heartbeat"),
                Err(error) => warn!(hook = hook.name, error = text(error), "no lifecycle action heartbeat"),
            }
        }
    }

    /// Tells every hook that waits for this instance to go on.
    pub async fn complete(&self) {
        let Some(hooks) = self.hooks_or_warn().await else { return };
        for hook in hooks {
            for n_tries in 1.. {
                let completed = self
                    .client
                    .complete_lifecycle_action()
                    .auto_scaling_group_name(&self.name)
                    .lifecycle_hook_name(&hook.name)
                    .instance_id(&self.instance_id)
                    .lifecycle_action_result("CONTINUE")
                    .send()
                    .await;
                match completed {
                    Ok(_) => {
                        info!(group = self.name, hook = hook.name, "drained; the instance may be terminated");
                        break;
                    }
                    Err(error) if n_tries < COMPLETE_TRIES && !is_denied(&error) => {
                        debug!(hook = hook.name, error = text(error), "lifecycle action not completed; trying again");
                        sleep(Duration::from_secs(1)).await;
                    }
                    Err(error) => {
                        let error = text(error);
                        warn!(
                            hook = hook.name,
                            error, "lifecycle action not completed; the group waits for its timeout"
                        );
                        break;
                    }
                }
            }
        }
    }

    async fn hooks_or_warn(&self) -> Option<Vec<Hook>> {
        let hooks = self.hooks().await;
        hooks.inspect_err(|error| warn!(error = chain(error), "the group's lifecycle hooks are not known")).ok()
    }

    async fn hooks(&self) -> anyhow::Result<Vec<Hook>> {
        let asked = self.client.describe_lifecycle_hooks().auto_scaling_group_name(&self.name).send().await;
        let hooks = asked.context("ask for the group's lifecycle hooks")?.lifecycle_hooks.unwrap_or_default();
        let hooks = hooks.into_iter().filter(|hook| hook.lifecycle_transition.as_deref() == Some(TERMINATING));
        let hook = |hook: aws_sdk_autoscaling::types::LifecycleHook| {
            let secs = hook.heartbeat_timeout.unwrap_or(DEFAULT_HOOK_TIMEOUT_SECS);
            let timeout = Duration::from_secs(u64::try_from(secs).unwrap_or_default());
            Some(Hook { name: hook.lifecycle_hook_name?, timeout })
        };
        Ok(hooks.filter_map(hook).collect())
    }

    async fn switch(&self, on: bool) -> Result<Option<Duration>, ProtectError> {
        let set = self
            .client
            .set_instance_protection()
            .auto_scaling_group_name(&self.name)
            .instance_ids(&self.instance_id)
            .protected_from_scale_in(on)
            .send()
            .await;
        match set {
            Ok(_) => Ok(None),
            Err(error) if is_denied(&error) => Err(ProtectError::Never(text(error))),
            Err(error) => Err(ProtectError::NotNow(text(error))),
        }
    }
}

impl Protection for Group {
    fn set(&self, on: bool) -> BoxFuture<'_, Result<Option<Duration>, ProtectError>> {
        Box::pin(self.switch(on))
    }
}

fn is_denied<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    matches!(error.code(), Some("AccessDenied" | "UnauthorizedOperation"))
}

fn text<E: std::error::Error + Send + Sync + 'static>(error: SdkError<E>) -> String {
    chain(&anyhow::Error::new(error))
}
