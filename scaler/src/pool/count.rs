//! Pools that are a number the platform brings about: what a plan means for the number.

use super::{Applied, Member, Phase, Plan, others::Others};
use service::words::chain;
use std::future::Future;

/// A platform's number, which others may set too.
pub struct Number {
    /// As it was seen last, and changed by us since.
    pub seen: Option<i32>,
    others: Others,
}

impl Number {
    /// Names the number, and what it is part of.
    pub fn of(what: &'static str, name: &str) -> Self {
        Self { seen: None, others: Others::of(what, name) }
    }

    /// Takes note of the number, and says so while a change of others is left alone.
    pub fn look(&mut self, found: i32) -> Option<String> {
        self.seen = Some(found);
        self.others.notice(found)
    }

    /// Takes note of a change of ours.
    pub async fn change(&mut self, to: i32, call: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        self.others.attempt(to);
        call.await?;
        self.others.expect(to);
        self.seen = Some(to);
        Ok(())
    }
}

/// A pool that is a number.
pub trait Counted: Send {
    /// What has the number, for people.
    const OWNER: &'static str;

    /// Returns the number.
    fn number(&self) -> &Number;

    /// Has a member ended that the platform then replaces; returns whether there was one.
    fn remove(&mut self, id: &str) -> impl Future<Output = anyhow::Result<bool>> + Send;

    /// Sets the number.
    fn set(&mut self, number: i32) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Lowers the number, by this many victims of the plan as can still go and by `beside` more, without endangering others.
    fn lower(
        &mut self,
        plan: &Plan,
        beside: i64,
        applied: &mut Applied,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Carries out a plan by the number.
pub async fn carry_out<P: Counted>(pool: &mut P, plan: &Plan, applied: &mut Applied) {
    let Some(number) = pool.number().seen else {
        applied.problems.push(format!("{} has not been seen yet", P::OWNER));
        return;
    };
    for id in &plan.replace {
        match pool.remove(id).await {
            Ok(true) => applied.ended.push(id.clone()),
            Ok(false) => {}
            Err(error) if applied.go_on_after(&error) => {}
            Err(_) => return,
        }
    }
    let more = growth(plan, applied.ended.len(), &pool.number().others);
    if more > 0 {
        let target = i32::try_from(i64::from(number) + more).unwrap_or(i32::MAX);
        if let Err(error) = pool.set(target).await {
            applied.problems.push(chain(&error));
            return;
        }
    }
    let others = &pool.number().others;
    if !others.lowered() {
        applied.started = plan.start;
        applied.taken_back = u32::try_from(plan.take_back.len()).unwrap_or(u32::MAX);
    }
    let fewer = if others.raised() { 0 } else { plan.end.len() as u64 + u64::from(plan.cancel) };
    if (more < 0 || fewer > 0)
        && let Err(error) = pool.lower(plan, (-more).max(0), applied).await
    {
        applied.problems.push(format!("nobody was ended: {}", chain(&error)));
    }
}

/// Returns by how much the number grows for a plan's starts, beside those that the platform makes up for by itself.
///
/// Less than nothing when members were ended without replacement.
fn growth(plan: &Plan, replaced: usize, others: &Others) -> i64 {
    let wanted = i64::from(plan.start) + signed(plan.take_back.len()) - signed(replaced);
    if (wanted > 0 && others.lowered()) || (wanted < 0 && others.raised()) { 0 } else { wanted }
}

/// Marks those members the platform is about to end because there are more than the number, the lowest rank first.
pub fn mark_surplus<R: Ord>(members: &mut [Member], number: u32, phase: Phase, rank: impl Fn(&Member) -> R) {
    let mut present: Vec<&mut Member> = members.iter_mut().filter(|member| is_present(member)).collect();
    let surplus = present.len().saturating_sub(number as usize);
    present.sort_by_key(|member| rank(member));
    present.into_iter().take(surplus).for_each(|member| member.phase = phase);
}

/// Returns how many members exist that have not been ended.
pub fn n_present(members: &[Member]) -> u32 {
    u32::try_from(members.iter().filter(|member| is_present(member)).count()).unwrap_or(u32::MAX)
}

fn is_present(member: &Member) -> bool {
    member.phase != Phase::Draining
}

/// Returns a platform's number as a size.
pub fn natural(n: i32) -> u32 {
    u32::try_from(n).unwrap_or(0)
}

/// Returns how many there are as a difference.
pub fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{super::Key, *};

    #[test]
    fn platform_makes_up_for_who_is_replaced() {
        let others = Others::of("the number", "importers");
        let growth = |start, take_back: usize, replaced| {
            let plan = Plan { start, take_back: vec![String::new(); take_back], ..Plan::default() };
            growth(&plan, replaced, &others)
        };
        assert_eq!(growth(3, 0, 0), 3);
        assert_eq!(growth(3, 2, 0), 5, "who is taken back counts again");
        assert_eq!(growth(1, 0, 1), 0, "the number stays, and the platform fills the gap");
        assert_eq!(growth(0, 0, 1), -1, "nobody is to replace it");
    }

    #[test]
    fn nothing_goes_against_another_hand() {
        let mut others = Others::of("the number", "importers");
        others.expect(5);
        others.notice(2);
        assert_eq!(growth(&Plan { start: 3, ..Plan::default() }, 0, &others), 0);
        others.notice(9);
        assert_eq!(growth(&Plan::default(), 1, &others), 0);
    }

    #[test]
    fn surplus_is_what_the_platform_would_take() {
        let member = |id: &str, phase| Member {
            id: id.to_owned(),
            key: Key::Instance(id.to_owned()),
            phase,
            protected: id.starts_with("protected"),
            since: None,
        };
        let mut members = vec![
            member("protected-a", Phase::Running),
            member("b", Phase::Draining),
            member("c", Phase::Running),
            member("d", Phase::Pending),
        ];
        assert_eq!(n_present(&members), 3);
        mark_surplus(&mut members, 3, Phase::Surplus, |member| member.protected);
        assert!(members.iter().all(|member| member.phase != Phase::Surplus));
        mark_surplus(&mut members, 1, Phase::Surplus, |member| member.protected);
        let surplus: Vec<&str> =
            members.iter().filter(|member| member.phase == Phase::Surplus).map(|member| member.id.as_str()).collect();
        assert_eq!(surplus, ["c", "d"]);
    }
}
