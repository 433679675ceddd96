//! The worker: receives, imports, acknowledges, keeps what it holds, and stops when told to.
//!
//! One of the two places that read the clock. A message's way: `run` receives it, `Worker::settle`
//! takes it through [`Importer::import`] as often as it needs, `Acker` deletes it.

mod ack;
pub mod beat;
mod in_hand;
mod outside;
mod turns;

pub use in_hand::{InHand, Intake};
pub use turns::{Call, Class, Turns};

use crate::{
    config::Config,
    http::Health,
    import::{GROUP_OBJECTS, Held, Importer, Settled, log_together},
    instance::Surroundings,
    message::{self, Parsed, Record},
    metrics::{Metrics, ObjectCounts},
    outcome::{Failure, Outcome},
    queue::{Message, Queue},
};
use ack::Acker;
use futures_util::FutureExt;
use outside::Weather;
use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, info_span, warn};

/// A message is given back before SQS's limit of 12 h on one receive
/// ([SQS, visibility timeout](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html)).
const HOLD_LIMIT: Duration = Duration::from_secs(11 * 3600);
/// Empty long polls in a row after which `--until-empty` asks for the counters.
const EMPTY_POLLS: u32 = 3;
/// How long a receive waits at most while messages are in hand. A receive that a stop leaves behind may
/// take the messages that are given back; so it is short then, and a stop waits for its end.
const WAIT_WHILE_HOLDING: Duration = Duration::from_secs(1);
/// How long a stop waits for the answer of a receive: what it brings would stay hidden from others for a
/// visibility timeout. Longer than [`WAIT_WHILE_HOLDING`].
const LAST_ANSWER: Duration = Duration::from_millis(1500);
/// The longest a failed message without a dead-letter queue is hidden.
const MAX_HIDE: Duration = Duration::from_secs(3600);

/// What the rest of the program may look at while a worker runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Objects being imported now.
    pub busy: AtomicU32,
    /// Empty long polls in a row.
    pub empty_polls: AtomicU32,
    /// Messages received.
    pub receives: AtomicU64,
    /// Of them, received before.
    pub redeliveries: AtomicU64,
    /// Milliseconds since the epoch of the first answered receive; 0 before.
    pub first_receive_ms: AtomicU64,
    /// The worker no longer receives.
    pub draining: std::sync::atomic::AtomicBool,
}

/// A worker's parts.
pub struct Worker {
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// Settles records.
    pub importer: Arc<Importer>,
    /// Messages held.
    pub in_hand: Arc<InHand>,
    /// What is broken outside.
    pub weather: Arc<Weather>,
    /// Numbers for heartbeats.
    pub progress: Arc<Progress>,
    /// Numbers for Prometheus.
    pub metrics: Arc<Metrics>,
    /// The machine it runs on.
    pub surroundings: Surroundings,
    /// Settings.
    pub config: Config,
    turns: Turns,
    /// Records waiting to be tried again; they take no slot, and no room in the intake.
    n_paused: AtomicUsize,
    acker: Acker,
    /// [`HOLD_LIMIT`], which no test can wait for.
    hold_limit: Duration,
}

/// When a run ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never; a signal ends it.
    Stopped,
    /// When the queue is empty.
    Empty,
}

impl Worker {
    /// Puts a worker together. Must be called on a runtime: the acker and the keeper of held messages start at once.
    #[must_use]
    pub fn new(
        queue: Arc<dyn Queue>,
        importer: Arc<Importer>,
        config: Config,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        surroundings: Surroundings,
    ) -> Self {
        let in_hand = Arc::new(InHand::default());
        let turns = Turns::new(config.worker.concurrency.max(1) as usize);
        let acker = Acker::start(Arc::clone(&queue), Arc::clone(&in_hand));
        let visibility = Duration::from_secs(config.queue.visibility_timeout_secs.into());
        tokio::spawn(in_hand::keep(Arc::clone(&queue), Arc::clone(&in_hand), visibility));
        Self {
            queue,
            importer,
            in_hand,
            weather: Arc::new(Weather::new(health, Arc::clone(&metrics))),
            progress: Arc::default(),
            metrics,
            surroundings,
            config,
            turns,
            n_paused: AtomicUsize::new(0),
            acker,
            hold_limit: HOLD_LIMIT,
        }
    }
}

