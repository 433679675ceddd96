//! The fence: the lock on a head row, and the version that stands behind it.

use super::{Standing, size};
use crate::order::{Identity, Stamp};
use sqlx::{PgConnection, Row, postgres::PgRow};

/// What the fence found, true until the transaction ends.
#[derive(Debug, Clone)]
pub struct Fenced {
    /// The version that stands.
    pub standing: Option<Standing>,
    /// Rows of the version that asks were committed once, and not removed since.
    pub ever_imported: bool,
}

/// Takes the fence: locks the head row until the transaction ends, then reads, in a statement of
/// its own (so with a snapshot taken after the lock was granted), which version stands.
///
/// The lock is the one an update of the head takes. It lets others insert rows that refer to the head,
/// so recording an attempt never waits for an import.
///
/// # Errors
/// Of the database; 55P03 when the lock was not granted within `lock_timeout`.
pub async fn lock_head(connection: &mut PgConnection, head_id: i64, identity: &Identity) -> sqlx::Result<Fenced> {
    sqlx::query("SELECT 1 FROM penstock.head WHERE id = $1 FOR NO KEY UPDATE")
        .bind(head_id)
        .fetch_one(&mut *connection)
        .await?;
    let row = sqlx::query(include_str!("standing.sql"))
        .bind(head_id)
        .bind(&identity.version_id)
        .bind(&identity.etag)
        .bind(size(identity))
        .fetch_one(connection)
        .await?;
    Ok(Fenced { standing: standing(&row)?, ever_imported: row.try_get("ever_imported")? })
}

/// Reads the version that stands from a row of `standing.sql` and its like.
///
/// # Errors
/// Of the database.
pub(super) fn standing(row: &PgRow) -> sqlx::Result<Option<Standing>> {
    let Some(object_id) = row.try_get::<Option<i64>, _>("object_id")? else {
        return Ok(None);
    };
    Ok(Some(Standing {
        object_id,
        identity: Identity {
            version_id: row.try_get("version_id")?,
            etag: row.try_get("etag")?,
            size: row.try_get::<Option<i64>, _>("size")?.and_then(|size| u64::try_from(size).ok()),
        },
        stamp: Stamp { sequencer: row.try_get("sequencer")?, last_modified: row.try_get("last_modified")? },
        is_delete: row.try_get("is_delete")?,
        recipe: row.try_get("recipe")?,
        waits: false,
    }))
}
