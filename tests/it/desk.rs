//! What stories without a queue play in: a database, and files that the importer loads by name.

use crate::world::LIMIT;
use anyhow::{Context as _, Result};
use penstock_tests::{
    database::Database,
    postgres::Postgres,
    process::{Ended, Program},
    proxy::Proxy,
    scratch::Scratch,
    wait,
};

/// A database with the ledger's schema, and a directory whose files one dataset `d` takes.
pub struct Desk {
    pub database: Database,
    scratch: Scratch,
}

impl Desk {
    /// Sets it up with tables, and the dataset's settings beyond its name and match.
    pub async fn new(tables: &str, dataset: &str) -> Result<Self> {
        Self::with(Postgres::shared()?.create_database_with_ledger().await?, tables, dataset).await
    }

    /// Sets it up in a database of this encoding.
    pub async fn in_encoding(encoding: &str, tables: &str, dataset: &str) -> Result<Self> {
        Self::with(Postgres::shared()?.create_database_in(encoding).await?, tables, dataset).await
    }

    /// Sets it up in this database.
    pub async fn with(database: Database, tables: &str, dataset: &str) -> Result<Self> {
        let desk = Self { database, scratch: Scratch::new("desk")? };
        desk.database.execute(tables).await?;
        desk.configure("**", dataset)?;
        desk.succeed(&["migrate"]).await?;
        Ok(desk)
    }

    /// Changes which files the dataset takes, as a pattern below the directory, and its settings.
    pub fn configure(&self, pattern: &str, dataset: &str) -> Result<()> {
        let pattern = self.scratch.path().join(pattern);
        let config = format!("[[dataset]]\nname = \"d\"\nmatch = \"{}\"\n{dataset}\n", pattern.display());
        self.scratch.write("importer.toml", config)?;
        Ok(())
    }

    /// Writes a file and returns its path, which is its key.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<String> {
        Ok(self.scratch.write(name, content)?.display().to_string())
    }

    /// Returns the importer with these arguments, configured for this desk.
    pub fn importer(&self, arguments: &[&str]) -> Program {
        let program = Program::new("importer").args(arguments).env("DATABASE_URL", self.database.url());
        program.in_directory(self.scratch.path())
    }

    /// Returns the same with its database connections going through a proxy.
    pub fn importer_through(&self, proxy: &Proxy, arguments: &[&str]) -> Program {
        self.importer(arguments).env("DATABASE_URL", self.database.url_through(proxy.address()))
    }

    /// Puts a proxy before Postgres.
    pub async fn proxy(&self) -> Result<Proxy> {
        Proxy::start(self.database.postgres().host_and_port()).await
    }

    /// Runs the importer to its end.
    pub async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        self.importer(arguments).run(LIMIT).await
    }

    /// Runs the importer, which has to exit 0, and returns what it printed.
    pub async fn succeed(&self, arguments: &[&str]) -> Result<String> {
        let ended = self.run(arguments).await?;
        anyhow::ensure!(ended.status.success(), "{arguments:?} ended with {}: {}", ended.status, ended.stderr);
        Ok(ended.stdout)
    }

    /// Writes a file and loads it; returns the exit status.
    pub async fn load(&self, name: &str, content: impl AsRef<[u8]>) -> Result<i32> {
        let file = self.write(name, content)?;
        self.run(&["load", &file]).await?.status.code().context("it was killed")
    }

    /// Waits until some session of the database waits for a lock.
    pub async fn wait_for_a_blocked_session(&self) -> Result<()> {
        let blocked = "SELECT count(*) > 0 FROM pg_stat_activity \
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait::until("a session that waits for a lock", LIMIT, || async {
            Ok((self.database.value(blocked).await? == "true").then_some(()))
        })
        .await
    }

    /// Returns every object's state, reason and counts: read = written + merged + rejected.
    pub async fn ledger(&self) -> Result<Vec<String>> {
        self.database
            .rows(
                "SELECT state || coalesce('(' || reason || ')', '') || coalesce(' ' || rows_read || ' = ' || \
                     rows_written || ' + ' || rows_merged || ' + ' || rows_rejected, '') \
                 FROM penstock.object_status ORDER BY id",
            )
            .await
    }

    /// Returns the rejects that wait for their second chance, as `row class column`.
    pub async fn rejects(&self) -> Result<Vec<String>> {
        self.database
            .rows(
                "SELECT row_number || ' ' || class || coalesce(' ' || column_name, '') \
                 FROM penstock.rejects WHERE resolved_at IS NULL ORDER BY row_number",
            )
            .await
    }
}
