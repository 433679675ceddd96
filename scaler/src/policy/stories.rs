//! The situations a policy must get right, one test a row.

use super::{
    tests::{at, blind},
    *,
};
use crate::{
    decision::Reason,
    observation::{Completion, Pause, PoolSize, QueueDepth, Sink},
};

/// A policy in a situation: lines come in, decisions go out.
pub(super) struct Story {
    pub policy: Policy,
    pub state: State,
    pub seen: Observation,
    pub now: f64,
}

impl Story {
    /// Starts with one slot a worker, max 1000 and every size proven.
    fn new(target: Target, n: u32) -> Self {
        let policy = Policy {
            target,
            min: 0,
            max: 1000,
            slots_per_worker: 1,
            start_up_secs: 45.0,
            job_secs: 2.0,
            shrink_window_secs: 120.0,
            initial_proven: 1000,
            connection_reserve: 10,
            schedules: Vec::new(),
            foresight: 0.0,
        };
        let mut seen = Observation {
            queue: Ok(QueueDepth { delayed_due: Some(0), ..QueueDepth::default() }),
            completions: Some(Vec::new()),
            receives: Some(0),
            last_worker_empty_polls: Some(0),
            sink: Sink { healthy: Some(true), ..Sink::default() },
            ..blind()
        };
        seen.pool.busy = n;
        Self { policy, state: State::default(), seen, now: 0.0 }
    }

    pub fn deadline(n: u32) -> Self {
        Self::new(Target::Deadline { drain_within_secs: 900.0 }, n)
    }

    pub fn backlog(messages_per_worker: u64, n: u32) -> Self {
        Self::new(Target::Backlog { messages_per_worker }, n)
    }

    pub fn depth(mut self, visible: u64, in_flight: u64) -> Self {
        self.queue(visible, in_flight);
        self
    }

    pub fn queue(&mut self, visible: u64, in_flight: u64) {
        self.seen.queue = Ok(QueueDepth { visible, in_flight, delayed_due: Some(0), ..QueueDepth::default() });
    }

    pub fn pool(mut self, starting: u32, idle: u32, busy: u32, draining: u32) -> Self {
        self.seen.pool = PoolSize { starting, idle, busy, draining, dead: 0 };
        self
    }

    pub fn paused(mut self, at: u32, secs: f64) -> Self {
        self.seen.pause = Some(Pause { at, until: tests::at(self.now + secs), by: None });
        self
    }

    pub fn tick(&mut self, secs: f64) -> Decision {
        self.now += secs;
        let (decision, state) = decide(&self.policy, &self.seen, &self.state, at(self.now));
        self.state = state;
        decision
    }

    pub fn done(&mut self, n: usize, duration_secs: f64) {
        self.seen.completions = Some(vec![Completion { ended_at: at(self.now), duration_secs, ok: true }; n]);
    }

    /// Runs ten-second ticks and returns the last decision.
    pub fn run(&mut self, secs: u32) -> Decision {
        let mut last = None;
        for _ in 0..secs.div_ceil(10) {
            last = Some(self.tick(10.0));
        }
        last.expect("at least one tick")
    }

    /// Runs ten-second ticks with a pool whose workers come up at once and returns the sizes it goes through.
    fn follow(&mut self, secs: u32) -> Vec<u32> {
        let mut sizes = vec![self.seen.pool.live()];
        for _ in 0..secs.div_ceil(10) {
            let desired = self.tick(10.0).desired;
            self.seen.pool = PoolSize { busy: desired, ..PoolSize::default() };
            if sizes.last() != Some(&desired) {
                sizes.push(desired);
            }
        }
        sizes
    }
}

/// Checks a decision's number and reason.
pub(super) fn check(decision: &Decision, desired: u32, reason: Reason) {
    assert_eq!((decision.desired, decision.reason), (desired, reason), "{}", decision.explain);
}

#[test]
fn backlog_of_30_at_10_keeps_3() {
    check(&Story::backlog(10, 3).depth(20, 10).tick(0.0), 3, Reason::Steady);
}

#[test]
fn backlog_of_20_at_5_takes_4() {
    check(&Story::backlog(5, 3).depth(10, 10).tick(0.0), 4, Reason::Backlog);
}

#[test]
fn delayed_messages_that_are_not_due_do_not_count() {
    let mut story = Story::backlog(1, 5).depth(200, 100);
    let Ok(depth) = &mut story.seen.queue else { unreachable!() };
    depth.delayed = 50;
    check(&story.tick(0.0), 300, Reason::Backlog);
}

