//! Which way rows go into a table: directly, or through staging; chosen from what happened last.

use crate::config::Technique;
use parking_lot::Mutex;
use strum::IntoStaticStr;

/// Objects that are staged without a look after direct COPY was refused.
/// More: longer slow after one odd object; fewer: more COPYs in vain while known keys keep coming.
const STAGED_AFTER_REFUSAL: u32 = 16;
/// Objects that are staged without a look after their keys were found in the table.
const STAGED_AFTER_PROBE: u32 = 4;
/// Direct COPYs in a row after which keys are believed to be new without a look.
const BELIEVED_AFTER: u32 = 2;
/// Beyond this many, one look to be sure.
const BELIEVED_FOR: u32 = 64;

/// How to begin with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Directly.
    Direct,
    /// Look for some of its keys in the table first.
    Probe,
    /// Through staging.
    Staged,
}

/// How an object's rows were written; ledger and metrics call it by this word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Used {
    /// Through staging.
    Staged,
    /// Directly.
    Direct,
    /// Directly, in one transaction with those of other objects.
    Grouped,
}

/// What happened last in a dataset.
#[derive(Debug, Default)]
pub struct Recent {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    staged_left: u32,
    direct_in_a_row: u32,
}

impl Recent {
    /// Chooses. `known` says that a version of this object stands in the table, so its keys are there.
    /// `keyed` is false where a row can meet no other (append, replace): nothing to look for.
    #[must_use]
    pub fn choose(&self, technique: Technique, known: bool, keyed: bool) -> Way {
        match technique {
            Technique::Staged => return Way::Staged,
            Technique::Direct => return Way::Direct,
            Technique::Auto => {}
        }
        let mut memory = self.memory.lock();
        if memory.staged_left > 0 {
            memory.staged_left -= 1;
            return Way::Staged;
        }
        if !keyed {
            return Way::Direct;
        }
        if known {
            return Way::Staged;
        }
        match memory.direct_in_a_row % BELIEVED_FOR {
            n if n >= BELIEVED_AFTER => Way::Direct,
            _ => Way::Probe,
        }
    }

    /// Notes that a direct COPY went through.
    pub fn went_direct(&self) {
        let mut memory = self.memory.lock();
        memory.direct_in_a_row = memory.direct_in_a_row.saturating_add(1);
    }

    /// Notes that Postgres refused a direct COPY.
    pub fn was_refused(&self) {
        *self.memory.lock() = Memory { staged_left: STAGED_AFTER_REFUSAL, direct_in_a_row: 0 };
    }

    /// Notes that keys of an object were in the table already.
    pub fn keys_were_known(&self) {
        *self.memory.lock() = Memory { staged_left: STAGED_AFTER_PROBE, direct_in_a_row: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_keys_are_looked_for_until_they_are_believed() {
        let recent = Recent::default();
        let next = || recent.choose(Technique::Auto, false, true);
        for _ in 0..BELIEVED_AFTER {
            assert_eq!(next(), Way::Probe);
            recent.went_direct();
        }
        assert_eq!(next(), Way::Direct);
        for _ in BELIEVED_AFTER..BELIEVED_FOR {
            recent.went_direct();
        }
        assert_eq!(next(), Way::Probe, "one look now and then");
    }

    #[test]
    fn refusals_and_known_keys_keep_a_dataset_staged_for_a_while() {
        for (note, objects) in
            [(Recent::was_refused as fn(&Recent), STAGED_AFTER_REFUSAL), (Recent::keys_were_known, STAGED_AFTER_PROBE)]
        {
            let recent = Recent::default();
            recent.went_direct();
            recent.went_direct();
            note(&recent);
            for _ in 0..objects {
                assert_eq!(recent.choose(Technique::Auto, false, true), Way::Staged);
            }
            assert_eq!(recent.choose(Technique::Auto, false, true), Way::Probe);
        }
    }

    #[test]
    fn objects_that_stand_are_staged_and_rows_that_meet_no_others_are_not() {
        let recent = Recent::default();
        assert_eq!(recent.choose(Technique::Auto, true, true), Way::Staged);
        assert_eq!(recent.choose(Technique::Auto, true, false), Way::Direct);
        recent.was_refused();
        assert_eq!(recent.choose(Technique::Auto, false, false), Way::Staged);
    }

    #[test]
    fn a_forced_technique_is_used_whatever_happened() {
        let recent = Recent::default();
        recent.was_refused();
        assert_eq!(recent.choose(Technique::Direct, true, true), Way::Direct);
        assert_eq!(recent.choose(Technique::Staged, false, false), Way::Staged);
    }
}
