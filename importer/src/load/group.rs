//! Many small objects in one transaction, each with a fate of its own.
//!
//! A transaction costs the same whatever it carries, and for an object of some hundred rows that is nearly all it
//! costs. So objects that were never seen are decoded one behind the other, sorted together, and copied directly
//! into the target under the locks of all their heads. Whatever is out of the ordinary (a reject, a key twice, a
//! row that Postgres refuses, another shape) sends its object, or the whole group, back to be loaded alone.

use super::{
    LoadError, Session, Target,
    copy::Copying,
    direct,
    fence::hold_unique_index,
    liveness,
    mapping::{map, staged_columns},
    run::{RowOrder, Run},
    sql::{self, LoadPlan, StagedColumn},
    technique::{Recent, Used, Way},
};
use crate::{
    config::Mode,
    database::{Begin, End},
    ledger::{
        Candidate, Counts, Fenced, Recorded, Verdict, judge,
        many::{Finished, finish_many, lock_heads},
    },
};
use decode::{Batch, Column, DecodeError, EXTRAS_COLUMN, OnNewField, Source};
use sqlx::PgConnection;
use std::{ops::Range, sync::Arc, time::Instant};

/// One object of a group.
pub struct Member {
    /// The bytes.
    pub source: Arc<dyn Source>,
    /// Captured path segments.
    pub captures: Vec<(String, Option<String>)>,
    /// Which version they are.
    pub candidate: Candidate,
    /// The ledger's rows for it; it was never imported.
    pub recorded: Recorded,
}

/// Objects of one dataset, each of another key.
pub struct Group<'a> {
    /// Where to.
    pub target: Arc<Target>,
    /// The objects.
    pub members: Vec<Member>,
    /// Memory for their rows, in bytes; an object that would go beyond it is left out.
    pub run_bytes: usize,
    /// What happened last in the dataset.
    pub recent: &'a Recent,
    /// When work on them began.
    pub started: Instant,
}

/// Loads what can be loaded together, in one transaction. None for an object that has to be loaded alone, and none at
/// all when all have to.
///
/// # Errors
/// [`LoadError`], as [`super::load`].
pub async fn load_group(session: &mut Session, group: &Group<'_>) -> Result<Option<Vec<Option<Counts>>>, LoadError> {
    let target = &group.target;
    if target.transform.is_some() || !target.config.command.is_empty() {
        return Ok(None);
    }
    let objects: Vec<_> =
        group.members.iter().map(|member| (Arc::clone(&member.source), member.captures.clone())).collect();
    let (decoding_target, run_bytes) = (Arc::clone(target), group.run_bytes);
    let reading = tokio::task::spawn_blocking(move || Decoded::read(&decoding_target, &objects, run_bytes));
    // The store's time, not the server's.
    let decoded = liveness::elsewhere(reading).await;
    let Ok(Decoded { run, shape: Some(shape), rows }) = decoded else {
        return Ok(None);
    };
    if !direct::suits(&target.table, &shape.columns) {
        return Ok(None);
    }
    let staging = session.staging(&sql::staging_shape(&shape.columns, &[])).await?;
    let Some(together) = Together::new(group, &shape, run, rows) else {
        return Ok(None);
    };
    match group.recent.choose(target.config.technique, false, target.config.mode == Mode::Upsert) {
        Way::Staged => return Ok(None),
        Way::Direct => {}
        Way::Probe => {
            let plan = LoadPlan::plain(target, &shape.columns, &staging);
            if direct::any_key_is_known(session, &plan, &together.run).await? {
                group.recent.keys_were_known();
                return Ok(None);
            }
        }
    }
    let counts = session.transaction(Begin::ConstraintsImmediate, async |tx| together.write(tx).await).await?;
    if counts.is_some() {
        group.recent.went_direct();
    }
    Ok(counts)
}

/// Objects whose rows are decoded, and sorted together.
struct Together<'a> {
    group: &'a Group<'a>,
    shape: &'a Shape,
    run: Run,
    /// Each object's rows in the run, in decoding order; empty where it has to be loaded alone.
    rows: Vec<Range<usize>>,
    /// How many of each object's rows gave way to another of its own.
    merged: Vec<u64>,
    /// Columns no row has.
    without: Vec<usize>,
}

impl<'a> Together<'a> {
    /// Sorts the rows and settles duplicates within objects; none when COPY cannot tell what staging can.
    fn new(group: &'a Group<'a>, shape: &'a Shape, run: Run, rows: Vec<Range<usize>>) -> Option<Self> {
        let without = direct::absent_columns(&shape.columns, &run)?;
        let merged = vec![0; rows.len()];
        let mut together = Self { group, shape, run, rows, merged, without };
        if let Some(order) = &shape.order {
            together.run.sort(order);
            if group.target.config.mode == Mode::Upsert {
                let member_of = |place| member_of(&together.rows, place);
                let dropped = together.run.settle_duplicates(order, |a, b| member_of(a) == member_of(b))?;
                for place in dropped {
                    together.merged[member_of(place)] += 1;
                }
            }
        }
        Some(together)
    }

