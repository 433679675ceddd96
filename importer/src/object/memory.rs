//! The in-memory twin of an object store, for unit tests.

use super::{Body, Listed, ObjectInfo, ObjectStore, ReadTarget, StoreError};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Bucket and key → bytes and when they were put.
type Objects = BTreeMap<(String, String), (Bytes, DateTime<Utc>)>;

/// [`ObjectStore`] in memory, unversioned; can be told to cut bodies short.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<Objects>,
    cuts: Mutex<Vec<usize>>,
}

impl MemoryStore {
    /// Puts an object, replacing what was there.
    pub fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>, last_modified: DateTime<Utc>) {
        let mut objects = self.objects.lock();
        objects.insert((bucket.to_owned(), key.to_owned()), (bytes.into(), last_modified));
    }

    /// Makes the next bodies end, seemingly clean, after this many bytes each (the last entry first).
    pub fn cut_next_bodies(&self, after_bytes: Vec<usize>) {
        *self.cuts.lock() = after_bytes;
    }

    fn find(&self, target: &ReadTarget) -> Result<(ObjectInfo, Bytes), StoreError> {
        let objects = self.objects.lock();
        let (bytes, last_modified) =
            objects.get(&(target.bucket.clone(), target.key.clone())).ok_or(StoreError::Missing)?;
        let etag = hex::encode(Sha256::digest(bytes));
        if target.etag.as_ref().is_some_and(|wanted| *wanted != etag) {
            return Err(StoreError::Changed);
        }
        let info = ObjectInfo { version_id: None, etag, size: bytes.len() as u64, last_modified: Some(*last_modified) };
        Ok((info, bytes.clone()))
    }
}

impl ObjectStore for MemoryStore {
    fn head<'a>(&'a self, target: &'a ReadTarget) -> BoxFuture<'a, Result<ObjectInfo, StoreError>> {
        let found = self.find(target).map(|(info, _)| info);
        Box::pin(async move { found })
    }

    fn get<'a>(
        &'a self,
        target: &'a ReadTarget,
        range: Option<std::ops::Range<u64>>,
    ) -> BoxFuture<'a, Result<Body, StoreError>> {
        let found = self.find(target).map(|(info, bytes)| {
            let range = range.unwrap_or(0..info.size);
            let mut bytes = bytes.slice(range.start as usize..range.end as usize);
            if let Some(cut) = self.cuts.lock().pop() {
                bytes.truncate(cut);
            }
            let chunks: Vec<_> = bytes.chunks(7).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
            Body { info, chunks: stream::iter(chunks).boxed() }
        });
        Box::pin(async move { found })
    }

    fn list<'a>(&'a self, bucket: &'a str, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        let objects = self.objects.lock();
        let listed: Vec<_> = objects
            .iter()
            .filter(|((b, k), _)| b == bucket && k.starts_with(prefix))
            .map(|((_, key), (bytes, last_modified))| {
                Ok(Listed {
                    key: key.clone(),
                    etag: hex::encode(Sha256::digest(bytes)),
                    size: bytes.len() as u64,
                    last_modified: Some(*last_modified),
                })
            })
            .collect();
        stream::iter(listed).boxed()
    }
}
