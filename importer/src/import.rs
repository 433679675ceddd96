//! One object's way from a record of a message to an outcome.
//!
//! Route, identify, ask the ledger, record the attempt, open, load. What cannot be settled now comes
//! back as [`Held`]; whoever called keeps the message and calls again.

mod group;

pub use group::log_together;

use crate::{
    config::{Config, Unrouted},
    ledger::{self, Attempt, Candidate, Ended, HeadKey, Recorded, State, Verdict},
    load::{
        self, Load, Loaded, Removal, Session, Sessions, Target, Writing,
        liveness::{self, elsewhere},
        technique::Recent,
    },
    memory::Memory,
    message::{ObjectPointer, Record, RecordKind},
    object::{Body, Listed, ObjectInfo, ObjectStore, ReadTarget, RemoteSource, StoreError, wrong_length},
    order::{Identity, Stamp, order, same_version},
    outcome::{self, Failure, Outcome, Outside, Reason, Sorted},
    route::{Captures, Route, Router},
    worker::Class,
};
use decode::Format;
use decode::budget::Pool;
use futures_util::{future::BoxFuture, stream::BoxStream};
use std::{
    cmp::Ordering,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use tracing::{debug, info, instrument, warn};

/// How long the catalog's description of a table is trusted, unless a load finds it wrong.
const TARGET_TTL: Duration = Duration::from_secs(10);
/// Pause before what failed for a reason that nobody foresaw is tried again; longer after each try.
const ODD_PAUSE: Duration = Duration::from_millis(500);
/// Pause before an object that was not there is looked for again.
pub const MISSING_PAUSE: Duration = Duration::from_secs(2);
/// Times an object may turn out overwritten between looking and reading before it is held.
const MAX_CHANGES: usize = 5;
/// More than this does not arrive any sooner.
const MAX_AHEAD_BYTES: usize = 32 * 1024 * 1024;

/// Small objects that share a transaction at most. Measured: 50 bring nine tenths of what any number brings, and more
/// would wait longer for their commit.
pub const GROUP_OBJECTS: usize = 50;
/// Objects up to this many bytes are loaded together with others.
/// Larger ones are worth a transaction of their own, and would make the others wait.
const GROUP_OBJECT_BYTES: u64 = 256 * 1024;

/// Everything an import needs besides the record.
pub struct Importer {
    config: Config,
    router: Router,
    store: Arc<dyn ObjectStore>,
    sessions: Sessions,
    worker_id: String,
    queue_url: Option<String>,
    /// Sessions in use at once: one a slot, and one for the object more or for the ledger's notes. With the
    /// heartbeat's that is `concurrency` + 2.
    in_use: Arc<Semaphore>,
    /// Objects, other than those loaded together, whose rows are written into tables at once.
    writing: Arc<Semaphore>,
    targets: Mutex<Vec<Option<Resolved>>>,
    /// What happened last, by dataset.
    recent: Vec<Recent>,
    memory: Memory,
    /// Memory beyond the slots' shares.
    pool: Pool,
}

/// A dataset's target and when the catalog was asked for it.
type Resolved = (Instant, Arc<Target>);

/// An import that has to wait.
#[derive(Debug)]
pub struct Held {
    /// What is broken.
    pub outside: Outside,
    /// Why.
    pub error: anyhow::Error,
}

/// How a record was settled.
#[derive(Debug)]
pub struct Settled {
    /// What became of the object.
    pub outcome: Outcome,
    /// The ledger's row, where there is one.
    pub object_id: Option<i64>,
    /// The dataset, where one took it.
    pub dataset: Option<String>,
    /// This message's failure was forwarded before; it only needs deleting.
    pub already_forwarded: bool,
    /// Length of the object where it was read, in bytes.
    pub bytes: u64,
    /// How its rows were written, where they were.
    pub technique: &'static str,
}

impl Settled {
    /// Returns whether it failed for a cause that may not be its own.
    #[must_use]
    pub fn may_be_braked(&self) -> bool {
        !self.already_forwarded
            && matches!(&self.outcome, Outcome::Failed(failure) if failure.scope != outcome::Scope::Object)
    }
}

impl Importer {
    /// Returns an importer.
    ///
    /// # Errors
    /// When a pattern of the configuration cannot be compiled.
    pub fn new(
        config: Config,
        store: Arc<dyn ObjectStore>,
        sessions: Sessions,
        worker_id: String,
        queue_url: Option<String>,
    ) -> anyhow::Result<Self> {
        let router = Router::new(&config)?;
        let targets = Mutex::new(vec![None; config.datasets.len()]);
        let recent = config.datasets.iter().map(|_| Recent::default()).collect();
        let in_use = Arc::new(Semaphore::new(config.worker.concurrency.max(1) as usize + 1));
        let memory = Memory::of(&config.worker);
        Ok(Self {
            memory,
            pool: memory.pool(),
            config,
            router,
            store: Arc::new(Elsewhere(store)),
            sessions,
            worker_id,
            queue_url,
            in_use,
            writing: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            targets,
            recent,
        })
    }

    /// Lets no more than `n` objects at once write their rows into tables; others that were begun are read and decoded,
    /// or staged, meanwhile. Objects that are loaded together do not count.
    #[must_use]
    pub fn writing_at_once(mut self, n: usize) -> Self {
        self.writing = Arc::new(Semaphore::new(n.max(1)));
        self
    }

    /// Makes two importers over the same sessions one in what they may do at once.
    #[must_use]
    pub fn sharing_with(mut self, other: &Self) -> Self {
        self.in_use = Arc::clone(&other.in_use);
        self.writing = Arc::clone(&other.writing);
        self.pool = other.pool.clone();
        self
    }

    /// Settles one record: the outcome is in the ledger when this returns `Ok`.
    /// Failures are left for [`Self::record_failure`], after they were forwarded.
    ///
    /// # Errors
    /// [`Held`] when something outside is broken; call again later.
    pub async fn import(
        &self,
        record: &Record,
        dataset: Option<usize>,
        message_id: Option<&str>,
    ) -> Result<Settled, Held> {
        match self.look(record, dataset, message_id, false).await {
            Err(held) if held.outside == Outside::Missing => {
                tokio::time::sleep(MISSING_PAUSE).await;
                self.look(record, dataset, message_id, true).await
            }
            result => result,
        }
    }

    /// Does what [`Self::import`] does, but comes back with [`Outside::Missing`] when the object is not there, so that
    /// nobody waits with a slot: call again after [`MISSING_PAUSE`], with `missed`.
    ///
    /// # Errors
    /// As [`Self::import`].
    #[instrument(name = "import", skip_all, fields(s3.bucket = record.pointer.bucket, s3.key = record.pointer.key))]
    pub async fn look(
        &self,
        record: &Record,
        dataset: Option<usize>,
        message_id: Option<&str>,
        missed: bool,
    ) -> Result<Settled, Held> {
        let started = Instant::now();
        let _in_use = self.in_use.acquire().await;
        let mut session = self.session().await?;
        let job = Job { importer: self, record, message_id, started, missed };
        let whereabouts = session.whereabouts();
        let work = job.run(&mut session, dataset);
        let result = self.sessions.watched("an import", whereabouts, work).await.unwrap_or_else(given_up);
        match result {
            Ok(settled) => {
                self.sessions.give_back(session);
                // A worker may hold what fails for a cause that may not be its own, and says itself what became of it.
                if message_id.is_none() || !settled.may_be_braked() {
                    log_outcome(&settled, started);
                }
                Ok(settled)
            }
            Err(held) if held.outside == Outside::Missing => {
                self.sessions.give_back(session);
                Err(held)
            }
            Err(held) if held.error.is::<Unstorable>() => {
                drop(session);
                // There is no row of the ledger for it, and cannot be.
                let outcome = Outcome::Failed(Failure::new(Reason::Encoding, held.error.to_string()));
                let dataset = dataset.map(|index| self.config.datasets[index].name.clone());
                let settled =
                    Settled { outcome, object_id: None, dataset, already_forwarded: false, bytes: 0, technique: "" };
                log_outcome(&settled, started);
                Ok(settled)
            }
            Err(held) => {
                // The session may be in the middle of anything: it is dropped.
                drop(session);
                self.after_holding(&held).await;
                Err(held)
            }
        }
    }

    /// Records a failure, after it was forwarded as part of message `message_id` (none: there was nowhere to forward to).
    ///
    /// # Errors
    /// [`Held`] when the ledger cannot be written.
    pub async fn record_failure(&self, object_id: i64, failure: &Failure, forwarded: Option<&str>) -> Result<(), Held> {
        self.record(State::Failed, object_id, failure, forwarded).await
    }

    /// Records that an object failed and is held to be tried again.
    ///
    /// # Errors
    /// [`Held`] when the ledger cannot be written.
    pub async fn record_retry(&self, object_id: i64, failure: &Failure) -> Result<(), Held> {
        self.record(State::Retrying, object_id, failure, None).await
    }

    async fn record(
        &self,
        state: State,
        object_id: i64,
        failure: &Failure,
        forwarded: Option<&str>,
    ) -> Result<(), Held> {
        let _in_use = self.in_use.acquire().await;
        let mut session = self.session().await?;
        let whereabouts = session.whereabouts();
        let work = async {
            let recorded = record_end(&mut session, state, object_id, failure.reason, &failure.error, forwarded).await;
            match recorded {
                // Its own words, perhaps with a foreign name in them.
                Err(held) if held.error.is::<Unstorable>() => {
                    let error = failure.error.replace(|c: char| !c.is_ascii(), "?");
                    record_end(&mut session, state, object_id, failure.reason, &error, forwarded).await
                }
                recorded => recorded,
            }
        };
        self.sessions.watched("a failure's record", whereabouts, work).await.unwrap_or_else(given_up)?;
        self.sessions.give_back(session);
        Ok(())
    }

    /// Decodes an object and reports, writing nothing.
    ///
    /// # Errors
    /// Why the object, its dataset or its table cannot be read.
    pub async fn dry_run(&self, pointer: &ObjectPointer, dataset: Option<usize>) -> anyhow::Result<load::DryRun> {
        let (index, captures) = match dataset {
            Some(index) => (index, self.router.captures_for(index, &pointer.bucket, &pointer.key)),
            None => match self.router.route(&pointer.bucket, &pointer.key) {
                Route::Dataset { index, captures } => (index, captures),
                Route::Skip => return Ok(load::DryRun::default()),
                Route::Unrouted => anyhow::bail!("no dataset matches"),
            },
        };
        let mut session = self.session().await.map_err(|held| held.error)?;
        let target = self.target(&mut session, index).await?;
        self.sessions.give_back(session);
        let read = read_target(pointer);
        let source = RemoteSource::open(Arc::clone(&self.store), read, !pointer.key.ends_with(".parquet")).await?;
        Ok(load::dry_run(&target, &captures, Arc::new(source)).await?)
    }

    /// Returns whose turn a record waits for: its dataset's, and in it that of the directory it lies in.
    #[must_use]
    pub fn class(&self, record: &Record) -> Class {
        let ObjectPointer { bucket, key, .. } = &record.pointer;
        let dataset = match self.router.route(bucket, key) {
            Route::Dataset { index, .. } => Some(index),
            Route::Skip | Route::Unrouted => None,
        };
        let directory = key.rsplit_once('/').map_or("", |(directory, _)| directory);
        Class { dataset, prefix: format!("{bucket}/{directory}") }
    }

    /// Returns a dataset's name; empty for what no dataset takes.
    #[must_use]
    pub fn dataset_name(&self, dataset: Option<usize>) -> &str {
        dataset.and_then(|index| self.config.datasets.get(index)).map_or("", |dataset| &dataset.name)
    }

    /// Returns whether a skip rule matches the key.
    #[must_use]
    pub fn skips(&self, key: &str) -> bool {
        self.router.skips(key)
    }

    /// Returns a session: an idle one, else a new one.
    async fn session(&self) -> Result<Session, Held> {
        self.sessions.lend().await.map_err(|error| Held { outside: Outside::Postgres, error })
    }

    /// Does what makes the next try likelier to go through.
    async fn after_holding(&self, held: &Held) {
        match held.outside {
            // Connections break together: those that are idle would fail one by one.
            Outside::Postgres => self.sessions.close_idle(),
            Outside::Contention => {
                let Ok(mut session) = self.session().await else { return };
                let whereabouts = session.whereabouts();
                let work = async {
                    ledger::workers::end_stopped_backends(&mut session.connection).await.map_err(anyhow::Error::from)
                };
                let ended = self.sessions.watched("a look for stopped workers", whereabouts, work).await;
                match ended.unwrap_or_else(|error| Err(error.into())) {
                    Ok(0) => self.sessions.give_back(session),
                    Ok(n) => {
                        warn!(backends = n, "ended backends of workers that stopped beating while they held locks");
                        self.sessions.give_back(session);
                    }
                    Err(error) => debug!(error = format!("{error:#}"), "could not end backends of stopped workers"),
                }
            }
            Outside::Statement | Outside::Store | Outside::Missing => {}
        }
    }

    /// Returns the dataset's target, from the catalog when it was not asked lately.
    async fn target(&self, session: &mut Session, index: usize) -> Result<Arc<Target>, load::catalog::TableError> {
        let known = self.targets.lock().unwrap_or_else(PoisonError::into_inner)[index].clone();
        if let Some((_, target)) = known.filter(|(read_at, _)| read_at.elapsed() < TARGET_TTL) {
            return Ok(target);
        }
        let dataset = &self.config.datasets[index];
        let mut read = dataset.read_options(&self.config.limits, self.memory.buffers());
        read.limits.set_budget(self.memory.budget(&self.pool));
        let target = Arc::new(Target::resolve(&mut session.connection, dataset, read).await?);
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)[index] =
            Some((Instant::now(), Arc::clone(&target)));
        Ok(target)
    }

    /// Returns how many bytes of an object may be read ahead in parts; none of a file, which is near.
    fn ahead_bytes(&self, pointer: &ObjectPointer) -> u64 {
        if pointer.is_local() { 0 } else { self.memory.ahead().min(MAX_AHEAD_BYTES) as u64 }
    }

    fn forget_target(&self, index: usize) {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)[index] = None;
    }
}

