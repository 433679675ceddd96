//! `importer reconcile`: the bucket against the ledger.

use super::{EXIT_INCOMPLETE, aws_config, connect_queue, path_style, progress};
use crate::{
    cli::Reconcile,
    config::Config,
    database,
    message::{ObjectPointer, Record, RecordKind, pointer_body},
    object::{Listed, ObjectStore, s3::S3Store},
    queue::sqs::SqsQueue,
    route::{Route, Router},
};
use anyhow::Context;
use futures_util::TryStreamExt;
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
    let mut connection = database::connect(&config.database, "penstock importer reconcile").await?;
    let aws = aws_config().await;
    let store = S3Store::new(&aws, path_style(&aws));
    let router = Router::new(config)?;
    let queue = if options.enqueue { Some(connect_queue(config).await?) } else { None };
    let (bucket, prefix) = (&options.prefix.bucket, &options.prefix.prefix);
    let bar = progress(None, "objects compared");
    let mut listing = store.list(bucket, prefix);
    let (mut n_compared, mut n_missing) = (0usize, 0usize);
    let mut batch: Vec<Listed> = Vec::with_capacity(BATCH);
    loop {
        let next = listing.try_next().await.with_context(|| format!("list s3://{bucket}/{prefix}"))?;
        let ended = next.is_none();
        batch.extend(
            next.filter(|object| object.size > 0 && matches!(router.route(bucket, &object.key), Route::Dataset { .. })),
        );
        if batch.len() == BATCH || ended {
            n_compared += batch.len();
            bar.inc(batch.len() as u64);
            let missing = missing(&mut connection, bucket, std::mem::take(&mut batch)).await?;
            n_missing += missing.len();
            for object in missing {
                report(bucket, object, queue.as_ref()).await?;
            }
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

/// Returns the listed objects whose version the ledger does not know, or knows only as begun.
async fn missing(connection: &mut PgConnection, bucket: &str, listed: Vec<Listed>) -> anyhow::Result<Vec<Listed>> {
    let keys: Vec<&str> = listed.iter().map(|object| object.key.as_str()).collect();
    let known: HashSet<(String, String)> = sqlx::query_as(
        "SELECT h.key, o.etag FROM penstock.head h JOIN penstock.object o ON o.head_id = h.id \
         WHERE h.bucket = $1 AND h.key = ANY ($2) AND o.etag IS NOT NULL AND o.state NOT IN ('importing', 'retrying')",
    )
    .bind(bucket)
    .bind(&keys)
    .fetch_all(connection)
    .await
    .context("read the ledger")?
    .into_iter()
    .collect();
    Ok(listed.into_iter().filter(|object| !known.contains(&(object.key.clone(), object.etag.clone()))).collect())
}

async fn report(bucket: &str, object: Listed, queue: Option<&SqsQueue>) -> anyhow::Result<()> {
    let pointer =
        ObjectPointer { etag: Some(object.etag), size: Some(object.size), ..ObjectPointer::new(bucket, object.key) };
    println!("{pointer}");
    if let Some(queue) = queue {
        let record = Record { kind: RecordKind::Created, pointer, event_time: None, force: false };
        queue.send(&pointer_body(&record)).await?;
    }
    Ok(())
}
