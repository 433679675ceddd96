//! What a load would make of each row, found out on the real database and rolled back.

use super::{
    Invocation, LoadError, Session, Target, command,
    copy::Copying,
    liveness,
    mapping::{map, staged_columns},
    merge::write_staged,
    refused::{self, is_refusal, is_refused},
    remove,
    run::row_number,
    sql::{self, LoadPlan, Origin, Place},
    step::Step,
    unstaged,
};
use crate::{
    config::Mode,
    database::{Begin, End, Lasts, savepoint},
    object::ReadTarget,
};
use decode::{Batch, Column, EXTRAS_COLUMN, ReadOptions, Reject, RowReader, Source};
use serde_json::Value;
use sqlx::{Executor, PgConnection, postgres::PgDatabaseError};
use std::{collections::BTreeSet, sync::Arc};

/// Bytes that are decoded at once.
const BATCH_BYTES: usize = 64 * 1024;
/// Bytes of rows that a program is let answer with.
const ANSWERS_BYTES: usize = 64 * 1024 * 1024;

/// Rows to try.
pub struct Rehearsal<'a> {
    /// Where to.
    pub target: Arc<Target>,
    /// How they are read.
    pub read: ReadOptions,
    /// Captured path segments.
    pub captures: Vec<(String, Option<String>)>,
    /// The bytes.
    pub source: Arc<dyn Source>,
    /// Where they lie.
    pub place: Place<'a>,
    /// How many rows, from the first on.
    pub n_rows: u64,
}

/// What would become of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// These rows of the table, by column.
    Made(Vec<Value>),
    /// Nothing: what drops it.
    Filtered(&'static str),
    /// It is refused.
    Rejected {
        /// By what kind of error.
        class: String,
        /// In which column, where that is known.
        column: Option<String>,
        /// For people.
        message: String,
    },
    /// It would fail its object, for this reason.
    Fails(String),
}

/// Returns what would become of each row, by number. Each is written by itself, in one transaction that is rolled back.
///
/// # Errors
/// [`LoadError`], as a load would.
pub async fn rehearse(session: &mut Session, rehearsal: &Rehearsal<'_>) -> Result<Vec<(u64, Fate)>, LoadError> {
    let target = &rehearsal.target;
    let (decoding, captures) = (Arc::clone(target), rehearsal.captures.clone());
    let (read, source, n_rows) = (rehearsal.read.clone(), Arc::clone(&rehearsal.source), rehearsal.n_rows);
    let Place { bucket, key, .. } = rehearsal.place;
    let place = ReadTarget { bucket: bucket.to_owned(), key: key.to_owned(), version_id: None, etag: None };
    let invocation = Invocation::new(&target.config, &place);
    let decoded = tokio::task::spawn_blocking(move || {
        let reader = command::open(source, &read, invocation.as_ref(), Arc::default()).map_err(LoadError::Decode)?;
        Decoded::read(reader, &decoding, &captures, n_rows)
    });
    let Decoded { batch, n_known, columns, flags, seen } =
        liveness::elsewhere(decoded).await.map_err(|error| LoadError::Schema(format!("decode: {error}")))??;
    let mut columns = staged_columns(target, &columns, &flags)?;
    let staging = session.staging(&sql::staging_shape(&columns, &[])).await?;
    session.record_types(&columns).await?;
    let mut step = Step::prepare(session, target, &columns, &staging).await?;
    let nothing_seen = !seen.contains(&true);
    for (column, seen) in columns.iter_mut().zip(seen) {
        column.seen = (seen || nothing_seen) && column.target.column.name != EXTRAS_COLUMN;
    }
    if let (Some(step), Some(transform)) = (&mut step, &target.transform) {
        step.look_at(transform, &columns);
    }
    let input = LoadPlan::plain(target, &columns, &staging);
    let stage = Stage { rehearsal, input: &input, step: step.as_ref() };
    let mut fates: Vec<(u64, Fate)> = batch.rejects.into_iter().map(rejected).collect();
    let fated = session.transaction(Begin::ConstraintsImmediate, async |tx| {
        if target.config.mode == Mode::Replace {
            make_room(tx, target, &rehearsal.place).await?;
        }
        let mut fated = Vec::new();
        let starts = std::iter::once(0).chain(batch.ends.iter().copied());
        for (start, end) in starts.zip(&batch.ends) {
            let row = &batch.data[start..*end];
            if row_number(row) <= rehearsal.n_rows {
                fated.push((row_number(row), stage.fate(tx, row).await?));
            }
        }
        Ok::<_, LoadError>(End::RollBack(fated))
    });
    fates.extend(fated.await?);
    fates.retain(|(row, _)| *row <= rehearsal.n_rows);
    // One refused answer takes along the others of its row.
    let is_rejected = |fate: &Fate| matches!(fate, Fate::Rejected { .. });
    let rejected: BTreeSet<u64> = fates.iter().filter(|(_, fate)| is_rejected(fate)).map(|(row, _)| *row).collect();
    let mut unsaid = rejected.clone();
    fates.retain(|(row, fate)| !rejected.contains(row) || is_rejected(fate) && unsaid.remove(row));
    let answered: BTreeSet<u64> = fates.iter().map(|(row, _)| *row).collect();
    let by = if target.config.command.is_empty() { "where" } else { "command" };
    let filtered = (1..=n_known).filter(|row| !answered.contains(row));
    fates.extend(filtered.map(|row| (row, Fate::Filtered(by))));
    fates.sort_by_key(|(row, _)| *row);
    Ok(fates)
}

