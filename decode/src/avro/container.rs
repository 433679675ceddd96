//! An Avro file's blocks: framed by lengths and a marker, each compressed by itself.

use crate::{
    DecodeError,
    budget::{Budget, Reservation},
    calendar::{Calendar, Calendars},
    compression,
    contain::contained,
    failure,
    varint::zigzag,
};
use apache_avro::{Codec, error::Details, util::max_allocation_bytes};
use std::{
    collections::HashMap,
    io::{BufRead, Read},
    str::FromStr,
};

const MAGIC: &[u8] = b"Obj\x01";
const MARKER_BYTES: usize = 16;
/// A longer header is refused: it holds a schema, which memory is taken by.
const MAX_HEADER_BYTES: u64 = 16 * 1024 * 1024;
/// A longer block is refused, packed or not: writers start a new one after some 64 KiB.
const MAX_BLOCK_BYTES: usize = 64 * 1024 * 1024;
/// What an entry of the header takes beside its bytes.
const ENTRY_BYTES: usize = 128;
/// log2 of the largest window of a block packed with zstd: a block is one frame, and hardly longer than this.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;
/// What bzip2 takes to unpack.
const BZIP2_BYTES: usize = 4 * 1024 * 1024;
/// What is unpacked at first; later steps are halves of what is there.
const FIRST_UNPACKED_BYTES: usize = 64 * 1024;

/// Reads a file block by block.
pub struct Container {
    input: Box<dyn BufRead + Send>,
    codec: Codec,
    marker: [u8; MARKER_BYTES],
    /// Bytes read so far.
    pub n_bytes: u64,
    budget: Budget,
    /// For the block in hand.
    block_bytes: Option<Reservation>,
}

impl Container {
    /// Reads the header; returns the schema's text and the calendar of its dates, too.
    ///
    /// # Errors
    /// [`DecodeError::Corrupt`] when it is not one, [`DecodeError::Limits`] when it is too long.
    pub fn open(input: Box<dyn BufRead + Send>, budget: &Budget) -> Result<(Self, Vec<u8>, Calendar), DecodeError> {
        // The library has one bound for the whole process; blocks are all it is asked for here.
        max_allocation_bytes(MAX_BLOCK_BYTES);
        let mut container = Self {
            input,
            codec: Codec::Null,
            marker: [0; MARKER_BYTES],
            n_bytes: 0,
            budget: budget.clone(),
            block_bytes: None,
        };
        if container.read_up_to(MAGIC.len() as u64)? != MAGIC {
            return Err(DecodeError::Corrupt("not an Avro file".into()));
        }
        let mut reserved = container.budget.nothing();
        let mut entries = container.metadata(&mut reserved)?;
        let marker = container.read_exactly(MARKER_BYTES as u64)?;
        container.marker.copy_from_slice(&marker);
        if let Some(name) = entries.get("avro.codec") {
            let name = String::from_utf8_lossy(name);
            container.codec =
                Codec::from_str(&name).map_err(|_| DecodeError::Corrupt(format!("unknown Avro codec {name}")))?;
        }
        let schema = entries.remove("avro.schema").ok_or_else(|| corrupt("no schema"))?;
        let text = |key: &str| entries.get(key).and_then(|value| std::str::from_utf8(value).ok());
        let calendar = Calendars::of_metadata(text).moments;
        Ok((container, schema, calendar))
    }

