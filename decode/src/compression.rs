//! Undoing compression, by content: what the name or the dataset says is only a hint.

mod inflate;
mod xz;

use super::{
    DecodeError, Limits, Source, SourceError,
    budget::{Budget, Reservation},
};
use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::GzDecoder;
use inflate::Inflate;
use std::{
    io::{self, BufRead, BufReader, Cursor, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use xz::XzStreams;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// How much of the content is looked at; enough to tell text from binary, little enough to keep.
const HEAD_BYTES: usize = 8 * 1024;
/// How often an object may be packed over; honest producers do it once, by mistake twice.
const MAX_LAYERS: usize = 3;
/// log2 of the largest zstd window: 128 MiB, what `zstd -d` takes, and `zstd --long` needs; where memory allows.
const MAX_ZSTD_WINDOW_LOG: u32 = 27;
/// log2 of the smallest that the library knows.
const MIN_ZSTD_WINDOW_LOG: u32 = 10;
/// What the library takes beside a window: tables, and blocks in and out.
pub const ZSTD_BUFFER_BYTES: usize = 512 * 1024;
/// The longest header of a frame.
const MAX_ZSTD_HEADER_BYTES: usize = 18;
/// What bzip2 takes for its largest block.
const BZIP2_BYTES: usize = 4 * 1024 * 1024;
/// Buffers between layers. Larger ones cost memory per slot, smaller ones calls.
const BUFFER_BYTES: usize = 64 * 1024;

/// The content of an object.
pub struct Content {
    /// Its bytes from the start.
    pub input: Box<dyn BufRead + Send>,
    /// A copy of the first of them; shorter than 8 KiB only where the content is.
    pub head: Vec<u8>,
    /// How many layers of compression there were.
    pub n_layers: usize,
    /// What counts the bytes of further ones.
    pub meter: Meter,
}

/// Opens an object's content: what is packed with all its members, frames or streams, or as it is.
///
/// # Errors
/// [`DecodeError::Limits`] for an object packed more than three times; otherwise what reading the first bytes says.
pub fn unpack(source: &dyn Source, limits: &Limits) -> Result<Content, DecodeError> {
    let stream = source.stream().map_err(|error| DecodeError::from(from_store(error)))?;
    layers(Box::new(StoreReader(stream)), &Meter::new(source.size(), limits), limits)
}

/// Opens a content that is read from `input`.
///
/// # Errors
/// As [`unpack`].
pub fn layers(mut input: Box<dyn Read + Send>, meter: &Meter, limits: &Limits) -> Result<Content, DecodeError> {
    for n_layers in 0.. {
        let mut buffered = BufReader::with_capacity(BUFFER_BYTES, input);
        let mut head = Vec::with_capacity(HEAD_BYTES);
        buffered.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        let packing = Packing::of(&head);
        let whole = Cursor::new(head.clone()).chain(buffered);
        let Some(packing) = packing else {
            return Ok(Content { input: Box::new(whole), head, n_layers, meter: meter.clone() });
        };
        if n_layers == MAX_LAYERS {
            return Err(DecodeError::Limits(format!("packed more than {MAX_LAYERS} times")));
        }
        let unpacked = packing.unpack(Box::new(whole), &limits.budget)?;
        input = meter.metered(unpacked);
    }
    unreachable!("the loop ends at the limit of layers")
}

/// A form of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
    Zlib,
    Snappy,
    /// A member of a zip archive: nothing at its start tells.
    Deflate,
}

impl Packing {
    /// Returns what the first bytes of a content say.
    fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1F, 0x8B, 8, ..] => Some(Self::Gzip),
            // A frame, or a frame to be skipped.
            [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Some(Self::Zstd),
            // A block, or the end of a file without one.
            [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', b'&', b'S', b'Y', ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Some(Self::Bzip2),
            [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0xFF, 6, 0, 0, b's', b'N', b'a', b'P', b'p', b'Y', ..] => Some(Self::Snappy),
            _ if inflate::is_zlib(head) => Some(Self::Zlib),
            _ => None,
        }
    }

    /// Returns what reads the content of `input`.
    pub fn unpack(self, input: Box<dyn BufRead + Send>, budget: &Budget) -> Result<Box<dyn Read + Send>, DecodeError> {
        match self {
            Self::Gzip => Ok(Box::new(GzipMembers { member: GzDecoder::new(input), is_over: false })),
            Self::Zstd => Ok(Box::new(ZstdFrames {
                decoder: Decoder::new()?,
                input: Peeking { input, peeked: Vec::new() },
                window_bytes: budget.nothing(),
                in_frame: false,
            })),
            Self::Bzip2 => Ok(Box::new(Blamed {
                _memory: budget.reserve("bzip2", BZIP2_BYTES)?,
                packing: "bzip2",
                unpacked: MultiBzDecoder::new(input),
            })),
            Self::Xz => Ok(Box::new(XzStreams::new(input, budget)?)),
            Self::Zlib => Ok(Box::new(Inflate::zlib(input))),
            Self::Deflate => Ok(Box::new(Inflate::raw(input))),
            Self::Snappy => Ok(Box::new(Blamed {
                _memory: budget.nothing(),
                packing: "snappy",
                unpacked: snap::read::FrameDecoder::new(input),
            })),
        }
    }
}

