//! `importer replay`: pointers of known or existing objects through the queue.

use super::{EXIT_INCOMPLETE, connect_queue, on_session, output, progress, rehearse::resolve, s3_store};
use crate::{
    cli::Replay,
    config::{Config, Dataset, Queue},
    load::{Session, liveness},
    message::{Anew, ObjectPointer, Record, pointer_body},
    object::ObjectStore,
    route::Router,
};
use anyhow::Context;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use service::aws::sqs::BATCH;
use sqlx::{Postgres, QueryBuilder, Row, postgres::PgRow};
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
    let selected = if options.outdated {
        outdated(config, options).await?
    } else if from_ledger {
        known(config, options).await?
    } else {
        existing(config, options).await?
    };
    if selected.is_empty() {
        output::say("nothing to replay");
        return Ok(ExitCode::SUCCESS);
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
    Ok(if n_failed > 0 { ExitCode::from(EXIT_INCOMPLETE) } else { ExitCode::SUCCESS })
}

/// A pointer to be sent.
struct Selected<'c> {
    record: Record,
    /// When its event happened.
    at: Option<DateTime<Utc>>,
    queue: &'c Queue,
}

/// Returns the versions the ledger knows, in the order they were first seen. Of a dataset that follows others these are
/// the ones that stand in theirs, unless a state is asked for.
async fn known<'c>(config: &'c Config, options: &Replay) -> anyhow::Result<Vec<Selected<'c>>> {
    let now = Utc::now();
    let mut query = QueryBuilder::new(
        "SELECT dataset, bucket, key, version_id, etag, size, sequencer, coalesce(event_time, first_seen_at) AS at \
         FROM penstock.object_status \
         WHERE bucket <> 'file' AND id NOT IN (SELECT id FROM penstock.object WHERE is_delete)",
    );
    let named = options.dataset.as_deref().and_then(|name| config.dataset(name));
    let step = named.filter(|dataset| !dataset.after.is_empty() && options.state.is_none());
    if let Some(step) = step {
        query.push(" AND state = 'imported' AND dataset = ANY(").push_bind(&step.after).push(")");
        query.push(" AND id IN (SELECT object_id FROM penstock.head)");
    } else if let Some(dataset) = &options.dataset {
        query.push(" AND dataset = ").push_bind(dataset);
    }
    if let Some(state) = options.state {
        query.push(" AND state = ").push_bind(<&str>::from(state));
    }
    narrow(&mut query, options, now);
    query.push(" ORDER BY at, id");
    let read = async |session: &mut Session| {
        let rows = query.build().fetch(&mut session.connection);
        let selected = rows.and_then(async |row| {
            liveness::heard();
            selected(config, step, &row)
        });
        selected.try_collect().await.context("read penstock.object_status")
    };
    on_session(config, "replay", read).await
}

/// Returns the versions that stand by another recipe than their dataset's now, or by one that was not recorded.
async fn outdated<'c>(config: &'c Config, options: &Replay) -> anyhow::Result<Vec<Selected<'c>>> {
    let now = Utc::now();
    let is_named = |dataset: &&Dataset| options.dataset.as_ref().is_none_or(|name| *name == dataset.name);
    let datasets: Vec<&Dataset> = config.datasets.iter().filter(is_named).collect();
    on_session(config, "replay", async |session| {
        let mut all = Vec::new();
        for dataset in datasets {
            let target = resolve(config, session, dataset).await?;
            let mut query = QueryBuilder::new(
                "SELECT dataset, bucket, key, version_id, etag, size, sequencer, coalesce(event_time, first_seen_at) AS at \
                 FROM penstock.object_status \
                 WHERE bucket <> 'file' AND state = 'imported' AND id IN (SELECT object_id FROM penstock.head)",
            );
            query.push(" AND dataset = ").push_bind(&dataset.name);
            query.push(" AND recipe IS DISTINCT FROM ").push_bind(&target.recipe);
            narrow(&mut query, options, now);
            query.push(" ORDER BY at, id");
            let rows = query.build().fetch(&mut session.connection);
            let selected = rows.and_then(async |row| {
                liveness::heard();
                let Selected { mut record, at, queue } = selected(config, None, &row)?;
                record.anew = Some(Anew::Recipe(target.recipe.clone()));
                // Whose captures it has.
                if let (None, [after]) = (&dataset.pattern, dataset.after.as_slice()) {
                    record.after = Some(after.clone());
                }
                Ok(Selected { record, at, queue })
            });
            let selected: Vec<_> = selected.try_collect().await.context("read penstock.object_status")?;
            anyhow::ensure!(
                selected.is_empty() || target.table.lineage_object,
                "dataset {}: replay --outdated needs a column penstock_object bigint in {}, or rows that the new recipe \
                 does not make any more would stay",
                dataset.name,
                dataset.table
            );
            all.extend(selected);
        }
        Ok(all)
    })
    .await
}

