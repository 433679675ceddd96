//! What a worker counts of the objects it settles.

use super::Worker;
use crate::{import::Settled, outcome::Outcome};
use std::{sync::atomic::Ordering, time::Duration};

impl Worker {
    /// Notes how long an object took, and what became of it unless that is to be seen.
    pub(super) fn measured(&self, settled: &Settled, duration: Duration) {
        self.in_hand.intake.measured(duration);
        self.turns.measured(&settled.dataset, duration);
        // What may be tried again is counted when it is not.
        if !settled.may_be_braked() {
            self.count(settled, duration);
        }
    }

    /// Counts what became of an object.
    pub(super) fn count(&self, settled: &Settled, duration: Duration) {
        self.committed.notify_one();
        let Settled { outcome, dataset, technique, bytes, .. } = settled;
        match outcome {
            Outcome::Imported(counts) => {
                let technique = technique.map_or("", <&str>::from);
                self.metrics.count_imported(dataset, technique, counts, *bytes, duration);
            }
            other => self.metrics.count_finished(dataset, <&str>::from(other)),
        }
    }
}

/// Counts a busy slot for as long as it lives, also when its task is aborted.
pub(super) struct Busy<'a>(&'a Worker);

impl<'a> Busy<'a> {
    pub fn new(worker: &'a Worker) -> Self {
        worker.progress.busy.fetch_add(1, Ordering::Relaxed);
        worker.metrics.objects_in_progress.inc();
        Self(worker)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.progress.busy.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.objects_in_progress.dec();
    }
}
