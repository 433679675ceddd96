//! One object's rows into its table: stage, take the fence, merge, record, commit.

pub mod catalog;
mod columns;
mod direct;
mod distinct;
mod dry_run;
mod group;
pub mod liveness;
mod pipeline;
mod refused;
mod remove;
mod replay;
mod run;
mod session;
mod shorts;
pub mod sql;
mod sweep;
pub mod target;
pub mod technique;
mod unstaged;

pub use dry_run::{DryRun, dry_run};
pub use group::{GROUPED, Group, Member, load_group};
pub use remove::{Removal, Remove, RemoveError, remove};
pub use replay::{ReplayRejects, Replayed, replay_rejects};
pub use session::{Session, Sessions};
pub use target::Target;

use crate::{
    config::Mode,
    ledger::{self, Candidate, Counts, Imported, Recorded, Verdict, judge},
    object::{ObjectStore, ReadTarget, StoreError},
    order::same_version,
};
use catalog::{Table, TableColumn};
use decode::{
    Column, DecodeError, EXTRAS_COLUMN, Field, Fields, Mapping, MappingSpec, OnNewField, PayloadForm, Reject, Source,
    Unstaged,
};
use distinct::DistinctKeys;
use pipeline::{Decoded, Decoding, Shape};
use run::RowOrder;
use sql::{LoadPlan, Meets, Sampled, StagedColumn};
use sqlx::{Executor, PgConnection, postgres::PgCopyIn};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use technique::{Recent, Way};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes of a COPY message. Measured: 256 KiB to 1 MiB are alike, 8 KiB cost 17 %.
const MESSAGE_BYTES: usize = 512 * 1024;
/// Bytes of rejects kept in memory before COPY is interrupted to write them down.
const REJECTS_BYTES: usize = 1024 * 1024;
/// Signature, flags and extension length of binary COPY
/// ([PostgreSQL, COPY, Binary Format](https://www.postgresql.org/docs/current/sql-copy.html)).
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// A field count of -1 ends binary COPY.
const COPY_TRAILER: &[u8] = &(-1i16).to_be_bytes();

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
    /// The ledger's rows for it.
    pub recorded: Recorded,
    /// When work on the object began.
    pub started: Instant,
    /// Whether [`Loaded::NeedsColumns`] is an answer; false once columns were added as far as they may be.
    pub may_add_columns: bool,
    /// Fields the target was given columns for that are not in the table yet; they are added with the rows.
    pub new_columns: &'a [Field],
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
    /// Rows and ledger are committed; the word says how the rows were written.
    Imported(Counts, &'static str),
    /// The fence said no; nothing was written.
    Refused(Verdict),
    /// Nothing told this version from the one that stands, but the store has yet another by now; nothing was written.
    Changed,
    /// The file has fields the table should get columns for; load again with them among the target's.
    NeedsColumns(Vec<Field>),
}

