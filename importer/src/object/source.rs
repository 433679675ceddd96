//! The bridge from a store's async bodies to the decoder's blocking reads.

use super::{Body, ObjectInfo, ObjectStore, ReadTarget, StoreError};
use bytes::{Buf, Bytes, BytesMut};
use decode::{Reading, Source, SourceError};
use futures_util::StreamExt;
use parking_lot::Mutex;
use service::words::chain;
use std::{collections::VecDeque, io, ops::Range, sync::Arc, time::Duration};
use tokio::{runtime::Handle, sync::mpsc, time::Instant};

/// Chunks between the network and the decoder; with the SDK's chunks of at most 128 KiB
/// about 2 MiB an object. Fewer starve the decoder, more only cost memory.
const READ_AHEAD_CHUNKS: usize = 16;
/// Requests at once for an object that is streamed in parts, as
/// [S3's guidelines](https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-guidelines.html) advise.
const PARTS_AT_ONCE: u64 = 4;
/// Smaller parts are mostly waiting for an answer.
const MIN_PART_BYTES: u64 = 512 * 1024;
/// Chunks of a part that may wait: more than there are, for a part is no larger than its share.
const PART_CHUNKS: usize = 1 << 16;
/// Reads of one place that bring nothing before the object counts as out of reach.
const MAX_FRUITLESS_READS: u32 = 5;
/// How long reads of one place may bring nothing: a body that falls silent and one more try.
/// Longer keeps a slot waiting for a store that is gone.
const MAX_FRUITLESS: Duration = Duration::from_secs(40);

