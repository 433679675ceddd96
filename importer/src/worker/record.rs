//! The path of one routed record: wait for a turn, attempt the import, and wait again where it is held.

use super::{
    Worker,
    brake::Decision,
    brakes::{Pass, Stake},
    measure::Busy,
    retry::Retry,
    turns::{Call, Turn},
};
use crate::{
    dataset::DatasetName,
    import::{GROUP_OBJECTS, Held, Job, MISSING_PAUSE, Settled, may_share},
    outcome::{Outcome, Outside},
    queue::Message,
    route::{Class, Routed},
};
use service::words::chain;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// One routed record of a message, to be settled however long it takes.
pub(super) struct RecordTask<'a> {
    worker: &'a Worker,
    message: &'a Message,
    routed: &'a Routed,
    class: Class,
    drain: &'a CancellationToken,
    job: Job<'a>,
    stake: Stake<'a>,
    retry: Retry<'a>,
    /// It may share a transaction with others that wait; not any more after that was tried.
    may_share: bool,
    /// When the message has to be given back.
    deadline: Instant,
}

/// Why a record is left unsettled.
pub(super) enum Left {
    /// The worker drains, or the message was held for too long.
    Unfinished,
    /// More of its dataset wait than are held.
    Crowded(DatasetName),
}

impl<'a> RecordTask<'a> {
    pub fn new(worker: &'a Worker, message: &'a Message, routed: &'a Routed, drain: &'a CancellationToken) -> Self {
        Self {
            worker,
            message,
            routed,
            class: routed.class(),
            drain,
            job: Job::new(&worker.importer, routed, Some(&message.message_id)),
            stake: worker.brakes.stake(),
            retry: Retry::new(worker, &message.message_id, drain),
            may_share: may_share(routed, None),
            deadline: Instant::now() + worker.hold_limit,
        }
    }

    /// Settles the record, unless the worker drains or the message must be given back first.
    ///
    /// # Errors
    /// [`Left`]: why it is not settled.
    pub async fn settle(mut self) -> Result<Settled, Left> {
        let worker = self.worker;
        let _open = worker.waits.open(&self.message.message_id, &self.class.dataset);
        loop {
            let waiting = Instant::now();
            let (pass, call) = self.turn().await?;
            let mut turn = match call {
                Call::Turn(turn) => turn,
                // It is started, so a drain waits for it as for any other.
                Call::Along(answer) => match answer.await {
                    Ok(settled) => {
                        settled.log_for(&self.routed.record, waiting.into_std());
                        return Ok(settled);
                    }
                    Err(_) => {
                        self.may_share = false;
                        continue;
                    }
                },
            };
            let begun = Instant::now();
            let goes_on = match self.attempt(&mut turn).await {
                Ok(settled) => {
                    if worker.circuit.improved(&self.class.dataset) {
                        info!("external failure resolved");
                    }
                    let Some(by) = self.braked_until(&settled).await else {
                        self.ended(turn, &settled, begun);
                        drop(pass);
                        worker.unpark(&self.class).await;
                        return Ok(settled);
                    };
                    turn.held();
                    drop(pass);
                    self.wait_at_brake(by).await
                }
                // Nothing is wrong with its dataset, so the slot is only given back.
                Err(held) if matches!(held.outside, Outside::Missing | Outside::Elsewhere) => {
                    drop(turn);
                    drop(pass);
                    let pause = if held.outside == Outside::Missing { MISSING_PAUSE } else { self.retry.pause() };
                    self.retry.wait_until(Instant::now() + pause).await
                }
                Err(held) => {
                    turn.held();
                    drop(pass);
                    // Where Postgres is out of reach nothing is received, so nothing is crowded out.
                    if held.outside != Outside::Postgres && worker.is_crowded(&self.class.dataset) {
                        return Err(Left::Crowded(self.class.dataset));
                    }
                    self.retry.wait_out(&held, &self.class.dataset).await
                }
            };
            if !goes_on {
                return Err(Left::Unfinished);
            }
        }
    }

