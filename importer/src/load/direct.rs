//! Rows straight into the target, in key order: for keys that are probably new.
//!
//! COPY knows no conflicts. When a key is there already, or Postgres refuses a row for another reason, the
//! whole transaction is rolled back and the object goes through staging, which can tell rows apart.
//! So the head is locked first here, before the rows: two importers of one object take turns, and the one that
//! finds the head locked for too long is held.

use super::{
    Load, LoadError, Loaded, REJECTS_BYTES, Staged, check_rejects, copy_rows, fence, make_room,
    pipeline::{Decoded, Decoding},
    refused::is_refusal,
    run::{Projection, RowOrder, Run, count_flags},
    sql::{LoadPlan, StagedColumn, quote},
};
use crate::{
    config::Mode,
    decode::EXTRAS_COLUMN,
    encode::PgType,
    ledger::{self, Counts, Imported},
};
use sqlx::{Executor, PgConnection};

/// Rows of the first run that are looked for in the table.
const PROBED_ROWS: usize = 256;

/// Returns whether rows of this shape mean the same to COPY as they do to INSERT.
#[must_use]
pub fn suits(load: &Load<'_>, columns: &[StagedColumn]) -> bool {
    let table = &load.target.table;
    // COPY passes rules by; texts that the server casts have no binary form here; fields of an open format
    // that have no column yet are only staged.
    !table.has_rules
        && columns.iter().all(|c| c.target.column.pg_type != PgType::Cast && c.target.column.name != EXTRAS_COLUMN)
}

/// Returns whether some of the run's keys are in the table. Ends its own transaction.
///
/// # Errors
/// Of the database.
pub async fn any_key_is_known(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    run: &Run,
) -> Result<bool, LoadError> {
    let n_rows = run.n_ordered();
    let step = n_rows.div_ceil(PROBED_ROWS).max(1);
    connection.execute("BEGIN").await?;
    let mut copy = connection.copy_in_raw(&plan.copy()).await?;
    copy_rows(&mut copy, (0..n_rows).step_by(step).map(|index| run.row(index)), |tuple, out| {
        out.extend_from_slice(tuple);
    })
    .await?;
    copy.finish().await?;
    let known = sqlx::query_scalar(&plan.any_key_is_known()).fetch_one(&mut *connection).await?;
    // The staged rows go with the transaction.
    connection.execute("COMMIT").await?;
    Ok(known)
}

/// How an attempt ended.
pub enum Attempt {
    /// In a committed or refused import.
    Done(Loaded),
    /// Postgres refused a row: the object has to go through staging. Nothing is left of the attempt.
    /// The run is there when it was the first, so that decoding can go on behind it.
    Refused(Option<Run>),
}

/// Loads an object whose first run, if it has any rows, is `first`.
///
/// # Errors
/// [`LoadError`], as [`super::load`]; after [`LoadError::Database`] the session must be dropped.
pub async fn load(
    connection: &mut PgConnection,
    load: &Load<'_>,
    columns: &[StagedColumn],
    order: Option<&RowOrder>,
    first: Decoded,
    decoding: &mut Decoding,
) -> Result<Attempt, LoadError> {
    connection.execute("BEGIN; SET CONSTRAINTS ALL IMMEDIATE").await?;
    if let Some(refused) = fence(connection, load).await? {
        connection.execute("ROLLBACK").await?;
        return Ok(Attempt::Done(refused));
    }
    make_room(connection, load).await?;
    let mut straight =
        Straight { load, columns, order, loaded_at: None, merged: 0, rejects: Vec::new(), reject_bytes: 0 };
    let mut staged = Staged::default();
    let mut next = first;
    let mut n_runs = 0;
    loop {
        match next {
            Decoded::Run(mut run) => {
                n_runs += 1;
                match straight.copy(connection, &mut run, &mut staged).await {
                    Ok(true) => {}
                    Ok(false) => {
                        connection.execute("ROLLBACK").await?;
                        // Staging settles duplicates itself, and may find that the winner is the row that was refused.
                        if let Some(order) = order {
                            run.sort(order);
                        }
                        let kept = (n_runs == 1).then_some(run);
                        return Ok(Attempt::Refused(kept));
                    }
                    Err(error) => return Err(error),
                }
                if let Err(error) = straight.keep_rejects(connection, &mut run, &mut staged).await {
                    return rolled_back(connection, error).await;
                }
                decoding.recycle(run);
            }
            Decoded::End { .. } => break,
            Decoded::Failed(error) => return rolled_back(connection, LoadError::Decode(error)).await,
            Decoded::Fields(_) => unreachable!("the decoder sends the fields once"),
        }
        next = decoding.next().await;
    }
    if let Err(error) = check_rejects(load, &staged, false) {
        return rolled_back(connection, error).await;
    }
    ledger::insert_rejects(connection, load.recorded.object_id, &straight.rejects).await?;
    let counts = Counts {
        read: staged.n_read,
        written: staged.n_staged - straight.merged,
        merged: straight.merged,
        filtered: 0,
        rejected: staged.n_rejected,
    };
    ledger::finish_imported(
        connection,
        &Imported {
            recorded: load.recorded,
            identity: &load.candidate.identity,
            stamp: &load.candidate.stamp,
            counts,
            bytes: load.source.size(),
            technique: "direct",
            duration_seconds: load.started.elapsed().as_secs_f64(),
        },
    )
    .await?;
    connection.execute("COMMIT").await?;
    Ok(Attempt::Done(Loaded::Imported(counts, "direct")))
}

