//! All metrics of the scaler.

use crate::decision::Reason;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};
use std::sync::atomic::AtomicU64;

type Fraction = Gauge<f64, AtomicU64>;

/// A pool.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfPool {
    /// Its name.
    pub pool: String,
}

/// A decision's reason.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfReason {
    /// The pool.
    pub pool: String,
    /// The reason's word.
    pub reason: &'static str,
}

/// What workers do, or messages are.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfState {
    /// The pool.
    pub pool: String,
    /// The state's word.
    pub state: &'static str,
}

/// A queue of a pool.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfQueue {
    /// The pool.
    pub pool: String,
    /// The queue's URL.
    pub queue: String,
}

/// A part of a tick.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfPart {
    /// The pool.
    pub pool: String,
    /// One of [`PARTS`].
    pub part: &'static str,
}

/// The parts of a tick that can fail, and the tick as a whole.
pub const PARTS: [&str; 5] = ["leader", "queue", "database", "pool", "tick"];

/// The metrics, shared by all pools' loops.
pub struct Metrics {
    registry: Registry,
    /// Decisions made, by reason.
    pub decisions: Family<OfReason, Counter>,
    /// Workers wanted.
    pub desired: Family<OfPool, Gauge>,
    /// Workers, by what they are doing.
    pub workers: Family<OfState, Gauge>,
    /// Messages by their counter, as last read.
    pub messages: Family<OfState, Gauge>,
    /// Whether the counters of all queues could be read at the last tick.
    pub queue_readable: Family<OfPool, Gauge>,
    /// Whether a queue's counters could be read at the last tick.
    pub queue_counted: Family<OfQueue, Gauge>,
    /// Age of the oldest message that counts.
    pub oldest_age: Family<OfPool, Fraction>,
    /// One object's time in one slot, as believed.
    pub job: Family<OfPool, Fraction>,
    /// Objects arriving per second, as believed.
    pub arrivals: Family<OfPool, Fraction>,
    /// Time from request to first receive, as believed.
    pub start_up: Family<OfPool, Fraction>,
    /// Whether this scaler leads the pool.
    pub leading: Family<OfPool, Gauge>,
    /// Whether the database is well.
    pub sink_healthy: Family<OfPool, Gauge>,
    /// Parts of ticks that failed.
    pub failures: Family<OfPart, Counter>,
    /// Workers started.
    pub started: Family<OfPool, Counter>,
    /// Workers ended.
    pub ended: Family<OfPool, Counter>,
    /// Starts in a row that never became a worker.
    pub failed_starts: Family<OfPool, Gauge>,
    /// How long a tick takes.
    pub tick_duration: Family<OfPool, Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("scaler");
        let metrics = Self {
            decisions: Family::default(),
            desired: Family::default(),
            workers: Family::default(),
            messages: Family::default(),
            queue_readable: Family::default(),
            queue_counted: Family::default(),
            oldest_age: Family::default(),
            job: Family::default(),
            arrivals: Family::default(),
            start_up: Family::default(),
            leading: Family::default(),
            sink_healthy: Family::default(),
            failures: Family::default(),
            started: Family::default(),
            ended: Family::default(),
            failed_starts: Family::default(),
            tick_duration: Family::new_with_constructor(|| {
                Histogram::new([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
            }),
            registry: Registry::default(),
        };
        registry.register("build", "The version that runs", Info::new(vec![("version", crate::cli::VERSION)]));
        registry.register("decisions", "Decisions made, by reason", metrics.decisions.clone());
        registry.register("desired_workers", "Workers wanted", metrics.desired.clone());
        registry.register("workers", "Workers, by what they are doing", metrics.workers.clone());
        registry.register("queue_messages", "Messages by counter, as last read", metrics.messages.clone());
        registry.register(
            "queue_readable",
            "1 when the counters of all queues could be read",
            metrics.queue_readable.clone(),
        );
        registry.register("queue_counted", "1 when this queue's could", metrics.queue_counted.clone());
        registry.register(
            "oldest_message_age_seconds",
            "Age of the oldest message that counts",
            metrics.oldest_age.clone(),
        );
        registry.register("job_seconds", "One object's time in one slot, as believed", metrics.job.clone());
        registry.register("arrivals_per_second", "Objects arriving per second, as believed", metrics.arrivals.clone());
        registry.register(
            "start_up_seconds",
            "Time from request to first receive, as believed",
            metrics.start_up.clone(),
        );
        registry.register("leading", "1 when this scaler leads the pool", metrics.leading.clone());
        registry.register("sink_healthy", "1 when the database is well", metrics.sink_healthy.clone());
        registry.register("failures", "Parts of ticks that failed", metrics.failures.clone());
        registry.register("workers_started", "Workers started or asked for", metrics.started.clone());
        registry.register("workers_ended", "Workers told to go", metrics.ended.clone());
        registry.register("failed_starts", "Starts in a row that never became a worker", metrics.failed_starts.clone());
        registry.register("tick_duration_seconds", "How long a tick takes", metrics.tick_duration.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Lists a pool's counters at zero, so that an increase is seen from the first one on.
    pub fn announce(&self, pool: &str) {
        let pool = pool.to_owned();
        for reason in Reason::ALL {
            drop(self.decisions.get_or_create(&OfReason { pool: pool.clone(), reason: reason.as_str() }));
        }
        for part in PARTS {
            drop(self.failures.get_or_create(&OfPart { pool: pool.clone(), part }));
        }
        let of_pool = OfPool { pool };
        drop(self.started.get_or_create(&of_pool));
        drop(self.ended.get_or_create(&of_pool));
    }

    /// Returns all metrics as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_a_pool_are_listed_before_they_count() {
        let metrics = Metrics::default();
        metrics.announce("p");
        let text = metrics.text();
        for line in [
            "scaler_decisions_total{pool=\"p\",reason=\"no_progress\"} 0",
            "scaler_failures_total{pool=\"p\",part=\"pool\"} 0",
            "scaler_workers_started_total{pool=\"p\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn metrics_have_their_documented_names() {
        let metrics = Metrics::default();
        metrics.decisions.get_or_create(&OfReason { pool: "p".to_owned(), reason: "wake" }).inc();
        metrics.desired.get_or_create(&OfPool { pool: "p".to_owned() }).set(3);
        let text = metrics.text();
        for line in [
            "scaler_decisions_total{pool=\"p\",reason=\"wake\"} 1",
            "scaler_desired_workers{pool=\"p\"} 3",
            "scaler_build_info{version=",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
