//! Workers as the tasks of an ECS service.
//!
//! The service's desired count is all there is to set: on the way down ECS
//! chooses which tasks go, among those not protected against scale-in. An
//! importer protects its own task while it works. What that leaves open is
//! closed here: before the count is lowered, protection is read again, a task
//! that must stay and is not protected gets protected, and the count goes down
//! by no more than there are victims left without protection.
//!
//! Ending a chosen task by StopTask would be no better: the service replaces it
//! at once, and a count lowered beside that is two decisions ECS may take in
//! either order. It is kept for tasks that do nothing any more.
//!
//! What remains is a task that receives its first message between our look and
//! ECS's choice, and whose agent has not answered within the two seconds an
//! import waits for it. It gets SIGTERM, and finishes within its `stopTimeout`.

mod api;

use super::{
    Abilities, Applied, Key, Member, Members, Phase, Plan, Remark, WorkerPool,
    count::{Counted, Number, carry_out, mark_surplus, n_present, natural, signed},
};
use api::{Api, Protection, Task};
use service::words::chain;
use std::collections::BTreeSet;
use tracing::warn;

/// How long protection set here lasts.
/// Shorter than an importer's own interval between renewals would cut its protection short; longer
/// keeps a task that does not manage its own from being ended for as long after its work.
const PROTECT_MINUTES: i32 = 15;

/// How long a container has at least to finish once it is stopped: an importer's drain timeout, and some.
const SHORTEST_STOP_TIMEOUT: i32 = 120;

/// A service.
pub struct EcsService {
    api: Api,
    desired: Number,
    /// Whether ECS left a task's protection out of its last answer.
    is_silent: bool,
}

/// The service at one moment.
struct Seen {
    desired: i32,
    members: Vec<Member>,
}

impl EcsService {
    /// Names the service.
    pub fn new(config: &aws_config::SdkConfig, cluster: String, service: String) -> Self {
        let desired = Number::of("the service's desired count", &service);
        Self { api: Api::new(config, cluster, service), desired, is_silent: false }
    }

    async fn look(&mut self) -> anyhow::Result<Seen> {
        let service = self.api.service().await?;
        let tasks = self.api.tasks().await?;
        let running: Vec<&str> = tasks.iter().filter(|task| is_running(task)).map(|task| task.arn.as_str()).collect();
        let protection = self.api.protection(&running).await?;
        let n_unknown = running.iter().filter(|arn| !protection.contains_key(**arn)).count();
        if n_unknown > 0 && !self.is_silent {
            warn!(
                pool.workers = self.api.service,
                tasks = n_unknown,
                "ECS does not say which tasks are protected, so they stay"
            );
        }
        self.is_silent = n_unknown > 0;
        let mut members: Vec<Member> = tasks.iter().filter_map(|task| member(task, &protection)).collect();
        let current: BTreeSet<&str> = tasks
            .iter()
            .filter(|task| task.started_by.is_some() && task.started_by == service.current_deployment)
            .map(|task| task.id())
            .collect();
        // While a deployment replaces tasks there may be more than the count, and asking for more keeps none of them.
        let phase = if service.n_deployments > 1 { Phase::Draining } else { Phase::Surplus };
        mark_surplus(&mut members, natural(service.desired), phase, |member| {
            (current.contains(member.id.as_str()), member.protected, member.phase == Phase::Running)
        });
        Ok(Seen { desired: service.desired, members })
    }
}

impl Counted for EcsService {
    const OWNER: &'static str = "the service";

    fn number(&self) -> &Number {
        &self.desired
    }

    async fn remove(&mut self, id: &str) -> anyhow::Result<bool> {
        self.api.stop(id).await
    }

    async fn set(&mut self, number: i32) -> anyhow::Result<()> {
        self.desired.change(number, self.api.set_desired(number)).await
    }

    async fn lower(&mut self, plan: &Plan, beside: i64, applied: &mut Applied) -> anyhow::Result<()> {
        let before = self.desired.seen;
        let now = self.look().await?;
        if before != Some(now.desired) {
            anyhow::bail!("the desired count became {} meanwhile", now.desired);
        }
        let standing = |id: &String| now.members.iter().find(|member| member.id == *id);
        let victims: Vec<&String> = plan
            .end
            .iter()
            .filter(|id| {
                standing(id)
                    .is_some_and(|member| matches!(member.phase, Phase::Pending | Phase::Running) && !member.protected)
            })
            .collect();
        let busy = plan.end.iter().filter(|id| standing(id).is_some_and(|member| member.protected)).count();
        if busy > 0 {
            applied.problems.push(format!("{busy} became busy and stay"));
        }
        let requested = i64::from(now.desired) - i64::from(n_present(&now.members));
        let cancelled = i64::from(plan.cancel).min(requested).max(0);
        let fewer = signed(victims.len()) + cancelled + beside;
        if fewer == 0 {
            return Ok(());
        }
        let exposed: Vec<&str> = now
            .members
            .iter()
            .filter(|member| plan.spare.contains(&member.id) && member.phase == Phase::Running && !member.protected)
            .map(|member| member.id.as_str())
            .collect();
        self.api.protect(&exposed, PROTECT_MINUTES).await?;
        let desired = (i64::from(now.desired) - fewer).max(0);
        self.set(i32::try_from(desired).unwrap_or(i32::MAX)).await?;
        applied.ended.extend(victims.into_iter().cloned());
        Ok(())
    }
}

