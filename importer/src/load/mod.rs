//! One object's rows into its table: stage, take the fence, merge, record, commit.

mod awaits;
pub mod catalog;
mod columns;
pub mod command;
mod copied;
mod copy;
mod direct;
mod distinct;
mod dry_run;
mod early;
mod error;
mod fence;
mod group;
mod inspect;
pub mod liveness;
mod mapping;
mod merge;
mod pipeline;
mod questions;
pub mod recipe;
pub mod refused;
pub mod registry;
mod rehearse;
mod rejects;
mod remove;
mod replay;
mod run;
mod runs_as;
mod session;
mod shorts;
pub mod sql;
mod stage;
mod step;
mod sweep;
pub mod target;
pub mod technique;
mod transform;
mod unstaged;

pub use command::{CommandError, Invocation};
pub use dry_run::{DryRun, dry_run};
pub use error::LoadError;
pub use group::{Group, Member, load_group};
pub use mapping::map;
pub use rehearse::{Fate, Rehearsal, rehearse};
pub use remove::{Removal, Remove, remove};
pub use replay::{ReplayRejects, Replayed, replay_rejects};
pub use session::{Session, Sessions};
pub use target::Target;

use crate::{
    config::Mode,
    database::{Begin, End},
    ledger::{self, Candidate, Counts, Imported, Recorded, Verdict},
    message::Anew,
    object::{ObjectStore, ReadTarget},
};
use copied::Copied;
use decode::{EXTRAS_COLUMN, Field, Mapping, OnNewField, Source, Unstaged};
use distinct::DistinctKeys;
use fence::{fence, hold_unique_index};
use mapping::{Opened, map_fields, open, staged_columns};
use merge::merge_all;
use pipeline::{Decoded, Decoding, Shape};
use run::RowOrder;
use sql::{LoadPlan, Origin, Place, StagedColumn};
use sqlx::PgConnection;
use stage::{Keys, Staged, stage};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use step::Step;
use technique::{Recent, Used, Way};
use tokio::sync::{Semaphore, SemaphorePermit};
use transform::Transform;

/// Loads one object, in one transaction.
///
/// After [`LoadError::Database`] and [`LoadError::Store`] the session must be dropped; any other error leaves it clean.
///
/// # Errors
/// [`LoadError`]; nothing was committed then, unless it is [`LoadError::Database`] out of the COMMIT itself:
/// whether that one happened the head row tells.
pub async fn load(session: &mut Session, load: &Load<'_>) -> Result<Loaded, LoadError> {
    match attempt(session, load, BTreeMap::new()).await {
        Err(LoadError::Unstaged(error)) => match unstaged::find(session, load).await? {
            // By itself each row was taken.
            none if none.is_empty() => Err(LoadError::Unstaged(error)),
            unstaged => attempt(session, load, unstaged).await,
        },
        settled => settled,
    }
}

/// Loads one object, but for the rows that are known to be refused by staging.
async fn attempt(
    session: &mut Session,
    load: &Load<'_>,
    unstaged: BTreeMap<u64, Unstaged>,
) -> Result<Loaded, LoadError> {
    if load.candidate.anew.is_some() && load.target.config.mode == Mode::Append && !load.target.table.lineage_object {
        return Err(LoadError::ForceNeedsLineage);
    }
    let (mut decoding, prepared) = match prepare(session, load, unstaged).await? {
        Ok(prepared) => prepared,
        Err(new_columns) => return Ok(Loaded::NeedsColumns(new_columns)),
    };
    let mut first = decoding.next().await;
    if let Some(writing) = goes_direct(session, load, &prepared, &first).await? {
        match direct::load(session, load, &prepared, first, &mut decoding).await {
            Ok(direct::Attempt::Done(loaded)) => {
                if matches!(loaded, Loaded::Imported(..)) {
                    load.recent.went_direct();
                }
                return Ok(loaded);
            }
            Ok(ended @ (direct::Attempt::Refused(_) | direct::Attempt::Busy)) => {
                drop(writing);
                if matches!(ended, direct::Attempt::Refused(_)) {
                    load.recent.was_refused();
                }
                first = match ended {
                    // Behind it decoding may have wanted memory that it must not wait for.
                    direct::Attempt::Refused(Some(run)) if decoding.budget.check_busy().is_ok() => {
                        decoding.budget.may_wait();
                        Decoded::Run(run)
                    }
                    _ => {
                        // Its memory may be what is waited for.
                        drop(decoding);
                        (decoding, _) = open(load).await?;
                        decoding.set_shape(prepared.shape());
                        decoding.next().await
                    }
                };
            }
            Err(error) => {
                // Deadlocks and lock timeouts are likelier for those who lock rows without looking.
                load.recent.was_refused();
                return Err(error);
            }
        }
    }
    decoding.put_back(first);
    let mut writing = None;
    let staging = async |tx: &mut PgConnection| stage_and_merge(tx, load, prepared, decoding, &mut writing).await;
    session.transaction(Begin::ConstraintsImmediate, staging).await
}

