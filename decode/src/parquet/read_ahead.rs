//! One column chunk's bytes, fetched some way ahead of the pages that are asked for.

use super::{
    object::Object,
    thrift::{PageSizes, as_true, page_sizes},
};
use crate::{
    DecodeError, Reading,
    budget::{Reservation, Spare},
};
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
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// A page that takes more when decompressed is refused; writers aim for one mebibyte.
pub const MAX_PAGE_BYTES: u64 = 128 * 1024 * 1024;
/// What is in view when a page header is read; longer headers are refused.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// A chunk's last bytes, up to this many, are read along with those before: they are not worth a request.
const SHORT_BYTES: usize = 64 * 1024;
/// What deflate can make of one byte.
const MAX_DEFLATE_RATIO: u64 = 1032;
/// A page that can be longer than it says by no more than this is not looked at.
const FREE_BYTES: u64 = 64 * 1024;
/// What is unpacked at once where only the length is wanted.
const CODEC_BUFFER_BYTES: usize = 16 * 1024;

/// A column chunk as the page reader sees it: offsets are the file's.
pub struct ChunkBytes {
    shared: Arc<Shared>,
}

/// How far a column chunk is fetched before its pages are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Bytes of a read.
    pub bytes: usize,
    /// There is memory for the next read to be under way while this one's pages are decoded, so that columns are fetched
    /// side by side and a store's latency is waited for once; otherwise it is as long as memory is to spare.
    pub ahead: bool,
}

impl Window {
    /// Returns how many windows are in memory: the read in view, the next, and the two joined.
    pub fn reads(ahead: bool) -> usize {
        if ahead { 3 } else { 2 }
    }
}

struct Shared {
    object: Arc<Object>,
    end: u64,
    window: Window,
    codec: Compression,
    /// Whether pages are compressed that say that they are not.
    says_plain: bool,
    /// See [`Window::reads`].
    _window_bytes: Option<Reservation>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Offset of the first byte of `bytes`.
    start: u64,
    bytes: Bytes,
    /// Memory for `bytes` beyond a window.
    beyond: Option<Reservation>,
    /// How long the longest page of values was.
    longest: usize,
    /// The read that follows `bytes`.
    ahead: Option<Ahead>,
    /// The page whose header was read last, until it is handed on.
    page: Option<Announced>,
    /// The dictionary, which may be read later than the pages after it.
    dictionary: Option<Announced>,
    /// Memory for unpacking the page.
    codec_bytes: Option<Reservation>,
}

/// A page whose header was read.
struct Announced {
    /// Offset of its bytes.
    start: u64,
    sizes: PageSizes,
    reserved: Reservation,
}

/// A read under way.
struct Ahead {
    start: u64,
    length: usize,
    reading: Reading,
    /// Memory for it where the chunk's is not enough.
    beyond: Option<Reservation>,
}

impl ChunkBytes {
    /// Returns the bytes of `chunk`, of which the first are on their way where the window says so. Its pages may be compressed
    /// also where their headers say that they are not: `says_plain`.
    pub fn new(object: Arc<Object>, chunk: &ColumnChunkMetaData, window: Window, says_plain: bool) -> Result<Self> {
        let (start, length) = chunk.byte_range();
        let end = start.checked_add(length).filter(|&end| end <= object.size());
        let end = end.ok_or_else(|| ParquetError::EOF("column chunk is beyond the file's end".into()))?;
        let codec = chunk.compression();
        let in_view = length.min((window.bytes.max(MAX_HEADER_BYTES) * Window::reads(window.ahead)) as u64) as usize;
        let window_bytes =
            (!object.is_whole()).then(|| object.budget.reserve("reading ahead in a Parquet column", in_view));
        let window_bytes = window_bytes.transpose().map_err(|error| {
            object.note(io::Error::other(error));
            ParquetError::General("no memory for a column".into())
        })?;
        let state = Mutex::default();
        let shared = Shared { object, end, window, codec, says_plain, _window_bytes: window_bytes, state };
        // The dictionary comes first, and is wanted whole before any value.
        let dictionary = chunk.dictionary_page_offset().map_or(0, |offset| chunk.data_page_offset().abs_diff(offset));
        let shared = Arc::new(shared);
        shared.object.budget.spares(Arc::downgrade(&shared) as Weak<dyn Spare>);
        shared.start_ahead(&mut shared.state(), start, usize::try_from(dictionary).unwrap_or(usize::MAX));
        Ok(Self { shared })
    }
}

impl ChunkBytes {
    /// Returns the memory that was reserved for the page, or the dictionary, whose header was read last.
    pub fn take_page_bytes(&self, dictionary: bool) -> Option<Reservation> {
        let mut state = self.shared.state();
        state.codec_bytes = None;
        let page = state.announced(dictionary).take();
        page.map(|page| page.reserved)
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
        Ok(HeaderBytes { bytes, unchecked: Some((Arc::clone(&self.shared), start)) })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut state = self.shared.state();
        let bytes = self.shared.view(&mut state, start, length)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF("page is beyond its column chunk's end".into()));
        }
        let data = bytes.slice(..length);
        let announced = state.page.iter().chain(&state.dictionary).find(|page| page.start == start);
        let sizes = announced.map(|page| page.sizes).unwrap_or_default();
        state.codec_bytes = self.shared.reserve_for_codec(&data, sizes)?;
        self.shared.check_expansion(&data, sizes)?;
        Ok(data)
    }
}