/// An object of a store as a [`Source`]: the length is always checked, and a body that breaks is
/// resumed by range, under the same version or If-Match.
///
/// Its methods block: call them from a blocking thread only.
pub struct RemoteSource {
    store: Arc<dyn ObjectStore>,
    target: ReadTarget,
    /// What the store said of the object.
    pub info: ObjectInfo,
    runtime: Handle,
    /// The body that came with the first GET, for the first call of `stream`.
    opened: Mutex<Option<Body>>,
    /// Bytes to read ahead in parts; 0 for one request after the other.
    ahead_bytes: u64,
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
        Ok(Self { store, target, info, runtime: Handle::current(), opened: Mutex::new(opened), ahead_bytes: 0 })
    }

    /// Lets a stream that does not come with the first GET read this many bytes ahead, by several requests at once, if
    /// the object is longer than that and a part is worth a request.
    #[must_use]
    pub fn reading_ahead(mut self, bytes: u64) -> Self {
        self.ahead_bytes = bytes;
        self
    }

    /// Returns whether an object of `size` bytes is better opened by HEAD, to be streamed in parts.
    #[must_use]
    pub fn is_read_in_parts(size: u64, ahead_bytes: u64) -> bool {
        size > ahead_bytes && ahead_bytes >= PARTS_AT_ONCE * MIN_PART_BYTES
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
        let first = self.opened.lock().take();
        let (sender, receiver) = mpsc::channel(READ_AHEAD_CHUNKS);
        let (store, target, size) = (Arc::clone(&self.store), self.target.clone(), self.info.size);
        if first.is_none() && Self::is_read_in_parts(size, self.ahead_bytes) {
            self.runtime.spawn(pump_parts(store, target, size, self.ahead_bytes / PARTS_AT_ONCE, sender));
        } else {
            self.runtime.spawn(pump(store, target, 0..size, first, sender));
        }
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

/// Sends the bytes of the whole object in order, asking for [`PARTS_AT_ONCE`] parts of it at a time.
///
/// A part is fetched to its end whether or not it is its turn, so what is in memory is bounded by their number.
async fn pump_parts(
    store: Arc<dyn ObjectStore>,
    target: ReadTarget,
    size: u64,
    part_bytes: u64,
    sender: mpsc::Sender<Result<Bytes, StoreError>>,
) {
    let mut parts = VecDeque::new();
    let mut asked = 0;
    loop {
        while asked < size && (parts.len() as u64) < PARTS_AT_ONCE {
            let part: Range<u64> = asked..size.min(asked + part_bytes);
            let (part_sender, part_receiver) = mpsc::channel(PART_CHUNKS);
            tokio::spawn(pump(Arc::clone(&store), target.clone(), part.clone(), None, part_sender));
            parts.push_back((part.end - part.start, part_receiver));
            asked = part.end;
        }
        let Some((mut missing, mut part)) = parts.pop_front() else { return };
        while let Some(chunk) = part.recv().await {
            missing = missing.saturating_sub(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
            let is_last = chunk.is_err();
            if sender.send(chunk).await.is_err() || is_last {
                return;
            }
        }
        // Its task is gone: the reader finds its stream too short.
        if missing > 0 {
            return;
        }
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
    let mut progress_at = Instant::now();
    loop {
        if range.is_empty() {
            return;
        }
        let body = match opened.take() {
            Some(body) => Ok(body),
            None => store.get(&target, Some(range.clone())).await,
        };
        let broke_off = match body {
            // What If-Match should have said, of a store that does not know it.
            Ok(body) if !is_of(&body.info, &target) => {
                let _ = sender.send(Err(StoreError::Changed)).await;
                return;
            }
            Ok(mut body) => loop {
                match body.chunks.next().await {
                    Some(Ok(chunk)) => {
                        let len = chunk.len() as u64;
                        if len > range.end - range.start {
                            break wrong_length(format!("the body of {target} is longer than announced"));
                        }
                        range.start += len;
                        fruitless_reads = 0;
                        if sender.send(Ok(chunk)).await.is_err() || range.is_empty() {
                            return;
                        }
                        // From here on: until now the reader may have been the slow one.
                        progress_at = Instant::now();
                    }
                    Some(Err(error)) => break StoreError::Transient(error),
                    None => {
                        let missing = range.end - range.start;
                        break wrong_length(format!("the body of {target} ended {missing} bytes early"));
                    }
                }
            },
            Err(error @ StoreError::Transient(_)) => error,
            Err(error) => {
                let _ = sender.send(Err(error)).await;
                return;
            }
        };
        fruitless_reads += 1;
        if fruitless_reads >= MAX_FRUITLESS_READS || progress_at.elapsed() >= MAX_FRUITLESS {
            let _ = sender.send(Err(broke_off)).await;
            return;
        }
        tracing::debug!(error = chain(&anyhow::Error::new(broke_off)), offset = range.start, "resuming a broken body");
        tokio::time::sleep(Duration::from_millis(50 << fruitless_reads)).await;
    }
}

/// The store has answered, each time, and wrongly: that is no outage of the way, and may never pass.
pub(crate) fn wrong_length(message: String) -> StoreError {
    StoreError::Refused { code: "WrongLength".into(), message }
}

/// Returns whether an answer is of the version that is being read.
fn is_of(info: &ObjectInfo, target: &ReadTarget) -> bool {
    let same_version = match (&info.version_id, &target.version_id) {
        (Some(answered), Some(asked)) => answered == asked,
        _ => true,
    };
    same_version && target.etag.as_ref().is_none_or(|etag| *etag == info.etag)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Listed, memory::MemoryStore};
    use futures_util::{future::BoxFuture, stream::BoxStream};
    use std::io::Read as _;

    const AHEAD: u64 = 4 * MIN_PART_BYTES;

    /// A store that notes which ranges it was asked for.
    #[derive(Default)]
    struct Noting {
        store: MemoryStore,
        ranges: Mutex<Vec<Option<Range<u64>>>>,
        /// Whether bodies end before they begin.
        is_empty: bool,
        /// Whether If-Match means nothing to it.
        ignores_etags: bool,
    }

    impl Noting {
        fn ranges(&self) -> Vec<Option<Range<u64>>> {
            self.ranges.lock().clone()
        }
    }

    impl ObjectStore for Noting {
        fn head<'a>(&'a self, target: &'a ReadTarget) -> BoxFuture<'a, Result<ObjectInfo, StoreError>> {
            self.store.head(target)
        }

        fn get<'a>(
            &'a self,
            target: &'a ReadTarget,
            range: Option<Range<u64>>,
        ) -> BoxFuture<'a, Result<Body, StoreError>> {
            self.ranges.lock().push(range.clone());
            let mut asked = target.clone();
            asked.etag = asked.etag.filter(|_| !self.ignores_etags);
            let is_empty = self.is_empty;
            Box::pin(async move {
                let body = self.store.get(&asked, range).await?;
                Ok(if is_empty { Body { chunks: futures_util::stream::empty().boxed(), ..body } } else { body })
            })
        }

        fn list<'a>(&'a self, bucket: &'a str, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
            self.store.list(bucket, prefix)
        }
    }

    fn bytes(n: u64) -> Vec<u8> {
        (0..n).map(|i| (i % 251) as u8).collect()
    }

    /// A store with one object of `n` bytes, and that object opened for streaming.
    async fn opened(n: u64) -> (Arc<Noting>, RemoteSource) {
        let store = Arc::new(Noting::default());
        store.store.put("b", "k", bytes(n), chrono::Utc::now());
        let target = ReadTarget { bucket: "b".into(), key: "k".into(), version_id: None, etag: None };
        let shared: Arc<dyn ObjectStore> = store.clone();
        let source = RemoteSource::open(shared, target, false).await.expect("it is there");
        (store, source.reading_ahead(AHEAD))
    }

    /// Reads the whole of it.
    async fn read(source: &RemoteSource) -> io::Result<Vec<u8>> {
        let mut stream = source.stream().expect("a stream");
        let reading = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).map(|_| all)
        });
        reading.await.expect("no panic")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_large_object_comes_in_parts_and_in_order() {
        let n = AHEAD + MIN_PART_BYTES / 2;
        let (store, source) = opened(n).await;
        assert_eq!(read(&source).await.expect("a good store"), bytes(n));
        let mut ranges: Vec<_> = store.ranges().into_iter().flatten().collect();
        ranges.sort_by_key(|range| range.start);
        let part = |i: u64| i * MIN_PART_BYTES..n.min((i + 1) * MIN_PART_BYTES);
        assert_eq!(ranges, (0..5).map(part).collect::<Vec<_>>());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_body_that_ends_early_every_time_is_the_stores_word_and_no_outage() {
        let (mut store, _) = opened(10).await;
        Arc::get_mut(&mut store).expect("the source is gone").is_empty = true;
        let target = ReadTarget { bucket: "b".into(), key: "k".into(), version_id: None, etag: None };
        let source = RemoteSource::open(store, target, false).await.expect("it is there");
        let error = read(&source).await.expect_err("nothing comes");
        let error = error.into_inner().expect("ours").downcast::<SourceError>().expect("of the source");
        let error = error.0.downcast::<StoreError>().expect("of the store");
        assert!(matches!(&error, StoreError::Refused { code, .. } if code == "WrongLength"), "{error}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_version_is_not_read_on_though_the_store_ignores_if_match() {
        let (mut store, _) = opened(10).await;
        Arc::get_mut(&mut store).expect("the source is gone").ignores_etags = true;
        let target = ReadTarget { bucket: "b".into(), key: "k".into(), version_id: None, etag: None };
        let source = RemoteSource::open(store.clone(), target, false).await.expect("it is there");
        store.store.put("b", "k", vec![0; 10], chrono::Utc::now());
        let error = read(&source).await.expect_err("other bytes");
        let carried = error.into_inner().expect("ours").downcast::<SourceError>().expect("of the source");
        assert!(matches!(carried.0.downcast_ref(), Some(StoreError::Changed)), "{carried}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_fits_the_bytes_ahead_is_one_request() {
        let (store, source) = opened(AHEAD).await;
        assert_eq!(read(&source).await.expect("a good store"), bytes(AHEAD));
        assert_eq!(store.ranges(), [Some(0..AHEAD)]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_is_asked_for_than_may_be_read_ahead() {
        let (store, source) = opened(3 * AHEAD).await;
        let mut stream = source.stream().expect("a stream");
        let mut first = [0; 1];
        let stream = tokio::task::spawn_blocking(move || stream.read_exact(&mut first).map(|()| stream));
        let _unread = stream.await.expect("no panic").expect("a good store");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(store.ranges().len() as u64, PARTS_AT_ONCE);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn parts_that_break_off_are_resumed_and_never_mixed_with_another_version() {
        let n = AHEAD + MIN_PART_BYTES / 2;
        let (store, source) = opened(n).await;
        store.store.cut_next_bodies(vec![1000, 0, 500_000]);
        assert_eq!(read(&source).await.expect("it can be resumed"), bytes(n));
        store.store.put("b", "k", bytes(n + 1), chrono::Utc::now());
        let error = read(&source).await.expect_err("other bytes");
        let carried = error.get_ref().and_then(|carried| carried.downcast_ref::<SourceError>());
        let said = carried.and_then(|SourceError(said)| said.downcast_ref::<StoreError>());
        assert!(matches!(said, Some(StoreError::Changed)), "{carried:?}");
    }
}