/// Takes away the rows that the object has in the table, as a load that replaces them would.
async fn make_room(tx: &mut PgConnection, target: &Target, place: &Place<'_>) -> sqlx::Result<()> {
    let has_ledger = "SELECT to_regclass('penstock.head') IS NOT NULL";
    if !sqlx::query_scalar(has_ledger).fetch_one(&mut *tx).await? {
        return Ok(());
    }
    let head = "SELECT id FROM penstock.head WHERE (dataset, bucket, key) = ($1, $2, $3)";
    let head = sqlx::query_scalar(head).bind(&target.config.name).bind(place.bucket).bind(place.key);
    if let Some(head_id) = head.fetch_optional(&mut *tx).await? {
        remove::delete_rows_of_key(tx, target, head_id).await?;
    }
    Ok(())
}

fn rejected(reject: Reject) -> (u64, Fate) {
    let Reject { row_number, class, column, message, .. } = reject;
    (row_number, Fate::Rejected { class: class.to_string(), column, message })
}

/// The first rows of an object.
struct Decoded {
    batch: Batch,
    /// Up to which row what is not there was left out: by a program, or for a condition.
    n_known: u64,
    columns: Vec<Column>,
    flags: Vec<usize>,
    seen: Vec<bool>,
}

impl Decoded {
    fn read(
        mut reader: Box<dyn RowReader>,
        target: &Target,
        captures: &[(String, Option<String>)],
        n_rows: u64,
    ) -> Result<Self, LoadError> {
        let mapping = Arc::new(map(target, captures, reader.fields())?);
        reader.set_mapping(Arc::clone(&mapping));
        let mut batch = Batch::default();
        // A program may answer in any order: what it says of the first rows is known when it has ended.
        let answers = !target.config.command.is_empty();
        let mut is_whole = false;
        while !is_whole && (batch.n_read < n_rows || answers && batch.size() < ANSWERS_BYTES) {
            let size = batch.size() + BATCH_BYTES;
            is_whole = !reader.fill(&mut batch, size).map_err(LoadError::Decode)?;
        }
        let n_known = if !answers || is_whole { batch.n_read.min(n_rows) } else { 0 };
        let (columns, flags) = (mapping.columns().to_vec(), mapping.absent_flags().to_vec());
        Ok(Self { batch, n_known, columns, flags, seen: reader.seen_columns() })
    }
}