/// Works until `stop` is cancelled or the queue is empty, then drains: what runs is finished, what was
/// not begun is given back, and after `drain_timeout_secs`, or when the instance is about to go, the rest too.
///
/// Returns whether everything in hand was settled.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken, until: Until) -> bool {
    let mut tasks = JoinSet::new();
    let begun = CancellationToken::new();
    receive_loop(&worker, &stop, &begun, until, &mut tasks).await;

    worker.progress.draining.store(true, Ordering::Relaxed);
    begun.cancel();
    if !tasks.is_empty() {
        info!(messages = tasks.len(), "draining");
    }
    let drained = worker.settle_all(&mut tasks).await;
    if !drained {
        warn!(messages = tasks.len(), "drain timeout: giving the rest back");
        tasks.shutdown().await;
    }
    worker.acker.finish().await;
    worker.release(&worker.in_hand.take_all()).await;
    worker.surroundings.guard.work_ended();
    drained
}

async fn receive_loop(
    worker: &Arc<Worker>,
    stop: &CancellationToken,
    begun: &CancellationToken,
    until: Until,
    tasks: &mut JoinSet<Ended>,
) {
    let wait = Duration::from_secs(worker.config.queue.wait_secs.into());
    let mut failures = 0u32;
    let mut probed_at = Instant::now();
    loop {
        worker.release_ended(tasks).await;
        let intake = if worker.in_hand.is_empty() { outside::Intake::Open } else { worker.weather.intake() };
        let wanted = match intake {
            outside::Intake::Open => worker.wanted(),
            outside::Intake::Probing if probed_at.elapsed() >= PROBE => worker.wanted().min(1),
            outside::Intake::Probing | outside::Intake::Paused => 0,
        };
        if wanted == 0 {
            tokio::select! {
                () = stop.cancelled() => return,
                () = worker.in_hand.changed() => {}
                // Also who waits and why changes, without a word.
                () = sleep(Duration::from_millis(200)) => {}
            }
            continue;
        }
        probed_at = Instant::now();
        let wait = if worker.in_hand.is_empty() { wait } else { wait.min(WAIT_WHILE_HOLDING) };
        let mut receiving = worker.queue.receive(wanted, wait);
        let received = tokio::select! {
            () = stop.cancelled() => {
                begun.cancel();
                if let Ok(Ok(messages)) = timeout(LAST_ANSWER, receiving).await {
                    worker.release_unbegun(&messages).await;
                }
                return;
            }
            received = &mut receiving => received,
        };
        let messages = match received {
            Ok(messages) => messages,
            Err(error) => {
                failures += 1;
                let pause = backoff(failures);
                warn!(error = format!("{error:#}"), retry_in_ms = pause.as_millis() as u64, "receive failed");
                worker.weather.queue_failed(format!("{error:#}"));
                worker.rest_when_idle();
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
                continue;
            }
        };
        if failures > 0 {
            info!("queue answers again");
            failures = 0;
        }
        worker.weather.queue_answered();
        let now_ms = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or(0);
        let _ = worker.progress.first_receive_ms.compare_exchange(0, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        worker.metrics.receives.inc();
        if messages.is_empty() {
            worker.metrics.empty_receives.inc();
            worker.rest_when_idle();
            let empty_polls = worker.progress.empty_polls.fetch_add(1, Ordering::Relaxed) + 1;
            if !worker.in_hand.is_empty() {
                worker.progress.empty_polls.store(0, Ordering::Relaxed);
            } else if until == Until::Empty && empty_polls >= EMPTY_POLLS && queue_is_empty(worker).await {
                return;
            }
            continue;
        }
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
            let (worker, begun) = (Arc::clone(worker), begun.clone());
            tasks.spawn(async move { worker.settle_contained(message, begun).await }.instrument(span));
        }
    }
}