#[test]
fn missing_counter_holds_and_is_named() {
    let mut story = Story::deadline(7);
    story.seen.queue = Err("the counter `queue.visible` is missing".to_owned());
    let decision = story.tick(0.0);
    check(&decision, 7, Reason::StaleMetrics);
    assert!(decision.explain.contains("queue.visible"), "{}", decision.explain);
}

#[test]
fn enormous_queue_is_clipped_without_overflow() {
    for visible in [2_147_483_648, u64::MAX] {
        for mut story in [Story::backlog(1, 3), Story::deadline(3)] {
            story.policy.max = 50;
            check(&story.depth(visible, u64::MAX).tick(0.0), 50, Reason::Max);
        }
    }
}

#[test]
fn empty_counters_without_empty_polls_hold() {
    let mut story = Story::deadline(5).pool(0, 5, 0, 0);
    check(&story.tick(0.0), 5, Reason::KeepWarm);
    check(&story.run(600), 5, Reason::KeepWarm);
}

#[test]
fn short_loss_of_the_counters_holds() {
    let mut story = Story::deadline(6).depth(500, 6);
    story.run(200);
    story.seen.queue = Err("SQS did not answer".to_owned());
    check(&story.tick(20.0), 6, Reason::StaleMetrics);
}

#[test]
fn long_loss_of_the_counters_grows_by_a_quarter_and_never_shrinks() {
    let mut story = Story::deadline(6).depth(500, 6);
    story.run(200);
    story.seen.queue = Err("SQS did not answer".to_owned());
    let mut largest = 6;
    for _ in 0..60 {
        let decision = story.tick(10.0);
        assert!(decision.desired >= 6, "{}", decision.explain);
        largest = largest.max(decision.desired);
    }
    assert_eq!(largest, 8);
    // One line ten minutes later says the same.
    let mut story = Story::deadline(6).depth(500, 6);
    story.run(200);
    story.seen.queue = Err("SQS did not answer".to_owned());
    check(&story.tick(600.0), 8, Reason::StaleMetrics);
}

#[test]
fn loss_of_the_counters_with_an_empty_poll_holds() {
    let mut story = Story::deadline(6).depth(500, 6);
    story.run(200);
    story.seen.queue = Err("SQS did not answer".to_owned());
    story.seen.last_worker_empty_polls = Some(1);
    check(&story.run(600), 6, Reason::StaleMetrics);
}

#[test]
fn min_and_max_apply_at_once() {
    let mut story = Story::deadline(1).depth(1, 1);
    story.policy.min = 2;
    check(&story.tick(0.0), 2, Reason::Min);
    let mut story = Story::deadline(6).depth(50, 6);
    story.policy.max = 5;
    check(&story.tick(0.0), 5, Reason::Max);
}

#[test]
fn min_and_max_apply_without_counters_too() {
    let mut story = Story::deadline(6);
    story.seen.queue = Err("SQS did not answer".to_owned());
    story.policy.max = 5;
    check(&story.tick(0.0), 5, Reason::Max);
    story.policy = Policy { min: 9, max: 20, ..story.policy };
    check(&story.tick(0.0), 9, Reason::Min);
}

#[test]
fn one_message_seen_twice_wakes_one_worker() {
    let mut story = Story::deadline(0).depth(1, 0);
    check(&story.tick(0.0), 0, Reason::WakeUnconfirmed);
    check(&story.tick(75.0), 1, Reason::Wake);
}

#[test]
fn one_message_seen_once_wakes_nobody() {
    let mut story = Story::deadline(0).depth(1, 0);
    check(&story.tick(0.0), 0, Reason::WakeUnconfirmed);
    story.queue(0, 0);
    check(&story.tick(75.0), 0, Reason::Steady);
}

#[test]
fn messages_in_flight_alone_wake_nobody() {
    let mut story = Story::deadline(0).depth(0, 3);
    check(&story.run(300), 0, Reason::Steady);
    story.queue(3, 0);
    check(&story.tick(10.0), 1, Reason::Wake);
}

#[test]
fn empty_reading_does_not_end_busy_workers() {
    check(&Story::deadline(4).depth(0, 0).tick(0.0), 4, Reason::Busy);
}

