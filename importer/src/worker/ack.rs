//! Deleting what is safe, in batches.

use super::{BATCH, in_hand::InHand};
use crate::queue::{EntryError, Queue};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tracing::{debug, warn};

/// How long a delete waits for company.
const LINGER: Duration = Duration::from_millis(20);
/// Batches on their way at once: one without an answer does not keep the others waiting.
const BATCHES_AT_ONCE: usize = 8;
/// Times a failed delete is tried; after that the message comes back and is recognised.
const TRIES: u32 = 5;

/// Deletes messages in the background.
pub struct Acker {
    sender: Mutex<Option<mpsc::Sender<String>>>,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Acker {
    /// Starts the background task.
    #[must_use]
    pub fn start(queue: Arc<dyn Queue>, in_hand: Arc<InHand>) -> Self {
        let (sender, receiver) = mpsc::channel(1000);
        let task = tokio::spawn(delete_all(queue, in_hand, receiver));
        Self { sender: Mutex::new(Some(sender)), task: Mutex::new(Some(task)) }
    }

    /// Hands over a message that is safe to delete; it stays in hand, and extended, until it is deleted.
    pub async fn delete(&self, message_id: &str) {
        let sender = self.sender.lock().await.clone();
        if let Some(sender) = sender {
            let _ = sender.send(message_id.to_owned()).await;
        }
    }

    /// Waits until everything handed over is deleted, or `end`; what is not deleted by then stays in hand.
    pub async fn finish(&self, end: Instant) {
        self.sender.lock().await.take();
        if let Some(mut task) = self.task.lock().await.take()
            && timeout_at(end, &mut task).await.is_err()
        {
            warn!("the queue does not answer deletes; what is not deleted will come back and be recognised");
            task.abort();
        }
    }
}

async fn delete_all(queue: Arc<dyn Queue>, in_hand: Arc<InHand>, mut receiver: mpsc::Receiver<String>) {
    let mut batch: Vec<String> = Vec::with_capacity(BATCH);
    let mut deleting = JoinSet::new();
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        if batch.len() < BATCH && !receiver.is_closed() {
            tokio::time::sleep(LINGER).await;
            while batch.len() < BATCH {
                match receiver.try_recv() {
                    Ok(message_id) => batch.push(message_id),
                    Err(_) => break,
                }
            }
        }
        while deleting.try_join_next().is_some() {}
        if deleting.len() == BATCHES_AT_ONCE {
            deleting.join_next().await;
        }
        let (queue, in_hand, batch) = (Arc::clone(&queue), Arc::clone(&in_hand), std::mem::take(&mut batch));
        deleting.spawn(async move { delete(&*queue, &in_hand, batch).await });
    }
    while deleting.join_next().await.is_some() {}
}

