//! Rows that were refused before the merge: how many are too many, and where they are kept.

use super::{Load, LoadError, stage::Staged};
use crate::ledger;
use decode::{PayloadForm, Reject};
use sqlx::PgConnection;

/// Bytes of rejects kept in memory before COPY is interrupted to write them down.
pub const REJECTS_BYTES: usize = 1024 * 1024;

/// Fails an object with too many rejects: at once where that is sure, else at its end.
///
/// # Errors
/// [`LoadError::TooManyRejects`].
pub fn check_rejects(load: &Load<'_>, staged: &Staged, more: bool) -> Result<(), LoadError> {
    let limit = &load.target.max_rejects;
    let too_many = if more {
        limit.surely_exceeded(staged.n_rejected, staged.n_read)
    } else {
        !limit.allows(staged.n_rejected, staged.n_read)
    };
    let why = match limit {
        _ if staged.n_rejected == staged.n_read => "not one is good".to_owned(),
        limit => format!("more than max_rejects = {limit} allows"),
    };
    match &staged.first_reject {
        Some((first_row, class, column)) if too_many => Err(LoadError::TooManyRejects {
            rejected: staged.n_rejected,
            read: staged.n_read,
            why,
            first_row: *first_row,
            first_class: (*class).to_owned(),
            first_column: column.as_ref().map(|c| format!(", column {c}")).unwrap_or_default(),
        }),
        _ => Ok(()),
    }
}

/// Writes rejects into the ledger.
///
/// # Errors
/// Of the database.
pub async fn write_rejects(
    connection: &mut PgConnection,
    load: &Load<'_>,
    form: PayloadForm,
    rejects: &[Reject],
) -> sqlx::Result<()> {
    let (table, object_id) = (&load.target.table, load.recorded.object_id);
    if table.takes_any_text {
        return ledger::rejects::insert(connection, object_id, form, rejects).await;
    }
    let storable = |reject: &Reject| Reject {
        message: table.storable(&reject.message),
        column: reject.column.as_deref().map(|name| table.storable(name)),
        ..reject.clone()
    };
    let rejects: Vec<Reject> = rejects.iter().map(storable).collect();
    ledger::rejects::insert(connection, object_id, form, &rejects).await
}
