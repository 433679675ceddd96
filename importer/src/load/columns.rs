//! `on_new_field = "add_column"`: columns named by untrusted files.

use super::{Target, sql::quote};
use decode::Field;
use sqlx::{Executor, PgConnection};
use tracing::warn;

/// Columns a dataset may gain this way; a producer gone wild must not widen a table without end.
const MAX_ADDED: i64 = 50;

/// Adds a nullable text or jsonb column for each field, up to the limit, and returns those that were not added.
/// In the load's own transaction, after its fence: an object that fails leaves no column behind.
/// The catalog must be read again afterwards.
///
/// A column says in its comment where it came from, which is also how the limit is counted.
///
/// # Errors
/// Of the database; the connection must be dropped then.
pub async fn add<'a>(connection: &mut PgConnection, target: &Target, fields: &'a [Field]) -> sqlx::Result<&'a [Field]> {
    // One worker at a time, so that two cannot pass the limit together.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('penstock.add_column'), $1::oid::int)")
        .bind(target.table.oid)
        .execute(&mut *connection)
        .await?;
    let origin = format!("added by penstock for dataset {}", target.config.name);
    for (index, field) in fields.iter().enumerate() {
        if !add_one(connection, target, field, &origin).await? {
            warn!(dataset = target.config.name, limit = MAX_ADDED, "no more columns are added for new fields");
            return Ok(&fields[index..]);
        }
    }
    Ok(&[])
}

/// Adds a column unless there are enough.
async fn add_one(connection: &mut PgConnection, target: &Target, field: &Field, origin: &str) -> sqlx::Result<bool> {
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
    let statement = format!(
        "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} {}; COMMENT ON COLUMN {table}.{column} IS '{}'",
        type_sql(field),
        origin.replace('\'', "''")
    );
    connection.execute(statement.as_str()).await?;
    Ok(true)
}

/// Returns the type a field's column gets.
#[must_use]
pub fn type_sql(field: &Field) -> &'static str {
    if field.nested { "jsonb" } else { "text" }
}
