//! Row groups that no row of passes are not read, and others are.

use super::*;
use crate::{
    MappingSpec,
    condition::{Condition, Test, Values, rank},
    trial::Memory,
};
use arrow_array::{
    BooleanArray, Date32Array, Decimal128Array, Float64Array, TimestampMillisecondArray, TimestampNanosecondArray,
    UInt64Array,
};
use parquet::{
    data_type::ByteArrayType,
    file::reader::{FileReader, SerializedFileReader},
};
use std::collections::BTreeMap;

/// Two groups of two rows each, the second with what is greater.
fn file(array: ArrayRef, statistics: EnabledStatistics) -> Vec<u8> {
    let row = Int64Array::from((0..array.len() as i64).collect::<Vec<_>>());
    let records =
        RecordBatch::try_from_iter_with_nullable([("row", Arc::new(row) as ArrayRef, false), ("a", array, true)]);
    let properties = properties().set_max_row_group_row_count(Some(2)).set_statistics_enabled(statistics);
    write(&records.expect("records"), properties)
}

/// Writes zeros over the pages of a group's second column.
fn spoil(file: &mut [u8], group: usize) {
    let reader = SerializedFileReader::new(bytes::Bytes::copy_from_slice(file)).expect("a file");
    let (start, length) = reader.metadata().row_group(group).column(1).byte_range();
    file[start as usize..(start + length) as usize].fill(0);
}

/// Reads a file with a condition on its column `a`: the numbers of the rows that pass, and how many were dropped.
fn pass(file: Vec<u8>, pg_type: PgType, test: Test) -> Result<(Vec<u64>, u64), DecodeError> {
    let mut reader = open(Arc::new(Memory::new(file)), &options())?;
    let columns = [column("row", PgType::Int8), column("a", pg_type)];
    let spec = MappingSpec {
        columns: &columns,
        rename: &BTreeMap::new(),
        captures: &[],
        types: &Default::default(),
        on_new_field: OnNewField::Ignore,
        extras_column: None,
        key: &[],
    };
    let mapping = Mapping::new(reader.fields(), &spec).map_err(DecodeError::Schema)?;
    let conditions = [Condition { column: "a".into(), test }];
    reader.set_mapping(Arc::new(mapping.filtered(&conditions, &[], false)));
    let mut batch = Batch::default();
    while reader.fill(&mut batch, 1 << 20)? {}
    assert_eq!(batch.n_read, (batch.ends.len() + batch.rejects.len()) as u64 + batch.n_filtered);
    let starts = std::iter::once(0).chain(batch.ends.iter().copied());
    let number = |start: usize| u64::from_be_bytes(batch.data[start + 6..start + 14].try_into().expect("eight bytes"));
    let numbers = starts.take(batch.ends.len()).map(number).collect();
    Ok((numbers, batch.n_filtered))
}

/// Asserts that of two groups, only those are read that are named.
#[track_caller]
fn assert_read(array: &ArrayRef, pg_type: &PgType, test: &Test, read: [bool; 2], rows: &[u64]) {
    for (group, is_read) in read.into_iter().enumerate() {
        let whole = file(Arc::clone(array), EnabledStatistics::Chunk);
        let passed = pass(whole.clone(), pg_type.clone(), test.clone()).expect("a file");
        assert_eq!(passed, (rows.to_vec(), 4 - rows.len() as u64));
        let mut spoilt = whole;
        spoil(&mut spoilt, group);
        assert_eq!(pass(spoilt, pg_type.clone(), test.clone()).is_err(), is_read, "group {group}");
        let mut unknown = file(Arc::clone(array), EnabledStatistics::None);
        assert_eq!(pass(unknown.clone(), pg_type.clone(), test.clone()).expect("a file"), passed);
        spoil(&mut unknown, group);
        pass(unknown, pg_type.clone(), test.clone()).expect_err("without statistics all are read");
    }
}

fn within(values: &[&[u8]], null: bool) -> Test {
    let ranges = values.iter().map(|value| rank(value).expect("a rank")..=rank(value).expect("a rank"));
    Test { null, values: Values::within(ranges, true) }
}

#[test]
fn groups_whose_numbers_are_all_outside_are_not_read() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(-5), Some(5), Some(6), Some(9)]));
    let at = |number: i64| within(&[&number.to_be_bytes()], false);
    for pg_type in [PgType::Int2, PgType::Int4, PgType::Int8] {
        assert_read(&numbers, &pg_type, &at(5), [true, false], &[2]);
        assert_read(&numbers, &pg_type, &at(6), [false, true], &[3]);
        assert_read(&numbers, &pg_type, &at(-5), [true, false], &[1]);
        assert_read(&numbers, &pg_type, &at(10), [false, false], &[]);
        assert_read(&numbers, &pg_type, &at(0), [true, false], &[]);
    }
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(70_000), Some(6), Some(9)]));
    let mut spoilt = file(wide, EnabledStatistics::Chunk);
    spoil(&mut spoilt, 0);
    pass(spoilt, PgType::Int2, at(9)).expect_err("one that does not fit is a reject, and found");
}

#[test]
fn texts_and_their_cut_bounds_tell_only_what_they_are_proof_of() {
    let long = |end: &str| format!("{}{end}", "é".repeat(60));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![long("a"), long("c"), long("e"), "x".into()]));
    let among = |text: &str, inside| Test { null: false, values: Values::Among([text.into()].into(), inside) };
    let text = PgType::Text(None);
    assert_read(&texts, &text, &among("x", true), [false, true], &[4]);
    assert_read(&texts, &text, &among(&long("c"), true), [true, true], &[2]);
    assert_read(&texts, &text, &among("b", true), [false, false], &[]);
    let same: ArrayRef = Arc::new(StringArray::from(vec!["KN", "KN", "KN", "KO"]));
    assert_read(&same, &text, &among("KN", false), [false, true], &[4]);
}

