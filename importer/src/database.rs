//! Connecting to Postgres as the configuration says.

mod transaction;

use crate::config;
use anyhow::{Context, bail};
pub use service::postgres::{Server, connect_options};
use sqlx::{ConnectOptions, PgConnection, Row};
pub use transaction::{Begin, End, Lasts, TransactionError, savepoint, transaction};

/// Returns the server to connect to. `DATABASE_URL_FILE` is read anew on every call.
///
/// # Errors
/// No URL, an unreadable file, or a URL that is none; the text never contains the URL.
pub fn options(database: &config::Database, application_name: &str) -> anyhow::Result<Server> {
    let server = match (&database.url_file, &database.url) {
        (Some(path), _) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("read DATABASE_URL_FILE {}", path.display()))?;
            Server::read(text.trim()).with_context(|| format!("read DATABASE_URL_FILE {}", path.display()))?
        }
        (None, Some(url)) => Server::read(url.expose()).context("read database.url")?,
        (None, None) => bail!("database.url is missing"),
    };
    // A merge may take minutes; sqlx would warn of each that takes a second, with the whole statement.
    Ok(server.with(|options| options.application_name(application_name).disable_statement_logging()))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_file_is_read_for_every_connection_and_wins() {
        let path = std::env::temp_dir().join(format!("penstock-url-{}", uuid::Uuid::new_v4()));
        let url = Some(config::Secret::from("postgres://localhost/from_url".to_owned()));
        let database = config::Database { url, url_file: Some(path.clone()) };
        for name in ["one", "two"] {
            std::fs::write(&path, format!("postgres://localhost/{name}\n")).expect("write the file");
            let options = options(&database, "test").expect("readable");
            assert_eq!(options.options().get_database(), Some(name));
            assert_eq!(options.options().get_application_name(), Some("test"));
        }
        std::fs::remove_file(&path).expect("remove the file");
        let error = format!("{:#}", options(&database, "test").expect_err("the file is gone"));
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