#[test]
fn last_worker_waits_for_three_empty_polls() {
    let mut story = Story::deadline(1).pool(0, 1, 0, 0);
    story.seen.last_worker_empty_polls = Some(1);
    let decision = story.run(600);
    check(&decision, 1, Reason::KeepWarm);
    assert!(decision.explain.contains("1 of 3"), "{}", decision.explain);
}

#[test]
fn last_worker_goes_when_the_queue_is_proven_empty() {
    let mut story = Story::deadline(1).pool(0, 1, 0, 0);
    story.seen.last_worker_empty_polls = Some(3);
    check(&story.tick(0.0), 1, Reason::KeepWarm);
    check(&story.run(60), 1, Reason::KeepWarm);
    check(&story.tick(10.0), 0, Reason::Deadline);
}

#[test]
fn phantom_in_flight_does_not_keep_the_last_worker() {
    let mut story = Story::deadline(1).pool(0, 1, 0, 0).depth(0, 2);
    story.seen.last_worker_empty_polls = Some(4);
    assert_eq!(story.run(200).desired, 0);
}

#[test]
fn last_worker_stays_when_a_cold_start_would_break_the_promise() {
    let mut story = Story::new(Target::Deadline { drain_within_secs: 90.0 }, 1).pool(0, 1, 0, 0);
    story.seen.last_worker_empty_polls = Some(9);
    check(&story.run(600), 1, Reason::Budget);
}

#[test]
fn last_worker_stays_for_delayed_messages() {
    let mut story = Story::deadline(1).pool(0, 1, 0, 0);
    story.seen.last_worker_empty_polls = Some(9);
    let Ok(depth) = &mut story.seen.queue else { unreachable!() };
    depth.delayed = 3;
    depth.delayed_due = Some(3);
    assert_eq!(story.run(600).desired, 1);
}

#[test]
fn without_a_ledger_zero_takes_five_minutes_of_empty_counters() {
    let mut story = Story::deadline(1).pool(0, 1, 0, 0);
    story.seen = Observation { completions: None, receives: None, last_worker_empty_polls: None, ..story.seen };
    story.tick(0.0);
    check(&story.run(290), 1, Reason::KeepWarm);
    assert_eq!(story.run(20).desired, 0);
}

#[test]
fn long_jobs_grow_the_pool_before_they_are_late() {
    let mut story = Story::new(Target::Deadline { drain_within_secs: 1800.0 }, 1).depth(6, 0);
    story.policy.job_secs = 600.0;
    assert!(story.tick(0.0).desired >= 2);
}

#[test]
fn workers_still_starting_do_not_call_for_more() {
    let mut story = Story::backlog(10, 0).depth(100, 0);
    check(&story.tick(0.0), 10, Reason::Backlog);
    story.seen.pool.starting = 10;
    for _ in 0..6 {
        check(&story.tick(10.0), 10, Reason::Steady);
    }
    story.queue(50, 0);
    assert!(story.tick(10.0).desired <= 10);
}

#[test]
fn starting_workers_do_not_call_for_more_under_a_deadline_either() {
    let mut story = Story::deadline(0).depth(10_000, 0);
    let first = story.tick(0.0).desired;
    story.seen.pool.starting = first;
    for _ in 0..4 {
        assert_eq!(story.tick(10.0).desired, first);
    }
}

#[test]
fn never_zero_while_there_is_work() {
    let mut story = Story::deadline(20).depth(10, 0);
    for _ in 0..100 {
        assert!(story.tick(10.0).desired >= 1);
    }
    let mut story = Story::deadline(20).depth(10, 0).pool(0, 20, 0, 0);
    assert!(story.follow(600).iter().all(|n| *n >= 1));
}

/// A pool of 20 whose growth from 10 was found to have brought nothing.
fn capped() -> Story {
    let mut story = grown_in_vain();
    story.run(60);
    story
}

/// A pool that has just grown from 10 to 20 for nothing.
pub(super) fn grown_in_vain() -> Story {
    let mut story = Story::backlog(50, 10).depth(2000, 10);
    story.policy.max = 20;
    story.done(94, 1.0);
    story.run(60);
    story.seen.pool = PoolSize { starting: 10, busy: 10, ..PoolSize::default() };
    story.run(50);
    story.seen.pool = PoolSize { busy: 20, ..PoolSize::default() };
    story.done(98, 2.0);
    story.policy.max = 1000;
    story
}

