//! `importer replay`: pointers of known or existing objects through the queue.

mod select;

use super::{EXIT_INCOMPLETE, connect_queue, output, progress};
use crate::{
    cli::Replay,
    config::Config,
    message::{Anew, pointer_body},
};
use chrono::{DateTime, Utc};
use select::{Selected, Selection, existing, known, outdated};
use service::aws::sqs::BATCH;
use std::{collections::HashMap, process::ExitCode, time::Duration};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// Sends a pointer for every object the options select: from the ledger, or, with nothing but a
/// prefix, everything that lies under it.
///
/// # Errors
/// When the ledger, the bucket or the queue is out of reach.
pub async fn run(config: &Config, options: &Replay) -> anyhow::Result<ExitCode> {
    let from_ledger = options.dataset.is_some()
        || options.state.is_some()
        || options.since.is_some()
        || options.until.is_some()
        || options.as_recorded;
    let Selection { selected, left } = if options.outdated {
        outdated(config, options).await?
    } else if from_ledger {
        known(config, options).await?.into()
    } else {
        existing(config, options).await?.into()
    };
    left.iter().for_each(output::complain);
    if selected.is_empty() {
        output::say("nothing to replay");
        return Ok(if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) });
    }
    let aws = service::aws::config().await?;
    let mut queues = HashMap::new();
    for Selected { queue, .. } in &selected {
        if !queues.contains_key(&queue.name) {
            queues.insert(queue.name.clone(), connect_queue(&aws, queue).await?);
        }
    }
    let bar = progress(Some(selected.len() as u64), "pointers sent");
    let mut pace = Pace::new(options);
    let (mut n_sent, mut n_failed) = (0u64, 0u64);
    let mut batch = Vec::with_capacity(BATCH);
    let mut selected = selected.into_iter().peekable();
    while let Some(Selected { mut record, at, queue }) = selected.next() {
        pace.wait(at).await;
        if options.force {
            record.anew = Some(Anew::Forced);
        }
        batch.push((pointer_body(&record), record.pointer));
        // What may go now goes together; what has to wait for its time keeps nothing waiting.
        let is_full = batch.len() == BATCH;
        let goes_along = |next: &Selected<'_>| next.queue.name == queue.name && pace.is_due(next.at);
        if !is_full && selected.peek().is_some_and(goes_along) {
            continue;
        }
        let (bodies, pointers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        for (result, pointer) in queues[&queue.name].send(&bodies).await.into_iter().zip(pointers) {
            match result {
                Ok(()) => n_sent += 1,
                Err(error) => {
                    n_failed += 1;
                    warn!(error = format!("{error:#}"), "{pointer} not sent");
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    output::say(format!("{n_sent} pointers sent, {n_failed} not"));
    Ok(if n_failed > 0 || !left.is_empty() { ExitCode::from(EXIT_INCOMPLETE) } else { ExitCode::SUCCESS })
}

/// When the next pointer may go.
struct Pace {
    started: Instant,
    n_sent: u32,
    per_second: Option<f64>,
    speed: Option<f64>,
    first: Option<DateTime<Utc>>,
}

impl Pace {
    fn new(options: &Replay) -> Self {
        Self {
            started: Instant::now(),
            n_sent: 0,
            per_second: options.rate,
            speed: options.as_recorded.then(|| options.speed.unwrap_or(1.0)),
            first: None,
        }
    }

    async fn wait(&mut self, recorded: Option<DateTime<Utc>>) {
        let due = self.due(recorded);
        self.n_sent += 1;
        if let Some(due) = due {
            sleep_until(due).await;
        }
    }

    /// Returns whether the next pointer may go at once.
    fn is_due(&mut self, recorded: Option<DateTime<Utc>>) -> bool {
        self.due(recorded).is_none_or(|due| due <= Instant::now())
    }

    /// Returns when the next pointer may go; None for at once.
    fn due(&mut self, recorded: Option<DateTime<Utc>>) -> Option<Instant> {
        let after = match (self.per_second, self.speed, recorded) {
            (Some(per_second), ..) => f64::from(self.n_sent) / per_second,
            (None, Some(speed), Some(at)) => {
                let first = *self.first.get_or_insert(at);
                #[expect(clippy::cast_precision_loss, reason = "pauses need no more than milliseconds")]
                let gap_ms = (at - first).num_milliseconds().max(0) as f64;
                gap_ms / 1000.0 / speed
            }
            _ => 0.0,
        };
        Some(self.started + Duration::try_from_secs_f64(after).ok()?)
    }
}