    /// Reads the next block into `block`, unpacked; returns the number of its rows, `None` at the end.
    ///
    /// # Errors
    /// [`DecodeError::Corrupt`] where the block is broken or cut short, [`DecodeError::Limits`] when it is too long.
    pub fn next_block(&mut self, block: &mut Vec<u8>) -> Result<Option<u64>, DecodeError> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let n_rows = u64::try_from(self.long()?).map_err(|_| corrupt("a block has a negative row count"))?;
        let length = u64::try_from(self.long()?).map_err(|_| corrupt("a block has a negative length"))?;
        if length > MAX_BLOCK_BYTES as u64 {
            return Err(DecodeError::Limits(format!("Avro block of {length} bytes, {MAX_BLOCK_BYTES} are allowed")));
        }
        (*block, self.block_bytes) = (Vec::new(), None);
        let mut reserved = self.budget.reserve("an Avro block", length as usize)?;
        *block = self.read_exactly(length)?;
        if self.read_exactly(MARKER_BYTES as u64)? != self.marker {
            return Err(corrupt("a block's marker is not the file's"));
        }
        contained(|| unpack(self.codec, block, &mut reserved))?;
        reserved.shrink_to(block.capacity());
        self.block_bytes = Some(reserved);
        Ok(Some(n_rows))
    }

    /// Reads the header's map.
    fn metadata(&mut self, reserved: &mut Reservation) -> Result<HashMap<String, Vec<u8>>, DecodeError> {
        let mut entries = HashMap::new();
        loop {
            let n_entries = self.long()?;
            if n_entries == 0 {
                return Ok(entries);
            }
            if n_entries < 0 {
                self.long()?;
            }
            for _ in 0..n_entries.unsigned_abs() {
                let key = self.counted(reserved)?;
                let value = self.counted(reserved)?;
                entries.insert(String::from_utf8_lossy(&key).into_owned(), value);
            }
        }
    }

    /// Reads bytes of the header after their length.
    fn counted(&mut self, reserved: &mut Reservation) -> Result<Vec<u8>, DecodeError> {
        let length = u64::try_from(self.long()?).map_err(|_| corrupt("a negative length"))?;
        if self.n_bytes.saturating_add(length) > MAX_HEADER_BYTES {
            return Err(DecodeError::Limits(format!("Avro header of more than {MAX_HEADER_BYTES} bytes")));
        }
        reserved.grow("the Avro header", length as usize + ENTRY_BYTES)?;
        self.read_exactly(length)
    }

    fn long(&mut self) -> Result<i64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.read_exactly(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(zigzag(value));
            }
        }
        Err(corrupt("a number does not end"))
    }

    fn read_exactly(&mut self, length: u64) -> Result<Vec<u8>, DecodeError> {
        let bytes = self.read_up_to(length)?;
        if (bytes.len() as u64) < length {
            return Err(corrupt("file ends early"));
        }
        Ok(bytes)
    }

    /// Reads `length` bytes or to the end; memory grows with what comes, not with what is claimed.
    fn read_up_to(&mut self, length: u64) -> Result<Vec<u8>, DecodeError> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(length).read_to_end(&mut bytes)?;
        self.n_bytes += bytes.len() as u64;
        Ok(bytes)
    }
}

/// Unpacks a block; memory is reserved as it grows, where its length is not known before.
fn unpack(codec: Codec, block: &mut Vec<u8>, reserved: &mut Reservation) -> Result<(), DecodeError> {
    let broken = |error: std::io::Error| DecodeError::Corrupt(format!("Avro: a block does not unpack: {error}"));
    match codec {
        Codec::Null => return Ok(()),
        Codec::Deflate(_) => {
            *block = read_reserved(flate2::read::DeflateDecoder::new(&block[..]), 1, reserved)?;
        }
        Codec::Zstandard(_) => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&block[..]).map_err(broken)?;
            let window_log = compression::window_log(block).unwrap_or(0).clamp(10, MAX_ZSTD_WINDOW_LOG);
            decoder.window_log_max(window_log).map_err(broken)?;
            reserved.grow("an Avro block's zstd window", (1 << window_log) + compression::ZSTD_BUFFER_BYTES)?;
            *block = read_reserved(decoder, 1, reserved)?;
        }
        Codec::Snappy => {
            let length = block.iter().zip((0..35).step_by(7)).try_fold(0u64, |length, (byte, shift)| {
                let length = length | u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 { Err(length) } else { Ok(length) }
            });
            let length = length.err().unwrap_or(0).min(MAX_BLOCK_BYTES as u64 + 1);
            reserved.grow("an unpacked Avro block", length as usize)?;
            codec.decompress(block).map_err(unpacking)?;
        }
        Codec::Bzip2(_) => {
            reserved.grow("unpacking an Avro block", BZIP2_BYTES)?;
            *block = read_reserved(bzip2::read::BzDecoder::new(&block[..]), 1, reserved)?;
        }
        // Its dictionary is as long as what comes out, at most.
        Codec::Xz(_) => *block = read_reserved(liblzma::read::XzDecoder::new(&block[..]), 2, reserved)?,
    }
    Ok(())
}

/// Reads to the end, with memory for this many `copies` reserved before it is taken.
fn read_reserved(mut from: impl Read, copies: usize, reserved: &mut Reservation) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::new();
    loop {
        let more = (bytes.len() / 2).max(FIRST_UNPACKED_BYTES);
        reserved.grow("an unpacked Avro block", more * copies)?;
        bytes.reserve_exact(more);
        let read = from.by_ref().take(more as u64).read_to_end(&mut bytes);
        let n_bytes = read.map_err(|error| DecodeError::Corrupt(format!("Avro: a block does not unpack: {error}")))?;
        if bytes.len() > MAX_BLOCK_BYTES {
            return Err(too_long());
        }
        if n_bytes < more {
            return Ok(bytes);
        }
    }
}

fn too_long() -> DecodeError {
    DecodeError::Limits(format!("Avro block of more than {MAX_BLOCK_BYTES} bytes when unpacked"))
}

fn corrupt(problem: &str) -> DecodeError {
    DecodeError::Corrupt(format!("Avro: {problem}"))
}

fn unpacking(error: apache_avro::Error) -> DecodeError {
    match error.details() {
        Details::MemoryAllocation { .. } => too_long(),
        _ => failure::of_chain(&error),
    }
}