/// Postgres did not answer: as good as out of reach.
fn given_up<T>(error: load::liveness::GivenUp) -> Result<T, Held> {
    Err(Held { outside: Outside::Postgres, error: error.into() })
}

/// A store whose answers are not waited for as Postgres's.
struct Elsewhere(Arc<dyn ObjectStore>);

impl ObjectStore for Elsewhere {
    fn head<'a>(&'a self, target: &'a ReadTarget) -> BoxFuture<'a, Result<ObjectInfo, StoreError>> {
        Box::pin(elsewhere(self.0.head(target)))
    }

    fn get<'a>(
        &'a self,
        target: &'a ReadTarget,
        range: Option<std::ops::Range<u64>>,
    ) -> BoxFuture<'a, Result<Body, StoreError>> {
        Box::pin(elsewhere(self.0.get(target, range)))
    }

    fn list<'a>(&'a self, bucket: &'a str, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        self.0.list(bucket, prefix)
    }
}

/// An attempt that was recorded, and whether a version of the object stood in the table before it.
struct Begun {
    recorded: Recorded,
    known: bool,
}

/// What the ledger says of a version before anything is locked.
enum AlreadyDone {
    /// It stands, and the sighting brings nothing new.
    Standing { head_id: i64, object_id: i64 },
    /// Neither it nor another version of the key was ever seen.
    Never,
    /// Anything else.
    Unclear,
}

