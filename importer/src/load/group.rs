//! Many small objects in one transaction, each with a fate of its own.
//!
//! A transaction costs the same whatever it carries, and for an object of some hundred rows that is nearly all it
//! costs. So objects that were never seen are decoded one behind the other, sorted together, and copied straight
//! into the target under the locks of all their heads. Whatever is out of the ordinary (a reject, a key twice, a
//! row that Postgres refuses, another shape) sends its object, or the whole group, back to be loaded alone.

use super::{
    LoadError, Session, Target, copy_rows, direct, hold_unique_index, liveness, map,
    run::{RowOrder, Run},
    sql::{self, LoadPlan, StagedColumn},
    staged_columns,
    technique::{Recent, Way},
};
use crate::{
    config::Mode,
    ledger::{
        Candidate, Counts, Recorded, Verdict, judge,
        many::{Finished, finish_many, lock_heads},
    },
};
use decode::{Batch, Column, DecodeError, EXTRAS_COLUMN, OnNewField, Source};
use sqlx::Executor;
use std::{ops::Range, sync::Arc, time::Instant};

/// How the ledger calls it.
pub const GROUPED: &str = "grouped";

/// One object of a group.
pub struct Member<'a> {
    /// The bytes.
    pub source: Arc<dyn Source>,
    /// Captured path segments.
    pub captures: Vec<(String, Option<String>)>,
    /// Which version they are.
    pub candidate: &'a Candidate,
    /// The ledger's rows for it; it was never imported.
    pub recorded: Recorded,
}

/// Objects of one dataset, each of another key.
pub struct Group<'a> {
    /// Where to.
    pub target: Arc<Target>,
    /// The objects.
    pub members: Vec<Member<'a>>,
    /// Memory for their rows, in bytes; an object that would go beyond it is left out.
    pub run_bytes: usize,
    /// What happened last in the dataset.
    pub recent: &'a Recent,
    /// When work on them began.
    pub started: Instant,
}

/// Loads what can be loaded together, in one transaction. None for an object that has to be loaded alone.
///
/// # Errors
/// [`LoadError::Database`]; the session must be dropped then, and nothing is committed unless it came out of COMMIT.
pub async fn load_group(session: &mut Session, group: &Group<'_>) -> Result<Vec<Option<Counts>>, LoadError> {
    let alone = || Ok(vec![None; group.members.len()]);
    let target = &group.target;
    let objects: Vec<_> =
        group.members.iter().map(|member| (Arc::clone(&member.source), member.captures.clone())).collect();
    let (decoding_target, run_bytes) = (Arc::clone(target), group.run_bytes);
    let reading = tokio::task::spawn_blocking(move || Decoded::read(&decoding_target, &objects, run_bytes));
    // The store's time, not the server's.
    let decoded = liveness::elsewhere(reading).await;
    let Ok(Decoded { mut run, shape: Some(shape), rows }) = decoded else {
        return alone();
    };
    if !direct::suits(&target.table, &shape.columns) {
        return alone();
    }
    let staging = session.staging(&sql::staging_shape(&shape.columns)).await?;
    let connection = &mut session.connection;
    let Some(without) = direct::absent_columns(&shape.columns, &run) else { return alone() };
    let member_of = |place: usize| rows.partition_point(|rows| rows.end <= place);
    let mut merged = vec![0u64; rows.len()];
    if let Some(order) = &shape.order {
        run.sort(order);
        if target.mode == Mode::Upsert {
            let together = |a: usize, b: usize| member_of(a) == member_of(b);
            let Some(dropped) = run.settle_duplicates(order, together) else { return alone() };
            for place in dropped {
                merged[member_of(place)] += 1;
            }
        }
    }
    match group.recent.choose(target.technique, false, target.mode == Mode::Upsert) {
        Way::Staged => return alone(),
        Way::Direct => {}
        Way::Probe => {
            let plan = LoadPlan {
                table: &target.table,
                columns: &shape.columns,
                staging: &staging,
                key: &target.key,
                newer: target.newer.as_deref(),
                meets: sql::Meets::Plainly,
                n_distinct: None,
            };
            if direct::any_key_is_known(connection, &plan, &run).await? {
                group.recent.keys_were_known();
                return alone();
            }
        }
    }

    connection.execute("BEGIN; SET CONSTRAINTS ALL IMMEDIATE").await?;
    let heads: Vec<(Recorded, &Candidate)> =
        group.members.iter().map(|member| (member.recorded, member.candidate)).collect();
    let fenced = lock_heads(connection, &heads).await?;
    match hold_unique_index(connection, target).await {
        Ok(()) => {}
        Err(LoadError::Database(error)) => return Err(error.into()),
        // Each says so for itself.
        Err(_) => {
            connection.execute("ROLLBACK").await?;
            return alone();
        }
    }
    let writes: Vec<bool> = group
        .members
        .iter()
        .zip(fenced)
        .zip(&rows)
        .map(|((member, fenced), rows)| {
            // Where another version stands by now its rows may have to make room: that is for a load of its own.
            let fresh = |fenced: crate::ledger::Fenced| {
                !fenced.ever_imported && fenced.standing.is_none() && judge(None, member.candidate) == Verdict::Write
            };
            !rows.is_empty() && fenced.is_some_and(fresh)
        })
        .collect();
    let loaded_at = match target.table.lineage_loaded_at {
        true => Some(direct::loaded_at(connection).await?),
        false => None,
    };
    let copy_sql = direct::copy_sql(&target.table, &shape.columns, &without);
    let projections: Vec<_> = group
        .members
        .iter()
        .map(|member| {
            let constants = direct::constants(&target.table, member.recorded.object_id, loaded_at);
            direct::projection(&target.table, &shape.columns, without.clone(), &constants)
        })
        .collect();
    let mut copy = connection.copy_in_raw(&copy_sql).await?;
    let places = (0..run.n_ordered()).map(|index| (member_of(run.place(index)), run.row(index)));
    let mut members = places.clone().map(|(member, _)| member).filter(|member| writes[*member]);
    let tuples = places.filter(|(member, _)| writes[*member]).map(|(_, tuple)| tuple);
    copy_rows(&mut copy, tuples, |tuple, out| {
        if let Some(member) = members.next() {
            projections[member].write(tuple, out);
        }
    })
    .await?;
    let n_sent: usize =
        rows.iter().zip(&merged).zip(&writes).filter(|(_, w)| **w).map(|((r, m), _)| r.len() - *m as usize).sum();
    match copy.finish().await {
        Ok(n_taken) if n_taken == n_sent as u64 => {}
        // A trigger left rows out; whose they were only a load alone can tell.
        Ok(_) => {
            connection.execute("ROLLBACK").await?;
            group.recent.was_refused();
            return alone();
        }
        Err(error) if super::refused::is_refusal(&error) => {
            connection.execute("ROLLBACK").await?;
            group.recent.was_refused();
            return alone();
        }
        Err(error) => return Err(error.into()),
    }
    let counts: Vec<Option<Counts>> = rows
        .iter()
        .zip(&merged)
        .zip(&writes)
        .map(|((rows, merged), writes)| {
            let read = rows.len() as u64;
            writes.then(|| Counts { read, written: read - merged, merged: *merged, ..Counts::default() })
        })
        .collect();
    let finished: Vec<Finished<'_>> = group
        .members
        .iter()
        .zip(&counts)
        .filter_map(|(member, counts)| {
            let (recorded, candidate, bytes) = (member.recorded, member.candidate, member.source.size());
            counts.map(|counts| Finished { recorded, candidate, counts, bytes })
        })
        .collect();
    // The transaction's time is that of all its objects together.
    let seconds_each = group.started.elapsed().as_secs_f64() / finished.len().max(1) as f64;
    finish_many(connection, &finished, GROUPED, seconds_each).await?;
    connection.execute("COMMIT").await?;
    group.recent.went_straight();
    Ok(counts)
}

