//! The messages a worker holds, and how many more it should ask for.

use super::HOLD_LIMIT;
use crate::queue::{EntryError, Message, Queue};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use service::http::Health;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
use tracing::{debug, warn};

/// Messages received and not yet deleted, released or hidden.
#[derive(Debug, Default)]
pub struct InHand {
    held: Mutex<HashMap<String, HeldMessage>>,
    pub intake: Intake,
    pub changed: Notify,
    /// Held while messages are extended: whoever is to hide one for another time lets it go between two extensions, or
    /// one that is under way would undo that.
    pub(super) extending: tokio::sync::Mutex<()>,
    health: Arc<Health>,
}

#[derive(Debug)]
struct HeldMessage {
    receipt_handle: String,
    received_at: Instant,
    sent_at: Option<DateTime<Utc>>,
    receive_count: u32,
    /// About what it takes in memory.
    bytes: usize,
    /// The handle turned out stale: another worker has the message by now, and it is no longer extended.
    lost: bool,
}

impl InHand {
    /// Returns empty hands; `health` shows when the queue no longer answers for what is in them.
    #[must_use]
    pub fn new(health: Arc<Health>) -> Self {
        Self { health, ..Self::default() }
    }

    /// Notes whether a call for messages in hand is answered.
    pub(super) fn note(&self, call: &'static str, answered: Result<(), &str>) {
        self.health.note(call, answered.map_err(|why| format!("not answered: {why}")));
    }

    /// Takes a message in; false when it is in hand already, and then its newer receipt handle replaces the older.
    pub fn take(&self, message: &Message) -> bool {
        let mut held = self.held.lock();
        if let Some(known) = held.get_mut(&message.message_id) {
            known.receipt_handle.clone_from(&message.receipt_handle);
            known.receive_count = message.receive_count;
            // What SQS allows is counted from the latest receive.
            known.received_at = Instant::now();
            known.lost = false;
            return false;
        }
        held.insert(
            message.message_id.clone(),
            HeldMessage {
                receipt_handle: message.receipt_handle.clone(),
                received_at: Instant::now(),
                sent_at: message.delivery.sent_at,
                receive_count: message.receive_count,
                bytes: message.body.len(),
                lost: false,
            },
        );
        true
    }

    /// Counts what the records of a message take that are under way at once.
    pub fn weigh(&self, message: &Message, n_records: usize) {
        if let Some(held) = self.held.lock().get_mut(&message.message_id) {
            held.bytes = message.body.len() + n_records * RECORD_BYTES;
        }
    }

    /// Lets a message go and returns its newest receipt handle.
    pub fn drop_message(&self, message_id: &str) -> Option<String> {
        let dropped = self.held.lock().remove(message_id).map(|held| held.receipt_handle);
        self.changed.notify_one();
        dropped
    }

    /// Lets a message go that was deleted by this receipt handle; false when it has been received again
    /// since, so that there is a newer one to delete it by.
    pub fn drop_deleted(&self, message_id: &str, handle: &str) -> bool {
        let mut held = self.held.lock();
        if held.get(message_id).is_some_and(|held| held.receipt_handle != handle) {
            return false;
        }
        held.remove(message_id);
        drop(held);
        self.changed.notify_one();
        true
    }

    /// Returns a held message's newest receipt handle.
    #[must_use]
    pub fn handle(&self, message_id: &str) -> Option<String> {
        self.held.lock().get(message_id).map(|held| held.receipt_handle.clone())
    }

    /// Lets everything go and returns the receipt handles.
    pub fn take_all(&self) -> Vec<String> {
        self.held.lock().drain().map(|(_, held)| held.receipt_handle).collect()
    }

    /// Returns how many messages are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.lock().len()
    }

    /// Returns how many more messages there is room for.
    #[must_use]
    pub fn room(&self) -> usize {
        let held = self.held.lock();
        let bytes: usize = held.values().map(|held| held.bytes).sum();
        if bytes >= MAX_HELD_BYTES {
            return 0;
        }
        // As many as there is room for of messages like those in hand, and one.
        let alike = ((MAX_HELD_BYTES - bytes) * held.len()).checked_div(bytes).unwrap_or(MAX_HELD) + 1;
        MAX_HELD.saturating_sub(held.len()).min(alike)
    }

    /// Returns whether there is so little room left that nothing should wait in hand for their dataset to recover.
    #[must_use]
    pub fn is_filling(&self) -> bool {
        let held = self.held.lock();
        let bytes: usize = held.values().map(|held| held.bytes).sum();
        bytes >= MAX_HELD_BYTES / 4 * 3 || held.len() >= MAX_HELD / 4 * 3
    }

    /// Returns whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns when the oldest message in hand was sent, and how often it was received.
    #[must_use]
    pub fn oldest(&self) -> Option<(DateTime<Utc>, u32)> {
        self.held.lock().values().filter_map(|held| Some((held.sent_at?, held.receive_count))).min()
    }

    fn to_extend(&self) -> Vec<(String, String)> {
        let extendable = |held: &&HeldMessage| !held.lost && held.received_at.elapsed() < HOLD_LIMIT;
        let held = self.held.lock();
        held.iter().filter(|(_, h)| extendable(h)).map(|(id, h)| (id.clone(), h.receipt_handle.clone())).collect()
    }

    fn lose(&self, message_id: &str, handle: &str) {
        if let Some(held) = self.held.lock().get_mut(message_id).filter(|held| held.receipt_handle == handle) {
            held.lost = true;
        }
    }
}