impl State {
    /// Returns the place of the dictionary, or of another page, whose header was read.
    fn announced(&mut self, dictionary: bool) -> &mut Option<Announced> {
        if dictionary { &mut self.dictionary } else { &mut self.page }
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
        let mut head = match skipped {
            Some(skipped) if skipped <= state.bytes.len() => state.bytes.slice(skipped..),
            _ => Bytes::new(),
        };
        if state.beyond.is_some() && head.len() <= self.window.bytes {
            // What is left of a long read must not keep all of it.
            head = Bytes::copy_from_slice(&head);
            (state.start, state.bytes, state.beyond) = (start, head.clone(), None);
        }
        if head.len() >= length {
            return Ok(head);
        }
        let mut bytes = head;
        let ahead = state.ahead.take().filter(|ahead| ahead.start == start + bytes.len() as u64);
        if let Some(ahead) = ahead {
            bytes = joined(bytes, self.object.finish_read(ahead.reading, ahead.length)?);
            // From here on it is what is in view, for which a window is planned.
            state.beyond = ahead.beyond.map(|mut reserved| {
                reserved.shrink_to(2 * ahead.length.saturating_sub(self.window.bytes));
                reserved
            });
        }
        if bytes.len() < length {
            let wanted = left.min(length.max(self.window.bytes) as u64) as usize;
            let tail = self.object.read_at(start + bytes.len() as u64, wanted - bytes.len())?;
            bytes = joined(bytes, tail);
        }
        let longer = state.longest.saturating_sub(self.window.bytes);
        self.start_ahead(state, start + bytes.len() as u64, longer);
        state.start = start;
        state.bytes = bytes.clone();
        Ok(bytes)
    }

    /// Begins the read from `start` on, if there is anything left of the chunk: of a window, and of so many bytes more
    /// where memory for them is free.
    fn start_ahead(&self, state: &mut State, start: u64, more: usize) {
        let left = usize::try_from(self.end.saturating_sub(start)).unwrap_or(usize::MAX);
        let window = left.min(self.window.bytes);
        if left == 0 || self.object.is_whole() {
            return;
        }
        let most = left - window;
        let more = if most.saturating_sub(more) < SHORT_BYTES { most } else { more };
        // Once as it is read, once joined with what is in view.
        let unplanned = if self.window.ahead { 0 } else { window };
        let reserve = |more: usize| match unplanned + 2 * more {
            0 => Some((None, window)),
            bytes => Some((Some(self.object.budget.reserve_spare(bytes)?), window + more)),
        };
        let Some((beyond, length)) = reserve(more).or_else(|| reserve(0)) else { return };
        state.ahead = self.object.start_read(start, length).map(|reading| Ahead { start, length, reading, beyond });
    }

    /// Looks at a page's header before the library reserves memory by it.
    fn check_header(&self, view: &[u8], start: u64) -> Result<PageSizes, DecodeError> {
        let sizes =
            page_sizes(view).map_err(|problem| DecodeError::Corrupt(format!("Parquet page header: {problem}")))?;
        if sizes.uncompressed.max(sizes.compressed) > MAX_PAGE_BYTES {
            let problem = format!("Parquet page of {} bytes, {MAX_PAGE_BYTES} are allowed", sizes.uncompressed);
            return Err(DecodeError::Limits(problem));
        }
        let (what, is_dictionary) = match sizes.dictionary_values {
            Some(_) => ("a Parquet dictionary", true),
            None => ("a Parquet page", false),
        };
        let page_memory = {
            let state = &mut *self.state();
            state.codec_bytes = None;
            *state.announced(is_dictionary) = None;
            if !is_dictionary {
                state.longest = state.longest.max(sizes.compressed as usize);
            }
            self.page_memory(sizes, start + sizes.header + sizes.compressed <= state.start + state.bytes.len() as u64)
        };
        // Without the lock: what is read ahead may have to be given up for it.
        let reserved = self.object.budget.reserve(what, page_memory)?;
        *self.state().announced(is_dictionary) = Some(Announced { start: start + sizes.header, sizes, reserved });
        Ok(sizes)
    }

    /// Returns what a page takes: its packed bytes where they are longer than a window and not `in_view` already, what
    /// they unpack to, and for a dictionary what points to its values.
    fn page_memory(&self, page: PageSizes, in_view: bool) -> usize {
        const POINTER_BYTES: u64 = 16;
        let is_packed = self.codec != Compression::UNCOMPRESSED;
        // A page that is not packed keeps the bytes that it is in.
        let is_there = self.object.is_whole() || page.compressed <= self.window.bytes as u64 || in_view && is_packed;
        // Once as it is read, once joined with what was in view.
        let packed = if is_there { 0 } else { 2 * page.compressed };
        let unpacked = if is_packed { page.uncompressed } else { 0 };
        let pointers = page.dictionary_values.unwrap_or(0).min(page.uncompressed) * POINTER_BYTES;
        usize::try_from(packed + unpacked + pointers).unwrap_or(usize::MAX)
    }

