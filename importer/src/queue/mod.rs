//! The queue: what the worker asks of SQS.

pub mod memory;
pub mod settings;
pub mod sqs;

use crate::message::Delivery;
use futures_util::future::BoxFuture;
use std::time::Duration;

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The queue's id of the message, the same at every receive.
    pub message_id: String,
    /// The right to extend and delete it; only the newest receive's is sure to work.
    pub receipt_handle: String,
    /// The body.
    pub body: String,
    /// How often it was received, this time included.
    pub receive_count: u32,
    /// When it came.
    pub delivery: Delivery,
    /// `penstock-reason`, on messages of a dead-letter queue that were forwarded by an importer.
    pub reason: Option<String>,
}

/// The three depths of a queue; SQS's are approximate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// Messages that can be received.
    pub visible: u64,
    /// Messages received and not yet deleted.
    pub in_flight: u64,
    /// Messages that become visible later.
    pub delayed: u64,
}

impl QueueDepth {
    /// Returns whether nothing is left in the queue.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.visible == 0 && self.in_flight == 0 && self.delayed == 0
    }
}

/// Why one entry of a batch was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The receipt handle is no longer good: the message is gone, or another consumer's by now.
    #[error("receipt handle is stale")]
    Stale,
    /// Not done this time.
    #[error("{0}")]
    Failed(String),
}

/// The queue will never take the message: it is too long, or holds what the queue does not accept. In the chain
/// of what [`Queue::forward`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue does not take the message")]
pub struct Refused;

/// What a worker needs of a queue. SQS and the in-memory twin keep the same contract.
pub trait Queue: Send + Sync {
    /// Waits up to `wait` for messages and returns at most `max` (1 to 10) of them, hidden from others for the visibility timeout.
    fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, anyhow::Result<Vec<Message>>>;

    /// Sets how long each message stays hidden from now; zero gives it back. One result an entry, in order; an empty list does nothing.
    fn extend<'a>(&'a self, handles: &'a [String], timeout: Duration) -> BoxFuture<'a, Vec<Result<(), EntryError>>>;

    /// Deletes messages. One result an entry, in order; an empty list does nothing.
    fn delete<'a>(&'a self, handles: &'a [String]) -> BoxFuture<'a, Vec<Result<(), EntryError>>>;

    /// Returns whether there is a dead-letter queue to forward to.
    fn has_dead_letter_queue(&self) -> bool;

    /// Sends a body with message attributes (name, text) to the dead-letter queue. `Ok` means it is stored there;
    /// with [`Refused`] in the error's chain, trying again is in vain.
    fn forward<'a>(&'a self, body: &'a str, attributes: &'a [(&'a str, String)]) -> BoxFuture<'a, anyhow::Result<()>>;

    /// Returns the queue's depth.
    fn depth(&self) -> BoxFuture<'_, anyhow::Result<QueueDepth>>;
}
