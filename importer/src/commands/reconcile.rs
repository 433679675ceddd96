//! `importer reconcile`: the bucket against the ledger.

use super::{EXIT_INCOMPLETE, connect_queue, on_session, output, progress, s3_store};
use crate::{
    cli::{Prefix, Reconcile},
    config::{Config, Dataset},
    dataset::DatasetName,
    load::{Session, liveness::elsewhere},
    message::{ObjectPointer, Record, pointer_body},
    object::{Listed, ObjectStore},
    queue::sqs::SqsQueue,
    route::Router,
};
use anyhow::Context;
use aws_config::SdkConfig;
use futures_util::TryStreamExt;
use indicatif::ProgressBar;
use sqlx::{PgConnection, Row};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    process::ExitCode,
};

/// Objects compared at once.
const BATCH: usize = 1000;

/// Prints every object under the prefix that a dataset takes and the ledger has no word of, and sends
/// pointers of them to the queue with `--enqueue`.
///
/// # Errors
/// When the bucket cannot be listed, or Postgres or the queue is out of reach.
pub async fn run(config: &Config, options: &Reconcile) -> anyhow::Result<ExitCode> {
    let compare = async |session: &mut Session| compare(config, options, &mut session.connection).await;
    output::unless_closed(on_session(config, "reconcile", compare).await)
}

async fn compare(config: &Config, options: &Reconcile, connection: &mut PgConnection) -> anyhow::Result<ExitCode> {
    let aws = service::aws::config().await?;
    let store = s3_store(&aws, &config.buckets);
    let router = Router::new(config)?;
    let mut queues = options.enqueue.then(|| Queues { aws: aws.clone(), config, connected: HashMap::new() });
    let (bucket, prefix) = (&options.prefix.bucket, &options.prefix.prefix);
    let bar = progress(None, "objects compared");
    let mut listing = store.list(bucket, prefix);
    let (mut n_compared, mut n_missing) = (0usize, 0usize);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let next = elsewhere(listing.try_next()).await.with_context(|| format!("list s3://{bucket}/{prefix}"))?;
        let ended = next.is_none();
        if let Some(object) = next.filter(|object| object.size > 0) {
            let destinations = router.destinations(bucket, &object.key).into_iter();
            batch.extend(destinations.map(|to| (to.dataset.name.clone(), object.clone())));
        }
        if batch.len() >= BATCH || ended {
            n_compared += batch.len();
            bar.inc(batch.len() as u64);
            let missing = missing(&mut *connection, bucket, std::mem::take(&mut batch)).await?;
            n_missing += missing.len();
            elsewhere(report(missing, queues.as_mut(), &bar)).await?;
        }
        if ended {
            break;
        }
    }
    for step in config.datasets.iter().filter(|dataset| !dataset.after.is_empty()) {
        let (n_held, missing) = missing_of_step(&mut *connection, &options.prefix, step).await?;
        n_compared += n_held;
        n_missing += missing.len();
        elsewhere(report(missing, queues.as_mut(), &bar)).await?;
    }
    bar.finish_and_clear();
    let what = if options.enqueue { "missing, sent to the queue" } else { "missing" };
    eprintln!("{n_compared} objects compared, {n_missing} {what}");
    Ok(if n_missing > 0 { ExitCode::from(EXIT_INCOMPLETE) } else { ExitCode::SUCCESS })
}

/// Returns the objects whose version the ledger has no outcome of, or whose rows gave way to a version that the
/// bucket says is older.
async fn missing(
    connection: &mut PgConnection,
    bucket: &str,
    claimed: Vec<(DatasetName, Listed)>,
) -> anyhow::Result<Vec<Missing>> {
    let objects = || claimed.iter().map(|(_, object)| object);
    let size = |object: &Listed| i64::try_from(object.size).unwrap_or(i64::MAX);
    let known: HashSet<i64> = sqlx::query_scalar(include_str!("reconcile.sql"))
        .bind(bucket)
        .bind(claimed.iter().map(|(dataset, _)| &**dataset).collect::<Vec<_>>())
        .bind(objects().map(|object| object.key.as_str()).collect::<Vec<_>>())
        .bind(objects().map(|object| object.etag.as_str()).collect::<Vec<_>>())
        .bind(objects().map(size).collect::<Vec<_>>())
        .bind(objects().map(|object| object.last_modified).collect::<Vec<_>>())
        .fetch_all(connection)
        .await
        .context("read the ledger")?
        .into_iter()
        .collect();
    let places = 1i64..;
    let missing = places.zip(claimed).filter(|(place, _)| !known.contains(place)).map(|(_, (dataset, object))| {
        Missing { record: Record::created(object.pointer(bucket)), dataset: dataset.to_string() }
    });
    Ok(missing.collect())
}

/// An object that a dataset lacks.
struct Missing {
    record: Record,
    dataset: String,
}

/// Returns how many objects stand in the datasets that a step follows, and those whose version the ledger has no outcome
/// of for the step.
async fn missing_of_step(
    connection: &mut PgConnection,
    prefix: &Prefix,
    step: &Dataset,
) -> anyhow::Result<(usize, Vec<Missing>)> {
    let rows = sqlx::query(include_str!("reconcile_step.sql"))
        .bind(&prefix.bucket)
        .bind(&prefix.prefix)
        .bind(&step.name)
        .bind(&step.after)
        .fetch_all(connection)
        .await
        .context("read the ledger")?;
    let mut missing = Vec::new();
    for row in &rows {
        if row.try_get("is_known")? {
            continue;
        }
        let size: Option<i64> = row.try_get("size")?;
        let pointer = ObjectPointer {
            version_id: row.try_get("version_id")?,
            etag: row.try_get("etag")?,
            size: size.and_then(|size| u64::try_from(size).ok()),
            sequencer: row.try_get("sequencer")?,
            ..ObjectPointer::new(&prefix.bucket, row.try_get::<String, _>("key")?)
        };
        let (dataset, after) = (Some(step.name.clone()), row.try_get("dataset")?);
        let record = Record { dataset, after, ..Record::created(pointer) };
        missing.push(Missing { record, dataset: step.name.clone() });
    }
    Ok((rows.len(), missing))
}

/// The queues of the datasets, connected when they are needed.
struct Queues<'c> {
    aws: SdkConfig,
    config: &'c Config,
    connected: HashMap<&'c str, SqsQueue>,
}

impl<'c> Queues<'c> {
    async fn of(&mut self, dataset: &str) -> anyhow::Result<&SqsQueue> {
        let queue = self.config.queue_of_name(dataset);
        if !self.connected.contains_key(queue.name.as_str()) {
            self.connected.insert(&queue.name, connect_queue(&self.aws, queue).await?);
        }
        Ok(&self.connected[queue.name.as_str()])
    }
}

async fn report(missing: Vec<Missing>, queues: Option<&mut Queues<'_>>, bar: &ProgressBar) -> anyhow::Result<()> {
    let mut bodies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Missing { record, dataset } in missing {
        let step = record.dataset.as_ref().map(|step| format!(" (dataset {step})")).unwrap_or_default();
        bar.suspend(|| output::line(&mut std::io::stdout(), &format!("{}{step}", record.pointer)))?;
        bodies.entry(dataset).or_default().push(pointer_body(&record));
    }
    let Some(queues) = queues else { return Ok(()) };
    for (dataset, bodies) in bodies {
        queues.of(&dataset).await?.send(&bodies).await.into_iter().collect::<anyhow::Result<()>>()?;
    }
    Ok(())
}
