//! `importer prune`: the only way ledger entries go.

use super::progress;
use crate::{
    cli::Prune,
    config::{Config, Mode, OnDelete},
    database,
};
use anyhow::Context;
use std::process::ExitCode;

/// Entries deleted in one statement, so that no lock is held for long.
const BATCH: i64 = 5000;

/// Deletes entries that ended longer ago than the age given, in batches, each its own transaction.
///
/// What stays whatever its age: the versions that stand, entries not ended, imported versions whose
/// dataset appends (they must not be appended again) or takes rows away by their object's id, and
/// those of datasets the configuration does not know.
///
/// # Errors
/// When Postgres is out of reach.
pub async fn run(config: &Config, options: &Prune) -> anyhow::Result<ExitCode> {
    let mut connection = database::connect(&config.database, "penstock importer prune").await?;
    let removable: Vec<&str> = config
        .datasets
        .iter()
        .filter(|dataset| {
            dataset.mode == Mode::Replace || (dataset.mode == Mode::Upsert && dataset.on_delete == OnDelete::Keep)
        })
        .map(|dataset| dataset.name.as_str())
        .collect();
    let before = chrono::Utc::now() - options.older_than;
    let bar = progress(None, "entries deleted");
    let mut n_deleted = 0;
    loop {
        let done = sqlx::query(include_str!("prune.sql"))
            .bind(before)
            .bind(&removable)
            .bind(BATCH)
            .execute(&mut connection)
            .await
            .context("delete ledger entries")?;
        n_deleted += done.rows_affected();
        bar.inc(done.rows_affected());
        if done.rows_affected() == 0 {
            break;
        }
    }
    bar.finish_and_clear();
    println!("{n_deleted} entries deleted");
    Ok(ExitCode::SUCCESS)
}
