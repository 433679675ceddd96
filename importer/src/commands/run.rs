//! `importer run`: the worker.

use super::{connect_queue, host, s3_store, served, sessions, targets, wait_for_schema, worker_id};
use crate::{
    cli,
    config::Config,
    import::{Importer, tags::Tagging},
    instance::{Attendant, Surroundings},
    metrics::Metrics,
    queue::{Queue, sqs::Unusable},
    worker::{self, Until, Worker, beat, follow},
};
use anyhow::Context;
use chrono::Utc;
use service::{
    http::{self, Health},
    program::{stop_on_signals, wait_for},
};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// How long the last heartbeat may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// Runs a worker until a signal or, with `--until-empty`, an empty queue ends it.
///
/// # Errors
/// When the worker cannot start: no schema and no right to make it, a FIFO queue, no such queue.
pub async fn run(mut config: Config, options: &cli::Run) -> anyhow::Result<ExitCode> {
    if let Some(concurrency) = options.concurrency {
        config.worker.concurrency = concurrency;
    }
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone(), "stopping: no longer receiving, finishing imports in progress")?;
    let aws = service::aws::config().await?;
    let surroundings = Surroundings::default();
    let attendant =
        Attendant::start(&aws, service::aws::http_client()?, config.instance.manage, &surroundings, stop.clone());
    let until = if options.until_empty { Until::Empty } else { Until::Stopped };
    let result = work(config, &aws, until, &attendant, surroundings, stop).await;
    attendant.end(*result.as_ref().unwrap_or(&Instant::now())).await;
    result.map(|_| ExitCode::SUCCESS)
}

/// Works until the end, and leaves nothing in hand. Returns when the program has to have ended.
async fn work(
    config: Config,
    aws: &aws_config::SdkConfig,
    until: Until,
    attendant: &Attendant,
    surroundings: Surroundings,
    stop: CancellationToken,
) -> anyhow::Result<Instant> {
    let started_at = Utc::now();
    let host = host();
    let id = worker_id(&host);
    let health = Arc::new(Health::starting(&["postgres", "queue"]));
    let names: Vec<String> = config.datasets.iter().map(|dataset| dataset.name.clone()).collect();
    let metrics = Arc::new(Metrics::new(&names));
    metrics.slots.set(config.worker.concurrency.into());
    let serving = CancellationToken::new();
    let shown = Arc::clone(&metrics);
    let pages = http::router(Arc::clone(&health), move || shown.text());
    let listen = http::serve(&config.http.listen, pages, serving.clone()).await?;

    let sessions = sessions(&config, &id);
    tokio::select! {
        () = stop.cancelled() => return Ok(Instant::now()),
        ready = wait_for_schema(&sessions, &config, &health) => ready?,
    }

    let url = config.queue.url.clone().context("queue.url is missing")?;
    let connecting =
        wait_for("queue", &health, async || connect_queue(aws, &config.queue).await, anyhow::Error::is::<Unusable>);
    let queue = tokio::select! {
        () = stop.cancelled() => return Ok(Instant::now()),
        queue = connecting => queue?,
    };
    let queue: Arc<dyn Queue> = Arc::new(queue);
    let store = Arc::new(s3_store(aws, &config.buckets));
    let (tagging, targets) = (Tagging(Arc::clone(&store)), targets(aws, &served(&config)));
    let importer = Importer::new(config.clone(), store, sessions.clone(), id.clone(), Some(url.clone()))?;
    let concurrency = config.worker.concurrency;
    let instance_id = Arc::clone(&surroundings.id);
    let worker = Arc::new(Worker::new(queue, Arc::new(importer), config, Arc::clone(&health), metrics, surroundings));
    info!(worker = id, queue = url, concurrency, version = cli::VERSION, "worker started");

    let beat_stop = CancellationToken::new();
    let identity = beat::WorkerIdentity {
        id: id.clone(),
        host,
        instance_id,
        listen: listen.map(|address| address.to_string()),
        started_at,
    };
    let beating = tokio::spawn(beat::beat(Arc::clone(&worker), sessions, identity, beat_stop.clone()));
    let follow_stop = CancellationToken::new();
    let following = tokio::spawn(follow::follow(Arc::clone(&worker), targets, tagging, health, follow_stop.clone()));
    attendant.looked().await;
    let drained = worker::run(Arc::clone(&worker), stop, until).await;
    let end = worker.end_of_stop();
    follow_stop.cancel();
    let _ = tokio::time::timeout_at(end.min(Instant::now() + GOODBYE), following).await;
    beat_stop.cancel();
    let _ = tokio::time::timeout_at(end.min(Instant::now() + GOODBYE), beating).await;
    serving.cancel();
    info!(worker = id, drained, "worker stopped");
    Ok(end)
}
