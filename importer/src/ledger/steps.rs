//! What follows a commit: the datasets that come after others, notifications, and tags.
//!
//! Both are registered in the ledger (`load/registry.rs`), and its triggers make what follows due in the transaction that
//! causes it.

use crate::config::Event;
use sqlx::PgConnection;

/// Returns whether anything is registered, so that something may be due.
///
/// # Errors
/// Of the database.
pub async fn any(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM penstock.step) OR EXISTS (SELECT FROM penstock.notification) \
         OR EXISTS (SELECT FROM penstock.tagging)",
    )
    .fetch_one(connection)
    .await
}

/// Forgets a step or a notification, and what is due to it. Returns how many items that were; None when nothing of that
/// name is registered.
///
/// # Errors
/// Of the database.
pub async fn forget(connection: &mut PgConnection, name: &str) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(include_str!("forget_step.sql")).bind(name).fetch_one(connection).await
}

/// Makes a pointer due for every dataset that follows this one, in the transaction of what it is about.
///
/// # Errors
/// Of the database.
pub async fn send_on(connection: &mut PgConnection, dataset: &str, object_id: i64, pointer: &str) -> sqlx::Result<()> {
    sqlx::query("SELECT penstock.send_on($1, $2, $3::jsonb)")
        .bind(dataset)
        .bind(object_id)
        .bind(pointer)
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets what was due to a step because of an object: it was done at once.
///
/// # Errors
/// Of the database.
pub async fn done_at_once(connection: &mut PgConnection, dataset: &str, object_id: i64) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM penstock.due_item WHERE kind = 'step' AND target = $1 AND object_id = $2")
        .bind(dataset)
        .bind(object_id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Marks a transaction as the refresh of an object, of which the steps after it are not told.
///
/// # Errors
/// Of the database.
pub async fn refresh(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("SELECT set_config('penstock.refresh', 'on', true)").execute(connection).await.map(|_| ())
}

/// Tells of an event that no entry of the ledger stands for. `said` is a JSON object.
///
/// # Errors
/// Of the database.
pub async fn tell(connection: &mut PgConnection, event: Event, dataset: &str, said: &str) -> sqlx::Result<()> {
    sqlx::query("SELECT penstock.tell($1, $2, NULL, $3::jsonb)")
        .bind(<&str>::from(event))
        .bind(dataset)
        .bind(said)
        .execute(connection)
        .await?;
    Ok(())
}
