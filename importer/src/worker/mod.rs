//! The worker: receives, imports, acknowledges, keeps what it holds, and drains when it is stopped.
//!
//! The path of a message: [`receive`] takes it in hand, [`message`] parses
//! and routes it, [`record`] takes each routed record through the importer as often as it needs, [`forward`] sends on
//! what failed, and [`ack`] deletes it; [`release`] gives back what is left.

mod ack;
pub mod beat;
mod brake;
mod brakes;
mod circuit;
mod dead_letter;
mod drain;
pub mod follow;
mod forward;
mod in_hand;
mod measure;
mod message;
mod receive;
mod record;
mod release;
mod retry;
mod turns;
mod waits;

use crate::{config::Config, import::Importer, instance::Surroundings, metrics::Metrics, queue::Queue};
use ack::Acker;
use brakes::Brakes;
use circuit::Circuit;
use in_hand::InHand;
use receive::Receiver;
use service::http::Health;
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use turns::Turns;
use waits::{Parked, Waits};

/// A message is given back before SQS's limit of 12 h on one receive
/// ([SQS, visibility timeout](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html)).
const HOLD_LIMIT: Duration = Duration::from_secs(11 * 3600);
/// Entries of a batch call: SQS's limit.
const BATCH: usize = 10;

/// What the heartbeat says of a worker while it runs.
#[derive(Debug, Default)]
struct Progress {
    /// Objects being imported now.
    busy: AtomicU32,
    /// Empty long polls in a row.
    empty_polls: AtomicU32,
    /// Messages received.
    receives: AtomicU64,
    /// Of them, received before.
    redeliveries: AtomicU64,
    /// Milliseconds since the epoch of the first answered receive; 0 before.
    first_receive_ms: AtomicU64,
    /// The worker no longer receives.
    draining: AtomicBool,
}

/// A worker's parts.
pub struct Worker {
    queue: Arc<dyn Queue>,
    importer: Arc<Importer>,
    in_hand: Arc<InHand>,
    circuit: Circuit,
    progress: Progress,
    metrics: Arc<Metrics>,
    /// The machine it runs on.
    surroundings: Surroundings,
    config: Config,
    turns: Turns,
    /// Records waiting to be tried again; they take no slot, and no room in the intake.
    waits: Waits,
    parked: Parked,
    brakes: Brakes,
    acker: Acker,
    /// Something may be due.
    committed: Notify,
    /// When it was stopped.
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
        let visibility_timeout = Duration::from_secs(config.queue.visibility_timeout_secs.into());
        tokio::spawn(in_hand::keep(Arc::clone(&queue), Arc::clone(&in_hand), visibility_timeout));
        let patience = Duration::from_secs(config.worker.brake_secs.into());
        Self {
            turns: Turns::new(config.worker.concurrency.max(1) as usize),
            acker: Acker::start(Arc::clone(&queue), Arc::clone(&in_hand)),
            brakes: Brakes::new(patience, false, Arc::clone(&health), Arc::clone(&metrics)),
            circuit: Circuit::new(health, Arc::clone(&metrics)),
            queue,
            importer,
            in_hand,
            progress: Progress::default(),
            metrics,
            surroundings,
            config,
            waits: Waits::default(),
            parked: Parked::default(),
            committed: Notify::new(),
            stopped_at: OnceLock::new(),
            hold_limit: HOLD_LIMIT,
        }
    }
}

/// Works until `stop` is cancelled or the queue is empty, then drains: what runs is finished, what was
/// not started is given back, and after `drain_timeout_secs`, or when the instance is about to go, the rest too.
/// By then it ends, whether or not there is an answer: what could not be given back comes back by itself.
///
/// Returns whether everything in hand was settled.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken, until: Until) -> bool {
    worker.brakes.until_empty(until == Until::Empty);
    let drain = CancellationToken::new();
    let tasks = Receiver::new(&worker, &stop, &drain, until).run().await;
    drain.cancel();
    worker.drain(tasks).await
}

#[cfg(test)]
mod tests;