/// Extends every held message, also those waiting their turn, at a third of the visibility timeout, and at once
/// again where that failed: four attempts may fail before one becomes visible, also when each is a silence of a
/// sixth of the timeout.
pub(super) async fn keep(queue: Arc<dyn Queue>, in_hand: Arc<InHand>, visibility_timeout: Duration) {
    let mut ticks = tokio::time::interval(visibility_timeout / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let failed = extend(&*queue, &in_hand, visibility_timeout, |_| true).await;
        if !failed.is_empty() {
            tokio::time::sleep(visibility_timeout / 24).await;
            // Only what is still in hand, by its newest handle.
            extend(&*queue, &in_hand, visibility_timeout, |id| failed.contains(id)).await;
        }
    }
}

/// Extends the messages in hand that are `chosen` by their ids, and returns the ids of those that could not be.
async fn extend(
    queue: &dyn Queue,
    in_hand: &InHand,
    visibility_timeout: Duration,
    chosen: impl Fn(&str) -> bool,
) -> HashSet<String> {
    let _extending = in_hand.extending.lock().await;
    let (ids, handles): (Vec<_>, Vec<_>) = in_hand.to_extend().into_iter().filter(|(id, _)| chosen(id)).unzip();
    let results = queue.extend(&handles, visibility_timeout).await;
    let mut failed = HashSet::new();
    let mut why = None;
    for ((result, id), handle) in results.into_iter().zip(ids).zip(&handles) {
        match result {
            Ok(()) => {}
            // Deleted a moment ago, or received by another after a pause of ours; the fence sorts it out.
            Err(EntryError::Stale) => {
                debug!(sqs.message_id = id, "message can no longer be extended");
                in_hand.lose(&id, handle);
            }
            Err(EntryError::Failed(error)) => {
                debug!(sqs.message_id = id, error, "extend failed");
                failed.insert(id);
                why = Some(error);
            }
        }
    }
    in_hand.note("visibility extension", why.as_deref().map_or(Ok(()), Err));
    if let Some(error) = why {
        warn!(messages = failed.len(), error, "could not extend messages; trying again");
    }
    failed
}

/// Messages in hand at most, most of them held for a dataset in trouble. More cost memory and extensions
/// (one call for ten of them at a third of the visibility timeout); with fewer a dataset in trouble sooner
/// stops the intake for all.
const MAX_HELD: usize = 1000;
/// Their bodies at most.
const MAX_HELD_BYTES: usize = 16 * 1024 * 1024;
/// What a record takes while it is under way, in memory.
const RECORD_BYTES: usize = 8 * 1024;

/// How many messages to receive: those that can start soon, judged by how long objects take.
#[derive(Debug, Default)]
pub struct Intake {
    /// Mean wall time of an object, decaying, in seconds; none before the first.
    mean_secs: Mutex<Option<f64>>,
}

/// A message may wait in hand this long for a slot. Longer keeps messages from idle workers,
/// shorter makes a worker with quick objects wait for the queue.
pub const SOON_SECS: f64 = 0.5;
/// Messages in hand beyond the slots, at most: each is extended and would wait for a visibility timeout after a crash.
const MAX_WAITING: usize = 200;

impl Intake {
    /// Notes how long an object took.
    pub fn measured(&self, duration: Duration) {
        let mut mean = self.mean_secs.lock();
        let seconds = duration.as_secs_f64();
        *mean = Some(mean.map_or(seconds, |mean| mean * 0.8 + seconds * 0.2));
    }

