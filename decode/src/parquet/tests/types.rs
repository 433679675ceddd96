//! Types, written by column with the library's low-level writer, as other writers do it.

use super::*;
use arrow_array::{
    Array, ListArray, StructArray,
    builder::{Decimal256Builder, Int32Builder, ListBuilder, MapBuilder, StringBuilder},
    types::Int32Type,
};
use arrow_schema::{DataType, Field as ArrowField};
use parquet::{
    data_type::{
        BoolType, ByteArray, ByteArrayType, DataType as ParquetType, DoubleType, FixedLenByteArray,
        FixedLenByteArrayType, FloatType, Int32Type as Int32, Int64Type as Int64, Int96, Int96Type,
    },
    file::writer::SerializedFileWriter,
    schema::parser::parse_message_type,
};

#[test]
fn integers_and_floats() {
    check::<Int32>("INT32 a (INTEGER(8, true))", &[-128, 127], &["-128", "127"]);
    check::<Int32>("INT32 a (UINT_8)", &[255], &["255"]);
    check::<Int32>("INT32 a (INTEGER(32, false))", &[-1], &["4294967295"]);
    check::<Int64>("INT64 a", &[i64::MIN, i64::MAX], &["-9223372036854775808", "9223372036854775807"]);
    check::<Int64>("INT64 a (UINT_64)", &[-1], &["18446744073709551615"]);
    check::<FloatType>("FLOAT a", &[0.1, f32::NAN, f32::INFINITY], &["0.1", "NaN", "Infinity"]);
    check::<DoubleType>("DOUBLE a", &[0.1, f64::NEG_INFINITY], &["0.1", "-Infinity"]);
    check::<BoolType>("BOOLEAN a", &[true, false], &["true", "false"]);
    let halves = [[0x00, 0x3c], [0x00, 0xfc]].map(|half| FixedLenByteArray::from(half.to_vec()));
    check::<FixedLenByteArrayType>("FIXED_LEN_BYTE_ARRAY (2) a (FLOAT16)", &halves, &["1", "-Infinity"]);
}

#[test]
fn decimals_of_every_width_are_exact() {
    check::<Int32>("INT32 a (DECIMAL(9, 2))", &[110, -5], &["1.10", "-0.05"]);
    check::<Int64>("INT64 a (DECIMAL(18, 18))", &[1], &["0.000000000000000001"]);
    let nines = 10i128.pow(38) - 1;
    let fixed = [nines, -nines].map(|value| FixedLenByteArray::from(value.to_be_bytes().to_vec()));
    let text = "9".repeat(36);
    check::<FixedLenByteArrayType>(
        "FIXED_LEN_BYTE_ARRAY (16) a (DECIMAL(38, 2))",
        &fixed,
        &[&format!("{text}.99"), &format!("-{text}.99")],
    );
    let bytes = [vec![0x01], vec![0xff, 0x00], vec![]].map(ByteArray::from);
    check::<ByteArrayType>("BYTE_ARRAY a (DECIMAL(10, 1))", &bytes, &["0.1", "-25.6", "0.0"]);
    // 2^200, wider than any native type.
    let mut wide = vec![1];
    wide.extend([0; 25]);
    let text = "1606938044258990275541962092341162602522202993782792835301.376";
    check::<ByteArrayType>("BYTE_ARRAY a (DECIMAL(76, 3))", &[ByteArray::from(wide)], &[text]);
}

#[test]
fn a_decimal256_of_arrow_is_exact() {
    let mut builder = Decimal256Builder::new().with_data_type(DataType::Decimal256(76, 4));
    let wide = "-1234567890123456789012345678901234567890123456789012345678901234567890";
    builder.append_value(wide.parse().expect("an i256"));
    let file = write(&records(vec![("a", Arc::new(builder.finish()))]), properties());
    let expected = format!("1 | {}.{}", &wide[..wide.len() - 4], &wide[wide.len() - 4..]);
    assert_eq!(read_texts(file, "a").expect("a file").rows, [expected]);
}

#[test]
fn dates_times_and_timestamps() {
    check::<Int32>("INT32 a (DATE)", &[-719_162, 2_932_896], &["0001-01-01", "9999-12-31"]);
    check::<Int32>("INT32 a (TIME_MILLIS)", &[86_399_999], &["23:59:59.999"]);
    check::<Int64>("INT64 a (TIME(MICROS, true))", &[1], &["00:00:00.000001"]);
    check::<Int64>("INT64 a (TIME(NANOS, false))", &[1_999], &["00:00:00.000001"]);
    check::<Int64>("INT64 a (TIMESTAMP(MILLIS, true))", &[-1], &["1969-12-31T23:59:59.999Z"]);
    check::<Int64>("INT64 a (TIMESTAMP(MICROS, false))", &[1], &["1970-01-01T00:00:00.000001"]);
    check::<Int64>("INT64 a (TIMESTAMP(NANOS, true))", &[-1], &["1969-12-31T23:59:59.999999Z"]);
    check::<Int64>("INT64 a (TIMESTAMP_MICROS)", &[0], &["1970-01-01T00:00:00Z"]);
}

