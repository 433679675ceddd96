//! The in-memory twin of a queue, for unit tests. Time is tokio's, so a paused clock drives it.

use super::{EntryError, Message, Queue, QueueDepth};
use crate::message::Delivery;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use tokio::time::Instant;

/// [`Queue`] in memory.
pub struct MemoryQueue {
    state: Mutex<State>,
    visibility_timeout: Duration,
    max_bytes: usize,
    /// This many calls to extend messages fail first.
    failing_extensions: AtomicUsize,
    /// This many calls to extend messages are slow first.
    slow_extensions: AtomicUsize,
    /// This many receives are never answered.
    silent_receives: AtomicUsize,
}

/// A message's body and attributes together, at most: SQS's limit.
const MAX_BYTES: usize = 262_144;

#[derive(Default)]
struct State {
    messages: Vec<Stored>,
    dead_letters: Vec<(String, Vec<(String, String)>)>,
    n_handles: u64,
}

struct Stored {
    message: Message,
    hidden_until: Option<Instant>,
}

impl MemoryQueue {
    /// Returns an empty queue.
    #[must_use]
    pub fn new(visibility_timeout: Duration) -> Self {
        Self {
            state: Mutex::default(),
            visibility_timeout,
            max_bytes: MAX_BYTES,
            failing_extensions: AtomicUsize::new(0),
            slow_extensions: AtomicUsize::new(0),
            silent_receives: AtomicUsize::new(0),
        }
    }

    /// Lets this many calls to extend messages fail, and those after them work.
    #[must_use]
    pub fn with_failing_extensions(self, n_calls: usize) -> Self {
        Self { failing_extensions: AtomicUsize::new(n_calls), ..self }
    }

    /// Lets this many calls to extend messages take effect after 200 ms, and those after them at once.
    #[must_use]
    pub fn with_slow_extensions(self, n_calls: usize) -> Self {
        Self { slow_extensions: AtomicUsize::new(n_calls), ..self }
    }

    /// Lets this many receives never be answered, and those after them work.
    #[must_use]
    pub fn with_silent_receives(self, n_calls: usize) -> Self {
        Self { silent_receives: AtomicUsize::new(n_calls), ..self }
    }

    /// Lets messages of its dead-letter queue be this long at most, attributes included.
    #[must_use]
    pub fn with_max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    /// Sends a message.
    pub fn send(&self, message_id: &str, body: &str) {
        let message = Message {
            message_id: message_id.to_owned(),
            receipt_handle: String::new(),
            body: body.to_owned(),
            receive_count: 0,
            delivery: Delivery::default(),
            reason: None,
        };
        self.state.lock().messages.push(Stored { message, hidden_until: None });
    }

    /// Returns what was forwarded: body and attributes.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<(String, Vec<(String, String)>)> {
        self.state.lock().dead_letters.clone()
    }

    fn take(&self, max: usize) -> Vec<Message> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let State { messages, n_handles, .. } = &mut *state;
        let visible = messages.iter_mut().filter(|stored| stored.hidden_until.is_none_or(|until| until <= now));
        visible
            .take(max)
            .map(|stored| {
                *n_handles += 1;
                stored.hidden_until = Some(now + self.visibility_timeout);
                stored.message.receive_count += 1;
                stored.message.receipt_handle = format!("handle-{n_handles}");
                stored.message.clone()
            })
            .collect()
    }
}

impl Queue for MemoryQueue {
    fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, anyhow::Result<Vec<Message>>> {
        Box::pin(async move {
            if is_one_of(&self.silent_receives) {
                std::future::pending::<()>().await;
            }
            let until = Instant::now() + wait;
            loop {
                let taken = self.take(max);
                if !taken.is_empty() || Instant::now() >= until {
                    return Ok(taken);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }

    fn extend<'a>(&'a self, handles: &'a [String], timeout: Duration) -> BoxFuture<'a, Vec<Result<(), EntryError>>> {
        Box::pin(async move {
            if is_one_of(&self.failing_extensions) {
                return handles.iter().map(|_| Err(EntryError::Failed("slow down".to_owned()))).collect();
            }
            if !handles.is_empty() && is_one_of(&self.slow_extensions) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            let now = Instant::now();
            let mut state = self.state.lock();
            let mut extend = |handle: &String| {
                let found = state.messages.iter_mut().find(|stored| stored.message.receipt_handle == *handle);
                let stored = found.filter(|s| s.hidden_until.is_some_and(|until| until > now));
                stored.ok_or(EntryError::Stale)?.hidden_until = Some(now + timeout);
                Ok(())
            };
            handles.iter().map(&mut extend).collect()
        })
    }

    fn delete<'a>(&'a self, handles: &'a [String]) -> BoxFuture<'a, Vec<Result<(), EntryError>>> {
        Box::pin(async move {
            let mut state = self.state.lock();
            let mut delete = |handle: &String| {
                let place = state.messages.iter().position(|stored| stored.message.receipt_handle == *handle);
                state.messages.remove(place.ok_or(EntryError::Stale)?);
                Ok(())
            };
            handles.iter().map(&mut delete).collect()
        })
    }

    fn has_dead_letter_queue(&self) -> bool {
        true
    }

    fn forward<'a>(&'a self, body: &'a str, attributes: &'a [(&'a str, String)]) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async move {
            let texts = attributes.iter().map(|(name, text)| name.len() + text.len() + "String".len());
            if body.len() + texts.sum::<usize>() > self.max_bytes {
                return Err(super::Refused.into());
            }
            let attributes = attributes.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
            self.state.lock().dead_letters.push((body.to_owned(), attributes));
            Ok(())
        })
    }

    fn depth(&self) -> BoxFuture<'_, anyhow::Result<QueueDepth>> {
        Box::pin(async move {
            let now = Instant::now();
            let state = self.state.lock();
            let hidden = |stored: &&Stored| stored.hidden_until.is_some_and(|until| until > now);
            let in_flight = state.messages.iter().filter(hidden).count() as u64;
            Ok(QueueDepth { visible: state.messages.len() as u64 - in_flight, in_flight, delayed: 0 })
        })
    }
}

/// Counts a call; true for as many calls as were left.
fn is_one_of(n_left: &AtomicUsize) -> bool {
    n_left.fetch_update(Relaxed, Relaxed, |n_calls| n_calls.checked_sub(1)).is_ok()
}
