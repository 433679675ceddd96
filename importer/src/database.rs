//! Connecting to Postgres as the configuration says.

mod transaction;

pub use service::postgres::{Server, connect_options};
use sqlx::{PgConnection, Row};
pub use transaction::{Begin, End, Lasts, TransactionError, savepoint, transaction};

/// Returns the name a worker's connections show in `pg_stat_activity`. Postgres keeps 63 bytes of it.
#[must_use]
pub fn application_name(worker_id: &str) -> String {
    format!("penstock importer {worker_id}")
}

/// A transaction pooler in Postgres's place.
#[derive(Debug, thiserror::Error)]
#[error(
    "a transaction pooler stands before Postgres at {0}: temporary tables, settings and prepared statements of a session \
     do not last through it; connect to Postgres itself or use session pooling"
)]
pub struct TransactionPooler(String);

/// Refuses a server that is a transaction pooler.
///
/// # Errors
/// [`TransactionPooler`], or what Postgres says.
pub async fn refuse_transaction_pooler(server: &Server) -> anyhow::Result<()> {
    let mut one = server.connect_only().await?;
    let mut other = server.connect_only().await?;
    let looking = is_transaction_pooler(&mut one, &mut other);
    match server.answer("look for a transaction pooler", looking).await? {
        true => Err(TransactionPooler(server.place()).into()),
        false => Ok(()),
    }
}

/// A pooler in transaction mode gives a server session to whoever has a transaction open. So with a second
/// connection in a transaction, either both see the same backend or the first one's changes; Postgres itself
/// does neither. Only simple queries are used: prepared ones may already fail behind such a pooler.
///
/// # Errors
/// Of the database.
pub async fn is_transaction_pooler(connection: &mut PgConnection, other: &mut PgConnection) -> sqlx::Result<bool> {
    let before = backend(connection).await?;
    transaction(other, Begin::Plainly, async |other| {
        let others = backend(other).await?;
        let after = backend(connection).await?;
        Ok(End::RollBack(before == others || before != after))
    })
    .await
}

async fn backend(connection: &mut PgConnection) -> sqlx::Result<String> {
    // The simple protocol answers with texts.
    let row = sqlx::Executor::fetch_one(
        connection,
        sqlx::raw_sql("SELECT pg_catalog.pg_backend_pid()::pg_catalog.text AS pid"),
    )
    .await?;
    row.try_get("pid")
}
