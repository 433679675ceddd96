//! An Avro file's blocks: framed by lengths and a marker, each compressed by itself.

use crate::decode::{
    DecodeError,
    calendar::{Calendar, Calendars},
    contain::contained,
    failure,
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

/// Reads a file block by block.
pub struct Container {
    input: Box<dyn BufRead + Send>,
    codec: Codec,
    marker: [u8; MARKER_BYTES],
    /// Bytes read so far.
    pub n_bytes: u64,
}

impl Container {
    /// Reads the header; returns the schema's text and the calendar of its dates, too.
    ///
    /// # Errors
    /// [`DecodeError::Corrupt`] when it is none, [`DecodeError::Limits`] when it is too long.
    pub fn open(input: Box<dyn BufRead + Send>) -> Result<(Self, Vec<u8>, Calendar), DecodeError> {
        // The library has one bound for the whole process; blocks are all it is asked for here.
        max_allocation_bytes(MAX_BLOCK_BYTES);
        let mut container = Self { input, codec: Codec::Null, marker: [0; MARKER_BYTES], n_bytes: 0 };
        if container.read_up_to(MAGIC.len() as u64)? != MAGIC {
            return Err(DecodeError::Corrupt("not an Avro file".into()));
        }
        let mut entries = container.metadata()?;
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
        *block = self.read_exactly(length)?;
        if self.read_exactly(MARKER_BYTES as u64)? != self.marker {
            return Err(corrupt("a block's marker is not the file's"));
        }
        contained(|| self.codec.decompress(block).map_err(unpacking))?;
        Ok(Some(n_rows))
    }

    /// Reads the header's map.
    fn metadata(&mut self) -> Result<HashMap<String, Vec<u8>>, DecodeError> {
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
                let key = self.counted()?;
                let value = self.counted()?;
                entries.insert(String::from_utf8_lossy(&key).into_owned(), value);
            }
        }
    }

    /// Reads bytes of the header after their length.
    fn counted(&mut self) -> Result<Vec<u8>, DecodeError> {
        let length = u64::try_from(self.long()?).map_err(|_| corrupt("a negative length"))?;
        if self.n_bytes.saturating_add(length) > MAX_HEADER_BYTES {
            return Err(DecodeError::Limits(format!("Avro header of more than {MAX_HEADER_BYTES} bytes")));
        }
        self.read_exactly(length)
    }

    fn long(&mut self) -> Result<i64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.read_exactly(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
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

fn corrupt(problem: &str) -> DecodeError {
    DecodeError::Corrupt(format!("Avro: {problem}"))
}

fn unpacking(error: apache_avro::Error) -> DecodeError {
    match error.details() {
        Details::MemoryAllocation { .. } => {
            DecodeError::Limits(format!("Avro block of more than {MAX_BLOCK_BYTES} bytes when unpacked"))
        }
        _ => failure::of_chain(&error),
    }
}
