//! Files of older writers, and of some who wrote a format of their own.

use super::*;
use crate::parquet::thrift::page_sizes;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaData};

/// Returns a file whose column chunks say something else of themselves.
fn with_chunks(file: &[u8], change: impl Fn(ColumnChunkMetaData) -> ColumnChunkMetaData) -> Vec<u8> {
    let footer_bytes = u32::from_le_bytes(file[file.len() - 8..][..4].try_into().expect("four bytes")) as usize;
    let start = file.len() - 8 - footer_bytes;
    let metadata = ParquetMetaDataReader::decode_metadata(&file[start..file.len() - 8]).expect("a footer");
    let group = |group: &RowGroupMetaData| {
        let columns = group.columns().iter().cloned().map(&change).collect();
        group.clone().into_builder().set_column_metadata(columns).build().expect("a group")
    };
    let groups = metadata.row_groups().iter().map(group).collect();
    let metadata = metadata.into_builder().set_row_groups(groups).build();
    let mut changed = file[..start].to_vec();
    ParquetMetaDataWriter::new(&mut changed, &metadata).finish().expect("a Vec takes all");
    changed
}

fn two_columns() -> RecordBatch {
    let texts = |modulus: i64| (0..100).map(|i: i64| Some(format!("s{}", i % modulus))).collect::<StringArray>();
    records(vec![("a", Arc::new(texts(7))), ("b", Arc::new(texts(5)))])
}

#[test]
fn a_dictionary_that_is_nowhere_is_where_the_pages_are() {
    let file = write(&two_columns(), properties().set_dictionary_enabled(false));
    let changed =
        with_chunks(&file, |chunk| chunk.into_builder().set_dictionary_page_offset(Some(0)).build().expect("a chunk"));
    let found = read_texts(changed, "a b").expect("a file");
    assert_eq!((found.rows.len(), found.rows[8].as_str()), (100, "9 | s1 | s3"));
}

#[test]
fn a_length_that_leaves_out_the_dictionarys_header_is_put_right_for_those_who_wrote_so() {
    // Nothing else stood between chunks then.
    let properties = || properties().set_offset_index_disabled(true);
    let by = |writer: &str| write(&two_columns(), properties().set_created_by(writer.to_owned()));
    let shorter = |file: &[u8]| {
        with_chunks(file, |chunk| {
            let start = chunk.byte_range().0 as usize;
            let header = page_sizes(&file[start..]).expect("a header").header as i64;
            let length = chunk.compressed_size() - header;
            // Nor did they say where the dictionary is.
            let at = chunk.byte_range().0 as i64;
            let chunk = chunk.into_builder().set_total_compressed_size(length).set_dictionary_page_offset(None);
            chunk.set_data_page_offset(at).build().expect("a chunk")
        })
    };
    let found = read_texts(shorter(&by("parquet-mr")), "a b").expect("a file");
    assert_eq!((found.rows.len(), found.rows[8].as_str()), (100, "9 | s1 | s3"));
    // Of others it is a file that ends early.
    assert!(read_texts(shorter(&by("parquet-mr version 1.12.0")), "a b").is_err());
    // One that says it right stays so.
    assert_eq!(read_texts(by("parquet-mr version 1.2.8"), "a b").expect("a file").rows.len(), 100);
}

#[test]
fn pages_that_say_they_are_plain_are_not_where_their_writer_always_said_so() {
    let by = |writer: &str| {
        let properties = properties().set_created_by(writer.to_owned()).set_dictionary_enabled(false);
        let properties = properties.set_compression(Compression::SNAPPY);
        let mut file = write(&two_columns(), properties.set_writer_version(WriterVersion::PARQUET_2_0));
        let metadata =
            ParquetMetaDataReader::new().parse_and_finish(&bytes::Bytes::from(file.clone())).expect("a footer");
        for chunk in metadata.row_group(0).columns() {
            let start = chunk.data_page_offset() as usize;
            let length = page_sizes(&file[start..]).expect("a header").header as usize;
            // The last of the page's fields, a boolean, before the ends of two structures.
            let [.., flag, 0, 0] = &mut file[start..start + length] else { panic!("a header ends so") };
            assert_eq!(*flag, 0x11);
            *flag = 0x12;
        }
        file
    };
    let found = read_texts(by("parquet-cpp version 1.5.1-SNAPSHOT"), "a b").expect("a file");
    assert_eq!((found.rows.len(), found.rows[8].as_str()), (100, "9 | s1 | s3"));
    assert!(read_texts(by("parquet-cpp-arrow version 9.0.0"), "a b").is_err());
}

#[test]
fn a_group_without_members_is_passed_over() {
    let message = "message m { REQUIRED INT32 a; OPTIONAL group g { OPTIONAL group h { } } OPTIONAL INT32 b; }";
    let Ok(schema) = parse_message_type(message) else { panic!("a schema") };
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::default()).expect("a writer");
    let mut group = writer.next_row_group().expect("a group");
    for value in [7, 8] {
        let mut column = group.next_column().expect("a column").expect("one more");
        let levels = [1];
        let levels = (value == 8).then_some(&levels[..]);
        column.typed::<Int32>().write_batch(&[value], levels, None).expect("a value");
        column.close().expect("a column");
    }
    group.close().expect("a group");
    let file = writer.into_inner().expect("a file");
    let found = read_texts(file.clone(), "a g b").expect("a file");
    assert_eq!(found.rows, ["1 | 7 | ~ | 8"]);
    let reader = open(Arc::new(Memory::new(file)), &options()).expect("a file");
    let declared = reader.declared().expect("a schema");
    assert_eq!(declared, [Declared::Int(32), Declared::Nested, Declared::Int(32)]);
}

#[test]
fn a_place_that_is_negative_is_corrupt() {
    let file = write(&two_columns(), properties());
    let changed =
        with_chunks(&file, |chunk| chunk.into_builder().set_dictionary_page_offset(Some(-4)).build().expect("a chunk"));
    let error = read_texts(changed, "a b").expect_err("negative").to_string();
    assert_eq!(error, "corrupt: Parquet footer: column \"a\" is at a negative place");
}
