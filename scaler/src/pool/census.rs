//! The census: a pool's members joined with their heartbeats.

use super::{Key, Member, Members, Phase};
use crate::{observation::PoolSize, store::Heartbeat};
use chrono::{DateTime, Utc};
use service::worker::WorkerState;

/// A worker that has been silent for longer is not counted any more. Its heart beats every 5 s.
const SILENT_SECS: f64 = 30.0;

/// One that has been silent for longer is ended and replaced.
const OVERDUE_SECS: f64 = 120.0;

/// A member that never had a heartbeat is given up after this many start-up times, and not before this long.
const START_UPS: f64 = 4.0;
const SHORTEST_PATIENCE_SECS: f64 = 120.0;

/// What a member is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not receiving yet.
    Starting,
    /// Receiving, nothing in hand.
    Idle,
    /// Importing, or doing something unknown.
    Busy,
    /// Finishing.
    Draining,
    /// Had a heartbeat and has none any more.
    Dead,
    /// Never had a heartbeat and should have one.
    Lost,
}

/// One member and what it is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its id in the backend.
    pub id: String,
    /// What it is doing.
    pub standing: Standing,
    /// Whether it may be ended when the pool shrinks.
    pub may_end: bool,
    /// Whether it is about to go and can be kept by asking for more.
    pub may_stay: bool,
    /// Whether it is given up: dead or lost for so long that it is ended whatever it has.
    pub given_up: bool,
    /// Objects it is importing.
    pub in_flight: u32,
    /// Its empty long polls in a row.
    pub empty_polls: u32,
    /// When its first receive was answered.
    pub first_receive_at: Option<DateTime<Utc>>,
}

impl Entry {
    /// Whether nothing is lost when it goes.
    pub fn is_spendable(&self) -> bool {
        self.may_end && matches!(self.standing, Standing::Starting | Standing::Idle)
    }
}

/// All members of a pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Census {
    /// The members.
    pub roll: Vec<Entry>,
    /// Members asked for that cannot be seen yet.
    pub requested: u32,
    /// Workers on the pool's queues that are not its members.
    pub strangers: PoolSize,
    /// Consecutive empty long polls of the worker that has seen the fewest; `None` when that is not known.
    pub fewest_empty_polls: Option<u32>,
}

/// What the census needs besides the members.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// The heartbeats on the pool's queues; `None` when they cannot be read.
    pub heartbeats: Option<&'a [Heartbeat]>,
    /// For how long heartbeats could be read without a break.
    pub readable_secs: f64,
    /// Messages in flight, where known.
    pub in_flight: Option<u64>,
    /// Time from request to first receive, estimated.
    pub start_up_secs: f64,
    /// When each member was first seen or asked for, by its id.
    pub since: &'a dyn Fn(&Member) -> DateTime<Utc>,
    /// The time.
    pub now: DateTime<Utc>,
}

impl Census {
    /// Takes the census.
    pub fn take(members: &Members, evidence: &Evidence<'_>) -> Self {
        let mut census = Self { requested: members.requested, ..Self::default() };
        let mut unmatched: Vec<&Heartbeat> = evidence.heartbeats.unwrap_or_default().iter().collect();
        let mut polls = Vec::new();
        let mut silent = Vec::new();
        for member in &members.members {
            let found = unmatched.iter().position(|heartbeat| is_of(heartbeat, &member.key));
            let heartbeat = found.map(|place| unmatched.swap_remove(place));
            let standing = match (evidence.heartbeats, heartbeat) {
                _ if matches!(member.phase, Phase::Draining | Phase::Surplus) => Standing::Draining,
                (Some(_), Some(heartbeat)) => heard(heartbeat, evidence.readable_secs),
                (Some(_), None) => {
                    silent.push(census.roll.len());
                    without_heartbeat(member, evidence)
                }
                (None, _) => unknown(member, evidence),
            };
            if let Some(heartbeat) = heartbeat
                && matches!(standing, Standing::Idle | Standing::Busy)
            {
                polls.push(heartbeat.empty_polls);
            }
            census.roll.push(Entry {
                id: member.id.clone(),
                standing,
                may_end: !member.protected,
                may_stay: member.phase == Phase::Surplus,
                given_up: match standing {
                    Standing::Lost => true,
                    Standing::Dead => {
                        let silent_secs = heartbeat.map_or(0.0, |heartbeat| heartbeat.silent_secs);
                        silent_secs.min(evidence.readable_secs) > OVERDUE_SECS
                    }
                    _ => false,
                },
                in_flight: heartbeat.map_or(0, |heartbeat| heartbeat.in_flight),
                empty_polls: heartbeat.map_or(0, |heartbeat| heartbeat.empty_polls),
                first_receive_at: heartbeat.and_then(|heartbeat| heartbeat.first_receive_at),
            });
        }
        unmatched.retain(|heartbeat| heartbeat.silent_secs <= SILENT_SECS);
        census.pair_nameless(&mut unmatched, silent, &mut polls);
        for stranger in unmatched {
            polls.push(stranger.empty_polls);
            count(&mut census.strangers, heard(stranger, evidence.readable_secs));
        }
        census.fewest_empty_polls = polls.into_iter().min();
        census
    }