async fn queue_is_empty(worker: &Worker) -> bool {
    match worker.queue.depth().await {
        Ok(depth) if depth.is_empty() => true,
        Ok(depth) => {
            info!(
                queue.visible = depth.visible,
                queue.in_flight = depth.in_flight,
                queue.delayed = depth.delayed,
                "waiting: no message comes, but the queue is not empty"
            );
            false
        }
        Err(error) => {
            warn!(error = format!("{error:#}"), "queue depth is unknown");
            false
        }
    }
}

/// Time between two messages received on trial, while something outside is broken for all that were tried.
const PROBE: Duration = Duration::from_secs(5);

/// What is to be done with a message after all its records.
enum Disposition {
    /// All records are safe.
    Delete,
    /// Stopped before the records were settled, or held for too long.
    Release,
}

/// What is left to do about a message whose task has ended: nothing, or give it back.
type Ended = Option<String>;

/// Entries of a batch call: SQS's limit.
const BATCH: usize = 10;

impl Worker {
    /// Returns how many messages to ask for.
    fn wanted(&self) -> usize {
        let n_slots = self.config.worker.concurrency.max(1) as usize;
        let n_idle = self.n_paused.load(Ordering::Relaxed) + self.turns.n_stalled();
        let n_active = self.in_hand.len().saturating_sub(n_idle);
        // Where all slots are taken one more object may begin, of a dataset that has none: look for its message.
        let looks = self.config.datasets.len() > 1 && self.turns.only_for_others();
        let n_may_wait = if looks { n_slots + 1 } else { 0 };
        self.in_hand.intake().wanted(n_active, n_slots, n_may_wait).min(self.in_hand.room())
    }

    /// Settles what is in hand, and gives back at once, in batches, what was not begun.
    ///
    /// Returns false when the drain has taken as long as it may. Only waiting ends by that: a release given up
    /// halfway would leave its messages hidden, and out of our hands, for a visibility timeout.
    async fn settle_all(&self, tasks: &mut JoinSet<Ended>) -> bool {
        let end = self.end_of_drain();
        tokio::pin!(end);
        loop {
            let ended = tokio::select! {
                biased;
                ended = tasks.join_next() => ended,
                () = &mut end => return false,
            };
            let Some(ended) = ended else { return true };
            let mut unbegun: Vec<String> = ended.ok().flatten().into_iter().collect();
            while unbegun.len() < BATCH
                && let Some(ended) = tasks.try_join_next()
            {
                unbegun.extend(ended.ok().flatten());
            }
            self.release_held(unbegun).await;
        }
    }

    /// Returns when a drain has taken as long as it may.
    async fn end_of_drain(&self) {
        let timeout_at = Instant::now() + Duration::from_secs(self.config.worker.drain_timeout_secs.into());
        let mut end_by = self.surroundings.end_by.subscribe();
        loop {
            let end = end_by.borrow_and_update().map_or(timeout_at, |at| at.min(timeout_at));
            tokio::select! {
                () = sleep_until(end) => return,
                changed = end_by.changed() => if changed.is_err() { return sleep_until(end).await },
            }
        }
    }

    /// Gives back the messages of tasks that ended without settling them.
    async fn release_ended(&self, tasks: &mut JoinSet<Ended>) {
        let mut unsettled = Vec::new();
        while let Some(ended) = tasks.try_join_next() {
            unsettled.extend(ended.ok().flatten());
        }
        self.release_held(unsettled).await;
    }