#[test]
fn schedule_has_its_workers_whatever_the_queue_says() {
    // The stories begin at midnight.
    let schedule = Schedule::new("10 0 * * *", "UTC", 1800.0, 8).unwrap();
    let mut story = Story::deadline(0);
    story.policy.schedules = vec![schedule.clone()];
    check(&story.run(500), 0, Reason::Steady);
    let begun = story.run(30);
    check(&begun, 8, Reason::Schedule);
    assert!(begun.explain.contains("the schedule \"10 0 * * *\" has 8 workers until 00:40 UTC"), "{}", begun.explain);

    let mut story = Story::deadline(0).pool(0, 8, 0, 0);
    story.policy.schedules = vec![schedule];
    story.seen.last_worker_empty_polls = Some(50);
    story.run(600);
    check(&story.run(1790), 8, Reason::Schedule);
    assert!(story.run(300).desired < 8, "they may go when it is over");

    story.policy.max = 5;
    story.policy.schedules = vec![Schedule::new("* * * * *", "UTC", 60.0, 8).unwrap()];
    check(&story.tick(10.0), 5, Reason::Schedule);
    story.seen.pause = Some(Pause { at: 2, until: at(1e6), by: None });
    check(&story.tick(10.0), 2, Reason::Paused);
}

/// A pool on the evening before a flood that came at midnight on the last three days.
pub(super) fn before_a_flood() -> Story {
    let mut story = Story::deadline(0);
    story.policy.foresight = 0.1;
    story.state.foresight = foresight::tests::after([0.0, 86_400.0, 172_800.0]);
    story.now = 259_200.0 - 60.0;
    story
}

#[test]
fn foreseen_flood_is_met_within_the_guards_and_its_end_is_believed() {
    let mut story = before_a_flood();
    check(&story.tick(10.0), 0, Reason::Steady);
    let begun = story.tick(10.0);
    check(&begun, 127, Reason::Foresight);
    let said = "but a flood of about 20000 objects is foreseen for 00:00:00 UTC, as at this time of each of the last 3 days, \
                so the pool grows from 0 to 127";
    assert!(begun.explain.contains(said), "{}", begun.explain);

    // It has come, and the counters lag.
    story.seen.pool = PoolSize { busy: 120, idle: 7, ..PoolSize::default() };
    check(&story.run(60), 127, Reason::Foresight);
    story.queue(9000, 120);
    story.done(1270, 1.0);
    check(&story.run(150), 127, Reason::Foresight);
    story.seen.pool = PoolSize { busy: 7, idle: 120, ..PoolSize::default() };
    let over = story.tick(10.0);
    check(&over, 14, Reason::Deadline);
    assert!(
        over.explain.starts_with("The foreseen flood is done, whatever the counters show: 7 of 127"),
        "{}",
        over.explain
    );

    let mut story = before_a_flood();
    story.policy.max = 40;
    story.tick(10.0);
    check(&story.tick(10.0), 40, Reason::Max);
    let mut story = before_a_flood();
    story.policy.initial_proven = 32;
    story.tick(10.0);
    check(&story.tick(10.0), 32, Reason::GrowthGate);
    let mut story = before_a_flood().paused(2, 1e6);
    story.tick(10.0);
    check(&story.tick(10.0), 2, Reason::Paused);
    let mut story = before_a_flood();
    story.policy.foresight = 0.0;
    story.tick(10.0);
    check(&story.tick(10.0), 0, Reason::Steady);
}

#[test]
fn growth_in_vain_is_not_repeated_until_later() {
    let mut story = capped();
    let decision = story.tick(10.0);
    check(&decision, 20, Reason::SinkCap);
    check(&story.run(600), 20, Reason::SinkCap);
    assert!(story.run(900).desired > 20, "it is tried again later");
}

#[test]
fn cap_does_not_keep_the_pool_from_shrinking() {
    let mut story = capped();
    story.queue(240, 20);
    story.done(25, 1.0);
    story.run(130);
    check(&story.tick(10.0), 6, Reason::Backlog);
}

#[test]
fn draining_workers_are_taken_back_and_never_counted() {
    let mut story = Story::backlog(10, 0).pool(0, 0, 20, 10).depth(280, 20);
    let decision = story.tick(0.0);
    check(&decision, 30, Reason::Backlog);
    assert!(decision.explain.contains("taking back 10 draining first"), "{}", decision.explain);
}

