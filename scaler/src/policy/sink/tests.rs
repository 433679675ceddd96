//! When a pool is capped for its database, and when not.

use super::{
    super::tests::{at, blind},
    *,
};
use crate::observation::{Completion, QueueDepth};

/// What is seen of `done` objects finished in ten seconds by `n` workers that were never idle.
fn seen(n: u32, starting: u32, done: usize, secs: f64) -> Observation {
    let duration_secs = f64::from(n) * 10.0 / done as f64;
    with_durations(n, starting, vec![duration_secs; done], secs)
}

fn with_durations(n: u32, starting: u32, durations: Vec<f64>, secs: f64) -> Observation {
    Observation {
        pool: PoolSize { busy: n, starting, ..PoolSize::default() },
        queue: Ok(QueueDepth { visible: 5000, ..QueueDepth::default() }),
        completions: Some(
            durations
                .into_iter()
                .map(|secs_each| Completion { ended_at: at(secs), duration_secs: secs_each, ok: true })
                .collect(),
        ),
        sink: Sink { healthy: Some(true), ..Sink::default() },
        ..blind()
    }
}

/// Runs stretches of (ticks, workers, completions a tick) and returns the cap after each.
fn caps(stretches: &[(u32, u32, usize)]) -> Vec<Option<u32>> {
    let mut sink = SinkState::default();
    let mut tick = 0;
    stretches
        .iter()
        .map(|(ticks, n, done)| {
            for _ in 0..*ticks {
                let secs = f64::from(tick) * 10.0;
                sink.relax(false, None, at(secs));
                sink.absorb(&seen(*n, 0, *done, secs), 1, 10.0, 1.0, at(secs));
                tick += 1;
            }
            sink.cap()
        })
        .collect()
}

#[test]
fn growth_in_vain_caps_at_the_size_before() {
    assert_eq!(caps(&[(6, 10, 94), (6, 20, 98)]), [None, Some(10)]);
}

#[test]
fn pool_that_may_have_been_idle_between_two_looks_says_nothing_of_the_sink() {
    for (visible, cap) in [(200, Some(10)), (199, None)] {
        let mut sink = SinkState::default();
        for tick in 0..12 {
            let secs = f64::from(tick) * 10.0;
            let (n, done) = if tick < 6 { (10, 94) } else { (20, 98) };
            let mut seen = seen(n, 0, done, secs);
            seen.queue = Ok(QueueDepth { visible, ..QueueDepth::default() });
            sink.absorb(&seen, 1, 10.0, 1.0, at(secs));
        }
        assert_eq!(sink.cap(), cap, "20 workers take 200 objects in ten seconds, and {visible} wait");
    }
}

#[test]
fn growth_that_pays_is_not_capped() {
    assert_eq!(caps(&[(6, 10, 94), (6, 20, 180), (6, 40, 350)]), [None, None, None]);
}

#[test]
fn larger_objects_are_not_taken_for_a_tired_sink() {
    assert_eq!(caps(&[(6, 10, 94), (6, 10, 19), (6, 20, 38), (6, 40, 76)]), [None, None, None, None]);
}

#[test]
fn per_worker_rate_below_60_percent_caps_at_what_the_sink_takes() {
    // 20 % gain each time, so no growth is in vain by itself.
    assert_eq!(caps(&[(6, 10, 100), (6, 20, 130), (6, 40, 170)]), [None, None, Some(17)]);
}

#[test]
fn cap_relaxes_by_a_quarter_every_five_minutes() {
    assert_eq!(caps(&[(6, 10, 94), (6, 20, 98), (33, 20, 98), (30, 20, 98)])[1..], [Some(10), Some(13), Some(17)]);
}

#[test]
fn few_completions_of_a_calm_sink_are_no_cap() {
    let mut sink = SinkState::default();
    let caps = [(60, 10, 94), (60, 20, 98), (60, 40, 90)].map(|(ticks, n, done)| {
        for _ in 0..ticks {
            let secs = sink.finished_at.map_or(0.0, |before| elapsed_secs(at(0.0), before) + 10.0);
            // Nearly all take a second; the rest of the slots have an object that takes minutes.
            let durations = [vec![1.0; done - 1], vec![90.0]].concat();
            sink.absorb(&with_durations(n, 0, durations, secs), 1, 10.0, 1.0, at(secs));
        }
        sink.cap()
    });
    assert_eq!(caps, [None; 3]);
}

