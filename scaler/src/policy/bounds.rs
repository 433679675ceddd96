//! What stands in a decision's trace: every guard that was asked, and the tightest as the decision.

use super::{
    laws::{histories, policies},
    stories::{Story, before_a_flood, check, grown_in_vain},
    tests::at,
    *,
};
use crate::{
    decision::{Bound, Guard, Inputs, Reason},
    observation::{Pause, Sink},
};
use proptest::prelude::*;

/// Returns what the trace alone says the number is.
fn tightest(inputs: &Inputs) -> u32 {
    let is_limit = |bound: &&Bound| matches!(bound.guard, Guard::Min | Guard::Max | Guard::Schedule);
    let is_pause = |bound: &&Bound| bound.guard == Guard::Pause;
    let (limits, guards): (Vec<_>, Vec<_>) = inputs.bounds.iter().filter(|bound| !is_pause(bound)).partition(is_limit);
    let paused = inputs.bounds.iter().find(is_pause).and_then(|pause| pause.at_least);
    let floor = guards.iter().filter_map(|bound| bound.at_least).max().unwrap_or(0);
    let ceiling = guards.iter().filter_map(|bound| bound.at_most).min().unwrap_or(u32::MAX);
    let number = paused.or(inputs.want).unwrap_or(0).max(floor).min(ceiling);
    limits.iter().fold(number, |number, limit| limit.allow(number))
}

/// Whether the reason is that of a bound at the number, or the policy's own where nothing bound it.
fn reason_is_of_the_tightest(decision: &Decision) -> bool {
    let (number, reason, inputs) = (decision.desired, decision.reason, &decision.inputs);
    let binds = |bound: &Bound| bound.at_least == Some(number) || bound.at_most == Some(number);
    let is_own = matches!(reason, Reason::Deadline | Reason::Backlog | Reason::Steady | Reason::Wake);
    let replaces = reason == Reason::DeadWorker && inputs.pool.dead > 0;
    inputs.bounds.iter().any(|bound| binds(bound) && bound.reason == reason)
        || (is_own && inputs.want == Some(number))
        || replaces
}

