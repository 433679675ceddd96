//! Rows from the decoder into the staging table, which lets them be told apart.

use super::{
    Load, LoadError,
    copy::{self, MESSAGE_BYTES, flush, send, spoil},
    distinct::DistinctKeys,
    pipeline::{Decoded, Decoding},
    refused,
    rejects::{REJECTS_BYTES, check_rejects, write_rejects},
    run::RowOrder,
};
use decode::{Field, PayloadForm, Reject};
use sqlx::{PgConnection, postgres::PgCopyIn};

/// What was found out on the way.
#[derive(Default)]
pub struct Staged {
    /// Rows of the object.
    pub n_read: u64,
    /// Rows that are to be merged.
    pub n_staged: u64,
    /// Rows that were refused.
    pub n_rejected: u64,
    /// Rows that a trigger left out.
    pub n_filtered: u64,
    /// Row, class and column of the first that was refused.
    pub first_reject: Option<(u64, &'static str, Option<String>)>,
    /// Which of the mapping's columns any row had a field for.
    pub seen_columns: Vec<bool>,
    /// Fields no column took.
    pub new_fields: Vec<Field>,
    /// No key is staged twice, as far as is known.
    pub distinct: bool,
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
    first: Decoded,
    mut decoding: Decoding,
    mut keys: Keys<'_>,
) -> Result<Staged, LoadError> {
    let copy_sql = format!("COPY {staging} FROM STDIN (FORMAT binary)");
    let mut staged = Staged::default();
    let mut rejects = Rejects::default();
    let mut next = Some(first);
    while next.is_some() {
        let mut copying = connection.copy_in_raw(&copy_sql).await?;
        send(&mut copying, copy::HEADER).await?;
        match copy_runs(&mut copying, next.take(), &mut decoding, &mut staged, &mut rejects, &mut keys).await {
            Ok(left) => next = left,
            Err(error @ LoadError::Database(_)) => return Err(error),
            Err(error) => {
                spoil(copying).await?;
                return Err(error);
            }
        }
        send(&mut copying, copy::TRAILER).await?;
        match copying.finish().await {
            Ok(_) => {}
            Err(error) if refused::is_refusal(&error) => return Err(LoadError::Unstaged(error)),
            Err(error) => return Err(error.into()),
        }
        if staged.first_reject.is_none() {
            staged.first_reject = rejects.rows.first().map(|r| (r.row_number, r.class, r.column.clone()));
        }
        staged.n_rejected += rejects.rows.len() as u64;
        check_rejects(load, &staged, next.is_some())?;
        write_rejects(connection, load, form, &rejects.rows).await?;
        rejects = Rejects::default();
    }
    staged.distinct = keys.distinct.holds();
    Ok(staged)
}

#[derive(Default)]
struct Rejects {
    rows: Vec<Reject>,
    bytes: usize,
}

/// Sends runs until the object ends (none) or the rejects in memory want to be written down (what comes next).
async fn copy_runs(
    copy: &mut PgCopyIn<&mut PgConnection>,
    mut next: Option<Decoded>,
    decoding: &mut Decoding,
    staged: &mut Staged,
    rejects: &mut Rejects,
    keys: &mut Keys<'_>,
) -> Result<Option<Decoded>, LoadError> {
    let mut message = Vec::with_capacity(MESSAGE_BYTES);
    loop {
        let decoded = match next.take() {
            Some(decoded) => decoded,
            None => decoding.next().await,
        };
        match decoded {
            Decoded::Run(mut run) => {
                staged.n_read += run.batch.n_read;
                staged.n_staged += run.n_rows() as u64;
                rejects.bytes += run.batch.reject_bytes;
                rejects.rows.append(&mut run.batch.rejects);
                keys.distinct.add(&run, keys.order);
                for index in 0..run.n_ordered() {
                    message.extend_from_slice(run.row(index));
                    if message.len() >= MESSAGE_BYTES {
                        flush(copy, &mut message).await?;
                    }
                }
                flush(copy, &mut message).await?;
                decoding.recycle(run);
                if rejects.bytes > REJECTS_BYTES {
                    return Ok(Some(decoding.next().await));
                }
            }
            Decoded::End { seen_columns, new_fields } => {
                staged.seen_columns = seen_columns;
                staged.new_fields = new_fields;
                return Ok(None);
            }
            Decoded::Failed(error) => return Err(LoadError::Decode(error)),
            Decoded::Fields(..) => unreachable!("the decoder sends the fields once"),
        }
    }
}
