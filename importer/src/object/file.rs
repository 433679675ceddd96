//! Local files as objects: bucket `file`, key the absolute path, ETag the SHA-256.

use super::{Body, Listed, ObjectInfo, ObjectStore, ReadTarget, StoreError};
use anyhow::Context;
use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io::{ErrorKind, Read, Seek, SeekFrom},
    sync::Arc,
    time::SystemTime,
};

/// Bytes a read of a file asks for at once.
const READ_BYTES: usize = 256 * 1024;

/// [`ObjectStore`] over local files.
///
/// A digest is taken once and holds while length and modification time stay as they were.
#[derive(Debug, Clone, Default)]
pub struct FileStore {
    digests: Arc<Mutex<HashMap<String, Digested>>>,
}

#[derive(Debug, Clone)]
struct Digested {
    size: u64,
    modified: SystemTime,
    etag: String,
}

impl FileStore {
    fn info(&self, path: &str) -> Result<ObjectInfo, StoreError> {
        let metadata = std::fs::metadata(path).map_err(|error| file_error(error, path))?;
        if !metadata.is_file() {
            return Err(StoreError::Missing);
        }
        let modified = modified(&metadata);
        let known = self.digests.lock().get(path).cloned();
        let etag = match known {
            Some(known) if known.size == metadata.len() && known.modified == modified => known.etag,
            _ => {
                let etag = digest(path).map_err(|error| file_error(error, path))?;
                let digested = Digested { size: metadata.len(), modified, etag: etag.clone() };
                self.digests.lock().insert(path.to_owned(), digested);
                etag
            }
        };
        Ok(ObjectInfo {
            version_id: None,
            etag,
            size: metadata.len(),
            // As the ledger keeps it, or no sighting would equal the one before.
            last_modified: Some(DateTime::<Utc>::from(modified).trunc_subsecs(6)),
        })
    }

    fn open(&self, target: &ReadTarget, range: Option<std::ops::Range<u64>>) -> Result<(ObjectInfo, Open), StoreError> {
        let info = self.info(&target.key)?;
        if target.etag.as_ref().is_some_and(|etag| *etag != info.etag) {
            return Err(StoreError::Changed);
        }
        let range = range.unwrap_or(0..info.size);
        let mut file = File::open(&target.key).map_err(|error| file_error(error, &target.key))?;
        file.seek(SeekFrom::Start(range.start)).map_err(|error| file_error(error, &target.key))?;
        Ok((info, Open { file, remaining: range.end.saturating_sub(range.start) }))
    }
}

struct Open {
    file: File,
    remaining: u64,
}

impl Open {
    fn read(&mut self) -> std::io::Result<Bytes> {
        let wanted = usize::try_from(self.remaining).unwrap_or(READ_BYTES).min(READ_BYTES);
        let mut buffer = vec![0; wanted];
        let n = self.file.read(&mut buffer)?;
        buffer.truncate(n);
        self.remaining -= n as u64;
        Ok(buffer.into())
    }
}

impl ObjectStore for FileStore {
    fn head<'a>(&'a self, target: &'a ReadTarget) -> BoxFuture<'a, Result<ObjectInfo, StoreError>> {
        let (store, target) = (self.clone(), target.clone());
        Box::pin(blocking(move || {
            let info = store.info(&target.key)?;
            if target.etag.is_some_and(|etag| etag != info.etag) { Err(StoreError::Changed) } else { Ok(info) }
        }))
    }

    fn get<'a>(
        &'a self,
        target: &'a ReadTarget,
        range: Option<std::ops::Range<u64>>,
    ) -> BoxFuture<'a, Result<Body, StoreError>> {
        let (store, target) = (self.clone(), target.clone());
        Box::pin(async move {
            let (info, open) = blocking(move || store.open(&target, range)).await?;
            let chunks = stream::unfold(Some(open), |open| async move {
                let mut open = open.filter(|open| open.remaining > 0)?;
                let read = tokio::task::spawn_blocking(move || (open.read().context("read file"), open)).await;
                match read {
                    Ok((Ok(chunk), _)) if chunk.is_empty() => None,
                    Ok((Ok(chunk), open)) => Some((Ok(chunk), Some(open))),
                    Ok((Err(error), _)) => Some((Err(error), None)),
                    Err(error) => Some((Err(error.into()), None)),
                }
            });
            Ok(Body { info, chunks: chunks.boxed() })
        })
    }

    fn list<'a>(&'a self, _bucket: &'a str, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        let listed = self.info(prefix).map(|info| Listed {
            key: prefix.to_owned(),
            etag: info.etag,
            size: info.size,
            last_modified: info.last_modified,
        });
        stream::iter([listed]).boxed()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(StoreError::Transient(error.into())))
}

fn modified(metadata: &Metadata) -> SystemTime {
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn digest(path: &str) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut sha = Sha256::new();
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(READ_BYTES);
    let mut buffer = vec![0; size.clamp(1, READ_BYTES)];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hex::encode(sha.finalize()));
        }
        sha.update(&buffer[..n]);
    }
}

fn file_error(error: std::io::Error, path: &str) -> StoreError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => StoreError::Missing,
        ErrorKind::PermissionDenied => StoreError::AccessDenied(format!("{path}: {error}")),
        _ if may_pass(&error) => StoreError::Transient(anyhow::Error::new(error).context(format!("read {path}"))),
        kind => StoreError::Refused { code: kind.to_string(), message: format!("{path}: {error}") },
    }
}

/// Returns whether an error is of the machine's or the network's moment rather than of the file.
fn may_pass(error: &std::io::Error) -> bool {
    use ErrorKind::{
        Interrupted, NetworkDown, NetworkUnreachable, OutOfMemory, ResourceBusy, StaleNetworkFileHandle, TimedOut,
        WouldBlock,
    };
    /// Too many open files, of the system and of the process.
    const OPEN_FILES: [i32; 2] = [23, 24];
    let kinds = [
        Interrupted,
        NetworkDown,
        NetworkUnreachable,
        OutOfMemory,
        ResourceBusy,
        StaleNetworkFileHandle,
        TimedOut,
        WouldBlock,
    ];
    kinds.contains(&error.kind()) || error.raw_os_error().is_some_and(|code| OPEN_FILES.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_pass_is_waited_for() {
        let sorted = |code| file_error(std::io::Error::from_raw_os_error(code), "a");
        // Interrupted, too many open files, stale handle.
        for code in [4, 24, 116] {
            assert!(matches!(sorted(code), StoreError::Transient(_)), "{code}");
        }
        // I/O error, is a directory, no such device, too many links.
        for code in [5, 21, 6, 40] {
            assert!(matches!(sorted(code), StoreError::Refused { .. }), "{code}");
        }
    }

    #[test]
    fn a_file_is_as_old_as_the_ledger_can_say() {
        let directory = std::env::temp_dir().join(format!("penstock-file-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory for temporary files");
        let path = directory.join("a");
        let file = File::create(&path).expect("a new file");
        let nanoseconds = std::time::Duration::new(1_700_000_000, 123_456_789);
        file.set_modified(SystemTime::UNIX_EPOCH + nanoseconds).expect("our own file");
        let info = FileStore::default().info(path.to_str().expect("UTF-8")).expect("a file");
        let said = info.last_modified.expect("files have one");
        assert_eq!(said.timestamp_nanos_opt(), Some(1_700_000_000_123_456_000));
        std::fs::remove_dir_all(&directory).expect("our own directory");
    }
}
