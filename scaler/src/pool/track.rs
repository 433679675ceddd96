//! Following members from request to first receive: how long starts take, and how many fail.

use super::{
    Applied, Member, Members,
    census::{Census, Standing},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is remembered of the members between two looks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Track {
    seen: BTreeMap<String, Followed>,
    failed_in_a_row: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Followed {
    since: DateTime<Utc>,
    /// Whether it was asked for while we looked, so that its start-up time is known.
    asked_for: bool,
    up: bool,
    #[serde(rename = "told_to_go")]
    ended: bool,
}

impl Track {
    /// Takes note of the members: new ones are followed, and one that is gone without ever having worked has failed.
    ///
    /// Those that were there when we first looked have an unknown past.
    pub fn meet(&mut self, members: &Members, first_look: bool, now: DateTime<Utc>) {
        let present: BTreeSet<&str> = members.members.iter().map(|member| member.id.as_str()).collect();
        let failed_in_a_row = &mut self.failed_in_a_row;
        self.seen.retain(|id, seen| {
            let is_here = present.contains(id.as_str());
            if !is_here && !seen.up && !seen.ended {
                *failed_in_a_row = failed_in_a_row.saturating_add(1);
            }
            is_here
        });
        for member in &members.members {
            self.seen.entry(member.id.clone()).or_insert(Followed {
                since: member.since.unwrap_or(now),
                asked_for: !first_look,
                up: false,
                ended: false,
            });
        }
    }

    /// Returns when a member was asked for, as far as is known.
    pub fn since(&self, member: &Member, now: DateTime<Utc>) -> DateTime<Utc> {
        self.seen.get(&member.id).map(|seen| seen.since).or(member.since).unwrap_or(now)
    }

    /// Takes in a census: returns the start-up times of those that came up, and counts the starts that failed.
    pub fn absorb(&mut self, census: &Census) -> Vec<f64> {
        let mut start_ups = Vec::new();
        for entry in &census.roll {
            let Some(seen) = self.seen.get_mut(&entry.id) else { continue };
            match entry.standing {
                Standing::Idle | Standing::Busy if !seen.up => {
                    seen.up = true;
                    self.failed_in_a_row = 0;
                    if let Some(first) = entry.first_receive_at.filter(|_| seen.asked_for) {
                        start_ups.push(((first - seen.since).num_milliseconds() as f64 / 1000.0).max(0.0));
                    }
                }
                Standing::Lost if !seen.ended => {
                    seen.ended = true;
                    self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
                }
                _ => {}
            }
        }
        start_ups
    }

    /// Takes in what a plan did.
    pub fn note(&mut self, applied: &Applied, now: DateTime<Utc>) {
        for id in &applied.started_ids {
            self.seen.insert(id.clone(), Followed { since: now, asked_for: true, up: false, ended: false });
        }
        for id in &applied.ended {
            if let Some(seen) = self.seen.get_mut(id) {
                seen.ended = true;
            }
        }
    }

    /// Returns the starts in a row that never became a worker.
    pub fn failed_in_a_row(&self) -> u32 {
        self.failed_in_a_row
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Key, Phase, census::Entry},
        *,
    };

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + secs, 0).expect("in range")
    }

    fn members(ids: &[&str]) -> Members {
        let member = |id: &&str| Member {
            id: (*id).to_owned(),
            key: Key::Instance((*id).to_owned()),
            phase: Phase::Running,
            protected: false,
            since: None,
        };
        Members { members: ids.iter().map(member).collect(), ..Members::default() }
    }

    fn census(id: &str, standing: Standing, first_receive: Option<i64>) -> Census {
        let entry = Entry {
            id: id.to_owned(),
            standing,
            may_end: true,
            may_stay: false,
            given_up: false,
            in_flight: 0,
            empty_polls: 0,
            first_receive_at: first_receive.map(at),
        };
        Census { roll: vec![entry], ..Census::default() }
    }

    #[test]
    fn start_up_is_taken_from_request_to_first_receive_once() {
        let mut track = Track::default();
        track.note(&Applied { started_ids: vec!["a".into()], ..Applied::default() }, at(0));
        track.meet(&members(&["a"]), false, at(10));
        assert!(track.absorb(&census("a", Standing::Starting, None)).is_empty());
        assert_eq!(track.absorb(&census("a", Standing::Busy, Some(42))), [42.0]);
        assert!(track.absorb(&census("a", Standing::Busy, Some(42))).is_empty());
    }

    #[test]
    fn worker_that_was_there_before_us_is_no_sample() {
        let mut track = Track::default();
        track.meet(&members(&["a"]), true, at(0));
        assert!(track.absorb(&census("a", Standing::Idle, Some(1))).is_empty());
    }

    #[test]
    fn failed_starts_are_counted_until_one_succeeds() {
        let mut track = Track::default();
        track.meet(&members(&["a", "b", "c", "d"]), false, at(0));
        track.meet(&members(&["c", "d"]), false, at(10));
        track.absorb(&census("c", Standing::Lost, None));
        track.absorb(&census("c", Standing::Lost, None));
        assert_eq!(track.failed_in_a_row(), 3);
        track.absorb(&census("d", Standing::Idle, None));
        assert_eq!(track.failed_in_a_row(), 0);
    }

    #[test]
    fn worker_that_was_ended_has_not_failed() {
        let mut track = Track::default();
        track.meet(&members(&["a"]), false, at(0));
        track.note(&Applied { ended: vec!["a".into()], ..Applied::default() }, at(1));
        track.meet(&members(&[]), false, at(10));
        assert_eq!(track.failed_in_a_row(), 0);
    }
}