/// What is made ready for an object's rows.
struct Prepared {
    opened: Opened,
    mapping: Arc<Mapping>,
    columns: Vec<StagedColumn>,
    /// The staging table's quoted name.
    staging: String,
    /// What rows are sorted by, where the dataset has a key.
    order: Option<RowOrder>,
    /// Where the rows go that a transform makes of them.
    step: Option<Step>,
}

impl Prepared {
    fn shape(&self) -> Shape {
        Shape { mapping: Arc::clone(&self.mapping), order: self.order.clone() }
    }
}

/// Opens an object and makes ready for its rows, but for those that are known to be refused by staging; or returns the
/// columns that the table should get first.
async fn prepare(
    session: &mut Session,
    load: &Load<'_>,
    unstaged: BTreeMap<u64, Unstaged>,
) -> Result<Result<(Decoding, Prepared), Vec<Field>>, LoadError> {
    let (mut decoding, opened) = open(load).await?;
    let mapping = match map_fields(load, &opened.fields)? {
        Ok(mapping) => Arc::new(mapping.without(unstaged)),
        Err(new_columns) => return Ok(Err(new_columns)),
    };
    let columns = staged_columns(load.target, mapping.columns(), mapping.absent_flags())?;
    let staging = session.staging(&sql::staging_shape(&columns, &[])).await?;
    session.record_types(&columns).await?;
    let step = Step::prepare(session, load.target, &columns, &staging).await?;
    let order = RowOrder::new(mapping.columns(), &load.target.key, load.target.newer.as_deref());
    let prepared = Prepared { opened, mapping, columns, staging, order, step };
    decoding.set_shape(prepared.shape());
    Ok(Ok((decoding, prepared)))
}

/// Decides whether rows go directly into the target; the permit to write them says that they do.
async fn goes_direct<'a>(
    session: &mut Session,
    load: &Load<'a>,
    prepared: &Prepared,
    first: &Decoded,
) -> Result<Option<SemaphorePermit<'a>>, LoadError> {
    let target = load.target;
    let may_leave_rows = load.candidate.anew.is_some() && target.config.mode == Mode::Upsert;
    if load.new_columns.is_some()
        || may_leave_rows
        || prepared.step.is_some() && copied(target).is_none()
        || !target.config.command.is_empty()
        || !direct::suits(&target.table, &prepared.columns)
    {
        return Ok(None);
    }
    let way = load.recent.choose(target.config.technique, load.known, target.config.mode == Mode::Upsert);
    if way == Way::Staged {
        return Ok(None);
    }
    // Before the look, which would miss what others write meanwhile.
    let writing = load.writing.permit().await;
    if let (Way::Probe, Decoded::Run(run)) = (way, first) {
        let plan = LoadPlan::plain(target, &prepared.columns, &prepared.staging);
        if direct::any_key_is_known(session, &plan, run).await? {
            load.recent.keys_were_known();
            return Ok(None);
        }
    }
    Ok(writing)
}

/// Returns the transform of a target, and the condition that is all of it that COPY may judge.
fn copied(target: &Target) -> Option<(&Transform, &Copied)> {
    let transform = target.transform.as_deref()?;
    Some((transform, transform.copied.as_ref()?))
}