#[test]
fn a_timestamp_beyond_microseconds_is_a_reject_and_no_other_time() {
    let file = file::<Int64>("INT64 a (TIMESTAMP(MILLIS, true))", &[0, i64::MAX, 1]);
    let found = read_texts(file, "a").expect("a file");
    assert_eq!((found.rows.len(), found.rejects), (2, vec!["2 range a".to_owned()]));
}

#[test]
fn int96_holds_all_of_sparks_range() {
    let at = |nanos: u64, day: u32| {
        let mut value = Int96::new();
        value.set_data(nanos as u32, (nanos >> 32) as u32, day);
        value
    };
    let values = [at(0, 1_721_426), at(86_399_999_999_000, 5_373_484), at(43_200_000_000_000, 2_440_588)];
    check::<Int96Type>(
        "INT96 a",
        &values,
        &["0001-01-01T00:00:00", "9999-12-31T23:59:59.999999", "1970-01-01T12:00:00"],
    );
}

#[test]
fn byte_strings() {
    let bytes = |texts: &[&[u8]]| texts.iter().map(|text| ByteArray::from(text.to_vec())).collect::<Vec<_>>();
    check::<ByteArrayType>("BYTE_ARRAY a (STRING)", &bytes(&["é".as_bytes(), b""]), &["é", ""]);
    check::<ByteArrayType>("BYTE_ARRAY a (ENUM)", &bytes(&[b"RED"]), &["RED"]);
    check::<ByteArrayType>("BYTE_ARRAY a (JSON)", &bytes(&[b"{\"x\": 1.10}", b"\"s\""]), &["{\"x\": 1.10}", "s"]);
    let uuid = FixedLenByteArray::from((0..16).collect::<Vec<u8>>());
    check::<FixedLenByteArrayType>(
        "FIXED_LEN_BYTE_ARRAY (16) a (UUID)",
        &[uuid],
        &["00010203-0405-0607-0809-0a0b0c0d0e0f"],
    );
    let mut interval = 14u32.to_le_bytes().to_vec();
    interval.extend(3u32.to_le_bytes());
    interval.extend(1_005u32.to_le_bytes());
    check::<FixedLenByteArrayType>(
        "FIXED_LEN_BYTE_ARRAY (12) a (INTERVAL)",
        &[FixedLenByteArray::from(interval)],
        &["P14M3DT1.005S"],
    );
    let binary = file::<ByteArrayType>("BYTE_ARRAY a", &bytes(&[b"\x00\xff"]));
    let found = read_with(binary, &[column("a", PgType::Bytea)], OnNewField::Ignore).expect("a file");
    assert_eq!(found.rows, ["1 | 00ff"]);
}

