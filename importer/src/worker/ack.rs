//! Deleting what is safe, in batches.

use super::InHand;
use crate::queue::{EntryError, Queue};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Mutex, mpsc};
use tracing::{debug, warn};

/// Entries of a batch delete: SQS's limit.
const BATCH: usize = 10;
/// How long a delete waits for company.
const LINGER: Duration = Duration::from_millis(20);
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

    /// Waits until everything handed over is deleted.
    pub async fn finish(&self) {
        self.sender.lock().await.take();
        if let Some(task) = self.task.lock().await.take() {
            let _ = task.await;
        }
    }
}

async fn delete_all(queue: Arc<dyn Queue>, in_hand: Arc<InHand>, mut receiver: mpsc::Receiver<String>) {
    let mut batch: Vec<String> = Vec::with_capacity(BATCH);
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
        delete(&*queue, &in_hand, std::mem::take(&mut batch)).await;
    }
}

async fn delete(queue: &dyn Queue, in_hand: &InHand, mut message_ids: Vec<String>) {
    for attempt in 1..=TRIES {
        // The newest handle, asked for at every try: a message may have been received again meanwhile.
        let (ids, handles): (Vec<String>, Vec<String>) =
            message_ids.into_iter().filter_map(|id| in_hand.handle(&id).map(|handle| (id, handle))).unzip();
        if ids.is_empty() {
            return;
        }
        let results = queue.delete(&handles).await;
        message_ids = Vec::new();
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::memory::MemoryQueue;

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
