use super::super::testing::{Memory, options, read_rows, text_columns};
use super::*;
use std::io::Write;

fn rows(name: &'static str, bytes: &[u8], options: &ReadOptions) -> Result<Vec<String>, DecodeError> {
    let source = Memory { name, bytes: bytes.to_vec(), ..Memory::default() };
    read_rows(open(Arc::new(source), options)?, &text_columns(&["a", "b"]))
}

#[test]
fn csv_is_read_through_whatever_it_is_packed_in() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"b,a\n1,2\n").unwrap();
    let packed = encoder.finish().unwrap();
    for name in ["x.csv.gz", "x.csv", "x", "x.csv.zst"] {
        assert_eq!(rows(name, &packed, &options()).unwrap(), ["2|1"]);
    }
    assert_eq!(rows("x.csv.gz", b"b,a\n1,2\n", &options()).unwrap(), ["2|1"]);
}

#[test]
fn a_tsv_is_split_at_tabs_unless_something_else_is_configured() {
    assert_eq!(rows("x.tsv", b"a\tb\n1,5\t2\n", &options()).unwrap(), ["1,5|2"]);
    let mut semicolons = options();
    semicolons.csv.delimiter = b';';
    assert_eq!(rows("x.tsv", b"a;b\n1\t5;2\n", &semicolons).unwrap(), ["1\t5|2"]);
}

#[test]
fn content_of_no_bytes_has_no_rows() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"").unwrap();
    let packed = encoder.finish().unwrap();
    for name in ["x", "x.csv", "x.json"] {
        assert_eq!(rows(name, &packed, &options()).unwrap(), [""; 0]);
    }
    let declared = ReadOptions { format: Format::Parquet, ..options() };
    assert!(matches!(rows("x", b"", &declared), Err(DecodeError::Corrupt(_))));
}

#[test]
fn binary_that_is_nothing_known_is_corrupt() {
    let garbage: Vec<u8> = (0..4000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert!(matches!(rows("x", &garbage, &options()), Err(DecodeError::Corrupt(_))));
    assert!(matches!(rows("x.csv", &garbage, &options()), Err(DecodeError::Corrupt(_) | DecodeError::Schema(_))));
}

#[test]
fn a_packed_parquet_file_is_refused_by_name() {
    let packed = zstd::stream::encode_all(&b"PAR1...."[..], 1).unwrap();
    let error = rows("x.parquet.zst", &packed, &options()).expect_err("refused");
    assert_eq!(error.to_string(), "corrupt: a compressed Parquet file; Parquet compresses within");
}

#[test]
fn a_failure_of_the_store_comes_out_as_one() {
    let source = Memory { name: "x.csv", bytes: b"a,b\n1,2\n".to_vec(), breaks_at: Some(5) };
    let error = open(Arc::new(source), &options()).map(|_| ()).expect_err("the store fails");
    assert!(matches!(error, DecodeError::Source(_)), "{error}");
}