    async fn release_held(&self, message_ids: Vec<String>) {
        let handles: Vec<String> = message_ids.iter().filter_map(|id| self.in_hand.drop_message(id)).collect();
        self.release(&handles).await;
    }

    /// Gives back messages that came with the last answer; those already in hand only have a newer handle now.
    async fn release_unbegun(&self, messages: &[Message]) {
        let unbegun: Vec<String> =
            messages.iter().filter(|m| self.in_hand.take(m)).map(|m| m.message_id.clone()).collect();
        self.release_held(unbegun).await;
    }

    /// Makes messages visible to others at once.
    async fn release(&self, handles: &[String]) {
        if handles.is_empty() {
            return;
        }
        for (result, handle) in self.queue.extend(handles, Duration::ZERO).await.iter().zip(handles) {
            match result {
                Ok(()) => {
                    self.metrics.messages_released.inc();
                }
                Err(error) => debug!(error = error.to_string(), handle, "message not given back"),
            }
        }
    }

    /// Tells the surroundings when nothing is left to do for now.
    fn rest_when_idle(&self) {
        if self.in_hand.is_empty() {
            self.surroundings.guard.work_ended();
        }
    }

    /// As [`Self::settle`]; a message that makes us panic is left to itself, so that it comes back after its
    /// visibility timeout and its receives are counted.
    async fn settle_contained(&self, message: Message, no_more: CancellationToken) -> Ended {
        let message_id = message.message_id.clone();
        match AssertUnwindSafe(self.settle(message, no_more)).catch_unwind().await {
            Ok(ended) => ended,
            Err(_) => {
                error!("settling the message panicked; it comes back after its visibility timeout");
                self.in_hand.drop_message(&message_id);
                None
            }
        }
    }

    /// Takes one message to its end; returns it when it is to be given back.
    async fn settle(&self, message: Message, no_more: CancellationToken) -> Ended {
        let disposition = match message::parse(&message.body) {
            Parsed::TestEvent => {
                info!("test event dropped");
                Disposition::Delete
            }
            Parsed::Unreadable(why) => {
                warn!(error = why, "message cannot be read");
                let failure = Failure::new("unreadable_message", why);
                self.forward(&message, None, &failure, None, &no_more).await
            }
            Parsed::Records(records) => self.settle_records(&message, &records, &no_more).await,
        };
        match disposition {
            Disposition::Delete => {
                self.acker.delete(&message.message_id).await;
                None
            }
            Disposition::Release => Some(message.message_id),
        }
    }

    async fn settle_records(&self, message: &Message, records: &[Record], no_more: &CancellationToken) -> Disposition {
        let all = records.iter().map(|record| self.settle_record(message, record, no_more));
        let settled: Vec<Option<Settled>> = futures_util::future::join_all(all).await;
        if settled.iter().any(Option::is_none) {
            return Disposition::Release;
        }
        let failed: Vec<(&Record, &Settled, &Failure)> = records
            .iter()
            .zip(settled.iter().flatten())
            .filter_map(|(record, settled)| match &settled.outcome {
                Outcome::Failed(failure) if !settled.already_forwarded => Some((record, settled, failure)),
                _ => None,
            })
            .collect();
        let Some((record, first, failure)) = failed.first() else {
            return Disposition::Delete;
        };
        // The body goes to the dead-letter queue before the ledger says so, and the ledger before the delete:
        // a crash in between sends it twice, never not at all.
        let disposition = self.forward(message, Some(record), failure, first.dataset.as_deref(), no_more).await;
        let forwarded = (self.queue.has_dead_letter_queue() && matches!(disposition, Disposition::Delete))
            .then_some(message.message_id.as_str());
        if matches!(disposition, Disposition::Release) && self.queue.has_dead_letter_queue() {
            return disposition;
        }
        for (record, settled, failure) in &failed {
            let Some(object_id) = settled.object_id else { continue };
            let mut tries = 0;
            while let Err(held) = self.importer.record_failure(object_id, failure, forwarded).await {
                tries += 1;
                if !self.wait_out(&held, &self.importer.class(record), tries, no_more).await {
                    return Disposition::Release;
                }
            }
        }
        if forwarded.is_none() {
            self.hide(message).await;
        }
        disposition
    }

