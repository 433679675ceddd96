//! How many slots the work in sight needs: the two policies, before any guard.

use super::Target;
use crate::observation::QueueDepth;

/// Share of the promised time the plan may use; the rest is for what the counters do not show.
pub const PLANNED_SHARE: f64 = 0.7;

/// However old the oldest message is, the plan takes at least this share of the promised time.
/// Smaller: a late message calls for the whole pool; larger: a late queue stays late.
const LEAST_SHARE: f64 = 0.1;

/// The same for a worker that has yet to start.
const LEAST_SHARE_NEW: f64 = 0.15;

/// Share of the promised time that a job started in the planned share may still take.
const OVERHANG_SHARE: f64 = 0.25;

/// Utilisation the pool is sized for under steady arrivals.
pub const UTILISATION: f64 = 0.85;

/// Utilisation at which a pool that is large enough is left alone.
/// Nearer to `UTILISATION`: noise in the arrivals makes the pool creep up; nearer to 1: queues build.
const UTILISATION_LIMIT: f64 = 0.95;

/// Messages received more often than this are retries; their age says nothing about the pool.
const COUNTED_RECEIVES: u64 = 3;

/// What the policy alone would have, and how it came to that.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    /// Workers wanted.
    pub workers: u32,
    /// Age of the oldest message that counts.
    pub age_secs: Option<f64>,
    /// Time left to finish in.
    pub slack_secs: Option<f64>,
    /// Work in sight, in slot-seconds.
    pub work_secs: Option<f64>,
    /// Whether steady arrivals, not the backlog, set the number.
    pub by_arrivals: bool,
}

/// What the demand is computed from, besides the counters.
#[derive(Clone, Copy, Debug)]
pub struct Basis {
    /// Workers that are or will be capacity.
    pub live: u32,
    /// Objects at once in one worker.
    pub slots_per_worker: u32,
    /// One object's time in one slot.
    pub job_secs: f64,
    /// Objects arriving per second.
    pub arrivals_per_sec: f64,
    /// Time from request to first receive.
    pub start_up_secs: f64,
    /// Objects in one message.
    pub objects_per_message: f64,
    /// How long messages are known to have waited, where the queue's own figure says nothing.
    pub waited_secs: f64,
}

/// Returns the workers wanted for what the counters show.
pub fn demand(target: &Target, depth: &QueueDepth, basis: &Basis) -> Demand {
    match *target {
        Target::Deadline { drain_within_secs } => deadline(drain_within_secs, depth, basis),
        Target::Backlog { messages_per_worker } => {
            let workers = backlog(depth).div_ceil(messages_per_worker.max(1));
            Demand { workers: u32::try_from(workers).unwrap_or(u32::MAX), ..Demand::default() }
        }
    }
}

/// Returns the messages that are, or will soon be, work for a worker.
pub fn backlog(depth: &QueueDepth) -> u64 {
    depth.visible.saturating_add(depth.in_flight).saturating_add(depth.delayed_due.unwrap_or(0))
}

/// Returns whether the oldest message has waited for longer than the plan allows.
pub fn is_late(target: &Target, depth: &QueueDepth) -> bool {
    let Target::Deadline { drain_within_secs } = *target else { return false };
    counted_age(depth).is_some_and(|age| age > PLANNED_SHARE * drain_within_secs)
}

/// Returns the age of the oldest message, unless it is a retry.
fn counted_age(depth: &QueueDepth) -> Option<f64> {
    depth.oldest_age_secs.filter(|_| depth.oldest_receive_count.is_none_or(|n| n <= COUNTED_RECEIVES))
}

fn deadline(promised_secs: f64, depth: &QueueDepth, basis: &Basis) -> Demand {
    let age = counted_age(depth);
    let age_secs = age.unwrap_or(0.0).max(basis.waited_secs);
    let slack = (PLANNED_SHARE * promised_secs - age_secs).max(LEAST_SHARE * promised_secs);
    let slack_new = (slack - basis.start_up_secs).max(LEAST_SHARE_NEW * promised_secs);

    let job = basis.job_secs;
    let waiting = (depth.visible as f64 + depth.delayed_due.unwrap_or(0) as f64) * basis.objects_per_message
        + depth.in_flight as f64 * basis.objects_per_message / 2.0;
    let work = (waiting + basis.arrivals_per_sec * slack) * job;

    let slots = f64::from(basis.live) * f64::from(basis.slots_per_worker);
    let one_has = usable_secs(slack, job, promised_secs);
    let one_new_has = usable_secs(slack_new, job, promised_secs);
    let for_work = if work > slots * one_has {
        slots + ((work - slots * one_has) / one_new_has).ceil()
    } else {
        (work / one_has).ceil()
    };
    let for_arrivals = arrival_floor(basis.arrivals_per_sec * job, slots);

    // Never more workers than there is work. A pool that is there already keeps its
    // headroom, though: under steady arrivals the work in sight is just what is in hand.
    let jobs = (backlog(depth) as f64 * basis.objects_per_message).ceil();
    let kept = for_arrivals.min(slots).min((jobs / UTILISATION).ceil());
    let wanted = for_work.max(for_arrivals).min(jobs).max(kept);
    Demand {
        // `as` saturates.
        workers: (wanted / f64::from(basis.slots_per_worker)).ceil() as u32,
        age_secs: age.or((basis.waited_secs > 0.0).then_some(basis.waited_secs)),
        slack_secs: Some(slack),
        work_secs: Some(work),
        by_arrivals: for_arrivals > for_work,
    }
}

