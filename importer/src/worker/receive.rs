//! Receiving: as many messages as can start soon, until the worker is stopped or the queue is empty.

use super::{BATCH, Until, Worker, circuit::CircuitState, release::Leftover, retry::backoff};
use crate::queue::Message;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use service::words::chain;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

/// Empty long polls in a row after which `--until-empty` asks for the counters.
const EMPTY_POLLS: u32 = 3;
/// How long a receive waits at most while messages are in hand. A receive that a stop leaves behind may
/// take the messages that are given back; so it is short then, and a stop waits for its end.
const WAIT_WHILE_HOLDING: Duration = Duration::from_secs(1);
/// How long a stop waits for the answer of a receive: what it brings would stay hidden from others for a
/// visibility timeout. Longer than [`WAIT_WHILE_HOLDING`].
const LAST_ANSWER: Duration = Duration::from_millis(1500);
/// Time between two messages received on trial, while something outside is broken for all that were tried.
const PROBE: Duration = Duration::from_secs(5);
/// Calls at once where the last answer brought all that was asked for. One after the other they bring
/// that many for each round trip to the queue, which is less than a worker with quick objects takes; more of them would
/// be paid for in vain when the queue has just been emptied.
const RECEIVES_AT_ONCE: usize = 4;
/// How long to wait before another look at whether there is room. Who waits, and why, changes without a signal.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Receives messages and starts a task for each.
pub(super) struct Receiver<'a> {
    worker: &'a Arc<Worker>,
    /// Cancelled: receive no more.
    stop: &'a CancellationToken,
    /// Cancelled: begin nothing more.
    drain: &'a CancellationToken,
    until: Until,
    tasks: JoinSet<Option<Leftover>>,
    /// Receives under way, each with how many messages it asks for. What one of them brings is begun though another
    /// says nothing.
    calls: FuturesUnordered<BoxFuture<'a, (usize, anyhow::Result<Vec<Message>>)>>,
    /// The last answer brought all that was asked for, so there are probably more messages.
    was_full: bool,
    /// Receives in a row that failed.
    n_failed: u32,
    probed_at: Instant,
}

impl<'a> Receiver<'a> {
    pub fn new(
        worker: &'a Arc<Worker>,
        stop: &'a CancellationToken,
        drain: &'a CancellationToken,
        until: Until,
    ) -> Self {
        let (tasks, calls, probed_at) = (JoinSet::new(), FuturesUnordered::new(), Instant::now());
        Self { worker, stop, drain, until, tasks, calls, was_full: false, n_failed: 0, probed_at }
    }

    /// Receives until it is over, and returns the tasks that still run.
    pub async fn run(mut self) -> JoinSet<Option<Leftover>> {
        let Self { worker, stop, .. } = self;
        loop {
            tokio::select! {
                () = worker.stopped(stop) => break,
                () = worker.release_ended(&mut self.tasks) => {}
            }
            let wanted = self.wanted();
            self.ask(wanted);
            let (asked, received) = tokio::select! {
                biased;
                () = worker.stopped(stop) => break,
                Some(answer) = self.calls.next() => answer,
                () = worker.in_hand.changed.notified(), if wanted == 0 => continue,
                () = sleep(LOOK_AGAIN), if wanted == 0 => continue,
            };
            match received {
                Err(error) => {
                    let pause = self.failed(&error);
                    // What the others bring does not wait.
                    if self.calls.is_empty() {
                        tokio::select! {
                            () = worker.stopped(stop) => break,
                            () = sleep(pause) => {}
                        }
                    }
                }
                Ok(messages) => {
                    self.answered();
                    self.was_full = messages.len() >= asked;
                    if messages.is_empty() {
                        if self.is_over_after_empty_poll().await && self.calls.is_empty() {
                            break;
                        }
                    } else {
                        self.begin(messages).await;
                    }
                }
            }
        }
        self.give_back().await;
        self.tasks
    }

