//! Sends what follows a commit, right after it, and what others left; and tells of what no entry of the ledger stands for.

use super::Worker;
use crate::{
    config::Event,
    import::{
        Foreign,
        tags::{DueTags, Tagging},
    },
    outcome::Failure,
    queue::Message,
};
use serde_json::json;
use service::{
    due::{self, Sender, Targets},
    http::Health,
    words::chain,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How often it is looked for what others left.
const LOOK: Duration = Duration::from_secs(5);
/// Commits within this are followed by one sending.
const GATHER: Duration = Duration::from_millis(100);
/// How long one sending may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How long the last sending of a stopping worker may take.
const LAST: Duration = Duration::from_secs(3);
/// How long a sending that is under way may go on when the worker stops.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is asked which steps there are.
const ASK: Duration = Duration::from_secs(10);

/// How long something has to be out of reach before people are told.
const OUTAGE: Duration = Duration::from_secs(60);

/// What `/readyz` calls steps that the configuration lacks.
const STEPS: &str = "steps";
/// What `/readyz` calls differences from the configuration.
const REGISTERED: &str = "registered";

/// Sends until `stop` is cancelled, and then once more.
pub async fn follow(
    worker: Arc<Worker>,
    targets: Targets,
    tagging: Tagging,
    health: Arc<Health>,
    stop: CancellationToken,
) {
    let mut asked: Option<Instant> = None;
    let mut any = false;
    let (mut sender, mut tagger) = (Sender::default(), Sender::default());
    let due_tags = DueTags(&worker.importer);
    let mut held = Held::default();
    while !stop.is_cancelled() {
        if asked.is_none_or(|at| at.elapsed() >= ASK) {
            asked = Some(Instant::now());
            match worker.importer.foreign_steps(&worker.config).await {
                Ok(foreign) => {
                    any = foreign.is_some();
                    note(&health, &foreign.unwrap_or_default());
                }
                Err(error) => debug!(error = chain(&error), "could not ask for the steps"),
            }
        }
        if any {
            held.tell(&worker, &health).await;
            let stopping = async {
                stop.cancelled().await;
                sleep(GRACE).await;
            };
            // S3 and the other targets do not wait for each other.
            let sending = async {
                tokio::join!(sender.send(&*worker.importer, &targets, LIMIT), tagger.send(&due_tags, &tagging, LIMIT))
            };
            tokio::select! {
                _ = sending => {}
                // What was claimed is sent by others after its lease.
                () = stopping => break,
            }
        }
        let pause = async {
            drop(timeout(LOOK, worker.committed.notified()).await);
            sleep(GATHER).await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = pause => {}
        }
    }
    let end = Instant::now() + LAST;
    let last =
        async { tokio::try_join!(due::send(&*worker.importer, &targets, end), due::send(&due_tags, &tagging, end)) };
    if any && !matches!(timeout(LAST, last).await, Ok(Ok(_))) {
        debug!("leaving pending messages to other workers");
    }
}

fn note(health: &Health, Foreign { unknown, differences }: &Foreign) {
    let unless = |is_empty: bool, problem: String| if is_empty { Ok(()) } else { Err(problem) };
    let problem = format!(
        "registered but not in this worker's configuration: {}; deploy the newest configuration, or unregister them with \
         importer migrate --forget NAME",
        unknown.join(", ")
    );
    health.note(STEPS, unless(unknown.is_empty(), problem));
    let problem = format!(
        "not as in this worker's configuration: {}; run importer migrate with the newest configuration, and start the \
         workers that have an older one with it",
        differences.join("; ")
    );
    health.note(REGISTERED, unless(differences.is_empty(), problem));
}

/// What is held: dataset and reason, and how.
#[derive(Default)]
struct Held(BTreeMap<(String, String), Holding>);

struct Holding {
    since: Instant,
    error: String,
    /// How long it has to last before people are told.
    after: Duration,
    told: bool,
}

impl Held {
    /// Tells of brakes that are on, and of what has been out of reach for [`OUTAGE`], once each; of an outage in which
    /// nothing could be written, when it is over.
    async fn tell(&mut self, worker: &Worker, health: &Health) {
        let mut now: BTreeMap<(String, String), (String, Duration)> = BTreeMap::new();
        for (cause, error) in worker.brakes.causes() {
            now.insert((cause.dataset.to_string(), cause.reason.to_string()), (error, Duration::ZERO));
        }
        for part in ["postgres", "object store", "queue"] {
            if let Some(why) = health.why(part) {
                now.insert((String::new(), part.to_owned()), (why, OUTAGE));
            }
        }
        for (what, (error, after)) in &now {
            let since = Instant::now();
            let new = || Holding { since, error: error.clone(), after: *after, told: false };
            self.0.entry(what.clone()).or_insert_with(new);
        }
        for ((dataset, reason), held) in &mut self.0 {
            if held.told || held.since.elapsed() < held.after {
                continue;
            }
            let ended = !now.contains_key(&(dataset.clone(), reason.clone()));
            let said = json!({"reason": reason, "error": held.error, "ended": ended, "do": "importer check"});
            match worker.importer.tell(Event::Held, dataset, &said.to_string()).await {
                Ok(()) => held.told = true,
                Err(error) => debug!(error = chain(&error), "could not record a held notice"),
            }
        }
        self.0.retain(|what, held| {
            now.contains_key(what) || !held.told && held.since.elapsed() >= held.after && held.after > Duration::ZERO
        });
    }
}

impl Worker {
    /// Tells of a message that cannot be read.
    pub(super) async fn tell_unreadable(&self, message: &Message, failure: &Failure) {
        let mends = format!("importer redrive --reason {}", failure.reason);
        let said = json!({"message_id": message.message_id, "error": failure.error, "do": mends}).to_string();
        match self.importer.tell(Event::UnreadableMessage, "", &said).await {
            Ok(()) => self.committed.notify_one(),
            // The dead-letter queue has it in any case.
            Err(error) => warn!(error = chain(&error), "could not record a notice about an unreadable message"),
        }
    }
}
