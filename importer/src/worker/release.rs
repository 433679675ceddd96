//! Giving messages back to the queue: at once, or hidden for as long as their dataset has to wait.

use super::{Worker, waits::park_period};
use crate::{
    dataset::DatasetName,
    queue::{EntryError, Message},
    route::Class,
};
use std::time::Duration;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::debug;

/// How long giving messages back may take while others wait for it; what is not given back comes back by itself.
const RELEASE_LIMIT: Duration = Duration::from_secs(10);
/// Messages of one dataset that may wait in hand for their dataset to recover. More of them are given back to the queue,
/// hidden, and cost a receive; with fewer that happens sooner.
const MAX_WAITING: usize = 200;

/// A message to be given back, at once or, where records of a dataset have to wait, hidden until that is over.
pub(super) struct Leftover {
    pub message_id: String,
    pub receive_count: u32,
    pub parked: Option<DatasetName>,
}

impl Worker {
    /// Gives back the messages of tasks that ended without settling them.
    pub(super) async fn release_ended(&self, tasks: &mut JoinSet<Option<Leftover>>) {
        let mut unsettled = Vec::new();
        while let Some(ended) = tasks.try_join_next() {
            unsettled.extend(ended.ok().flatten());
        }
        let _ = timeout(RELEASE_LIMIT, self.give_back(unsettled)).await;
    }

    /// Gives messages back; returns whether the queue answers.
    pub(super) async fn give_back(&self, messages: Vec<Leftover>) -> bool {
        let mut at_once = Vec::new();
        let mut hidden: Vec<(Duration, DatasetName, String)> = Vec::new();
        for Leftover { message_id, receive_count, parked } in messages {
            let Some(handle) = self.in_hand.drop_message(&message_id) else { continue };
            match parked {
                Some(dataset) => hidden.push((park_period(receive_count), dataset, handle)),
                None => at_once.push(handle),
            }
        }
        hidden.sort_by_key(|(period, ..)| *period);
        for together in hidden.chunk_by(|(one, ..), (other, ..)| one == other) {
            let period = together[0].0;
            let handles: Vec<String> = together.iter().map(|(.., handle)| handle.clone()).collect();
            debug!(
                messages = handles.len(),
                hidden_secs = period.as_secs(),
                "too many waiting messages; returned to the queue"
            );
            // Noted first, so that a stop in the middle knows them: to release one that is not hidden does no harm.
            for (_, dataset, handle) in together {
                self.parked.add(dataset, handle.clone(), Instant::now() + period);
            }
            self.queue.extend(&handles, period).await;
        }
        self.release(&at_once).await
    }

    /// Makes messages visible that were parked for a dataset which has something settled, as far as there is room.
    pub(super) async fn unpark(&self, class: &Class) {
        if self.parked.is_empty() || self.brakes.is_closed(class) {
            return;
        }
        if self.waits.n_waiting_of(&class.dataset, &self.turns.stalled()) < MAX_WAITING / 2 {
            let handles = self.parked.take(&class.dataset, MAX_WAITING, Instant::now());
            let _ = timeout(RELEASE_LIMIT, self.release(&handles)).await;
        }
    }

    /// Returns whether another message of a dataset that has to wait is one too many.
    pub(super) fn is_crowded(&self, dataset: &DatasetName) -> bool {
        let n_waiting = self.waits.n_waiting_of(dataset, &self.turns.stalled());
        n_waiting >= MAX_WAITING || (n_waiting > 1 && self.in_hand.is_filling())
    }

    /// Gives back messages that came with the last answer; those already in hand only have a newer handle now.
    pub(super) async fn release_unbegun(&self, messages: &[Message]) {
        let unbegun = messages.iter().filter(|m| self.in_hand.take(m));
        let handles: Vec<String> = unbegun.filter_map(|m| self.in_hand.drop_message(&m.message_id)).collect();
        self.release(&handles).await;
    }

    /// Makes messages visible to others at once; returns whether the queue answers.
    pub(super) async fn release(&self, handles: &[String]) -> bool {
        if handles.is_empty() {
            return true;
        }
        let mut answers = true;
        for (result, handle) in self.queue.extend(handles, Duration::ZERO).await.iter().zip(handles) {
            match result {
                Ok(()) => {
                    self.metrics.messages_released.inc();
                }
                Err(error) => {
                    answers &= matches!(error, EntryError::Stale);
                    debug!(error = error.to_string(), handle, "message not given back");
                }
            }
        }
        answers
    }
}
