//! A database, a shelf of objects, and importers over both.

use super::shelf::Shelf;
use anyhow::{Context as _, Result, bail};
use importer::{
    config::Config,
    database::application_name,
    import::{Importer, Settled},
    ledger::migrate::migrate,
    load::Sessions,
    message::{Anew, ObjectPointer, Record, RecordKind},
    outcome::{Outcome, Outside},
    route::Routed,
};
use penstock_tests::{database::Database, postgres::Postgres};
use sqlx::postgres::PgConnectOptions;
use std::{sync::Arc, time::Duration};

/// Times an import may find another transaction in its way.
const MAX_TRIES: u32 = 100;

pub struct Bench {
    pub database: Database,
    pub shelf: Arc<Shelf>,
    config: Config,
    importer: Importer,
}

impl Bench {
    /// Prepares a database with `tables`, one dataset `d` that takes every object and is described by `dataset`,
    /// and an unversioned bucket.
    pub async fn new(tables: &str, dataset: &str) -> Result<Self> {
        Self::with_shelf(Shelf::default(), tables, dataset).await
    }

    /// As [`Self::new`] over this shelf.
    pub async fn with_shelf(shelf: Shelf, tables: &str, dataset: &str) -> Result<Self> {
        let database = Postgres::shared()?.create_database().await?;
        migrate(&mut database.connect().await?).await?;
        // The role may have a schema of its name, which would come first.
        database.execute(&format!("SET search_path = public; {tables}")).await?;
        let text = format!(
            "worker.memory_mib = 64\n[[dataset]]\nname = \"d\"\nmatch = \"s3://b/**\"\nformat = \"ndjson\"\n{dataset}\n"
        );
        let config = Config::parse(&text, "importer.toml", |_| None)?;
        let shelf = Arc::new(shelf);
        let importer = importer(&database, &shelf, &config, "one", Duration::from_secs(10))?;
        Ok(Self { database, shelf, config, importer })
    }

    /// Returns another worker, one that waits for locks for so long.
    pub fn worker(&self, id: &str, lock_timeout: Duration) -> Result<Importer> {
        importer(&self.database, &self.shelf, &self.config, id, lock_timeout)
    }

    /// Returns a worker that logs in as `role` with the password `role`.
    pub fn worker_as(&self, role: &str) -> Result<Importer> {
        let options: PgConnectOptions = self.database.url().parse()?;
        let options = options.username(role).password(role);
        let sessions = Sessions::new(move || Ok(options.clone()));
        Importer::new(self.config.clone(), Arc::clone(&self.shelf) as _, sessions, role.to_owned(), None)
    }

    /// Returns the first worker.
    pub fn importer(&self) -> &Importer {
        &self.importer
    }

    /// Settles a record and says how.
    pub async fn settle(&self, record: &Record) -> Result<String> {
        settle(&self.importer, record).await
    }

    /// Puts an object and settles its event.
    pub async fn put(&self, key: &str, body: &str, sequencer: &str) -> Result<String> {
        self.settle(&event(&self.shelf.put(key, body), sequencer)).await
    }

    /// Returns a query's rows.
    pub async fn rows(&self, query: &str) -> Result<Vec<String>> {
        self.database.rows(query).await
    }

    /// Returns state and reason of every version seen, oldest first.
    pub async fn ledger(&self) -> Result<Vec<String>> {
        self.rows("SELECT state, reason FROM penstock.object_status ORDER BY id").await
    }

    /// Returns the ETag that stands for each key.
    pub async fn heads(&self) -> Result<Vec<String>> {
        self.rows(
            "SELECT h.key, o.etag FROM penstock.head h JOIN penstock.object o ON o.id = h.object_id ORDER BY h.key",
        )
        .await
    }
}

fn importer(
    database: &Database,
    shelf: &Arc<Shelf>,
    config: &Config,
    id: &str,
    lock_timeout: Duration,
) -> Result<Importer> {
    let options: PgConnectOptions = database.url().parse()?;
    let options = options.application_name(&application_name(id));
    let sessions = Sessions::new(move || Ok(options.clone())).with_lock_timeout(lock_timeout);
    let (shelf, config) = (Arc::clone(shelf), config.clone());
    Importer::new(config, shelf, sessions, id.to_owned(), None)
}

/// Settles a record, trying again while another transaction is in the way, and says how.
pub async fn settle(importer: &Importer, record: &Record) -> Result<String> {
    let routed = importer.router.route(record.clone());
    for _ in 0..MAX_TRIES {
        match importer.import(&routed, None).await {
            Ok(settled) => return Ok(said(&settled)),
            Err(held) if held.outside == Outside::Contention => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(held) => return Err(held.error).context("held"),
        }
    }
    bail!("still held after {MAX_TRIES} tries");
}

/// Routes records and settles them together, as far as they can be.
pub async fn import_group(importer: &Importer, records: &[Record]) -> Result<Vec<Option<Settled>>> {
    let routed: Vec<Routed> = records.iter().map(|record| importer.router.route(record.clone())).collect();
    importer.import_group(&routed.iter().collect::<Vec<_>>()).await.map_err(|held| held.error)
}

/// Says how a record was settled: for an import, rows read = written + merged + rejected.
pub fn said(settled: &Settled) -> String {
    match &settled.outcome {
        Outcome::Imported(c) => format!("imported {} = {} + {} + {}", c.read, c.written, c.merged, c.rejected),
        Outcome::AlreadyImported => "already imported".into(),
        Outcome::Superseded => "superseded".into(),
        Outcome::Skipped(reason) => format!("skipped({reason})"),
        Outcome::Gone => "gone".into(),
        Outcome::Removed(rows) => format!("removed {rows}"),
        Outcome::Failed(failure) => format!("failed({}): {}", failure.reason, failure.error),
    }
}

/// An event about an object that was put.
pub fn event(pointer: &ObjectPointer, sequencer: &str) -> Record {
    pointing(ObjectPointer { sequencer: Some(sequencer.into()), ..pointer.clone() })
}

/// A pointer as `replay` and `reconcile` send it.
pub fn pointing(pointer: ObjectPointer) -> Record {
    Record::created(pointer)
}

/// The same with `force`.
pub fn forced(record: Record) -> Record {
    Record { anew: Some(Anew::Forced), ..record }
}

/// An event about an object that was removed.
pub fn removal(key: &str, sequencer: &str) -> Record {
    let pointer = ObjectPointer { sequencer: Some(sequencer.into()), ..ObjectPointer::new(super::shelf::BUCKET, key) };
    let kind = RecordKind::Removed { by_lifecycle: false, delete_marker: false };
    Record { kind, ..Record::created(pointer) }
}
