//! The faults of a run: which there are, how often they are drawn, and how they are done to a [`Stand`].

use super::{plan::pause, stand::Stand};
use crate::proxy::{Action, Proxy, Rule, Trigger, http_answer};
use anyhow::Result;
use fastrand::Rng;
use std::{sync::Arc, time::Duration};

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Worker n is killed and another takes its place after the pause.
    Kill(usize, Duration),
    /// Worker n stands still for so long, beyond the visibility timeout, and then goes on.
    Freeze(usize, Duration),
    /// Postgres ends as in a power cut and starts again.
    CrashPostgres,
    /// All connections to Postgres end.
    CutPostgres,
    /// Nothing passes between workers and Postgres for so long, but connections stay.
    HoldPostgres(Duration),
    /// A connection ends before Postgres sees the start of a COPY.
    CutCopy,
    /// A connection ends so many rows further on in COPYs.
    CutRows(usize),
    /// A connection ends before Postgres sees a COMMIT.
    CutCommit,
    /// A connection ends before a COMMIT is answered.
    CutCommitAnswer,
    /// S3 answers so many GETs with 503.
    StoreUnavailable(usize),
    /// S3's answer to a GET breaks off after so many bytes.
    StoreCut(usize),
    /// A GET takes so much longer.
    StoreDelay(Duration),
    /// Received messages never arrive.
    CutReceive,
    /// A delete is never answered (true) or never made (false).
    CutDelete(bool),
    /// SQS refuses to extend messages, so many times.
    ExtendUnavailable(usize),
    /// A message is forwarded and the worker does not hear of it.
    CutForward,
    /// S3 never answers a request, one of [`STORE_CALLS`], and its connection stays. It has heard of it, or not.
    StoreSilent(usize, bool),
    /// The same of SQS and one of [`QUEUE_CALLS`].
    QueueSilent(usize, bool),
    /// The same of Postgres and one of [`STATEMENTS`].
    PostgresSilent(usize, bool),
    /// A pointer to a step, or a notice, is cut off or never answered, at one of [`SENDINGS`].
    LoseDue(usize),
}

const STORE_CALLS: [&str; 2] = ["GET", "HEAD"];
const QUEUE_CALLS: [&str; 3] = ["ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility"];
/// What is sent while an attempt is recorded, while rows are copied, when they are committed, and by the heartbeat.
const STATEMENTS: [&str; 4] = ["LEFT JOIN LATERAL", "PGCOPY\n", "COMMIT\0", "INTO penstock.workers"];

/// Where the sending of what is due breaks off: as it is claimed in Postgres (true) or sent to SQS, and how.
const SENDINGS: [(bool, Action); 6] = [
    (true, Action::CutAnswer(0)),
    (true, Action::HoldAnswer),
    (false, Action::CutRequest),
    (false, Action::CutAnswer(0)),
    (false, Action::HoldRequest),
    (false, Action::HoldAnswer),
];

/// The kinds of [`Fault`], as tables name them.
pub const KINDS: [&str; 20] = [
    "kill -9",
    "STOP/CONT",
    "Postgres immediate restart",
    "all connections cut",
    "network held",
    "cut at COPY",
    "cut in mid-COPY",
    "cut before COMMIT",
    "cut before COMMIT's answer",
    "S3 503",
    "S3 body cut",
    "S3 delayed",
    "receive lost",
    "delete cut",
    "extend 503",
    "forward cut",
    "S3 silent",
    "SQS silent",
    "Postgres silent",
    "due cut or silent",
];

/// Objects put for one fault of each kind of [`KINDS`].
const OBJECTS_PER_FAULT: [usize; 20] =
    [60, 100, 200, 100, 200, 50, 40, 40, 40, 30, 30, 30, 60, 40, 60, 100, 100, 100, 100, 30];

/// The kind that only happens where something follows a commit.
const LOSE_DUE: usize = 19;

/// Of the queue, in seconds; short, so that what a dead worker held comes back soon.
pub const VISIBILITY_SECS: u64 = 4;