    /// Settles one record, however long it takes; None when the worker stops or the message must be given back first.
    async fn settle_record(&self, message: &Message, record: &Record, no_more: &CancellationToken) -> Option<Settled> {
        let deadline = Instant::now() + self.hold_limit;
        let class = self.importer.class(record);
        // The dataset it may be loaded into together with others that wait; none after that was tried.
        let mut together = self.importer.groups(record, None, None);
        let mut tries = 0;
        loop {
            let waiting = Instant::now();
            let call = tokio::select! {
                biased;
                () = no_more.cancelled() => return None,
                () = sleep_until(deadline) => {
                    warn!("held for as long as SQS allows; giving the message back");
                    return None;
                }
                call = self.turns.wait(class.clone(), together.map(|_| record.clone())) => call,
            };
            let turn = match call {
                Call::Turn(turn) => turn,
                // It is begun, so a stop waits for it as for any other.
                Call::Along(answer) => match answer.await {
                    Ok(settled) => {
                        log_together(record, &settled, waiting.into_std());
                        return Some(settled);
                    }
                    Err(_) => {
                        together = None;
                        continue;
                    }
                },
            };
            let busy = Busy::new(self);
            let result = self.import(message, record, &class, together.take()).await;
            drop(busy);
            let held = match result {
                Ok(settled) => {
                    turn.settled();
                    if self.weather.improved(self.importer.dataset_name(class.dataset)) {
                        info!("what was broken outside works again");
                    }
                    return Some(settled);
                }
                Err(held) => held,
            };
            turn.held();
            tries += 1;
            if !self.wait_out(&held, &class, tries, no_more).await {
                return None;
            }
        }
    }

    /// Imports a record that has a slot, and takes those along that wait and may be loaded `together` with it.
    async fn import(
        &self,
        message: &Message,
        record: &Record,
        class: &Class,
        together: Option<usize>,
    ) -> Result<Settled, Held> {
        let companions = match together {
            Some(_) => self.turns.take_along(class.dataset, GROUP_OBJECTS - 1),
            None => Vec::new(),
        };
        if let (Some(index), false) = (together, companions.is_empty()) {
            let begun = Instant::now();
            let records: Vec<&Record> =
                std::iter::once(record).chain(companions.iter().map(|companion| &companion.record)).collect();
            let mut settled = self.importer.import_group(index, &records).await?.into_iter();
            let each = begun.elapsed() / u32::try_from(records.len()).unwrap_or(u32::MAX);
            let own = settled.next().flatten();
            for (companion, settled) in companions.into_iter().zip(settled) {
                if let Some(settled) = settled {
                    self.measured(&settled, each);
                    companion.settled(settled);
                }
            }
            if let Some(settled) = own {
                self.measured(&settled, each);
                log_together(record, &settled, begun.into_std());
                return Ok(settled);
            }
        }
        let begun = Instant::now();
        let settled = self.importer.import(record, None, Some(&message.message_id)).await?;
        self.measured(&settled, begun.elapsed());
        Ok(settled)
    }

    fn measured(&self, settled: &Settled, duration: Duration) {
        self.in_hand.intake().measured(duration);
        self.count(settled, duration);
    }

    fn count(&self, settled: &Settled, duration: Duration) {
        let dataset = settled.dataset.as_deref().unwrap_or_default();
        let outcome = match &settled.outcome {
            Outcome::Imported(counts) => {
                let counts = ObjectCounts {
                    rows_read: counts.read,
                    rows_written: counts.written,
                    rows_merged: counts.merged,
                    rows_filtered: counts.filtered,
                    rows_rejected: counts.rejected,
                    bytes: settled.bytes,
                    duration_seconds: duration.as_secs_f64(),
                };
                return self.metrics.count_imported(dataset, settled.technique, &counts);
            }
            Outcome::AlreadyImported => "already_imported",
            Outcome::Superseded => "superseded",
            Outcome::Skipped(_) => "skipped",
            Outcome::Gone | Outcome::Removed(_) => "gone",
            Outcome::Failed(_) => "failed",
        };
        self.metrics.count_finished(dataset, outcome);
    }

