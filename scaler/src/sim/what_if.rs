//! What a recorded history would have come to under another promise, maximum or start-up time.

use super::{
    Outcome, TICK_SECS,
    rules::Kind,
    run, table,
    workload::{Load, Workload},
};
use crate::policy::{Policy, words};
use service::chart::{self, Line, Panel};

const TITLE: &str = "What another setting would have cost";

/// Height of a panel in pixels.
const PANEL: f64 = 110.0;

/// One answer.
pub struct Case {
    /// What is different, such as "promise 30m".
    pub name: String,
    outcome: Outcome,
}

/// Plays a load again as it is, and with half and twice its promise, its maximum and its start-up time.
pub fn cases(load: &Load, kind: Kind, base: Option<&Policy>, seed: u64) -> Vec<Case> {
    let is = &load.workload;
    let as_it_is =
        format!("promise {}, max {}, start-up {}", words::secs(is.drain_within), is.max, words::secs(is.start_up));
    let mut changed = vec![(as_it_is, is.clone())];
    let factors = [0.5, 2.0];
    if kind == Kind::Deadline {
        changed.extend(factors.map(|factor| {
            let drain_within = factor * is.drain_within;
            let workload = Workload { drain_within, ..is.clone() };
            (format!("promise {}", words::secs(drain_within)), workload)
        }));
    }
    changed.extend(factors.map(|factor| {
        let max = ((factor * f64::from(is.max)).ceil() as u32).max(1);
        (format!("max {max}"), Workload { max, ..is.clone() })
    }));
    changed.extend(factors.map(|factor| {
        let start_up = factor * is.start_up;
        (format!("start-up {}", words::secs(start_up)), Workload { start_up, ..is.clone() })
    }));
    let play = |(name, workload)| {
        let load = Load { workload, arrivals: load.arrivals.clone() };
        let outcome = run(&load, kind.rule(&load, base).as_mut(), seed);
        Case { name, outcome }
    };
    changed.into_iter().map(play).collect()
}

/// Returns one line per case; `late` is by the case's own promise.
pub fn table(cases: &[Case]) -> String {
    let head = ["what if", "late", "p50", "p99", "max", "worker-hours", "of today's", "peak"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let today_secs = cases.first().map_or(0.0, |case| case.outcome.worker_secs);
    rows.extend(cases.iter().map(|Case { name, outcome, .. }| {
        let share =
            if today_secs > 0.0 { format!("{:.2}", outcome.worker_secs / today_secs) } else { "–".to_owned() };
        vec![
            name.clone(),
            format!("{:.2} %", outcome.miss_share() * 100.0),
            words::secs(outcome.latency(0.5)),
            words::secs(outcome.latency(0.99)),
            words::secs(outcome.latency(1.0)),
            format!("{:.2}", outcome.worker_secs / 3600.0),
            share,
            outcome.peak.to_string(),
        ]
    }));
    table::markdown(&rows)
}

/// Returns the workers paid for over time as SVG, a panel for each case beside today's.
pub fn chart(cases: &[Case]) -> String {
    let n = cases.iter().map(|case| case.outcome.points.len()).max().unwrap_or(0);
    let moments: Vec<usize> = (0..n).collect();
    let paid =
        |case: &'_ Case, moment: &usize| case.outcome.points.get(*moment).map_or(0.0, |point| f64::from(point.paid));
    let figures: Vec<_> = cases.iter().map(|case| move |moment: &usize| paid(case, moment)).collect();
    let today = |place: usize| Line::new("workers today", "#999999", &figures[place]).dashed();
    let panels: Vec<_> = cases
        .iter()
        .zip(&figures)
        .map(|(case, figure)| Panel {
            label: &case.name,
            lines: vec![today(0), Line::new("workers", "#ff7f0e", figure)],
        })
        .collect();
    chart::svg(TITLE, &moments, |moment| *moment as f64 * f64::from(TICK_SECS), &panels, PANEL)
}

#[cfg(test)]
mod tests {
    use super::{super::workload::built_in, *};

    #[test]
    fn tighter_promise_costs_more_and_a_small_maximum_is_late() {
        let mut workload = built_in().remove(0);
        workload.max = 20;
        let cases = cases(&workload.draw(1), Kind::Deadline, None, 1);
        let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
        let expected = ["promise 15m, max 20, start-up 45s", "promise 7m30s", "promise 30m", "max 10", "max 40"];
        assert_eq!(names[..5], expected);
        let secs = |place: usize| cases[place].outcome.worker_secs;
        assert!(secs(2) < secs(0), "a looser promise costs less");
        assert!(cases[3].outcome.latency(1.0) > 1.5 * cases[0].outcome.latency(1.0), "half the workers take longer");
        let table = table(&cases);
        assert_eq!(table.lines().count(), 2 + cases.len(), "{table}");
        assert!(table.lines().nth(2).is_some_and(|today| today.contains("| 1.00 ")), "{table}");
        let chart = chart(&cases);
        assert!(chart.contains("promise 7m30s") && chart.matches("<polyline").count() == 2 * cases.len());
    }
}
