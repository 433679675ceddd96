//! Workers on the instances of an Auto Scaling group.
//!
//! Out by the desired capacity, in by ending chosen instances with the capacity
//! lowered by the same call: capacity is never counted twice, and the group
//! never chooses a victim, since it does not know who is busy.

use anyhow::Context;
use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::types::LifecycleState;

use super::others::Others;
use super::{Abilities, Applied, Key, Member, Members, Phase, Plan, Remark, WorkerPool};

/// A group.
pub struct AutoScalingGroup {
    client: Client,
    group: String,
    /// The group as it was seen last, and changed by us since.
    seen: Option<Seen>,
    others: Others,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    desired: i32,
    min: i32,
    max: i32,
}

impl AutoScalingGroup {
    /// Names the group.
    pub fn new(config: &aws_config::SdkConfig, group: String) -> Self {
        let others = Others::of("the group's desired capacity", &group);
        Self { client: Client::new(config), group, seen: None, others }
    }

    async fn terminate(&self, id: &str, decrement: bool) -> anyhow::Result<()> {
        self.client
            .terminate_instance_in_auto_scaling_group()
            .instance_id(id)
            .should_decrement_desired_capacity(decrement)
            .send()
            .await
            .with_context(|| format!("end instance {id}"))?;
        Ok(())
    }

    async fn set_desired(&self, desired: i32) -> anyhow::Result<()> {
        self.client
            .set_desired_capacity()
            .auto_scaling_group_name(&self.group)
            .desired_capacity(desired)
            .honor_cooldown(false)
            .send()
            .await
            .with_context(|| format!("set the desired capacity of group {} to {desired}", self.group))?;
        Ok(())
    }

    async fn describe(&self) -> anyhow::Result<aws_sdk_autoscaling::types::AutoScalingGroup> {
        let answer = self
            .client
            .describe_auto_scaling_groups()
            .auto_scaling_group_names(&self.group)
            .send()
            .await
            .with_context(|| format!("describe group {}", self.group))?;
        let group = answer.auto_scaling_groups.unwrap_or_default().into_iter().next();
        group.with_context(|| format!("there is no Auto Scaling group {}", self.group))
    }
}

impl WorkerPool for AutoScalingGroup {
    async fn members(&mut self) -> anyhow::Result<Members> {
        let group = self.describe().await?;
        let missing = || format!("the answer about group {} lacks its capacity", self.group);
        let seen = Seen {
            desired: group.desired_capacity.with_context(missing)?,
            min: group.min_size.with_context(missing)?,
            max: group.max_size.with_context(missing)?,
        };
        let mut members = Vec::new();
        let mut present = 0_i32;
        for instance in group.instances.unwrap_or_default() {
            let Some(id) = instance.instance_id else { continue };
            let Some(phase) = instance.lifecycle_state.as_ref().and_then(phase) else { continue };
            present += i32::from(phase != Phase::Leaving);
            members.push(Member {
                key: Key::Instance(id.clone()),
                id,
                phase,
                protected: instance.protected_from_scale_in.unwrap_or(false),
                since: None,
            });
        }
        let note = self.others.notice(seen.desired);
        self.seen = Some(seen);
        let natural = |n: i32| u32::try_from(n).unwrap_or(0);
        Ok(Members {
            members,
            requested: natural(seen.desired - present),
            most: Some(natural(seen.max)),
            fewest: natural(seen.min),
            note,
        })
    }

    async fn apply(&mut self, plan: &Plan) -> Applied {
        let mut applied = Applied::default();
        let Some(mut group) = self.seen else {
            applied.problems.push("the group has not been seen yet".to_owned());
            return applied;
        };
        let mut start = i32::try_from(plan.start).unwrap_or(i32::MAX);
        for id in &plan.replace {
            // At its minimum the group fills the gap itself; elsewhere the new capacity below does.
            let decrement = group.desired > group.min;
            match self.terminate(id, decrement).await {
                Ok(()) if decrement => group.desired -= 1,
                Ok(()) => start -= i32::from(start > 0),
                Err(error) => {
                    applied.problems.push(format!("{error:#}"));
                    continue;
                }
            }
            applied.ended.push(id.clone());
        }
        for id in if self.others.raised() { &[] } else { plan.end.as_slice() } {
            if group.desired <= group.min {
                applied.problems.push(format!("the group's minimum is {}", group.min));
                break;
            }
            match self.terminate(id, true).await {
                Ok(()) => {
                    group.desired -= 1;
                    applied.ended.push(id.clone());
                }
                Err(error) => applied.problems.push(format!("{error:#}")),
            }
        }
        if start > 0 && !self.others.lowered() {
            let target = group.desired.saturating_add(start);
            let allowed = target.min(group.max);
            if allowed < target {
                applied.problems.push(format!("the group's maximum is {}", group.max));
            }
            if allowed > group.desired {
                match self.set_desired(allowed).await {
                    Ok(()) => {
                        applied.started = u32::try_from(allowed - group.desired).unwrap_or(0);
                        group.desired = allowed;
                    }
                    Err(error) => applied.problems.push(format!("{error:#}")),
                }
            }
        }
        if plan.cancel > 0 {
            // Lowering the capacity would let the group choose a victim, if an instance has just come up.
            applied.problems.push(format!("{} asked for are awaited before they can be ended", plan.cancel));
        }
        self.others.expect(group.desired);
        self.seen = Some(group);
        applied
    }

    fn abilities(&self) -> Abilities {
        // An instance that is terminated may not get the time to finish, so only the idle ones go.
        Abilities { drain_busy: false, end_silent: true }
    }

    async fn check(&mut self) -> anyhow::Result<Vec<Remark>> {
        let group = self.describe().await?;
        let mut remarks = vec![Remark::Fine(format!(
            "group {}: minimum {}, maximum {}, desired {}, {} instances",
            self.group,
            group.min_size.unwrap_or_default(),
            group.max_size.unwrap_or_default(),
            group.desired_capacity.unwrap_or_default(),
            group.instances.unwrap_or_default().len()
        ))];
        if group.max_size == Some(0) {
            let what = format!("group {}: its maximum is 0, so nobody can be started", self.group);
            remarks.push(Remark::doubt(what, "raise it to the pool's `max`"));
        }
        Ok(remarks)
    }
}

/// Returns how far an instance is; `None` for those that are not the group's capacity.
fn phase(state: &LifecycleState) -> Option<Phase> {
    match state.as_str() {
        "InService" => Some(Phase::Running),
        text if text.starts_with("Pending") => Some(Phase::Pending),
        text if text.starts_with("Terminating") || text == "Detaching" => Some(Phase::Leaving),
        // Standby and warm instances, and those that are gone.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifecycle_states_are_phases() {
        for (state, expected) in [
            ("Pending", Some(Phase::Pending)),
            ("Pending:Wait", Some(Phase::Pending)),
            ("InService", Some(Phase::Running)),
            ("Terminating", Some(Phase::Leaving)),
            ("Terminating:Proceed", Some(Phase::Leaving)),
            ("Standby", None),
            ("Warmed:Stopped", None),
            ("Terminated", None),
        ] {
            assert_eq!(phase(&LifecycleState::from(state)), expected, "{state}");
        }
    }
}
