//! What holds for every observation, as property tests.

use super::{
    tests::{at, blind},
    *,
};
use crate::observation::{Completion, Pause, PoolSize, QueueDepth, Sink};
use proptest::prelude::*;

pub(super) fn policies() -> impl Strategy<Value = Policy> {
    let target = prop_oneof![
        (10.0..7200.0_f64).prop_map(|drain_within_secs| Target::Deadline { drain_within_secs }),
        (1..1000_u64).prop_map(|messages_per_worker| Target::Backlog { messages_per_worker }),
    ];
    let schedules = prop::collection::vec((0..60_u32, 1.0..7200.0_f64, 0..250_u32), 0..2).prop_map(|settings| {
        let schedule =
            |(minute, lasts, floor)| Schedule::new(&format!("{minute} * * * *"), "UTC", lasts, floor).expect("a time");
        settings.into_iter().map(schedule).collect()
    });
    (target, 0..6_u32, 1..200_u32, 1..8_u32, 1.0..300.0_f64, 0.01..600.0_f64, 1..100_u32, schedules).prop_map(
        |(target, min, max, slots_per_worker, start_up_secs, job_secs, initial_proven, schedules)| Policy {
            target,
            min: min.min(max),
            max,
            slots_per_worker,
            start_up_secs,
            job_secs,
            shrink_window_secs: 120.0,
            initial_proven,
            connection_reserve: 10,
            schedules,
            foresight: 0.1,
        },
    )
}

fn depths() -> impl Strategy<Value = QueueDepth> {
    let count = || prop_oneof![0..5_u64, 0..5_000_u64, Just(u64::MAX)];
    (count(), count(), count(), prop::option::of(0.0..20_000.0_f64), prop::option::of(0..30_u64)).prop_map(
        |(visible, in_flight, delayed, oldest_age_secs, oldest_receive_count)| QueueDepth {
            visible,
            in_flight,
            delayed,
            delayed_due: Some(delayed / 2),
            oldest_age_secs,
            oldest_receive_count,
        },
    )
}

fn observations() -> impl Strategy<Value = Observation> {
    let pool = (0..40_u32, 0..40_u32, 0..40_u32, 0..40_u32, 0..3_u32)
        .prop_map(|(starting, idle, busy, draining, dead)| PoolSize { starting, idle, busy, draining, dead });
    let queue = prop_oneof![1 => Just(None), 9 => depths().prop_map(Some)];
    let done = prop::option::of((0..60_usize, 0.01..900.0_f64));
    let polls = prop::option::of(0..6_u32);
    (pool, queue, done, prop::option::of(0..60_u64), polls, prop::option::of(any::<bool>()), 0..8_u32).prop_map(
        |(pool, queue, done, receives, polls, healthy, failed)| Observation {
            pool,
            queue: queue.ok_or_else(|| "SQS did not answer".to_owned()),
            completions: done
                .map(|(n, duration_secs)| vec![Completion { ended_at: at(0.0), duration_secs, ok: true }; n]),
            receives,
            last_worker_empty_polls: polls,
            sink: Sink { healthy, ..Sink::default() },
            failed_starts: Some(failed),
            ..blind()
        },
    )
}

/// A past of up to forty observations, a few seconds to minutes apart.
pub(super) fn histories() -> impl Strategy<Value = Vec<(f64, Observation)>> {
    prop::collection::vec((1.0..200.0_f64, observations()), 1..40)
}

