//! `importer prune`: the only way ledger entries go.

use super::{on_session, output, progress};
use crate::{
    cli::Prune,
    config::{Config, Mode, OnDelete},
    load::Session,
};
use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// Entries looked at in one statement, which is a transaction: this many locks at most, for tenths of a second.
const BATCH: i64 = 5000;
/// How long a prune waits for another, whose client may be gone while its last batch still runs.
const PATIENCE: Duration = Duration::from_secs(5);
/// Key of the advisory lock that prunes take in turn.
const LOCK: i64 = 0x7065_6e73_746f_636b;

/// Deletes entries that ended longer ago than the age given, in batches, each its own transaction.
///
/// What stays whatever its age: the versions that stand, imported versions whose dataset appends (they must not be
/// appended again) or takes rows away by their object's id, and those of datasets the configuration does not know.
/// With `standing` the versions that stand are cut to a short form, too.
///
/// # Errors
/// When Postgres is out of reach, or another prune runs.
pub async fn run(config: &Config, options: &Prune) -> anyhow::Result<ExitCode> {
    on_session(config, "prune", async |session: &mut Session| prune(config, options, &mut session.connection).await)
        .await
}

async fn prune(config: &Config, options: &Prune, connection: &mut PgConnection) -> anyhow::Result<ExitCode> {
    take_turn(connection).await?;
    let removable: Vec<&str> = config
        .datasets
        .iter()
        .filter(|dataset| {
            dataset.mode == Mode::Replace || (dataset.mode == Mode::Upsert && dataset.on_delete == OnDelete::Keep)
        })
        .map(|dataset| dataset.name.as_str())
        .collect();
    let before = chrono::Utc::now() - options.older_than;
    let mut walk = Walk { connection, before, removable: &removable };
    let n_deleted = walk.through(include_str!("prune.sql"), "entries deleted").await?;
    output::say(format!("{n_deleted} entries deleted"));
    if options.standing {
        let n_shortened = walk.through(include_str!("prune_standing.sql"), "entries shortened").await?;
        output::say(format!("{n_shortened} entries shortened"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Keeps other prunes out for as long as the session lives.
async fn take_turn(connection: &mut PgConnection) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut *connection)
            .await
            .context("look for another prune")?;
        if taken {
            return Ok(());
        }
        if begun.elapsed() >= PATIENCE {
            bail!("another prune is running; nothing was deleted by this one");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A way through all entries, in the order of their ids.
struct Walk<'a> {
    connection: &'a mut PgConnection,
    before: DateTime<Utc>,
    removable: &'a [&'a str],
}

impl Walk<'_> {
    /// Applies a statement batch after batch, and returns to how many entries it did something.
    async fn through(&mut self, statement: &'static str, what: &'static str) -> anyhow::Result<u64> {
        let bar = progress(None, what);
        let (mut last_id, mut n_done) = (i64::MIN, 0);
        loop {
            let (reached, n): (Option<i64>, i64) = sqlx::query_as(statement)
                .bind(self.before)
                .bind(self.removable)
                .bind(last_id)
                .bind(BATCH)
                .fetch_one(&mut *self.connection)
                .await
                .with_context(|| format!("prune the ledger behind {n_done} {what}"))?;
            n_done += n.unsigned_abs();
            bar.inc(n.unsigned_abs());
            match reached {
                Some(id) => last_id = id,
                None => break,
            }
        }
        bar.finish_and_clear();
        Ok(n_done)
    }
}
