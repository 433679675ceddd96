//! `on_new_field = "add_column"`: columns named by strangers.

use crate::{
    decode::Field,
    load::{Target, sql::quote},
};
use sqlx::{Executor, PgConnection};
use tracing::{info, warn};

/// Columns a dataset may gain this way; a producer gone wild must not widen a table without end.
const MAX_ADDED: i64 = 50;

/// Adds a nullable text or jsonb column for each field, up to the limit. The catalog must be read again afterwards.
///
/// A column says in its comment where it came from, which is also how the limit is counted.
///
/// # Errors
/// Of the database; the connection must be dropped then.
pub async fn add(connection: &mut PgConnection, target: &Target, fields: &[Field]) -> sqlx::Result<()> {
    let origin = format!("added by penstock for dataset {}", target.dataset);
    for field in fields {
        connection.execute("BEGIN").await?;
        let added = add_one(connection, target, field, &origin).await?;
        connection.execute("COMMIT").await?;
        if !added {
            warn!(dataset = target.dataset, limit = MAX_ADDED, "no more columns are added for new fields");
            return Ok(());
        }
        info!(dataset = target.dataset, column = field.name, "column added for a new field");
    }
    Ok(())
}

/// Adds a column unless there are enough, one worker at a time, so that two cannot pass the limit together.
async fn add_one(connection: &mut PgConnection, target: &Target, field: &Field, origin: &str) -> sqlx::Result<bool> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('penstock.add_column'), $1::oid::int)")
        .bind(target.table.oid)
        .execute(&mut *connection)
        .await?;
    let added: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_catalog.pg_description \
         WHERE classoid = 'pg_class'::regclass AND objoid = $1::oid AND description = $2",
    )
    .bind(target.table.oid)
    .bind(origin)
    .fetch_one(&mut *connection)
    .await?;
    if added >= MAX_ADDED {
        return Ok(false);
    }
    let (table, column) = (&target.table.qualified, quote(&field.name));
    let type_sql = if field.nested { "jsonb" } else { "text" };
    let statement = format!(
        "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} {type_sql}; COMMENT ON COLUMN {table}.{column} IS '{}'",
        origin.replace('\'', "''")
    );
    connection.execute(statement.as_str()).await?;
    Ok(true)
}
