//! An object store with versions, whose bodies can be held back.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{
    StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use importer::{
    message::ObjectPointer,
    object::{Body, Listed, ObjectInfo, ObjectStore, ReadTarget, StoreError},
};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Barrier, Semaphore};

/// The bucket of every object here.
pub const BUCKET: &str = "b";

/// Objects in memory. Like S3, it has every version of a versioned bucket and only the last one of another.
#[derive(Default)]
pub struct Shelf {
    state: Mutex<State>,
    versioned: bool,
}

#[derive(Default)]
struct State {
    versions: HashMap<String, Vec<Version>>,
    /// What the next body of a version waits for.
    waits: HashMap<String, Wait>,
    puts: u32,
}

#[derive(Clone)]
struct Version {
    info: ObjectInfo,
    bytes: Bytes,
    is_delete_marker: bool,
}

#[derive(Clone)]
enum Wait {
    Gate(Gate),
    Meeting(Arc<Barrier>),
}

/// Holds one body back.
#[derive(Clone)]
pub struct Gate {
    reached: Arc<Semaphore>,
    opened: Arc<Semaphore>,
}

impl Gate {
    /// Waits until somebody reads the object: its import has looked at the ledger and not yet at the fence.
    pub async fn reached(&self) {
        let reached = tokio::time::timeout(Duration::from_secs(30), self.reached.acquire()).await;
        reached.expect("nobody reads the object").expect("never closed").forget();
    }

    /// Lets the body through.
    pub fn open(&self) {
        self.opened.add_permits(1);
    }
}

impl Shelf {
    /// Returns a bucket with versions.
    pub fn versioned() -> Self {
        Self { versioned: true, ..Self::default() }
    }

    /// Puts an object at second 1,000 and returns what an event would say of it, without a sequencer.
    pub fn put(&self, key: &str, body: &str) -> ObjectPointer {
        self.put_at(key, body, 1000)
    }

    /// Puts an object at this second.
    pub fn put_at(&self, key: &str, body: &str, second: i64) -> ObjectPointer {
        let mut state = self.lock();
        state.puts += 1;
        let version_id = self.versioned.then(|| format!("v{}", state.puts));
        // What tells bodies apart in a test's expectations; of long ones a digest, since an ETag is short.
        let etag = match body.len() {
            0..1000 => format!("etag of {body}"),
            _ => {
                let mut hasher = DefaultHasher::new();
                body.hash(&mut hasher);
                format!("etag {:x}", hasher.finish())
            }
        };
        let info = ObjectInfo {
            version_id: version_id.clone(),
            etag: etag.clone(),
            size: body.len() as u64,
            last_modified: DateTime::<Utc>::from_timestamp(second, 0),
        };
        let versions = state.versions.entry(key.to_owned()).or_default();
        if !self.versioned {
            versions.clear();
        }
        let size = Some(info.size);
        versions.push(Version { info, bytes: Bytes::copy_from_slice(body.as_bytes()), is_delete_marker: false });
        ObjectPointer { version_id, etag: Some(etag), size, ..ObjectPointer::new(BUCKET, key) }
    }

    /// Removes an object: by a marker where there are versions.
    pub fn delete(&self, key: &str) {
        let mut state = self.lock();
        let versions = state.versions.entry(key.to_owned()).or_default();
        match versions.last().cloned().filter(|_| self.versioned) {
            Some(last) => versions.push(Version { is_delete_marker: true, ..last }),
            None => versions.clear(),
        }
    }

    /// Holds the next body of this version back.
    pub fn gate(&self, pointer: &ObjectPointer) -> Gate {
        let gate = Gate { reached: Arc::new(Semaphore::new(0)), opened: Arc::new(Semaphore::new(0)) };
        self.lock().waits.insert(wait_key(pointer), Wait::Gate(gate.clone()));
        gate
    }

    /// Lets the next bodies of these versions through together, when all are asked for.
    pub fn meet(&self, pointers: &[&ObjectPointer]) {
        let meeting = Arc::new(Barrier::new(pointers.len()));
        for pointer in pointers {
            self.lock().waits.insert(wait_key(pointer), Wait::Meeting(Arc::clone(&meeting)));
        }
    }

    /// As a HEAD: the ETag is not asked for.
    fn find(&self, target: &ReadTarget) -> Result<Version, StoreError> {
        let state = self.lock();
        let versions = state.versions.get(&target.key).ok_or(StoreError::Missing)?;
        let found = match &target.version_id {
            Some(id) if self.versioned => {
                versions.iter().find(|v| v.info.version_id.as_ref() == Some(id) && !v.is_delete_marker)
            }
            _ => versions.last().filter(|version| !version.is_delete_marker),
        };
        found.cloned().ok_or(StoreError::Missing)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait_key(pointer: &ObjectPointer) -> String {
    format!("{} {:?}", pointer.key, pointer.etag)
}

impl ObjectStore for Shelf {
    fn head<'a>(&'a self, target: &'a ReadTarget) -> BoxFuture<'a, Result<ObjectInfo, StoreError>> {
        let found = self.find(target).map(|version| version.info);
        Box::pin(async move { found })
    }

    fn get<'a>(
        &'a self,
        target: &'a ReadTarget,
        range: Option<std::ops::Range<u64>>,
    ) -> BoxFuture<'a, Result<Body, StoreError>> {
        let overwritten = |version: &Version| {
            let asked = target.etag.as_ref().filter(|_| !self.versioned || target.version_id.is_none());
            asked.is_some_and(|etag| *etag != version.info.etag)
        };
        let found = self.find(target).and_then(|version| match overwritten(&version) {
            true => Err(StoreError::Changed),
            false => Ok(version),
        });
        Box::pin(async move {
            let Version { info, bytes, .. } = found?;
            let wait_key =
                wait_key(&ObjectPointer { etag: Some(info.etag.clone()), ..ObjectPointer::new("", &target.key) });
            let wait = self.lock().waits.remove(&wait_key);
            let range = range.unwrap_or(0..info.size);
            let part = bytes.slice(usize::try_from(range.start).unwrap_or(0)..usize::try_from(range.end).unwrap_or(0));
            let body = async move {
                match wait {
                    Some(Wait::Gate(gate)) => {
                        gate.reached.add_permits(1);
                        gate.opened.acquire().await?.forget();
                    }
                    Some(Wait::Meeting(meeting)) => {
                        meeting.wait().await;
                    }
                    None => {}
                }
                Ok(part)
            };
            Ok(Body { info, chunks: stream::once(body).boxed() })
        })
    }

    fn list<'a>(&'a self, _bucket: &'a str, _prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        stream::empty().boxed()
    }
}
