//! Rows directly into the target, in key order: for keys that are probably new.
//!
//! COPY knows no conflicts. When a key is there already, or Postgres refuses a row for another reason, the
//! whole transaction is rolled back and the object goes through staging, which can tell rows apart.
//! So the head is locked first here, before the rows: two importers of one object take turns, and the one that
//! finds the head locked for too long is held.

use super::{
    Load, LoadError, Loaded, Prepared, Session,
    catalog::{LINEAGE_LOADED_AT, LINEAGE_OBJECT, LINEAGE_ROW, Table},
    copied,
    copied::Copied,
    copy::Copying,
    fence::{fence, hold_unique_index},
    merge::make_room,
    pipeline::{Decoded, Decoding},
    refused::is_refusal,
    rejects::check_rejects,
    run::{Projection, Run, count_flags},
    sql::{self, LoadPlan, StagedColumn, quote},
    stage::Staged,
    technique::Used,
    transform::{Transform, is_cancelled},
};
use crate::{
    config::Mode,
    database::{Begin, End},
    ledger::Counts,
};
use decode::{DecodeError, EXTRAS_COLUMN, encode::PgType};
use sqlx::PgConnection;
use std::time::Duration;

/// Rows of the first run that are looked for in the table.
const PROBED_ROWS: usize = 256;
/// Bytes of a COPY, but for a run. Between two of them the server waits for milliseconds: for the end of one to be said,
/// for the next to begin, and for its first rows. Until one ends the server keeps an event for each row that a foreign
/// key or a trigger is to look at, some 30 bytes.
const COPY_BYTES: usize = 32 * 1024 * 1024;

/// Returns whether rows of this shape mean the same to COPY as they do to INSERT.
#[must_use]
pub fn suits(table: &Table, columns: &[StagedColumn]) -> bool {
    // COPY passes rules by; texts that the server casts have no binary form here; fields of an open format
    // that have no column yet are only staged.
    !table.has_rules
        && columns.iter().all(|c| c.target.column.pg_type != PgType::Cast && c.target.column.name != EXTRAS_COLUMN)
}

/// Returns whether some of the run's keys are in the table, or it has to be staged for another reason.
/// In a transaction of its own.
///
/// # Errors
/// Of the database.
pub async fn any_key_is_known(session: &mut Session, plan: &LoadPlan<'_>, run: &Run) -> Result<bool, LoadError> {
    session
        .transaction(Begin::Plainly, async |tx| {
            let n_rows = run.n_ordered();
            let step = n_rows.div_ceil(PROBED_ROWS).max(1);
            let mut copy = Copying::start(&mut *tx, &sql::copy_into(plan.staging)).await?;
            copy.add(run.rows().step_by(step), Vec::extend_from_slice).await?;
            match copy.finish().await {
                Ok(_) => {}
                // A row that staging does not take: it will say so.
                Err(error) if is_refusal(&error) => return Ok(End::RollBack(true)),
                Err(error) => return Err(error.into()),
            }
            // The staged rows go with the transaction; there is nothing to keep.
            Ok(End::RollBack(sqlx::query_scalar(&plan.any_key_is_known()).fetch_one(tx).await?))
        })
        .await
}

/// Returns the columns no row of the run has, which take their default when they are not named. None when some rows
/// have such a column and some do not: only a statement of its own can tell them apart. None when nothing is left.
#[must_use]
pub fn absent_columns(columns: &[StagedColumn], run: &Run) -> Option<Vec<usize>> {
    let flagged: Vec<usize> = (0..columns.len()).filter(|index| columns[*index].has_absent_flag).collect();
    let mut without = Vec::new();
    for (column, n_absent) in flagged.iter().zip(count_flags(run, flagged.len())) {
        match n_absent {
            0 => {}
            n if n == run.n_rows() => without.push(*column),
            _ => return None,
        }
    }
    (without.len() < columns.len()).then_some(without)
}

/// Returns COPY into the target, the columns `without` left out, the lineage columns included.
#[must_use]
pub fn copy_sql(table: &Table, columns: &[StagedColumn], without: &[usize]) -> String {
    let row = table.lineage_row.then_some(LINEAGE_ROW);
    let columns = columns.iter().enumerate().filter(|(index, _)| !without.contains(index));
    let names: Vec<String> = row
        .into_iter()
        .chain(columns.map(|(_, column)| column.target.column.name.as_str()))
        .chain(table.lineage_object.then_some(LINEAGE_OBJECT))
        .chain(table.lineage_loaded_at.then_some(LINEAGE_LOADED_AT))
        .map(quote)
        .collect();
    format!("COPY {} ({}) FROM STDIN (FORMAT binary)", table.qualified, names.join(", "))
}

/// Returns how staged tuples become those of [`copy_sql`].
#[must_use]
pub fn projection(table: &Table, columns: &[StagedColumn], without: Vec<usize>, constants: &[i64]) -> Projection {
    let n_flags = columns.iter().filter(|column| column.has_absent_flag).count();
    Projection::new(table.lineage_row, columns.len(), n_flags, without, constants)
}

