//! The bars the deadline policy must clear on every built-in workload, over twenty seeds.

use super::{
    Outcome,
    optimum::{Optimum, optimum},
    rules::Kind,
    run,
    workload::{Workload, built_in},
};

/// How many seeds the bars are measured on.
pub const SEEDS: u64 = 20;

/// The share of late messages that a clairvoyant schedule would have had in time.
pub const MISS_SHARE: f64 = 0.005;

/// One workload's figures over the seeds: the worst of each, since a bar holds for every seed.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The workload.
    pub name: String,
    /// Largest share of messages missed beyond what could not be avoided.
    pub miss_share: f64,
    /// Largest 99th percentile of the time from sent to done, over the promised time.
    pub p99_share: f64,
    /// Worker time over the optimum's: mean and largest.
    pub cost: f64,
    /// The largest of the same.
    pub cost_worst: f64,
    /// Most workers.
    pub peak: u32,
    /// Most changes of direction an hour.
    pub turns_per_hour: f64,
    /// Jobs cut short, altogether.
    pub busy_kills: u64,
    /// Most false wakes a day.
    pub false_wakes: f64,
    /// Smallest share of what a saturated sink can take.
    pub sink_share: Option<f64>,
    /// Changes without an explanation, altogether.
    pub unexplained: u64,
    /// What foresight comes to where there is something to foresee.
    pub foresight: Option<Foresight>,
}

/// A run with foresight beside one without: the worst of the seeds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Foresight {
    /// The 99th percentile of the time from sent to done, over that without.
    pub p99: f64,
    /// Worker time over that without.
    pub cost: f64,
}

/// Returns the figures of a rule on a workload over some seeds.
pub fn measure(workload: &Workload, kind: Kind, seeds: impl IntoIterator<Item = u64>) -> Row {
    let mut row = Row { name: workload.name.clone(), ..Row::default() };
    let mut runs = 0.0;
    for seed in seeds {
        let load = workload.draw(seed);
        let outcome = run(&load, kind.rule(&load, None).as_mut(), seed);
        row.add(&outcome, &optimum(&load), load.workload.drain_within, load.workload.horizon);
        if workload.warm_up > 0.0 && workload.foresight > 0.0 {
            let mut load = load;
            load.workload.foresight = 0.0;
            let without = run(&load, kind.rule(&load, None).as_mut(), seed);
            let worst = row.foresight.get_or_insert_default();
            worst.p99 = worst.p99.max(outcome.latency(0.99) / without.latency(0.99).max(1.0));
            worst.cost = worst.cost.max(outcome.worker_secs / without.worker_secs.max(1.0));
        }
        runs += 1.0;
    }
    row.cost /= f64::max(runs, 1.0);
    row
}

impl Row {
    fn add(&mut self, outcome: &Outcome, optimum: &Optimum, promised: f64, horizon: f64) {
        let avoidable = outcome.misses.saturating_sub(optimum.misses) as f64 / outcome.messages.max(1) as f64;
        self.miss_share = self.miss_share.max(avoidable);
        self.p99_share = self.p99_share.max(outcome.latency(0.99) / promised);
        let cost = if optimum.worker_secs > 0.0 { outcome.worker_secs / optimum.worker_secs } else { 0.0 };
        self.cost += cost;
        self.cost_worst = self.cost_worst.max(cost);
        self.peak = self.peak.max(outcome.peak);
        self.turns_per_hour = self.turns_per_hour.max(outcome.turns_per_hour);
        self.busy_kills += outcome.busy_kills;
        self.false_wakes = self.false_wakes.max(outcome.false_wakes as f64 * 86_400.0 / horizon.max(86_400.0));
        self.sink_share = match (self.sink_share, outcome.sink_share) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.unexplained += outcome.unexplained;
    }

    /// Returns the bars this row misses, each with its number.
    pub fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        let mut bar = |holds: bool, text: String| {
            if !holds {
                missed.push(text);
            }
        };
        let (cost_bar, turns_bar) = bars_of(&self.name);
        bar(self.miss_share <= MISS_SHARE, format!("{:.2} % late, at most 0.5 %", self.miss_share * 100.0));
        bar(self.busy_kills == 0, format!("{} jobs cut short", self.busy_kills));
        bar(self.unexplained == 0, format!("{} changes unexplained", self.unexplained));
        if let Some(most) = cost_bar {
            bar(self.cost_worst <= most, format!("{:.2} × the optimum, at most {most}", self.cost_worst));
        }
        if let Some(most) = turns_bar {
            bar(self.turns_per_hour <= most, format!("{:.1} turns an hour, at most {most}", self.turns_per_hour));
        }
        if self.name == "empty-day" {
            bar(self.false_wakes <= 1.0, format!("{:.0} false wakes a day, at most 1", self.false_wakes));
        }
        if let Some(share) = self.sink_share {
            bar(share >= 0.9, format!("{:.0} % of what the sink takes, at least 90 %", share * 100.0));
        }
        if let Some(Foresight { p99, cost }) = self.foresight {
            bar(p99 <= 1.0 / 3.0, format!("p99 {p99:.2} of that without foresight, at most a third"));
            bar(cost <= 1.1, format!("{cost:.2} of the worker-hours without foresight, at most 1.1"));
        }
        missed
    }
}

/// Returns a workload's bars on cost and on changes of direction.
fn bars_of(name: &str) -> (Option<f64>, Option<f64>) {
    match name {
        "steady" => (Some(1.3), Some(4.0)),
        "ramp" => (None, Some(4.0)),
        "burst" => (Some(2.5), None),
        _ => (None, None),
    }
}

/// Measures the deadline policy on every built-in workload.
pub fn all(seeds: impl IntoIterator<Item = u64> + Clone) -> Vec<Row> {
    built_in().iter().map(|workload| measure(workload, Kind::Deadline, seeds.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_policy_clears_every_bar_on_twenty_seeds() {
        let rows = all(1..1 + SEEDS);
        let missed: Vec<_> =
            rows.iter().flat_map(|row| row.missed().into_iter().map(|bar| format!("{}: {bar}", row.name))).collect();
        assert!(missed.is_empty(), "{missed:#?}");
    }

    #[test]
    fn same_seed_gives_the_same_run() {
        let workload = &built_in()[5];
        let once = |seed| {
            let load = workload.draw(seed);
            let outcome = run(&load, Kind::Deadline.rule(&load, None).as_mut(), seed);
            (outcome.worker_secs, outcome.latencies, outcome.changes.len())
        };
        assert_eq!(once(7), once(7));
        assert_ne!(once(7), once(8));
    }

    #[test]
    fn rules_that_do_not_look_at_workers_cut_long_jobs_short() {
        let long = built_in().into_iter().find(|workload| workload.name == "long-jobs").expect("long-jobs");
        assert_eq!(measure(&long, Kind::Deadline, 1..=3).busy_kills, 0);
        assert!(measure(&long, Kind::Keda, 1..=3).busy_kills > 0);
    }
}