/// Why a load failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object cannot be read.
    #[error("decode")]
    Decode(#[source] DecodeError),
    /// The object's fields and the table cannot be brought together.
    #[error("{0}")]
    Schema(String),
    /// No unique index keeps the keys of an upsert apart any more; the catalog may tell more.
    #[error("{0}")]
    NoUniqueIndex(String),
    /// More rows were refused than the dataset allows.
    #[error("{rejected} of {read} rows rejected, {why}; the first is row {first_row} ({first_class}{first_column})")]
    TooManyRejects {
        /// Rows refused.
        rejected: u64,
        /// Rows read.
        read: u64,
        /// What that is too many for.
        why: String,
        /// Number of the first refused row.
        first_row: u64,
        /// Its class.
        first_class: String,
        /// Its column, as `, column x`, or empty.
        first_column: String,
    },
    /// Postgres itself refuses more rows than the dataset allows.
    #[error("{0}")]
    TooManyRefused(String),
    /// Append cannot replace what it cannot find.
    #[error("a forced replay in append mode needs the column penstock_object")]
    ForceNeedsLineage,
    /// The store could not say which version is current.
    #[error("look for the current version")]
    Store(#[source] StoreError),
    /// A row that only the staging table found to be one the database cannot hold.
    #[error("stage rows")]
    Unstaged(#[source] sqlx::Error),
    /// Postgres refused or was out of reach; `outcome::sort_database_error` says which.
    #[error("write to Postgres")]
    Database(#[from] sqlx::Error),
}

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
    if load.candidate.force && load.target.mode == Mode::Append && !load.target.table.lineage_object {
        return Err(LoadError::ForceNeedsLineage);
    }
    let (mut decoding, opened) = open(load).await?;
    let mapping = match map_fields(load, &opened.fields)? {
        Ok(mapping) => Arc::new(mapping.without(unstaged)),
        Err(new_columns) => return Ok(Loaded::NeedsColumns(new_columns)),
    };
    let mut columns = staged_columns(load.target, mapping.columns(), mapping.absent_flags())?;
    let staging = session.staging(&sql::staging_shape(&columns)).await?;
    session.record_types(&columns).await?;
    let order = RowOrder::new(mapping.columns(), &load.target.key, load.target.newer.as_deref());
    decoding.set_shape(Shape { mapping: Arc::clone(&mapping), order: order.clone() });
    let connection = &mut session.connection;

    let mut first = decoding.next().await;
    if let Some(writing) = goes_straight(connection, load, &columns, &staging, &first).await? {
        match direct::load(connection, load, &opened, &columns, order.as_ref(), first, &mut decoding).await {
            Ok(direct::Attempt::Done(loaded)) => {
                if matches!(loaded, Loaded::Imported(..)) {
                    load.recent.went_straight();
                }
                return Ok(loaded);
            }
            Ok(direct::Attempt::Refused(kept)) => {
                drop(writing);
                load.recent.was_refused();
                first = match kept {
                    Some(run) => Decoded::Run(run),
                    None => {
                        (decoding, _) = open(load).await?;
                        decoding.set_shape(Shape { mapping, order: order.clone() });
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

    // Constraints are checked by the statement that breaks them, so that a row can be blamed.
    connection.execute("BEGIN; SET CONSTRAINTS ALL IMMEDIATE").await?;
    let distinct = DistinctKeys::new(&columns, &load.target.key, load.digest_bytes);
    let keys = Keys { order: order.as_ref(), distinct };
    let staged = stage(connection, &staging, load, opened.form, first, decoding, keys).await;
    let mut staged = match staged {
        Ok(staged) => staged,
        Err(error @ LoadError::Database(_)) => return Err(error),
        Err(error) => {
            connection.execute("ROLLBACK").await?;
            return Err(error);
        }
    };
    if load.may_add_columns && load.target.on_new_field == OnNewField::AddColumn {
        let new: Vec<Field> =
            staged.new_fields.iter().filter(|field| load.target.lacks(&field.name)).cloned().collect();
        if !new.is_empty() {
            connection.execute("ROLLBACK").await?;
            return Ok(Loaded::NeedsColumns(new));
        }
    }
    // Rows without any known field are rows of defaults; a statement has to name some column all the same.
    let nothing_seen = !staged.seen_columns.contains(&true);
    for (column, seen) in columns.iter_mut().zip(&staged.seen_columns) {
        column.seen = (*seen || nothing_seen) && column.target.column.name != EXTRAS_COLUMN;
    }

    let _writing = load.writing.permit().await;
    // The fence comes after staging, so two importers of one object block each other for the merge
    // only, not for the download.
    if let Some(refused) = fence(connection, load).await? {
        connection.execute("ROLLBACK").await?;
        return Ok(refused);
    }
    if !load.new_columns.is_empty() {
        let not_added = columns::add(connection, load.target, load.new_columns).await?;
        for column in &mut columns {
            column.seen &= !not_added.iter().any(|field| field.name == column.target.column.name);
        }
    }
    // After the columns: who adds one waits for all who write.
    if let Err(error) = hold_unique_index(connection, load.target).await {
        return rolled_back(connection, error).await;
    }
    let plan = LoadPlan {
        table: &load.target.table,
        columns: &columns,
        staging: &staging,
        key: &load.target.key,
        newer: load.target.newer.as_deref(),
        meets: Meets::Plainly,
        n_distinct: staged.distinct.then_some(staged.n_staged),
    };
    let written = match merge_all(connection, &plan, load, &mut staged).await {
        Ok(written) => written,
        Err(error @ LoadError::TooManyRefused(_)) => {
            connection.execute("ROLLBACK").await?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    let counts = Counts {
        read: staged.n_read,
        written,
        merged: staged.n_staged.saturating_sub(written + staged.n_filtered),
        filtered: staged.n_filtered,
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
            technique: "staged",
            duration_seconds: load.seconds(),
            csv_fields: opened.csv_fields(&load.target.table, staged.n_rejected),
        },
    )
    .await?;
    connection.execute("COMMIT").await?;
    Ok(Loaded::Imported(counts, "staged"))
}

/// What an object says of itself before its rows.
struct Opened {
    fields: Fields,
    /// How the payloads of its rejects are written.
    form: PayloadForm,
}

impl Opened {
    /// Returns what it takes to read a CSV object's rejects again: the names of its fields.
    fn csv_fields(&self, table: &Table, n_rejected: u64) -> Option<Vec<Option<String>>> {
        match &self.fields {
            _ if self.form != PayloadForm::Csv || n_rejected == 0 => None,
            Fields::Named(fields) => Some(fields.iter().map(|field| Some(table.storable(&field.name))).collect()),
            Fields::Positional(n_fields) => Some(vec![None; *n_fields]),
            Fields::Open => None,
        }
    }
}

/// Starts decoding, and returns what is known of the object.
async fn open(load: &Load<'_>) -> Result<(Decoding, Opened), LoadError> {
    let mut decoding = Decoding::start(Arc::clone(&load.source), load.target.read.clone(), load.run_bytes);
    match decoding.next().await {
        Decoded::Fields(fields, form) => Ok((decoding, Opened { fields, form })),
        Decoded::Failed(error) => Err(LoadError::Decode(error)),
        Decoded::Run(_) | Decoded::End { .. } => unreachable!("the decoder sends the fields first"),
    }
}

/// Rolls back after an error, unless the session is lost with it.
async fn rolled_back<T>(connection: &mut PgConnection, error: LoadError) -> Result<T, LoadError> {
    if !matches!(error, LoadError::Database(_)) {
        connection.execute("ROLLBACK").await?;
    }
    Err(error)
}

/// Makes sure that an upsert's keys are kept apart until the transaction ends, also when the catalog has changed since
/// it was read: without their index rows would double in silence.
async fn hold_unique_index(connection: &mut PgConnection, target: &Target) -> Result<(), LoadError> {
    if target.mode != Mode::Upsert || catalog::hold_unique_index(connection, &target.table, &target.key).await? {
        return Ok(());
    }
    Err(LoadError::NoUniqueIndex(catalog::no_unique_index(&target.table, &target.key)))
}

/// Decides whether rows go straight into the target; the permit to write them says that they do.
async fn goes_straight<'a>(
    connection: &mut PgConnection,
    load: &Load<'a>,
    columns: &[StagedColumn],
    staging: &str,
    first: &Decoded,
) -> Result<Option<SemaphorePermit<'a>>, LoadError> {
    let target = load.target;
    if !load.new_columns.is_empty() || !direct::suits(&target.table, columns) {
        return Ok(None);
    }
    let way = load.recent.choose(target.technique, load.known, target.mode == Mode::Upsert);
    if way == Way::Staged {
        return Ok(None);
    }
    // Before the look, which would miss what others write meanwhile.
    let writing = load.writing.permit().await;
    match (way, first) {
        (Way::Probe, Decoded::Run(run)) => {
            let plan = LoadPlan {
                table: &target.table,
                columns,
                staging,
                key: &target.key,
                newer: target.newer.as_deref(),
                meets: Meets::Plainly,
                n_distinct: None,
            };
            let known = direct::any_key_is_known(connection, &plan, run).await?;
            if known {
                load.recent.keys_were_known();
                return Ok(None);
            }
            Ok(writing)
        }
        _ => Ok(writing),
    }
}

/// Takes the fence, and returns why it does not let this version through.
async fn fence(connection: &mut PgConnection, load: &Load<'_>) -> Result<Option<Loaded>, LoadError> {
    let fenced = ledger::lock_head(connection, load.recorded.head_id, &load.candidate.identity).await?;
    // Asked again under the lock: another worker may have appended this version since the attempt was recorded.
    let appended_before = load.target.mode == Mode::Append && fenced.ever_imported;
    let candidate = Candidate { appended_before, ..load.candidate.clone() };
    match judge(fenced.standing.as_ref(), &candidate) {
        Verdict::Write => return Ok(None),
        Verdict::Tied => {}
        verdict => return Ok(Some(Loaded::Refused(verdict))),
    }
    // Under the lock, so whoever puts the object after this answer sends an event that comes after us.
    let current = ReadTarget { version_id: None, etag: None, ..load.object.clone() };
    let tombstone = fenced.standing.is_some_and(|standing| standing.is_delete);
    match load.store.head(&current).await {
        Ok(info) if same_version(&info.identity(), &candidate.identity) => Ok(None),
        Ok(_) => Ok(Some(Loaded::Changed)),
        Err(StoreError::Missing) if tombstone => Ok(Some(Loaded::Refused(Verdict::Superseded))),
        // Gone without an event we act on: the later commit wins.
        Err(StoreError::Missing) => Ok(None),
        Err(error) => Err(LoadError::Store(error)),
    }
}

/// Returns the mapping, or the columns the table should get first.
fn map_fields(load: &Load<'_>, fields: &Fields) -> Result<Result<Mapping, Vec<Field>>, LoadError> {
    let target = load.target;
    if let (true, OnNewField::AddColumn, Fields::Named(named)) = (load.may_add_columns, target.on_new_field, fields) {
        let new: Vec<Field> = named.iter().filter(|field| target.lacks(&field.name)).cloned().collect();
        // Where no field fits, the names may be values of a file without header.
        let fits = new.len() < named.len() || target.table.columns.is_empty();
        if !new.is_empty() && fits {
            return Ok(Err(new));
        }
    }
    map(target, load.captures, fields).map(Ok)
}

/// Brings fields and columns together.
fn map(target: &Target, captures: &[(String, Option<String>)], fields: &Fields) -> Result<Mapping, LoadError> {
    let spec = MappingSpec {
        columns: &target.table.decoder_columns(),
        rename: &target.rename,
        captures,
        on_new_field: target.on_new_field,
        extras_column: target.extras_column.as_deref(),
        key: &target.key,
    };
    Mapping::new(fields, &spec).map_err(LoadError::Schema)
}

fn staged_columns(target: &Target, columns: &[Column], flags: &[usize]) -> Result<Vec<StagedColumn>, LoadError> {
    columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let found = target.table.columns.iter().find(|c| c.column.name == column.name);
            let table_column = match found {
                Some(found) => found.clone(),
                // Fields of an open format that have no column yet; staged, never merged.
                None if column.name == EXTRAS_COLUMN => TableColumn::staged_only(column.clone(), "jsonb"),
                None => return Err(LoadError::Schema(format!("no column {}", column.name))),
            };
            Ok(StagedColumn { target: table_column, has_absent_flag: flags.contains(&index), seen: true })
        })
        .collect()
}

/// What was found out on the way.
#[derive(Default)]
struct Staged {
    n_read: u64,
    n_staged: u64,
    n_rejected: u64,
    /// Rows that a trigger left out.
    n_filtered: u64,
    first_reject: Option<(u64, &'static str, Option<String>)>,
    seen_columns: Vec<bool>,
    new_fields: Vec<Field>,
    /// No key is staged twice, as far as is known.
    distinct: bool,
}

/// What is found out of the keys while they are staged.
struct Keys<'a> {
    order: Option<&'a RowOrder>,
    distinct: DistinctKeys,
}

/// Drains the decoder into the staging table; rejects go to the ledger on the way.
async fn stage(
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
        let mut copy = connection.copy_in_raw(&copy_sql).await?;
        send(&mut copy, COPY_HEADER).await?;
        match copy_runs(&mut copy, next.take(), &mut decoding, &mut staged, &mut rejects, &mut keys).await {
            Ok(left) => next = left,
            Err(error @ LoadError::Database(_)) => return Err(error),
            Err(error) => {
                spoil(copy).await?;
                return Err(error);
            }
        }
        send(&mut copy, COPY_TRAILER).await?;
        match copy.finish().await {
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

/// Writes rejects into the ledger.
async fn write_rejects(
    connection: &mut PgConnection,
    load: &Load<'_>,
    form: PayloadForm,
    rejects: &[Reject],
) -> sqlx::Result<()> {
    let (table, object_id) = (&load.target.table, load.recorded.object_id);
    if table.takes_any_text {
        return ledger::insert_rejects(connection, object_id, form, rejects).await;
    }
    let storable = |reject: &Reject| Reject {
        message: table.storable(&reject.message),
        column: reject.column.as_deref().map(|name| table.storable(name)),
        ..reject.clone()
    };
    let rejects: Vec<Reject> = rejects.iter().map(storable).collect();
    ledger::insert_rejects(connection, object_id, form, &rejects).await
}

/// Ends a COPY in failure, also where the server has failed it already, and leaves the session fit for ROLLBACK.
async fn spoil(mut copy: PgCopyIn<&mut PgConnection>) -> sqlx::Result<()> {
    // CopyFail would be answered by an earlier error that the driver does not expect.
    send(&mut copy, &i16::MAX.to_be_bytes()).await?;
    match copy.finish().await {
        Ok(_) | Err(sqlx::Error::Database(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Fails an object with too many rejects: at once where that is sure, else at its end.
fn check_rejects(load: &Load<'_>, staged: &Staged, more: bool) -> Result<(), LoadError> {
    let limit = &load.target.max_rejects;
    let too_many = if more {
        limit.surely_exceeded(staged.n_rejected, staged.n_read)
    } else {
        !limit.allows(staged.n_rejected, staged.n_read)
    };
    let why = match limit {
        _ if staged.n_rejected == staged.n_read => "not one is good".to_owned(),
        limit => format!("more than max_rejects = {limit} allows"),
    };
    match &staged.first_reject {
        Some((first_row, class, column)) if too_many => Err(LoadError::TooManyRejects {
            rejected: staged.n_rejected,
            read: staged.n_read,
            why,
            first_row: *first_row,
            first_class: (*class).to_owned(),
            first_column: column.as_ref().map(|c| format!(", column {c}")).unwrap_or_default(),
        }),
        _ => Ok(()),
    }
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

/// Sends a part of a COPY, in pieces, for the connection keeps the memory of the longest. That one goes is a sign of life.
async fn send(copy: &mut PgCopyIn<&mut PgConnection>, part: &[u8]) -> sqlx::Result<()> {
    for piece in part.chunks(MESSAGE_BYTES) {
        copy.send(piece).await?;
        liveness::heard();
    }
    Ok(())
}

/// Sends what is in `message` and empties it.
async fn flush(copy: &mut PgCopyIn<&mut PgConnection>, message: &mut Vec<u8>) -> sqlx::Result<()> {
    send(copy, message).await?;
    message.clear();
    message.shrink_to(2 * MESSAGE_BYTES);
    Ok(())
}

/// Sends the whole of a binary COPY: header, rows as `write` writes them, trailer.
async fn copy_rows<'r>(
    copy: &mut PgCopyIn<&mut PgConnection>,
    rows: impl Iterator<Item = &'r [u8]>,
    mut write: impl FnMut(&[u8], &mut Vec<u8>),
) -> sqlx::Result<()> {
    let mut message = Vec::with_capacity(MESSAGE_BYTES);
    message.extend_from_slice(COPY_HEADER);
    for tuple in rows {
        write(tuple, &mut message);
        if message.len() >= MESSAGE_BYTES {
            flush(copy, &mut message).await?;
        }
    }
    message.extend_from_slice(COPY_TRAILER);
    flush(copy, &mut message).await
}

/// Merges the staged rows; those Postgres refuses become rejects. Returns how many stand in the table now.
async fn merge_all(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    load: &Load<'_>,
    staged: &mut Staged,
) -> Result<u64, LoadError> {
    connection.execute("SAVEPOINT penstock_merge").await?;
    match look_and_merge(connection, plan, load, staged).await {
        Err(LoadError::Database(error)) if refused::is_refusal(&error) => {}
        settled => return settled,
    }
    connection.execute("ROLLBACK TO SAVEPOINT penstock_merge").await?;
    make_room(connection, load).await?;
    let (mode, object_id) = (load.target.mode, load.recorded.object_id);
    let allowed = load.target.max_rejects.allowed(staged.n_read).saturating_sub(staged.n_rejected);
    let refused = merge_refused(connection, plan, mode, object_id, allowed).await?;
    let n_refused = staged.n_staged.saturating_sub(refused.n_left);
    staged.n_rejected += n_refused;
    staged.n_staged -= n_refused;
    staged.n_filtered = refused.written.n_left_out;
    Ok(refused.written.n_standing)
}

/// Merges in the way that suits what is in the table. Behind a savepoint: also a look casts texts, and may be refused.
async fn look_and_merge(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    load: &Load<'_>,
    staged: &mut Staged,
) -> Result<u64, LoadError> {
    let meets = how_to_meet(connection, plan, load, staged).await?;
    merge(connection, &LoadPlan { meets, ..*plan }, load, staged).await
}

/// Rows of a sample; and with so few staged a sample costs more than it saves.
const SAMPLED_ROWS: u64 = 500;

/// Decides how the merge meets the rows that are in the table.
async fn how_to_meet(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    load: &Load<'_>,
    staged: &Staged,
) -> Result<Meets, LoadError> {
    if load.target.mode != Mode::Upsert || !plan.table.may_skip_equal {
        return Ok(Meets::Plainly);
    }
    // Staging was never analyzed. Row by row through the key's index is what is wanted, however large the table is
    // and whatever the planner makes of that.
    connection.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off").await?;
    if staged.n_staged < 2 * SAMPLED_ROWS {
        return Ok(Meets::SkippingEqual);
    }
    let sample = plan.sample(SAMPLED_ROWS, staged.n_staged);
    match sqlx::query_as(&sample).fetch_one(connection).await {
        Ok((n_rows, n_known, n_changed)) => Ok(Sampled { n_rows, n_known, n_changed }.meets()),
        Err(error) => Err(error.into()),
    }
}

/// What became of staged rows of which Postgres refused some.
struct Refused {
    /// Staged rows that were not refused.
    n_left: u64,
    /// What became of them.
    written: Written,
}

/// What became of staged rows that were written.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    /// How many stand in the target: inserted, updated or already equal.
    n_standing: u64,
    /// How many a trigger left out.
    n_left_out: u64,
}

/// Writes the staged rows that Postgres takes, one by one where it must, and turns the others into rejects.
async fn merge_refused(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    mode: Mode,
    object_id: i64,
    allowed: u64,
) -> Result<Refused, LoadError> {
    if mode != Mode::Upsert {
        let (n_left, n_standing) =
            refused::merge_without_refused_rows(connection, plan, &plan.insert_range(), object_id, allowed).await?;
        let written = Written { n_standing, n_left_out: n_left.saturating_sub(n_standing) };
        return Ok(Refused { n_left, written });
    }
    // Where the file does not say how new its rows are, the default that a row of ours was inserted with must not
    // look like another's that is newer: who gives way is settled before any is inserted.
    let mut n_gave_way = 0;
    let mut plan = LoadPlan { meets: Meets::Plainly, n_distinct: None, ..*plan };
    if let (true, Some(sql)) = (plan.newer_is_absent(), plan.drop_given_way()) {
        n_gave_way = connection.execute(sql.as_str()).await?.rows_affected();
        plan.newer = None;
    }
    let (n_left, _) =
        refused::merge_without_refused_rows(connection, &plan, &plan.upsert_range(), object_id, allowed).await?;
    // What is left went in by ranges; once more as a whole settles rows with the same key in different ranges.
    let written = match n_left {
        0 => Written::default(),
        _ => write_staged(connection, &plan, mode, object_id, n_left).await?,
    };
    Ok(Refused { n_left: n_left + n_gave_way, written })
}

/// Takes away the rows that a new version, or a forced replay, replaces.
async fn make_room(connection: &mut PgConnection, load: &Load<'_>) -> Result<(), LoadError> {
    match load.target.mode {
        Mode::Replace => remove::delete_rows_of_key(connection, load.target, load.recorded.head_id).await?,
        Mode::Append if load.candidate.force => {
            remove::delete_rows_of_version(connection, load.target, load.recorded.object_id).await?
        }
        Mode::Append | Mode::Upsert => 0,
    };
    Ok(())
}

/// Moves the staged rows into the target as the mode says, and returns how many of them stand there now.
async fn merge(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    load: &Load<'_>,
    staged: &mut Staged,
) -> Result<u64, LoadError> {
    make_room(connection, load).await?;
    if staged.n_staged == 0 {
        return Ok(0);
    }
    let (mode, object_id) = (load.target.mode, load.recorded.object_id);
    let written = write_staged(connection, plan, mode, object_id, staged.n_staged).await?;
    staged.n_filtered = written.n_left_out;
    Ok(written.n_standing)
}

/// Writes the staged rows, of which there are `n_staged`, and returns what became of them.
async fn write_staged(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    mode: Mode,
    object_id: i64,
    n_staged: u64,
) -> Result<Written, LoadError> {
    if mode != Mode::Upsert {
        let sql = plan.insert();
        let query = sqlx::query(&sql);
        let query = if plan.table.lineage_object { query.bind(object_id) } else { query };
        let n_standing = query.execute(connection).await?.rows_affected();
        return Ok(Written { n_standing, n_left_out: n_staged.saturating_sub(n_standing) });
    }
    let gave_way_before = if plan.newer_is_absent() { count_gave_way(connection, plan).await? } else { 0 };
    let mut n_keys = None;
    if let (Meets::Updating, Some(sql)) = (plan.meets, plan.update()) {
        let (n_found, n_updated) = merge_counts(connection, plan, &sql, object_id).await?;
        n_keys = (n_found == n_updated).then_some(n_found);
    }
    if plan.counts_left_alone() {
        connection.execute(sql::RESET_LEFT_ALONE).await?;
    }
    let (n_keys, n_written) = match n_keys {
        // All were there and changed: nothing is left to insert.
        Some(n_keys) => (n_keys, n_keys),
        None => merge_counts(connection, plan, &plan.upsert(), object_id).await?,
    };
    let gave_way =
        if plan.newer_is_absent() { gave_way_before } else { count_gave_way(&mut *connection, plan).await? };
    let left_out = match plan.table.may_drop_rows {
        // What was neither written nor left as it is a trigger has left out, of new rows and of changes.
        true if plan.counts_left_alone() => {
            let n_left_alone: i64 = sqlx::query_scalar(sql::LEFT_ALONE).fetch_one(connection).await?;
            n_keys - (n_written + n_left_alone).min(n_keys)
        }
        true => {
            let n_present: i64 = sqlx::query_scalar(&plan.count_present()).fetch_one(connection).await?;
            n_keys - n_present.max(n_written).min(n_keys)
        }
        false => 0,
    };
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok(Written { n_standing: count(n_keys - gave_way - left_out), n_left_out: count(left_out) })
}

/// Returns how many distinct keys a merge found staged, and how many rows it wrote.
async fn merge_counts(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    sql: &str,
    object_id: i64,
) -> Result<(i64, i64), LoadError> {
    let query = sqlx::query_as(sql);
    let query = if plan.table.lineage_object { query.bind(object_id) } else { query };
    Ok(query.fetch_one(connection).await?)
}

async fn count_gave_way(connection: &mut PgConnection, plan: &LoadPlan<'_>) -> Result<i64, LoadError> {
    match plan.count_gave_way() {
        Some(sql) => Ok(sqlx::query_scalar(&sql).fetch_one(connection).await?),
        None => Ok(0),
    }
}
