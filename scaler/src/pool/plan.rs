//! What to do about a number: which members to take back, start and end, in which order.

use super::{
    Abilities,
    census::{Census, Entry, Standing},
};

/// What a backend is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Draining members to take back, first of all.
    pub take_back: Vec<String>,
    /// Members to start.
    pub start: u32,
    /// Members asked for and not seen yet that are not needed any more.
    pub cancel: u32,
    /// Members to end, each finishing what it has; none is replaced.
    pub end: Vec<String>,
    /// Members that do nothing any more, to be ended whatever they have; their replacements are in `start`.
    pub replace: Vec<String>,
    /// When the pool gets smaller: members that must not be the ones to go, for platforms that choose themselves.
    pub spare: Vec<String>,
    /// How many fewer there should be.
    pub fewer: u32,
    /// How many members that should go must stay, and why.
    pub kept: Option<String>,
}

impl Plan {
    /// Plans the way from a census to a number.
    pub fn new(desired: u32, census: &Census, abilities: Abilities) -> Self {
        let live = census.size().live();
        let mut plan = Self::default();
        if abilities.end_silent {
            plan.replace = census.roll.iter().filter(|entry| entry.given_up).map(|entry| entry.id.clone()).collect();
        }
        if desired >= live {
            let mut more = desired - live;
            let kept = census.roll.iter().filter(|entry| entry.may_stay);
            plan.take_back = kept.take(more as usize).map(|entry| entry.id.clone()).collect();
            more -= u32::try_from(plan.take_back.len()).unwrap_or(more);
            plan.start = more;
        } else {
            plan.shrink(live - desired, census, abilities);
        }
        if plan.fewer > 0 || !plan.replace.is_empty() {
            let stays = |entry: &&Entry| !entry.given_up && !entry.is_spendable();
            plan.spare = census.roll.iter().filter(stays).map(|entry| entry.id.clone()).collect();
        }
        plan
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.take_back.is_empty()
            && self.start == 0
            && self.cancel == 0
            && self.end.is_empty()
            && self.replace.is_empty()
    }

    /// Chooses which members go: those still starting, then the idle, the longest idle first, then those with the least in hand.
    fn shrink(&mut self, fewer: u32, census: &Census, abilities: Abilities) {
        self.fewer = fewer;
        self.cancel = fewer.min(census.requested);
        let fewer = (fewer - self.cancel) as usize;
        let mut victims: Vec<&Entry> = census
            .roll
            .iter()
            .filter(|entry| match entry.standing {
                Standing::Starting | Standing::Idle => entry.may_end,
                Standing::Busy => entry.may_end && abilities.drain_busy,
                _ => false,
            })
            .collect();
        victims.sort_by_key(|entry| {
            let rank = match entry.standing {
                Standing::Starting => 0,
                Standing::Idle => 1,
                _ => 2,
            };
            (rank, u32::MAX - entry.empty_polls, entry.in_flight)
        });
        self.end = victims.iter().take(fewer).map(|entry| entry.id.clone()).collect();
        let kept = fewer - self.end.len();
        if kept > 0 {
            self.kept = Some(format!("{kept} stay, being busy, protected or not ours"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Abilities = Abilities { drain_busy: true, end_silent: true };

    fn census(standings: &[(&str, Standing)]) -> Census {
        let entry = |(id, standing): &(&str, Standing)| Entry {
            id: (*id).to_owned(),
            standing: *standing,
            may_end: !id.starts_with("protected"),
            may_stay: id.starts_with("surplus"),
            given_up: matches!(standing, Standing::Dead | Standing::Lost),
            in_flight: if *standing == Standing::Busy { id.len() as u32 } else { 0 },
            empty_polls: u32::from(id.ends_with("longest")) * 9,
            first_receive_at: None,
        };
        Census { roll: standings.iter().map(entry).collect(), ..Census::default() }
    }

    use Standing::*;

    #[test]
    fn draining_members_are_taken_back_before_any_is_started() {
        let taken = |roll: &[(&str, Standing)]| Plan::new(4, &census(roll), ALL);
        let plan = taken(&[("a", Busy), ("surplus-b", Draining), ("surplus-c", Draining)]);
        assert_eq!((plan.take_back, plan.start), (vec!["surplus-b".to_owned(), "surplus-c".to_owned()], 1));
        let plan = taken(&[("a", Busy), ("b", Draining), ("c", Draining)]);
        assert_eq!((plan.take_back.len(), plan.start), (0, 3), "a member that was ended cannot be taken back");
    }

    #[test]
    fn victims_are_starting_then_idle_then_least_busy() {
        let census = census(&[
            ("busy-much", Busy),
            ("busy", Busy),
            ("idle", Idle),
            ("idle-longest", Idle),
            ("starting", Starting),
        ]);
        assert_eq!(Plan::new(1, &census, ALL).end, ["starting", "idle-longest", "idle", "busy"]);
        let plan = Plan::new(0, &census, Abilities { drain_busy: false, ..ALL });
        assert_eq!(plan.end, ["starting", "idle-longest", "idle"]);
        assert!(plan.kept.unwrap().starts_with("2 stay"));
    }

    #[test]
    fn protected_members_stay() {
        let plan = Plan::new(0, &census(&[("protected-a", Idle), ("b", Idle)]), ALL);
        assert_eq!(plan.end, ["b"]);
        assert!(plan.kept.is_some());
    }

    #[test]
    fn member_that_may_have_something_in_hand_is_spared() {
        let census =
            census(&[("a", Busy), ("b", Idle), ("c", Dead), ("d", Draining), ("e", Starting), ("protected", Idle)]);
        assert_eq!(Plan::new(2, &census, Abilities { end_silent: false, ..ALL }).spare, ["a", "d", "protected"]);
        assert!(Plan::new(9, &census, Abilities { end_silent: false, ..ALL }).spare.is_empty());
    }

    #[test]
    fn requests_are_cancelled_before_anyone_is_ended() {
        let census = Census { requested: 3, ..census(&[("a", Idle)]) };
        let plan = Plan::new(2, &census, ALL);
        assert_eq!((plan.cancel, plan.end.len()), (2, 0));
        let plan = Plan::new(0, &census, ALL);
        assert_eq!((plan.cancel, plan.end.len()), (3, 1));
    }

    #[test]
    fn dead_and_lost_members_are_replaced_and_not_counted() {
        let plan = Plan::new(2, &census(&[("a", Busy), ("b", Dead), ("c", Lost)]), ALL);
        assert_eq!((plan.start, plan.replace), (1, vec!["b".to_owned(), "c".to_owned()]));
        let plan = Plan::new(2, &census(&[("b", Dead)]), Abilities { end_silent: false, ..ALL });
        assert_eq!((plan.start, plan.replace.len()), (2, 0));
    }

    #[test]
    fn pool_of_the_right_size_is_left_alone() {
        assert!(Plan::new(2, &census(&[("a", Busy), ("b", Starting), ("c", Draining)]), ALL).is_empty());
    }
}
