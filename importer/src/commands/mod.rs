//! The commands: each wires the parts it needs and reports on stdout.

pub mod check;
pub mod describe;
pub mod due;
pub mod load;
pub mod migrate;
mod output;
pub mod prune;
pub mod reconcile;
pub mod redrive;
pub mod rehearse;
pub mod rejects;
pub mod replay;
pub mod replay_rejects;
pub mod run;
pub mod status;

use crate::{
    cli::{DEFAULT_CONFIG, Global},
    config::{Bucket, Config, ConfigError, Needs, Queue},
    database, ledger,
    load::{
        Session, Sessions,
        liveness::GivenUp,
        registry::{self, Before},
    },
    object::s3::S3Store,
    queue::sqs::SqsQueue,
};
use anyhow::Context;
use aws_config::SdkConfig;
use indicatif::{ProgressBar, ProgressStyle};
use service::{
    due::Targets,
    host::host,
    http::Health,
    postgres::{TransactionPooler, is_outage},
    program::wait_for,
};
use std::{
    io::{ErrorKind, IsTerminal},
    path::Path,
    time::Duration,
};
use tracing::info;

/// Returns whether S3 is to be addressed by path: when an endpoint is set, as emulators and most S3-alikes want it.
///
/// Buckets are reached as they say.
#[must_use]
fn s3_store(aws: &SdkConfig, buckets: &[Bucket]) -> S3Store {
    let path_style = aws.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
    S3Store::new(aws, path_style).with_buckets(aws, buckets)
}

/// Returns what reaches the targets of what is due; queues are reached as they say.
#[must_use]
fn targets(aws: &SdkConfig, queues: &[Queue]) -> Targets {
    queues.iter().fold(Targets::new(aws.clone()), |targets, queue| match (&queue.url, queue.role()) {
        (Some(url), Some(role)) => targets.with_role(url, &role),
        _ => targets,
    })
}

/// Returns the configuration's queues with their URLs; the one that is served may have its own from the environment.
#[must_use]
fn served(config: &Config) -> Vec<Queue> {
    let others = config.queues.iter().filter(|queue| queue.name != config.queue.name);
    others.chain([&config.queue]).cloned().collect()
}

/// Returns the configuration by which a queue is reached.
#[must_use]
fn for_queue(aws: &SdkConfig, queue: &Queue) -> SdkConfig {
    queue.role().map_or_else(|| aws.clone(), |role| role.assumed(aws))
}

/// Connects to a queue.
///
/// # Errors
/// When it does not exist, is a FIFO queue or SQS does not answer.
async fn connect_queue(aws: &SdkConfig, queue: &Queue) -> anyhow::Result<SqsQueue> {
    let url = queue.url.as_deref().with_context(|| format!("queue {:?} has no url", queue.name))?;
    let visibility = Duration::from_secs(queue.visibility_timeout_secs.into());
    SqsQueue::connect(&for_queue(aws, queue), url, queue.dead_letter_url.as_deref(), visibility).await
}

/// Returns a progress bar on a terminal, and none elsewhere.
fn progress(n: Option<u64>, what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match n {
        Some(_) => format!("{{bar:30}} {{pos}}/{{len}} {what}  {{msg}}  {{elapsed}}"),
        None => format!("{{spinner}} {{pos}} {what}  {{msg}}  {{elapsed}}"),
    };
    let bar = n.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let bar = bar.with_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    // Shown at once, also while the first step takes its time, and also where there is nothing to do.
    bar.tick();
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Returns a source of database sessions under this worker's name.
#[must_use]
pub fn sessions(config: &Config, worker_id: &str) -> Sessions {
    let database = config.database.clone();
    let name = database::application_name(worker_id);
    Sessions::new(move || database.server(&name))
}

/// Does a command's work on a session of its own, looked after meanwhile: a server that falls silent ends it within half a
/// minute.
///
/// # Errors
/// When Postgres does not let us in or does not answer, when a transaction pooler stands before it, or of the work.
async fn on_session<T>(
    config: &Config,
    command: &'static str,
    work: impl AsyncFnOnce(&mut Session) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    // Interactive commands wait for locks without a limit.
    let sessions = sessions(config, command).with_lock_timeout(Duration::ZERO);
    sessions.refuse_transaction_pooler().await?;
    let mut session = sessions.open().await?;
    let whereabouts = session.whereabouts();
    tokio::select! {
        done = sessions.watched(command, whereabouts, work(&mut session)) => done?,
        () = sessions.keep_watch() => anyhow::bail!("the session watchdog ended"),
    }
}

/// Waits for the database, brings the schema up to date and registers the configuration's steps.
///
/// # Errors
/// When the schema is behind and this role may not change it, or a transaction pooler stands before the server.
pub async fn wait_for_schema(sessions: &Sessions, config: &Config, health: &Health) -> anyhow::Result<()> {
    let prepare = async || {
        sessions.refuse_transaction_pooler().await?;
        let mut session = sessions.open().await?;
        match migrate(sessions, &mut session, config).await {
            Err(error) if is_outage(&error) || error.is::<GivenUp>() => Err(error),
            migrated => Ok(migrated),
        }
    };
    let n_applied = wait_for("postgres", health, prepare, anyhow::Error::is::<TransactionPooler>).await??;
    if n_applied > 0 {
        info!(migrations = n_applied, "schema penstock brought up to date");
    }
    Ok(())
}

/// Migrates, looked after meanwhile: it may wait for another who does.
async fn migrate(sessions: &Sessions, session: &mut Session, config: &Config) -> anyhow::Result<usize> {
    let whereabouts = session.whereabouts();
    let migrating = async {
        let n_applied = ledger::migrate::migrate(&mut session.connection).await?;
        registry::register(&mut session.connection, config, Before::Stays).await.context("register the steps")?;
        Ok(n_applied)
    };
    tokio::select! {
        migrated = sessions.watched("migrating", whereabouts, migrating) => migrated?,
        () = sessions.keep_watch() => anyhow::bail!("the session watchdog ended"),
    }
}

/// Returns an id no other worker has, short enough for `application_name`.
#[must_use]
pub fn worker_id(host: &str) -> String {
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')).take(24).collect();
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{host}-{}-{}", std::process::id(), &random[..8])
}

/// Reads the configuration a command was given and checks that what it needs is there; it serves the queue of this name,
/// else the first.
///
/// A missing `importer.toml` is fine where `--config` was not given and no dataset is needed: the environment may say all.
///
/// # Errors
/// A file that cannot be read, or the problems in it, with their lines.
pub fn read_config(global: &Global, needs: Needs, queue: Option<&str>) -> Result<Config, ConfigError> {
    let name = global.config.display().to_string();
    let may_be_missing = global.config == Path::new(DEFAULT_CONFIG) && !needs.datasets;
    let text = match std::fs::read_to_string(&global.config) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && may_be_missing => String::new(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let start = "`importer describe FILE --dataset` prints a dataset to start one from";
            return Err(ConfigError::of(format!(
                "{name}: {error}; name a configuration with --config, or write one: {start}"
            )));
        }
        Err(error) => return Err(ConfigError::of(format!("{name}: {error}"))),
    };
    let mut config = Config::parse(&text, &name, |variable| std::env::var(variable).ok())?;
    if let Some(queue) = queue {
        config.serve(queue)?;
    }
    config.require(needs, &name)?;
    Ok(config)
}

pub use service::program::EXIT_WRONG;
/// Exit status: the ledger does not know the object.
pub const EXIT_UNKNOWN_OBJECT: u8 = 4;
/// Some objects failed, are missing or could not be sent.
pub const EXIT_INCOMPLETE: u8 = 3;