    /// Waits before another try; false when the worker stops meanwhile.
    async fn wait_out(&self, held: &Held, class: &Class, tries: u32, no_more: &CancellationToken) -> bool {
        let _paused = Paused::new(&self.n_paused);
        let pause = backoff(tries);
        let (error, retry_in_ms) = (format!("{:#}", held.error), pause.as_millis() as u64);
        if self.weather.worsened(held.outside, self.importer.dataset_name(class.dataset), &error) {
            warn!(error, retry_in_ms, "held: something outside is broken");
        } else {
            debug!(error, retry_in_ms, "held");
        }
        tokio::select! {
            () = no_more.cancelled() => false,
            () = sleep(pause) => true,
        }
    }

    /// Sends the body to the dead-letter queue, trying until it is there.
    async fn forward(
        &self,
        message: &Message,
        record: Option<&Record>,
        failure: &Failure,
        dataset: Option<&str>,
        no_more: &CancellationToken,
    ) -> Disposition {
        if !self.queue.has_dead_letter_queue() {
            if record.is_none() {
                self.hide(message).await;
            }
            return Disposition::Release;
        }
        let attributes = dead_letter_attributes(message, record, failure, dataset);
        let mut tries = 0;
        loop {
            match self.queue.forward(&message.body, &attributes).await {
                Ok(()) => {
                    self.metrics
                        .messages_dead_lettered
                        .get_or_create(&crate::metrics::ReasonLabel { reason: failure.reason })
                        .inc();
                    return Disposition::Delete;
                }
                Err(error) => {
                    let _paused = Paused::new(&self.n_paused);
                    tries += 1;
                    let pause = backoff(tries);
                    error!(error = format!("{error:#}"), retry_in_ms = pause.as_millis() as u64, "forward failed");
                    tokio::select! {
                        () = no_more.cancelled() => return Disposition::Release,
                        () = sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// Without a dead-letter queue a failed message is hidden for growing periods until its retention ends.
    async fn hide(&self, message: &Message) {
        let period = hide_period(message.receive_count);
        warn!(hidden_secs = period.as_secs(), "there is no dead-letter queue: hiding the failed message");
        if let Some(handle) = self.in_hand.drop_message(&message.message_id) {
            let _ = self.queue.extend(&[handle], period).await;
        }
    }
}

/// Counts a record that waits to be tried again for as long as it lives, also when its task is aborted.
struct Paused<'a>(&'a AtomicUsize);

impl<'a> Paused<'a> {
    fn new(n_paused: &'a AtomicUsize) -> Self {
        n_paused.fetch_add(1, Ordering::Relaxed);
        Self(n_paused)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a busy slot for as long as it lives, also when its task is aborted.
struct Busy<'a>(&'a Worker);

impl<'a> Busy<'a> {
    fn new(worker: &'a Worker) -> Self {
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

/// Returns the pause before try `n + 1`: doubling from half a second to 20 s, with jitter of a half.
fn backoff(n: u32) -> Duration {
    let full = Duration::from_millis(500 << n.min(6)).min(Duration::from_secs(20));
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Returns how long a failed message is hidden after its `n`th receive: doubling from half a minute to an hour.
fn hide_period(n: u32) -> Duration {
    Duration::from_secs(30 << n.saturating_sub(1).min(10)).min(MAX_HIDE)
}

/// Returns what identifies a failed message in the dead-letter queue; SQS takes ten attributes at most.
fn dead_letter_attributes(
    message: &Message,
    record: Option<&Record>,
    failure: &Failure,
    dataset: Option<&str>,
) -> Vec<(&'static str, String)> {
    let pointer = record.map(|record| &record.pointer);
    [
        ("penstock-reason", Some(failure.reason.to_owned())),
        ("penstock-error", Some(failure.error.clone())),
        ("penstock-message-id", Some(message.message_id.clone())),
        ("penstock-dataset", dataset.map(str::to_owned)),
        ("penstock-bucket", pointer.map(|p| p.bucket.clone())),
        ("penstock-key", pointer.map(|p| p.key.clone())),
        ("penstock-version-id", pointer.and_then(|p| p.version_id.clone())),
        ("penstock-etag", pointer.and_then(|p| p.etag.clone())),
    ]
    .into_iter()
    .filter_map(|(name, text)| Some((name, attribute_text(&text?)?)))
    .collect()
}

/// Returns a text SQS accepts as an attribute: not empty, no characters XML cannot hold, at most 1 KiB.
fn attribute_text(text: &str) -> Option<String> {
    let allowed = |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    let mut clean: String = text.chars().filter(allowed).collect();
    let mut end = clean.len().min(1024);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean.truncate(end);
    Some(clean).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::Sessions, object::memory::MemoryStore, queue::memory::MemoryQueue};

    #[test]
    fn attribute_texts_are_what_sqs_accepts() {
        assert_eq!(attribute_text("a\0b"), Some("ab".into()));
        assert_eq!(attribute_text(""), None);
        assert_eq!(attribute_text(&"é".repeat(600)).map(|t| t.len()), Some(1024));
    }

    #[test]
    fn failed_messages_without_a_dead_letter_queue_are_hidden_for_growing_periods_up_to_an_hour() {
        let minutes = [1, 2, 3, 7, 8, 1000].map(|n| hide_period(n).as_secs_f64() / 60.0);
        assert_eq!(minutes, [0.5, 1.0, 2.0, 32.0, 60.0, 60.0]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_message_held_for_too_long_is_given_back() {
        let timeout = Duration::from_secs(60);
        let queue = Arc::new(MemoryQueue::new(timeout));
        queue.send("m", "s3://b/k");
        let config = Config::default();
        let sessions = Sessions::new(|| Err::<service::postgres::Server, _>(anyhow::anyhow!("the database is down")));
        let store = Arc::new(MemoryStore::default());
        let importer = Importer::new(config.clone(), store, sessions, "w".into(), None).expect("no patterns");
        let shared = Arc::clone(&queue) as Arc<dyn Queue>;
        let metrics = Arc::new(Metrics::new(&[]));
        let surroundings = Surroundings::default();
        let mut worker = Worker::new(shared, Arc::new(importer), config, Arc::default(), metrics, surroundings);
        worker.hold_limit = Duration::from_secs(2);
        let (worker, stop) = (Arc::new(worker), CancellationToken::new());
        let running = tokio::spawn(run(Arc::clone(&worker), stop.clone(), Until::Stopped));
        let begun = Instant::now();
        // Given back it is received again at once, far from the end of its visibility timeout.
        while worker.progress.redeliveries.load(Ordering::Relaxed) == 0 {
            assert!(begun.elapsed() < timeout / 2, "it was not given back");
            sleep(Duration::from_millis(20)).await;
        }
        assert!(begun.elapsed() >= worker.hold_limit, "it was held until then");
        stop.cancel();
        assert!(running.await.expect("no panic"));
        assert_eq!(queue.depth().await.expect("memory").visible, 1, "a stop gives it back, too");
    }

    #[test]
    fn pauses_grow_to_twenty_seconds() {
        assert!(backoff(1) <= Duration::from_secs(1));
        assert!(backoff(50) >= Duration::from_secs(10) && backoff(50) <= Duration::from_secs(20));
    }
}