/// One record being settled.
struct Job<'a> {
    importer: &'a Importer,
    record: &'a Record,
    message_id: Option<&'a str>,
    started: Instant,
    /// It was looked for before, and was not there.
    missed: bool,
}

/// Counts failures that nobody foresaw: they are tried again a few times, for they may pass.
#[derive(Default)]
struct Odd {
    n_seen: u32,
}

impl Odd {
    /// Returns, after a pause, whether to try again.
    async fn may_pass(&mut self, sorted: &Sorted) -> bool {
        if !matches!(sorted, Sorted::Failed(failure) if failure.reason == Reason::Internal) {
            return false;
        }
        self.again().await
    }

    /// As [`Self::may_pass`], of what is odd for certain.
    async fn again(&mut self) -> bool {
        self.n_seen += 1;
        let again = self.n_seen < outcome::ODD_TRIES;
        if again {
            elsewhere(tokio::time::sleep(ODD_PAUSE * self.n_seen)).await;
        }
        again
    }
}

/// How far a look at one version got.
enum Step {
    Settled(Settled),
    /// The object has other bytes by now: look at what is there.
    Changed,
    /// The version is the one the event means, and not in everything what the event says of it.
    Misnamed(ObjectInfo),
    Missing(Recorded),
    /// The attempt's entry was pruned before the import was over.
    Pruned,
}

