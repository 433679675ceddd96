//! Connecting to Postgres as the configuration says.

use crate::config;
use anyhow::{Context, bail};
use service::postgres::Server;
pub use service::postgres::connect_options;
use sqlx::{ConnectOptions, PgConnection};

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

/// Opens one connection.
///
/// # Errors
/// As [`options`], and whatever Postgres says.
pub async fn connect(database: &config::Database, application_name: &str) -> anyhow::Result<PgConnection> {
    options(database, application_name)?.connect().await
}

/// Returns the name a worker's connections show in `pg_stat_activity`. Postgres keeps 63 bytes of it.
#[must_use]
pub fn application_name(worker_id: &str) -> String {
    format!("penstock importer {worker_id}")
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