/// Returns how much of the slack a slot can fill: whole jobs, when jobs are long.
///
/// A job started just before the planned share ends may still run for
/// `OVERHANG_SHARE` of the promised time; only jobs longer than that leave a rest
/// of the slack that no job fits in.
fn usable_secs(slack: f64, job: f64, promised_secs: f64) -> f64 {
    let overhang = OVERHANG_SHARE * promised_secs;
    if job <= overhang {
        return slack;
    }
    (((slack + overhang) / job).floor().max(1.0) * job).min(slack)
}

/// Returns the slots that steady arrivals need, leaving a pool alone that has enough by a smaller margin.
fn arrival_floor(slots_busy: f64, slots: f64) -> f64 {
    let comfortable = (slots_busy / UTILISATION).ceil();
    if slots < comfortable && slots_busy / UTILISATION_LIMIT <= slots { slots } else { comfortable }
}

#[cfg(test)]
mod tests {
    use super::*;

    const L: f64 = 900.0;

    fn basis(live: u32) -> Basis {
        Basis {
            live,
            slots_per_worker: 1,
            job_secs: 1.0,
            arrivals_per_sec: 0.0,
            start_up_secs: 45.0,
            objects_per_message: 1.0,
            waited_secs: 0.0,
        }
    }

    fn depth(visible: u64, in_flight: u64) -> QueueDepth {
        QueueDepth { visible, in_flight, delayed_due: Some(0), ..QueueDepth::default() }
    }

    fn workers(depth: &QueueDepth, basis: &Basis) -> u32 {
        demand(&Target::Deadline { drain_within_secs: L }, depth, basis).workers
    }

    #[test]
    fn burst_is_spread_over_the_slack() {
        // 0.7 · 900 - 45 = 585 s for a new worker, 630 s for one that is there.
        assert_eq!(workers(&depth(5850, 0), &basis(0)), 10);
        assert_eq!(workers(&depth(6300, 0), &basis(10)), 10);
        assert_eq!(workers(&depth(6301, 0), &basis(10)), 11);
    }

    #[test]
    fn late_message_shortens_the_slack_to_a_tenth_at_most() {
        let late = QueueDepth { oldest_age_secs: Some(540.0), ..depth(900, 0) };
        assert_eq!(workers(&late, &basis(10)), 10);
        let very_late = QueueDepth { oldest_age_secs: Some(5000.0), ..depth(900, 0) };
        assert_eq!(workers(&very_late, &basis(10)), 10);
    }

    #[test]
    fn retried_message_does_not_count_for_age() {
        let retried = QueueDepth { oldest_age_secs: Some(10800.0), oldest_receive_count: Some(20), ..depth(900, 0) };
        assert_eq!(workers(&retried, &basis(2)), 2);
        let first = QueueDepth { oldest_receive_count: Some(1), ..retried };
        assert!(workers(&first, &basis(2)) > 2);
    }

    #[test]
    fn steady_arrivals_keep_their_floor() {
        let steady = Basis { arrivals_per_sec: 20.0, ..basis(0) };
        assert_eq!(workers(&depth(100, 20), &Basis { live: 20, ..steady }), 24);
        // 22 are 91 % busy: enough to be left alone.
        assert_eq!(workers(&depth(100, 20), &Basis { live: 22, ..steady }), 22);
        assert_eq!(workers(&depth(100, 20), &Basis { live: 40, ..steady }), 24);
    }

    #[test]
    fn never_more_workers_than_work() {
        assert_eq!(workers(&depth(3, 1), &Basis { job_secs: 600.0, ..basis(1) }), 4);
    }

    #[test]
    fn pool_keeps_its_headroom_over_what_is_in_hand() {
        let steady = Basis { arrivals_per_sec: 20.0, live: 24, ..basis(0) };
        assert_eq!(workers(&depth(0, 20), &steady), 24);
        assert_eq!(workers(&depth(0, 0), &steady), 0);
        assert_eq!(workers(&depth(0, 20), &Basis { live: 2, ..steady }), 20);
    }

    #[test]
    fn slots_divide_the_workers() {
        let four = Basis { slots_per_worker: 4, ..basis(0) };
        assert_eq!(workers(&depth(5850, 0), &four), 3);
    }

    #[test]
    fn messages_with_many_objects_weigh_more() {
        let many = Basis { objects_per_message: 3.0, ..basis(0) };
        assert_eq!(workers(&depth(5850, 0), &many), 30);
    }

    #[test]
    fn long_jobs_are_counted_whole() {
        // A job of half the promise: one slot finishes one, not 1.4 of them.
        assert_eq!(workers(&depth(14, 0), &Basis { job_secs: 450.0, ..basis(0) }), 14);
        // Ten jobs of a fifth of the promise may overhang into the margin.
        assert_eq!(workers(&depth(9, 0), &Basis { job_secs: 180.0, ..basis(0) }), 3);
    }

    #[test]
    fn backlog_policy_divides() {
        let b = |messages_per_worker| Target::Backlog { messages_per_worker };
        assert_eq!(demand(&b(10), &depth(20, 10), &basis(3)).workers, 3);
        assert_eq!(demand(&b(5), &depth(10, 10), &basis(3)).workers, 4);
        assert_eq!(demand(&b(1), &depth(u64::MAX, u64::MAX), &basis(3)).workers, u32::MAX);
    }
}