impl Job<'_> {
    async fn run(&self, session: &mut Session, dataset: Option<usize>) -> Result<Settled, Held> {
        let pointer = &self.record.pointer;
        let removed = match &self.record.kind {
            RecordKind::Created => None,
            RecordKind::Removed { by_lifecycle: true, .. } | RecordKind::Other(_) => {
                return self.settle_unread(session, dataset, Outcome::Skipped("event"), true).await;
            }
            RecordKind::Removed { delete_marker, .. } => Some(*delete_marker),
            RecordKind::UnsupportedVersion(version) => {
                let failure =
                    Failure::new(Reason::UnsupportedEvent, format!("S3 event version {version} is not understood"));
                return self.settle_unread(session, dataset, Outcome::Failed(failure), true).await;
            }
        };
        let (index, captures) = match dataset {
            Some(index) => (index, self.importer.router.captures_for(index, &pointer.bucket, &pointer.key)),
            None => match self.importer.router.route(&pointer.bucket, &pointer.key) {
                Route::Dataset { index, captures } => (index, captures),
                Route::Skip => {
                    return self.settle_unread(session, None, Outcome::Skipped("name_rule"), removed.is_some()).await;
                }
                Route::Unrouted => {
                    let outcome = match self.importer.config.worker.unrouted {
                        Unrouted::Skip => Outcome::Skipped("unrouted"),
                        Unrouted::DeadLetter => {
                            Outcome::Failed(Failure::new(Reason::Unrouted, format!("no dataset matches {pointer}")))
                        }
                    };
                    return self.settle_unread(session, None, outcome, removed.is_some()).await;
                }
            },
        };
        match removed {
            Some(delete_marker) => self.remove(session, index, delete_marker).await,
            None => self.import(session, index, &captures).await,
        }
    }

    /// Imports the version the record names or, when it has been overwritten, what is there.
    async fn import(&self, session: &mut Session, index: usize, captures: &Captures) -> Result<Settled, Held> {
        let mut pointer = self.record.pointer.clone();
        for _ in 0..MAX_CHANGES {
            match self.import_version(session, index, captures, &pointer).await? {
                Step::Settled(settled) => return Ok(settled),
                // It is the version the event means, so the sequencer is its own.
                Step::Misnamed(info) => {
                    pointer = ObjectPointer {
                        version_id: info.version_id,
                        etag: Some(info.etag),
                        size: Some(info.size),
                        ..pointer
                    };
                }
                Step::Changed => {
                    // The event's sequencer belongs to bytes that are gone; the object as it is now stands on its own.
                    pointer = ObjectPointer::new(&pointer.bucket, &pointer.key);
                }
                // At once: the next look records the attempt anew.
                Step::Pruned => {}
                Step::Missing(recorded) => {
                    // Noted before the second look, which may find another version and be about that one only.
                    let settled = self.settle(session, index, recorded, Outcome::Gone).await?;
                    if self.missed {
                        return Ok(settled);
                    }
                    return Err(Held { outside: Outside::Missing, error: anyhow::anyhow!("{pointer} is not there") });
                }
            }
        }
        // Nothing is broken, so the others need not wait for it.
        Err(Held { outside: Outside::Contention, error: anyhow::anyhow!("{pointer} keeps changing while it is read") })
    }

    async fn import_version(
        &self,
        session: &mut Session,
        index: usize,
        captures: &Captures,
        pointer: &ObjectPointer,
    ) -> Result<Step, Held> {
        let (mut identity, mut stamp) = claimed(pointer);
        let mut read = read_target(pointer);
        let complete = identity.etag.is_some() && identity.size.is_some();
        if !complete {
            match self.importer.store.head(&read).await {
                Ok(info) if names(&identity, &info) => {
                    take_identity(&mut identity, &mut stamp, &info);
                    read.version_id = info.version_id;
                    read.etag = Some(info.etag);
                }
                Ok(_) => return self.without_identity(session, index, &identity, &stamp, StoreError::Changed).await,
                Err(error) => return self.without_identity(session, index, &identity, &stamp, error).await,
            }
        }
        let head = self.head_key(Some(index));
        let known =
            ledger::look_up(&mut session.connection, &head, &identity, false).await.map_err(held_by_database)?;
        if let Some(settled) = self.forwarded_before(index, &known) {
            return Ok(Step::Settled(settled));
        }
        let append = self.importer.config.datasets[index].mode == crate::config::Mode::Append;
        let candidate = Candidate {
            identity,
            stamp,
            force: self.record.force,
            appended_before: append && known.own.as_ref().is_some_and(|own| own.ever_imported),
        };
        // Leaving early needs no lock: a head only ever moves on to newer versions.
        match ledger::judge(known.standing.as_ref(), &candidate) {
            Verdict::AlreadyImported => {
                if let Some(settled) = self.seen_again(session, index, &known, &candidate).await? {
                    return Ok(Step::Settled(settled));
                }
            }
            Verdict::Superseded => {
                let recorded = self.begin(session, &head, &candidate, false).await?;
                return self.settle(session, index, recorded, Outcome::Superseded).await.map(Step::Settled);
            }
            Verdict::Write | Verdict::Tied => {}
        }
        let recorded = self.begin(session, &head, &candidate, false).await?;
        if candidate.identity.size == Some(0) {
            return self.settle(session, index, recorded, Outcome::Skipped("empty")).await.map(Step::Settled);
        }
        let known = known.standing.is_some_and(|standing| !standing.is_delete);
        self.read_and_load(session, index, captures, &read, candidate, Begun { recorded, known }).await
    }

    async fn read_and_load(
        &self,
        session: &mut Session,
        index: usize,
        captures: &Captures,
        read: &ReadTarget,
        mut candidate: Candidate,
        Begun { recorded, known }: Begun,
    ) -> Result<Step, Held> {
        let dataset = &self.importer.config.datasets[index];
        let ahead_bytes = self.importer.ahead_bytes(&self.record.pointer);
        let size = candidate.identity.size;
        let in_parts = size.is_some_and(|size| RemoteSource::is_read_in_parts(size, ahead_bytes));
        let streamed = dataset.format != Format::Parquet && !read.key.ends_with(".parquet") && !in_parts;
        let mut stale_catalog_once = true;
        let mut may_add_columns = true;
        let mut new_columns = Vec::new();
        let mut odd = Odd::default();
        loop {
            let target = match self.importer.target(session, index).await {
                Ok(target) if new_columns.is_empty() => target,
                Ok(target) => Arc::new(target.with_columns(&new_columns)),
                Err(error) => {
                    let sorted = outcome::sort_table_error(error);
                    if odd.may_pass(&sorted).await {
                        // This one may be in the middle of anything.
                        *session = self.importer.session().await?;
                        liveness::goes_on_with(session);
                        continue;
                    }
                    return self.sorted(session, index, recorded, sorted).await;
                }
            };
            let opened = RemoteSource::open(Arc::clone(&self.importer.store), read.clone(), streamed).await;
            let source = match opened {
                Ok(source) => source.reading_ahead(ahead_bytes),
                Err(error) => return self.sorted(session, index, recorded, outcome::sort_store_error(error)).await,
            };
            let info = source.info().clone();
            if candidate.identity.size.is_some_and(|size| size != info.size) {
                // Same version, other length: either the event is wrong, or this answer is and would leave rows out.
                let error = match self.importer.store.head(read).await {
                    Ok(head) if head.size == info.size => None,
                    Ok(_) if odd.again().await => continue,
                    Ok(head) => Some(wrong_length(format!(
                        "a body of {} bytes was announced for an object of {}",
                        info.size, head.size
                    ))),
                    Err(error) => Some(error),
                };
                if let Some(error) = error {
                    return self.sorted(session, index, recorded, outcome::sort_store_error(error)).await;
                }
            }
            if !names(&candidate.identity, &info) {
                return self.sorted(session, index, recorded, Sorted::Changed).await;
            }
            if contradicts(&candidate.identity, &info) {
                return self.misnamed(session, recorded, info).await;
            }
            take_identity(&mut candidate.identity, &mut candidate.stamp, &info);
            let request = Load {
                target: &target,
                captures,
                source: Arc::new(source),
                candidate: &candidate,
                store: &*self.importer.store,
                object: read,
                recorded,
                started: self.started,
                may_add_columns,
                new_columns: &new_columns,
                known,
                run_bytes: self.importer.memory.run(),
                digest_bytes: self.importer.memory.digests(),
                recent: &self.importer.recent[index],
                writing: Writing::new(&self.importer.writing),
            };
            let size = request.source.size();
            let loaded = load::load(session, &request).await;
            drop(request);
            let outcome = match loaded {
                Ok(Loaded::Imported(counts, technique)) => {
                    if !new_columns.is_empty() {
                        self.importer.forget_target(index);
                    }
                    let settled = self.settled(index, Some(recorded.object_id), Outcome::Imported(counts), false);
                    return Ok(Step::Settled(Settled { bytes: size, technique: technique.as_str(), ..settled }));
                }
                Ok(Loaded::Refused(Verdict::Superseded)) => Outcome::Superseded,
                Ok(Loaded::Changed) => return self.sorted(session, index, recorded, Sorted::Changed).await,
                Ok(Loaded::Refused(_)) => {
                    let known = ledger::look_up(
                        &mut session.connection,
                        &self.head_key(Some(index)),
                        &candidate.identity,
                        false,
                    )
                    .await
                    .map_err(held_by_database)?;
                    if let Some(settled) = self.seen_again(session, index, &known, &candidate).await? {
                        return Ok(Step::Settled(settled));
                    }
                    continue;
                }
                Ok(Loaded::NeedsColumns(fields)) => {
                    new_columns = fields;
                    may_add_columns = false;
                    continue;
                }
                Err(error) => {
                    let broken = matches!(
                        error,
                        load::LoadError::Database(_) | load::LoadError::Unstaged(_) | load::LoadError::Store(_)
                    );
                    let no_index = matches!(error, load::LoadError::NoUniqueIndex(_));
                    let pruned = matches!(&error, load::LoadError::Database(error) if outcome::is_pruned(error));
                    let sorted = outcome::sort_load_error(error);
                    if broken {
                        // The old session's transaction is over with its connection; a new one takes its place.
                        *session = self.importer.session().await?;
                        liveness::goes_on_with(session);
                    }
                    if pruned {
                        return Ok(Step::Pruned);
                    }
                    if (broken || no_index)
                        && stale_catalog_once
                        && matches!(&sorted, Sorted::Failed(f) if f.reason == Reason::Schema)
                    {
                        // The table may have changed since the catalog was read.
                        stale_catalog_once = false;
                        self.importer.forget_target(index);
                        continue;
                    }
                    if odd.may_pass(&sorted).await {
                        self.importer.forget_target(index);
                        continue;
                    }
                    return self.sorted(session, index, recorded, sorted).await;
                }
            };
            return self.settle(session, index, recorded, outcome).await.map(Step::Settled);
        }
    }

    /// Removes the key's rows, or says why not.
    async fn remove(&self, session: &mut Session, index: usize, delete_marker: bool) -> Result<Settled, Held> {
        let target = match self.importer.target(session, index).await {
            Ok(target) => target,
            Err(error) => {
                return match outcome::sort_table_error(error) {
                    Sorted::Failed(failure) => {
                        self.settle_unread(session, Some(index), Outcome::Failed(failure), true).await
                    }
                    Sorted::Hold(outside, error) => Err(Held { outside, error }),
                    Sorted::Missing | Sorted::Changed => unreachable!("tables are neither"),
                };
            }
        };
        if !target.remove_on_delete {
            return self.settle_unread(session, Some(index), Outcome::Skipped("event"), true).await;
        }
        let pointer = &self.record.pointer;
        let (identity, stamp) = identify(pointer);
        let candidate = Candidate { identity, stamp, force: false, appended_before: false };
        let recorded = self.begin(session, &self.head_key(Some(index)), &candidate, true).await?;
        let of_version = pointer.version_id.is_some() && !delete_marker;
        let request = load::Remove {
            store: &*self.importer.store,
            target: &target,
            read: &read_target(pointer),
            candidate: &candidate,
            recorded,
            of_version,
            started: self.started,
        };
        let mut odd = Odd::default();
        let outcome = loop {
            match load::remove(session, &request).await {
                Ok(Removal::Removed(n_rows)) => {
                    return Ok(self.settled(index, Some(recorded.object_id), Outcome::Removed(n_rows), false));
                }
                Ok(Removal::Superseded) => break Outcome::Superseded,
                Err(error) => {
                    let sorted = outcome::sort_remove_error(error);
                    if matches!(sorted, Sorted::Failed(_)) {
                        *session = self.importer.session().await?;
                        liveness::goes_on_with(session);
                    }
                    if odd.may_pass(&sorted).await {
                        continue;
                    }
                    match sorted {
                        Sorted::Failed(failure) => break Outcome::Failed(failure),
                        Sorted::Hold(outside, error) => return Err(Held { outside, error }),
                        Sorted::Missing | Sorted::Changed => unreachable!("a missing object is what a removal expects"),
                    }
                }
            }
        };
        self.settle(session, index, recorded, outcome).await
    }

    /// The store would not even say which version there is.
    async fn without_identity(
        &self,
        session: &mut Session,
        index: usize,
        identity: &Identity,
        stamp: &Stamp,
        error: StoreError,
    ) -> Result<Step, Held> {
        let sorted = outcome::sort_store_error(error);
        let head = self.head_key(Some(index));
        let known = ledger::look_up(&mut session.connection, &head, identity, false).await.map_err(held_by_database)?;
        if let Some(settled) = self.forwarded_before(index, &known) {
            return Ok(Step::Settled(settled));
        }
        let candidate =
            Candidate { identity: identity.clone(), stamp: stamp.clone(), force: false, appended_before: false };
        let recorded = self.begin(session, &head, &candidate, false).await?;
        self.sorted(session, index, recorded, sorted).await
    }

    /// Corrects what was recorded of a version by what the store says of it.
    async fn misnamed(&self, session: &mut Session, recorded: Recorded, info: ObjectInfo) -> Result<Step, Held> {
        let connection = &mut session.connection;
        let corrected = ledger::correct_identity(connection, recorded.object_id, &info.identity())
            .await
            .map_err(held_by_database)?;
        if !corrected {
            // The version has an entry of its own.
            let ended = ended(State::Superseded, Some("misnamed"), self.started);
            ledger::finish_otherwise(connection, recorded.object_id, &ended).await.map_err(held_by_database)?;
        }
        Ok(Step::Misnamed(info))
    }

    /// Notes another sighting of the version that stands; None when another one stands by now.
    async fn seen_again(
        &self,
        session: &mut Session,
        index: usize,
        known: &ledger::Known,
        candidate: &Candidate,
    ) -> Result<Option<Settled>, Held> {
        let (Some(head_id), Some(standing)) = (known.head_id, &known.standing) else {
            return Ok(None);
        };
        // Two rows may be sightings of one version, one with and one without its version id: the one that stands counts.
        let own_id = match &known.own {
            Some(own) if !same_version(&standing.identity, &candidate.identity) => {
                if order(&candidate.stamp, &standing.stamp) == Ordering::Equal {
                    // Appended before, and nothing says it is newer than the one that stands.
                    return Ok(Some(self.settled(index, Some(own.object_id), Outcome::AlreadyImported, false)));
                }
                own.object_id
            }
            _ => standing.object_id,
        };
        let noted =
            ledger::note_seen_again(&mut session.connection, head_id, standing.object_id, own_id, &candidate.stamp)
                .await
                .map_err(held_by_database)?;
        Ok(noted.then(|| self.settled(index, Some(own_id), Outcome::AlreadyImported, false)))
    }

    /// Returns how to settle a failure of this very message that the dead-letter queue has already.
    fn forwarded_before(&self, index: usize, known: &ledger::Known) -> Option<Settled> {
        let own = known.own.as_ref()?;
        if self.message_id.is_none() || own.forwarded_message_id.as_deref() != self.message_id {
            return None;
        }
        let failure = Failure::new(Reason::Forwarded, "forwarded to the dead-letter queue before");
        Some(self.settled(index, Some(own.object_id), Outcome::Failed(failure), true))
    }

    async fn begin(
        &self,
        session: &mut Session,
        head: &HeadKey,
        candidate: &Candidate,
        is_delete: bool,
    ) -> Result<Recorded, Held> {
        let attempt = Attempt {
            head,
            identity: &candidate.identity,
            stamp: &candidate.stamp,
            is_delete,
            worker: &self.importer.worker_id,
            queue_url: self.importer.queue_url.as_deref(),
            event_time: self.record.event_time,
        };
        ledger::begin(&mut session.connection, &attempt).await.map_err(held_by_database)
    }

    /// Carries out what a failure was sorted into.
    async fn sorted(
        &self,
        session: &mut Session,
        index: usize,
        recorded: Recorded,
        sorted: Sorted,
    ) -> Result<Step, Held> {
        match sorted {
            Sorted::Failed(failure) => {
                self.settle(session, index, recorded, Outcome::Failed(failure)).await.map(Step::Settled)
            }
            Sorted::Missing => Ok(Step::Missing(recorded)),
            Sorted::Changed => {
                let ended = ended(State::Superseded, Some("overwritten"), self.started);
                ledger::finish_otherwise(&mut session.connection, recorded.object_id, &ended)
                    .await
                    .map_err(held_by_database)?;
                Ok(Step::Changed)
            }
            Sorted::Hold(outside, error) => {
                let text = format!("{error:#}");
                let ended = Ended { error: Some(&text), ..ended(State::Retrying, None, self.started) };
                // For people only, so a ledger out of reach does not matter.
                if let Err(error) = ledger::finish_otherwise(&mut session.connection, recorded.object_id, &ended).await
                {
                    debug!(error = format!("{error:#}"), "could not record the retry");
                }
                Err(Held { outside, error })
            }
        }
    }

    /// Settles an object that is not read at all: skipped, unrouted, an event of another kind.
    async fn settle_unread(
        &self,
        session: &mut Session,
        index: Option<usize>,
        outcome: Outcome,
        is_event: bool,
    ) -> Result<Settled, Held> {
        let (identity, stamp) = identify(&self.record.pointer);
        let head = self.head_key(index);
        if let (Some(message_id), Outcome::Failed(_)) = (self.message_id, &outcome) {
            let known =
                ledger::look_up(&mut session.connection, &head, &identity, is_event).await.map_err(held_by_database)?;
            if let Some(own) = known.own.filter(|own| own.forwarded_message_id.as_deref() == Some(message_id)) {
                return Ok(Settled {
                    outcome,
                    object_id: Some(own.object_id),
                    dataset: Some(head.dataset),
                    already_forwarded: true,
                    bytes: 0,
                    technique: "",
                });
            }
        }
        let candidate = Candidate { identity, stamp, force: false, appended_before: false };
        let recorded = self.begin(session, &head, &candidate, is_event).await?;
        self.record_outcome(session, recorded, &outcome).await?;
        Ok(Settled {
            outcome,
            object_id: Some(recorded.object_id),
            dataset: Some(head.dataset).filter(|d| !d.is_empty()),
            already_forwarded: false,
            bytes: 0,
            technique: "",
        })
    }

    async fn settle(
        &self,
        session: &mut Session,
        index: usize,
        recorded: Recorded,
        outcome: Outcome,
    ) -> Result<Settled, Held> {
        self.record_outcome(session, recorded, &outcome).await?;
        Ok(self.settled(index, Some(recorded.object_id), outcome, false))
    }

    /// Writes an outcome other than imported into the ledger. Failures are written when they are forwarded.
    async fn record_outcome(&self, session: &mut Session, recorded: Recorded, outcome: &Outcome) -> Result<(), Held> {
        let (state, reason) = match outcome {
            Outcome::Superseded => (State::Superseded, None),
            Outcome::Skipped(reason) => (State::Skipped, Some(*reason)),
            Outcome::Gone => (State::Gone, None),
            Outcome::Imported(_) | Outcome::AlreadyImported | Outcome::Removed(_) | Outcome::Failed(_) => return Ok(()),
        };
        ledger::finish_otherwise(&mut session.connection, recorded.object_id, &ended(state, reason, self.started))
            .await
            .map_err(held_by_database)
    }

    fn settled(&self, index: usize, object_id: Option<i64>, outcome: Outcome, already_forwarded: bool) -> Settled {
        let dataset = Some(self.importer.config.datasets[index].name.clone());
        Settled { outcome, object_id, dataset, already_forwarded, bytes: 0, technique: "" }
    }

    fn head_key(&self, index: Option<usize>) -> HeadKey {
        HeadKey {
            dataset: index.map(|index| self.importer.config.datasets[index].name.clone()).unwrap_or_default(),
            bucket: self.record.pointer.bucket.clone(),
            key: self.record.pointer.key.clone(),
        }
    }
}

