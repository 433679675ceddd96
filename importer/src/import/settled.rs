//! Where the path ends: an outcome, or a reason to wait.

use crate::{
    dataset::DatasetName,
    load::technique::Used,
    message::Record,
    outcome::{Outcome, Outside, Scope},
};
use std::time::Instant;
use tracing::{debug, info, info_span, warn};

/// An import that has to wait.
#[derive(Debug)]
pub struct Held {
    /// What is broken.
    pub outside: Outside,
    /// Why.
    pub error: anyhow::Error,
}

/// How a routed record was settled.
#[derive(Debug)]
pub struct Settled {
    /// What became of the object.
    pub outcome: Outcome,
    /// The ledger's row, where there is one.
    pub object_id: Option<i64>,
    /// The dataset; empty when none took it.
    pub dataset: DatasetName,
    /// This message's failure was forwarded before; it only needs deleting.
    pub already_forwarded: bool,
    /// Length of the object where it was read, in bytes.
    pub bytes: u64,
    /// How its rows were written, where they were.
    pub technique: Option<Used>,
}

impl Settled {
    /// Returns an outcome of a record whose object was not loaded.
    #[must_use]
    pub fn new(dataset: &DatasetName, object_id: Option<i64>, outcome: Outcome) -> Self {
        Self { outcome, object_id, dataset: dataset.clone(), already_forwarded: false, bytes: 0, technique: None }
    }

    /// Returns whether it failed for a cause that may not be its own.
    #[must_use]
    pub fn may_be_braked(&self) -> bool {
        !self.already_forwarded && matches!(&self.outcome, Outcome::Failed(failure) if failure.scope != Scope::Object)
    }

    /// Logs what became of a record in a span of its own.
    pub fn log_for(&self, record: &Record, started: Instant) {
        let pointer = &record.pointer;
        let span = info_span!("import", s3.bucket = pointer.bucket, s3.key = pointer.key);
        span.in_scope(|| self.log(started));
    }

    /// Logs what became of the record whose span this is.
    pub(super) fn log(&self, started: Instant) {
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let dataset: &str = &self.dataset;
        match &self.outcome {
            Outcome::Imported(counts) => info!(
                dataset,
                rows = counts.read,
                written = counts.written,
                merged = counts.merged,
                rejected = counts.rejected,
                duration_ms,
                "object imported"
            ),
            Outcome::AlreadyImported => info!(dataset, duration_ms, "object already imported"),
            Outcome::Superseded => info!(dataset, duration_ms, "object superseded by a newer version"),
            Outcome::Skipped(reason) => debug!(dataset, %reason, "object skipped"),
            Outcome::Gone => info!(dataset, duration_ms, "object is gone"),
            Outcome::Removed(rows) => info!(dataset, rows, duration_ms, "object's rows removed"),
            Outcome::Failed(failure) => {
                warn!(
                    dataset,
                    reason = <&str>::from(failure.reason),
                    error = failure.error,
                    duration_ms,
                    "object failed"
                );
            }
        }
    }
}