/// Adds what can go wrong with the looks at the pool, at some of the queues and at the database, and lets each
/// observation last for some ticks, since many guards act only on what lasts.
fn troubled() -> impl Strategy<Value = Vec<(f64, Observation)>> {
    let pause = prop::option::weighted(0.2, (0..250_u32, 0.0..300.0_f64));
    let trouble =
        (prop::bool::weighted(0.1), prop::bool::weighted(0.2), prop::option::of(20..500_u32), 0..60_u64, pause);
    (histories(), prop::collection::vec((trouble, 1..25_usize), 40)).prop_map(|(past, troubles)| {
        let (mut ticks, mut now) = (Vec::new(), 0.0);
        for ((secs, mut seen), (trouble, n)) in past.into_iter().zip(troubles) {
            let (unseen_pool, unread_queue, max_connections, redeliveries, pause) = trouble;
            now += secs;
            seen.pause = pause.map(|(size, secs)| Pause { at: size, until: at(now + secs), by: None });
            seen.pool_unread = unseen_pool.then(|| "no answer".to_owned());
            seen.queue_unread = (unread_queue && seen.queue.is_ok()).then(|| "1 of 2 queues".to_owned());
            seen.sink.max_connections = max_connections;
            seen.redeliveries = Some(redeliveries);
            ticks.push((secs, seen.clone()));
            ticks.extend(std::iter::repeat_n((10.0, seen), n - 1));
            now += 10.0 * (n - 1) as f64;
        }
        ticks
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_guard_stands_in_the_trace_and_the_tightest_is_the_decision(policy in policies(), past in troubled()) {
        let mut state = State::default();
        let mut now = 0.0;
        for (secs, seen) in &past {
            now += secs;
            let (decision, next) = decide(&policy, seen, &state, at(now));
            prop_assert_eq!(decision.desired, tightest(&decision.inputs), "{:#?}", decision);
            prop_assert!(reason_is_of_the_tightest(&decision), "{:#?}", decision);
            for guard in [Guard::Min, Guard::Max] {
                prop_assert!(bound(&decision, guard).is_some(), "{:#?}", decision);
            }
            state = next;
        }
    }
}

fn bound(decision: &Decision, guard: Guard) -> Option<&Bound> {
    decision.inputs.bounds.iter().find(|bound| bound.guard == guard)
}

/// Returns the trace, a line a guard.
fn lines(decision: &Decision) -> Vec<String> {
    let line = |bound: &Bound| {
        let guard = serde_json::to_value(bound.guard).expect("a word");
        let guard = guard.as_str().expect("a word");
        let least = bound.at_least.map(|n| format!(" at least {n}")).unwrap_or_default();
        let most = bound.at_most.map(|n| format!(" at most {n}")).unwrap_or_default();
        format!("{guard}{least}{most}: {}", bound.why)
    };
    decision.inputs.bounds.iter().map(line).collect()
}

/// A pool that many guards keep from growing.
fn held_back() -> Story {
    let mut story = Story::deadline(5).depth(500_000, 5);
    story.policy = Policy { initial_proven: 32, max: 40, ..story.policy };
    story.seen.sink =
        Sink { healthy: Some(false), max_connections: Some(100), connections_per_worker: Some(6), commit_secs: None };
    story.seen.failed_starts = Some(4);
    story
}

/// A pool that many guards keep from shrinking.
fn held_up() -> Story {
    let mut story = Story::backlog(1, 12).depth(11, 0);
    story.policy.job_secs = 600.0;
    story.run(130);
    story.queue(0, 0);
    story.pool(0, 8, 4, 0)
}

#[test]
fn guards_on_growth_that_bind_less_stand_beside_the_tightest() {
    let decision = held_back().tick(0.0);
    check(&decision, 5, Reason::SinkCap);
    assert!(decision.inputs.want > Some(1000), "{:?}", decision.inputs.want);
    assert_eq!(
        lines(&decision),
        [
            "growth_gate at most 32: beyond the proven 32 the pool at most doubles, next in 1m15s",
            "connections at most 15: the database's connections are enough for 15 workers",
            "sink_health at most 5: the database is not healthy",
            "failed_starts at most 6: 4 starts in a row failed, so one is tried in 30s",
            "sink_outage at least 5: the database accepts no writes, and returning messages would use up their receives",
            "max at most 40: max is 40",
            "min at least 0: min is 0",
        ]
    );
}

#[test]
fn guards_on_shrinking_that_bind_less_stand_beside_the_tightest() {
    let decision = held_up().tick(10.0);
    check(&decision, 12, Reason::Busy);
    assert_eq!(
        lines(&decision),
        [
            "last_worker at least 12: 4 workers are still busy",
            "shrink_window at least 11: 11 at most in the last 2m",
            "dead_band at least 12: 11 at most in the last 2m, within a tenth",
            "long_jobs at least 4: 4 are busy with objects of 10m that a drain might cut short",
            "max at most 1000: max is 1000",
            "min at least 0: min is 0",
        ]
    );
}

#[test]
fn each_guard_has_a_story_in_which_it_stands() {
    let mut unseen = Story::deadline(3);
    unseen.seen.pool_unread = Some("no answer".to_owned());
    let mut uncounted = Story::deadline(3);
    uncounted.seen.queue = Err("no answer".to_owned());
    let paused = Story::deadline(3).paused(1, 60.0);
    let mut stuck = Story::deadline(10).depth(50_000, 10);
    stuck.seen.receives = Some(10);
    let mut missing = Guard::ALL.to_vec();
    let waking = Story::deadline(0).depth(1, 0);
    let mut scheduled = Story::deadline(0);
    scheduled.policy.schedules = vec![Schedule::new("* * * * *", "UTC", 60.0, 8).unwrap()];
    for mut story in
        [unseen, uncounted, paused, waking, held_back(), grown_in_vain(), stuck, held_up(), scheduled, before_a_flood()]
    {
        for _ in 0..30 {
            let decision = story.tick(10.0);
            missing.retain(|guard| bound(&decision, *guard).is_none());
        }
    }
    assert_eq!(missing, []);
}
