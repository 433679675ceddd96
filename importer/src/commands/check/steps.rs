//! What is registered and due, against the configuration.

use super::Findings;
use crate::{config::Config, ledger::steps};
use sqlx::{PgConnection, Row};

/// Looks for steps and notifications that the configuration lacks, for datasets it lost, and for what cannot be sent.
///
/// # Errors
/// Of the database.
pub async fn check(connection: &mut PgConnection, config: &Config, findings: &mut Findings) -> anyhow::Result<()> {
    let is_there: bool =
        sqlx::query_scalar("SELECT to_regclass('penstock.step') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !is_there {
        return Ok(());
    }
    for name in steps::unknown(connection, config).await? {
        let forget = name.rsplit_once(' ').map_or(name.as_str(), |(_, name)| name);
        findings.warn(
            name.as_str(),
            "it is registered but not configured here, so messages for it are still queued",
            format!("add it, or `importer migrate --forget {forget}` where it was taken out or renamed"),
        );
    }
    let names: Vec<&str> = config.datasets.iter().map(|dataset| dataset.name.as_str()).collect();
    for row in sqlx::query(include_str!("lost_datasets.sql")).bind(&names).fetch_all(&mut *connection).await? {
        let (name, n_heads): (String, i64) = (row.try_get("dataset")?, row.try_get("n_heads")?);
        findings.warn(
            format!("dataset {name}"),
            format!("the ledger has {n_heads} objects of it, and this configuration does not have it"),
            "under a new name its objects would load again; nothing needs to be done for one that is no longer wanted",
        );
    }
    for row in sqlx::query(include_str!("due.sql")).fetch_all(&mut *connection).await? {
        let (target, n): (String, i64) = (row.try_get("target")?, row.try_get("n")?);
        let error: Option<String> = row.try_get("error")?;
        findings.warn(
            format!("due to {target}"),
            format!(
                "{n} could not be delivered, the oldest for {} minutes: {}",
                row.try_get::<i64, _>("minutes")?,
                error.unwrap_or_default()
            ),
            "check that it exists and that this role may send to it (sqs:SendMessage, sns:Publish, events:PutEvents)",
        );
    }
    Ok(())
}
