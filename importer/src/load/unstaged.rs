//! Rows that even the staging table refuses: characters the database's encoding lacks, texts that are longer in its
//! bytes than their column takes.
//!
//! Staging takes whatever was encoded for it, as a rule, so rows are not checked twice. Where Postgres refuses a COPY all the
//! same, the object is read again and its rows are copied in portions, which shrink down to the single rows that are in
//! the way. Then it is loaded from its start, and the decoder, which has a row as the object has it, makes rejects of them.

use super::{
    Load, LoadError, Session,
    copy::Copying,
    pipeline::Decoded,
    prepare,
    refused::is_refusal,
    rejects::check_rejects,
    run::{Run, row_number},
    sql::{self, StagedColumn},
    stage::Staged,
};
use decode::{RejectClass, Unstaged};
use sqlx::{PgConnection, postgres::PgDatabaseError};
use std::collections::BTreeMap;

/// Rows of a COPY where nothing is in the way: more are sent again in vain when one is, fewer cost round trips.
const PORTION: usize = 4096;
/// Rows that are kept in mind at most; more than this is not a property of single rows.
const MAX_FOUND: usize = 100_000;

/// Returns the rows of an object that the staging table refuses, by their numbers.
///
/// # Errors
/// [`LoadError::TooManyRejects`] and [`LoadError::TooManyRefused`] as soon as that is sure; whatever else stops a load.
pub async fn find(session: &mut Session, load: &Load<'_>) -> Result<BTreeMap<u64, Unstaged>, LoadError> {
    let Ok((mut decoding, prepared)) = prepare(session, load, BTreeMap::new()).await? else {
        return Ok(BTreeMap::new());
    };
    let (columns, staging) = (&prepared.columns, &prepared.staging);
    let mut search = Search { copy: sql::copy_into(staging), columns, portion: PORTION, found: BTreeMap::new() };
    let (mut n_read, mut n_rejected) = (0, 0);
    loop {
        match decoding.next().await {
            Decoded::Run(run) => {
                search.look(&mut session.connection, &run).await?;
                n_read += run.batch.n_read;
                n_rejected += run.batch.rejects.len() as u64;
                decoding.recycle(run);
            }
            Decoded::End { .. } => return Ok(search.found),
            Decoded::Failed(error) => return Err(LoadError::Decode(error)),
            Decoded::Fields(..) => unreachable!("the decoder sends the fields once"),
        }
        let n_found = search.found.len();
        if n_found > MAX_FOUND {
            let text = format!("the database cannot hold {n_found} rows and more, for their characters or lengths");
            return Err(LoadError::TooManyRefused { text, of_function: None });
        }
        let first_reject = search.found.first_key_value().map(|(row, why)| (*row, why.class, why.column.clone()));
        let so_far = Staged { n_read, n_rejected: n_rejected + n_found as u64, first_reject, ..Staged::default() };
        check_rejects(load, &so_far, true)?;
    }
}

struct Search<'a> {
    copy: String,
    columns: &'a [StagedColumn],
    /// Rows of the next COPY: half as many after one was refused, twice as many after one went through.
    portion: usize,
    found: BTreeMap<u64, Unstaged>,
}

impl Search<'_> {
    /// Looks through a run. Every COPY is a transaction of its own, at whose end the staging table empties itself.
    async fn look(&mut self, connection: &mut PgConnection, run: &Run) -> Result<(), LoadError> {
        let mut next = 0;
        while next < run.n_ordered() {
            let end = run.n_ordered().min(next + self.portion);
            let mut copy = Copying::start(&mut *connection, &self.copy).await?;
            copy.add(run.rows().take(end).skip(next), Vec::extend_from_slice).await?;
            match copy.finish().await {
                Ok(_) => {
                    next = end;
                    self.portion = PORTION.min(2 * self.portion);
                }
                Err(error) if is_refusal(&error) && end - next > 1 => self.portion = (end - next) / 2,
                Err(error) if is_refusal(&error) => {
                    self.found.insert(row_number(run.row(next)), why(self.columns, &error));
                    next = end;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Returns why a COPY of one row was refused, for its reject. Of COPY's columns the server names the one in the way in
/// its CONTEXT only, at the end of the line, whatever its language.
pub fn why(columns: &[StagedColumn], error: &sqlx::Error) -> Unstaged {
    let columns = columns.iter().map(|column| column.target.column.name.as_str());
    let said = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    let context = said.and_then(PgDatabaseError::r#where).unwrap_or_default();
    let named = columns.filter(|name| context.lines().any(|line| line.starts_with("COPY ") && ends_with(line, name)));
    let class = match said.map_or("", PgDatabaseError::code) {
        "22021" | "22P05" => RejectClass::Text,
        "22001" | "22026" => RejectClass::Length,
        code if code.starts_with("54") => RejectClass::Length,
        "22003" | "22008" => RejectClass::Range,
        _ => RejectClass::Type,
    };
    let message = said.map_or("the database does not take this row", PgDatabaseError::message);
    Unstaged { class, column: named.max_by_key(|name| name.len()).map(str::to_owned), message: message.to_owned() }
}

fn ends_with(line: &str, name: &str) -> bool {
    line.strip_suffix(name).is_some_and(|before| before.ends_with(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_named_by_the_end_of_its_line() {
        assert!(ends_with("COPY penstock_staging_0, line 3, column name", "name"));
        assert!(!ends_with("COPY penstock_staging_0, line 3, column surname", "name"));
    }
}
