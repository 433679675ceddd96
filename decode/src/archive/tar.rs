//! tar: members one after another in a stream.

use super::Member;
use crate::{DecodeError, compression::from_content};
use std::{
    io::{self, BufRead, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tar::{EntryType, Header, PaxExtensions};

const BLOCK_BYTES: usize = 512;
/// A longer header, of a member's long name or other attributes, is refused.
const MAX_HEADER_BYTES: u64 = 64 * 1024;

/// Returns whether a content that begins so is a tar archive.
pub fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// Reads an archive from its start.
pub struct Tar {
    shared: Arc<Mutex<Stream>>,
}

/// What the archive and the member in hand read together.
struct Stream {
    input: Box<dyn BufRead + Send>,
    /// Bytes of the member that were not read.
    left: u64,
    /// Bytes that fill its last block.
    padding: u64,
}

/// The member in hand.
struct TarMember(Arc<Mutex<Stream>>);

fn lock(stream: &Mutex<Stream>) -> MutexGuard<'_, Stream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tar {
    pub fn new(input: Box<dyn BufRead + Send>) -> Self {
        Self { shared: Arc::new(Mutex::new(Stream { input, left: 0, padding: 0 })) }
    }

    /// Returns the next member that is a file.
    pub fn next(&mut self) -> Result<Option<Member>, DecodeError> {
        let mut stream = lock(&self.shared);
        let (mut long_name, mut long_size) = (None, None);
        loop {
            stream.pass()?;
            let Some(header) = stream.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|_| corrupt("a header without a size"))?;
            match header.entry_type() {
                EntryType::GNULongName => long_name = Some(stream.attributes(size)?),
                EntryType::XHeader => {
                    let attributes = stream.attributes(size)?;
                    for attribute in PaxExtensions::new(&attributes) {
                        let attribute = attribute.map_err(|_| corrupt("a header that is torn"))?;
                        match attribute.key_bytes() {
                            b"path" => long_name = Some(attribute.value_bytes().to_vec()),
                            b"size" => long_size = attribute.value().ok().and_then(|size| size.parse().ok()),
                            key if key.starts_with(b"GNU.sparse.") => return Err(corrupt("a sparse file")),
                            _ => {}
                        }
                    }
                }
                EntryType::GNUSparse => return Err(corrupt("a sparse file")),
                kind => {
                    let size = long_size.take().unwrap_or(size);
                    let name = long_name.take().unwrap_or_else(|| header.path_bytes().into_owned());
                    stream.enter(size);
                    if kind.is_file() || kind.is_contiguous() {
                        let name = name.strip_suffix(b"\0").unwrap_or(&name);
                        let name = String::from_utf8_lossy(name).into_owned();
                        return Ok(Some(Member { name, input: Box::new(TarMember(Arc::clone(&self.shared))) }));
                    }
                }
            }
        }
    }
}

impl Stream {
    /// Returns the next header; None after the last member.
    fn header(&mut self) -> Result<Option<Header>, DecodeError> {
        let mut header = Header::new_old();
        let mut n_bytes = 0;
        while n_bytes < BLOCK_BYTES {
            match self.input.read(&mut header.as_mut_bytes()[n_bytes..]) {
                // Some writers leave out the blocks of zeros at the end.
                Ok(0) if n_bytes == 0 => return Ok(None),
                Ok(0) => return Err(cut_short()),
                Ok(more) => n_bytes += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The sum is over the header with blanks in its own place.
        let sum = |range: &[u8]| range.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let expected = sum(&bytes[..148]) + sum(&bytes[156..]) + 8 * u32::from(b' ');
        match header.cksum() {
            Ok(found) if found == expected => Ok(Some(header)),
            _ => Err(corrupt("a header whose checksum is another")),
        }
    }

    fn enter(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK_BYTES as u64;
    }

    /// Reads what stands in place of a member and says more of the next.
    fn attributes(&mut self, size: u64) -> Result<Vec<u8>, DecodeError> {
        if size > MAX_HEADER_BYTES {
            return Err(DecodeError::Limits(format!("tar: a header of {size} bytes")));
        }
        self.enter(size);
        let mut bytes = Vec::new();
        (&mut *self.input).take(size).read_to_end(&mut bytes)?;
        self.left = 0;
        if (bytes.len() as u64) < size { Err(cut_short()) } else { Ok(bytes) }
    }

    /// Passes what is left of a member.
    fn pass(&mut self) -> Result<(), DecodeError> {
        let mut left = self.left.saturating_add(self.padding);
        let is_last = self.left == 0;
        while left > 0 {
            let n_bytes = self.input.fill_buf()?.len();
            if n_bytes == 0 {
                // Padding that is not there costs nothing.
                return if is_last { Ok(()) } else { Err(cut_short()) };
            }
            let n_bytes = usize::try_from(left).unwrap_or(usize::MAX).min(n_bytes);
            self.input.consume(n_bytes);
            left -= n_bytes as u64;
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

impl Read for TarMember {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut stream = lock(&self.0);
        let at_most = usize::try_from(stream.left).unwrap_or(usize::MAX).min(into.len());
        if at_most == 0 {
            return Ok(0);
        }
        let n_bytes = stream.input.read(&mut into[..at_most])?;
        if n_bytes == 0 {
            return Err(from_content(cut_short()));
        }
        stream.left -= n_bytes as u64;
        Ok(n_bytes)
    }
}

fn corrupt(problem: &str) -> DecodeError {
    DecodeError::Corrupt(format!("tar: {problem}"))
}

fn cut_short() -> DecodeError {
    corrupt("cut short")
}