/// Loads an object through staging, in a transaction. The permit to write into tables lasts beyond it: until COMMIT.
async fn stage_and_merge<'a>(
    tx: &mut PgConnection,
    load: &Load<'a>,
    prepared: Prepared,
    decoding: Decoding,
    writing: &mut Option<SemaphorePermit<'a>>,
) -> Result<End<Loaded>, LoadError> {
    let Prepared { opened, mut columns, staging, order, mut step, .. } = prepared;
    let distinct = DistinctKeys::new(&columns, &load.target.key, load.digest_bytes);
    let keys = Keys { order: order.as_ref(), distinct };
    let mut staged = stage(tx, &staging, load, opened.form, decoding, keys).await?;
    if staged.n_rejected > 0 && load.target.config.fan_out && !load.target.config.command.is_empty() {
        // What a program had answered of a row before an answer was refused.
        let n_taken = ledger::rejects::take_back(tx, load.recorded.object_id, &staging).await?;
        staged.n_staged -= n_taken;
        staged.n_added -= n_taken;
    }
    if load.new_columns.is_none() && load.target.config.on_new_field == OnNewField::AddColumn {
        let new: Vec<Field> =
            staged.new_fields.iter().filter(|field| load.target.lacks(&field.name)).cloned().collect();
        if !new.is_empty() {
            return Ok(End::RollBack(Loaded::NeedsColumns(new)));
        }
    }
    // Rows without any known field are rows of defaults; a statement has to name some column all the same.
    let nothing_seen = !staged.seen_columns.contains(&true);
    for (column, seen) in columns.iter_mut().zip(&staged.seen_columns) {
        column.seen = (*seen || nothing_seen) && column.target.column.name != EXTRAS_COLUMN;
    }

    if let Some(step) = &mut step {
        transform_staged(tx, load, &LoadPlan::plain(load.target, &columns, &staging), step, &mut staged).await?;
    }
    questions::keep(tx, load).await?;
    let n_rejected = staged.n_rejected;

    *writing = load.writing.permit().await;
    // The fence comes after staging, so two importers of one object block each other for the merge
    // only, not for the download.
    if let Some(refused) = fence(tx, load).await? {
        return Ok(End::RollBack(refused));
    }
    if let Some(new_columns) = load.new_columns {
        let not_added = columns::add(tx, load.target, new_columns).await?;
        for column in &mut columns {
            column.seen &= !not_added.iter().any(|field| field.name == column.target.column.name);
        }
    }
    // After the columns: who adds one waits for all who write.
    hold_unique_index(tx, load.target).await?;
    let n_distinct = staged.distinct.then_some(staged.n_staged);
    // What was written since by an object that came later is newer than what this one brings.
    let is_late = matches!(load.candidate.anew, Some(Anew::Recipe(_) | Anew::Refresh));
    let only_of_head = (is_late && load.target.table.lineage_object).then_some(load.recorded.head_id);
    let input = LoadPlan::plain(load.target, &columns, &staging);
    let plan = match &step {
        Some(step) => {
            let made = LoadPlan::plain(load.target, &step.columns, &step.staging);
            LoadPlan { n_distinct, only_of_head, made_of: Some(&input), ..made }
        }
        None => LoadPlan { n_distinct, only_of_head, ..input },
    };
    let written = merge_all(tx, &plan, load, &mut staged).await?;
    if staged.n_rejected > n_rejected {
        questions::keep(tx, load).await?;
    }
    awaits::record(tx, load).await?;
    let counts = Counts {
        read: staged.n_read,
        added: staged.n_added,
        written,
        merged: (staged.n_read + staged.n_added).saturating_sub(written + staged.n_filtered + staged.n_rejected),
        filtered: staged.n_filtered,
        rejected: staged.n_rejected,
    };
    Ok(End::Commit(load.finish(tx, &opened, counts, Used::Staged).await?))
}

/// Makes of the staged rows what the target's transform says.
async fn transform_staged(
    tx: &mut PgConnection,
    load: &Load<'_>,
    input: &LoadPlan<'_>,
    step: &mut Step,
    staged: &mut Staged,
) -> Result<(), LoadError> {
    let Some(transform) = load.target.transform.as_ref().map(|transform| transform.started()) else { return Ok(()) };
    step.look_at(&transform, input.columns);
    let (table, object) = (&load.target.table, load.object);
    let last_modified = load.candidate.stamp.last_modified.map(|time| time.to_rfc3339());
    let (bucket, key) = (table.storable(&object.bucket), table.storable(&object.key));
    let place = Place { bucket: &bucket, key: &key, last_modified };
    let allowed = load.target.config.max_rejects.allowed(staged.n_read).saturating_sub(staged.n_rejected);
    let plan = LoadPlan::plain(load.target, &step.columns, &step.staging);
    awaits::look(tx, &transform, input, &place).await?;
    let made = transform.run(tx, input, &plan, &Origin::Object(&place), (load.recorded.object_id, allowed)).await?;
    staged.n_filtered += made.n_dropped(staged.n_staged);
    staged.n_rejected += made.n_refused;
    // One refused answer of a command takes along the others of its row.
    staged.n_added = (staged.n_added + made.n_added).saturating_sub(made.n_lost.saturating_sub(made.n_refused));
    staged.n_staged = made.n_made;
    // Rows that are not what they were when their keys were looked at.
    staged.distinct &= transform.set.keys().all(|column| !load.target.key.contains(column)) && made.n_added == 0;
    staged.distinct &= load.target.config.input.is_empty();
    Ok(())
}

