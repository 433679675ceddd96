//! Noticing a change of the number that is not ours, and leaving it alone for a while.

use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How long a number that others have set is left alone.
/// Longer: a forgotten change costs more; shorter: the two fight.
const LEAVE_ALONE: Duration = Duration::from_secs(600);

/// For how long a change whose answer did not come may still show.
/// Longer: others' changes are taken for ours; shorter: ours for theirs.
const IN_DOUBT: Duration = Duration::from_secs(120);

/// Watches one number that others may set too.
#[derive(Debug)]
pub struct Others {
    /// What the number is called.
    what: &'static str,
    /// Whose it is.
    name: String,
    /// The number after our own last change.
    expected: Option<i32>,
    /// What a change of ours would have made of it whose answer did not come.
    in_doubt: Option<(i32, Instant)>,
    foreign: Option<Foreign>,
}

/// A number that others have set.
#[derive(Clone, Copy, Debug)]
struct Foreign {
    at: Instant,
    from: i32,
    to: i32,
}

impl Others {
    /// Begins to watch a number.
    pub fn of(what: &'static str, name: &str) -> Self {
        Self { what, name: name.to_owned(), expected: None, in_doubt: None, foreign: None }
    }

    /// Takes note of a change we are about to make, which may be carried out though no answer comes.
    pub fn attempt(&mut self, number: i32) {
        self.in_doubt = Some((number, Instant::now()));
    }

    /// Takes note of our own change.
    pub fn expect(&mut self, number: i32) {
        self.expected = Some(number);
        self.in_doubt = None;
    }

    /// Notices a number that is neither what we set nor what was there when we came, and says so while it is left alone.
    pub fn notice(&mut self, found: i32) -> Option<String> {
        let may_be_ours = self.in_doubt.is_some_and(|(number, at)| number == found && at.elapsed() < IN_DOUBT);
        if let Some(expected) = self.expected.filter(|expected| *expected != found && !may_be_ours) {
            warn!(
                pool.workers = self.name,
                pool.expected = expected,
                pool.found = found,
                "{} was changed externally",
                self.what
            );
            self.foreign = Some(Foreign { at: Instant::now(), from: expected, to: found });
        }
        self.expected = Some(found);
        self.foreign = self.foreign.filter(|foreign| foreign.at.elapsed() < LEAVE_ALONE);
        let Foreign { at, from, to } = self.foreign?;
        let left = LEAVE_ALONE.saturating_sub(at.elapsed()).as_secs();
        Some(format!("{} was changed externally from {from} to {to}; leaving it for another {left} s", self.what))
    }

    /// Whether others have raised the number.
    pub fn raised(&self) -> bool {
        self.foreign.is_some_and(|foreign| foreign.to > foreign.from)
    }

    /// Whether others have lowered the number.
    pub fn lowered(&self) -> bool {
        self.foreign.is_some_and(|foreign| foreign.to < foreign.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_ours_that_was_not_answered_is_no_other_hand() {
        let mut others = Others::of("the number", "importers");
        others.notice(3);
        others.attempt(5);
        assert_eq!(others.notice(3), None, "not carried out, or not yet");
        assert_eq!(others.notice(5), None, "carried out");
        assert!(others.notice(4).is_some());
        others.attempt(6);
        others.expect(6);
        assert!(others.notice(4).is_some(), "an answer settles it");
    }

    #[test]
    fn another_hand_is_noticed_and_our_own_is_not() {
        let mut others = Others::of("the number", "importers");
        assert_eq!(others.notice(3), None, "what was there when we came is no change");
        others.expect(5);
        assert_eq!(others.notice(5), None);
        assert!(others.notice(2).unwrap().contains("the number was changed externally from 5 to 2"));
        assert!(others.lowered() && !others.raised());
        assert!(others.notice(2).is_some(), "it is left alone for a while");
        assert!(others.notice(9).unwrap().contains("from 2 to 9"));
        assert!(others.raised() && !others.lowered());
    }
}