    /// Writes what is still to be written; none when all have to be loaded alone.
    async fn write(&self, tx: &mut PgConnection) -> Result<End<Option<Vec<Option<Counts>>>>, LoadError> {
        let writes = self.fence(tx).await?;
        match hold_unique_index(tx, &self.group.target).await {
            Ok(()) => {}
            Err(error @ LoadError::Database(_)) => return Err(error),
            // Each says so for itself.
            Err(_) => return Ok(End::RollBack(None)),
        }
        if !self.copy(tx, &writes).await? {
            self.group.recent.was_refused();
            return Ok(End::RollBack(None));
        }
        let counts = self.counts(&writes);
        self.record(tx, &counts).await?;
        Ok(End::Commit(Some(counts)))
    }

    /// Takes the fence of all objects, and returns which of them it lets through.
    async fn fence(&self, tx: &mut PgConnection) -> Result<Vec<bool>, LoadError> {
        let members = &self.group.members;
        let heads: Vec<(Recorded, &Candidate)> =
            members.iter().map(|member| (member.recorded, &member.candidate)).collect();
        let fenced = lock_heads(tx, &heads).await?;
        let lets_through = |((member, fenced), rows): ((&Member, Option<Fenced>), &Range<usize>)| {
            // Where another version stands by now its rows may have to make room: that is for a load of its own.
            let fresh = |fenced: Fenced| {
                !fenced.ever_imported && fenced.standing.is_none() && judge(None, &member.candidate) == Verdict::Write
            };
            !rows.is_empty() && fenced.is_some_and(fresh)
        };
        Ok(members.iter().zip(fenced).zip(&self.rows).map(lets_through).collect())
    }

    /// Copies the rows of the objects that are let through; false when Postgres refuses one, or a trigger left rows out:
    /// whose they were only a load alone can tell.
    async fn copy(&self, tx: &mut PgConnection, writes: &[bool]) -> Result<bool, LoadError> {
        let (table, columns) = (&self.group.target.table, &self.shape.columns);
        let loaded_at = match table.lineage_loaded_at {
            true => Some(direct::loaded_at(tx).await?),
            false => None,
        };
        let projections: Vec<_> = self
            .group
            .members
            .iter()
            .map(|member| {
                let constants = direct::constants(table, member.recorded.object_id, loaded_at);
                direct::projection(table, columns, self.without.clone(), &constants)
            })
            .collect();
        let mut copying = Copying::start(tx, &direct::copy_sql(table, columns, &self.without)).await?;
        let places = (0..self.run.n_ordered())
            .map(|index| (member_of(&self.rows, self.run.place(index)), self.run.row(index)))
            .filter(|(member, _)| writes[*member]);
        let mut members = places.clone().map(|(member, _)| member);
        let write = |out: &mut Vec<u8>, tuple: &[u8]| {
            if let Some(member) = members.next() {
                projections[member].write(tuple, out);
            }
        };
        copying.add(places.map(|(_, tuple)| tuple), write).await?;
        let n_sent: u64 = self.counts(writes).iter().flatten().map(|counts| counts.written).sum();
        Ok(copying.all_taken(n_sent).await?)
    }

    /// Returns the counts of the objects that are written.
    fn counts(&self, writes: &[bool]) -> Vec<Option<Counts>> {
        let counts = |((rows, merged), writes): ((&Range<usize>, &u64), &bool)| {
            let read = rows.len() as u64;
            writes.then(|| Counts { read, written: read - merged, merged: *merged, ..Counts::default() })
        };
        self.rows.iter().zip(&self.merged).zip(writes).map(counts).collect()
    }

    /// Records what is written in the ledger.
    async fn record(&self, tx: &mut PgConnection, counts: &[Option<Counts>]) -> sqlx::Result<()> {
        let finished: Vec<Finished<'_>> = self
            .group
            .members
            .iter()
            .zip(counts)
            .filter_map(|(member, counts)| {
                let (recorded, candidate, bytes) = (member.recorded, &member.candidate, member.source.size());
                counts.map(|counts| Finished { recorded, candidate, counts, bytes })
            })
            .collect();
        // The transaction's time is that of all its objects together.
        let seconds_each = self.group.started.elapsed().as_secs_f64() / finished.len().max(1) as f64;
        finish_many(tx, &finished, (Used::Grouped.into(), &self.group.target.recipe), seconds_each).await
    }
}

/// Returns whose row is at this place of the decoding order.
fn member_of(rows: &[Range<usize>], place: usize) -> usize {
    rows.partition_point(|rows| rows.end <= place)
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
    let new_fields = target.config.on_new_field == OnNewField::AddColumn;
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