fn live_through(policy: &Policy, past: &[(f64, Observation)]) -> (State, f64) {
    let mut state = State::default();
    let mut now = 0.0;
    for (secs, seen) in past {
        now += secs;
        state = decide(policy, seen, &state, at(now)).1;
    }
    (state, now)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn always_within_min_and_max(policy in policies(), past in histories()) {
        let mut state = State::default();
        let mut now = 0.0;
        for (secs, seen) in &past {
            now += secs;
            let (decision, next) = decide(&policy, seen, &state, at(now));
            prop_assert!((policy.min..=policy.max).contains(&decision.desired), "{}", decision.explain);
            state = next;
        }
    }

    #[test]
    fn a_pause_is_within_zero_and_max_and_changes_nothing_once_it_is_over(
        policy in policies(),
        past in histories(),
        last in observations(),
        size in 0..300_u32,
    ) {
        let (state, now) = live_through(&policy, &past);
        let paused = |secs| Observation {
            pause: Some(Pause { at: size, until: at(now + secs), by: None }),
            ..last.clone()
        };
        let (decision, _) = decide(&policy, &paused(60.0), &state, at(now + 10.0));
        prop_assert!(decision.desired <= policy.max, "{}", decision.explain);
        // Nobody is started beyond it, whatever waits.
        prop_assert!(decision.desired <= size.max(last.pool.live()), "{}", decision.explain);
        let (over, unpaused) = (paused(10.0), Observation { pause: None, ..last.clone() });
        prop_assert_eq!(
            decide(&policy, &over, &state, at(now + 10.0)),
            decide(&policy, &unpaused, &state, at(now + 10.0))
        );
    }

    #[test]
    fn same_input_same_output(policy in policies(), past in histories()) {
        let (state, now) = live_through(&policy, &past);
        let (_, seen) = past.last().expect("a past");
        prop_assert_eq!(decide(&policy, seen, &state, at(now)), decide(&policy, seen, &state, at(now)));
    }

    #[test]
    fn unknown_depth_never_shrinks_the_pool(
        policy in policies(),
        past in histories(),
        last in observations(),
        known in prop::option::of(depths()),
    ) {
        let (state, now) = live_through(&policy, &past);
        let seen = Observation {
            // Some queues may be known.
            queue_unread: known.map(|_| "SQS did not answer".to_owned()),
            queue: known.ok_or_else(|| "SQS did not answer".to_owned()),
            sink: Sink { healthy: Some(true), ..Sink::default() },
            completions: Some(vec![Completion { ended_at: at(now), duration_secs: 1.0, ok: true }]),
            ..last
        };
        // A stuck pool is a verdict of the ledger, not of the counters.
        let (decision, _) = decide(&policy, &seen, &state, at(now + 10.0));
        if decision.reason != crate::decision::Reason::NoProgress {
            prop_assert!(decision.desired >= seen.pool.live().min(policy.max), "{}", decision.explain);
        }
    }

    #[test]
    fn more_backlog_never_means_fewer_workers(
        policy in policies(),
        past in histories(),
        last in observations(),
        depth in depths(),
        more in 1..10_000_u64,
    ) {
        let (state, now) = live_through(&policy, &past);
        // With nothing visible the workers' word can outweigh the counters', so the law begins at one message.
        let few = QueueDepth { visible: depth.visible.max(1), ..depth };
        let many = QueueDepth { visible: few.visible.saturating_add(more), ..few };
        let of = |depth| decide(&policy, &Observation { queue: Ok(depth), ..last.clone() }, &state, at(now + 10.0)).0;
        prop_assert!(of(few).desired <= of(many).desired, "{} / {}", of(few).explain, of(many).explain);
    }

    #[test]
    fn draining_workers_are_never_capacity(policy in policies(), past in histories(), last in observations()) {
        let (state, now) = live_through(&policy, &past);
        let of = |draining| {
            let seen = Observation { pool: PoolSize { draining, ..last.pool }, ..last.clone() };
            decide(&policy, &seen, &state, at(now + 10.0)).0.desired
        };
        prop_assert_eq!(of(0), of(50));
    }

    #[test]
    fn explanation_is_one_sentence_with_the_numbers(policy in policies(), past in histories()) {
        let (state, now) = live_through(&policy, &past);
        let (_, seen) = past.last().expect("a past");
        let (decision, _) = decide(&policy, seen, &state, at(now));
        prop_assert!(decision.explain.ends_with('.') && decision.explain.matches(". ").count() == 0);
        prop_assert!(decision.explain.contains(&decision.desired.to_string()), "{}", decision.explain);
    }

    #[test]
    fn constant_load_never_flaps(
        per_sec in 0.5..60.0_f64,
        job_secs in 0.1..8.0_f64,
        guess in 0.3..3.0_f64,
        slots in 1..5_u32,
    ) {
        let policy = Policy {
            target: Target::Deadline { drain_within_secs: 900.0 },
            min: 0,
            max: 1000,
            slots_per_worker: slots,
            start_up_secs: 45.0,
            job_secs: job_secs * guess,
            shrink_window_secs: 120.0,
            initial_proven: 1000,
            connection_reserve: 10,
            schedules: Vec::new(),
            foresight: 0.0,
        };
        let sizes = constant_load(&policy, per_sec, job_secs);
        // Once it has settled: no way out and in and out again within an hour.
        let turns = turns(&sizes[120..]);
        prop_assert!(turns <= 2, "{turns} turns: {:?}", &sizes[120..]);
        prop_assert!(*sizes.last().expect("ticks") > 0);
    }
}

/// Runs ninety minutes of even arrivals through a fluid queue and returns the pool's size at each tick.
fn constant_load(policy: &Policy, per_sec: f64, job_secs: f64) -> Vec<u32> {
    let mut state = State::default();
    let mut starting: Vec<u32> = Vec::new();
    let (mut up, mut waiting, mut done_rest) = (0_u32, 0.0_f64, 0.0_f64);
    let mut sizes = Vec::new();
    for tick in 0..540 {
        let capacity = f64::from(up) * f64::from(policy.slots_per_worker) * 10.0 / job_secs;
        waiting += per_sec * 10.0;
        let done = waiting.min(capacity);
        waiting -= done;
        done_rest += done;
        let n_done = done_rest.floor();
        done_rest -= n_done;
        let in_flight = (per_sec * job_secs).min(capacity / 10.0 * job_secs);
        let busy = ((in_flight / f64::from(policy.slots_per_worker)).ceil() as u32).min(up);
        let now = at(f64::from(tick) * 10.0);
        let seen = Observation {
            pool: PoolSize { starting: starting.iter().sum(), idle: up - busy, busy, draining: 0, dead: 0 },
            queue: Ok(QueueDepth {
                visible: waiting.round() as u64,
                in_flight: in_flight.round() as u64,
                delayed_due: Some(0),
                ..QueueDepth::default()
            }),
            completions: Some(vec![Completion { ended_at: now, duration_secs: job_secs, ok: true }; n_done as usize]),
            receives: Some(n_done as u64),
            last_worker_empty_polls: Some(0),
            ..blind()
        };
        let (decision, next) = decide(policy, &seen, &state, now);
        state = next;
        let live = up + starting.iter().sum::<u32>();
        starting.push(decision.desired.saturating_sub(live));
        if starting.len() > 4 {
            up += starting.remove(0);
        }
        up -= live.saturating_sub(decision.desired).min(up);
        sizes.push(decision.desired);
    }
    sizes
}

/// Returns how often a series changes its direction.
fn turns(sizes: &[u32]) -> usize {
    let steps: Vec<bool> = sizes.windows(2).filter(|pair| pair[0] != pair[1]).map(|pair| pair[0] < pair[1]).collect();
    steps.windows(2).filter(|pair| pair[0] != pair[1]).count()
}
