//! `scaler run` and `scaler once`: the loops of all pools, or one tick of each.

use crate::{
    config::{Config, ConfigError, Database, Pool, WorkersKind},
    controller::{Controller, Identity, Parts, Tick},
    database::{SchemaError, ensure_schema},
    due,
    leader::Leadership,
    metrics::Metrics,
    pool::any::AnyPool,
    queue_depth::SqsQueues,
    store::Store,
};
use anyhow::Context;
use aws_config::SdkConfig;
use service::{
    due::Targets,
    host::host,
    http::{self, Health},
    postgres::STATEMENT_TIMEOUT,
    program::{stop_on_signals, wait_for},
    terminal,
};
use std::{fmt::Write as _, sync::Arc, time::Duration};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// `application_name` of the scaler's connections.
const APPLICATION_NAME: &str = "penstock scaler";

/// How long a statement about what is due may take.
const SENDING: Duration = Duration::from_secs(5);

/// How long what is due may wait for the scaler.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs every pool's loop until a signal.
///
/// # Errors
/// When a pool lacks what it needs to run, the schema was refused, or a loop panicked.
pub async fn run(config: Config) -> anyhow::Result<()> {
    check_runnable(&config)?;
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone(), "stopping")?;
    let readiness = Arc::new(Health::default());
    let metrics = Arc::new(Metrics::default());
    let serving = CancellationToken::new();
    let shown = Arc::clone(&metrics);
    let router = http::router(Arc::clone(&readiness), move || shown.text());
    http::serve(&config.http.listen, router, serving.clone()).await?;
    let aws = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        prepared = prepare(&config, &readiness) => prepared?,
    };
    let keeping = CancellationToken::new();
    let (shared, keeper) = Shared::open(&config, metrics, readiness, &keeping);
    tokio::select! {
        // The locks have been asked for, or are about to be: what follows ends at once.
        () = stop.cancelled() => {}
        // The first look decides who leads; it must not wait for the keeper's beat.
        () = shared.asked() => {}
    }
    let mut loops = JoinSet::new();
    let intervals = config.pools.iter().map(|pool| Duration::from_secs(pool.interval_secs.into()));
    let sending = shared.keep_sending(
        targets(&aws, &config.pools),
        intervals.min().unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE),
        &stop,
    );
    for pool in config.pools {
        info!(
            pool = pool.name,
            queues = pool.queue_urls.len(),
            pool.min = pool.min,
            pool.max = pool.max,
            "pool started"
        );
        loops.spawn(Controller::new(shared.parts(pool, &aws)?).run(stop.clone()));
    }
    while let Some(ended) = loops.join_next().await {
        ended.context("a pool's loop ended")?;
    }
    if let Some(sending) = sending {
        sending.await.context("the sender of what is due ended")?;
    }
    // The locks go last: until here the workers were ours to end.
    keeping.cancel();
    keeper.await.context("the keeper of the leader's session ended")?;
    serving.cancel();
    info!("scaler stopped");
    Ok(())
}

/// Waits for what the loops need.
async fn prepare(config: &Config, readiness: &Health) -> anyhow::Result<SdkConfig> {
    match &config.database {
        Some(database) => wait_for_schema(database, readiness).await?,
        None => info!("no [database]: no measured rate, no history and no leader among several scalers"),
    }
    service::aws::config().await
}

/// Does one tick of every pool; returns a line for each.
///
/// # Errors
/// When a pool lacks what it needs to run, the database cannot be used, or a tick failed.
pub async fn once(config: Config) -> anyhow::Result<String> {
    check_runnable(&config)?;
    let Some(database) = &config.database else {
        return Err(ConfigError::of("`once` needs [database]: what it learns is kept there").into());
    };
    for pool in &config.pools {
        if matches!(pool.workers, Some(WorkersKind::Processes { .. })) {
            let why = format!("pool \"{}\": `once` cannot manage processes; use `run`", pool.name);
            return Err(ConfigError::of(why).into());
        }
    }
    ensure_schema(database, APPLICATION_NAME).await?;
    let aws = service::aws::config().await?;
    let keeping = CancellationToken::new();
    let (shared, keeper) = Shared::open(&config, Arc::default(), Arc::default(), &keeping);
    shared.asked().await;
    let mut text = String::new();
    let targets = targets(&aws, &config.pools);
    for pool in config.pools {
        let name = pool.name.clone();
        let ticked = Controller::new(shared.parts(pool, &aws)?).tick().await;
        let line = match ticked.with_context(|| format!("pool \"{name}\""))? {
            Tick::Following(None) => format!("{name}: another scaler leads, nothing done"),
            Tick::Following(Some(why)) => format!("{name}: the leader is unknown ({why}), nothing done"),
            Tick::Decided(decided) => {
                let outcome = decided.outcome.map(|outcome| format!(" [{outcome}]")).unwrap_or_default();
                let decision = decided.decision;
                format!("{name}: {} ({}) {}{outcome}", decision.desired, decision.reason, decision.explain)
            }
        };
        let _ = writeln!(text, "{}", terminal::line(&line));
    }
    if let (Some(store), Some(leadership)) = (&shared.store, &shared.leadership)
        && leadership.leads_any()
    {
        due::send_once(store, &targets).await;
    }
    keeping.cancel();
    keeper.await.context("the keeper of the leader's session ended")?;
    Ok(text)
}