fn ended<'a>(state: State, reason: Option<&'a str>, started: Instant) -> Ended<'a> {
    Ended {
        state,
        reason,
        error: None,
        forwarded_message_id: None,
        duration_seconds: Some(started.elapsed().as_secs_f64()),
    }
}

fn identify(pointer: &ObjectPointer) -> (Identity, Stamp) {
    (
        Identity { version_id: pointer.version_id.clone(), etag: pointer.etag.clone(), size: pointer.size },
        Stamp { sequencer: pointer.sequencer.clone(), last_modified: None },
    )
}

fn read_target(pointer: &ObjectPointer) -> ReadTarget {
    ReadTarget {
        bucket: pointer.bucket.clone(),
        key: pointer.key.clone(),
        version_id: pointer.version_id.clone(),
        etag: pointer.etag.clone(),
    }
}

/// Returns what a pointer says of a version that is to be read. That it is empty is for the store to say.
fn claimed(pointer: &ObjectPointer) -> (Identity, Stamp) {
    let (mut identity, stamp) = identify(pointer);
    identity.size = identity.size.filter(|size| *size > 0);
    (identity, stamp)
}

/// Returns whether what is said of a version means the one the store answered with; otherwise that one is the
/// successor of the version that is meant.
fn names(said: &Identity, info: &ObjectInfo) -> bool {
    match (&said.version_id, &info.version_id, &said.etag, said.size) {
        (Some(said), Some(own), ..) => said == own,
        (_, _, Some(etag), _) if !info.etag.is_empty() => *etag == info.etag,
        (_, _, _, Some(size)) => size == info.size,
        _ => true,
    }
}

