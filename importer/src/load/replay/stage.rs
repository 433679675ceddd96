//! Rejects into staging: read from what was kept of them, or answered by the dataset's program once more.

use super::{Lane, PAGE, ReplayRejects};
use crate::{
    database::{Lasts, savepoint},
    ledger::rejects::{self, Refused},
    load::{
        Invocation, LoadError, command,
        copy::Copying,
        pipeline::{Decoded, Decoding, Shape},
        refused,
        run::row_number,
        sql, unstaged,
    },
    object::ReadTarget,
};
use decode::{Batch, KeptReader, KeptRows, Mapping, Refusal, Unstaged};
use sqlx::PgConnection;
use std::{collections::BTreeMap, sync::Arc};

/// Half of the memory for rows that a program answers with, in bytes.
const ANSWERS_BYTES: usize = 1024 * 1024;

/// How a lane's payloads become rows.
pub enum Way {
    /// They are rows.
    Read(Box<KeptRows>),
    /// They are what the program was given, or would have been: it is asked again.
    Asked {
        /// Of what it answers.
        mapping: Arc<Mapping>,
        /// Which of its columns any answer had a field for.
        seen: Vec<bool>,
    },
}

impl Way {
    /// Returns which of the mapping's columns any row had a field for.
    pub fn seen_columns(&self) -> &[bool] {
        match self {
            Self::Read(rows) => rows.seen_columns(),
            Self::Asked { seen, .. } => seen,
        }
    }
}

/// Rejects that are tried again. Those with one row number have one fate.
#[derive(Default)]
pub struct Tried {
    /// The id and the row number of each.
    rejects: Vec<(i64, i64)>,
    /// Why rows do not fit yet, by their number.
    refused: BTreeMap<i64, Refusal>,
}

impl Tried {
    /// Notes why a row does not fit.
    pub fn refuse(&mut self, row: i64, why: Refusal) {
        self.refused.entry(row).or_insert(why);
    }

    /// Returns which are resolved, by their ids, of how many that nothing was made of, where `made` are the numbers of the
    /// rows that were made; and which still do not fit.
    pub fn settled(self, made: &[i64]) -> (Vec<i64>, u64, Vec<Refused>) {
        let (mut resolved, mut refused) = (Vec::new(), Vec::new());
        let mut unmade: BTreeMap<i64, i64> = BTreeMap::new();
        for (id, row_number) in self.rejects {
            match self.refused.get(&row_number) {
                Some(why) => refused.push(Refused { id, row_number, why: why.clone() }),
                None => {
                    resolved.push(id);
                    *unmade.entry(row_number).or_default() += 1;
                }
            }
        }
        for row in made {
            unmade.entry(*row).and_modify(|n| *n -= 1);
        }
        let n_filtered = unmade.values().map(|n| u64::try_from(*n).unwrap_or(0)).sum();
        (resolved, n_filtered, refused)
    }
}