/// Returns the lineage columns' values that are the same for every row of an object, in [`copy_sql`]'s order.
#[must_use]
pub fn constants(table: &Table, object_id: i64, loaded_at: Option<i64>) -> Vec<i64> {
    table.lineage_object.then_some(object_id).into_iter().chain(loaded_at).collect()
}

/// Returns the transaction's `now()` as Postgres keeps it, in microseconds since 2000.
///
/// # Errors
/// Of the database.
pub async fn loaded_at(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT ((extract(epoch FROM now()) - 946684800) * 1000000)::bigint").fetch_one(connection).await
}

/// How an attempt ended.
pub enum Attempt {
    /// In a committed or refused import.
    Done(Loaded),
    /// Postgres refused a row: the object has to go through staging. Nothing is left of the attempt.
    /// The run is there when it was the first, so that decoding can go on behind it.
    Refused(Option<Run>),
    /// Memory is to be waited for, which only staging may. Nothing is left of the attempt, and other objects may fare
    /// better.
    Busy,
}

/// Loads an object whose first run, if it has any rows, is `first`.
///
/// # Errors
/// [`LoadError`], as [`super::load`].
pub async fn load(
    session: &mut Session,
    load: &Load<'_>,
    prepared: &Prepared,
    first: Decoded,
    decoding: &mut Decoding,
) -> Result<Attempt, LoadError> {
    // Under the fence no import waits for memory that another has, who may wait for the fence or for a row.
    decoding.budget.never_wait();
    let copied = copied(load.target);
    let mut direct =
        Direct { load, prepared, copied, staged: Staged::default(), loaded_at: None, merged: 0, dropped: 0 };
    session.transaction(Begin::ConstraintsImmediate, async |tx| direct.write(tx, first, decoding).await).await
}

/// Runs on their way into the target.
struct Direct<'a> {
    load: &'a Load<'a>,
    prepared: &'a Prepared,
    /// What COPY judges.
    copied: Option<(&'a Transform, &'a Copied)>,
    /// What was found out on the way; nothing is staged.
    staged: Staged,
    /// The transaction's `now()` in microseconds since 2000, once it was asked for.
    loaded_at: Option<i64>,
    merged: u64,
    /// Rows that COPY left out.
    dropped: u64,
}

