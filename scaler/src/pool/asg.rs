//! Workers on the instances of an Auto Scaling group.
//!
//! Out by the desired capacity, in by ending chosen instances with the capacity
//! lowered by the same call: capacity is never counted twice, and the group
//! never chooses a victim, since it does not know which are busy.

use super::{Abilities, Applied, Key, Member, Members, Phase, Plan, Remark, WorkerPool, others::Others};
use anyhow::Context;
use aws_sdk_autoscaling::{Client, config::Builder, types::LifecycleState};
use service::{aws::SilenceIsFinal, words::chain};

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
        // A call that was not answered may have been carried out, so the next look comes before the next try.
        let config = Builder::from(config).retry_classifier(SilenceIsFinal).build();
        Self { client: Client::from_conf(config), group, seen: None, others }
    }

    /// Ends an instance; lowers the capacity with it unless the group is to replace it.
    async fn terminate(&mut self, id: &str, decrement: bool) -> anyhow::Result<()> {
        let desired = self.seen.map(|seen| seen.desired - i32::from(decrement));
        if let Some(desired) = desired {
            self.others.attempt(desired);
        }
        self.client
            .terminate_instance_in_auto_scaling_group()
            .instance_id(id)
            .should_decrement_desired_capacity(decrement)
            .send()
            .await
            .with_context(|| format!("end instance {id}"))?;
        self.note_desired(desired);
        Ok(())
    }

    async fn set_desired(&mut self, desired: i32) -> anyhow::Result<()> {
        self.others.attempt(desired);
        self.client
            .set_desired_capacity()
            .auto_scaling_group_name(&self.group)
            .desired_capacity(desired)
            .honor_cooldown(false)
            .send()
            .await
            .with_context(|| format!("set the desired capacity of group {} to {desired}", self.group))?;
        self.note_desired(Some(desired));
        Ok(())
    }

    fn note_desired(&mut self, desired: Option<i32>) {
        if let (Some(seen), Some(desired)) = (&mut self.seen, desired) {
            seen.desired = desired;
            self.others.expect(desired);
        }
    }

    fn desired(&self) -> i32 {
        self.seen.map_or(0, |seen| seen.desired)
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
            present += i32::from(phase != Phase::Draining);
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

    async fn carry_out(&mut self, plan: &Plan, applied: &mut Applied) {
        let Some(Seen { min, max, .. }) = self.seen else {
            applied.problems.push("the group has not been seen yet".to_owned());
            return;
        };
        let mut start = i32::try_from(plan.start).unwrap_or(i32::MAX);
        for id in &plan.replace {
            // At its minimum the group fills the gap itself; elsewhere the new capacity below does.
            let decrement = self.desired() > min;
            match self.terminate(id, decrement).await {
                Ok(()) if decrement => {}
                Ok(()) => start -= i32::from(start > 0),
                Err(error) if applied.go_on_after(&error) => continue,
                Err(_) => return,
            }
            applied.ended.push(id.clone());
        }
        for id in if self.others.raised() { &[] } else { plan.end.as_slice() } {
            if self.desired() <= min {
                applied.problems.push(format!("the group's minimum is {min}"));
                break;
            }
            match self.terminate(id, true).await {
                Ok(()) => applied.ended.push(id.clone()),
                Err(error) if applied.go_on_after(&error) => {}
                Err(_) => return,
            }
        }
        if start > 0 && !self.others.lowered() {
            let desired = self.desired();
            let target = desired.saturating_add(start);
            let allowed = target.min(max);
            if allowed < target {
                applied.problems.push(format!("the group's maximum is {max}"));
            }
            if allowed > desired {
                match self.set_desired(allowed).await {
                    Ok(()) => applied.started = u32::try_from(allowed - desired).unwrap_or(0),
                    Err(error) => applied.problems.push(chain(&error)),
                }
            }
        }
        if plan.cancel > 0 {
            // Lowering the capacity would let the group choose a victim, if an instance has just come up.
            applied.problems.push(format!("{} requested instances must start before they can be ended", plan.cancel));
        }
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
            let what = format!("group {}: its maximum is 0, so no instance can start", self.group);
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
        text if text.starts_with("Terminating") || text == "Detaching" => Some(Phase::Draining),
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
            ("Terminating", Some(Phase::Draining)),
            ("Terminating:Proceed", Some(Phase::Draining)),
            ("Standby", None),
            ("Warmed:Stopped", None),
            ("Terminated", None),
        ] {
            assert_eq!(phase(&LifecycleState::from(state)), expected, "{state}");
        }
    }
}
