mod conditions;
mod hostile;
mod old;
mod types;

use super::*;
use crate::{
    Column, OnNewField,
    encode::PgType,
    trial::{Memory, Read, column, options, read, text_column},
};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding},
    data_type::Int32Type as Int32,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion},
        writer::SerializedFileWriter,
    },
    schema::parser::parse_message_type,
};
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn rows_arrive_in_order_over_groups_and_pages() {
    let values: Vec<i64> = (0..5_000).collect();
    let records = records(vec![
        ("a", Arc::new(Int64Array::from(values.clone()))),
        (
            "b",
            Arc::new(values.iter().map(|value| (value % 3 > 0).then(|| format!("s{value}"))).collect::<StringArray>()),
        ),
    ]);
    let file =
        write(&records, properties().set_max_row_group_row_count(Some(1_700)).set_data_page_row_count_limit(100));
    let found = read_texts(file, "a b").expect("a file");
    assert_eq!(found.rows.len(), 5_000);
    for (row, value) in found.rows.iter().zip(values) {
        let text = if value % 3 > 0 { format!("s{value}") } else { "~".into() };
        assert_eq!(*row, format!("{} | {value} | {text}", value + 1));
    }
    assert_eq!(found.seen, [true, true]);
    assert_eq!(found.new_fields, []);
}

#[test]
fn every_codec_is_read() {
    let text: StringArray = (0..1_000).map(|i| Some(format!("value {}", i % 10))).collect();
    let records = records(vec![("a", Arc::new(text))]);
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::BROTLI(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
    ] {
        let found = read_texts(write(&records, properties().set_compression(codec)), "a").expect("a file");
        assert_eq!(found.rows[999], "1000 | value 9", "{codec}");
    }
}

#[test]
fn delta_encodings_are_read_in_both_page_versions() {
    let text = |i: i64| (i % 4 > 0).then(|| format!("a long common beginning {i:08}"));
    let records = records(vec![("a", Arc::new((0..5_000).map(text).collect::<StringArray>()))]);
    for encoding in [Encoding::DELTA_BYTE_ARRAY, Encoding::DELTA_LENGTH_BYTE_ARRAY] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let properties =
                properties().set_dictionary_enabled(false).set_encoding(encoding).set_writer_version(version);
            let found = read_texts(write(&records, properties), "a").expect("a file");
            assert_eq!(found.rows.len(), 5_000);
            assert_eq!(found.rows[4_999], format!("5000 | {}", text(4_999).expect("a text")), "{encoding} {version:?}");
        }
    }
}

#[test]
fn a_page_that_does_not_match_its_checksum_is_corrupt() {
    // The library's writer writes no checksums; these were written by Arrow for C++: four plain 64-bit integers.
    let files: [&[u8]; 2] =
        [include_bytes!("files/checksum-page-v1.parquet"), include_bytes!("files/checksum-page-v2.parquet")];
    for file in files {
        let mut file = file.to_vec();
        assert_eq!(read_texts(file.clone(), "a").expect("a file").rows.len(), 4);
        let third = 0x0102_0304_0506_070a_i64.to_le_bytes();
        let at = file.windows(8).position(|bytes| bytes == third).expect("plain values");
        file[at] ^= 1;
        match read_texts(file, "a") {
            Err(DecodeError::Corrupt(problem)) => assert!(problem.contains("checksum"), "{problem}"),
            other => panic!("{:?}", other.map(|found| found.rows)),
        }
    }
}