#[test]
fn nulls_are_counted() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![None, None, Some(6), Some(9)]));
    assert_read(&numbers, &PgType::Int4, &Test { null: false, values: Values::Any }, [false, true], &[3, 4]);
    assert_read(&numbers, &PgType::Int4, &Test { null: true, values: Values::none() }, [true, false], &[1, 2]);
    assert_read(&numbers, &PgType::Int4, &within(&[&7i32.to_be_bytes()], true), [true, true], &[1, 2]);
}

#[test]
fn other_types_are_compared_in_their_own_order_or_not_at_all() {
    let truth: ArrayRef = Arc::new(BooleanArray::from(vec![false, false, true, false]));
    assert_read(&truth, &PgType::Bool, &within(&[&[1]], false), [false, true], &[3]);
    let days: ArrayRef = Arc::new(Date32Array::from(vec![-1, 10_957, 10_958, 20_000]));
    assert_read(&days, &PgType::Date, &within(&[&1i32.to_be_bytes()], false), [false, true], &[3]);
    assert_read(&days, &PgType::Timestamp, &within(&[&0i64.to_be_bytes()], false), [true, false], &[2]);
    // Numbers without a sign, and texts that become numbers, have an order of their own.
    let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![1, 2, 3, 4]));
    assert_read(&unsigned, &PgType::Int8, &within(&[&9i64.to_be_bytes()], false), [true, true], &[]);
    let digits: ArrayRef = Arc::new(StringArray::from(vec!["10", "9", "2", "3"]));
    assert_read(&digits, &PgType::Int8, &within(&[&10i64.to_be_bytes()], false), [true, true], &[1]);
}

#[test]
fn bounds_of_numbers_that_have_no_order_here_are_not_believed() {
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, 0.0, f64::NAN, 7.0]));
    let zero = within(&[&0i64.to_be_bytes()], false);
    for (group, rows) in [(0, 2), (1, 1)] {
        let mut spoilt = file(Arc::clone(&floats), EnabledStatistics::Chunk);
        spoil(&mut spoilt, group);
        pass(spoilt, PgType::Int8, zero.clone()).expect_err("both are read");
        let whole = file(Arc::clone(&floats), EnabledStatistics::Chunk);
        let (passed, _) = pass(whole, PgType::Int8, within(&[&[0i64, 7][group].to_be_bytes()], false)).expect("a file");
        assert_eq!(passed.len(), rows, "-0.0 is 0, and NaN no number");
    }
    let any_but_null = Test { null: false, values: Values::Any };
    assert_read(&floats, &PgType::Float8, &any_but_null, [true, true], &[1, 2, 3, 4]);
    let decimals = Decimal128Array::from(vec![100, 200, 300, 400]).with_precision_and_scale(9, 2);
    let decimals: ArrayRef = Arc::new(decimals.expect("a precision"));
    assert_read(&decimals, &PgType::Int8, &within(&[&4i64.to_be_bytes()], false), [true, true], &[4]);
}

#[test]
fn bounds_of_times_are_rounded_as_times_are() {
    let at = |micros: i64| within(&[&(micros - 946_684_800_000_000).to_be_bytes()], false);
    let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![-1_500, -1, 1_999, 2_000]));
    assert_read(&nanos, &PgType::Timestamp, &at(-2), [true, false], &[1]);
    assert_read(&nanos, &PgType::TimestampTz, &at(-1), [true, false], &[2]);
    assert_read(&nanos, &PgType::Timestamp, &at(1), [false, true], &[3]);
    assert_read(&nanos, &PgType::Timestamp, &at(0), [false, false], &[]);
    let millis: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![-1, 86_399_999, 86_400_000, 86_400_001]));
    assert_read(&millis, &PgType::Timestamp, &at(86_400_000_000), [false, true], &[3]);
    // The day of a time: 1970-01-01, in days since 2000.
    assert_read(&millis, &PgType::Date, &within(&[&(-10_957i32).to_be_bytes()], false), [true, false], &[2]);
}

#[test]
fn what_becomes_another_value_when_it_is_read_is_read() {
    // Spaces beyond a column's length are cut.
    let padded: ArrayRef = Arc::new(StringArray::from(vec!["ab    ", "ab    ", "x", "y"]));
    let among = Test { null: false, values: Values::Among([b"ab ".to_vec()].into(), true) };
    assert_read(&padded, &PgType::Text(Some(3)), &among, [true, true], &[1, 2]);
    // A null of JSON is NULL.
    let is_null = Test { null: true, values: Values::none() };
    let json = super::types::file::<ByteArrayType>("BYTE_ARRAY a (JSON)", &["null".into(), "\"x\"".into()]);
    assert_eq!(pass(json, PgType::Text(None), is_null.clone()).expect("a file"), (vec![1], 1));
    // What no column takes is a reject, whatever is asked.
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 70_000]));
    for (group, is_read) in [(0, false), (1, true)] {
        let mut spoilt = file(Arc::clone(&wide), EnabledStatistics::Chunk);
        spoil(&mut spoilt, group);
        assert_eq!(pass(spoilt, PgType::Int2, is_null.clone()).is_err(), is_read, "group {group}");
    }
}
