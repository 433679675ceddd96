//! Many small objects in one transaction, each with a fate of its own.
//!
//! A transaction costs the same whatever it carries, and for an object of some hundred rows that is nearly all it
//! costs. So objects that were never seen are decoded one behind the other, sorted together, and copied directly
//! into the target under the locks of all their heads. Whatever is out of the ordinary (a reject, a key twice, a
//! row that Postgres refuses, another shape) sends its object, or the whole group, back to be loaded alone.

mod transformed;

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
    object::ReadTarget,
};
use decode::{Batch, Column, DecodeError, EXTRAS_COLUMN, OnNewField, Source};
use sqlx::PgConnection;
use std::{ops::Range, sync::Arc, time::Instant};

/// One object of a group.
pub struct Member {
    /// Where the caller has it.
    pub place: usize,
    /// The bytes.
    pub source: Arc<dyn Source>,
    /// Where they lie.
    pub object: ReadTarget,
    /// Captured path segments.
    pub captures: Vec<(String, Option<String>)>,
    /// Which version they are.
    pub candidate: Candidate,
    /// The ledger's rows for it; it was never imported.
    pub recorded: Recorded,
    /// The dataset whose import it follows.
    pub after: Option<String>,
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

/// Loads what can be loaded together, in one transaction, and returns it. What is missing has to be loaded alone.
///
/// # Errors
/// [`LoadError`], as [`super::load`].
pub async fn load_group<'g>(
    session: &mut Session,
    group: &'g Group<'_>,
) -> Result<Vec<(&'g Member, Counts)>, LoadError> {
    let target = &group.target;
    if !target.config.command.is_empty() {
        return Ok(Vec::new());
    }
    let objects: Vec<_> =
        group.members.iter().map(|member| (Arc::clone(&member.source), member.captures.clone())).collect();
    let (decoding_target, run_bytes) = (Arc::clone(target), group.run_bytes);
    let reading = tokio::task::spawn_blocking(move || Decoded::read(&decoding_target, &objects, run_bytes));
    // The store's time, not the server's.
    let decoded = liveness::elsewhere(reading).await;
    let Ok(Decoded { run, shape: Some(shape), parts }) = decoded else {
        return Ok(Vec::new());
    };
    let way = || group.recent.choose(target.config.technique, false, target.config.mode == Mode::Upsert);
    if let Some(transform) = target.transform.as_ref().filter(|transform| transform.runs()) {
        let objects = Objects::new(group, parts);
        return transformed::load(session, objects, transform, (shape.columns, run), way()).await;
    }
    if !direct::suits(&target.table, &shape.columns) {
        return Ok(Vec::new());
    }
    let staging = session.staging(&sql::staging_shape(&shape.columns, &[])).await?;
    let Some(together) = Together::new(group, shape, run, parts) else {
        return Ok(Vec::new());
    };
    match way() {
        Way::Staged => return Ok(Vec::new()),
        Way::Direct => {}
        Way::Probe => {
            let plan = LoadPlan::plain(target, &together.shape.columns, &staging);
            if direct::any_key_is_known(session, &plan, &together.run).await? {
                group.recent.keys_were_known();
                return Ok(Vec::new());
            }
        }
    }
    let written = session.transaction(Begin::ConstraintsImmediate, async |tx| together.write(tx).await).await?;
    if !written.is_empty() {
        group.recent.went_direct();
    }
    Ok(written)
}

/// A group's objects, and what becomes of each.
struct Objects<'g> {
    group: &'g Group<'g>,
    slices: Vec<Slice<'g>>,
}

/// An object's part of the run.
struct Slice<'g> {
    member: &'g Member,
    part: Part,
    counts: Counts,
    /// Whether it is written, which the fence decides.
    writes: bool,
}

/// What was decoded of an object.
struct Part {
    /// Its rows, in decoding order.
    rows: Range<usize>,
    /// How many of its rows conditions dropped; none where it has to be loaded alone, and nothing was taken of it.
    n_dropped: Option<u64>,
}

impl<'g> Objects<'g> {
    fn new(group: &'g Group<'g>, parts: Vec<Part>) -> Self {
        let slice = |(member, part): (&'g Member, Part)| {
            let (written, filtered) = (part.rows.len() as u64, part.n_dropped.unwrap_or(0));
            let counts = Counts { read: written + filtered, written, filtered, ..Counts::default() };
            Slice { member, part, counts, writes: false }
        };
        Self { group, slices: group.members.iter().zip(parts).map(slice).collect() }
    }

    /// Takes the fence of all objects, and notes which of them it lets through.
    async fn fence(&mut self, tx: &mut PgConnection) -> Result<(), LoadError> {
        let heads: Vec<(Recorded, &Candidate)> =
            self.slices.iter().map(|slice| (slice.member.recorded, &slice.member.candidate)).collect();
        for (slice, fenced) in self.slices.iter_mut().zip(lock_heads(tx, &heads).await?) {
            // Where another version stands by now its rows may have to make room: that is for a load of its own.
            let is_fresh = fenced.is_some_and(|fenced: Fenced| {
                !fenced.ever_imported
                    && fenced.standing.is_none()
                    && judge(None, &slice.member.candidate) == Verdict::Write
            });
            slice.writes = is_fresh && slice.part.n_dropped.is_some() && slice.counts.read > 0;
        }
        Ok(())
    }