/// What all objects of a group have in common.
struct Shape {
    columns: Vec<StagedColumn>,
    order: Option<RowOrder>,
}

/// An object's bytes and its captured path segments.
type Object = (Arc<dyn Source>, Vec<(String, Option<String>)>);

/// A group's rows.
struct Decoded {
    run: Run,
    /// None when no object could be read.
    shape: Option<Shape>,
    /// Each object's rows in the run, in decoding order; empty where it has to be loaded alone.
    rows: Vec<Range<usize>>,
}

impl Decoded {
    fn read(target: &Target, objects: &[Object], run_bytes: usize) -> Self {
        let mut batch = Batch::default();
        let mut first: Option<(Vec<Column>, Vec<usize>)> = None;
        let mut rows = Vec::with_capacity(objects.len());
        for (source, captures) in objects {
            let (n_bytes, n_rows) = (batch.data.len(), batch.ends.len());
            let read = || read_one(target, Arc::clone(source), captures, &mut batch, &mut first, run_bytes);
            // Decoders are libraries fed by strangers.
            let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
            if !matches!(read, Ok(Ok(true))) || !batch.rejects.is_empty() {
                batch.data.truncate(n_bytes);
                batch.ends.truncate(n_rows);
                batch.long_rows.retain(|(row, _)| *row < n_rows);
                batch.rejects.clear();
                batch.reject_bytes = 0;
            }
            rows.push(n_rows..batch.ends.len());
        }
        let shape = first.and_then(|(columns, flags)| {
            let order = RowOrder::new(&columns, &target.key, target.newer.as_deref());
            let columns = staged_columns(target, &columns, &flags).ok()?;
            Some(Shape { columns, order })
        });
        let mut run = Run::default();
        run.batch = batch;
        Self { run, shape, rows }
    }
}

/// Appends an object's rows; false when it is not like the others, or too large.
fn read_one(
    target: &Target,
    source: Arc<dyn Source>,
    captures: &[(String, Option<String>)],
    batch: &mut Batch,
    first: &mut Option<(Vec<Column>, Vec<usize>)>,
    run_bytes: usize,
) -> Result<bool, DecodeError> {
    let mut read = target.read.clone();
    // One that is large is better loaded alone.
    read.limits.budget = read.limits.budget.afresh();
    read.limits.budget.never_wait();
    let mut reader = decode::open(source, &read)?;
    let Ok(mapping) = map(target, captures, reader.fields()) else { return Ok(false) };
    let new_fields = target.on_new_field == OnNewField::AddColumn;
    let is_extra = |column: &Column| column.name == EXTRAS_COLUMN;
    if new_fields || mapping.columns().iter().any(is_extra) {
        return Ok(false);
    }
    let shape = (mapping.columns().to_vec(), mapping.absent_flags().to_vec());
    match first {
        Some(first) if *first != shape => return Ok(false),
        Some(_) => {}
        None => *first = Some(shape),
    }
    reader.set_mapping(Arc::new(mapping));
    while batch.size() < run_bytes {
        if !reader.fill(batch, run_bytes)? {
            return Ok(true);
        }
    }
    Ok(false)
}