impl Direct<'_> {
    async fn write(
        &mut self,
        tx: &mut PgConnection,
        first: Decoded,
        decoding: &mut Decoding,
    ) -> Result<End<Attempt>, LoadError> {
        if let Some(refused) = fence(tx, self.load).await? {
            return Ok(End::RollBack(Attempt::Done(refused)));
        }
        hold_unique_index(tx, self.load.target).await?;
        make_room(tx, self.load).await?;
        if let Some(refused) = self.copy_all(tx, first, decoding).await? {
            return Ok(End::RollBack(refused));
        }
        self.limit_no_more(tx).await?;
        check_rejects(self.load, &self.staged, false)?;
        self.staged.write_rejects(tx, self.load, self.prepared.opened.form).await?;
        let counts = Counts {
            added: 0,
            read: self.staged.n_read,
            written: self.staged.n_staged - self.merged - self.dropped,
            merged: self.merged,
            filtered: self.staged.n_filtered + self.dropped,
            rejected: self.staged.n_rejected,
        };
        Ok(End::Commit(Attempt::Done(self.load.finish(tx, &self.prepared.opened, counts, Used::Direct).await?)))
    }

    /// Copies all runs, unless one has to be staged; then it returns what is to be done.
    async fn copy_all(
        &mut self,
        tx: &mut PgConnection,
        first: Decoded,
        decoding: &mut Decoding,
    ) -> Result<Option<Attempt>, LoadError> {
        let mut next = first;
        let mut is_first = true;
        loop {
            match next {
                // The first by itself: when it is refused, nothing needs to be read again.
                Decoded::Run(mut run) if is_first => {
                    is_first = false;
                    if !self.copy(tx, &mut run).await? {
                        // Staging settles duplicates itself, and may find that the winner is the row that was refused.
                        if let Some(order) = &self.prepared.order {
                            run.sort(order);
                        }
                        return Ok(Some(Attempt::Refused(Some(run))));
                    }
                    self.staged.take(&mut run);
                    decoding.recycle(run);
                    next = decoding.next().await;
                }
                Decoded::Run(run) => match self.copy_on(tx, run, decoding).await? {
                    Some(following) => next = following,
                    None => return Ok(Some(Attempt::Refused(None))),
                },
                Decoded::End { .. } => return Ok(None),
                Decoded::Failed(DecodeError::Busy(_)) => return Ok(Some(Attempt::Busy)),
                Decoded::Failed(error) => return Err(LoadError::Decode(error)),
                Decoded::Fields(..) => unreachable!("the decoder sends the fields once"),
            }
            check_rejects(self.load, &self.staged, true)?;
            if self.staged.has_many_rejects() {
                self.limit_no_more(tx).await?;
                self.staged.write_rejects(tx, self.load, self.prepared.opened.form).await?;
            }
        }
    }

    /// Copies a run; false when it has to be staged.
    async fn copy(&mut self, connection: &mut PgConnection, run: &mut Run) -> Result<bool, LoadError> {
        let Some(without) = self.absent_columns(run) else { return Ok(false) };
        if !self.settle(run) {
            return Ok(false);
        }
        if run.n_ordered() == 0 {
            return Ok(true);
        }
        let (sql, projection) = self.statement(connection, without).await?;
        let mut copying = Copying::start(connection, &sql).await?;
        copying.add(run.rows(), |out, tuple| projection.write(tuple, out)).await?;
        self.end(copying, run.n_ordered() as u64).await
    }

    /// Copies a run and those that follow, up to [`COPY_BYTES`], and returns what comes next; none when the object
    /// has to be staged.
    async fn copy_on(
        &mut self,
        connection: &mut PgConnection,
        mut run: Run,
        decoding: &mut Decoding,
    ) -> Result<Option<Decoded>, LoadError> {
        let Some(without) = self.absent_columns(&run) else { return Ok(None) };
        let (sql, projection) = self.statement(connection, without.clone()).await?;
        let mut copying = Copying::start(connection, &sql).await?;
        let (mut n_rows, mut n_bytes) = (0, 0);
        let next = loop {
            if !self.settle(&mut run) {
                copying.spoil().await?;
                return Ok(None);
            }
            copying.add(run.rows(), |out, tuple| projection.write(tuple, out)).await?;
            if n_rows == 0 {
                // The server has nothing to do yet, and the next run may still have to be sorted.
                copying.flush().await?;
            }
            n_rows += run.n_ordered() as u64;
            n_bytes += run.batch.data.len();
            self.staged.take(&mut run);
            decoding.recycle(run);
            let next = decoding.next().await;
            match next {
                Decoded::Run(following)
                    if n_bytes < COPY_BYTES
                        && !self.staged.has_many_rejects()
                        && self.absent_columns(&following).as_ref() == Some(&without) =>
                {
                    run = following;
                }
                next => break next,
            }
        };
        Ok(self.end(copying, n_rows).await?.then_some(next))
    }

    /// Ends a COPY of so many rows; false when the object has to be staged.
    async fn end(&mut self, copying: Copying<'_>, n_rows: u64) -> Result<bool, LoadError> {
        if self.copied.is_none() {
            return Ok(copying.all_taken(n_rows).await?);
        }
        // Whether it was the condition that took too long is for the transform to find out.
        let refuses = |error: &sqlx::Error| is_refusal(error) || is_cancelled(error);
        let Some(n_taken) = copying.taken(refuses).await? else { return Ok(false) };
        self.dropped += n_rows.saturating_sub(n_taken);
        Ok(true)
    }

    /// Takes back the time limit of a COPY that judges a condition: what follows is no part of it.
    async fn limit_no_more(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        match self.copied {
            Some((transform, _)) => transform.limit(connection, Duration::ZERO).await,
            None => Ok(()),
        }
    }

    /// Returns the columns that no row of a run has, as [`absent_columns`]; none, too, where the condition is about one.
    fn absent_columns(&self, run: &Run) -> Option<Vec<usize>> {
        let columns = &self.prepared.columns;
        let has_all = |without: &[usize]| self.copied.is_none_or(|(_, copied)| copied.has_all(columns, without));
        absent_columns(columns, run).filter(|without| has_all(without))
    }

    /// Settles which rows of a run are to be copied, and counts them; false when only the server can tell.
    fn settle(&mut self, run: &mut Run) -> bool {
        if let Some(order) = self.prepared.order.as_ref().filter(|_| self.load.target.config.mode == Mode::Upsert) {
            let Some(dropped) = run.settle_duplicates(order, |_, _| true) else { return false };
            // Of two rows with one key it may be the newer one that the condition drops.
            if self.copied.is_some() && !dropped.is_empty() {
                return false;
            }
            self.merged += dropped.len() as u64;
        }
        true
    }

    /// Returns COPY into the target without these columns, and how rows are written for it.
    async fn statement(
        &mut self,
        connection: &mut PgConnection,
        without: Vec<usize>,
    ) -> Result<(String, Projection), LoadError> {
        let constants = self.constants(connection).await?;
        let table = &self.load.target.table;
        let mut sql = copy_sql(table, &self.prepared.columns, &without);
        if let Some((transform, copied)) = self.copied {
            sql += &copied.clause();
            transform.limit_each(connection).await?;
        }
        Ok((sql, projection(table, &self.prepared.columns, without, &constants)))
    }

    /// Returns the values of the lineage columns that are the same for every row.
    async fn constants(&mut self, connection: &mut PgConnection) -> Result<Vec<i64>, LoadError> {
        let table = &self.load.target.table;
        if table.lineage_loaded_at && self.loaded_at.is_none() {
            self.loaded_at = Some(loaded_at(connection).await?);
        }
        Ok(constants(table, self.load.recorded.object_id, self.loaded_at))
    }
}