#[test]
fn four_slots_a_worker_take_a_quarter_of_the_workers() {
    for visible in [500, 5_000, 49_999] {
        let one = Story::deadline(0).depth(visible, 0).tick(0.0).desired;
        let mut story = Story::deadline(0).depth(visible, 0);
        story.policy.slots_per_worker = 4;
        assert_eq!(story.tick(0.0).desired, one.div_ceil(4), "V = {visible}");
    }
}

#[test]
fn measured_slots_replace_the_configured_ones() {
    let mut story = Story::deadline(0).depth(5_000, 0);
    let one = story.tick(0.0).desired;
    story.seen.slots_per_worker = Some(4);
    assert_eq!(story.tick(0.0).desired, one.div_ceil(4));
}

#[test]
fn unproven_sizes_are_reached_by_doubling() {
    let mut story = Story::backlog(10, 0).depth(2000, 0);
    story.policy.initial_proven = 32;
    let first = story.tick(0.0);
    check(&first, 32, Reason::GrowthGate);
    story.seen.pool.busy = 32;
    assert_eq!(story.follow(60), [32]);
    assert_eq!(story.follow(20), [32, 64]);
    assert_eq!(story.follow(200), [64, 128, 200]);
    assert_eq!(story.follow(100), [200]);
    // What has been proven is jumped to.
    story.seen.pool.busy = 1;
    assert_eq!(story.tick(10.0).desired, 200);
}

#[test]
fn burst_is_not_extrapolated() {
    let mut story = Story::deadline(2).depth(0, 2);
    story.run(60);
    story.queue(1000, 2);
    let mut wants = Vec::new();
    for _ in 0..20 {
        let decision = story.tick(10.0);
        assert_eq!(decision.inputs.arrivals_per_sec, 0.0);
        wants.push(decision.desired);
    }
    // 1000 jobs of 2 s in 630 s are 4 workers; extrapolated they would be a hundred.
    assert!(wants.iter().all(|want| *want <= 4), "{wants:?}");
}

#[test]
fn larger_objects_grow_the_pool() {
    let mut story = Story::deadline(5).depth(3000, 5);
    story.done(50, 1.0);
    let small = story.run(300).desired;
    assert_eq!(small, 5);
    story.done(10, 5.0);
    let large = story.run(300).desired;
    assert!(large >= 15, "{large}");
}

#[test]
fn retried_message_says_nothing_about_lateness() {
    let retried = QueueDepth {
        visible: 1,
        delayed_due: Some(0),
        oldest_age_secs: Some(10_800.0),
        oldest_receive_count: Some(20),
        ..QueueDepth::default()
    };
    let mut story = Story::deadline(1);
    story.seen.queue = Ok(retried);
    let decision = story.tick(0.0);
    assert_eq!((decision.desired, decision.inputs.age_secs), (1, None));
}

#[test]
fn receives_without_completions_stop_growth_and_leave_a_probe() {
    let mut story = Story::deadline(10).depth(50_000, 10);
    story.policy.max = 10;
    story.seen.receives = Some(10);
    story.run(50);
    story.policy.max = 1000;
    check(&story.tick(10.0), 10, Reason::NoProgress);
    let decision = story.run(120);
    check(&decision, 2, Reason::NoProgress);
    assert!(decision.explain.contains("none was finished"), "{}", decision.explain);
    story.seen.pool.busy = 2;
    check(&story.run(600), 2, Reason::NoProgress);
    story.done(1, 2.0);
    assert!(story.tick(10.0).desired > 2, "it grows again once something is finished");
}

#[test]
fn window_lets_go_to_its_own_maximum() {
    let mut story = Story::backlog(1, 100);
    let mut at_secs = 0.0;
    for (secs, visible) in [(0.0, 80), (10.0, 90), (40.0, 72), (59.0, 64)] {
        story.queue(visible, 0);
        check(&story.tick(secs - at_secs), 100, Reason::ShrinkWindow);
        at_secs = secs;
    }
    story.queue(70, 0);
    check(&story.tick(125.0 - at_secs), 90, Reason::ShrinkWindow);
}

#[test]
fn large_pool_is_not_shrunk_by_less_than_a_tenth() {
    let mut story = Story::backlog(1, 100).depth(91, 0);
    check(&story.run(600), 100, Reason::ShrinkWindow);
    let mut story = Story::backlog(1, 10).depth(9, 0);
    check(&story.run(600), 9, Reason::Backlog);
}

