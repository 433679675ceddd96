//! The bridge from a store's async bodies to the decoder's blocking reads.

use super::{Body, ObjectInfo, ObjectStore, ReadTarget, StoreError};
use crate::decode::{Reading, Source, SourceError};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{runtime::Handle, sync::mpsc};

/// Chunks between the network and the decoder; with the SDK's chunks of at most 128 KiB
/// about 2 MiB an object. Fewer starve the decoder, more only cost memory.
const READ_AHEAD_CHUNKS: usize = 16;
/// Reads of one place that bring nothing before the object counts as out of reach.
const MAX_FRUITLESS_READS: u32 = 5;

/// An object of a store as a [`Source`]: the length is always checked, and a body that breaks is
/// resumed by range, under the same version or If-Match.
///
/// Its methods block: call them from a blocking thread only.
pub struct RemoteSource {
    store: Arc<dyn ObjectStore>,
    target: ReadTarget,
    info: ObjectInfo,
    runtime: Handle,
    /// The body that came with the first GET, for the first call of `stream`.
    opened: Mutex<Option<Body>>,
}

impl RemoteSource {
    /// Opens the object: by GET when it will be streamed, by HEAD when it will be read at places.
    ///
    /// # Errors
    /// As [`ObjectStore::get`] and [`ObjectStore::head`].
    pub async fn open(store: Arc<dyn ObjectStore>, mut target: ReadTarget, streamed: bool) -> Result<Self, StoreError> {
        let (info, opened) = if streamed {
            let body = store.get(&target, None).await?;
            (body.info.clone(), Some(body))
        } else {
            (store.head(&target).await?, None)
        };
        let named_other = target.version_id.is_none() && target.etag.as_ref().is_some_and(|etag| *etag != info.etag);
        if named_other {
            return Err(StoreError::Changed);
        }
        // Everything read from here on is of one version, whatever is put meanwhile.
        target.version_id = target.version_id.or_else(|| info.version_id.clone());
        target.etag = Some(info.etag.clone());
        Ok(Self { store, target, info, runtime: Handle::current(), opened: Mutex::new(opened) })
    }

    /// Returns what the store said of the version being read.
    #[must_use]
    pub fn info(&self) -> &ObjectInfo {
        &self.info
    }
}

impl Source for RemoteSource {
    fn size(&self) -> u64 {
        self.info.size
    }

    fn name(&self) -> &str {
        &self.target.key
    }

    fn stream(&self) -> io::Result<Box<dyn io::Read + Send>> {
        let first = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (sender, receiver) = mpsc::channel(READ_AHEAD_CHUNKS);
        let range = 0..self.info.size;
        self.runtime.spawn(pump(Arc::clone(&self.store), self.target.clone(), range, first, sender));
        Ok(Box::new(ChannelReader { receiver, current: Bytes::new(), remaining: self.info.size }))
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.start_read(offset, len)()
    }

    fn start_read(&self, offset: u64, len: usize) -> Reading {
        let end = offset.saturating_add(len as u64);
        if end > self.info.size {
            let problem = format!("read of {len} bytes at {offset} is past the object's end at {}", self.info.size);
            return Box::new(|| Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem)));
        }
        let (sender, mut receiver) = mpsc::channel(READ_AHEAD_CHUNKS);
        self.runtime.spawn(pump(Arc::clone(&self.store), self.target.clone(), offset..end, None, sender));
        Box::new(move || {
            let mut bytes = BytesMut::with_capacity(len);
            while let Some(chunk) = receiver.blocking_recv() {
                bytes.extend_from_slice(&chunk.map_err(source_error)?);
            }
            if bytes.len() != len {
                return Err(source_error(StoreError::Transient(anyhow::anyhow!("reading was broken off"))));
            }
            Ok(bytes.freeze())
        })
    }
}

/// Sends the bytes of `range` until all are sent, the reader goes away or the store gives up.
async fn pump(
    store: Arc<dyn ObjectStore>,
    target: ReadTarget,
    mut range: std::ops::Range<u64>,
    mut opened: Option<Body>,
    sender: mpsc::Sender<Result<Bytes, StoreError>>,
) {
    let mut fruitless_reads = 0;
    loop {
        if range.is_empty() {
            return;
        }
        let body = match opened.take() {
            Some(body) => Ok(body),
            None => store.get(&target, Some(range.clone())).await,
        };
        let broke_off = match body {
            Ok(mut body) => loop {
                match body.chunks.next().await {
                    Some(Ok(chunk)) => {
                        let len = chunk.len() as u64;
                        if len > range.end - range.start {
                            break anyhow::anyhow!("body of {target} is longer than announced");
                        }
                        range.start += len;
                        fruitless_reads = 0;
                        if sender.send(Ok(chunk)).await.is_err() || range.is_empty() {
                            return;
                        }
                    }
                    Some(Err(error)) => break error,
                    None => break anyhow::anyhow!("body of {target} ended {} bytes early", range.end - range.start),
                }
            },
            Err(StoreError::Transient(error)) => error,
            Err(error) => {
                let _ = sender.send(Err(error)).await;
                return;
            }
        };
        fruitless_reads += 1;
        if fruitless_reads >= MAX_FRUITLESS_READS {
            let _ = sender.send(Err(StoreError::Transient(broke_off))).await;
            return;
        }
        tracing::debug!(error = format!("{broke_off:#}"), offset = range.start, "resuming a broken body");
        tokio::time::sleep(Duration::from_millis(50 << fruitless_reads)).await;
    }
}

fn source_error(error: StoreError) -> io::Error {
    io::Error::other(SourceError(error.into()))
}

/// Blocking reads from the pump's channel.
struct ChannelReader {
    receiver: mpsc::Receiver<Result<Bytes, StoreError>>,
    current: Bytes,
    /// Bytes the channel has yet to bring; the end counts as one only when none are left.
    remaining: u64,
}

impl io::Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(chunk)) => {
                    self.remaining = self.remaining.saturating_sub(chunk.len() as u64);
                    self.current = chunk;
                }
                Some(Err(error)) => return Err(source_error(error)),
                None if self.remaining == 0 => return Ok(0),
                None => return Err(source_error(StoreError::Transient(anyhow::anyhow!("reading was broken off")))),
            }
        }
        let n = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..n]);
        Ok(n)
    }
}
