//! The footer of a Parquet file, looked at before the library allocates by it.

use super::{
    object::Object,
    old,
    thrift::{Seen, check_schema},
};
use crate::{
    DecodeError,
    budget::{Budget, Reservation},
    contain::contained,
    failure,
};
use bytes::{Bytes, BytesMut};
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
    RowGroupMetaData,
};
use std::collections::BTreeSet;

/// Length and magic at the file's end.
const TAIL_BYTES: usize = 8;
/// What is read at first: most footers fit.
const FIRST_READ_BYTES: usize = 64 * 1024;
/// A longer footer is refused: its metadata takes several times its length in memory.
const MAX_FOOTER_BYTES: usize = 16 * 1024 * 1024;
/// What a column chunk's metadata takes beside its structure: lists and names.
const CHUNK_BYTES: usize = size_of::<ColumnChunkMetaData>() + 256;
const GROUP_BYTES: usize = size_of::<RowGroupMetaData>() + 64;
/// What a schema's element takes in the library's schema, ours, arrow's and the mapping, beside its name.
const ELEMENT_BYTES: usize = 2048;
/// How often a name is in memory: in those, and written as JSON, which can be six times as long.
const NAME_COPIES: usize = 16;
/// How often the columns' paths are: in the file's schema, in ours, and in what is declared.
const PATH_COPIES: usize = 3;
/// A longer name is refused: no column's is that long.
const MAX_NAME_BYTES: usize = 64 * 1024;

/// A file's metadata.
pub struct Footer {
    /// As the library has it.
    pub metadata: ParquetMetaData,
    /// Its bytes.
    pub bytes: Bytes,
    /// The columns that are encrypted, by number.
    pub encrypted: BTreeSet<usize>,
    /// For all of this.
    pub reserved: Reservation,
}

/// Reads and checks the footer; its bytes are reserved as well.
///
/// # Errors
/// [`DecodeError::Corrupt`] when it is not one, [`DecodeError::Limits`] when it is too long.
pub fn read(object: &Object, max_schema_depth: usize, budget: &Budget) -> Result<Footer, DecodeError> {
    let corrupt = |problem: &str| DecodeError::Corrupt(format!("Parquet footer: {problem}"));
    let explain = |error| object.explain(&error);
    let size = object.size();
    let first = size.min(FIRST_READ_BYTES as u64) as usize;
    if first < TAIL_BYTES {
        return Err(corrupt("file is too short"));
    }
    let end = object.read_at(size - first as u64, first).map_err(explain)?;
    let (before, tail) = end.split_at(first - TAIL_BYTES);
    match &tail[4..] {
        b"PAR1" => {}
        b"PARE" => return Err(corrupt("file is encrypted")),
        _ => return Err(corrupt("no magic number at the end")),
    }
    let length = u32::from_le_bytes(tail[..4].try_into().expect("four of eight bytes")) as usize;
    if (length + TAIL_BYTES) as u64 > size {
        return Err(corrupt("longer than the file"));
    }
    if length > MAX_FOOTER_BYTES {
        return Err(DecodeError::Limits(format!("Parquet footer of {length} bytes, {MAX_FOOTER_BYTES} are allowed")));
    }
    // The library keeps what is not known to it, and names, as copies.
    let mut reserved = budget.reserve("the Parquet footer", 2 * length)?;
    let mut bytes = if length <= before.len() {
        end.slice(before.len() - length..before.len())
    } else {
        object.read_at(size - (length + TAIL_BYTES) as u64, length).map_err(explain)?
    };
    let Seen { counts, patches, encrypted } = check_schema(&bytes, max_schema_depth).map_err(corrupt)?;
    if !patches.is_empty() {
        let mut patched = BytesMut::from(&bytes[..]);
        for patch in patches {
            patched[length - patch.from_end] = patch.byte;
        }
        bytes = patched.freeze();
    }
    if counts.longest_name > MAX_NAME_BYTES {
        let problem = format!("a name of {} bytes in a Parquet schema", counts.longest_name);
        return Err(DecodeError::Limits(format!("{problem}, {MAX_NAME_BYTES} are allowed")));
    }
    reserved.grow("names in a Parquet schema", counts.names * NAME_COPIES + counts.paths * PATH_COPIES)?;
    let listed = counts.elements * ELEMENT_BYTES + counts.groups * GROUP_BYTES + counts.chunks * CHUNK_BYTES;
    let what = format!("metadata of {} row groups and {} column chunks", counts.groups, counts.chunks);
    reserved.grow(&what, listed)?;
    let options = ParquetMetaDataOptions::new()
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let metadata = contained(|| {
        ParquetMetaDataReader::decode_metadata_with_options(&bytes, Some(&options)).map_err(|error| {
            match encrypted.is_empty() {
                true => failure::of_chain(&error),
                false => corrupt("columns are encrypted, which is not supported"),
            }
        })
    })?;
    let metadata = old::as_specified(metadata, object, size - (length + TAIL_BYTES) as u64)?;
    Ok(Footer { metadata, bytes, encrypted, reserved })
}