impl WorkerPool for EcsService {
    async fn members(&mut self) -> anyhow::Result<Members> {
        let Seen { desired, members } = self.look().await?;
        let requested = natural(desired).saturating_sub(n_present(&members));
        Ok(Members { members, requested, most: None, fewest: 0, note: self.desired.look(desired) })
    }

    async fn carry_out(&mut self, plan: &Plan, applied: &mut Applied) {
        carry_out(self, plan, applied).await;
    }

    fn abilities(&self) -> Abilities {
        // A task that is stopped may not get the time to finish, so only the idle ones go.
        Abilities { drain_busy: false, end_silent: true }
    }

    async fn check(&mut self) -> anyhow::Result<Vec<Remark>> {
        let service = self.api.service().await?;
        let tasks = self.api.tasks().await?;
        let running: Vec<&str> = tasks.iter().filter(|task| is_running(task)).map(|task| task.arn.as_str()).collect();
        let protection = self.api.protection(&running).await?;
        let n_protected = protection.values().filter(|protection| **protection == Protection::On).count();
        let name = &self.api.service;
        let mut remarks = vec![Remark::Fine(format!(
            "service {name} in cluster {}: desired {}, {} tasks running, {n_protected} of them protected",
            self.api.cluster,
            service.desired,
            running.len()
        ))];
        if service.is_daemon {
            let what = format!("service {name} runs a task on every instance (DAEMON), so it has no desired count");
            remarks.push(Remark::wrong(what, "create it with the REPLICA strategy"));
        }
        let advice = format!("set `stopTimeout` of its importer to {SHORTEST_STOP_TIMEOUT} in the task definition");
        remarks.push(match self.api.longest_stop_timeout(&service).await {
            Ok(secs) if secs < SHORTEST_STOP_TIMEOUT => {
                Remark::doubt(format!("service {name}: a task asked to stop is killed after {secs} s"), advice)
            }
            Ok(secs) => Remark::Fine(format!("service {name}: a task asked to stop has {secs} s to finish")),
            Err(error) => {
                let next = format!("allow ecs:DescribeTaskDefinition, or make sure yourself: {advice}");
                Remark::doubt(format!("service {name}: {}", chain(&error)), next)
            }
        });
        remarks.push(Remark::Fine(format!(
            "service {name}: a run also needs ecs:UpdateService, ecs:UpdateTaskProtection and ecs:StopTask, \
             which cannot be tried without changing something: check that the role has them"
        )));
        Ok(remarks)
    }
}

fn is_running(task: &Task) -> bool {
    phase(&task.desired_status, &task.last_status) == Some(Phase::Running)
}

fn member(task: &Task, protection: &api::Protections) -> Option<Member> {
    let phase = phase(&task.desired_status, &task.last_status)?;
    let protection = protection.get(&task.arn);
    Some(Member {
        id: task.id().to_owned(),
        // An importer calls itself by the last part of its task's ARN.
        key: Key::Instance(task.id().to_owned()),
        phase,
        // A task that is not up yet has nothing in hand; one whose protection is not known may have.
        protected: phase == Phase::Running && protection != Some(&Protection::Off),
        since: task.created_at,
    })
}

/// Returns how far a task is; `None` for one that is gone.
///
/// [Task lifecycle](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html)
fn phase(desired_status: &str, last_status: &str) -> Option<Phase> {
    match (desired_status, last_status) {
        (_, "STOPPED" | "DELETED") => None,
        ("RUNNING", "PROVISIONING" | "PENDING" | "ACTIVATING") => Some(Phase::Pending),
        ("RUNNING", "RUNNING") => Some(Phase::Running),
        _ => Some(Phase::Draining),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_phases() {
        for (desired, last, expected) in [
            ("RUNNING", "PROVISIONING", Some(Phase::Pending)),
            ("RUNNING", "PENDING", Some(Phase::Pending)),
            ("RUNNING", "ACTIVATING", Some(Phase::Pending)),
            ("RUNNING", "RUNNING", Some(Phase::Running)),
            ("STOPPED", "RUNNING", Some(Phase::Draining)),
            ("STOPPED", "PENDING", Some(Phase::Draining)),
            ("RUNNING", "DEACTIVATING", Some(Phase::Draining)),
            ("STOPPED", "STOPPING", Some(Phase::Draining)),
            ("STOPPED", "DEPROVISIONING", Some(Phase::Draining)),
            ("STOPPED", "STOPPED", None),
            ("RUNNING", "STOPPED", None),
        ] {
            assert_eq!(phase(desired, last), expected, "{desired} {last}");
        }
    }
}
