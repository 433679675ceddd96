//! Files that are broken, and files that mean harm.

use super::*;
use crate::{budget::Budget, trial};
use arrow_array::{
    StructArray,
    builder::{BooleanBuilder, Int32Builder, ListBuilder},
};
use arrow_schema::{DataType, Field as ArrowField};
use proptest::prelude::*;

#[test]
fn what_is_no_parquet_is_corrupt() {
    for bytes in [&b""[..], b"PAR1", b"PAR1PAR1", b"\0\0\0\0PAR1", b"\xff\xff\xff\xffPAR1", b"hello, world"] {
        assert!(matches!(read_texts(bytes.to_vec(), "a"), Err(DecodeError::Corrupt(_))), "{bytes:?}");
    }
    let mut long_footer = vec![0; 17 << 20];
    long_footer.extend((16u32 << 20 | 1).to_le_bytes());
    long_footer.extend(b"PAR1");
    assert!(matches!(read_texts(long_footer, "a"), Err(DecodeError::Limits(_))));
}

#[test]
fn a_file_cut_short_is_corrupt() {
    let file = sample();
    for length in 0..file.len() {
        assert!(matches!(read_texts(file[..length].to_vec(), "a"), Err(DecodeError::Corrupt(_))), "{length}");
    }
}

#[test]
fn a_row_count_that_is_a_lie_is_corrupt() {
    // Spelled out rather than searched for: the footer's last i64 is the group's row count.
    let file = sample();
    let Footer { metadata, .. } = footer::read(
        &Object::open(Arc::new(Memory::new(file.clone())), &Budget::default()).expect("an object"),
        200,
        &Budget::default(),
    )
    .expect("a footer");
    let n_rows = metadata.file_metadata().num_rows();
    let mut n_refused = 0;
    let start = file.len() - 8 - u32::from_le_bytes(file[file.len() - 8..][..4].try_into().expect("four")) as usize;
    let needle = zigzag(n_rows);
    for at in start..file.len() - needle.len() {
        if file[at..].starts_with(&needle) {
            let mut changed = file.clone();
            changed[at..at + needle.len()].copy_from_slice(&zigzag(n_rows + 1));
            match read_texts(changed, "a b") {
                Ok(found) => assert_eq!(found.rows.len() as i64, n_rows, "at {at}"),
                Err(_) => n_refused += 1,
            }
        }
    }
    assert!(n_refused > 0);
}

#[test]
fn a_list_packed_into_nothing_is_a_stated_failure() {
    let mut list = ListBuilder::new(Int32Builder::new());
    for _ in 0..5 << 20 {
        list.values().append_null();
    }
    list.append(true);
    let records = records(vec![("a", Arc::new(list.finish()))]);
    let file = write(&records, properties().set_compression(Compression::ZSTD(Default::default())));
    assert!(matches!(read_texts(file, "a"), Err(DecodeError::Limits(_) | DecodeError::Corrupt(_))));
}

#[test]
fn nested_values_count_over_all_rows_although_nothing_comes_of_them() {
    let mut list = ListBuilder::new(BooleanBuilder::new());
    for _ in 0..20 {
        list.values().append_nulls(200_000);
        list.append(true);
    }
    // Each list is too long for a row, and all of them are next to nothing in the file.
    let file = write(&records(vec![("a", Arc::new(list.finish()))]), properties());
    assert!(file.len() < 10_000, "{} bytes", file.len());
    let limited = |row_bytes: usize, free: u64| {
        let mut options = options();
        options.limits.row_bytes = row_bytes;
        options.limits.expansion_free_bytes = free;
        read(open(Arc::new(Memory::new(file.clone())), &options), &[text_column("a")], OnNewField::Ignore)
    };
    let found = limited(1 << 10, 8 << 20).expect("4 million values and some");
    assert_eq!(found.rejects.len(), 20);
    // By the values, which are more than the file may have; by what was written of each row, which is more than that.
    for (row_bytes, free) in [(1 << 10, 3 << 20), (512 << 10, 8 << 20)] {
        assert!(matches!(limited(row_bytes, free), Err(DecodeError::Limits(_))), "{row_bytes}");
    }
}