    /// Returns how many messages to ask for.
    fn wanted(&self) -> usize {
        let worker = self.worker;
        let state = if worker.in_hand.is_empty() { CircuitState::Closed } else { worker.circuit.state() };
        match state {
            CircuitState::Closed => worker.wanted(),
            CircuitState::HalfOpen if self.probed_at.elapsed() >= PROBE => worker.wanted().min(1),
            CircuitState::HalfOpen | CircuitState::Open => 0,
        }
    }

    /// Asks for messages, as far as they are not asked for yet.
    fn ask(&mut self, wanted: usize) {
        let worker = self.worker;
        let most = wanted.min(BATCH);
        let long = Duration::from_secs(worker.config.queue.wait_secs.into());
        let (n_calls, wait) = match (worker.in_hand.is_empty(), n_calls(wanted, self.was_full)) {
            // With nothing in hand there is no saying how long messages are.
            (true, n_calls) => (n_calls.min(1), long),
            // Those that bring something would leave the others waiting.
            (false, n_calls @ 2..) => (n_calls, Duration::ZERO),
            (false, n_calls) => (n_calls, long.min(WAIT_WHILE_HOLDING)),
        };
        while self.calls.len() < n_calls {
            self.probed_at = Instant::now();
            self.calls.push(Box::pin(async move { (most, worker.queue.receive(most, wait).await) }));
        }
    }

    /// Gives back what the receives still bring that a stop leaves behind.
    async fn give_back(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        self.drain.cancel();
        let (end, mut late) = (Instant::now() + LAST_ANSWER, Vec::new());
        while let Ok(Some((_, answer))) = timeout_at(end, self.calls.next()).await {
            late.extend(answer.unwrap_or_default());
        }
        let worker = self.worker;
        let _ = timeout_at(worker.end_of_last_calls(), worker.release_unbegun(&late)).await;
    }

    /// Notes that a receive failed, and returns how long to wait before the next.
    fn failed(&mut self, error: &anyhow::Error) -> Duration {
        self.n_failed += 1;
        self.was_full = false;
        let pause = backoff(self.n_failed);
        warn!(error = chain(error), retry_in_ms = pause.as_millis() as u64, "receive failed");
        self.worker.circuit.health.note("queue", Err(chain(error)));
        self.worker.rest_when_idle();
        pause
    }

    fn answered(&mut self) {
        if std::mem::take(&mut self.n_failed) > 0 {
            info!("queue answers again");
        }
        self.worker.circuit.health.note("queue", Ok(()));
        let now_ms = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or(0);
        let first = &self.worker.progress.first_receive_ms;
        let _ = first.compare_exchange(0, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        self.worker.metrics.receives.inc();
    }

    /// Returns whether the run is over: nothing came, nothing is in hand, and the queue is empty.
    async fn is_over_after_empty_poll(&mut self) -> bool {
        let worker = self.worker;
        worker.metrics.empty_receives.inc();
        worker.rest_when_idle();
        let empty_polls = worker.progress.empty_polls.fetch_add(1, Ordering::Relaxed) + 1;
        if !worker.in_hand.is_empty() {
            worker.progress.empty_polls.store(0, Ordering::Relaxed);
            return false;
        }
        self.until == Until::Empty && empty_polls >= EMPTY_POLLS && worker.queue_is_empty().await
    }

    /// Takes messages in hand and starts a task for each.
    async fn begin(&mut self, messages: Vec<Message>) {
        let worker = self.worker;
        worker.progress.empty_polls.store(0, Ordering::Relaxed);
        worker.surroundings.guard.work_begins().await;
        for message in messages {
            worker.progress.receives.fetch_add(1, Ordering::Relaxed);
            worker.metrics.messages_received.inc();
            if message.receive_count > 1 {
                worker.progress.redeliveries.fetch_add(1, Ordering::Relaxed);
                worker.metrics.messages_redelivered.inc();
            }
            if !worker.in_hand.take(&message) {
                debug!(sqs.message_id = message.message_id, "already in hand; keeping the newer receipt handle");
                continue;
            }
            let span =
                info_span!("message", sqs.message_id = message.message_id, sqs.receive_count = message.receive_count);
            let (worker, drain) = (Arc::clone(worker), self.drain.clone());
            self.tasks.spawn(async move { worker.settle_contained(message, drain).await }.instrument(span));
        }
    }
}

impl Worker {
    /// Returns how many messages could start soon.
    fn wanted(&self) -> usize {
        let n_slots = self.config.worker.concurrency.max(1) as usize;
        let n_active = self.in_hand.len().saturating_sub(self.waits.n_waiting(&self.turns.stalled()));
        // Where all slots are taken one more object may begin, of a dataset that has none: look for its message.
        let looks = self.config.datasets.len() > 1 && self.turns.only_for_others();
        let n_may_wait = if looks { n_slots + 1 } else { 0 };
        self.in_hand.intake.wanted(n_active, n_slots, n_may_wait).min(self.in_hand.room())
    }