/// Adds what the options say of where objects lie and when they were seen.
fn narrow<'a>(query: &mut QueryBuilder<'a, Postgres>, options: &'a Replay, now: DateTime<Utc>) {
    if let Some(prefix) = &options.prefix {
        query.push(" AND bucket = ").push_bind(&prefix.bucket);
        query.push(" AND starts_with(key, ").push_bind(&prefix.prefix).push(")");
    }
    if let Some(since) = options.since {
        query.push(" AND first_seen_at >= ").push_bind(since.at(now));
    }
    if let Some(until) = options.until {
        query.push(" AND first_seen_at < ").push_bind(until.at(now));
    }
}

fn selected<'c>(config: &'c Config, step: Option<&'c Dataset>, row: &PgRow) -> sqlx::Result<Selected<'c>> {
    let size: Option<i64> = row.try_get("size")?;
    let pointer = ObjectPointer {
        bucket: row.try_get("bucket")?,
        key: row.try_get("key")?,
        version_id: row.try_get("version_id")?,
        etag: row.try_get("etag")?,
        size: size.and_then(|size| u64::try_from(size).ok()),
        sequencer: row.try_get("sequencer")?,
    };
    let own: Option<String> = row.try_get("dataset")?;
    let dataset = step.or_else(|| config.dataset(own.as_deref()?));
    let mut record = Record::created(pointer);
    // No pattern would lead there.
    if let Some(dataset) = dataset.filter(|dataset| dataset.pattern.is_none()) {
        record.dataset = Some(dataset.name.clone());
        record.after = own.filter(|own| *own != dataset.name);
    }
    let queue = dataset.map_or(&config.queue, |dataset| config.queue_of(dataset));
    Ok(Selected { record, at: row.try_get("at")?, queue })
}

/// Returns the objects that lie under the prefix now, for each queue whose datasets take them.
async fn existing<'c>(config: &'c Config, options: &Replay) -> anyhow::Result<Vec<Selected<'c>>> {
    let Some(prefix) = &options.prefix else { return Ok(Vec::new()) };
    let store = s3_store(&service::aws::config().await?);
    let router = Router::new(config)?;
    let mut listed = store.list(&prefix.bucket, &prefix.prefix);
    let mut selected = Vec::new();
    while let Some(object) =
        listed.try_next().await.with_context(|| format!("list s3://{}/{}", prefix.bucket, prefix.prefix))?
    {
        let taken_by = router.destinations(&prefix.bucket, &object.key);
        let mut queues: Vec<&Queue> = taken_by.iter().map(|to| config.queue_of_name(&to.dataset.name)).collect();
        if queues.is_empty() {
            queues.push(&config.queue);
        }
        let at = object.last_modified;
        let record = Record::created(object.pointer(&prefix.bucket));
        let to = |queue| Selected { record: record.clone(), at, queue };
        selected.extend(queues.into_iter().map(to));
    }
    Ok(selected)
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
