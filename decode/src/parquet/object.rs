//! The object's bytes, by ranges, with the store's failures kept apart from the data's.

use crate::{
    DecodeError, Reading, Source, SourceError,
    budget::{Budget, Reservation},
    compression, failure,
};
use bytes::Bytes;
use parquet::errors::ParquetError;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// A smaller object is read at once: one request instead of one per column.
const WHOLE_BYTES: u64 = 1024 * 1024;

/// Reads ranges of an object.
pub struct Object {
    source: Arc<dyn Source>,
    whole: Option<Bytes>,
    _whole_bytes: Option<Reservation>,
    /// What the buffers of its columns are reserved from.
    pub budget: Budget,
    /// The first failed read: arrow passes errors on as text, which would lose what they are.
    failure: Mutex<Option<io::Error>>,
}

impl Object {
    /// Returns the object behind `source`, already in memory when it is small.
    pub fn open(source: Arc<dyn Source>, budget: &Budget) -> Result<Self, DecodeError> {
        let size = source.size();
        let fits = usize::try_from(size).ok().filter(|_| size <= WHOLE_BYTES);
        let whole_bytes = fits.map(|length| budget.reserve("the object", length)).transpose()?;
        let whole = match usize::try_from(size) {
            Ok(length) if size <= WHOLE_BYTES => Some(read_exactly(&*source, 0, length)?),
            _ => None,
        };
        Ok(Self { source, whole, _whole_bytes: whole_bytes, budget: budget.clone(), failure: Mutex::default() })
    }

    /// Returns the object's length in bytes.
    pub fn size(&self) -> u64 {
        self.source.size()
    }

    /// Returns exactly `length` bytes from `offset`.
    pub fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = offset.checked_add(length as u64).filter(|&end| end <= self.size());
        let Some(end) = end else {
            return Err(ParquetError::EOF(format!("{length} bytes at {offset} are beyond the object's end")));
        };
        if let Some(whole) = &self.whole {
            // The whole is in memory, so its offsets fit.
            return Ok(whole.slice(offset as usize..end as usize));
        }
        read_exactly(&*self.source, offset, length).map_err(|error| {
            self.note(error);
            ParquetError::General("read object".into())
        })
    }

    /// Begins to read `length` bytes from `offset`, which must be within the object; none where they are in memory.
    pub fn start_read(&self, offset: u64, length: usize) -> Option<Reading> {
        self.whole.is_none().then(|| self.source.start_read(offset, length))
    }

    /// Waits for what [`Object::start_read`] began.
    pub fn finish_read(&self, reading: Reading, length: usize) -> Result<Bytes, ParquetError> {
        let read = reading().map_err(compression::from_store).and_then(|bytes| exactly(bytes, length));
        read.map_err(|error| {
            self.note(error);
            ParquetError::General("read object".into())
        })
    }

    /// Returns whether all of it is in memory.
    pub fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// Keeps a failure for [`Object::explain`].
    pub fn note(&self, error: io::Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Keeps why the file is refused for [`Object::explain`]; returns an error for the library.
    pub fn refuse(&self, error: DecodeError, what: &str) -> ParquetError {
        self.note(io::Error::other(error));
        ParquetError::General(what.into())
    }

    /// Returns what `error` means, a failed read before it coming first.
    pub fn explain(&self, error: &(dyn std::error::Error + 'static)) -> DecodeError {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failure {
            Some(failure) => failure.into(),
            None => failure::of_chain(error),
        }
    }
}

fn read_exactly(source: &dyn Source, offset: u64, length: usize) -> io::Result<Bytes> {
    exactly(source.read_at(offset, length).map_err(compression::from_store)?, length)
}

fn exactly(bytes: Bytes, length: usize) -> io::Result<Bytes> {
    let found = bytes.len();
    if found == length {
        return Ok(bytes);
    }
    Err(io::Error::other(SourceError(anyhow::anyhow!("{found} bytes came for {length}"))))
}
