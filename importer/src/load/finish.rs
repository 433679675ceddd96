//! The end of every import of one object: what the ledger keeps of it, with the rows.

use super::{Load, LoadError, Loaded, mapping::Opened, technique::Used};
use crate::ledger::{self, Counts, Imported};
use sqlx::PgConnection;

/// Records an import in the transaction of its rows, which commits then.
///
/// # Errors
/// Of the database.
pub async fn finish(
    tx: &mut PgConnection,
    load: &Load<'_>,
    opened: &Opened,
    counts: Counts,
    technique: Used,
) -> Result<Loaded, LoadError> {
    let imported = Imported {
        recorded: load.recorded,
        identity: &load.candidate.identity,
        stamp: &load.candidate.stamp,
        counts,
        bytes: load.source.size(),
        technique: <&str>::from(technique),
        duration_seconds: load.seconds(),
        csv_fields: opened.csv_fields(&load.target.table, counts.rejected),
    };
    ledger::finish_imported(tx, &imported).await?;
    Ok(Loaded::Imported(counts, technique))
}