#[test]
fn a_string_that_is_no_text_is_one_reject() {
    let values = [&b"a"[..], b"\xff", b"b"].map(|text| ByteArray::from(text.to_vec()));
    let found = read_texts(file::<ByteArrayType>("BYTE_ARRAY a (STRING)", &values), "a").expect("a file");
    assert_eq!((found.rows, found.rejects), (vec!["1 | a".into(), "3 | b".into()], vec!["2 text a".to_owned()]));
    assert_eq!(found.payloads[0].0, br#"{"a":"\\xff"}"#);
}

#[test]
fn nested_values_are_json() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let members = StructArray::from(vec![
        (
            Arc::new(ArrowField::new("x", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![Some("a\"b"), None, Some("c")])) as ArrayRef,
        ),
        (Arc::new(ArrowField::new("l", list.data_type().clone(), true)), Arc::new(list.clone()) as ArrayRef),
    ]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    map.keys().append_value("k\"");
    map.values().append_value(1);
    map.keys().append_value("n");
    map.values().append_null();
    map.append(true).expect("a map");
    map.append(false).expect("a null");
    map.append(true).expect("an empty map");
    let mut lists = ListBuilder::new(ListBuilder::new(Int32Builder::new()));
    for _ in 0..3 {
        lists.values().values().append_value(7);
        lists.values().append(true);
        lists.append(true);
    }
    let records = records(vec![
        ("l", Arc::new(list)),
        ("s", Arc::new(members)),
        ("m", Arc::new(map.finish())),
        ("ll", Arc::new(lists.finish())),
    ]);
    let found = read_texts(write(&records, properties()), "l s m ll").expect("a file");
    assert_eq!(
        found.rows,
        [
            r#"1 | [1,null] | {"x":"a\"b","l":[1,null]} | {"k\"":1,"n":null} | [[7]]"#,
            r#"2 | ~ | {"x":null,"l":null} | ~ | [[7]]"#,
            r#"3 | [] | {"x":"c","l":[]} | {} | [[7]]"#,
        ]
    );
}

#[test]
fn nested_leaves_keep_what_they_say() {
    let schema = "message m { required group s {
        required int64 d (DECIMAL(18, 2)); required int64 t (TIMESTAMP(MICROS, true)); required int96 old;
        required double nan; required binary b; required binary j (JSON); required int32 day (DATE);
    } }";
    let mut file = Vec::new();
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(properties().build())).expect("a writer");
    let mut group = writer.next_row_group().expect("a group");
    put::<Int64>(&mut group, &[110]);
    put::<Int64>(&mut group, &[0]);
    let mut epoch = Int96::new();
    epoch.set_data(1_000_000, 0, 2_440_588);
    put::<Int96Type>(&mut group, &[epoch]);
    put::<DoubleType>(&mut group, &[f64::NAN]);
    put::<ByteArrayType>(&mut group, &[ByteArray::from(vec![0xab])]);
    put::<ByteArrayType>(&mut group, &[ByteArray::from("{\"q\":1}")]);
    put::<Int32>(&mut group, &[0]);
    group.close().expect("a group");
    writer.close().expect("a footer");
    let expected = concat!(
        r#"1 | {"d":1.10,"t":"1970-01-01T00:00:00Z","old":"1970-01-01T00:00:00.001","nan":"NaN","b":"\\xab","#,
        r#""j":{"q":1},"day":"1970-01-01"}"#
    );
    assert_eq!(read_texts(file, "s").expect("a file").rows, [expected]);
}

#[test]
fn repeated_fields_without_annotation_are_lists() {
    let mut file = Vec::new();
    let schema = Arc::new(parse_message_type("message m { repeated int32 a; }").expect("a schema"));
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(properties().build())).expect("a writer");
    let mut group = writer.next_row_group().expect("a group");
    let mut column = group.next_column().expect("a column").expect("one column");
    column.typed::<Int32>().write_batch(&[1, 2, 3], Some(&[1, 1, 0, 1]), Some(&[0, 1, 0, 0])).expect("values");
    column.close().expect("a column");
    group.close().expect("a group");
    writer.close().expect("a footer");
    assert_eq!(read_texts(file, "a").expect("a file").rows, ["1 | [1,2]", "2 | []", "3 | [3]"]);
}

#[test]
fn a_list_fills_an_array_column() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None])]);
    let file = write(&records(vec![("a", Arc::new(list))]), properties());
    let array = PgType::Array(Box::new(PgType::Int4), 23);
    let found = read_with(file, &[column("a", array)], OnNewField::Ignore).expect("a file");
    // One dimension, nulls, element type 23, two elements from 1.
    let expected = "00000001000000010000001700000002000000010000000400000001ffffffff";
    assert_eq!(found.rows, [format!("1 | {expected}")]);
}

/// Writes a file with one required column and reads it into a text column.
fn check<T: ParquetType>(definition: &str, values: &[T::T], expected: &[&str]) {
    let found = read_texts(file::<T>(definition, values), "a").expect(definition);
    let expected: Vec<_> = expected.iter().enumerate().map(|(row, text)| format!("{} | {text}", row + 1)).collect();
    assert_eq!((found.rows, found.rejects), (expected, Vec::<String>::new()), "{definition}");
}

pub fn file<T: ParquetType>(definition: &str, values: &[T::T]) -> Vec<u8> {
    let schema = parse_message_type(&format!("message m {{ required {definition}; }}")).expect(definition);
    let mut file = Vec::new();
    let properties = Arc::new(properties().build());
    let mut writer = SerializedFileWriter::new(&mut file, Arc::new(schema), properties).expect("a writer");
    let mut group = writer.next_row_group().expect("a group");
    put::<T>(&mut group, values);
    group.close().expect("a group");
    writer.close().expect("a footer");
    file
}

fn put<T: ParquetType>(group: &mut parquet::file::writer::SerializedRowGroupWriter<'_, &mut Vec<u8>>, values: &[T::T]) {
    let mut column = group.next_column().expect("a column").expect("another column");
    column.typed::<T>().write_batch(values, None, None).expect("values");
    column.close().expect("a column");
}
