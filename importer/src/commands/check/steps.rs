//! What is registered and due, against the configuration.

use super::Findings;
use crate::{commands::output::shell_word, config::Config, load::registry};
use sqlx::{PgConnection, Row};

/// Looks for steps and notifications that the configuration lacks, for what is registered otherwise than it says, for
/// datasets it lost, and for what cannot be sent.
///
/// # Errors
/// Of the database.
pub async fn check(connection: &mut PgConnection, config: &Config, findings: &mut Findings) -> anyhow::Result<()> {
    let is_there: bool =
        sqlx::query_scalar("SELECT to_regclass('penstock.awaited') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !is_there {
        return Ok(());
    }
    for name in registry::unknown(connection, config).await? {
        let forget = shell_word(name.split_once(' ').map_or(name.as_str(), |(_, name)| name));
        findings.warn(
            name.as_str(),
            "it is registered but not configured here, so messages for it are still queued",
            format!("add it, or `importer migrate --forget {forget}` where it was taken out or renamed"),
        );
    }
    for difference in registry::differences(connection, config).await? {
        let mends = "`importer migrate` registers what this configuration says, if it is the newest";
        findings.warn("registered", difference, mends);
    }
    for awaited in registry::awaited(connection, config).await? {
        if awaited.fillers.is_empty() {
            findings.warn(
                format!("dataset {}", awaited.dataset),
                format!(
                    "no dataset fills the table of {}, so its objects are loaded again by time alone",
                    awaited.lookup
                ),
                "nothing needs to be done where others fill it; `again` says how often it is looked",
            );
        }
    }
    let names: Vec<&str> = config.datasets.iter().map(|dataset| dataset.name.as_str()).collect();
    for row in sqlx::query(include_str!("lost_datasets.sql")).bind(&names).fetch_all(&mut *connection).await? {
        let (name, n_heads): (String, i64) = (row.try_get("dataset")?, row.try_get("n_heads")?);
        let (n_waits, n_due): (i64, i64) = (row.try_get("n_waits")?, row.try_get("n_due")?);
        let left = if n_waits + n_due > 0 {
            format!(", of which {n_waits} wait for keys, and {n_due} messages that are due to it")
        } else {
            String::new()
        };
        let mends = if left.is_empty() {
            "nothing needs to be done for one that is no longer wanted".to_owned()
        } else {
            format!("`importer migrate --forget {}` lets go of what is due to it and of its waits", shell_word(&name))
        };
        findings.warn(
            format!("dataset {name}"),
            format!("the ledger has {n_heads} objects of it{left}, and this configuration does not have it"),
            format!("under a new name its objects would load again; {mends}"),
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
            "check that it exists and that this role may send to it (sqs:SendMessage, sns:Publish, events:PutEvents; of objects s3:GetObjectTagging, s3:PutObjectTagging and those of versions)",
        );
    }
    Ok(())
}