async fn rolled_back(connection: &mut PgConnection, error: LoadError) -> Result<Attempt, LoadError> {
    if !matches!(error, LoadError::Database(_)) {
        connection.execute("ROLLBACK").await?;
    }
    Err(error)
}

/// Runs on their way into the target.
struct Straight<'a> {
    load: &'a Load<'a>,
    columns: &'a [StagedColumn],
    order: Option<&'a RowOrder>,
    /// The transaction's `now()` in microseconds since 2000, once it was asked for.
    loaded_at: Option<i64>,
    merged: u64,
    rejects: Vec<crate::decode::Reject>,
    reject_bytes: usize,
}

impl Straight<'_> {
    /// Copies a run; false when it has to be staged.
    async fn copy(
        &mut self,
        connection: &mut PgConnection,
        run: &mut Run,
        staged: &mut Staged,
    ) -> Result<bool, LoadError> {
        let n_flags = self.columns.iter().filter(|c| c.has_absent_flag).count();
        let mut without = Vec::new();
        for (flag, n_absent) in count_flags(run, n_flags).into_iter().enumerate() {
            let column = self.columns.iter().enumerate().filter(|(_, c)| c.has_absent_flag).nth(flag);
            match column {
                // Rows that take the default beside rows that do not: only a statement of its own can do that.
                _ if n_absent > 0 && n_absent < run.n_rows() => return Ok(false),
                Some((column, _)) if n_absent > 0 => without.push(column),
                _ => {}
            }
        }
        if without.len() == self.columns.len() {
            return Ok(false);
        }
        let n_rows = run.n_rows() as u64;
        let dropped = match self.order.filter(|_| self.load.target.mode == Mode::Upsert) {
            Some(order) => match run.settle_duplicates(order) {
                Some(dropped) => dropped,
                None => return Ok(false),
            },
            None => 0,
        };
        let constants = self.constants(connection).await?;
        let lineage_row = self.load.target.table.lineage_row;
        let copy_sql = self.copy_sql(&without);
        let projection = Projection::new(lineage_row, self.columns.len(), n_flags, without, &constants);
        if run.n_ordered() > 0 {
            let mut copy = connection.copy_in_raw(&copy_sql).await?;
            let rows = (0..run.n_ordered()).map(|index| run.row(index));
            copy_rows(&mut copy, rows, |tuple, out| projection.write(tuple, out)).await?;
            match copy.finish().await {
                Ok(_) => {}
                Err(error) if is_refusal(&error) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        self.merged += dropped;
        staged.n_read += run.batch.n_read;
        staged.n_staged += n_rows;
        Ok(true)
    }

    fn copy_sql(&self, without: &[usize]) -> String {
        let table = &self.load.target.table;
        let row = table.lineage_row.then_some(super::catalog::LINEAGE_ROW);
        let columns = self.columns.iter().enumerate().filter(|(index, _)| !without.contains(index));
        let object = table.lineage_object.then_some(super::catalog::LINEAGE_OBJECT);
        let loaded_at = table.lineage_loaded_at.then_some(super::catalog::LINEAGE_LOADED_AT);
        let names: Vec<String> = row
            .into_iter()
            .chain(columns.map(|(_, column)| column.target.column.name.as_str()))
            .chain(object)
            .chain(loaded_at)
            .map(quote)
            .collect();
        format!("COPY {} ({}) FROM STDIN (FORMAT binary)", table.qualified, names.join(", "))
    }

    /// Returns the values of the lineage columns that are the same for every row.
    async fn constants(&mut self, connection: &mut PgConnection) -> Result<Vec<i64>, LoadError> {
        let table = &self.load.target.table;
        let mut constants = Vec::new();
        if table.lineage_object {
            constants.push(self.load.recorded.object_id);
        }
        if table.lineage_loaded_at {
            let loaded_at = match self.loaded_at {
                Some(loaded_at) => loaded_at,
                None => {
                    sqlx::query_scalar("SELECT ((extract(epoch FROM now()) - 946684800) * 1000000)::bigint")
                        .fetch_one(connection)
                        .await?
                }
            };
            self.loaded_at = Some(loaded_at);
            constants.push(loaded_at);
        }
        Ok(constants)
    }

    /// Takes over a run's rejects; writes them down when they are many.
    async fn keep_rejects(
        &mut self,
        connection: &mut PgConnection,
        run: &mut Run,
        staged: &mut Staged,
    ) -> Result<(), LoadError> {
        staged.n_rejected += run.batch.rejects.len() as u64;
        if staged.first_reject.is_none() {
            staged.first_reject = run.batch.rejects.first().map(|r| (r.row_number, r.class, r.column.clone()));
        }
        self.reject_bytes += run.batch.reject_bytes;
        self.rejects.append(&mut run.batch.rejects);
        check_rejects(self.load, staged, true)?;
        if self.reject_bytes > REJECTS_BYTES {
            ledger::insert_rejects(connection, self.load.recorded.object_id, &self.rejects).await?;
            self.rejects.clear();
            self.reject_bytes = 0;
        }
        Ok(())
    }
}
