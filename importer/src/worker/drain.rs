//! Draining: what runs is finished, what is left is given back, and all of it within the time a stop has.

use super::{BATCH, Worker, release::Leftover};
use std::{sync::atomic::Ordering, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// What a stop keeps of its time for the last deletes and for giving messages back, at most and at least.
const LAST_CALLS: Duration = Duration::from_secs(5);
const LEAST_LAST_CALLS: Duration = Duration::from_millis(500);

impl Worker {
    /// Finishes what runs and gives back the rest. Returns whether everything in hand was settled.
    pub(super) async fn drain(&self, mut tasks: JoinSet<Option<Leftover>>) -> bool {
        self.progress.draining.store(true, Ordering::Relaxed);
        if !tasks.is_empty() {
            info!(messages = tasks.len(), "draining");
        }
        let drained = self.finish_tasks(&mut tasks).await;
        if !drained {
            warn!(messages = tasks.len(), "drain timeout; returning remaining messages to the queue");
        }
        tasks.shutdown().await;
        // A queue that is silent does not keep the stop from its end.
        let (now, end) = (Instant::now(), self.end_of_last_calls());
        self.acker.finish(now + (end - now) / 2).await;
        // No other worker could make those visible that are parked.
        let left = [self.in_hand.take_all(), self.parked.take_all(now)].concat();
        if timeout_at(end, self.release(&left)).await.is_err() {
            warn!("the queue does not answer: the rest comes back after its visibility timeout");
        }
        self.surroundings.guard.work_ended();
        drained
    }

    /// Finishes what is in hand, and gives back at once, in batches, what was not started.
    ///
    /// Returns false when the drain has taken as long as it may. Only waiting ends by that: a release given up
    /// halfway would leave its messages hidden, and out of our hands, for a visibility timeout.
    async fn finish_tasks(&self, tasks: &mut JoinSet<Option<Leftover>>) -> bool {
        let end = self.drain_timeout();
        tokio::pin!(end);
        let mut queue_answers = true;
        loop {
            let ended = tokio::select! {
                biased;
                ended = tasks.join_next() => ended,
                () = &mut end => return false,
            };
            let Some(ended) = ended else { return true };
            let mut unbegun: Vec<Leftover> = ended.ok().flatten().into_iter().collect();
            while unbegun.len() < BATCH
                && let Some(ended) = tasks.try_join_next()
            {
                unbegun.extend(ended.ok().flatten());
            }
            // One that does not answer is asked once more at the end, not for every ten messages.
            if queue_answers {
                queue_answers = self.give_back(unbegun).await;
            }
        }
    }

    /// Returns once the worker is stopped.
    pub(super) async fn stopped(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        self.stopped_at.get_or_init(Instant::now);
    }

    /// Returns when a stop has to be over; of a worker that ended by itself, counted from now.
    #[must_use]
    pub fn end_of_stop(&self) -> Instant {
        self.ends_of_stop().1
    }

    /// Returns until when the queue may be called once the drain is over: some calls are always made.
    pub(super) fn end_of_last_calls(&self) -> Instant {
        self.end_of_stop().max(Instant::now() + LEAST_LAST_CALLS)
    }

    /// Returns until when a stop may finish what runs, and when it has to be over.
    fn ends_of_stop(&self) -> (Instant, Instant) {
        let drain_timeout = Duration::from_secs(self.config.worker.drain_timeout_secs.into());
        let end = *self.stopped_at.get_or_init(Instant::now) + drain_timeout;
        let drained = end - (drain_timeout / 4).min(LAST_CALLS);
        match *self.surroundings.end_by.borrow() {
            // That leaves time to give back what is left.
            Some(end_by) => (drained.min(end_by), end.min(end_by + LAST_CALLS)),
            None => (drained, end),
        }
    }

    /// Returns when a drain has taken as long as it may.
    async fn drain_timeout(&self) {
        let mut end_by = self.surroundings.end_by.subscribe();
        loop {
            end_by.borrow_and_update();
            let (end, _) = self.ends_of_stop();
            tokio::select! {
                () = sleep_until(end) => return,
                changed = end_by.changed() => if changed.is_err() { return sleep_until(end).await },
            }
        }
    }
}
