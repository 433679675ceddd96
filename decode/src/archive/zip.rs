//! zip: members where the directory at its end says.

use super::{Member, quoted};
use crate::{
    DecodeError, Source,
    budget::{Budget, Reservation},
    compression::{Packing, from_content, from_store},
    failure::of_chain,
};
use bytes::Bytes;
use rawzip::{CompressionMethod, ReaderAt, ZipArchive, ZipArchiveEntryWayfinder, ZipLocator};
use std::{
    io::{self, BufReader, Read},
    sync::{Arc, Mutex, PoisonError},
    vec,
};

/// What is read of the object at once. Larger costs memory, smaller requests.
const CHUNK_BYTES: usize = 1 << 20;
/// What an entry of the directory takes beside its name.
const ENTRY_BYTES: usize = size_of::<Entry>() + 32;
/// Of the buffer between a member's bytes and what unpacks them.
const BUFFER_BYTES: usize = 64 * 1024;

/// Returns whether an object that begins so is a zip archive.
pub fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// Reads an archive by its directory.
pub struct Zip {
    archive: ZipArchive<Chunks>,
    entries: vec::IntoIter<Entry>,
    budget: Budget,
    /// For the directory and the chunk in hand.
    _reserved: Reservation,
}

struct Entry {
    name: String,
    place: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
    is_encrypted: bool,
    length: u64,
    crc: u32,
}

impl Zip {
    /// Reads the directory.
    pub fn open(source: Arc<dyn Source>, budget: &Budget) -> Result<Self, DecodeError> {
        let mut reserved = budget.nothing();
        reserved.grow("a zip archive", CHUNK_BYTES + rawzip::RECOMMENDED_BUFFER_SIZE)?;
        let size = source.size();
        let chunks = Chunks { source, chunk: Arc::default() };
        let mut buffer = vec![0; rawzip::RECOMMENDED_BUFFER_SIZE];
        let archive =
            ZipLocator::new().locate_in_reader(chunks, &mut buffer, size).map_err(|(_, error)| zip(&error))?;
        let mut found = Vec::new();
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(|error| zip(&error))? {
            if entry.is_dir() {
                continue;
            }
            let name = String::from_utf8_lossy(entry.file_path().as_bytes()).into_owned();
            reserved.grow("the directory of a zip archive", ENTRY_BYTES + name.len())?;
            found.push(Entry {
                name,
                place: entry.wayfinder(),
                method: entry.compression_method(),
                is_encrypted: entry.flags().is_encrypted(),
                length: entry.uncompressed_size_hint(),
                crc: entry.crc32(),
            });
        }
        Ok(Self { archive, entries: found.into_iter(), budget: budget.clone(), _reserved: reserved })
    }

    /// Returns the next member that is a file.
    pub fn next(&mut self) -> Result<Option<Member>, DecodeError> {
        let Some(Entry { name, place, method, is_encrypted, length, crc }) = self.entries.next() else {
            return Ok(None);
        };
        if is_encrypted {
            return Err(DecodeError::Corrupt(format!("member {} of a zip archive is encrypted", quoted(&name))));
        }
        let entry = self.archive.get_entry(place).map_err(|error| zip(&error))?;
        let (at, end) = entry.compressed_data_range();
        let packed =
            BufReader::with_capacity(BUFFER_BYTES, Stretch { chunks: self.archive.get_ref().clone(), at, end });
        let unpacked: Box<dyn Read + Send> = match method {
            CompressionMethod::STORE => Box::new(packed),
            CompressionMethod::DEFLATE => Packing::Deflate.unpack(Box::new(packed), &self.budget)?,
            CompressionMethod::BZIP2 => Packing::Bzip2.unpack(Box::new(packed), &self.budget)?,
            CompressionMethod::ZSTD => Packing::Zstd.unpack(Box::new(packed), &self.budget)?,
            CompressionMethod::XZ => Packing::Xz.unpack(Box::new(packed), &self.budget)?,
            other => {
                let method = other.as_u16();
                return Err(DecodeError::Corrupt(format!(
                    "member {} of a zip archive is packed by method {method}, which is not supported",
                    quoted(&name)
                )));
            }
        };
        let input = Checked { unpacked, found: flate2::Crc::new(), n_bytes: 0, length, crc };
        Ok(Some(Member { name, input: Box::new(input) }))
    }
}

fn zip(error: &rawzip::Error) -> DecodeError {
    match of_chain(error) {
        DecodeError::Corrupt(problem) => DecodeError::Corrupt(format!("zip: {problem}")),
        other => other,
    }
}

/// Parts of an object, read a chunk at once.
#[derive(Clone)]
struct Chunks {
    source: Arc<dyn Source>,
    /// The chunk read last, and where it begins.
    chunk: Arc<Mutex<(u64, Bytes)>>,
}

impl ReaderAt for Chunks {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let size = self.source.size();
        if offset >= size || into.is_empty() {
            return Ok(0);
        }
        let mut chunk = self.chunk.lock().unwrap_or_else(PoisonError::into_inner);
        let is_within = offset.checked_sub(chunk.0).is_some_and(|within| within < chunk.1.len() as u64);
        if !is_within {
            let length = usize::try_from(size - offset).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            *chunk = (offset, Bytes::new());
            *chunk = (offset, self.source.read_at(offset, length).map_err(from_store)?);
        }
        let rest = &chunk.1[(offset - chunk.0) as usize..];
        let n_bytes = rest.len().min(into.len());
        into[..n_bytes].copy_from_slice(&rest[..n_bytes]);
        Ok(n_bytes)
    }
}

/// A stretch of an object.
struct Stretch {
    chunks: Chunks,
    at: u64,
    end: u64,
}

impl Read for Stretch {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let at_most = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(into.len());
        let n_bytes = self.chunks.read_at(&mut into[..at_most], self.at)?;
        self.at += n_bytes as u64;
        Ok(n_bytes)
    }
}

/// Compares what a member unpacks to with what the directory says of it.
struct Checked {
    unpacked: Box<dyn Read + Send>,
    found: flate2::Crc,
    n_bytes: u64,
    length: u64,
    crc: u32,
}

impl Read for Checked {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n_bytes = self.unpacked.read(into)?;
        self.found.update(&into[..n_bytes]);
        self.n_bytes += n_bytes as u64;
        let is_over = n_bytes == 0 && !into.is_empty();
        if self.n_bytes > self.length || is_over && (self.n_bytes, self.found.sum()) != (self.length, self.crc) {
            let problem = "zip: a member unpacks to something else than the directory says";
            return Err(from_content(DecodeError::Corrupt(problem.into())));
        }
        Ok(n_bytes)
    }
}