    /// Reserves what a codec takes beside the page's bytes; the others take nothing that the page sizes.
    fn reserve_for_codec(&self, data: &[u8], page: PageSizes) -> Result<Option<Reservation>> {
        let packed = packed(data, page);
        let n_bytes = match self.codec {
            // The library reads through a buffer as long as the page.
            Compression::BROTLI(_) => brotli_window(packed) as u64 + page.uncompressed,
            Compression::LZ4 => lz4_frame_buffers(packed),
            _ => return Ok(None),
        };
        let reserved = self.object.budget.reserve("unpacking a Parquet page", n_bytes as usize);
        reserved.map(Some).map_err(|error| self.object.refuse(error, "page too large"))
    }

    /// Refuses a page that decompresses to more than its header says, where the library would not look.
    fn check_expansion(&self, data: &[u8], page: PageSizes) -> Result<()> {
        let packed = packed(data, page);
        let may_be_longer = packed.len() as u64 * MAX_DEFLATE_RATIO > page.uncompressed + FREE_BYTES;
        let most = page.uncompressed + 1;
        // Errors come up again when the page is read.
        let length = match self.codec {
            Compression::GZIP(_) if may_be_longer => length_of(MultiGzDecoder::new(packed).take(most)),
            Compression::BROTLI(_) => length_of(brotli::Decompressor::new(packed, CODEC_BUFFER_BYTES).take(most)),
            // Only as frames, which do not say how long they are; all else is not of that kind from its first bytes on.
            Compression::LZ4 => length_of(lz4_flex::frame::FrameDecoder::new(packed).take(most)),
            _ => 0,
        };
        if length > page.uncompressed {
            return Err(ParquetError::General("page is longer than its header says".into()));
        }
        Ok(())
    }
}

impl Spare for Shared {
    fn give_up(&self) {
        // Whoever has the lock is the one who wants memory.
        if let Ok(mut state) = self.state.try_lock() {
            state.ahead.take_if(|ahead| ahead.beyond.is_some());
        }
    }
}

/// Returns what is packed of a page: what comes after its levels.
fn packed(data: &[u8], page: PageSizes) -> &[u8] {
    usize::try_from(page.levels).ok().and_then(|levels| data.get(levels..)).unwrap_or_default()
}

/// Returns how much there is to read until its end or an error.
fn length_of(mut from: impl Read) -> u64 {
    let mut buffer = [0; CODEC_BUFFER_BYTES];
    let mut length = 0;
    while let Ok(n) = from.read(&mut buffer)
        && n > 0
    {
        length += n as u64;
    }
    length
}

/// Returns the window of a brotli stream ([RFC 7932, 9.1](https://www.rfc-editor.org/rfc/rfc7932#section-9.1)), in
/// bytes; the largest there is where it is not to be read.
fn brotli_window(data: &[u8]) -> usize {
    let bits = match data.first().map_or(0, |byte| usize::from(*byte)) {
        byte if byte & 1 == 0 => 16,
        byte if byte >> 1 & 7 != 0 => 17 + (byte >> 1 & 7),
        byte if byte >> 4 & 7 == 0 => 17,
        byte => 8 + (byte >> 4 & 7),
    };
    1 << bits
}

/// Returns what reading [LZ4 frames](https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md) takes, by the first:
/// a block as it comes, and two unpacked ones.
fn lz4_frame_buffers(data: &[u8]) -> u64 {
    let block = match data {
        [0x02, 0x21, 0x4C, 0x18, ..] => 8 << 20,
        // From 64 KiB to 4 MiB, where the byte makes sense.
        [0x04, 0x22, 0x4D, 0x18, _, sizes, ..] => (64 << 10) << (2 * (sizes >> 4 & 3)),
        _ => return 0,
    };
    3 * block + (64 << 10)
}

fn joined(head: Bytes, tail: Bytes) -> Bytes {
    if head.is_empty() {
        return tail;
    }
    let mut joined = BytesMut::with_capacity(head.len() + tail.len());
    joined.extend_from_slice(&head);
    joined.extend_from_slice(&tail);
    joined.freeze()
}

/// The bytes from a page header on.
pub struct HeaderBytes {
    bytes: Bytes,
    /// The offset they are from, until the header is looked at.
    unchecked: Option<(Arc<Shared>, u64)>,
}

impl Read for HeaderBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some((shared, start)) = self.unchecked.take() {
            let sizes = shared.check_header(&self.bytes, start).map_err(|error| {
                shared.object.note(io::Error::other(error));
                io::Error::from(io::ErrorKind::InvalidData)
            })?;
            if let Some(place) = sizes.says_plain.filter(|_| shared.says_plain) {
                let mut header = BytesMut::from(&self.bytes[..sizes.header as usize]);
                header[place] = as_true(header[place]);
                self.bytes = header.freeze();
            }
        }
        let n = self.bytes.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.bytes.split_to(n));
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
