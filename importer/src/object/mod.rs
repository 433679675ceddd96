//! Objects: what the importer asks of a store, and how an object's bytes reach the decoder.

pub mod file;
pub mod memory;
pub mod s3;
mod source;

pub use source::RemoteSource;
pub(crate) use source::wrong_length;

use crate::{message::ObjectPointer, order::Identity};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{future::BoxFuture, stream::BoxStream};

/// A store of objects. S3, local files and the in-memory twin keep the same contract.
pub trait ObjectStore: Send + Sync {
    /// Returns what the store says of the object: the version named, else the current one.
    fn head<'a>(&'a self, target: &'a ReadTarget) -> BoxFuture<'a, Result<ObjectInfo, StoreError>>;

    /// Opens the object for reading, whole or from `range.start` up to but not including `range.end`.
    ///
    /// The bytes are those of the version named (`version_id`, else `etag` by If-Match);
    /// when the object has other bytes by now, [`StoreError::Changed`].
    fn get<'a>(
        &'a self,
        target: &'a ReadTarget,
        range: Option<std::ops::Range<u64>>,
    ) -> BoxFuture<'a, Result<Body, StoreError>>;

    /// Lists the current objects under a prefix, in key order, page by page.
    fn list<'a>(&'a self, bucket: &'a str, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>>;
}

/// Which bytes to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadTarget {
    /// Bucket.
    pub bucket: String,
    /// Key, decoded.
    pub key: String,
    /// Read this very version.
    pub version_id: Option<String>,
    /// Without a version id: read only while the object has this ETag (unquoted).
    pub etag: Option<String>,
}

impl std::fmt::Display for ReadTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// What a store says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Version id, where the bucket is versioned (`null` counts as none).
    pub version_id: Option<String>,
    /// ETag, unquoted.
    pub etag: String,
    /// Length in bytes.
    pub size: u64,
    /// When the version was written, to the second.
    pub last_modified: Option<DateTime<Utc>>,
}

impl ObjectInfo {
    /// Returns which version this is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { version_id: self.version_id.clone(), etag: Some(self.etag.clone()), size: Some(self.size) }
    }
}

/// An open object.
pub struct Body {
    /// What came with the answer; `size` is the whole object's, also for a range.
    pub info: ObjectInfo,
    /// The bytes asked for; may end early, the reader counts.
    pub chunks: BoxStream<'static, anyhow::Result<Bytes>>,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Key.
    pub key: String,
    /// ETag, unquoted.
    pub etag: String,
    /// Length in bytes.
    pub size: u64,
    /// When it was written.
    pub last_modified: Option<DateTime<Utc>>,
}

impl Listed {
    /// Returns what names this version of the object.
    #[must_use]
    pub fn pointer(self, bucket: &str) -> ObjectPointer {
        ObjectPointer { etag: Some(self.etag), size: Some(self.size), ..ObjectPointer::new(bucket, self.key) }
    }
}

/// Why a store did not answer with the object. The variants are what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such key or version.
    #[error("object does not exist")]
    Missing,
    /// No such bucket.
    #[error("bucket does not exist")]
    NoBucket,
    /// The object is there with other bytes than those asked for.
    #[error("object has changed since the event")]
    Changed,
    /// Access is denied for this object.
    #[error("access denied: {0}")]
    AccessDenied(String),
    /// The object is in an archive and must be restored first.
    #[error("object is archived")]
    Archived,
    /// The store refuses this object, in its own words, and asking again would not help.
    #[error("object store refused the request: {code}: {message}")]
    Refused {
        /// The service's code, or what stands for it.
        code: String,
        /// The service's words.
        message: String,
    },
    /// The store cannot answer now: outage, throttling, credentials. Only what is known to pass.
    #[error("object store is not answering")]
    Transient(#[source] anyhow::Error),
}