async fn delete(queue: &dyn Queue, in_hand: &InHand, mut message_ids: Vec<String>) {
    for attempt in 1..=TRIES {
        // The newest handle, asked for at every try: a message may have been received again meanwhile.
        let (ids, handles): (Vec<String>, Vec<String>) = std::mem::take(&mut message_ids)
            .into_iter()
            .filter_map(|id| in_hand.handle(&id).map(|handle| (id, handle)))
            .unzip();
        if ids.is_empty() {
            break;
        }
        let results = queue.delete(&handles).await;
        let failure = results.iter().find_map(|result| match result {
            Err(EntryError::Failed(error)) => Some(error.clone()),
            _ => None,
        });
        in_hand.note("message delete", failure.as_deref().map_or(Ok(()), Err));
        for ((result, id), handle) in results.into_iter().zip(ids).zip(&handles) {
            match result {
                // Received again while it was being deleted: what was said of the older handle says nothing of
                // this receive, and dropped it would only come back once more.
                Ok(()) | Err(EntryError::Stale) if !in_hand.drop_deleted(&id, handle) => message_ids.push(id),
                Ok(()) => {}
                Err(EntryError::Stale) => debug!(
                    sqs.message_id = id,
                    "delete with a stale handle; if the message comes back it is recognised"
                ),
                Err(EntryError::Failed(error)) => {
                    debug!(sqs.message_id = id, error, attempt, "delete failed");
                    message_ids.push(id);
                }
            }
        }
        if !message_ids.is_empty() {
            tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
        }
    }
    if !message_ids.is_empty() {
        warn!(messages = message_ids.len(), "could not delete messages; they will come back and be recognised");
        for id in message_ids {
            in_hand.drop_message(&id);
        }
    }
    // No answer is awaited any more, and there may not be another delete to say that the queue answers.
    in_hand.note("message delete", Ok(()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Message, QueueDepth, memory::MemoryQueue};
    use futures_util::future::{BoxFuture, pending};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// A queue whose first deletes are never answered, or that fails all calls for messages in hand.
    struct Silent {
        queue: MemoryQueue,
        n_silent: AtomicUsize,
        fails: AtomicBool,
    }

    impl Silent {
        fn new(n_silent: usize) -> Self {
            Self {
                queue: MemoryQueue::new(Duration::from_secs(60)),
                n_silent: AtomicUsize::new(n_silent),
                fails: AtomicBool::new(false),
            }
        }
    }

    impl Queue for Silent {
        fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, anyhow::Result<Vec<Message>>> {
            self.queue.receive(max, wait)
        }

        fn extend<'a>(
            &'a self,
            handles: &'a [String],
            timeout: Duration,
        ) -> BoxFuture<'a, Vec<Result<(), EntryError>>> {
            if self.fails.load(Ordering::SeqCst) {
                return failed(handles);
            }
            self.queue.extend(handles, timeout)
        }

        fn delete<'a>(&'a self, handles: &'a [String]) -> BoxFuture<'a, Vec<Result<(), EntryError>>> {
            if self.fails.load(Ordering::SeqCst) {
                return failed(handles);
            }
            let one_less = |n: usize| n.checked_sub(1);
            match self.n_silent.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
                Ok(_) => Box::pin(pending()),
                Err(_) => self.queue.delete(handles),
            }
        }

        fn has_dead_letter_queue(&self) -> bool {
            false
        }

        fn forward<'a>(
            &'a self,
            body: &'a str,
            attributes: &'a [(&'a str, String)],
        ) -> BoxFuture<'a, anyhow::Result<()>> {
            self.queue.forward(body, attributes)
        }

        fn depth(&self) -> BoxFuture<'_, anyhow::Result<QueueDepth>> {
            self.queue.depth()
        }
    }

    fn failed(handles: &[String]) -> BoxFuture<'_, Vec<Result<(), EntryError>>> {
        Box::pin(async { handles.iter().map(|_| Err(EntryError::Failed("timed out".into()))).collect() })
    }

    async fn received(queue: &Silent, in_hand: &InHand, ids: &[&str]) {
        ids.iter().for_each(|id| queue.queue.send(id, "body"));
        for message in queue.receive(10, Duration::ZERO).await.expect("memory") {
            assert!(in_hand.take(&message));
        }
    }

    #[tokio::test]
    async fn a_delete_without_an_answer_does_not_keep_others_waiting_nor_the_end() {
        let (queue, in_hand) = (Arc::new(Silent::new(1)), Arc::new(InHand::default()));
        received(&queue, &in_hand, &["silent", "other"]).await;
        let acker = Acker::start(Arc::clone(&queue) as Arc<dyn Queue>, Arc::clone(&in_hand));
        acker.delete("silent").await;
        // Longer than a batch waits for company.
        tokio::time::sleep(10 * LINGER).await;
        acker.delete("other").await;
        tokio::time::sleep(10 * LINGER).await;
        assert_eq!(in_hand.handle("other"), None, "it is deleted");
        acker.finish(Instant::now() + LINGER).await;
        assert!(in_hand.handle("silent").is_some(), "it stays in hand");
    }

    #[tokio::test]
    async fn readiness_says_that_extensions_or_deletes_are_not_answered_and_when_they_are_again() {
        let health = Arc::new(service::http::Health::default());
        let (queue, in_hand) = (Arc::new(Silent::new(0)), Arc::new(InHand::new(Arc::clone(&health))));
        received(&queue, &in_hand, &["first", "second"]).await;
        queue.fails.store(true, Ordering::SeqCst);
        let timeout = Duration::from_millis(300);
        tokio::spawn(crate::worker::in_hand::keep(Arc::clone(&queue) as _, Arc::clone(&in_hand), timeout));
        let acker = Acker::start(Arc::clone(&queue) as _, Arc::clone(&in_hand));
        acker.delete("first").await;
        let wait_for = async |missing: &str| {
            while health.missing() != missing {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let both = "message delete: not answered: timed out\nvisibility extension: not answered: timed out\n";
        tokio::time::timeout(Duration::from_secs(30), wait_for(both)).await.expect("said");
        queue.fails.store(false, Ordering::SeqCst);
        tokio::time::timeout(Duration::from_secs(30), wait_for("")).await.expect("taken back");
    }

    #[tokio::test]
    async fn a_delete_that_was_given_up_keeps_nobody_from_being_ready() {
        let health = Arc::new(service::http::Health::default());
        let (queue, in_hand) = (Silent::new(0), InHand::new(Arc::clone(&health)));
        queue.fails.store(true, Ordering::SeqCst);
        queue.queue.send("m", "body");
        for message in queue.receive(1, Duration::ZERO).await.expect("memory") {
            in_hand.take(&message);
        }
        delete(&queue, &in_hand, vec!["m".into()]).await;
        assert!(in_hand.is_empty(), "it comes back");
        assert_eq!(health.missing(), "");
    }

    #[tokio::test]
    async fn a_message_received_again_while_it_is_deleted_is_deleted_by_its_newer_handle() {
        let queue = Arc::new(MemoryQueue::new(Duration::from_secs(60)));
        queue.send("m", "body");
        let in_hand = Arc::new(InHand::default());
        let first = queue.receive(1, Duration::ZERO).await.expect("memory").remove(0);
        assert!(in_hand.take(&first));
        // It lapsed and was received again, and the worker learns of that only after the delete was sent.
        assert_eq!(queue.extend(std::slice::from_ref(&first.receipt_handle), Duration::ZERO).await, [Ok(())]);
        let again = queue.receive(1, Duration::ZERO).await.expect("memory").remove(0);
        let results = queue.delete(std::slice::from_ref(&first.receipt_handle)).await;
        assert_eq!(results, [Err(EntryError::Stale)]);
        assert!(!in_hand.take(&again));
        assert!(!in_hand.drop_deleted("m", &first.receipt_handle), "it is ours by the newer handle");

        delete(&*queue, &in_hand, vec!["m".into()]).await;
        assert!(in_hand.is_empty());
        assert!(queue.depth().await.expect("memory").is_empty());
    }
}