    /// Makes sure that keys are kept apart; false where that is for each object to say.
    async fn hold_unique_index(&self, tx: &mut PgConnection) -> Result<bool, LoadError> {
        match hold_unique_index(tx, &self.group.target).await {
            Ok(()) => Ok(true),
            Err(error @ LoadError::Database(_)) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Returns which slice the row at this place of the decoding order is in.
    fn slice_of(&self, place: usize) -> usize {
        self.slices.partition_point(|slice| slice.part.rows.end <= place)
    }

    fn n_written(&self) -> u64 {
        self.slices.iter().filter(|slice| slice.writes).map(|slice| slice.counts.written).sum()
    }

    /// Records what is written in the ledger, and returns it.
    async fn record(&self, tx: &mut PgConnection) -> sqlx::Result<Vec<(&'g Member, Counts)>> {
        let written: Vec<(&'g Member, Counts)> =
            self.slices.iter().filter(|slice| slice.writes).map(|slice| (slice.member, slice.counts)).collect();
        let finished: Vec<Finished<'_>> = written
            .iter()
            .map(|(member, counts)| {
                let (recorded, candidate, bytes) = (member.recorded, &member.candidate, member.source.size());
                Finished { recorded, candidate, counts: *counts, bytes, after: member.after.as_deref() }
            })
            .collect();
        // The transaction's time is that of all its objects together.
        let seconds_each = self.group.started.elapsed().as_secs_f64() / finished.len().max(1) as f64;
        finish_many(tx, &finished, (Used::Grouped.into(), &self.group.target.recipe), seconds_each).await?;
        Ok(written)
    }
}

/// Objects whose rows are decoded, and sorted together.
struct Together<'g> {
    objects: Objects<'g>,
    shape: Shape,
    run: Run,
    /// Columns no row has.
    without: Vec<usize>,
}

impl<'g> Together<'g> {
    /// Sorts the rows and settles duplicates within objects; none when COPY cannot tell what staging can.
    fn new(group: &'g Group<'g>, shape: Shape, mut run: Run, parts: Vec<Part>) -> Option<Self> {
        let without = direct::absent_columns(&shape.columns, &run)?;
        let mut objects = Objects::new(group, parts);
        if let Some(order) = &shape.order {
            run.sort(order);
            if group.target.config.mode == Mode::Upsert {
                let together = |a, b| objects.slice_of(a) == objects.slice_of(b);
                for place in run.settle_duplicates(order, together)? {
                    let slice = objects.slice_of(place);
                    let counts = &mut objects.slices[slice].counts;
                    counts.merged += 1;
                    counts.written -= 1;
                }
            }
        }
        Some(Self { objects, shape, run, without })
    }

    /// Writes what is still to be written, and returns it.
    async fn write(mut self, tx: &mut PgConnection) -> Result<End<Vec<(&'g Member, Counts)>>, LoadError> {
        self.objects.fence(tx).await?;
        if !self.objects.hold_unique_index(tx).await? {
            return Ok(End::RollBack(Vec::new()));
        }
        if !self.copy(tx).await? {
            self.objects.group.recent.was_refused();
            return Ok(End::RollBack(Vec::new()));
        }
        Ok(End::Commit(self.objects.record(tx).await?))
    }

    /// Copies the rows of the objects that are let through; false when Postgres refuses one, or a trigger left rows out:
    /// whose they were only a load alone can tell.
    async fn copy(&self, tx: &mut PgConnection) -> Result<bool, LoadError> {
        let Objects { group, slices } = &self.objects;
        let (table, columns) = (&group.target.table, &self.shape.columns);
        let loaded_at = match table.lineage_loaded_at {
            true => Some(direct::loaded_at(tx).await?),
            false => None,
        };
        let projections: Vec<_> = slices
            .iter()
            .map(|slice| {
                let constants = direct::constants(table, slice.member.recorded.object_id, loaded_at);
                direct::projection(table, columns, self.without.clone(), &constants)
            })
            .collect();
        let mut copying = Copying::start(tx, &direct::copy_sql(table, columns, &self.without)).await?;
        let places = (0..self.run.n_ordered())
            .map(|index| (self.objects.slice_of(self.run.place(index)), self.run.row(index)))
            .filter(|(slice, _)| slices[*slice].writes);
        let mut of = places.clone().map(|(slice, _)| slice);
        let write = |out: &mut Vec<u8>, tuple: &[u8]| {
            if let Some(slice) = of.next() {
                projections[slice].write(tuple, out);
            }
        };
        copying.add(places.map(|(_, tuple)| tuple), write).await?;
        Ok(copying.all_taken(self.objects.n_written()).await?)
    }
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
    /// One of each object.
    parts: Vec<Part>,
}

impl Decoded {
    fn read(target: &Target, objects: &[Object], run_bytes: usize) -> Self {
        let mut batch = Batch::default();
        let mut first: Option<(Vec<Column>, Vec<usize>)> = None;
        let mut parts = Vec::with_capacity(objects.len());
        for (source, captures) in objects {
            let (n_bytes, n_rows, n_filtered) = (batch.data.len(), batch.ends.len(), batch.n_filtered);
            let read = || read_one(target, Arc::clone(source), captures, &mut batch, &mut first, run_bytes);
            // Decoders process untrusted input.
            let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
            let is_taken = matches!(read, Ok(Ok(true))) && batch.rejects.is_empty();
            if !is_taken {
                batch.data.truncate(n_bytes);
                batch.ends.truncate(n_rows);
                batch.long_rows.retain(|(row, _)| *row < n_rows);
                batch.rejects.clear();
                batch.reject_bytes = 0;
                batch.n_filtered = n_filtered;
            }
            let n_dropped = is_taken.then_some(batch.n_filtered - n_filtered);
            parts.push(Part { rows: n_rows..batch.ends.len(), n_dropped });
        }
        let shape = first.and_then(|(columns, flags)| {
            let order = RowOrder::new(&columns, &target.key, target.newer.as_deref());
            let columns = staged_columns(target, &columns, &flags).ok()?;
            Some(Shape { columns, order })
        });
        let mut run = Run::default();
        run.batch = batch;
        Self { run, shape, parts }
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
