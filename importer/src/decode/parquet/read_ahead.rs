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
pub const MAX_PAGE_BYTES: u64 = 128 * 1024 * 1024;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::trial::Memory;
    use parquet::schema::{parser::parse_message_type, types::SchemaDescriptor};
    use std::{io::Write as _, sync::atomic::Ordering::Relaxed};

    #[test]
    fn a_gzip_page_that_holds_more_than_its_header_says_is_refused_before_it_is_unpacked() {
        let noise = (0..300_000u64)
            .map(|i| (i.wrapping_mul(i).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8)
            .collect::<Vec<_>>();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&noise).expect("memory");
        let data = encoder.finish().expect("memory");
        assert!(data.len() as u64 * MAX_DEFLATE_RATIO > MAX_PAGE_BYTES, "shorter pages are not looked at");
        for (stated, fits) in [(noise.len(), true), (noise.len() - 1, false)] {
            let header = header(stated, data.len());
            let (_, chunk) = chunk([&header[..], &data].concat(), Compression::GZIP(Default::default()), 1 << 20);
            assert_eq!(chunk.get_read(0).expect("a header").read(&mut [0]).expect("a header"), 1);
            assert_eq!(chunk.get_bytes(header.len() as u64, data.len()).is_ok(), fits);
        }
    }

    #[test]
    fn a_page_too_large_for_memory_is_a_limit_and_one_beyond_the_chunk_is_corrupt() {
        let (object, chunk) = chunk(header(1 << 30, 10), Compression::SNAPPY, 1 << 20);
        assert!(chunk.get_read(0).expect("a header").read(&mut [0]).is_err());
        let error = object.explain(&ParquetError::General("broken".into()));
        assert!(matches!(error, DecodeError::Limits(_)), "{error}");
        assert!(chunk.get_bytes(0, 1 << 20).is_err());
    }

    #[test]
    fn bytes_are_right_however_they_are_asked_for() {
        let content: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
        let memory = Arc::new(Memory::new(content.clone()));
        let object = Arc::new(Object::open(Arc::clone(&memory) as Arc<dyn crate::decode::Source>).expect("an object"));
        let chunk = chunk_of(&object, Compression::SNAPPY, 200_000);
        let mut at = 0;
        for length in (0..).map(|i| i * 7_919 % 90_000) {
            let end = content.len().min(at + length);
            let view = chunk.shared.view(&mut chunk.shared.state(), at as u64, 20).expect("bytes");
            assert_eq!(view, content[at..at + view.len()]);
            assert_eq!(chunk.get_bytes(at as u64, end - at).expect("bytes"), content[at..end]);
            at = end;
            if at == content.len() {
                break;
            }
        }
        assert!(memory.n_reads.load(Relaxed) < 20, "{} reads", memory.n_reads.load(Relaxed));
    }

    fn header(uncompressed: usize, compressed: usize) -> Vec<u8> {
        let mut out = vec![0x15, 0x00];
        for length in [uncompressed, compressed] {
            out.push(0x15);
            let mut value = length << 1;
            while value > 0x7f {
                out.push(value as u8 | 0x80);
                value >>= 7;
            }
            out.push(value as u8);
        }
        out.push(0);
        out
    }

    fn chunk(content: Vec<u8>, codec: Compression, read_ahead_bytes: usize) -> (Arc<Object>, ChunkBytes) {
        let object = Arc::new(Object::open(Arc::new(Memory::new(content))).expect("an object"));
        let chunk = chunk_of(&object, codec, read_ahead_bytes);
        (object, chunk)
    }

    fn chunk_of(object: &Arc<Object>, codec: Compression, read_ahead_bytes: usize) -> ChunkBytes {
        let schema = parse_message_type("message m { required int32 a; }").expect("a schema");
        let column = SchemaDescriptor::new(Arc::new(schema)).column(0);
        let builder = ColumnChunkMetaData::builder(column).set_compression(codec).set_data_page_offset(0);
        let metadata = builder.set_total_compressed_size(object.size() as i64).build().expect("metadata");
        ChunkBytes::new(Arc::clone(object), &metadata, read_ahead_bytes).expect("a chunk")
    }
}
