//! The worker: receives, imports, acknowledges, keeps what it holds, and stops when told to.
//!
//! One of the two places that read the clock. A message's way: `run` receives it, `Worker::settle`
//! takes it through [`Importer::import`] as often as it needs, `Acker` deletes it.

mod ack;
pub mod beat;
mod brake;
mod brakes;
mod dead_letter;
mod in_hand;
mod outside;
mod turns;
mod waits;

pub use in_hand::{InHand, Intake};
pub use turns::{Call, Class, Turn, Turns};
use waits::{Parked, Waits, park_period};

use crate::{
    config::Config,
    http::Health,
    import::{GROUP_OBJECTS, Held, Importer, MISSING_PAUSE, Settled, log_together},
    instance::Surroundings,
    message::{self, Parsed, Record},
    metrics::{Metrics, ObjectCounts},
    outcome::{Failure, Outcome, Outside},
    queue::{EntryError, Message, Queue, Refused},
};
use ack::Acker;
use brake::Verdict;
use brakes::{Brakes, Pass, Stake};
use dead_letter::{Failed, dead_letters};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use outside::Weather;
use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
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
/// What a stop keeps of its time for the last deletes and for giving messages back, at most and at least.
const LAST_CALLS: Duration = Duration::from_secs(5);
const LEAST_LAST_CALLS: Duration = Duration::from_millis(500);
/// How long giving messages back may take while others wait for it; what is not given back comes back by itself.
const RELEASE_LIMIT: Duration = Duration::from_secs(10);
/// Messages of one dataset that may wait in hand for better times. More of them are given back to the queue,
/// hidden, and cost a receive; with fewer that happens sooner.
const MAX_WAITING: usize = 200;
/// Records of one message under way at once; more than may wait of a dataset, so that those of others get their turn.
const RECORDS_AT_ONCE: usize = 256;

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
    waits: Waits,
    parked: Parked,
    brakes: Brakes,
    acker: Acker,
    /// When it was told to stop.
    stopped_at: OnceLock<Instant>,
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
        let in_hand = Arc::new(InHand::new(Arc::clone(&health)));
        let turns = Turns::new(config.worker.concurrency.max(1) as usize);
        let acker = Acker::start(Arc::clone(&queue), Arc::clone(&in_hand));
        let visibility = Duration::from_secs(config.queue.visibility_timeout_secs.into());
        tokio::spawn(in_hand::keep(Arc::clone(&queue), Arc::clone(&in_hand), visibility));
        let patience = Duration::from_secs(config.worker.brake_secs.into());
        let names = config.datasets.iter().map(|dataset| dataset.name.clone()).collect();
        let brakes = Brakes::new(patience, false, names, Arc::clone(&health), Arc::clone(&metrics));
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
            waits: Waits::default(),
            parked: Parked::default(),
            brakes,
            acker,
            stopped_at: OnceLock::new(),
            hold_limit: HOLD_LIMIT,
        }
    }
}