/// Returns whether anything that is said of a version is other than the store has it.
fn contradicts(said: &Identity, info: &ObjectInfo) -> bool {
    let other_etag = |etag: &String| !info.etag.is_empty() && *etag != info.etag;
    (said.version_id.is_some() && said.version_id != info.version_id)
        || said.etag.as_ref().is_some_and(other_etag)
        || said.size.is_some_and(|size| size != info.size)
}

/// Takes what the store says of the version that is read, whatever was said of it before: the ledger and the fence
/// go by what was read.
fn take_identity(identity: &mut Identity, stamp: &mut Stamp, info: &ObjectInfo) {
    let etag = identity.etag.take().filter(|_| info.etag.is_empty());
    *identity = info.identity();
    identity.etag = etag.or(identity.etag.take());
    stamp.last_modified = stamp.last_modified.or(info.last_modified);
}

async fn record_end(
    session: &mut Session,
    state: State,
    object_id: i64,
    reason: Reason,
    error: &str,
    forwarded: Option<&str>,
) -> Result<(), Held> {
    let ended = Ended {
        state,
        reason: Some(reason.as_str()),
        error: Some(error),
        forwarded_message_id: forwarded,
        duration_seconds: None,
    };
    ledger::finish_otherwise(&mut session.connection, object_id, &ended).await.map_err(held_by_database)
}

