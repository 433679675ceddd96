//! Rows from the decoder into the staging table, which lets them be told apart.

use super::{
    Load, LoadError,
    copy::Copying,
    distinct::DistinctKeys,
    pipeline::{Decoded, Decoding},
    refused,
    rejects::{REJECTS_BYTES, check_rejects},
    run::{RowOrder, Run},
    sql::copy_into,
};
use crate::ledger;
use decode::{Field, PayloadForm, Reject, RejectClass};
use sqlx::PgConnection;

/// What was found out on the way.
#[derive(Default)]
pub struct Staged {
    /// Rows of the object.
    pub n_read: u64,
    /// Rows that are to be merged.
    pub n_staged: u64,
    /// Rows that were refused.
    pub n_rejected: u64,
    /// Rows that a command or a transform dropped or a trigger left out.
    pub n_filtered: u64,
    /// Rows that a command or a transform made beyond the first of one.
    pub n_added: u64,
    /// Row, class and column of the first that was refused.
    pub first_reject: Option<(u64, RejectClass, Option<String>)>,
    /// Which of the mapping's columns any row had a field for.
    pub seen_columns: Vec<bool>,
    /// Fields no column took.
    pub new_fields: Vec<Field>,
    /// No key is staged twice, as far as is known.
    pub distinct: bool,
    /// Rejects that are not written down yet.
    pub(super) rejects: Vec<Reject>,
    pub(super) reject_bytes: usize,
}

impl Staged {
    /// Counts the rows of a run and takes its rejects.
    pub fn take(&mut self, run: &mut Run) {
        let batch = &mut run.batch;
        self.n_read += batch.n_read;
        self.n_filtered += batch.n_filtered;
        self.n_added += batch.n_added;
        self.n_staged += batch.ends.len() as u64;
        self.n_rejected += batch.rejects.len() as u64;
        if self.first_reject.is_none() {
            self.first_reject = batch.rejects.first().map(|r| (r.row_number, r.class, r.column.clone()));
        }
        self.reject_bytes += batch.reject_bytes;
        self.rejects.append(&mut batch.rejects);
    }

    /// Returns whether the rejects in memory want to be written down.
    #[must_use]
    pub fn has_many_rejects(&self) -> bool {
        self.reject_bytes > REJECTS_BYTES
    }

    /// Writes the rejects in memory down.
    ///
    /// # Errors
    /// Of the database.
    pub async fn write_rejects(
        &mut self,
        connection: &mut PgConnection,
        load: &Load<'_>,
        form: PayloadForm,
    ) -> sqlx::Result<()> {
        self.reject_bytes = 0;
        let mut rejects = std::mem::take(&mut self.rejects);
        let table = &load.target.table;
        for reject in rejects.iter_mut().filter(|_| !table.takes_any_text) {
            reject.message = table.storable(&reject.message);
            reject.column = reject.column.as_deref().map(|name| table.storable(name));
        }
        ledger::rejects::insert(connection, load.recorded.object_id, form, &rejects).await
    }
}

/// What is found out of the keys while they are staged.
pub struct Keys<'a> {
    /// How rows are sorted, where they are.
    pub order: Option<&'a RowOrder>,
    /// Tells whether a key came twice.
    pub distinct: DistinctKeys,
}

/// Drains the decoder into the staging table; rejects go to the ledger on the way.
///
/// # Errors
/// [`LoadError`]: of the object, of its rejects, [`LoadError::Unstaged`], or of the database.
pub async fn stage(
    connection: &mut PgConnection,
    staging: &str,
    load: &Load<'_>,
    form: PayloadForm,
    mut decoding: Decoding,
    mut keys: Keys<'_>,
) -> Result<Staged, LoadError> {
    let copy_sql = copy_into(staging);
    let mut staged = Staged::default();
    let mut may_be_more = true;
    while may_be_more {
        let mut copying = Copying::start(&mut *connection, &copy_sql).await?;
        may_be_more = match copy_runs(&mut copying, &mut decoding, &mut staged, &mut keys).await {
            Ok(may_be_more) => may_be_more,
            Err(error @ LoadError::Database(_)) => return Err(error),
            Err(error) => {
                copying.spoil().await?;
                return Err(error);
            }
        };
        match copying.finish().await {
            Ok(_) => {}
            Err(error) if refused::is_refusal(&error) => return Err(LoadError::Unstaged(error)),
            Err(error) => return Err(error.into()),
        }
        check_rejects(load, &staged, may_be_more)?;
        staged.write_rejects(connection, load, form).await?;
    }
    staged.distinct = keys.distinct.holds();
    Ok(staged)
}

/// Sends runs until the object ends (false) or the rejects in memory want to be written down (true).
async fn copy_runs(
    copying: &mut Copying<'_>,
    decoding: &mut Decoding,
    staged: &mut Staged,
    keys: &mut Keys<'_>,
) -> Result<bool, LoadError> {
    loop {
        match decoding.next().await {
            Decoded::Run(mut run) => {
                staged.take(&mut run);
                keys.distinct.add(&run, keys.order);
                copying.add(run.rows(), Vec::extend_from_slice).await?;
                copying.flush().await?;
                decoding.recycle(run);
                if staged.has_many_rejects() {
                    return Ok(true);
                }
            }
            Decoded::End { seen_columns, new_fields } => {
                staged.seen_columns = seen_columns;
                staged.new_fields = new_fields;
                return Ok(false);
            }
            Decoded::Failed(error) => return Err(LoadError::Decode(error)),
            Decoded::Fields(..) => unreachable!("the decoder sends the fields once"),
        }
    }
}