#[test]
fn busy_workers_with_long_jobs_are_not_asked_to_drain() {
    let mut story = Story::backlog(10, 8).depth(0, 8);
    story.policy.job_secs = 600.0;
    check(&story.run(600), 8, Reason::Busy);
    story.seen.pool = PoolSize { busy: 3, idle: 5, ..PoolSize::default() };
    check(&story.run(10), 3, Reason::Busy);
}

#[test]
fn unhealthy_sink_stops_growth() {
    let mut story = Story::deadline(5).depth(50_000, 5);
    story.seen.sink.healthy = Some(false);
    check(&story.tick(0.0), 5, Reason::SinkCap);
}

#[test]
fn unhealthy_sink_is_relieved_only_down_to_what_it_takes() {
    let mut story = Story::backlog(50, 40).depth(5000, 40);
    story.policy.max = 40;
    story.done(400, 1.0);
    story.run(120);
    story.seen.sink.healthy = Some(false);
    story.done(200, 2.0);
    let sizes = story.follow(900);
    assert_eq!(sizes.first(), Some(&40));
    let last = *sizes.last().expect("a size");
    assert!((20..=24).contains(&last), "{sizes:?}");
}

#[test]
fn outage_hands_no_message_back() {
    let mut story = Story::backlog(50, 40).depth(5000, 40);
    story.policy.max = 40;
    story.done(400, 1.0);
    story.run(120);
    story.seen.sink.healthy = Some(false);
    story.done(0, 1.0);
    story.seen.receives = Some(3);
    assert_eq!(story.follow(900), [40]);
    story.queue(10, 40);
    check(&story.run(300), 40, Reason::SinkCap);
}

#[test]
fn connections_bound_the_pool() {
    let mut story = Story::deadline(5).depth(500_000, 5);
    story.seen.sink.max_connections = Some(100);
    story.seen.sink.connections_per_worker = Some(6);
    check(&story.tick(0.0), 15, Reason::SinkCap);
}

#[test]
fn dead_worker_is_replaced() {
    let mut story = Story::backlog(10, 3).depth(40, 0);
    story.seen.pool.dead = 1;
    check(&story.tick(0.0), 4, Reason::DeadWorker);
}

#[test]
fn failing_starts_back_off() {
    let mut story = Story::backlog(10, 3).depth(400, 0);
    story.seen.failed_starts = Some(4);
    check(&story.tick(0.0), 4, Reason::DeadWorker);
    check(&story.tick(10.0), 3, Reason::DeadWorker);
    story.seen.failed_starts = Some(0);
    check(&story.tick(10.0), 40, Reason::Backlog);
}

#[test]
fn restart_in_mid_burst_holds_first() {
    let mut story = Story::deadline(30).depth(2000, 30);
    check(&story.tick(0.0), 30, Reason::ShrinkWindow);
    check(&story.run(110), 30, Reason::ShrinkWindow);
    assert!(story.run(20).desired < 30);
}

#[test]
fn state_survives_json() {
    let mut story = capped();
    let json = serde_json::to_string(&story.state).unwrap();
    assert!(json.len() < 4096, "{} bytes", json.len());
    let mut restarted = Story { state: serde_json::from_str(&json).unwrap(), ..capped() };
    restarted.now = story.now;
    assert_eq!(restarted.tick(10.0), story.tick(10.0));
}

#[test]
fn queue_that_cannot_be_counted_keeps_the_pool_from_shrinking_and_not_from_growing() {
    let named = "1 of 2 queues: there is no queue b";
    let mut story = Story::backlog(10, 4).depth(500, 0);
    story.seen.queue_unread = Some(named.to_owned());
    let decision = story.tick(0.0);
    check(&decision, 50, Reason::Backlog);
    assert_eq!(decision.inputs.queue_error.as_deref(), Some(named));
    // The other queue's messages need fewer than there are; those that cannot be counted may need the rest.
    let mut story = Story::backlog(10, 4).depth(10, 0);
    story.seen.queue_unread = Some(named.to_owned());
    story.seen.last_worker_empty_polls = Some(1);
    let decision = story.run(600);
    check(&decision, 4, Reason::StaleMetrics);
    assert!(decision.explain.contains("no queue b"), "{}", decision.explain);
    assert_eq!(decision.inputs.queue.map(|depth| depth.visible), Some(10));
    // What was wanted of a part says nothing about the whole.
    story.seen.queue_unread = None;
    check(&story.tick(10.0), 4, Reason::ShrinkWindow);
}

