//! What follows a commit: the datasets that come after others, and notifications.
//!
//! Both are registered in the ledger, and its triggers make what follows due in the transaction that causes it; so a
//! worker with an older configuration does not lose a step.

use crate::config::{Config, Event};
use sqlx::PgConnection;

/// Registers a configuration's steps and notifications. What others registered stays.
///
/// # Errors
/// Of the database.
pub async fn register(connection: &mut PgConnection, config: &Config) -> sqlx::Result<()> {
    for dataset in config.datasets.iter().filter(|dataset| !dataset.after.is_empty() || !dataset.awaits.is_empty()) {
        let queue = config.queue_of(dataset);
        sqlx::query(include_str!("register_step.sql"))
            .bind(&dataset.name)
            .bind(&dataset.after)
            .bind(&queue.name)
            .bind(&queue.url)
            .execute(&mut *connection)
            .await?;
    }
    for dataset in &config.datasets {
        for awaits in &dataset.awaits {
            let Some((schema, table, column)) = awaits.place() else { continue };
            let fillers = config.datasets.iter().filter(|other| awaits.is_filled_by(&other.table));
            sqlx::query(include_str!("register_awaited.sql"))
                .bind(&dataset.name)
                .bind(&awaits.field)
                .bind(&awaits.column)
                .bind(schema)
                .bind(table)
                .bind(column)
                .bind(fillers.map(|filler| filler.name.as_str()).collect::<Vec<_>>())
                .execute(&mut *connection)
                .await?;
        }
    }
    for notify in &config.notify {
        sqlx::query(include_str!("register_notification.sql"))
            .bind(&notify.name)
            .bind(&notify.to)
            .bind(notify.on.iter().map(<&str>::from).collect::<Vec<_>>())
            .bind(&notify.datasets)
            .bind(notify.at_most.map(|at_most| at_most.n))
            .bind(notify.at_most.map(|at_most| at_most.secs))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Returns the steps and notifications that are registered and not in a configuration, as people are told of them.
///
/// # Errors
/// Of the database.
pub async fn unknown(connection: &mut PgConnection, config: &Config) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "SELECT 'dataset ' || dataset FROM penstock.step WHERE dataset <> ALL($1) \
         UNION ALL SELECT 'notify ' || name FROM penstock.notification WHERE name <> ALL($2) ORDER BY 1",
    )
    .bind(config.datasets.iter().map(|dataset| dataset.name.as_str()).collect::<Vec<_>>())
    .bind(config.notify.iter().map(|notify| notify.name.as_str()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
}

/// Returns whether anything is registered, so that something may be due.
///
/// # Errors
/// Of the database.
pub async fn any(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM penstock.step) OR EXISTS (SELECT FROM penstock.notification)")
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
