//! Bodies made by hand, byte by byte where no writer would make them.

use anyhow::{Context as _, Result};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use flate2::{Compression, Crc, write::DeflateEncoder, write::GzEncoder};
use parquet::{
    arrow::ArrowWriter,
    basic,
    file::{properties::WriterProperties, reader::FileReader as _, reader::SerializedFileReader},
};
use std::{io::Write as _, ops::RangeInclusive, sync::Arc};

/// Lines of JSON with these ids.
pub fn lines(ids: RangeInclusive<u32>) -> Vec<u8> {
    ids.map(|id| format!("{{\"id\":{id},\"value\":\"a\"}}\n")).collect::<String>().into_bytes()
}

/// One member of gzip.
pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).and_then(|()| encoder.finish()).expect("a Vec takes all")
}

/// The same as small as it gets: about a thousandth of what says one thing only.
pub fn bomb(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).and_then(|()| encoder.finish()).expect("a Vec takes all")
}

/// Members that say their own size in an extra field, and an empty one at the end
/// ([SAM specification, 4.1](https://samtools.github.io/hts-specs/SAMv1.pdf)).
pub fn bgzip(content: &[u8]) -> Vec<u8> {
    content.chunks(65_280).chain([&b""[..]]).flat_map(bgzip_block).collect()
}

fn bgzip_block(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    let deflated = encoder.write_all(content).and_then(|()| encoder.finish()).expect("a Vec takes all");
    let mut crc = Crc::new();
    crc.update(content);
    let mut block = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0".to_vec();
    block.extend(u16::try_from(deflated.len() + 25).expect("blocks are small").to_le_bytes());
    block.extend(deflated);
    block.extend(crc.sum().to_le_bytes());
    block.extend(u32::try_from(content.len()).expect("blocks are small").to_le_bytes());
    block
}

/// A frame of raw blocks whose window is 2^`window_log` bytes
/// ([RFC 8878, 3.1.1](https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1)).
pub fn zstd_frame(window_log: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = zstd_header(window_log);
    let n_blocks = content.chunks(100_000).count();
    for (index, block) in content.chunks(100_000).enumerate() {
        frame.extend(zstd_block(index + 1 == n_blocks, 0, block.len()));
        frame.extend(block);
    }
    frame
}

/// A frame with `start`, and then `n_blocks` times 128 KiB of one byte.
pub fn zstd_repeated(start: &[u8], byte: u8, n_blocks: usize) -> Vec<u8> {
    let mut frame = zstd_header(17);
    frame.extend(zstd_block(false, 0, start.len()));
    frame.extend(start);
    for index in 0..n_blocks {
        frame.extend(zstd_block(index + 1 == n_blocks, 1, 128 * 1024));
        frame.push(byte);
    }
    frame
}

/// A frame that readers step over.
pub fn zstd_skippable(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("it is short");
    [&b"\x50\x2a\x4d\x18"[..], &length.to_le_bytes(), content].concat()
}

fn zstd_header(window_log: u8) -> Vec<u8> {
    // No checksum, no dictionary, size unknown; then the window's exponent above 10.
    vec![0x28, 0xb5, 0x2f, 0xfd, 0, (window_log - 10) << 3]
}

fn zstd_block(is_last: bool, kind: u32, size: usize) -> [u8; 3] {
    let header = u32::from(is_last) | kind << 1 | u32::try_from(size).expect("blocks are small") << 3;
    let [a, b, c, _] = header.to_le_bytes();
    [a, b, c]
}

/// Where the parts of a Parquet file are.
pub struct Parts {
    pub dictionary_page: usize,
    pub data_page: usize,
    /// Where the pages of that column end.
    pub end: usize,
    pub footer: usize,
}