/// Reads all members of a gzip file.
///
/// flate2's own multi-member reader takes zeros after the last member, which tapes and block
/// devices leave, for a broken header.
struct GzipMembers {
    member: GzDecoder<Box<dyn BufRead + Send>>,
    is_over: bool,
}

impl Read for GzipMembers {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.is_over && !into.is_empty() {
            match self.member.read(into) {
                Ok(0) => self.next_member()?,
                Ok(n_bytes) => return Ok(n_bytes),
                Err(error) => return Err(blame("gzip", error)),
            }
        }
        Ok(0)
    }
}

impl GzipMembers {
    /// Goes on to the next member, over the zeros and blanks that some writers leave between or after them.
    fn next_member(&mut self) -> io::Result<()> {
        loop {
            let rest = self.member.get_mut().fill_buf()?;
            let padding = rest.iter().take_while(|byte| matches!(byte, 0 | b'\n' | b'\r' | b' ' | b'\t')).count();
            match (rest.get(padding), padding) {
                (None, 0) => self.is_over = true,
                (None, _) => {
                    self.member.get_mut().consume(padding);
                    continue;
                }
                (Some(0x1F), _) => {
                    self.member.get_mut().consume(padding);
                    let input = self.member.reset(Box::new(io::empty()));
                    self.member.reset(input);
                }
                (Some(_), _) => return Err(garbage()),
            }
            return Ok(());
        }
    }
}

fn garbage() -> io::Error {
    io::Error::other(DecodeError::Corrupt("gzip: something else follows the last member".into()))
}

/// Reads all frames of a zstd file.
///
/// The window of each is reserved before the library takes memory for it: frames of one file may differ.
struct ZstdFrames {
    decoder: Decoder<'static>,
    input: Peeking,
    /// For the largest window so far, which the library keeps.
    window_bytes: Reservation,
    in_frame: bool,
}

impl Read for ZstdFrames {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !into.is_empty() {
            if !self.in_frame && !self.start_frame()? {
                return Ok(0);
            }
            let packed = self.input.fill_buf()?;
            let is_over = packed.is_empty();
            let (mut from, mut to) = (InBuffer::around(packed), OutBuffer::around(&mut *into));
            let hint = self.decoder.run(&mut from, &mut to).map_err(|error| blame("zstd", error))?;
            let (n_read, n_written) = (from.pos(), to.pos());
            self.input.consume(n_read);
            self.in_frame = hint != 0;
            if n_written > 0 {
                return Ok(n_written);
            }
            if is_over && self.in_frame {
                return Err(blame("zstd", io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(0)
    }
}

impl ZstdFrames {
    /// Looks at the next frame's header; false when there is none.
    fn start_frame(&mut self) -> io::Result<bool> {
        let header = self.input.peek(MAX_ZSTD_HEADER_BYTES)?;
        if header.is_empty() {
            return Ok(false);
        }
        let window_log = window_log(header).unwrap_or(0).max(MIN_ZSTD_WINDOW_LOG);
        if window_log > MAX_ZSTD_WINDOW_LOG {
            return Err(io::Error::other(window_too_large()));
        }
        let wanted = (1usize << window_log) + ZSTD_BUFFER_BYTES;
        self.window_bytes.grow_to("a zstd window", wanted).map_err(io::Error::other)?;
        self.decoder.reinit()?;
        self.decoder.set_parameter(DParameter::WindowLogMax(window_log))?;
        Ok(true)
    }
}

/// Returns the window of a frame, if its header is all there and it is not to be skipped.
pub fn window_log(header: &[u8]) -> Option<u32> {
    if let [0x50..=0x5F, ..] = header {
        return None;
    }
    let (descriptor, rest) = header.get(4..)?.split_first()?;
    if descriptor & 0x20 == 0 {
        // Exponent and mantissa, in eighths.
        let byte = *rest.first()?;
        return Some(10 + u32::from(byte >> 3) + u32::from(byte & 7 != 0));
    }
    // A single segment: the window is the content.
    let content = &rest.get([0, 1, 2, 4][usize::from(descriptor & 3)]..)?;
    let length = match descriptor >> 6 {
        0 => u64::from(*content.first()?),
        1 => u64::from(u16::from_le_bytes(content.get(..2)?.try_into().ok()?)) + 256,
        2 => u64::from(u32::from_le_bytes(content.get(..4)?.try_into().ok()?)),
        _ => u64::from_le_bytes(content.get(..8)?.try_into().ok()?),
    };
    Some(length.max(1024).checked_next_power_of_two().map_or(64, u64::ilog2))
}

fn window_too_large() -> DecodeError {
    DecodeError::Limits(format!("zstd: a window larger than {} KiB", (1u64 << MAX_ZSTD_WINDOW_LOG) >> 10))
}

/// A stream whose next bytes can be looked at.
struct Peeking {
    input: Box<dyn BufRead + Send>,
    /// What was looked at, to be read first.
    peeked: Vec<u8>,
}

impl Peeking {
    /// Returns the next `n` bytes, fewer only at the end.
    fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        let missing = n.saturating_sub(self.peeked.len()) as u64;
        self.input.by_ref().take(missing).read_to_end(&mut self.peeked)?;
        Ok(&self.peeked)
    }

    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.peeked.is_empty() { self.input.fill_buf() } else { Ok(&self.peeked) }
    }

