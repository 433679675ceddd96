//! `scaler run` and `scaler once`: the loops of all pools, or one tick of each.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use aws_config::SdkConfig;
use service::terminal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Failure;
use crate::config::{Config, ConfigError, Database, Pool, WorkersKind};
use crate::controller::{self, Controller, Identity, Parts, Tick};
use crate::http::{self, Readiness};
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::pool::any::AnyPool;
use crate::pool::processes;
use crate::queue_depth::SqsQueues;
use crate::store::Store;

/// How the scaler's connections are called in `pg_stat_activity`.
const APPLICATION_NAME: &str = "penstock scaler";

/// Runs every pool's loop until a signal.
pub async fn run(config: Config) -> Result<(), Failure> {
    check_runnable(&config)?;
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let readiness = Arc::new(Readiness::default());
    let metrics = Arc::new(Metrics::default());
    let serving = CancellationToken::new();
    http::serve(&config.http.listen, Arc::clone(&readiness), Arc::clone(&metrics), serving.clone()).await?;
    if let Some(database) = &config.database {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            ready = wait_for_schema(database, &readiness) => ready?,
        }
    } else {
        info!("no [database]: no measured rate, no history and no leader among several scalers");
    }
    let aws = service::aws::config().await?;
    let mut loops = JoinSet::new();
    let keeping = CancellationToken::new();
    let mut keepers = JoinSet::new();
    for pool in config.pools {
        let leadership = leadership(&pool, config.database.as_ref());
        if let Some(leadership) = &leadership {
            // The first look decides who leads; it must not wait for the keeper's beat.
            leadership.check().await;
            keepers.spawn(Arc::clone(leadership).keep(keeping.clone()));
        }
        info!(
            pool = pool.name,
            queues = pool.queue_urls.len(),
            pool.min = pool.min,
            pool.max = pool.max,
            "pool started"
        );
        let store = config.database.clone().map(|database| Store::new(database, APPLICATION_NAME));
        let shared = Shared { store, leadership, metrics: Arc::clone(&metrics), readiness: Arc::clone(&readiness) };
        loops.spawn(Controller::new(parts(pool, &aws, shared)?).run(stop.clone()));
    }
    while let Some(ended) = loops.join_next().await {
        ended.context("a pool's loop ended")?;
    }
    // The locks go last: until here the workers were ours to end.
    keeping.cancel();
    while keepers.join_next().await.is_some() {}
    serving.cancel();
    info!("scaler stopped");
    Ok(())
}

/// Does one tick of every pool; returns a line for each.
pub async fn once(config: Config) -> Result<String, Failure> {
    check_runnable(&config)?;
    let Some(database) = &config.database else {
        return Err(Failure::Argument("`once` needs [database]: what it learns is kept there".to_owned()));
    };
    for pool in &config.pools {
        if matches!(pool.workers, Some(WorkersKind::Processes { .. })) {
            let why = format!("pool \"{}\": `once` cannot look after processes, use `run`", pool.name);
            return Err(Failure::Argument(why));
        }
    }
    Store::new(database.clone(), APPLICATION_NAME).migrate().await?;
    let aws = service::aws::config().await?;
    let mut text = String::new();
    for pool in config.pools {
        let name = pool.name.clone();
        let leadership = leadership(&pool, Some(database));
        let shared = Shared {
            store: Some(Store::new(database.clone(), APPLICATION_NAME)),
            leadership: leadership.clone(),
            metrics: Arc::default(),
            readiness: Arc::default(),
        };
        let tick = controller::once(parts(pool, &aws, shared)?).await?;
        if let Some(leadership) = leadership {
            leadership.release().await;
        }
        let line = match tick {
            Tick::Following => format!("{name}: another scaler leads, nothing done"),
            Tick::Decided(decided) => {
                let outcome = decided.outcome.map(|outcome| format!(" [{outcome}]")).unwrap_or_default();
                let decision = decided.decision;
                format!("{name}: {} ({}) {}{outcome}", decision.desired, decision.reason, decision.explain)
            }
        };
        let _ = writeln!(text, "{}", terminal::line(&line));
    }
    Ok(text)
}

/// What a pool's loop shares with the others, or has of its own beside workers and queues.
struct Shared {
    store: Option<Store>,
    leadership: Option<Arc<Leadership>>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
}

fn parts(pool: Pool, aws: &SdkConfig, shared: Shared) -> Result<Parts<AnyPool, SqsQueues>, ConfigError> {
    Ok(Parts {
        queue: SqsQueues::new(aws, pool.queue_urls.clone()),
        workers: AnyPool::open(&pool, aws)?,
        pool,
        store: shared.store,
        leadership: shared.leadership,
        metrics: shared.metrics,
        readiness: shared.readiness,
        identity: Identity { host: processes::host(), pid: std::process::id() },
    })
}

fn leadership(pool: &Pool, database: Option<&Database>) -> Option<Arc<Leadership>> {
    database.map(|database| Arc::new(Leadership::new(&pool.name, &processes::host(), database.clone())))
}

/// Checks that every pool has what is needed to run it.
fn check_runnable(config: &Config) -> Result<(), ConfigError> {
    config.pools.iter().try_for_each(|pool| pool.check_runnable().map(|_| ()))
}

/// Waits for the database and brings the schema up to date.
async fn wait_for_schema(database: &Database, readiness: &Readiness) -> Result<(), Failure> {
    let mut store = Store::new(database.clone(), APPLICATION_NAME);
    let mut waiting = false;
    loop {
        match store.migrate().await {
            Ok(()) => {
                readiness.note("database", Ok(()));
                return Ok(());
            }
            Err(error) if is_lasting(&error) => return Err(error.into()),
            Err(error) => {
                readiness.note("database", Err(format!("{error:#}")));
                if !std::mem::replace(&mut waiting, true) {
                    warn!(error = format!("{error:#}"), "the database is out of reach, waiting for it");
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    }
}

/// Whether waiting does not mend an error: a URL that is none, a schema this role may not change.
fn is_lasting(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    error.is::<ConfigError>()
        || ["database.url", "migrations behind", "lacks the USAGE right", "apply migrations"]
            .iter()
            .any(|known| text.contains(known))
}

/// Cancels `stop` on SIGTERM and SIGINT; a second one ends the process at once and leaves the workers draining.
fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            if !first {
                warn!("ended by a second signal");
                std::process::exit(1);
            }
            info!("stopping");
            stop.cancel();
        }
    });
    Ok(())
}