#[test]
fn dates_in_the_calendar_of_older_spark_keep_their_day() {
    let schema = parse_message_type("message m { REQUIRED INT32 a (DATE); }").expect("a schema");
    for (version, expected) in [("2.4.8", "1000-01-01"), ("3.5.0", "1000-01-06")] {
        let metadata = vec![KeyValue::new("org.apache.spark.version".to_owned(), version.to_owned())];
        let properties = properties().set_key_value_metadata(Some(metadata)).build();
        let mut file = Vec::new();
        let mut writer =
            SerializedFileWriter::new(&mut file, Arc::new(schema.clone()), Arc::new(properties)).expect("a writer");
        let mut group = writer.next_row_group().expect("a row group");
        let mut column = group.next_column().expect("a column").expect("it is there");
        // 1000-01-01 of the Julian calendar, which is 1000-01-06 of the Gregorian.
        column.typed::<Int32>().write_batch(&[-354_280], None, None).expect("written");
        column.close().expect("closed");
        group.close().expect("closed");
        writer.close().expect("closed");
        assert_eq!(read_texts(file, "a").expect("a file").rows, [format!("1 | {expected}")], "{version}");
    }
}

#[test]
fn a_file_without_rows_is_fine() {
    let empty = records(vec![("a", Arc::new(Int64Array::from(Vec::<i64>::new())))]);
    assert_eq!(read_texts(write(&empty, properties()), "a").expect("a file").rows, [""; 0]);
}

#[test]
fn rows_are_counted_where_no_column_takes_a_field() {
    let values =
        records(vec![("x", Arc::new(Int64Array::from(vec![1, 2]))), ("y", Arc::new(Int64Array::from(vec![1, 2])))]);
    let columns = [text_column("a")];
    let fields = Fields::Named(vec![]);
    // Whether such a mapping is allowed at all is the mapping's business.
    if let Ok(found) = read_with(write(&values, properties()), &columns, OnNewField::Ignore) {
        assert_eq!(found.rows.len(), 2, "{fields:?}");
    }
}

#[test]
fn only_the_needed_columns_are_fetched_and_in_large_pieces() {
    let n = 300_000;
    let wide: StringArray = (0..n).map(|i: i64| Some(format!("{:x}", i.wrapping_mul(0x1E37_79B9_7F4A_7C15)))).collect();
    let records = records(vec![("a", Arc::new(Int64Array::from_iter_values(0..n))), ("wide", Arc::new(wide))]);
    let file = write(&records, properties().set_dictionary_enabled(false).set_data_page_row_count_limit(1_000));
    let object = Arc::new(Memory::new(file));
    let reader = open(Arc::clone(&object) as Arc<dyn Source>, &options());
    let found = read(reader, &[text_column("a")], OnNewField::Ignore).expect("a file");
    assert_eq!(found.rows.len(), 300_000);
    // 2.4 MB of numbers with 4 MiB of read-ahead: the footer and the column.
    assert!(object.n_reads.load(Relaxed) <= 3, "{} reads", object.n_reads.load(Relaxed));
}