/// A name that the ledger cannot hold.
#[derive(Debug, thiserror::Error)]
#[error("the encoding of the database cannot hold the object's name")]
struct Unstorable;

fn held_by_database(error: sqlx::Error) -> Held {
    if ledger::lacks_characters(&error) {
        return Held { outside: Outside::Contention, error: Unstorable.into() };
    }
    match outcome::sort_database_error(error) {
        Sorted::Hold(outside, error) => Held { outside, error },
        // The ledger's own statements do not depend on the object, so whatever refuses them is broken outside.
        Sorted::Failed(failure) => Held { outside: Outside::Postgres, error: anyhow::anyhow!(failure.error) },
        Sorted::Missing | Sorted::Changed => unreachable!("databases are neither"),
    }
}

fn log_outcome(settled: &Settled, started: Instant) {
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let dataset = settled.dataset.as_deref().unwrap_or_default();
    match &settled.outcome {
        Outcome::Imported(counts) => info!(
            dataset,
            rows = counts.read,
            written = counts.written,
            merged = counts.merged,
            rejected = counts.rejected,
            duration_ms,
            "object imported"
        ),
        Outcome::AlreadyImported => info!(dataset, duration_ms, "object already imported"),
        Outcome::Superseded => info!(dataset, duration_ms, "object superseded by a newer version"),
        Outcome::Skipped(reason) => debug!(dataset, reason, "object skipped"),
        Outcome::Gone => info!(dataset, duration_ms, "object is gone"),
        Outcome::Removed(rows) => info!(dataset, rows, duration_ms, "object's rows removed"),
        Outcome::Failed(failure) => {
            warn!(dataset, reason = failure.reason.as_str(), error = failure.error, duration_ms, "object failed");
        }
    }
}