    fn consume(&mut self, n: usize) {
        match self.peeked.is_empty() {
            true => self.input.consume(n),
            false => drop(self.peeked.drain(..n)),
        }
    }
}

/// Returns a decoder's error as the content's fault, unless what it passes on says otherwise.
fn blame(packing: &str, error: io::Error) -> io::Error {
    if error.get_ref().is_some_and(|carried| carried.is::<SourceError>() || carried.is::<DecodeError>())
        || error.kind() == io::ErrorKind::Interrupted
    {
        return error;
    }
    let problem = match error.kind() {
        io::ErrorKind::UnexpectedEof => "cut short".to_owned(),
        _ => error.to_string(),
    };
    io::Error::other(DecodeError::Corrupt(format!("{packing}: {problem}")))
}

/// Calls what a library reports the content's fault.
struct Blamed<R> {
    unpacked: R,
    packing: &'static str,
    _memory: Reservation,
}

impl<R: Read> Read for Blamed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.unpacked.read(into).map_err(|error| blame(self.packing, error))
    }
}

/// Counts what comes out of an object's layers, members included, and ends it at `max_bytes`: an object of
/// `packed_bytes` may unpack to `ratio` times as many.
#[derive(Debug, Clone)]
pub struct Meter {
    n_bytes: Arc<AtomicU64>,
    max_bytes: u64,
    packed_bytes: u64,
    ratio: u64,
}

impl Meter {
    /// Returns what counts for an object of this length.
    pub fn new(packed_bytes: u64, limits: &Limits) -> Self {
        let max_bytes = limits.allowed_bytes(packed_bytes);
        Self { n_bytes: Arc::default(), max_bytes, packed_bytes, ratio: limits.expansion_ratio }
    }

    /// Returns `unpacked`, with its bytes counted.
    pub fn metered(&self, unpacked: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        Box::new(Metered { unpacked, meter: self.clone() })
    }
}

struct Metered {
    unpacked: Box<dyn Read + Send>,
    meter: Meter,
}

impl Read for Metered {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n_bytes = self.unpacked.read(into)?;
        let Meter { n_bytes: so_far, max_bytes, packed_bytes, ratio } = &self.meter;
        if so_far.fetch_add(n_bytes as u64, Relaxed) + n_bytes as u64 > *max_bytes {
            let message = format!("{packed_bytes} bytes unpack to more than {ratio} times as many");
            return Err(io::Error::other(DecodeError::Limits(message)));
        }
        Ok(n_bytes)
    }
}

/// Returns a failure of the content for those who read it.
pub fn from_content(error: DecodeError) -> io::Error {
    io::Error::other(error)
}

/// Reads a store's stream: whatever fails here is the store's fault, never the data's.
struct StoreReader(Box<dyn Read + Send>);

impl Read for StoreReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(from_store(error)),
                Ok(n_bytes) => return Ok(n_bytes),
            }
        }
    }
}

/// Returns an error of the store marked as such.
pub fn from_store(error: io::Error) -> io::Error {
    match error.get_ref() {
        Some(carried) if carried.is::<SourceError>() => error,
        _ => io::Error::other(SourceError(error.into())),
    }
}

#[cfg(test)]
mod tests;