    /// Waits for a slot, or for another record of the dataset that takes this one along.
    async fn turn(&self) -> Result<(Pass<'a>, Call), Left> {
        let turn = async {
            let pass = self.pass().await?;
            let routed = self.may_share.then(|| self.routed.clone());
            Ok((pass, self.worker.turns.wait(self.class.clone(), routed, &self.message.message_id).await))
        };
        tokio::select! {
            biased;
            () = self.drain.cancelled() => Err(Left::Unfinished),
            () = sleep_until(self.deadline) => {
                warn!("held for as long as SQS allows; giving the message back");
                Err(Left::Unfinished)
            }
            turn = turn => turn,
        }
    }

    /// Waits until the record may be tried, as far as that depends on what became of others.
    async fn pass(&self) -> Result<Pass<'a>, Left> {
        let worker = self.worker;
        let must_wait = worker.brakes.is_closed(&self.class) || worker.turns.is_troubled(&self.class);
        if must_wait && worker.is_crowded(&self.class.dataset) {
            return Err(Left::Crowded(self.class.dataset.clone()));
        }
        let _waiting = worker.waits.wait(&self.message.message_id);
        Ok(worker.brakes.pass(&self.class).await)
    }

    /// Imports the record, together with others where it may, else alone.
    async fn attempt(&mut self, turn: &mut Turn) -> Result<Settled, Held> {
        let worker = self.worker;
        let _busy = Busy::new(worker);
        self.retry.tried();
        if std::mem::take(&mut self.may_share)
            && let Some(settled) = self.attempt_together().await?
        {
            return Ok(settled);
        }
        turn.goes_alone();
        let begun = Instant::now();
        let settled = self.job.attempt().await?;
        worker.measured(&settled, begun.elapsed());
        Ok(settled)
    }

    /// Imports the record together with those that wait and may share its transaction; none when it has to go alone.
    async fn attempt_together(&self) -> Result<Option<Settled>, Held> {
        let worker = self.worker;
        let companions = worker.turns.take_along(&self.class.dataset, GROUP_OBJECTS - 1);
        if companions.is_empty() {
            return Ok(None);
        }
        let begun = Instant::now();
        let mut records = vec![self.routed];
        records.extend(companions.iter().map(|companion| &companion.routed));
        let mut settled = worker.importer.import_group(&records).await?.into_iter();
        let each = begun.elapsed() / u32::try_from(records.len()).unwrap_or(u32::MAX);
        let own = settled.next().flatten();
        for (companion, settled) in companions.into_iter().zip(settled) {
            if let Some(settled) = settled {
                worker.measured(&settled, each);
                companion.settled(settled);
            }
        }
        if let Some(settled) = &own {
            worker.measured(settled, each);
            settled.log_for(&self.routed.record, begun.into_std());
        }
        Ok(own)
    }

    /// Returns until when a record that failed for a cause that may not be its own waits at the brake; none when it
    /// is settled.
    async fn braked_until(&mut self, settled: &Settled) -> Option<Instant> {
        let Outcome::Failed(failure) = &settled.outcome else { return None };
        if !settled.may_be_braked() {
            return None;
        }
        let Decision::Wait(until) = self.stake.judge(&self.class, failure) else { return None };
        if let Some(object_id) = settled.object_id
            && let Err(held) = self.worker.importer.record_retry(object_id, failure).await
        {
            // For people only, so a ledger out of reach does not matter.
            debug!(error = chain(&held.error), "could not record the retry");
        }
        Some(until)
    }

    /// Does what is due when the record is settled by an attempt started then.
    fn ended(&self, turn: Turn, settled: &Settled, begun: Instant) {
        if settled.may_be_braked() {
            turn.held();
            self.worker.count(settled, begun.elapsed());
            settled.log_for(&self.routed.record, begun.into_std());
            return;
        }
        turn.settled();
        if matches!(settled.outcome, Outcome::Imported(_)) {
            self.worker.brakes.imported(&self.class, begun);
        }
    }

    /// Waits before a braked record is tried again; false when the worker drains meanwhile.
    async fn wait_at_brake(&self, by: Instant) -> bool {
        // Where others wait as well they are tried in turn, and the gate makes the pauses.
        if self.worker.brakes.is_closed(&self.class) {
            return !self.drain.is_cancelled();
        }
        self.retry.wait_until(by.min(Instant::now() + self.retry.pause())).await
    }
}
