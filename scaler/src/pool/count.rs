//! Pools that are a number the platform brings about: what a plan means for the number.

use super::{Member, Phase, Plan, others::Others};

/// Returns by how much the number grows for a plan's starts, beside those that the platform makes up for by itself.
///
/// Less than nothing when members were ended that nobody is to replace.
pub fn growth(plan: &Plan, replaced: usize, others: &Others) -> i64 {
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

fn signed(n: usize) -> i64 {
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
