//! Undoing compression, by content: what the name or the dataset says is only a hint.

use super::{
    DecodeError, Limits, Source, SourceError,
    budget::{Budget, Reservation},
};
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, BufReader, Cursor, Read};

/// How much of the content is looked at; enough to tell text from binary, little enough to keep.
const HEAD_BYTES: usize = 8 * 1024;
/// How often an object may be packed over; honest producers do it once, by mistake twice.
const MAX_LAYERS: usize = 3;
/// log2 of the largest zstd window: 64 MiB, what `zstd -19 --long=26` needs. Each open object may take this.
const MAX_ZSTD_WINDOW_LOG: u32 = 26;
/// The window of level 19, 8 MiB: later frames of a file may have it, too, where a slot's share has room.
const COMMON_ZSTD_WINDOW_LOG: u32 = 23;
/// What is reserved at least, as later frames of a file may be larger than the first.
const MIN_ZSTD_WINDOW_LOG: u32 = 17;
/// What the library takes beside a window: tables, and blocks in and out.
const ZSTD_BUFFER_BYTES: usize = 512 * 1024;
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
}

/// Opens an object's content: gzip with all its members, zstd with all its frames, or as it is.
///
/// # Errors
/// [`DecodeError::Limits`] for an object packed more than three times; otherwise what reading the first bytes says.
pub fn unpack(source: &dyn Source, limits: &Limits) -> Result<Content, DecodeError> {
    let stream = source.stream().map_err(|error| DecodeError::from(from_store(error)))?;
    let mut input: Box<dyn Read + Send> = Box::new(StoreReader(stream));
    let allowance = Allowance::new(source.size(), limits);
    for n_layers in 0.. {
        let mut buffered = BufReader::with_capacity(BUFFER_BYTES, input);
        let mut head = Vec::with_capacity(HEAD_BYTES);
        buffered.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        let packing = Packing::of(&head);
        let whole = Cursor::new(head.clone()).chain(buffered);
        let Some(packing) = packing else { return Ok(Content { input: Box::new(whole), head, n_layers }) };
        if n_layers == MAX_LAYERS {
            return Err(DecodeError::Limits(format!("packed more than {MAX_LAYERS} times")));
        }
        input = Box::new(Metered {
            unpacked: packing.unpack(Box::new(whole), &head, &limits.budget)?,
            allowance,
            n_bytes: 0,
        });
    }
    unreachable!("the loop ends at the limit of layers")
}

/// A form of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    /// Returns what the first bytes of a content say.
    fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1F, 0x8B, 8, ..] => Some(Self::Gzip),
            // A frame, or a frame to be skipped.
            [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    fn unpack(
        self,
        input: Box<dyn BufRead + Send>,
        head: &[u8],
        budget: &Budget,
    ) -> Result<Box<dyn Read + Send>, DecodeError> {
        match self {
            Self::Gzip => Ok(Box::new(GzipMembers { member: GzDecoder::new(input), is_over: false })),
            Self::Zstd => {
                let mut frames = zstd::stream::read::Decoder::with_buffer(input)?;
                let (reserved, window_log) = reserve_window(head, budget)?;
                frames.window_log_max(window_log)?;
                Ok(Box::new(ZstdFrames { frames, window_log, _reserved: reserved }))
            }
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
struct ZstdFrames {
    frames: zstd::stream::read::Decoder<'static, Box<dyn BufRead + Send>>,
    /// No frame may have a larger window.
    window_log: u32,
    _reserved: Reservation,
}

/// Reserves a layer's window: as the first frame says, and as much as most frames need where that is there for nothing.
/// Returns its base-two logarithm, too.
fn reserve_window(head: &[u8], budget: &Budget) -> Result<(Reservation, u32), DecodeError> {
    let window_log = first_window_log(head).unwrap_or(COMMON_ZSTD_WINDOW_LOG);
    if window_log > MAX_ZSTD_WINDOW_LOG {
        return Err(window_too_large(MAX_ZSTD_WINDOW_LOG));
    }
    let window_bytes = |log: u32| (1usize << log) + ZSTD_BUFFER_BYTES;
    if window_log < COMMON_ZSTD_WINDOW_LOG
        && let Some(reserved) = budget.reserve_of_share(window_bytes(COMMON_ZSTD_WINDOW_LOG))
    {
        return Ok((reserved, COMMON_ZSTD_WINDOW_LOG));
    }
    let window_log = window_log.max(MIN_ZSTD_WINDOW_LOG);
    Ok((budget.reserve("a zstd window", window_bytes(window_log))?, window_log))
}

/// Returns the window of the first frame that is not to be skipped, if it is in `head`.
fn first_window_log(mut head: &[u8]) -> Option<u32> {
    while let [0x50..=0x5F, 0x2A, 0x4D, 0x18, a, b, c, d, ..] = head {
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        head = head.get(8usize.checked_add(length)?..)?;
    }
    let (descriptor, rest) = head.get(4..)?.split_first()?;
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

fn window_too_large(allowed: u32) -> DecodeError {
    DecodeError::Limits(format!("zstd: a window larger than {} KiB (worker.memory_mib)", (1u64 << allowed) >> 10))
}

impl Read for ZstdFrames {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.frames.read(into).map_err(|error| {
            // The library has no other name for a window beyond the limit.
            if error.to_string().contains("too much memory") {
                return io::Error::other(window_too_large(self.window_log));
            }
            blame("zstd", error)
        })
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

/// How many bytes an object may unpack to.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    packed_bytes: u64,
    ratio: u64,
    max_bytes: u64,
}

impl Allowance {
    fn new(packed_bytes: u64, limits: &Limits) -> Self {
        let max_bytes = packed_bytes.saturating_mul(limits.expansion_ratio).max(limits.expansion_free_bytes);
        Self { packed_bytes, ratio: limits.expansion_ratio, max_bytes }
    }
}

/// Counts what comes out of a layer, and ends it where the allowance does.
struct Metered {
    unpacked: Box<dyn Read + Send>,
    allowance: Allowance,
    n_bytes: u64,
}

impl Read for Metered {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n_bytes = self.unpacked.read(into)?;
        self.n_bytes += n_bytes as u64;
        if self.n_bytes > self.allowance.max_bytes {
            let Allowance { packed_bytes, ratio, .. } = self.allowance;
            let message = format!("{packed_bytes} bytes unpack to more than {ratio} times as many");
            return Err(io::Error::other(DecodeError::Limits(message)));
        }
        Ok(n_bytes)
    }
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