/// Works until `stop` is cancelled or the queue is empty, then drains: what runs is finished, what was
/// not begun is given back, and after `drain_timeout_secs`, or when the instance is about to go, the rest too.
/// By then it ends, whoever is silent: what could not be given back comes back by itself.
///
/// Returns whether everything in hand was settled.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken, until: Until) -> bool {
    worker.brakes.until_empty(until == Until::Empty);
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
    }
    tasks.shutdown().await;
    // A queue that is silent does not keep the stop from its end.
    let now = Instant::now();
    let end = worker.ends_of_stop().1.max(now + LEAST_LAST_CALLS);
    worker.acker.finish(now + (end - now) / 2).await;
    // Nobody else could make those visible that are parked.
    let left = [worker.in_hand.take_all(), worker.parked.take_all(now)].concat();
    if timeout_at(end, worker.release(&left)).await.is_err() {
        warn!("the queue does not answer: the rest comes back after its visibility timeout");
    }
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
        tokio::select! {
            () = worker.stopped(stop) => return,
            () = worker.release_ended(tasks) => {}
        }
        let intake = if worker.in_hand.is_empty() { outside::Intake::Open } else { worker.weather.intake() };
        let wanted = match intake {
            outside::Intake::Open => worker.wanted(),
            outside::Intake::Probing if probed_at.elapsed() >= PROBE => worker.wanted().min(1),
            outside::Intake::Probing | outside::Intake::Paused => 0,
        };
        if wanted == 0 {
            tokio::select! {
                () = worker.stopped(stop) => return,
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
            () = worker.stopped(stop) => {
                begun.cancel();
                if let Ok(Ok(messages)) = timeout(LAST_ANSWER, receiving).await {
                    let end = worker.ends_of_stop().1.max(Instant::now() + LEAST_LAST_CALLS);
                    let _ = timeout_at(end, worker.release_unbegun(&messages)).await;
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
                    () = worker.stopped(stop) => return,
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
    /// More of its dataset wait than are held: give it back, hidden.
    Park(Class),
}

/// What is left to do about a message whose task has ended: nothing, or give it back.
type Ended = Option<GivenBack>;

/// A message to be given back, at once or, where records of a class have to wait, hidden until that is over.
struct GivenBack {
    message_id: String,
    receive_count: u32,
    parked: Option<Class>,
}

/// Why a record was left unsettled.
enum Left {
    /// The worker stops, or it was held for too long.
    Stopped,
    /// More of its dataset wait than are held.
    Crowded(Class),
}

/// Entries of a batch call: SQS's limit.
const BATCH: usize = 10;

impl Worker {
    /// Returns how many messages to ask for.
    fn wanted(&self) -> usize {
        let n_slots = self.config.worker.concurrency.max(1) as usize;
        let (_, n_idle) = self.waits.n_waiting(None, &self.turns.stalled());
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
        let mut queue_answers = true;
        loop {
            let ended = tokio::select! {
                biased;
                ended = tasks.join_next() => ended,
                () = &mut end => return false,
            };
            let Some(ended) = ended else { return true };
            let mut unbegun: Vec<GivenBack> = ended.ok().flatten().into_iter().collect();
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

    /// Returns once the worker is told to stop.
    async fn stopped(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        self.stopped_at.get_or_init(Instant::now);
    }

    /// Returns when a stop has to be over; of a worker that ended by itself, counted from now.
    #[must_use]
    pub fn end_of_stop(&self) -> Instant {
        self.ends_of_stop().1
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
    async fn end_of_drain(&self) {
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

    /// Gives back the messages of tasks that ended without settling them.
    async fn release_ended(&self, tasks: &mut JoinSet<Ended>) {
        let mut unsettled = Vec::new();
        while let Some(ended) = tasks.try_join_next() {
            unsettled.extend(ended.ok().flatten());
        }
        let _ = timeout(RELEASE_LIMIT, self.give_back(unsettled)).await;
    }

    /// Gives messages back; returns whether the queue answers.
    async fn give_back(&self, messages: Vec<GivenBack>) -> bool {
        let mut at_once = Vec::new();
        let mut hidden: Vec<(Duration, Class, String)> = Vec::new();
        for GivenBack { message_id, receive_count, parked } in messages {
            let Some(handle) = self.in_hand.drop_message(&message_id) else { continue };
            match parked {
                Some(class) => hidden.push((park_period(receive_count), class, handle)),
                None => at_once.push(handle),
            }
        }
        hidden.sort_by_key(|(period, ..)| *period);
        for together in hidden.chunk_by(|(one, ..), (other, ..)| one == other) {
            let period = together[0].0;
            let handles: Vec<String> = together.iter().map(|(.., handle)| handle.clone()).collect();
            debug!(messages = handles.len(), hidden_secs = period.as_secs(), "more wait than are held: given back");
            // Noted first, so that a stop in the middle knows them: to release one that is not hidden does no harm.
            for (_, class, handle) in together {
                self.parked.add(class, handle.clone(), Instant::now() + period);
            }
            self.queue.extend(&handles, period).await;
        }
        self.release(&at_once).await
    }

    /// Makes messages visible that were parked for a dataset which has something settled, as far as there is room.
    async fn unpark(&self, class: &Class) {
        if self.parked.is_empty() || self.brakes.is_closed(class) {
            return;
        }
        let (n_waiting, _) = self.waits.n_waiting(class.dataset, &self.turns.stalled());
        if n_waiting < MAX_WAITING / 2 {
            let handles = self.parked.take(class.dataset, MAX_WAITING, Instant::now());
            let _ = timeout(RELEASE_LIMIT, self.release(&handles)).await;
        }
    }

    /// Returns whether another message of a dataset that has to wait is one too many.
    fn is_crowded(&self, class: &Class) -> bool {
        let (of_dataset, _) = self.waits.n_waiting(class.dataset, &self.turns.stalled());
        of_dataset >= MAX_WAITING || (of_dataset > 1 && self.in_hand.is_filling())
    }

    /// Gives back messages that came with the last answer; those already in hand only have a newer handle now.
    async fn release_unbegun(&self, messages: &[Message]) {
        let unbegun = messages.iter().filter(|m| self.in_hand.take(m));
        let handles: Vec<String> = unbegun.filter_map(|m| self.in_hand.drop_message(&m.message_id)).collect();
        self.release(&handles).await;
    }

    /// Makes messages visible to others at once; returns whether the queue answers.
    async fn release(&self, handles: &[String]) -> bool {
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
                self.forward(&message, &[], &failure, &no_more).await
            }
            Parsed::Records(records) => {
                self.in_hand.weigh(&message, records.len().min(RECORDS_AT_ONCE));
                self.settle_records(&message, &records, &no_more).await
            }
        };
        match disposition {
            Disposition::Delete => {
                self.acker.delete(&message.message_id).await;
                None
            }
            Disposition::Release => {
                Some(GivenBack { message_id: message.message_id, receive_count: message.receive_count, parked: None })
            }
            Disposition::Park(class) => Some(GivenBack {
                message_id: message.message_id,
                receive_count: message.receive_count,
                parked: Some(class),
            }),
        }
    }

    async fn settle_records(&self, message: &Message, records: &[Record], no_more: &CancellationToken) -> Disposition {
        let end = Instant::now() + self.hold_limit;
        // A message may name thousands of records, and each that is under way takes some KiB.
        let (mut under_way, mut ended) = (FuturesUnordered::new(), Vec::with_capacity(records.len()));
        for (at, record) in records.iter().enumerate() {
            if under_way.len() == RECORDS_AT_ONCE {
                ended.extend(under_way.next().await);
            }
            under_way.push(async move { (at, self.settle_record(message, record, no_more).await) });
        }
        ended.extend(under_way.collect::<Vec<_>>().await);
        ended.sort_unstable_by_key(|(at, _)| *at);
        let mut settled = Vec::with_capacity(records.len());
        let mut left = None;
        for (_, record) in ended {
            match record {
                Ok(record) => settled.push(record),
                Err(Left::Stopped) => left = Some(Disposition::Release),
                Err(Left::Crowded(class)) => left = left.or(Some(Disposition::Park(class))),
            }
        }
        if let Some(left) = left {
            return left;
        }
        let failed: Vec<Failed<'_>> = records
            .iter()
            .zip(&settled)
            .filter_map(|(record, settled)| match &settled.outcome {
                Outcome::Failed(failure) if !settled.already_forwarded => Some(Failed { record, settled, failure }),
                _ => None,
            })
            .collect();
        let Some(Failed { failure, .. }) = failed.first() else {
            return Disposition::Delete;
        };
        // The body goes to the dead-letter queue before the ledger says so, and the ledger before the delete:
        // a crash in between sends it twice, never not at all.
        let disposition = self.forward(message, &failed, failure, no_more).await;
        let forwarded = (self.queue.has_dead_letter_queue() && matches!(disposition, Disposition::Delete))
            .then_some(message.message_id.as_str());
        if matches!(disposition, Disposition::Release) && self.queue.has_dead_letter_queue() {
            return disposition;
        }
        for Failed { record, settled, failure } in &failed {
            let Some(object_id) = settled.object_id else { continue };
            let mut tries = 0;
            while let Err(held) = self.importer.record_failure(object_id, failure, forwarded).await {
                tries += 1;
                if !self.wait_out(message, &held, &self.importer.class(record), tries, no_more).await
                    || Instant::now() > end
                {
                    return Disposition::Release;
                }
            }
        }
        if forwarded.is_none() {
            self.hide(message).await;
        }
        disposition
    }

    /// Settles one record, however long it takes, unless the worker stops or the message must be given back first.
    async fn settle_record(
        &self,
        message: &Message,
        record: &Record,
        no_more: &CancellationToken,
    ) -> Result<Settled, Left> {
        let deadline = Instant::now() + self.hold_limit;
        let class = self.importer.class(record);
        let _open = self.waits.open(&message.message_id, class.dataset);
        let mut stake = self.brakes.stake();
        // The dataset it may be loaded into together with others that wait; none after that was tried.
        let mut together = self.importer.groups(record, None, None);
        let mut tries = 0;
        let mut missed = false;
        loop {
            let waiting = Instant::now();
            let turn = async {
                let pass = self.pass(message, &class).await?;
                let record = together.map(|_| record.clone());
                Ok((pass, self.turns.wait(class.clone(), record, &message.message_id).await))
            };
            let (pass, call) = tokio::select! {
                biased;
                () = no_more.cancelled() => return Err(Left::Stopped),
                () = sleep_until(deadline) => {
                    warn!("held for as long as SQS allows; giving the message back");
                    return Err(Left::Stopped);
                }
                turn = turn => turn?,
            };
            let turn = match call {
                Call::Turn(turn) => turn,
                // It is begun, so a stop waits for it as for any other.
                Call::Along(answer) => match answer.await {
                    Ok(settled) => {
                        log_together(record, &settled, waiting.into_std());
                        return Ok(settled);
                    }
                    Err(_) => {
                        together = None;
                        continue;
                    }
                },
            };
            let busy = Busy::new(self);
            let begun = Instant::now();
            let result = self.import(message, record, &class, together.take(), missed).await;
            drop(busy);
            tries += 1;
            let may_go_on = match result {
                Ok(settled) => {
                    if self.weather.improved(self.importer.dataset_name(class.dataset)) {
                        info!("what was broken outside works again");
                    }
                    match self.judge(&mut stake, &class, &settled).await {
                        Verdict::Fail => {
                            self.ended(turn, record, &class, &settled, begun);
                            drop(pass);
                            self.unpark(&class).await;
                            return Ok(settled);
                        }
                        Verdict::Wait(by) => {
                            turn.held();
                            drop(pass);
                            self.wait_at_brake(message, &class, by, tries, no_more).await
                        }
                    }
                }
                // Nothing is wrong with its dataset, so the slot is only given back.
                Err(held) if held.outside == Outside::Missing => {
                    drop(turn);
                    drop(pass);
                    missed = true;
                    let _waiting = self.waits.wait(&message.message_id);
                    tokio::select! {
                        () = no_more.cancelled() => false,
                        () = sleep(MISSING_PAUSE) => true,
                    }
                }
                Err(held) => {
                    turn.held();
                    drop(pass);
                    // Where Postgres is out of reach the intake pauses, and nobody crowds.
                    if held.outside != Outside::Postgres && self.is_crowded(&class) {
                        return Err(Left::Crowded(class));
                    }
                    self.wait_out(message, &held, &class, tries, no_more).await
                }
            };
            if !may_go_on {
                return Err(Left::Stopped);
            }
        }
    }

    /// Waits until a record may be tried, as far as that depends on what became of others.
    async fn pass(&self, message: &Message, class: &Class) -> Result<Pass<'_>, Left> {
        let must_wait = self.brakes.is_closed(class) || self.turns.is_troubled(class);
        if must_wait && self.is_crowded(class) {
            return Err(Left::Crowded(class.clone()));
        }
        let _waiting = self.waits.wait(&message.message_id);
        Ok(self.brakes.pass(class).await)
    }

    /// Decides whether a record is settled, or has failed for a cause that may not be its own and is tried again.
    async fn judge(&self, stake: &mut Stake<'_>, class: &Class, settled: &Settled) -> Verdict {
        let Outcome::Failed(failure) = &settled.outcome else { return Verdict::Fail };
        if !settled.may_be_braked() {
            return Verdict::Fail;
        }
        let verdict = stake.judge(class, failure);
        if let (Verdict::Wait(_), Some(object_id)) = (verdict, settled.object_id)
            && let Err(held) = self.importer.record_retry(object_id, failure).await
        {
            // For people only, so a ledger out of reach does not matter.
            debug!(error = format!("{:#}", held.error), "could not record the retry");
        }
        verdict
    }

    /// Does what is due when a record is settled by an attempt begun then.
    fn ended(&self, turn: Turn, record: &Record, class: &Class, settled: &Settled, begun: Instant) {
        if settled.may_be_braked() {
            turn.held();
            self.count(settled, begun.elapsed());
            log_together(record, settled, begun.into_std());
            return;
        }
        turn.settled();
        if matches!(settled.outcome, Outcome::Imported(_)) {
            self.brakes.imported(class, begun);
        }
    }

    /// Waits before a braked object is tried again; false when the worker stops meanwhile.
    async fn wait_at_brake(
        &self,
        message: &Message,
        class: &Class,
        by: Instant,
        tries: u32,
        no_more: &CancellationToken,
    ) -> bool {
        // Where others wait as well they are tried in turn, and the gate makes the pauses.
        if self.brakes.is_closed(class) {
            return !no_more.is_cancelled();
        }
        let _waiting = self.waits.wait(&message.message_id);
        tokio::select! {
            () = no_more.cancelled() => false,
            () = sleep_until(by.min(Instant::now() + backoff(tries))) => true,
        }
    }

    /// Imports a record that has a slot, and takes those along that wait and may be loaded `together` with it.
    async fn import(
        &self,
        message: &Message,
        record: &Record,
        class: &Class,
        together: Option<usize>,
        missed: bool,
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
        let settled = self.importer.look(record, None, Some(&message.message_id), missed).await?;
        self.measured(&settled, begun.elapsed());
        Ok(settled)
    }

    fn measured(&self, settled: &Settled, duration: Duration) {
        self.in_hand.intake().measured(duration);
        // What may be tried again is counted when it is not.
        if !settled.may_be_braked() {
            self.count(settled, duration);
        }
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
    async fn wait_out(
        &self,
        message: &Message,
        held: &Held,
        class: &Class,
        tries: u32,
        no_more: &CancellationToken,
    ) -> bool {
        let _waiting = self.waits.wait(&message.message_id);
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

    /// Sends a failed message to the dead-letter queue, trying until it is there; what the queue does not take
    /// is sent with less.
    async fn forward(
        &self,
        message: &Message,
        failed: &[Failed<'_>],
        failure: &Failure,
        no_more: &CancellationToken,
    ) -> Disposition {
        if !self.queue.has_dead_letter_queue() {
            if failed.is_empty() {
                self.hide(message).await;
            }
            return Disposition::Release;
        }
        let mut choices = dead_letters(message, failed, failure).into_iter().peekable();
        let end = Instant::now() + self.hold_limit;
        let mut tries = 0;
        loop {
            let letters = choices.peek().map_or(&[][..], Vec::as_slice);
            let mut sent = Ok(());
            for letter in letters {
                sent = self.queue.forward(&letter.body, &letter.attributes).await;
                if sent.is_err() {
                    break;
                }
            }
            let Err(error) = sent else {
                let label = crate::metrics::ReasonLabel { reason: failure.reason };
                self.metrics.messages_dead_lettered.get_or_create(&label).inc();
                return Disposition::Delete;
            };
            let refused = error.downcast_ref::<Refused>().is_some();
            if refused && choices.len() > 1 {
                warn!(
                    error = format!("{error:#}"),
                    "the dead-letter queue does not take the message: sending less of it"
                );
                choices.next();
                continue;
            }
            let _waiting = self.waits.wait(&message.message_id);
            tries += 1;
            let pause = backoff(tries);
            error!(error = format!("{error:#}"), retry_in_ms = pause.as_millis() as u64, "forward failed");
            tokio::select! {
                () = no_more.cancelled() => return Disposition::Release,
                () = sleep_until(end) => return Disposition::Release,
                () = sleep(pause) => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::Sessions, object::memory::MemoryStore, queue::memory::MemoryQueue};

    #[test]
    fn failed_messages_without_a_dead_letter_queue_are_hidden_for_growing_periods_up_to_an_hour() {
        let minutes = [1, 2, 3, 7, 8, 1000].map(|n| hide_period(n).as_secs_f64() / 60.0);
        assert_eq!(minutes, [0.5, 1.0, 2.0, 32.0, 60.0, 60.0]);
    }

    /// A worker whose database is down.
    fn worker(queue: &Arc<MemoryQueue>) -> Worker {
        let config = Config::default();
        let sessions = Sessions::new(|| Err::<service::postgres::Server, _>(anyhow::anyhow!("the database is down")));
        let store = Arc::new(MemoryStore::default());
        let importer = Importer::new(config.clone(), store, sessions, "w".into(), None).expect("no patterns");
        let shared = Arc::clone(queue) as Arc<dyn Queue>;
        let metrics = Arc::new(Metrics::new(&[]));
        Worker::new(shared, Arc::new(importer), config, Arc::default(), metrics, Surroundings::default())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_dead_letter_that_is_too_long_is_sent_with_less_and_holds_nothing() {
        for (body_bytes, kept_whole) in [(49_990, true), (60_000, false)] {
            let queue = Arc::new(MemoryQueue::new(Duration::from_secs(60)).with_max_bytes(50_000));
            let body = "x".repeat(body_bytes);
            queue.send("m", &body);
            let (worker, stop) = (Arc::new(worker(&queue)), CancellationToken::new());
            let running = tokio::spawn(run(worker, stop.clone(), Until::Stopped));
            let begun = Instant::now();
            while !queue.depth().await.expect("memory").is_empty() {
                assert!(begun.elapsed() < Duration::from_secs(20), "it is held");
                sleep(Duration::from_millis(20)).await;
            }
            stop.cancel();
            assert!(running.await.expect("no panic"));
            let [(sent, attributes)] = &queue.dead_letters()[..] else { panic!("one") };
            if kept_whole {
                assert_eq!((sent, attributes.len()), (&body, 0));
            } else {
                assert!(sent.contains("\"body_bytes\":60000") && sent.contains("\"message_id\":\"m\""), "{sent}");
                assert_eq!(attributes.len(), 1);
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_message_held_for_too_long_is_given_back() {
        let timeout = Duration::from_secs(60);
        let queue = Arc::new(MemoryQueue::new(timeout));
        queue.send("m", "s3://b/k");
        let mut worker = worker(&queue);
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

    #[tokio::test(flavor = "multi_thread")]
    async fn of_a_message_of_many_records_some_are_under_way_at_once_and_they_are_weighed() {
        let queue = Arc::new(MemoryQueue::new(Duration::from_secs(60)));
        let record = r#"{"eventVersion":"2.1","eventSource":"aws:s3","eventTime":"2026-01-01T00:00:00.000Z",
            "eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k","size":5,"eTag":"e"}}}"#;
        // A little less than may be held: what is under way makes it more.
        let blanks = " ".repeat(15 * 1024 * 1024);
        queue.send("m", &format!("{{\"Records\":[{}]{blanks}}}", vec![record; 2 * RECORDS_AT_ONCE].join(",")));
        let (worker, stop) = (Arc::new(worker(&queue)), CancellationToken::new());
        let running = tokio::spawn(run(Arc::clone(&worker), stop.clone(), Until::Stopped));
        let begun = Instant::now();
        while worker.waits.n_open("m") < RECORDS_AT_ONCE {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", worker.waits.n_open("m"));
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(worker.waits.n_open("m"), RECORDS_AT_ONCE);
        assert_eq!(worker.in_hand.room(), 0);
        stop.cancel();
        assert!(running.await.expect("no panic"));
        assert_eq!(queue.depth().await.expect("memory").visible, 1, "a stop gives it back");
    }

    #[test]
    fn pauses_grow_to_twenty_seconds() {
        assert!(backoff(1) <= Duration::from_secs(1));
        assert!(backoff(50) >= Duration::from_secs(10) && backoff(50) <= Duration::from_secs(20));
    }
}