#[test]
fn completions_that_halve_where_no_object_is_long_are_a_cap() {
    let mut sink = SinkState::default();
    let caps = [(6, 10, 94), (6, 20, 98)].map(|(ticks, n, done)| {
        for _ in 0..ticks {
            let secs = sink.finished_at.map_or(0.0, |before| elapsed_secs(at(0.0), before) + 10.0);
            sink.absorb(&with_durations(n, 0, vec![1.0; done], secs), 1, 10.0, 1.0, at(secs));
        }
        sink.cap()
    });
    assert_eq!(caps, [None, Some(10)]);
}

/// Feeds a pool that grew from 2 to 5 the completions of a heavy-tailed load and returns whether it was ever capped.
fn is_capped_by_heavy_tail(seed: u64) -> bool {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sink = SinkState::default();
    // What is left of each slot's job, and how long it takes.
    let mut slots = Vec::new();
    (1..180).any(|tick: u32| {
        let secs = f64::from(tick) * 10.0;
        slots.resize(if tick < 3 { 2 } else { 5 }, (0.0, 0.0));
        let mut durations = Vec::new();
        for (left, takes) in &mut slots {
            *left -= 10.0;
            while *left <= 0.0 {
                durations.extend((*takes > 0.0).then_some(*takes));
                *takes = (1.45 * (1.0 - random.f64()).powf(-1.0 / 1.1)).min(600.0);
                *left += *takes;
            }
        }
        sink.absorb(&with_durations(slots.len() as u32, 0, durations, secs), 1, 10.0, 5.0, at(secs));
        sink.cap().is_some()
    })
}

#[test]
fn heavy_tail_is_not_taken_for_a_tired_sink() {
    assert_eq!((0..200).filter(|seed| is_capped_by_heavy_tail(*seed)).count(), 0);
}

#[test]
fn cap_ends_when_long_objects_turn_out_to_have_held_the_slots() {
    let mut sink = SinkState::default();
    let caps = [(6, 10, 94, 1.0), (6, 20, 98, 1.0), (24, 20, 98, 90.0)].map(|(ticks, n, done, longest)| {
        for _ in 0..ticks {
            let secs = sink.finished_at.map_or(0.0, |before| elapsed_secs(at(0.0), before) + 10.0);
            let durations = [vec![1.0; done - 1], vec![longest]].concat();
            sink.absorb(&with_durations(n, 0, durations, secs), 1, 10.0, 1.0, at(secs));
        }
        sink.cap()
    });
    assert_eq!(caps, [None, Some(10), None]);
}

#[test]
fn state_of_an_older_version_is_judged_by_completions_alone() {
    let mut sink = SinkState::default();
    let mut caps = Vec::new();
    for (ticks, n, done) in [(60, 10, 94), (60, 20, 98)] {
        for _ in 0..ticks {
            let secs = sink.finished_at.map_or(0.0, |before| elapsed_secs(at(0.0), before) + 10.0);
            let durations = [vec![1.0; done - 1], vec![90.0]].concat();
            sink.absorb(&with_durations(n, 0, durations, secs), 1, 10.0, 1.0, at(secs));
            let mut json = serde_json::to_value(&sink).unwrap();
            for count in ["/before/count", "/at_best", "/era/total"] {
                if let Some(count) = json.pointer_mut(count).and_then(|count| count.as_object_mut()) {
                    count.retain(|name, _| name == "secs" || name == "done");
                }
            }
            sink = serde_json::from_value(json).unwrap();
        }
        caps.push(sink.cap());
    }
    assert_eq!(caps, [None, Some(10)]);
}

#[test]
fn cap_ends_when_the_same_size_is_seen_to_do_better() {
    assert_eq!(caps(&[(6, 10, 94), (6, 20, 98), (4, 20, 190)]), [None, Some(10), None]);
}

#[test]
fn few_completions_judge_nothing() {
    assert_eq!(caps(&[(6, 10, 1), (6, 20, 1)]), [None, None]);
}

#[test]
fn connections_set_a_ceiling() {
    let sink = |max_connections| Sink { max_connections: Some(max_connections), ..Sink::default() };
    assert_eq!(connection_ceiling(&sink(100), 10, 4), Some(15));
    assert_eq!(connection_ceiling(&sink(5), 10, 4), Some(1));
    assert_eq!(connection_ceiling(&Sink::default(), 10, 4), None);
}

#[test]
fn cap_is_tried_sooner_while_messages_are_late_beside_a_calm_sink() {
    let after_two_minutes = |is_late, healthy| {
        let mut sink = SinkState { cap: Some(10), cap_at: Some(at(0.0)), ..SinkState::default() };
        sink.relax(is_late, healthy, at(120.0));
        sink.cap()
    };
    let caps =
        [(true, Some(true)), (false, Some(true)), (true, None)].map(|(late, well)| after_two_minutes(late, well));
    assert_eq!(caps, [Some(13), Some(10), Some(10)]);
}