/// Copies the rows that can be decoded by now into staging.
pub async fn stage(
    connection: &mut PgConnection,
    replay: &ReplayRejects<'_>,
    lane: &mut Lane,
    cut: &mut Vec<u64>,
) -> Result<Tried, LoadError> {
    let object_id = replay.waiting.object_id;
    let mut tried = Tried::default();
    let mut after = (0, 0);
    loop {
        let page = rejects::page(connection, object_id, lane.form, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = (number(last.row_number), last.id);
        let mut kept = Vec::with_capacity(page.len());
        for reject in page {
            match reject.payload {
                Some(payload) => {
                    tried.rejects.push((reject.id, number(reject.row_number)));
                    kept.push((reject.row_number, payload, reject.archive_member));
                }
                None => cut.push(reject.row_number),
            }
        }
        if let Way::Read(rows) = &mut lane.way {
            let mut batch = Batch::default();
            for (row, payload, member) in kept {
                if let Err(why) = rows.push(row, &payload, member.as_deref(), &mut batch) {
                    tried.refuse(number(row), why);
                }
            }
            copy_batch(connection, lane, &batch, &mut tried).await?;
        } else if !kept.is_empty() {
            ask(connection, replay, lane, kept, &mut tried).await?;
        }
    }
    if !tried.refused.is_empty() {
        // What else was made of their rows.
        let refused: Vec<i64> = tried.refused.keys().copied().collect();
        let take_back = format!("DELETE FROM {} WHERE penstock_row = ANY ($1)", lane.staging);
        sqlx::query(&take_back).bind(refused).execute(connection).await?;
    }
    Ok(tried)
}

fn number(row: u64) -> i64 {
    i64::try_from(row).unwrap_or(i64::MAX)
}

/// Runs the program on these rows and copies its answers into staging.
async fn ask(
    connection: &mut PgConnection,
    replay: &ReplayRejects<'_>,
    lane: &mut Lane,
    kept: Vec<(u64, Vec<u8>, Option<String>)>,
    tried: &mut Tried,
) -> Result<(), LoadError> {
    let (waiting, target) = (replay.waiting, replay.target);
    let object = ReadTarget {
        bucket: waiting.bucket.clone(),
        key: waiting.key.clone(),
        version_id: waiting.version_id.clone(),
        etag: None,
    };
    let Some(invocation) = Invocation::new(&target.config, &object) else { return Ok(()) };
    let rows = KeptRows::new(lane.form, &waiting.key, &waiting.csv_fields, &target.read);
    let reader = Box::new(KeptReader::new(rows, kept));
    let mut decoding = Decoding::of(target.read.clone(), ANSWERS_BYTES, move |options, stopped| {
        command::open_rows(reader, options, &invocation, stopped)
    });
    loop {
        match decoding.next().await {
            Decoded::Fields(..) => {
                if let Way::Asked { mapping, .. } = &lane.way {
                    decoding.set_shape(Shape { mapping: Arc::clone(mapping), order: None });
                }
            }
            Decoded::Run(mut run) => {
                for reject in std::mem::take(&mut run.batch.rejects) {
                    tried.refuse(number(reject.row_number), reject.into());
                }
                copy_batch(connection, lane, &run.batch, tried).await?;
                decoding.recycle(run);
            }
            Decoded::End { seen_columns, .. } => {
                if let Way::Asked { seen, .. } = &mut lane.way {
                    seen.iter_mut().zip(seen_columns).for_each(|(seen, now)| *seen |= now);
                }
                return Ok(());
            }
            Decoded::Failed(error) => return Err(LoadError::Decode(error)),
        }
    }
}

/// Copies rows into staging, but for those the database cannot hold.
async fn copy_batch(
    connection: &mut PgConnection,
    lane: &Lane,
    batch: &Batch,
    tried: &mut Tried,
) -> Result<(), LoadError> {
    let copy_sql = sql::copy_into(&lane.staging);
    let starts = std::iter::once(0).chain(batch.ends.iter().copied());
    let rows: Vec<&[u8]> = starts.zip(&batch.ends).map(|(start, end)| &batch.data[start..*end]).collect();
    if rows.is_empty() || copy(connection, &copy_sql, &rows).await?.is_ok() {
        return Ok(());
    }
    // Which of them shows one by one.
    for row in rows {
        if let Err(error) = copy(connection, &copy_sql, &[row]).await? {
            let Unstaged { class, column, message } = unstaged::why(&lane.columns, &error);
            tried.refuse(number(row_number(row)), Refusal { class: class.to_string(), column, message });
        }
    }
    Ok(())
}

/// Copies rows into staging; the inner error is a refusal of one of them, and none is staged then.
async fn copy(connection: &mut PgConnection, copy_sql: &str, rows: &[&[u8]]) -> sqlx::Result<Result<(), sqlx::Error>> {
    savepoint(connection, Lasts::Work, refused::is_refusal, async |connection| {
        let mut copying = Copying::start(connection, copy_sql).await?;
        copying.add(rows.iter().copied(), Vec::extend_from_slice).await?;
        copying.finish().await.map(|_| ())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_of_one_row_have_one_fate_and_what_became_of_them_adds_up() {
        let mut tried = Tried { rejects: vec![(10, 1), (11, 2), (12, 2), (13, 3), (14, 4)], ..Tried::default() };
        let why = |message: &str| Refusal { class: "type".into(), column: None, message: message.into() };
        tried.refuse(2, why("first"));
        tried.refuse(2, why("second"));
        let (resolved, n_filtered, refused) = tried.settled(&[1, 1, 4]);
        assert_eq!((resolved, n_filtered), (vec![10, 13, 14], 1));
        let ids: Vec<_> = refused.iter().map(|refused| (refused.id, refused.why.message.as_str())).collect();
        assert_eq!(ids, [(11, "first"), (12, "first")]);
    }
}