    /// Returns the pool's size, workers outside of it included: they empty the same queues.
    pub fn size(&self) -> PoolSize {
        let mut size = self.strangers;
        size.starting = size.starting.saturating_add(self.requested);
        for entry in &self.roll {
            count(&mut size, entry.standing);
        }
        size
    }

    /// Pairs members without a heartbeat with heartbeats that name no member.
    ///
    /// Workers that do not know their instance's id cannot be told apart: each
    /// is some member, and none of those may be ended by name.
    fn pair_nameless(&mut self, unmatched: &mut Vec<&Heartbeat>, silent: Vec<usize>, polls: &mut Vec<u32>) {
        for place in silent {
            if self.roll[place].standing == Standing::Draining {
                continue;
            }
            let Some(found) = unmatched.iter().position(|heartbeat| heartbeat.instance_id.is_none()) else { return };
            let heartbeat = unmatched.swap_remove(found);
            polls.push(heartbeat.empty_polls);
            let standing = heard(heartbeat, 0.0);
            self.roll[place].standing = standing;
            self.roll[place].given_up = false;
            // While all of them are idle it does not matter which one goes.
            self.roll[place].may_end &=
                standing == Standing::Idle && unmatched.iter().all(|other| other.state == WorkerState::Idle);
        }
    }
}

fn is_of(heartbeat: &Heartbeat, key: &Key) -> bool {
    match key {
        Key::Instance(id) => heartbeat.instance_id.as_ref() == Some(id),
        Key::Process(host, pid) => heartbeat.host == *host && heartbeat.pid == *pid,
        Key::Worker(id) => heartbeat.id == *id,
    }
}

/// Returns how many workers do what, by their heartbeats alone.
pub fn workers(heartbeats: &[Heartbeat]) -> PoolSize {
    let mut size = PoolSize::default();
    for heartbeat in heartbeats {
        count(&mut size, heard(heartbeat, 0.0));
    }
    size
}

/// Judges a worker by its heartbeat.
fn heard(heartbeat: &Heartbeat, readable_secs: f64) -> Standing {
    // After an outage of the database every heart seems to have stopped.
    if heartbeat.silent_secs > SILENT_SECS && readable_secs > SILENT_SECS {
        return Standing::Dead;
    }
    match heartbeat.state {
        WorkerState::Starting => Standing::Starting,
        WorkerState::Idle => Standing::Idle,
        WorkerState::Busy => Standing::Busy,
        WorkerState::Draining => Standing::Draining,
    }
}

/// Judges a member without a heartbeat.
fn without_heartbeat(member: &Member, evidence: &Evidence<'_>) -> Standing {
    let waited =
        ((evidence.now - (evidence.since)(member)).num_milliseconds() as f64 / 1000.0).min(evidence.readable_secs);
    let patience = (START_UPS * evidence.start_up_secs).max(SHORTEST_PATIENCE_SECS);
    if waited > patience { Standing::Lost } else { Standing::Starting }
}

/// Judges a member when heartbeats cannot be read.
fn unknown(member: &Member, evidence: &Evidence<'_>) -> Standing {
    let waited = (evidence.now - (evidence.since)(member)).num_milliseconds() as f64 / 1000.0;
    match (member.phase, evidence.in_flight) {
        (Phase::Pending, _) => Standing::Starting,
        _ if waited < evidence.start_up_secs => Standing::Starting,
        // With nothing in flight no worker can be busy.
        (_, Some(0)) => Standing::Idle,
        _ => Standing::Busy,
    }
}