    /// Tells the surroundings when nothing is left to do for now.
    fn rest_when_idle(&self) {
        if self.in_hand.is_empty() {
            self.surroundings.guard.work_ended();
        }
    }

    async fn queue_is_empty(&self) -> bool {
        match self.queue.depth().await {
            Ok(depth) if depth.is_empty() => true,
            Ok(depth) => {
                info!(
                    queue.visible = depth.visible,
                    queue.in_flight = depth.in_flight,
                    queue.delayed = depth.delayed,
                    "no messages received, but the queue is not empty; waiting"
                );
                false
            }
            Err(error) => {
                warn!(error = chain(&error), "queue depth is unknown");
                false
            }
        }
    }
}

/// Returns how many calls to have under way for as many messages as are wanted.
fn n_calls(wanted: usize, was_full: bool) -> usize {
    if was_full { (wanted / BATCH).clamp(1, RECEIVES_AT_ONCE) } else { wanted.min(1) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::worker;
    use super::*;
    use crate::queue::{Queue, memory::MemoryQueue};
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn several_calls_are_made_only_where_there_is_more_and_for_whole_batches() {
        let n_calls = |was_full| [1, 10, 19, 20, 35, 104].map(|wanted| n_calls(wanted, was_full));
        assert_eq!(n_calls(false), [1; 6]);
        assert_eq!(n_calls(true), [1, 1, 1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn what_receives_bring_is_begun_and_given_back_though_another_says_nothing() {
        let queue = Arc::new(MemoryQueue::new(Duration::from_secs(60)).with_silent_receives(1));
        (0..45).for_each(|n| queue.send(&n.to_string(), "body"));
        let (worker, stop, drain) = (Arc::new(worker(&queue)), CancellationToken::new(), CancellationToken::new());
        let mut receiver = Receiver::new(&worker, &stop, &drain, Until::Stopped);
        receiver.was_full = true;
        // The first, with nothing in hand, is alone, and says nothing.
        receiver.ask(40);
        assert_eq!(receiver.calls.len(), 1);
        let other = MemoryQueue::new(Duration::from_secs(60));
        other.send("other", "body");
        worker.in_hand.take(&other.receive(1, Duration::ZERO).await.expect("memory")[0]);
        for _ in 0..3 {
            receiver.ask(40);
            let (_, received) = timeout(LONG, receiver.calls.next()).await.expect("three answer").expect("asked");
            assert_eq!(received.expect("memory").len(), BATCH);
        }
        assert_eq!(queue.depth().await.expect("memory").visible, 15);
        // The silent one is under way still, and three more would bring the rest.
        receiver.ask(40);
        assert_eq!(receiver.calls.len(), RECEIVES_AT_ONCE);
        timeout(LONG, receiver.give_back()).await.expect("a stop does not wait for the silent one");
        assert_eq!(queue.depth().await.expect("memory").visible, 15, "what came too late is there for others");
        assert!(drain.is_cancelled());
    }
}