impl Fault {
    /// Draws the faults of a run: of every kind at least one, spread over its deeds.
    pub(super) fn draw_all(rng: &mut Rng, n_objects: usize, n_deeds: usize, steps: bool) -> Vec<(usize, Self)> {
        let mut faults = Vec::new();
        for (kind, period) in OBJECTS_PER_FAULT.iter().enumerate().filter(|(kind, _)| steps || *kind != LOSE_DUE) {
            for _ in 0..(n_objects / period).max(1) {
                // Not in the last moments, when nothing may be left to disturb.
                faults.push((rng.usize(..(n_deeds * 9 / 10).max(1)), Self::draw(rng, kind)));
            }
        }
        faults.sort_by_key(|(at, _)| *at);
        faults
    }

    /// Draws one of a kind, given by its place in [`KINDS`].
    pub fn draw(rng: &mut Rng, kind: usize) -> Self {
        match kind {
            0 => Self::Kill(rng.usize(..), pause(rng, 0, 3000)),
            1 => Self::Freeze(rng.usize(..), pause(rng, VISIBILITY_SECS * 1250, VISIBILITY_SECS * 3500)),
            2 => Self::CrashPostgres,
            3 => Self::CutPostgres,
            4 => Self::HoldPostgres(pause(rng, 500, 6000)),
            5 => Self::CutCopy,
            6 => Self::CutRows(rng.usize(..300)),
            7 => Self::CutCommit,
            8 => Self::CutCommitAnswer,
            9 => Self::StoreUnavailable(rng.usize(1..15)),
            10 => Self::StoreCut(rng.usize(..4000)),
            11 => Self::StoreDelay(pause(rng, 500, 6000)),
            12 => Self::CutReceive,
            13 => Self::CutDelete(rng.bool()),
            14 => Self::ExtendUnavailable(rng.usize(1..4)),
            15 => Self::CutForward,
            16 => Self::StoreSilent(rng.usize(..STORE_CALLS.len()), rng.bool()),
            17 => Self::QueueSilent(rng.usize(..QUEUE_CALLS.len()), rng.bool()),
            18 => Self::PostgresSilent(rng.usize(..STATEMENTS.len()), rng.bool()),
            _ => Self::LoseDue(rng.usize(..SENDINGS.len())),
        }
    }

    /// Returns the place of its kind in [`KINDS`].
    #[must_use]
    pub fn kind(&self) -> usize {
        match self {
            Self::Kill(..) => 0,
            Self::Freeze(..) => 1,
            Self::CrashPostgres => 2,
            Self::CutPostgres => 3,
            Self::HoldPostgres(_) => 4,
            Self::CutCopy => 5,
            Self::CutRows(_) => 6,
            Self::CutCommit => 7,
            Self::CutCommitAnswer => 8,
            Self::StoreUnavailable(_) => 9,
            Self::StoreCut(_) => 10,
            Self::StoreDelay(_) => 11,
            Self::CutReceive => 12,
            Self::CutDelete(_) => 13,
            Self::ExtendUnavailable(_) => 14,
            Self::CutForward => 15,
            Self::StoreSilent(..) => 16,
            Self::QueueSilent(..) => 17,
            Self::PostgresSilent(..) => 18,
            Self::LoseDue(_) => LOSE_DUE,
        }
    }