/// A Parquet file; the parts are those of its column `value`, which has a dictionary.
pub fn parquet(n_rows: i64) -> Result<(Vec<u8>, Parts)> {
    let values: StringArray = (0..n_rows).map(|id| Some(format!("value {}", id % 500))).collect();
    let ids = Arc::new(Int64Array::from_iter_values(0..n_rows)) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("id", ids), ("value", Arc::new(values) as ArrayRef)])?;
    let properties = WriterProperties::builder().set_compression(basic::Compression::SNAPPY).build();
    let mut body = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut body, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    let footer_bytes = u32::from_le_bytes(body[body.len() - 8..body.len() - 4].try_into()?);
    let footer = body.len() - 8 - footer_bytes as usize;
    if n_rows == 0 {
        return Ok((body, Parts { dictionary_page: 0, data_page: 0, end: 0, footer }));
    }
    let reader = SerializedFileReader::new(bytes::Bytes::from(body.clone()))?;
    let column = reader.metadata().row_group(0).column(1);
    let dictionary_page = usize::try_from(column.dictionary_page_offset().context("no dictionary")?)?;
    let data_page = usize::try_from(column.data_page_offset())?;
    let end = dictionary_page + usize::try_from(column.compressed_size())?;
    Ok((body, Parts { dictionary_page, data_page, end, footer }))
}

/// An Avro file of two blocks with `n_rows` rows each, with this marker after the first one
/// ([Avro, Object Container Files](https://avro.apache.org/docs/1.12.0/specification/#object-container-files)).
pub fn avro(n_rows: i64, marker: &[u8; 16]) -> Vec<u8> {
    const SCHEMA: &str =
        r#"{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"value","type":"string"}]}"#;
    let mut body = b"Obj\x01".to_vec();
    body.extend(long(1));
    body.extend(text("avro.schema"));
    body.extend(text(SCHEMA));
    body.extend(long(0));
    body.extend(b"0123456789abcdef");
    for (block, marker) in [(0, marker), (1, b"0123456789abcdef")] {
        let rows: Vec<u8> = (0..n_rows).flat_map(|row| [long(1 + block * n_rows + row), text("a")].concat()).collect();
        body.extend(long(n_rows));
        body.extend(long(rows.len() as i64));
        body.extend(rows);
        body.extend(marker);
    }
    body
}

/// An Avro file of one row, whose `columns` are lists of so many nulls, which take no bytes.
pub fn avro_of_nulls(columns: &[&str], n_nulls: i64) -> Vec<u8> {
    let lists = columns.iter().map(|name| format!(r#",{{"name":"{name}","type":{{"type":"array","items":"null"}}}}"#));
    let fields = format!(r#"{{"name":"id","type":"long"}}{}"#, lists.collect::<String>());
    let row = [long(1), [long(n_nulls), long(0)].concat().repeat(columns.len())].concat();
    avro_block(&fields, 1, &row)
}

/// An Avro file of one block, which says that it has so many rows.
pub fn avro_block(fields: &str, n_rows: i64, rows: &[u8]) -> Vec<u8> {
    let schema = format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#);
    let header = [&b"Obj\x01"[..], &long(1), &text("avro.schema"), &text(&schema), &long(0), b"0123456789abcdef"];
    [&header.concat(), &long(n_rows), &long(rows.len() as i64), rows, &b"0123456789abcdef"[..]].concat()
}

/// A Parquet file of texts of one letter each, `length` bytes long, packed to next to nothing.
pub fn parquet_of_texts(columns: &[&str], n_rows: i64, length: usize, dictionary: bool) -> Result<Vec<u8>> {
    let ids = Arc::new(Int64Array::from_iter_values(0..n_rows)) as ArrayRef;
    let text = |row: i64| char::from(b'a' + (row % 26) as u8).to_string().repeat(length);
    let texts = Arc::new(StringArray::from_iter_values((0..n_rows).map(text))) as ArrayRef;
    let columns = columns.iter().map(|name| (*name, Arc::clone(&texts)));
    let batch = RecordBatch::try_from_iter(std::iter::once(("id", ids)).chain(columns))?;
    let properties = WriterProperties::builder()
        .set_compression(basic::Compression::ZSTD(basic::ZstdLevel::default()))
        .set_dictionary_enabled(dictionary)
        .set_dictionary_page_size_limit(1 << 30)
        .set_data_page_size_limit(1 << 30)
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None)
        .build();
    let mut body = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut body, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(body)
}

fn text(text: &str) -> Vec<u8> {
    [long(text.len() as i64), text.as_bytes().to_vec()].concat()
}

fn long(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}
