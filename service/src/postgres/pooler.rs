//! A connection pooler in transaction mode, which keeps no session together.

use super::Server;
use sqlx::{Connection, Executor, PgConnection, Row};

/// A transaction pooler in Postgres's place.
#[derive(Debug, thiserror::Error)]
#[error(
    "a transaction pooler stands before Postgres at {0}: temporary tables, settings, advisory locks and prepared \
     statements of a session do not last through it; connect to Postgres itself or use session pooling"
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

/// A pooler in transaction mode lends a server session for the length of a transaction. So with a second connection in a
/// transaction, either both see the same backend or the first one's changes; Postgres itself does neither. Only simple
/// queries are used: prepared ones may already fail behind such a pooler.
async fn is_transaction_pooler(connection: &mut PgConnection, other: &mut PgConnection) -> sqlx::Result<bool> {
    let before = backend(connection).await?;
    let mut other = other.begin().await?;
    let others = backend(&mut other).await?;
    let after = backend(connection).await?;
    other.rollback().await?;
    Ok(before == others || before != after)
}

async fn backend(connection: &mut PgConnection) -> sqlx::Result<String> {
    // The simple protocol answers with texts.
    let query = "SELECT pg_catalog.pg_backend_pid()::pg_catalog.text AS pid";
    connection.fetch_one(sqlx::raw_sql(query)).await?.try_get("pid")
}
