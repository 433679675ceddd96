//! A database for one test, and short ways to ask it.

use crate::postgres::{Postgres, installed};
use anyhow::{Context as _, Result, ensure};
use sqlx::{Column as _, Connection as _, Executor as _, PgConnection};
use std::{
    process::{Command, Stdio},
    sync::Arc,
};

/// A database of its own, dropped with its handle.
#[derive(Debug)]
pub struct Database {
    postgres: Arc<Postgres>,
    name: String,
}

impl Database {
    pub(crate) fn new(postgres: Arc<Postgres>, name: String) -> Self {
        Self { postgres, name }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its URL, for the superuser.
    #[must_use]
    pub fn url(&self) -> String {
        self.postgres.url(&self.name)
    }

    /// Returns its URL through a proxy at `host_and_port`.
    #[must_use]
    pub fn url_through(&self, host_and_port: impl ToString) -> String {
        self.postgres.url_through(&host_and_port.to_string(), &self.name)
    }

    /// Returns the server.
    #[must_use]
    pub fn postgres(&self) -> &Arc<Postgres> {
        &self.postgres
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When the server is down.
    pub async fn connect(&self) -> Result<PgConnection> {
        PgConnection::connect(&self.url()).await.with_context(|| format!("connect to {}", self.name))
    }

    /// Runs statements on a connection of their own.
    ///
    /// # Errors
    /// When one fails.
    pub async fn execute(&self, statements: &str) -> Result<()> {
        let mut connection = self.connect().await?;
        connection.execute(statements).await.with_context(|| statements.to_owned())?;
        connection.close().await?;
        Ok(())
    }

    /// Runs a query and returns its rows as text, columns joined by ` | `, NULL as `∅`.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn rows(&self, query: &str) -> Result<Vec<String>> {
        let rows = self.cells(query).await?;
        let line = |row: Vec<Option<String>>| {
            row.into_iter().map(|cell| cell.unwrap_or_else(|| "∅".into())).collect::<Vec<_>>().join(" | ")
        };
        Ok(rows.into_iter().map(line).collect())
    }

    /// Runs a query and returns its rows, each value as Postgres writes it in JSON; None is NULL.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn cells(&self, query: &str) -> Result<Vec<Vec<Option<String>>>> {
        let mut connection = self.connect().await?;
        // Postgres itself writes the text, so that a comparison does not depend on decoders of ours.
        let wrapped = format!(
            "SELECT (SELECT coalesce(array_agg(value ORDER BY ordinality), '{{}}') \
             FROM json_each_text(row_to_json(row)) WITH ORDINALITY) FROM ({query}) row"
        );
        let rows = sqlx::query_scalar(&wrapped).fetch_all(&mut connection).await;
        let rows = rows.with_context(|| query.to_owned())?;
        connection.close().await?;
        Ok(rows)
    }

    /// Returns the names of a query's columns.
    ///
    /// # Errors
    /// When the query is wrong.
    pub async fn columns(&self, query: &str) -> Result<Vec<String>> {
        let mut connection = self.connect().await?;
        let described = connection.describe(query).await.with_context(|| query.to_owned())?;
        Ok(described.columns.iter().map(|column| column.name().to_owned()).collect())
    }

    /// Runs a query that returns one value and returns it as text.
    ///
    /// # Errors
    /// When the query fails or does not return exactly one row.
    pub async fn value(&self, query: &str) -> Result<String> {
        let mut rows = self.rows(query).await?;
        ensure!(rows.len() == 1, "{query} returned {} rows", rows.len());
        Ok(rows.remove(0))
    }
}

/// Returns a text as SQL has it.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Drop for Database {
    fn drop(&mut self) {
        // A private cluster goes away whole; a shared one must not fill up.
        if self.postgres.is_private() {
            return;
        }
        let Ok(binaries) = installed() else { return };
        // Postgres 15 and later drop a database only when every session has answered, and one that is just logging in
        // answers when its client does, which may be a task of this very thread. So the wait has an end, after which
        // the server goes on by itself; without one it would be `authentication_timeout`, for every other test, too.
        // Best effort: the test has its verdict already.
        let _ = Command::new("timeout")
            .arg("2")
            .arg(binaries.join("psql"))
            .args(["-qc", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)])
            .arg(self.postgres.url("postgres"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
