//! What older writers, and writers of a format of their own, left different from what Parquet specifies.

use super::{object::Object, thrift::page_sizes};
use crate::{DecodeError, failure};
use parquet::{
    errors::Result,
    file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData},
};

/// The header of a dictionary is far shorter.
const MAX_DICTIONARY_HEADER: u64 = 100;
/// The first parquet-mr whose column chunks count the dictionary's header.
const COUNTS_HEADER: [u32; 3] = [1, 2, 9];
/// The first parquet-cpp that says of pages of the second version whether they are compressed.
const SAYS_COMPRESSED: [u32; 3] = [2, 0, 0];

/// Returns whether pages of a file are compressed that say that they are not.
pub fn says_plain(metadata: &ParquetMetaData) -> bool {
    is_before(metadata.file_metadata().created_by(), "parquet-cpp", SAYS_COMPRESSED)
}

/// Returns the metadata with offsets and lengths that say where its column chunks are; `end` is where the footer begins.
///
/// # Errors
/// [`DecodeError::Corrupt`] where one is negative.
pub fn as_specified(metadata: ParquetMetaData, object: &Object, end: u64) -> Result<ParquetMetaData, DecodeError> {
    let chunks = || metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    let is_negative = |chunk: &ColumnChunkMetaData| {
        let start = chunk.dictionary_page_offset().unwrap_or(0).min(chunk.data_page_offset());
        start.min(chunk.compressed_size()) < 0
    };
    if let Some(chunk) = chunks().find(|chunk| is_negative(chunk)) {
        let problem = format!("Parquet footer: column {} is at a negative place", chunk.column_path());
        return Err(DecodeError::Corrupt(problem));
    }
    let lacks_header = is_before(metadata.file_metadata().created_by(), "parquet-mr", COUNTS_HEADER);
    // No page is at the file's magic number.
    let is_nowhere = |chunk: &ColumnChunkMetaData| chunk.dictionary_page_offset() == Some(0);
    if !lacks_header && !chunks().any(is_nowhere) {
        return Ok(metadata);
    }
    let mut starts: Vec<u64> = chunks().map(start).chain([end]).collect();
    starts.sort_unstable();
    let changed = |chunk: &ColumnChunkMetaData| {
        let dictionary = chunk.dictionary_page_offset().filter(|offset| *offset > 0);
        let chunk = chunk.clone().into_builder().set_dictionary_page_offset(dictionary).build()?;
        let missing = if lacks_header { missing_header(&chunk, &starts, object) } else { 0 };
        let length = chunk.compressed_size() + missing;
        chunk.into_builder().set_total_compressed_size(length).build()
    };
    let group = |group: &RowGroupMetaData| {
        let columns = group.columns().iter().map(changed).collect::<Result<_>>()?;
        group.clone().into_builder().set_column_metadata(columns).build()
    };
    let groups = metadata.row_groups().iter().map(group).collect::<Result<_>>();
    let groups = groups.map_err(|error| failure::of_chain(&error))?;
    Ok(metadata.into_builder().set_row_groups(groups).build())
}

/// Returns where a column chunk begins, as the library has it.
fn start(chunk: &ColumnChunkMetaData) -> u64 {
    let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
    u64::try_from(start).unwrap_or(0)
}

/// Returns the length of a dictionary's header that a column chunk's length leaves out: what comes next begins later by it.
fn missing_header(chunk: &ColumnChunkMetaData, starts: &[u64], object: &Object) -> i64 {
    let start = start(chunk);
    let length = u64::try_from(chunk.compressed_size()).unwrap_or(0);
    let next = starts.get(starts.partition_point(|other| *other <= start)).copied().unwrap_or(start);
    let gap = next.saturating_sub(start.saturating_add(length));
    if !(1..=MAX_DICTIONARY_HEADER).contains(&gap) {
        return 0;
    }
    let view = object.read_at(start, MAX_DICTIONARY_HEADER.min(next - start) as usize);
    let sizes = view.ok().and_then(|view| page_sizes(&view).ok());
    let is_missing = sizes.is_some_and(|sizes| sizes.dictionary_values.is_some() && sizes.header == gap);
    if is_missing { gap as i64 } else { 0 }
}

/// Returns whether a file is by this writer, of an earlier version than the given one; one without a version is.
fn is_before(created_by: Option<&str>, writer: &str, version: [u32; 3]) -> bool {
    let Some(rest) = created_by.and_then(|by| by.strip_prefix(writer)) else { return false };
    if !rest.is_empty() && !rest.starts_with(' ') {
        return false;
    }
    let written = rest.trim_start().strip_prefix("version ").unwrap_or_default();
    let mut numbers = written.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let of_file = [(); 3].map(|()| numbers.next().unwrap_or(0));
    of_file < version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_known_by_its_name_and_version() {
        let is_old = |by: &str| is_before(Some(by), "parquet-mr", COUNTS_HEADER);
        for by in
            ["parquet-mr", "parquet-mr version 1.2.8 (build x)", "parquet-mr version 1.1", "parquet-mr version 0.9.12"]
        {
            assert!(is_old(by), "{by}");
        }
        for by in
            ["parquet-mr version 1.2.9", "parquet-mr version 1.12.0-2018 (build)", "parquet-mrs", "impala version 1.0"]
        {
            assert!(!is_old(by), "{by}");
        }
        assert!(!is_before(None, "parquet-mr", COUNTS_HEADER));
        assert!(is_before(Some("parquet-cpp version 1.5.1-SNAPSHOT"), "parquet-cpp", SAYS_COMPRESSED));
        assert!(!is_before(Some("parquet-cpp-arrow version 1.0.0"), "parquet-cpp", SAYS_COMPRESSED));
    }
}