#[test]
fn extras_are_an_object_of_the_fields_no_column_takes() {
    let records = records(vec![
        ("a", Arc::new(Int64Array::from(vec![1]))),
        ("x \"y\"", Arc::new(Int64Array::from(vec![2]))),
        ("z", Arc::new(StringArray::from(vec![None::<&str>]))),
    ]);
    let columns = [text_column("a"), column("extra", PgType::Jsonb)];
    let found = read_with(write(&records, properties()), &columns, OnNewField::Extras).expect("a file");
    assert_eq!(found.rows, [r#"1 | 1 | {"x \"y\"":2,"z":null}"#]);
}

#[test]
fn a_field_no_column_takes_rejects_every_row_where_that_is_wanted() {
    let records = records(vec![
        ("a", Arc::new(Int64Array::from(vec![1, 2]))),
        ("x", Arc::new(StringArray::from(vec!["p", "q"]))),
    ]);
    let found = read_with(write(&records, properties()), &[text_column("a")], OnNewField::Reject).expect("a file");
    assert_eq!(found.rejects, ["1 new_field", "2 new_field"]);
    assert_eq!(found.messages[0], "no column takes field \"x\"");
    assert_eq!(found.payloads[1].0, br#"{"a":2,"x":"q"}"#);
}

#[test]
fn a_reject_keeps_its_row_as_json() {
    let records = records(vec![
        ("a", Arc::new(StringArray::from(vec!["1", "x", "3"]))),
        ("b", Arc::new(StringArray::from(vec![Some("p"), None, Some("q")]))),
    ]);
    let columns = [column("a", PgType::Int4), text_column("b")];
    let found = read_with(write(&records, properties()), &columns, OnNewField::Ignore).expect("a file");
    assert_eq!(found.rows, ["1 | 00000001 | p", "3 | 00000003 | q"]);
    assert_eq!(found.rejects, ["2 type a"]);
    assert_eq!(found.payloads[0].0, br#"{"a":"x","b":null}"#);
}

#[test]
fn a_row_that_is_too_long_is_a_reject() {
    let long = "y".repeat(600 * 1024);
    let records = records(vec![
        ("a", Arc::new(StringArray::from(vec![&*long, "p", "q"]))),
        ("b", Arc::new(StringArray::from(vec![&*long, "p", &*long]))),
    ]);
    let found = read_texts(write(&records, properties()), "a b").expect("a file");
    assert_eq!((found.rejects, found.rows.len()), (vec!["1 row_size".into()], 2));
}

#[test]
fn rows_far_above_the_average_do_not_fill_the_memory() {
    // One long row in sixty, and then sixty of them: batches by the average would hold all at once.
    let mut texts = vec!["x".to_owned(); 60_000];
    texts.extend((0..60).map(|i| format!("{}{i:04}", "0".repeat(1_000_000))));
    texts.push("end".into());
    let records = records(vec![("a", Arc::new(StringArray::from(texts)))]);
    let file = write(
        &records,
        properties().set_dictionary_enabled(false).set_data_page_size_limit(1_000_000).set_write_batch_size(1),
    );
    let found = read_texts(file, "a").expect("a file");
    assert_eq!(found.rows.len(), 60_061);
    assert_eq!(found.rows[60_060], "60061 | end");
    assert!(found.rows[60_059].ends_with("0059"));
}

/// Spark's own files agree with what Spark wrote as JSON, where they are at hand.
#[test]
fn sparks_files_are_read() {
    let Some(data) = std::env::var_os("PENSTOCK_DATA") else { return };
    let folder = std::path::Path::new(&data).join("spark/parquet_micros");
    let mut n_files = 0;
    for partition in std::fs::read_dir(folder).expect("the folder").flatten().filter(|entry| entry.path().is_dir()) {
        for file in std::fs::read_dir(partition.path()).expect("a partition").flatten() {
            if file.path().extension().is_some_and(|extension| extension == "parquet") {
                let file = std::fs::read(file.path()).expect("a file");
                let reader = open(Arc::new(Memory::new(file.clone())), &options()).expect("Parquet");
                let Fields::Named(fields) = reader.fields() else { panic!("Parquet names its fields") };
                let columns: Vec<_> = fields.iter().map(|field| text_column(&field.name)).collect();
                let found = read_with(file, &columns, OnNewField::Ignore).expect("a file of Spark's");
                assert_eq!(found.rejects, [""; 0]);
                assert!(!found.rows.is_empty());
                n_files += 1;
            }
        }
    }
    assert!(n_files > 0);
}

pub fn records(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("columns of one length")
}

pub fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None)
}

pub fn write(records: &RecordBatch, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, records.schema(), Some(properties.build())).expect("a writer");
    writer.write(records).expect("records");
    writer.close().expect("a footer");
    file
}

pub fn read_texts(file: Vec<u8>, columns: &str) -> Result<Read, DecodeError> {
    let columns: Vec<_> = columns.split(' ').map(text_column).collect();
    read_with(file, &columns, OnNewField::Ignore)
}

pub fn read_with(file: Vec<u8>, columns: &[Column], on_new_field: OnNewField) -> Result<Read, DecodeError> {
    read(open(Arc::new(Memory::new(file)), &options()), columns, on_new_field)
}