/// One object to load.
pub struct Load<'a> {
    /// Where to.
    pub target: &'a Target,
    /// Captured path segments.
    pub captures: &'a [(String, Option<String>)],
    /// The bytes.
    pub source: Arc<dyn Source>,
    /// Which version they are, for the fence.
    pub candidate: &'a Candidate,
    /// Where the object lies: asked which version is current when nothing else says.
    pub store: &'a dyn ObjectStore,
    /// The object there.
    pub object: &'a ReadTarget,
    /// The dataset that sent it on.
    pub after: Option<&'a str>,
    /// The ledger's rows for it.
    pub recorded: Recorded,
    /// When work on the object began.
    pub started: Instant,
    /// Fields the target was given columns for that are not in the table yet; they are added with the rows.
    /// Until there are any, [`Loaded::NeedsColumns`] is an answer.
    pub new_columns: Option<&'a [Field]>,
    /// Whether a version of this object stands in the table, as far as was seen.
    pub known: bool,
    /// Half of the memory for encoded rows, in bytes.
    pub run_bytes: usize,
    /// Memory for digests of keys, in bytes.
    pub digest_bytes: usize,
    /// What happened last in this dataset.
    pub recent: &'a Recent,
    /// Permits to write into tables.
    pub writing: Writing<'a>,
}

impl Load<'_> {
    /// Records the import in the transaction of its rows, which commits then.
    async fn finish(
        &self,
        tx: &mut PgConnection,
        opened: &Opened,
        counts: Counts,
        technique: Used,
    ) -> sqlx::Result<Loaded> {
        let imported = Imported {
            recorded: self.recorded,
            identity: &self.candidate.identity,
            stamp: &self.candidate.stamp,
            counts,
            bytes: self.source.size(),
            technique: technique.into(),
            duration_seconds: self.seconds(),
            recipe: &self.target.recipe,
            after: self.after,
            csv_fields: opened.csv_fields(&self.target.table, counts.rejected),
        };
        if self.candidate.anew == Some(Anew::Refresh) {
            ledger::steps::refresh(tx).await?;
        }
        ledger::finish_imported(tx, &imported).await?;
        Ok(Loaded::Imported(counts, technique))
    }

    /// Returns how long the load has taken, without the time it waited for others to write.
    fn seconds(&self) -> f64 {
        let waited = Duration::from_micros(self.writing.waited_us.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(waited).as_secs_f64()
    }
}

/// A load's way to a permit to write into tables. Those who wait for one have decoded, or staged, what they can.
#[derive(Debug)]
pub struct Writing<'a> {
    permits: &'a Semaphore,
    waited_us: AtomicU64,
}

impl<'a> Writing<'a> {
    /// Returns the way to one of these permits.
    #[must_use]
    pub fn new(permits: &'a Semaphore) -> Self {
        Self { permits, waited_us: AtomicU64::new(0) }
    }

    /// Waits for a permit.
    async fn permit(&self) -> Option<SemaphorePermit<'a>> {
        let begun = Instant::now();
        // Nobody closes it.
        let permit = liveness::elsewhere(self.permits.acquire()).await.ok();
        let waited = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.waited_us.fetch_add(waited, Ordering::Relaxed);
        permit
    }
}

/// What became of a load that did not fail.
#[derive(Debug, Clone, PartialEq)]
pub enum Loaded {
    /// Rows and ledger are committed; and the rows were written so.
    Imported(Counts, Used),
    /// The fence said no; nothing was written.
    Refused(Verdict),
    /// Nothing told this version from the one that stands, but the store has yet another by now; nothing was written.
    Changed,
    /// The file has fields the table should get columns for; load again with them among the target's.
    NeedsColumns(Vec<Field>),
}