/// Where rows are tried.
struct Stage<'a> {
    rehearsal: &'a Rehearsal<'a>,
    input: &'a LoadPlan<'a>,
    step: Option<&'a Step>,
}

impl Stage<'_> {
    /// Writes one row as a load would, and returns what became of it.
    async fn fate(&self, tx: &mut PgConnection, row: &[u8]) -> Result<Fate, LoadError> {
        for staging in self.step.iter().map(|step| step.staging.as_str()).chain([self.input.staging]) {
            tx.execute(format!("DELETE FROM {staging}").as_str()).await?;
        }
        let copied = savepoint(&mut *tx, Lasts::Work, is_refusal, async |tx| {
            let mut copying = Copying::start(tx, &sql::copy_into(self.input.staging)).await?;
            copying.add([row].into_iter(), Vec::extend_from_slice).await?;
            copying.finish().await
        });
        if let Err(error) = copied.await? {
            let why = unstaged::why(self.input.columns, &error);
            return Ok(Fate::Rejected { class: why.class.to_string(), column: why.column, message: why.message });
        }
        let target = &self.rehearsal.target;
        let (Some(step), Some(transform)) = (self.step, &target.transform) else {
            return self.write(tx, &LoadPlan { made_of: None, ..*self.input }).await;
        };
        let made = LoadPlan::plain(target, &step.columns, &step.staging);
        let origin = Origin::Object(&self.rehearsal.place);
        match transform.attempt(tx, self.input, &made, &origin).await? {
            Err(error) => refusal(tx, &error).await,
            Ok(0) => {
                // Into where it comes from, which takes a row without values.
                let joined = LoadPlan { columns: &[], staging: self.input.staging, made_of: None, ..made };
                let is_joined = match transform.join {
                    Some(_) => {
                        transform.unconditional().attempt(tx, self.input, &joined, &origin).await?.is_ok_and(|n| n > 0)
                    }
                    None => true,
                };
                Ok(Fate::Filtered(if is_joined { "where" } else { "join" }))
            }
            Ok(n) if n > 1 && !target.config.fan_out => Ok(Fate::Fails(LoadError::FanOut.to_string())),
            Ok(_) => self.write(tx, &made).await,
        }
    }

    async fn write(&self, tx: &mut PgConnection, plan: &LoadPlan<'_>) -> Result<Fate, LoadError> {
        let rows = format!("SELECT ({})::text FROM {} AS staged", plan.kept_row(), plan.staging);
        let rows: Vec<String> = sqlx::query_scalar(&rows).fetch_all(&mut *tx).await?;
        let written =
            savepoint(&mut *tx, Lasts::Work, is_refused, async |tx| write_staged(tx, plan, 0, rows.len() as u64).await);
        match written.await? {
            Ok(written) if written.n_left_out as usize >= rows.len() => Ok(Fate::Filtered("a trigger of the table")),
            Ok(_) => Ok(Fate::Made(rows.iter().map(|row| serde_json::from_str(row).unwrap_or_default()).collect())),
            Err(LoadError::Database(error)) => refusal(tx, &error).await,
            Err(error) => Err(error),
        }
    }
}

/// Returns what a reject would say of an error.
async fn refusal(tx: &mut PgConnection, error: &sqlx::Error) -> Result<Fate, LoadError> {
    let said = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    let word = format!(
        "SELECT {} FROM (SELECT $1::text AS code, $2::text AS in_constraint, $3::text AS in_table) said",
        refused::class()
    );
    let class = sqlx::query_scalar(&word)
        .bind(said.map_or("", PgDatabaseError::code))
        .bind(said.and_then(PgDatabaseError::constraint).unwrap_or_default())
        .bind(said.and_then(PgDatabaseError::table).unwrap_or_default())
        .fetch_one(tx)
        .await?;
    let column = said.and_then(PgDatabaseError::column).map(str::to_owned);
    Ok(Fate::Rejected { class, column, message: said.map_or("", PgDatabaseError::message).to_owned() })
}
