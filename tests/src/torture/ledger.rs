//! The ledger as the judge reads it.

use super::{content::Dataset, events::Done, plan::Plan};
use crate::database::Database;
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, HashMap};

/// A row of `penstock.object` and whether its key's head names it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its id, which lineage columns hold.
    pub id: i64,
    /// Empty where no dataset took the object.
    pub dataset: String,
    /// The object's key.
    pub key: String,
    /// The head names this row.
    pub stands: bool,
    /// The row is about a removal.
    pub is_delete: bool,
    /// Which version.
    pub version_id: Option<String>,
    /// Which version.
    pub etag: Option<String>,
    /// What became of it.
    pub state: String,
    /// Why.
    pub reason: Option<String>,
    /// How often it was tried.
    pub attempts: i32,
    /// Its rows were committed, and not removed since.
    pub imported: bool,
    /// Its message went to the dead-letter queue.
    pub forwarded: bool,
    /// Count.
    pub rows_read: Option<i64>,
    /// Count.
    pub rows_added: Option<i64>,
    /// Count.
    pub rows_written: Option<i64>,
    /// Count.
    pub rows_merged: Option<i64>,
    /// Count.
    pub rows_filtered: Option<i64>,
    /// Count.
    pub rows_rejected: Option<i64>,
    /// Numbers of the rows in `penstock.rejects`.
    pub rejects: Vec<i64>,
}
service::from_row!(Entry {
    id,
    dataset,
    key,
    stands,
    is_delete,
    version_id,
    etag,
    state,
    reason,
    attempts,
    imported,
    forwarded,
    rows_read,
    rows_added,
    rows_written,
    rows_merged,
    rows_filtered,
    rows_rejected,
    rejects
});

const ENTRIES: &str = "
    SELECT o.id, h.dataset, h.key, h.object_id IS NOT DISTINCT FROM o.id AS stands, o.is_delete, o.version_id, o.etag,
           o.state, o.reason, o.attempts, o.imported_at IS NOT NULL AS imported,
           o.forwarded_message_id IS NOT NULL AS forwarded,
           o.rows_read, o.rows_added, o.rows_written, o.rows_merged, o.rows_filtered, o.rows_rejected,
           ARRAY(SELECT r.row_number FROM penstock.reject r WHERE r.object_id = o.id ORDER BY 1) AS rejects
    FROM penstock.object o JOIN penstock.head h ON h.id = o.head_id
    ORDER BY o.id";

/// All entries, found by id, and by dataset and key.
#[derive(Debug)]
pub struct Ledger {
    entries: BTreeMap<i64, Entry>,
    by_key: HashMap<(String, String), Vec<i64>>,
}

impl Ledger {
    /// Reads it.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn read(database: &Database) -> Result<Self> {
        let mut connection = database.connect().await?;
        let entries: Vec<Entry> =
            sqlx::query_as(ENTRIES).fetch_all(&mut connection).await.context("read the ledger")?;
        let mut by_key: HashMap<_, Vec<i64>> = HashMap::new();
        for entry in &entries {
            by_key.entry((entry.dataset.clone(), entry.key.clone())).or_default().push(entry.id);
        }
        Ok(Self { entries: entries.into_iter().map(|entry| (entry.id, entry)).collect(), by_key })
    }

    /// Returns all entries.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Returns what a dataset has of a key, oldest first.
    pub fn of_key(&self, dataset: Dataset, key: &str) -> impl Iterator<Item = &Entry> {
        let ids = self.by_key.get(&(dataset.name().to_owned(), key.to_owned()));
        ids.into_iter().flatten().filter_map(|id| self.entries.get(id))
    }

    /// Returns the entry that the key's head in a dataset names.
    #[must_use]
    pub fn standing(&self, dataset: Dataset, key: &str) -> Option<&Entry> {
        self.of_key(dataset, key).find(|entry| entry.stands)
    }

    /// Returns a key's entries in words, for a report.
    #[must_use]
    pub fn explain(&self, key: &str) -> String {
        let count = |count: Option<i64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let line = |entry: &Entry| {
            format!(
                "    ledger {} of {}: {}{}{} {} ({}) attempts {} read {} added {} written {} merged {} filtered {} rejected {}{}\n",
                entry.id,
                entry.dataset,
                entry.version_id.as_deref().map(|id| format!("version {id} ")).unwrap_or_default(),
                entry.etag.as_deref().map(|etag| format!("etag {etag} ")).unwrap_or_default(),
                if entry.is_delete { "removal" } else { "" },
                entry.state,
                entry.reason.as_deref().unwrap_or("-"),
                entry.attempts,
                count(entry.rows_read),
                count(entry.rows_added),
                count(entry.rows_written),
                count(entry.rows_merged),
                count(entry.rows_filtered),
                count(entry.rows_rejected),
                if entry.stands { ", stands" } else { "" },
            )
        };
        self.entries().filter(|entry| entry.key == key).map(line).collect()
    }
}

/// Which act an entry is about: the put of its version or, without versions, the first put of its bytes.
#[derive(Debug)]
pub struct Identities {
    acts: HashMap<(usize, String), usize>,
    of_act: Vec<Option<String>>,
}

impl Identities {
    /// Returns what the acts of a plan left behind.
    #[must_use]
    pub fn new(plan: &Plan, done: &[Option<Done>]) -> Self {
        let mut acts = HashMap::new();
        let mut of_act = vec![None; plan.acts.len()];
        for (act, done) in done.iter().enumerate().filter_map(|(act, done)| Some((act, done.as_ref()?))) {
            if plan.content(act).is_none() {
                continue;
            }
            let name = done.stored.version_id.clone().unwrap_or_else(|| done.stored.etag.clone());
            of_act[act] = Some(name.clone());
            acts.entry((plan.acts[act].key, name)).or_insert(act);
        }
        Self { acts, of_act }
    }

    /// Returns the act whose content the entry of this key is about; none of a removal or an unknown object.
    #[must_use]
    pub fn act_of(&self, key: usize, entry: &Entry) -> Option<usize> {
        let name = entry.version_id.as_ref().or(entry.etag.as_ref()).filter(|_| !entry.is_delete)?;
        self.acts.get(&(key, name.clone())).copied()
    }

    /// Returns the first act with the same content and, where versions are kept, version.
    #[must_use]
    pub fn canonical(&self, plan: &Plan, act: usize) -> usize {
        let name = self.of_act[act].clone().unwrap_or_default();
        self.acts.get(&(plan.acts[act].key, name)).copied().unwrap_or(act)
    }
}

/// Returns the numbers of the plan's keys by name.
#[must_use]
pub fn key_numbers(plan: &Plan) -> HashMap<&str, usize> {
    plan.keys.iter().enumerate().map(|(number, key)| (key.name.as_str(), number)).collect()
}
