//! One column chunk's bytes, fetched some way ahead of the pages that are asked for.

use super::{
    object::Object,
    thrift::{PageSizes, page_sizes},
};
use crate::decode::DecodeError;
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use parquet::{
    basic::Compression,
    errors::{ParquetError, Result},
    file::{
        metadata::ColumnChunkMetaData,
        reader::{ChunkReader, Length},
    },
};
use std::{
    io::{self, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A page that takes more when decompressed is refused; writers aim for one mebibyte.
const MAX_PAGE_BYTES: u64 = 128 * 1024 * 1024;
/// What is in view when a page header is read; longer headers are refused.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// What deflate can make of one byte.
const MAX_DEFLATE_RATIO: u64 = 1032;

/// A column chunk as the page reader sees it: offsets are the file's.
pub struct ChunkBytes {
    shared: Arc<Shared>,
}

struct Shared {
    object: Arc<Object>,
    end: u64,
    read_ahead_bytes: usize,
    codec: Compression,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Offset of the first byte of `bytes`.
    start: u64,
    bytes: Bytes,
    /// From the last page header.
    page: PageSizes,
}

impl ChunkBytes {
    /// Returns the bytes of `chunk`, nothing of them fetched yet.
    pub fn new(object: Arc<Object>, chunk: &ColumnChunkMetaData, read_ahead_bytes: usize) -> Result<Self> {
        let (start, length) = chunk.byte_range();
        let end = start.checked_add(length).filter(|&end| end <= object.size());
        let end = end.ok_or_else(|| ParquetError::EOF("column chunk is beyond the file's end".into()))?;
        let codec = chunk.compression();
        Ok(Self { shared: Arc::new(Shared { object, end, read_ahead_bytes, codec, state: Mutex::default() }) })
    }
}

impl Length for ChunkBytes {
    fn len(&self) -> u64 {
        self.shared.object.size()
    }
}

impl ChunkReader for ChunkBytes {
    type T = HeaderBytes;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let bytes = self.shared.view(&mut self.shared.state(), start, MAX_HEADER_BYTES)?;
        // The library asks for this also when it has the page's header already, and then does not read.
        Ok(HeaderBytes { bytes, unchecked: Some(Arc::clone(&self.shared)) })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut state = self.shared.state();
        let bytes = self.shared.view(&mut state, start, length)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF("page is beyond its column chunk's end".into()));
        }
        let data = bytes.slice(..length);
        self.shared.check_expansion(&data, state.page)?;
        Ok(data)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the bytes in view from `start` on, `length` at least unless the chunk ends before.
    fn view(&self, state: &mut State, start: u64, length: usize) -> Result<Bytes> {
        let left = self.end.saturating_sub(start);
        let length = left.min(length as u64) as usize;
        let skipped = start.checked_sub(state.start).and_then(|skipped| usize::try_from(skipped).ok());
        let head = match skipped {
            Some(skipped) if skipped <= state.bytes.len() => state.bytes.slice(skipped..),
            _ => Bytes::new(),
        };
        if head.len() >= length {
            return Ok(head);
        }
        let wanted = left.min(length.max(self.read_ahead_bytes) as u64) as usize;
        let tail = self.object.read_at(start + head.len() as u64, wanted - head.len())?;
        let bytes = if head.is_empty() {
            tail
        } else {
            let mut joined = BytesMut::with_capacity(wanted);
            joined.extend_from_slice(&head);
            joined.extend_from_slice(&tail);
            joined.freeze()
        };
        state.start = start;
        state.bytes = bytes.clone();
        Ok(bytes)
    }

    /// Looks at a page's header before the library reserves memory by it.
    fn check_header(&self, view: &[u8]) -> Result<(), DecodeError> {
        let page =
            page_sizes(view).map_err(|problem| DecodeError::Corrupt(format!("Parquet page header: {problem}")))?;
        if page.uncompressed.max(page.compressed) > MAX_PAGE_BYTES {
            let problem = format!("Parquet page of {} bytes, {MAX_PAGE_BYTES} are allowed", page.uncompressed);
            return Err(DecodeError::Limits(problem));
        }
        self.state().page = page;
        Ok(())
    }

    /// Refuses a page that decompresses to more than its header says, where the library would not look.
    fn check_expansion(&self, data: &[u8], page: PageSizes) -> Result<()> {
        if !matches!(self.codec, Compression::GZIP(_)) || data.len() as u64 * MAX_DEFLATE_RATIO <= MAX_PAGE_BYTES {
            return Ok(());
        }
        let mut decoder = MultiGzDecoder::new(data).take(page.uncompressed + 1);
        // Errors come up again when the page is read.
        let length = io::copy(&mut decoder, &mut io::sink()).unwrap_or(0);
        if length > page.uncompressed {
            return Err(ParquetError::General("page is longer than its header says".into()));
        }
        Ok(())
    }
}

/// The bytes from a page header on.
pub struct HeaderBytes {
    bytes: Bytes,
    unchecked: Option<Arc<Shared>>,
}

impl Read for HeaderBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(shared) = self.unchecked.take()
            && let Err(error) = shared.check_header(&self.bytes)
        {
            shared.object.note(io::Error::other(error));
            return Err(io::ErrorKind::InvalidData.into());
        }
        let n = self.bytes.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.bytes.split_to(n));
        Ok(n)
    }
}