#[test]
fn queue_that_cannot_be_counted_wakes_nobody_and_the_others_do() {
    let mut story = Story::backlog(10, 0).depth(0, 0);
    story.seen.queue_unread = Some("1 of 2 queues: no answer".to_owned());
    check(&story.tick(0.0), 0, Reason::StaleMetrics);
    story.queue(50, 0);
    check(&story.tick(10.0), 5, Reason::Backlog);
}

#[test]
fn queue_without_counters_is_never_known_to_be_empty() {
    let mut story = Story::deadline(0).pool(0, 1, 0, 0).depth(0, 0);
    story.seen.last_worker_empty_polls = Some(9);
    story.seen.queue_unread = Some("1 of 2 queues: no answer".to_owned());
    check(&story.run(1200), 1, Reason::StaleMetrics);
    story.seen.queue_unread = None;
    assert_eq!(story.tick(10.0).desired, 1, "one reading of all is not enough");
    assert_eq!(story.run(130).desired, 0);
}

#[test]
fn pool_that_cannot_be_seen_is_held_at_what_was_seen_last() {
    let mut story = Story::backlog(10, 4).depth(500, 0);
    story.seen.pool_unread = Some("describe the group: no answer".to_owned());
    let decision = story.tick(0.0);
    check(&decision, 4, Reason::StaleMetrics);
    assert!(decision.explain.contains("describe the group: no answer"), "{}", decision.explain);
    assert!(decision.inputs.pool_error.is_some());
    story.queue(0, 0);
    check(&story.run(600), 4, Reason::StaleMetrics);
}

#[test]
fn a_pause_holds_the_pool_whatever_waits_and_ends_by_itself() {
    let mut story = Story::backlog(10, 3).depth(2000, 3).paused(1, 60.0);
    let decision = story.tick(0.0);
    check(&decision, 1, Reason::Paused);
    assert_eq!(decision.explain, "Paused by hand at 1 until 2026-01-01 00:01:00 UTC, so the pool shrinks from 3 to 1.");
    assert_eq!(decision.inputs.want, Some(201), "what the policy wants is still known");
    check(&story.tick(59.0), 1, Reason::Paused);
    let decision = story.tick(1.0);
    check(&decision, 201, Reason::Backlog);
    assert_eq!(decision.inputs.pause, None);
}

#[test]
fn a_pause_keeps_workers_without_work_and_without_counters() {
    check(&Story::deadline(0).paused(4, 60.0).tick(0.0), 4, Reason::Paused);
    let mut idle = Story::deadline(0).pool(0, 4, 0, 0).paused(4, 600.0);
    idle.seen.last_worker_empty_polls = Some(9);
    check(&idle.run(300), 4, Reason::Paused);
    let mut uncounted = Story::deadline(3).paused(1, 60.0);
    uncounted.seen.queue = Err("no answer".to_owned());
    check(&uncounted.tick(0.0), 1, Reason::Paused);
}

#[test]
fn a_pause_goes_below_the_minimum_and_not_above_the_maximum() {
    let mut story = Story::backlog(10, 3).depth(100, 3).paused(0, 60.0);
    story.policy.min = 2;
    check(&story.tick(0.0), 0, Reason::Paused);
    let mut story = Story::backlog(10, 3).depth(100, 3).paused(9, 60.0);
    story.policy.max = 5;
    check(&story.tick(0.0), 5, Reason::Paused);
}

#[test]
fn a_pause_ends_no_long_object_and_overloads_no_database() {
    let mut story = Story::backlog(1, 12).depth(11, 0).paused(2, 60.0).pool(0, 8, 4, 0);
    story.policy.job_secs = 600.0;
    check(&story.tick(0.0), 4, Reason::Busy);
    let mut story = Story::deadline(2).paused(40, 60.0);
    story.seen.sink = Sink { max_connections: Some(100), connections_per_worker: Some(6), ..story.seen.sink };
    check(&story.tick(0.0), 15, Reason::SinkCap);
    let mut unseen = Story::deadline(3).paused(1, 60.0);
    unseen.seen.pool_unread = Some("no answer".to_owned());
    check(&unseen.tick(0.0), 3, Reason::StaleMetrics);
}