/// Returns what reaches the targets of what is due; the pools' queues are reached by their roles.
fn targets(aws: &SdkConfig, pools: &[Pool]) -> Targets {
    let roles = pools.iter().filter_map(|pool| Some((pool, pool.role()?)));
    roles.fold(Targets::new(aws.clone()), |targets, (pool, role)| {
        pool.queue_urls.iter().fold(targets, |targets, url| targets.with_role(url, &role))
    })
}

/// What the pools' loops share.
struct Shared {
    store: Option<Store>,
    leadership: Option<Arc<Leadership>>,
    metrics: Arc<Metrics>,
    readiness: Arc<Health>,
}

impl Shared {
    /// Connects nothing yet but the leader's session, which is kept until `keeping` is cancelled.
    fn open(
        config: &Config,
        metrics: Arc<Metrics>,
        readiness: Arc<Health>,
        keeping: &CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let names: Vec<String> = config.pools.iter().map(|pool| pool.name.clone()).collect();
        let leadership = config
            .database
            .clone()
            .map(|database| Arc::new(Leadership::new(database, APPLICATION_NAME, names, &host())));
        // Each loop says how long its pool gives the database.
        let store = config.database.clone().map(|database| Store::new(database, APPLICATION_NAME, STATEMENT_TIMEOUT));
        let (kept, stop) = (leadership.clone(), keeping.clone());
        let keeper = tokio::spawn(async move {
            if let Some(leadership) = kept {
                leadership.keep(stop).await;
            }
        });
        (Self { store, leadership, metrics, readiness }, keeper)
    }

    /// Returns once the server was asked who leads.
    async fn asked(&self) {
        if let Some(leadership) = &self.leadership {
            leadership.asked().await;
        }
    }

    /// Starts to send pending messages that importers left.
    fn keep_sending(&self, targets: Targets, interval: Duration, stop: &CancellationToken) -> Option<JoinHandle<()>> {
        // Briefly, for the pools need the connections.
        let (store, leadership) = (self.store.as_ref()?.within(SENDING), self.leadership.clone()?);
        Some(tokio::spawn(due::keep_sending(store, targets, leadership, interval, stop.clone())))
    }

    fn parts(&self, pool: Pool, aws: &SdkConfig) -> Result<Parts<AnyPool>, ConfigError> {
        Ok(Parts {
            queue: SqsQueues::new(aws, pool.queue_urls.clone(), pool.role().as_ref(), pool.timeouts()),
            workers: AnyPool::open(&pool, aws)?,
            pool,
            store: self.store.clone(),
            leadership: self.leadership.clone(),
            metrics: Arc::clone(&self.metrics),
            readiness: Arc::clone(&self.readiness),
            identity: Identity { host: host(), pid: std::process::id() },
        })
    }
}

/// Checks that every pool has what is needed to run it, and that the database's URL is one.
fn check_runnable(config: &Config) -> Result<(), ConfigError> {
    config.check_database()?;
    config.pools.iter().try_for_each(|pool| pool.check_runnable().map(|_| ()))
}

/// Waits for the database and brings the schema up to date.
async fn wait_for_schema(database: &Database, readiness: &Health) -> anyhow::Result<()> {
    let prepare = async || match ensure_schema(database, APPLICATION_NAME).await {
        Err(SchemaError::Unreachable(error)) => Err(error),
        Err(SchemaError::Refused(error)) => Ok(Err(error)),
        Ok(()) => Ok(Ok(())),
    };
    wait_for("database", readiness, prepare, |_| false).await?
}