    /// Does it to the stand, and returns when it is over or, where it waits for its moment, lies in wait.
    ///
    /// # Errors
    /// When it cannot be done, as when a worker or Postgres does not start.
    pub async fn happen(self, stand: &Arc<Stand>) -> Result<Injected> {
        let lie_in_wait = |proxy: &Proxy, pattern: &str, action, times| {
            Ok(Injected::InWait(proxy.add(Rule::when_client_sends(pattern, action).times(times))))
        };
        let get = format!("GET /{}/", stand.pipeline.bucket);
        match self {
            Self::Kill(worker, pause) => {
                stand.replace_worker(worker, pause).await?;
                Ok(Injected::Done)
            }
            Self::Freeze(worker, pause) => {
                let frozen = stand.freeze_worker(worker, pause).await?;
                Ok(if frozen { Injected::Done } else { Injected::Nothing })
            }
            Self::CrashPostgres => {
                stand.crash_postgres().await?;
                Ok(Injected::Done)
            }
            Self::CutPostgres => {
                stand.postgres_proxy.cut();
                Ok(Injected::Done)
            }
            Self::HoldPostgres(pause) => {
                stand.postgres_proxy.hold();
                tokio::time::sleep(pause).await;
                stand.postgres_proxy.open();
                Ok(Injected::Done)
            }
            Self::CutCopy => lie_in_wait(&stand.postgres_proxy, "PGCOPY\n", Action::CutRequest, 1),
            Self::CutRows(skip) => {
                let rule = Rule::when_client_sends(ROW_MARK, Action::CutRequest).after(skip);
                Ok(Injected::InWait(stand.postgres_proxy.add(rule)))
            }
            Self::CutCommit => lie_in_wait(&stand.postgres_proxy, "COMMIT\0", Action::CutRequest, 1),
            Self::CutCommitAnswer => lie_in_wait(&stand.postgres_proxy, "COMMIT\0", Action::CutAnswer(0), 1),
            Self::StoreUnavailable(times) => {
                lie_in_wait(&stand.s3_proxy, &get, Action::Answer(http_answer(503, "Slow Down")), times)
            }
            Self::StoreCut(bytes) => lie_in_wait(&stand.s3_proxy, &get, Action::CutAnswer(bytes), 1),
            Self::StoreDelay(pause) => lie_in_wait(&stand.s3_proxy, &get, Action::Delay(pause), 1),
            Self::CutReceive => lie_in_wait(&stand.sqs_proxy, "AmazonSQS.ReceiveMessage", Action::CutAnswer(0), 1),
            Self::CutDelete(made) => {
                let action = if made { Action::CutAnswer(0) } else { Action::CutRequest };
                lie_in_wait(&stand.sqs_proxy, "AmazonSQS.DeleteMessage", action, 1)
            }
            Self::ExtendUnavailable(times) => {
                let refuse = Action::Answer(http_answer(503, "Service Unavailable"));
                lie_in_wait(&stand.sqs_proxy, "AmazonSQS.ChangeMessageVisibility", refuse, times)
            }
            Self::CutForward => lie_in_wait(&stand.sqs_proxy, "AmazonSQS.SendMessage\r", Action::CutAnswer(0), 1),
            Self::StoreSilent(call, heard) => {
                let request = format!("{} /{}/", STORE_CALLS[call], stand.pipeline.bucket);
                Ok(fall_silent(&stand.s3_proxy, &request, heard))
            }
            Self::QueueSilent(call, heard) => {
                Ok(fall_silent(&stand.sqs_proxy, &format!("AmazonSQS.{}", QUEUE_CALLS[call]), heard))
            }
            Self::PostgresSilent(call, heard) => Ok(fall_silent(&stand.postgres_proxy, STATEMENTS[call], heard)),
            Self::LoseDue(sending) => {
                let (claimed, action) = SENDINGS[sending].clone();
                let (proxy, pattern) = if claimed {
                    (&stand.postgres_proxy, "penstock.claim_due(")
                } else {
                    (&stand.sqs_proxy, "AmazonSQS.SendMessageBatch")
                };
                Ok(Injected::Silent(proxy.add(Rule::when_client_sends(pattern, action))))
            }
        }
    }
}

/// Lets one request have no answer, ever.
fn fall_silent(proxy: &Proxy, pattern: &str, heard: bool) -> Injected {
    let action = if heard { Action::HoldAnswer } else { Action::HoldRequest };
    Injected::Silent(proxy.add(Rule::when_client_sends(pattern, action)))
}

/// The start of every row's value, by which rows are counted on their way into COPY.
const ROW_MARK: &str = "row ";

/// What became of a fault.
#[derive(Debug)]
pub enum Injected {
    /// It happened.
    Done,
    /// It could not be done: its victim was gone.
    Nothing,
    /// It waits for its pattern.
    InWait(Trigger),
    /// The same, and what it did lasts.
    Silent(Trigger),
}

impl Injected {
    /// Lets it happen no more, and returns how often it has.
    #[must_use]
    pub fn finish(&self) -> usize {
        match self {
            Self::Done => 1,
            Self::Nothing => 0,
            Self::InWait(trigger) => {
                trigger.release();
                trigger.count()
            }
            Self::Silent(trigger) => {
                if trigger.count() == 0 {
                    trigger.release();
                }
                trigger.count()
            }
        }
    }
}
