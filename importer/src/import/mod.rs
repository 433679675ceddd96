//! The path of one object into one dataset, from a routed record to an outcome.
//!
//! Each state is a type whose method leads to the next: a [`Routed`] record becomes a [`version::Version`] (which
//! version of the object is meant), [`begin::Begun`] (the attempt stands in the ledger) and [`Settled`]. What cannot
//! be settled now comes back as [`Held`]: the caller keeps the message and attempts the [`Job`] again.

mod begin;
mod due;
mod entries;
mod exit;
mod failure;
mod group;
mod job;
mod read;
mod remove;
mod retry;
mod session;
mod settled;
mod store;
pub mod tags;
mod unread;
mod version;

pub use due::Foreign;
pub use group::{GROUP_OBJECTS, may_share};
pub use job::{Job, MISSING_PAUSE};
pub use settled::{Held, Settled};

use crate::{
    config::{Config, Limits, Unrouted},
    dataset::Dataset,
    load::{self, DryRun, Session, Sessions, Target, catalog::TableError},
    memory::Memory,
    message::ObjectPointer,
    object::{ObjectStore, RemoteSource},
    outcome::Outside,
    route::{Route, Routed, Router},
};
use decode::budget::Pool;
use std::sync::Arc;
use store::UnwatchedStore;
use tokio::sync::Semaphore;

/// More than this does not arrive any sooner.
const MAX_AHEAD_BYTES: usize = 32 * 1024 * 1024;

/// Everything an import needs besides the record.
pub struct Importer {
    /// Where objects go.
    pub router: Arc<Router>,
    unrouted: Unrouted,
    limits: Limits,
    store: Arc<dyn ObjectStore>,
    worker_id: String,
    queue_url: Option<String>,
    sessions: Sessions,
    /// Sessions in use at once: one a slot, and one for the object more or for the ledger's notes. With the
    /// heartbeat's that is `concurrency` + 2.
    in_use: Arc<Semaphore>,
    /// Objects, other than those loaded together, whose rows are written into tables at once.
    writing: Arc<Semaphore>,
    memory: Memory,
    /// Memory beyond the slots' shares.
    pool: Pool,
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
        let memory = Memory::of(&config.worker);
        Ok(Self {
            router: Arc::new(Router::new(&config)?),
            unrouted: config.worker.unrouted,
            limits: config.limits,
            store: Arc::new(UnwatchedStore(store)),
            worker_id,
            queue_url,
            sessions,
            in_use: Arc::new(Semaphore::new(config.worker.concurrency.max(1) as usize + 1)),
            writing: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            memory,
            pool: memory.pool(),
        })
    }

    /// Lets no more than `n` objects at once write their rows into tables; others that were started are read and decoded,
    /// or staged, meanwhile. Objects that are loaded together do not count.
    #[must_use]
    pub fn writing_at_once(mut self, n: usize) -> Self {
        self.writing = Arc::new(Semaphore::new(n.max(1)));
        self
    }

    /// Makes two importers over the same sessions one in their datasets and what they may do at once.
    #[must_use]
    pub fn sharing_with(mut self, other: &Self) -> Self {
        self.router = Arc::clone(&other.router);
        self.in_use = Arc::clone(&other.in_use);
        self.writing = Arc::clone(&other.writing);
        self.pool = other.pool.clone();
        self
    }

    /// Settles a routed record: the outcome is in the ledger when this returns `Ok`.
    /// Failures are left for [`Self::record_failure`], after they were forwarded.
    ///
    /// # Errors
    /// [`Held`] when something outside is broken; call again later.
    pub async fn import(&self, routed: &Routed, message_id: Option<&str>) -> Result<Settled, Held> {
        let mut job = Job::new(self, routed, message_id);
        match job.attempt().await {
            Err(held) if held.outside == Outside::Missing => {
                tokio::time::sleep(MISSING_PAUSE).await;
                job.attempt().await
            }
            result => result,
        }
    }

    /// Decodes an object and reports, writing nothing.
    ///
    /// # Errors
    /// Why the object, its dataset or its table cannot be read.
    pub async fn dry_run(&self, routed: &Routed) -> anyhow::Result<DryRun> {
        let pointer = &routed.record.pointer;
        let to = match &routed.route {
            Route::Dataset(to) => to,
            Route::Skip => return Ok(DryRun::default()),
            Route::Unrouted | Route::NoSuchDataset(_) => anyhow::bail!("no dataset matches"),
        };
        let mut session = self.session().await.map_err(|held| held.error)?;
        let target = self.target(&mut session, &to.dataset).await?;
        self.sessions.give_back(session);
        let read = version::read_target(pointer);
        let source =
            RemoteSource::open(Arc::clone(&self.store), read.clone(), to.dataset.is_streamed(&pointer.key)).await?;
        Ok(load::dry_run(&target, &to.captures, Arc::new(source), &read).await?)
    }

    /// Returns the dataset's target, from the catalog when it was not asked lately.
    async fn target(&self, session: &mut Session, dataset: &Dataset) -> Result<Arc<Target>, TableError> {
        if let Some(known) = dataset.known_target() {
            return Ok(known);
        }
        let mut read = dataset.config.read_options(&self.limits, self.memory.buffers());
        read.limits.set_budget(self.memory.budget(&self.pool));
        let before = dataset.last_target();
        let target = Target::resolve(&mut session.connection, &dataset.config, read, before.as_deref()).await?;
        let target = Arc::new(target);
        dataset.remember_target(Arc::clone(&target));
        Ok(target)
    }

    /// Returns how many bytes of an object may be read ahead in parts; none of a file, which is near.
    fn ahead_bytes(&self, pointer: &ObjectPointer) -> u64 {
        if pointer.is_local() { 0 } else { self.memory.ahead().min(MAX_AHEAD_BYTES) as u64 }
    }
}