#[test]
fn memory_is_reserved_for_whatever_a_file_sizes() {
    let texts = |texts: Vec<String>| records(vec![("a", Arc::new(StringArray::from(texts)))]);
    // A value of 200 kB that packs well, one that does not fit what is read at once, and one after the other.
    let long = texts(vec!["x".repeat(200_000)]);
    let wide = texts((0..1_200).map(|i: u64| format!("{:01000}", i.wrapping_mul(0x1E37_79B9_7F4A_7C15))).collect());
    let many = texts((0..50).map(|i| i.to_string()).collect());
    let mut list = ListBuilder::new(Int32Builder::new());
    list.values().append_slice(&[7; 20_000]);
    list.append(true);
    let nested = records(vec![("a", Arc::new(list.finish()))]);
    let inside = StructArray::from(vec![
        (Arc::new(ArrowField::new("x", DataType::Int64, true)), Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        (Arc::new(ArrowField::new("y", DataType::Int64, true)), Arc::new(Int64Array::from(vec![1])) as ArrayRef),
    ]);
    let named = RecordBatch::try_from_iter([
        ("a".to_owned(), Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("n".repeat(10_000), Arc::new(inside)),
    ]);
    let named = named.expect("columns of one length");
    let plain = || properties().set_dictionary_enabled(false);
    let zstd = Compression::ZSTD(Default::default());
    for (expected, file) in [
        ("the object", write(&many, plain())),
        ("the Parquet footer", write(&many, plain())),
        ("names in a Parquet schema", write(&named, plain())),
        ("metadata of 50 row groups", write(&many, plain().set_max_row_group_row_count(Some(1)))),
        ("rows of 1 Parquet columns", write(&many, plain())),
        ("reading ahead in a Parquet column", write(&wide, plain())),
        ("a Parquet page", write(&long, plain().set_compression(zstd))),
        ("a Parquet dictionary", write(&long, properties().set_compression(zstd))),
        ("unpacking a Parquet page", write(&long, plain().set_compression(Compression::BROTLI(Default::default())))),
        ("a Parquet page that expands", write(&long, plain().set_encoding(Encoding::DELTA_BYTE_ARRAY))),
        ("nested values of a Parquet page", write(&nested, plain())),
    ] {
        let refused = trial::refused(|options| open(Arc::new(Memory::new(file.clone())), options));
        assert!(refused.iter().any(|what| what.contains(expected)), "{expected}: {refused:?}");
    }
}

#[test]
fn a_name_that_no_column_can_have_is_a_stated_failure() {
    let name = |length: usize| {
        let columns = [("a".to_owned(), 1), ("n".repeat(length), 2)];
        let columns = columns.map(|(name, value)| (name, Arc::new(Int64Array::from(vec![value])) as ArrayRef));
        read_texts(write(&RecordBatch::try_from_iter(columns).expect("columns of one length"), properties()), "a")
    };
    assert_eq!(name(1_000).expect("a file").rows, ["1 | 1"]);
    let error = name(100_000).expect_err("a limit").to_string();
    assert_eq!(error, "limits: a name of 100000 bytes in a Parquet schema, 65536 are allowed");
}

#[test]
fn a_long_dictionary_value_used_by_many_rows_is_not_copied_for_each() {
    let long = "z".repeat(900_000);
    let mut texts = vec![&*long; 60];
    texts.push("end");
    let records = records(vec![("a", Arc::new(StringArray::from(texts)))]);
    let file = write(&records, properties().set_dictionary_page_size_limit(2_000_000));
    assert!(file.len() < 1_000_000, "the value is there once");
    let mut limits = options();
    limits.limits.expansion_free_bytes = 16 << 20;
    limits.limits.expansion_ratio = 10;
    let found = read(open(Arc::new(Memory::new(file)), &limits), &[text_column("a")], OnNewField::Ignore);
    assert!(matches!(found, Err(DecodeError::Limits(_))), "54 MB of rows from a file of 0.9 MB");
}

#[test]
fn a_long_value_repeated_by_prefixes_is_a_stated_failure() {
    let long = "p".repeat(500_000);
    let records = records(vec![("a", Arc::new(StringArray::from(vec![&*long; 1_000])))]);
    let properties = properties().set_dictionary_enabled(false).set_encoding(Encoding::DELTA_BYTE_ARRAY);
    let file = write(&records, properties.set_data_page_size_limit(1 << 30).set_data_page_row_count_limit(10_000));
    assert!(file.len() < 1_000_000, "the value is there once");
    assert!(matches!(read_texts(file, "a"), Err(DecodeError::Limits(_))));
}

#[test]
fn a_large_gzip_page_is_read() {
    let text: StringArray = (0..4_000).map(|i| Some(format!("{i:1000}"))).collect();
    let records = records(vec![("a", Arc::new(text))]);
    let properties =
        || properties().set_dictionary_enabled(false).set_compression(Compression::GZIP(Default::default()));
    let file = write(&records, properties().set_data_page_size_limit(8 << 20).set_data_page_row_count_limit(10_000));
    assert_eq!(read_texts(file, "a").expect("a file").rows.len(), 4_000);
}

#[test]
fn a_store_that_fails_is_not_a_corrupt_object() {
    let n = 200_000;
    let file = write(
        &records(vec![("a", Arc::new(Int64Array::from_iter_values(0..n)))]),
        properties().set_dictionary_enabled(false),
    );
    for fail_after in 0..2 {
        let mut object = Memory::new(file.clone());
        object.fail_after = fail_after;
        let found = read(open(Arc::new(object), &options()), &[text_column("a")], OnNewField::Ignore);
        assert!(
            matches!(found, Err(DecodeError::Source(_))),
            "{fail_after}: {:?}",
            found.map(|found| found.rows.len())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut file = sample();
        for (index, byte) in flips {
            let at = index.index(file.len());
            file[at] = byte;
        }
        let _ = read_texts(file, "a b l");
    }

    #[test]
    fn any_footer_is_read_without_panic(footer: Vec<u8>) {
        let mut file = b"PAR1".to_vec();
        file.extend(&footer);
        file.extend((footer.len() as u32).to_le_bytes());
        file.extend(b"PAR1");
        let _ = read_texts(file, "a");
    }
}

fn sample() -> Vec<u8> {
    let mut list = ListBuilder::new(Int32Builder::new());
    for row in 0..300 {
        list.values().append_value(row);
        list.append(row % 3 > 0);
    }
    let records = records(vec![
        ("a", Arc::new(Int64Array::from_iter_values(1_000..1_300))),
        ("b", Arc::new((0..300).map(|i| (i % 4 > 0).then(|| format!("text {}", i % 7))).collect::<StringArray>())),
        ("l", Arc::new(list.finish())),
    ]);
    write(&records, properties().set_compression(Compression::SNAPPY))
}

fn zigzag(value: i64) -> Vec<u8> {
    let mut value = (value << 1) as u64;
    let mut out = Vec::new();
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