    /// Returns how many messages to ask for, with `n_active` started or waiting for a slot; this many
    /// may wait however long objects take.
    #[must_use]
    pub fn wanted(&self, n_active: usize, n_slots: usize, n_may_wait: usize) -> usize {
        let mean = *self.mean_secs.lock();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped by MAX_WAITING")]
        let waiting = mean.map_or(0, |mean| (SOON_SECS * n_slots as f64 / mean.max(0.001)) as usize);
        (n_slots + waiting.min(MAX_WAITING).max(n_may_wait)).saturating_sub(n_active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Delivery;

    #[test]
    fn only_what_can_start_soon_is_received() {
        let intake = Intake::default();
        assert_eq!(intake.wanted(0, 4, 0), 4, "nothing measured: the free slots");
        assert_eq!(intake.wanted(4, 4, 0), 0);
        intake.measured(Duration::from_secs(600));
        assert_eq!(intake.wanted(3, 4, 0), 1, "long objects: the free slots");
        assert_eq!(intake.wanted(4, 4, 5), 5, "all slots taken by one: room to find another");
        let quick = Intake::default();
        quick.measured(Duration::from_millis(5));
        assert_eq!(quick.wanted(4, 4, 0), MAX_WAITING, "quick objects: as many ahead as may be");
        assert_eq!(quick.wanted(4 + MAX_WAITING, 4, 0), 0);
    }

    fn message(body: &str) -> Message {
        Message {
            message_id: "m".into(),
            receipt_handle: "h".into(),
            body: body.into(),
            receive_count: 1,
            delivery: Delivery::default(),
            reason: None,
        }
    }

    #[test]
    fn a_message_received_again_is_ours_for_as_long_as_one_received_first() {
        let in_hand = InHand::default();
        assert!(in_hand.take(&message("")));
        let long_ago = Instant::now().checked_sub(HOLD_LIMIT).expect("clocks count from earlier");
        in_hand.held.lock().get_mut("m").expect("it is in hand").received_at = long_ago;
        assert_eq!(in_hand.to_extend(), [], "SQS allows no more");
        assert!(!in_hand.take(&message("")));
        assert_eq!(in_hand.to_extend().len(), 1);
    }

    #[test]
    fn a_message_that_was_lost_is_ours_again_once_it_is_received_again() {
        let in_hand = InHand::default();
        in_hand.take(&message(""));
        in_hand.lose("m", "h");
        assert_eq!(in_hand.to_extend(), []);
        assert!(!in_hand.take(&Message { receipt_handle: "newer".into(), ..message("") }));
        // What was said of the older handle says nothing of the newer.
        in_hand.lose("m", "h");
        assert_eq!(in_hand.to_extend(), [("m".to_owned(), "newer".to_owned())]);
    }

    #[test]
    fn there_is_no_room_beside_messages_of_many_records() {
        let in_hand = InHand::default();
        in_hand.take(&message("x"));
        assert!(in_hand.room() > 0 && !in_hand.is_filling());
        in_hand.weigh(&message("x"), MAX_HELD_BYTES / RECORD_BYTES);
        assert_eq!((in_hand.room(), in_hand.is_filling()), (0, true));
    }

    #[test]
    fn there_is_room_for_few_more_of_long_messages() {
        let in_hand = InHand::default();
        for n in 0..12 {
            in_hand.take(&Message { message_id: n.to_string(), ..message(&"x".repeat(1 << 20)) });
        }
        assert_eq!(in_hand.room(), 16 - 12 + 1);
    }

    #[test]
    fn there_is_room_for_so_many_messages_and_no_more() {
        let in_hand = InHand::default();
        for n in 0..MAX_HELD {
            assert!(in_hand.room() > 0);
            in_hand.take(&Message { message_id: n.to_string(), ..message("") });
        }
        assert_eq!((in_hand.room(), in_hand.is_filling()), (0, true));
    }

    #[tokio::test]
    async fn waiting_messages_are_extended_for_as_long_as_they_are_held() {
        let timeout = Duration::from_secs(2);
        let queue = Arc::new(crate::queue::memory::MemoryQueue::new(timeout));
        queue.send("m", "body");
        let in_hand = Arc::new(InHand::default());
        for message in queue.receive(10, Duration::ZERO).await.expect("memory") {
            assert!(in_hand.take(&message));
        }
        let keeper = tokio::spawn(keep(Arc::clone(&queue) as Arc<dyn Queue>, Arc::clone(&in_hand), timeout));
        tokio::time::sleep(timeout * 2).await;
        assert_eq!(queue.receive(10, Duration::ZERO).await.expect("memory"), vec![], "still ours");
        in_hand.take_all();
        assert_eq!(queue.receive(10, timeout * 3).await.expect("memory").len(), 1, "let go");
        keeper.abort();
    }

    #[tokio::test]
    async fn a_message_stays_ours_although_five_calls_to_extend_it_fail_one_after_the_other() {
        let timeout = Duration::from_secs(3);
        // At each third of the timeout there are two: the sixth is the last that comes in time.
        let queue = Arc::new(crate::queue::memory::MemoryQueue::new(timeout).with_failing_extensions(5));
        queue.send("m", "body");
        let in_hand = Arc::new(InHand::default());
        for message in queue.receive(10, Duration::ZERO).await.expect("memory") {
            assert!(in_hand.take(&message));
        }
        let keeper = tokio::spawn(keep(Arc::clone(&queue) as Arc<dyn Queue>, Arc::clone(&in_hand), timeout));
        assert_eq!(queue.receive(10, timeout * 4 / 3).await.expect("memory"), vec![], "still ours");
        keeper.abort();
    }
}
