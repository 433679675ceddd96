//! All metrics of the scaler.

use crate::decision::Reason;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};
use service::metrics::{listed, text};
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
    /// Whether somebody holds the pool at a size.
    pub paused: Family<OfPool, Gauge>,
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
    /// One object's time in one slot, estimated.
    pub job: Family<OfPool, Fraction>,
    /// Objects arriving per second, estimated.
    pub arrivals: Family<OfPool, Fraction>,
    /// Time from request to first receive, estimated.
    pub start_up: Family<OfPool, Fraction>,
    /// Whether this scaler leads the pool.
    pub leading: Family<OfPool, Gauge>,
    /// Whether the database is healthy.
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
        let listing = &mut registry;
        listing.register("build", "The version that runs", Info::new(vec![("version", crate::cli::VERSION)]));
        let metrics = Self {
            decisions: listed(listing, "decisions", "Decisions made, by reason"),
            desired: listed(listing, "desired_workers", "Workers wanted"),
            paused: listed(listing, "paused", "1 while the pool is held at a size by hand"),
            workers: listed(listing, "workers", "Workers, by what they are doing"),
            messages: listed(listing, "queue_messages", "Messages by counter, as last read"),
            queue_readable: listed(listing, "queue_readable", "1 when the counters of all queues could be read"),
            queue_counted: listed(listing, "queue_counted", "1 when this queue's counters could be read"),
            oldest_age: listed(listing, "oldest_message_age_seconds", "Age of the oldest message that counts"),
            job: listed(listing, "job_seconds", "One object's time in one slot, estimated"),
            arrivals: listed(listing, "arrivals_per_second", "Objects arriving per second, estimated"),
            start_up: listed(listing, "start_up_seconds", "Time from request to first receive, estimated"),
            leading: listed(listing, "leading", "1 when this scaler leads the pool"),
            sink_healthy: listed(listing, "sink_healthy", "1 when the database is healthy"),
            failures: listed(listing, "failures", "Parts of ticks that failed"),
            started: listed(listing, "workers_started", "Workers started or asked for"),
            ended: listed(listing, "workers_ended", "Workers ended"),
            failed_starts: listed(listing, "failed_starts", "Starts in a row that never became a worker"),
            tick_duration: Family::new_with_constructor(|| {
                Histogram::new([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
            }),
            registry: Registry::default(),
        };
        listing.register("tick_duration_seconds", "How long a tick takes", metrics.tick_duration.clone());
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
        text(&self.registry)
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
