//! `importer reconcile`: the bucket against the ledger.

use super::{EXIT_INCOMPLETE, connect_queue, on_session, output, progress, s3_store};
use crate::{
    cli::Reconcile,
    config::Config,
    dataset::DatasetName,
    load::{Session, liveness::elsewhere},
    message::{Record, pointer_body},
    object::{Listed, ObjectStore},
    queue::sqs::SqsQueue,
    route::Router,
};
use anyhow::Context;
use futures_util::TryStreamExt;
use indicatif::ProgressBar;
use sqlx::PgConnection;
use std::{collections::HashSet, process::ExitCode};

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
    let store = s3_store(&aws);
    let router = Router::new(config)?;
    let queue = if options.enqueue { Some(elsewhere(connect_queue(&aws, config)).await?) } else { None };
    let (bucket, prefix) = (&options.prefix.bucket, &options.prefix.prefix);
    let bar = progress(None, "objects compared");
    let mut listing = store.list(bucket, prefix);
    let (mut n_compared, mut n_missing) = (0usize, 0usize);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let next = elsewhere(listing.try_next()).await.with_context(|| format!("list s3://{bucket}/{prefix}"))?;
        let ended = next.is_none();
        if let Some(object) = next.filter(|object| object.size > 0) {
            let to = router.destination(bucket, &object.key);
            batch.extend(to.map(|to| (to.dataset.name.clone(), object)));
        }
        if batch.len() >= BATCH || ended {
            n_compared += batch.len();
            bar.inc(batch.len() as u64);
            let missing = missing(&mut *connection, bucket, std::mem::take(&mut batch)).await?;
            n_missing += missing.len();
            elsewhere(report(bucket, missing, queue.as_ref(), &bar)).await?;
        }
        if ended {
            break;
        }
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
) -> anyhow::Result<Vec<Listed>> {
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
    Ok(places.zip(claimed).filter(|(place, _)| !known.contains(place)).map(|(_, (_, object))| object).collect())
}

async fn report(bucket: &str, missing: Vec<Listed>, queue: Option<&SqsQueue>, bar: &ProgressBar) -> anyhow::Result<()> {
    let mut bodies = Vec::with_capacity(missing.len());
    for object in missing {
        let pointer = object.pointer(bucket);
        bar.suspend(|| output::line(&mut std::io::stdout(), &pointer.to_string()))?;
        bodies.push(pointer_body(&Record::created(pointer)));
    }
    if let Some(queue) = queue {
        queue.send(&bodies).await.into_iter().collect::<anyhow::Result<()>>()?;
    }
    Ok(())
}