fn count(size: &mut PoolSize, standing: Standing) {
    let place = match standing {
        Standing::Starting => &mut size.starting,
        Standing::Idle => &mut size.idle,
        Standing::Busy => &mut size.busy,
        Standing::Draining => &mut size.draining,
        Standing::Dead => &mut size.dead,
        // Neither capacity nor a worker that was; its replacement is a new start.
        Standing::Lost => return,
    };
    *place = place.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str) -> Member {
        Member {
            id: id.to_owned(),
            key: Key::Instance(id.to_owned()),
            phase: Phase::Running,
            protected: false,
            since: None,
        }
    }

    fn heartbeat(id: &str, state: WorkerState, silent_secs: f64) -> Heartbeat {
        Heartbeat {
            id: format!("worker-{id}"),
            host: "h".to_owned(),
            pid: 1,
            instance_id: Some(id.to_owned()),
            state,
            slots: 4,
            in_flight: u32::from(state == WorkerState::Busy),
            empty_polls: 2,
            silent_secs,
            first_receive_at: None,
            receives: 0,
            redeliveries: 0,
            oldest_age_secs: None,
            oldest_receive_count: None,
        }
    }

    /// Takes the census of members seen `waited` seconds ago and returns their standings.
    fn standings(
        members: Vec<Member>,
        heartbeats: Option<&[Heartbeat]>,
        waited: i64,
        readable_secs: f64,
    ) -> (Vec<Standing>, Census) {
        let now = Utc::now();
        let since = move |_: &Member| now - chrono::Duration::seconds(waited);
        let evidence =
            Evidence { heartbeats, readable_secs, in_flight: Some(3), start_up_secs: 45.0, since: &since, now };
        let census = Census::take(&Members { members, ..Members::default() }, &evidence);
        (census.roll.iter().map(|entry| entry.standing).collect(), census)
    }

    #[test]
    fn members_stand_as_their_heartbeats_say() {
        let members = vec![member("a"), member("b"), member("c"), member("d"), member("e")];
        let heartbeats = [
            heartbeat("a", WorkerState::Idle, 1.0),
            heartbeat("b", WorkerState::Busy, 1.0),
            heartbeat("c", WorkerState::Starting, 1.0),
            heartbeat("d", WorkerState::Draining, 1.0),
        ];
        let (standings, census) = standings(members, Some(&heartbeats), 10, 1000.0);
        use Standing::*;
        assert_eq!(standings, [Idle, Busy, Starting, Draining, Starting]);
        assert_eq!(census.size(), PoolSize { starting: 2, idle: 1, busy: 1, draining: 1, dead: 0 });
        assert_eq!(census.fewest_empty_polls, Some(2));
    }

    #[test]
    fn silent_worker_is_dead_only_when_hearts_could_be_heard() {
        let heartbeats = [heartbeat("a", WorkerState::Busy, 40.0)];
        let (dead, census) = standings(vec![member("a")], Some(&heartbeats), 500, 100.0);
        assert_eq!((dead[0], census.roll[0].given_up), (Standing::Dead, false));
        let overdue = [heartbeat("a", WorkerState::Busy, 130.0)];
        assert!(standings(vec![member("a")], Some(&overdue), 500, 500.0).1.roll[0].given_up);
        assert_eq!(standings(vec![member("a")], Some(&heartbeats), 500, 10.0).0, [Standing::Busy]);
    }

    #[test]
    fn member_never_heard_of_is_lost_after_a_while() {
        assert_eq!(standings(vec![member("a")], Some(&[]), 170, 1000.0).0, [Standing::Starting]);
        assert_eq!(standings(vec![member("a")], Some(&[]), 190, 1000.0).0, [Standing::Lost]);
        assert_eq!(standings(vec![member("a")], Some(&[]), 190, 20.0).0, [Standing::Starting]);
    }

    #[test]
    fn nameless_workers_stand_for_silent_members_and_protect_them() {
        let nameless = |state| Heartbeat { instance_id: None, ..heartbeat("x", state, 1.0) };
        let (standings, census) = standings(
            vec![member("a"), member("b")],
            Some(&[nameless(WorkerState::Busy), nameless(WorkerState::Idle)]),
            9999,
            1000.0,
        );
        assert_eq!(standings.len(), 2);
        assert!(!standings.contains(&Standing::Lost), "{standings:?}");
        assert_eq!(census.size().up(), 2);
        assert!(census.roll.iter().filter(|entry| entry.may_end).count() <= 1);
    }

    #[test]
    fn strangers_are_capacity() {
        let (_, census) = standings(
            vec![member("a")],
            Some(&[heartbeat("a", WorkerState::Idle, 1.0), heartbeat("z", WorkerState::Busy, 1.0)]),
            99,
            99.0,
        );
        assert_eq!(census.strangers.busy, 1);
        assert_eq!(census.size().live(), 2);
    }

    #[test]
    fn without_heartbeats_nobody_is_taken_for_idle_while_messages_are_in_flight() {
        assert_eq!(standings(vec![member("a")], None, 99, 0.0).0, [Standing::Busy]);
        assert_eq!(standings(vec![member("a")], None, 9, 0.0).0, [Standing::Starting]);
    }
}
