use super::*;
use crate::{
    Column, OnNewField,
    budget::{Budget, Pool},
    encode::PgType,
    trial::{self, BrokenStream, Read, column, options, read, text_column},
};
use apache_avro::{
    BigDecimal, Bzip2Settings, Codec, Days, Decimal, DeflateSettings, Duration, Millis, Months, Schema as AvroSchema,
    Writer, XzSettings, ZstandardSettings,
    types::{Record, Value as AvroValue},
};
use proptest::prelude::*;
use std::{
    io::{BufReader, Cursor},
    str::FromStr,
};

#[test]
fn scalars_arrive_as_they_are() {
    let fixed = |size: usize, bytes: Vec<u8>| AvroValue::Fixed(size, bytes);
    check(r#""boolean""#, AvroValue::Boolean(true), "true");
    check(r#""int""#, AvroValue::Int(i32::MIN), "-2147483648");
    check(r#""long""#, AvroValue::Long(9_007_199_254_740_993), "9007199254740993");
    check(r#""float""#, AvroValue::Float(0.1), "0.1");
    check(r#""double""#, AvroValue::Double(f64::NAN), "NaN");
    check(r#""string""#, AvroValue::String("é".into()), "é");
    check(r#"{"type":"enum","name":"e","symbols":["A","B"]}"#, AvroValue::Enum(1, "B".into()), "B");
    check(r#"["null","long"]"#, AvroValue::Union(0, Box::new(AvroValue::Null)), "~");
    check(r#"["null","long"]"#, AvroValue::Union(1, Box::new(AvroValue::Long(7))), "7");
    let file = file(r#"{"type":"fixed","name":"f","size":2}"#, vec![fixed(2, vec![0, 0xff])], Codec::Null);
    assert_eq!(read_with(file, &[column("a", PgType::Bytea)], OnNewField::Ignore).expect("a file").rows, ["1 | 00ff"]);
}

#[test]
fn dates_in_the_calendar_of_older_spark_keep_their_day() {
    let schema = r#"{"type":"record","name":"r","fields":[{"name":"a","type":{"type":"int","logicalType":"date"}}]}"#;
    let schema = AvroSchema::parse_str(schema).expect("a schema");
    for (version, expected) in [("2.4.8", "1000-01-01"), ("3.5.0", "1000-01-06")] {
        let mut writer = Writer::new(&schema, Vec::new()).expect("a writer");
        writer.add_user_metadata("org.apache.spark.version".to_owned(), version).expect("nothing is written yet");
        // 1000-01-01 of the Julian calendar, which is 1000-01-06 of the Gregorian.
        let record = AvroValue::Record(vec![("a".to_owned(), AvroValue::Date(-354_280))]);
        writer.append_value(record).expect("written");
        let file = writer.into_inner().expect("flushed");
        assert_eq!(
            read_with(file, &[text_column("a")], OnNewField::Ignore).expect("a file").rows,
            [format!("1 | {expected}")]
        );
    }
}

#[test]
fn decimals_are_exact() {
    let decimal = |bytes: Vec<u8>| AvroValue::Decimal(Decimal::from(bytes));
    let of = |inner: &str| format!(r#"{{{inner},"logicalType":"decimal","precision":60,"scale":2}}"#);
    check(&of(r#""type":"bytes""#), decimal(vec![110]), "1.10");
    check(&of(r#""type":"bytes""#), decimal(vec![0xff, 0x00]), "-2.56");
    let mut wide = vec![1];
    wide.extend([0; 24]);
    let text = "62771017353866807638357894232076664161023554444640345128.96";
    check(&of(r#""type":"fixed","name":"f","size":25"#), decimal(wide), text);
    let big = BigDecimal::from_str("-12345678901234567890123456789012345678901234567890.125").expect("a decimal");
    let text = big.to_string();
    check(r#"{"type":"bytes","logicalType":"big-decimal"}"#, AvroValue::BigDecimal(big), &text);
}

#[test]
fn dates_times_and_others_keep_what_they_say() {
    let of = |primitive: &str, logical: &str| format!(r#"{{"type":"{primitive}","logicalType":"{logical}"}}"#);
    check(&of("int", "date"), AvroValue::Date(-719_162), "0001-01-01");
    check(&of("int", "time-millis"), AvroValue::TimeMillis(86_399_999), "23:59:59.999");
    check(&of("long", "time-micros"), AvroValue::TimeMicros(1), "00:00:00.000001");
    check(&of("long", "timestamp-millis"), AvroValue::TimestampMillis(-1), "1969-12-31T23:59:59.999Z");
    check(&of("long", "timestamp-micros"), AvroValue::TimestampMicros(1), "1970-01-01T00:00:00.000001Z");
    check(&of("long", "timestamp-nanos"), AvroValue::TimestampNanos(-1), "1969-12-31T23:59:59.999999Z");
    check(&of("long", "local-timestamp-millis"), AvroValue::LocalTimestampMillis(0), "1970-01-01T00:00:00");
    check(&of("long", "local-timestamp-micros"), AvroValue::LocalTimestampMicros(0), "1970-01-01T00:00:00");
    check(&of("long", "local-timestamp-nanos"), AvroValue::LocalTimestampNanos(999), "1970-01-01T00:00:00");
    let uuid = apache_avro::Uuid::from_bytes([0x11; 16]);
    let text = "11111111-1111-1111-1111-111111111111";
    check(&of("string", "uuid"), AvroValue::Uuid(uuid), text);
    let fixed = r#"{"type":"fixed","name":"f","size":16,"logicalType":"uuid"}"#;
    check(fixed, AvroValue::Uuid(uuid), text);
    let period = Duration::new(Months::new(14), Days::new(3), Millis::new(1_005));
    let fixed = r#"{"type":"fixed","name":"f","size":12,"logicalType":"duration"}"#;
    check(fixed, AvroValue::Duration(period), "P14M3DT1.005S");
    let far = file(&of("long", "timestamp-millis"), vec![AvroValue::TimestampMillis(i64::MAX)], Codec::Null);
    assert_eq!(read_texts(far).expect("a file").rejects, ["1 range a"]);
}

#[test]
fn nested_values_are_json() {
    let schema = r#"{"type":"record","name":"inner","fields":[
        {"name":"l","type":{"type":"array","items":["null","double"]}},
        {"name":"m","type":{"type":"map","values":"bytes"}},
        {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
        {"name":"next","type":["null","inner"]}]}"#;
    let inner = |next| {
        AvroValue::Record(vec![
            (
                "l".into(),
                AvroValue::Array(vec![
                    AvroValue::Union(1, Box::new(AvroValue::Double(f64::INFINITY))),
                    AvroValue::Union(0, Box::new(AvroValue::Null)),
                ]),
            ),
            ("m".into(), AvroValue::Map([("k\"".to_owned(), AvroValue::Bytes(vec![0xab]))].into())),
            ("d".into(), AvroValue::Decimal(Decimal::from(vec![110]))),
            ("next".into(), next),
        ])
    };
    let last = inner(AvroValue::Union(0, Box::new(AvroValue::Null)));
    let text = |next: &str| format!(r#"{{"l":["Infinity",null],"m":{{"k\"":"\\xab"}},"d":1.10,"next":{next}}}"#);
    check(schema, last.clone(), &text("null"));
    check(schema, inner(AvroValue::Union(1, Box::new(last))), &text(&text("null")));
    check(r#"["null",{"type":"array","items":"int"}]"#, AvroValue::Union(1, Box::new(AvroValue::Array(vec![]))), "[]");
}

#[test]
fn every_codec_is_read_and_blocks_follow_one_another() {
    let values: Vec<_> = (0..20_000).map(AvroValue::Long).collect();
    for codec in [
        Codec::Null,
        Codec::Deflate(DeflateSettings::default()),
        Codec::Snappy,
        Codec::Zstandard(ZstandardSettings::default()),
        Codec::Bzip2(Bzip2Settings::default()),
        Codec::Xz(XzSettings::new(1)),
    ] {
        let found = read_texts(file(r#""long""#, values.clone(), codec)).expect("a file");
        assert_eq!((found.rows.len(), found.rows[19_999].as_str()), (20_000, "20000 | 19999"), "{codec:?}");
        assert_eq!(found.seen, [true]);
    }
}

#[test]
fn fields_no_column_takes_are_stepped_over_collected_or_refused() {
    let schema = AvroSchema::parse_str(
        r#"{"type":"record","name":"r","fields":[
            {"name":"x","type":{"type":"array","items":"string"}},{"name":"a","type":"int"},{"name":"y","type":"null"}]}"#,
    );
    let schema = schema.expect("a schema");
    let mut writer = Writer::new(&schema, Vec::new()).expect("a writer");
    let mut record = Record::new(&schema).expect("a record");
    record.put("x", AvroValue::Array(vec!["p".into(), "q".into()]));
    record.put("a", 5);
    record.put("y", ());
    writer.append_value(record).expect("a row");
    let file = writer.into_inner().expect("a file");
    assert_eq!(read_texts(file.clone()).expect("a file").rows, ["1 | 5"]);
    let columns = [text_column("a"), column("extra", PgType::Jsonb)];
    let found = read_with(file.clone(), &columns, OnNewField::Extras).expect("a file");
    assert_eq!(found.rows, [r#"1 | 5 | {"x":["p","q"],"y":null}"#]);
    let found = read_with(file, &[text_column("a")], OnNewField::Reject).expect("a file");
    assert_eq!(found.rejects, ["1 new_field"]);
    assert_eq!(found.payloads[0].0, br#"{"x":["p","q"],"a":5,"y":null}"#);
}

#[test]
fn a_bad_cell_is_one_reject_with_its_row_as_json() {
    let values = ["1", "x", "3"].map(|text| AvroValue::String(text.into()));
    let file = file(r#""string""#, values.to_vec(), Codec::Null);
    let found = read_with(file, &[column("a", PgType::Int4)], OnNewField::Ignore).expect("a file");
    assert_eq!((found.rows.len(), found.rejects), (2, vec!["2 type a".to_owned()]));
    assert_eq!(found.payloads[0].0, br#"{"a":"x"}"#);
    // A string of one byte that is no text.
    let found = read_texts(raw(r#""string""#, &[(2, &[2, 0xff, 2, b'b'])])).expect("a file");
    assert_eq!((found.rows, found.rejects), (vec!["2 | b".to_owned()], vec!["1 text a".to_owned()]));
}

#[test]
fn a_row_too_long_or_too_deep_is_a_reject() {
    let long = AvroValue::String("x".repeat(2 << 20));
    let found =
        read_texts(file(r#""string""#, vec![long, AvroValue::String("y".into())], Codec::Null)).expect("a file");
    assert_eq!((found.rows, found.rejects), (vec!["2 | y".to_owned()], vec!["1 row_size".to_owned()]));
    let list = r#"{"type":"record","name":"n","fields":[{"name":"n","type":["null","n"]}]}"#;
    let chain = |depth: usize| [vec![2; depth], vec![0]].concat();
    let rows = [chain(62), chain(63), chain(80_000), chain(0)].concat();
    let found = read_texts(raw(list, &[(4, &rows)])).expect("a file");
    assert_eq!((found.rows.len(), found.rejects), (2, vec!["2 depth".to_owned(), "3 depth".to_owned()]));
}

#[test]
fn broken_files_are_corrupt() {
    let good = file(r#""long""#, (0..50).map(AvroValue::Long).collect(), Codec::Snappy);
    for length in 0..good.len() {
        // A file cut right after its header is one without rows.
        match read_texts(good[..length].to_vec()) {
            Ok(found) => assert_eq!(found.rows, [""; 0], "{length}"),
            Err(error) => assert!(matches!(error, DecodeError::Corrupt(_)), "{length}: {error}"),
        }
    }
    let mut marker = good.clone();
    *marker.last_mut().expect("a marker") ^= 1;
    assert!(matches!(read_texts(marker), Err(DecodeError::Corrupt(_))));
    let is_corrupt = |file: Vec<u8>| matches!(read_texts(file), Err(DecodeError::Corrupt(_)));
    assert!(is_corrupt(raw(r#""long""#, &[(2, &[1])])), "a row is missing");
    assert!(is_corrupt(raw(r#""long""#, &[(1, &[1, 1])])), "a byte is left");
    assert!(is_corrupt(raw(r#""boolean""#, &[(1, &[2])])));
    assert!(is_corrupt(raw(r#"["null"]"#, &[(1, &[2])])));
    assert!(is_corrupt(raw(r#"{"type":"enum","name":"e","symbols":["A"]}"#, &[(1, &[2])])));
    assert!(is_corrupt(raw(r#""string""#, &[(1, &[1])])), "a negative length");
    assert!(is_corrupt(raw(r#""int""#, &[(1, &[0xff; 11])])));
    assert!(is_corrupt(raw(r#"{"type":"record","name":"n","fields":[{"name":"n","type":"n"}]}"#, &[(1, &[])])));
    assert!(is_corrupt(raw(r#"{"type":"fixed","name":"f","size":9223372036854775807}"#, &[(1, &[0])])));
}

#[test]
fn values_that_take_no_bytes_come_to_an_end() {
    // An array of 2^60 nulls.
    let mut nulls = vec![0x80; 8];
    nulls.extend([0x20, 0]);
    let nulls = raw(r#"{"type":"array","items":"null"}"#, &[(1, &nulls)]);
    assert!(matches!(read_texts(nulls), Err(DecodeError::Limits(_))));
    let mut small = options();
    small.limits.expansion_free_bytes = 1 << 20;
    // This many are refused at once; a million, by what comes of them.
    for (n_rows, expected) in [(1 << 62, "4611686018427387904 rows in "), (1_000_000, " bytes of rows in ")] {
        let rows = raw(r#""null""#, &[(n_rows, &[])]);
        let found = read(open(Box::new(Cursor::new(rows)), &small), &[text_column("a")], OnNewField::Ignore);
        let Err(DecodeError::Limits(limit)) = found else { panic!("{found:?}") };
        assert!(limit.contains(expected), "{limit}");
    }
}

#[test]
fn values_that_take_no_bytes_count_over_all_rows() {
    let mut small = options();
    small.limits.expansion_free_bytes = 1 << 20;
    let read_small = |options: &ReadOptions, file: Vec<u8>| {
        let found = read(open(Box::new(Cursor::new(file)), options), &[text_column("a")], OnNewField::Ignore);
        found.map(|found| found.rows.len()).map_err(|error| error.to_string())
    };
    // Arrays of half a million nulls in a handful of bytes, and rows of many nulls in none; no column takes them.
    let ignored = |of: &str| format!(r#""null"}},{{"name":"ignored","type":{of}"#);
    let mut nulls = Vec::new();
    long(500_000, &mut nulls);
    nulls.push(0);
    let array = ignored(r#"{"type":"array","items":"null"}"#);
    assert_eq!(read_small(&small, raw(&array, &[(2, &nulls.repeat(2))])), Ok(2));
    let members: Vec<_> = (0..1_000).map(|i| format!(r#"{{"name":"f{i}","type":"null"}}"#)).collect();
    let record = ignored(&format!(r#"{{"type":"record","name":"n","fields":[{}]}}"#, members.join(",")));
    for file in [raw(&array, &[(20, &nulls.repeat(20))]), raw(&record, &[(20_000, &[])])] {
        let limit = read_small(&small, file).expect_err("a limit");
        assert!(limit.contains(" bytes or values in "), "{limit}");
    }
    // A union and its branch are one value, in one byte.
    (small.limits.expansion_free_bytes, small.limits.expansion_ratio) = (0, 1);
    let mut unions = Vec::new();
    long(10_000, &mut unions);
    unions.extend([0; 10_001]);
    let unions = raw(&ignored(r#"{"type":"array","items":["null","int"]}"#), &[(1, &unions)]);
    assert_eq!(read_small(&small, unions), Ok(1));
}

#[test]
fn what_was_written_of_a_row_that_is_too_long_counts() {
    // Eleven nulls under a name of 100 kB.
    let of = format!(r#"{{"name":"{}","type":"null"}}"#, "n".repeat(100_000));
    let of = format!(r#"{{"type":"array","items":{{"type":"record","name":"n","fields":[{of}]}}}}"#);
    let mut small = options();
    (small.limits.expansion_free_bytes, small.limits.expansion_ratio) = (16 << 20, 1);
    let rows = |n_rows: i64| {
        let file = raw(&of, &[(n_rows, &[22, 0].repeat(n_rows as usize))]);
        read(open(Box::new(Cursor::new(file)), &small), &[text_column("a")], OnNewField::Ignore)
    };
    assert_eq!(rows(10).expect("a file").rejects.len(), 10);
    assert!(matches!(rows(20), Err(DecodeError::Limits(_))));
}

#[test]
fn a_block_that_unpacks_without_end_is_a_stated_failure() {
    let zeros = vec![0u8; 65 << 20];
    let mut packed = zeros;
    Codec::Zstandard(ZstandardSettings::default()).compress(&mut packed).expect("zeros pack well");
    let file = raw_with(r#""long""#, "zstandard", &[(1, &packed)]);
    assert!(file.len() < 1 << 20);
    assert!(matches!(read_texts(file), Err(DecodeError::Limits(_))));
}

#[test]
fn memory_is_reserved_for_whatever_a_file_sizes() {
    let refused = |file: Vec<u8>| trial::refused(|options| open(Box::new(Cursor::new(file.clone())), options));
    let text = || vec![AvroValue::String("x".repeat(200_000))];
    let schema = AvroSchema::parse_str(&schema_of(r#""string""#)).expect("a schema");
    let mut writer = Writer::new(&schema, Vec::new()).expect("a writer");
    writer.add_user_metadata("long".to_owned(), "x".repeat(200_000)).expect("nothing is written yet");
    let header = writer.into_inner().expect("a file");
    let documented = format!(r#"{{"type":"enum","name":"e","symbols":["A"],"doc":"{}"}}"#, "x".repeat(2_000));
    for (expected, file) in [
        ("the Avro header", header),
        ("the Avro schema", raw(&documented, &[])),
        ("an Avro block", file(r#""string""#, text(), Codec::Null)),
        ("an unpacked Avro block", file(r#""string""#, text(), Codec::Deflate(DeflateSettings::default()))),
        ("an unpacked Avro block", file(r#""string""#, text(), Codec::Snappy)),
        ("an unpacked Avro block", file(r#""string""#, text(), Codec::Xz(XzSettings::default()))),
        ("an Avro block's zstd window", file(r#""string""#, text(), Codec::Zstandard(ZstandardSettings::default()))),
        ("unpacking an Avro block", file(r#""string""#, text(), Codec::Bzip2(Bzip2Settings::default()))),
    ] {
        let refused = refused(file);
        assert!(refused.contains(expected), "{expected}: {refused:?}");
    }
}

#[test]
fn a_name_that_is_too_long_is_a_stated_failure() {
    let long = format!(r#"{{"type":"fixed","name":"{}","size":1}}"#, "n".repeat(2_000));
    let error = read_texts(raw(&long, &[])).expect_err("a limit").to_string();
    assert_eq!(error, "limits: a name of 2000 bytes in an Avro schema, 1024 are allowed");
}

#[test]
fn the_header_stays_reserved_until_all_of_it_is_read() {
    /// A marker that is long in coming.
    struct Marker(Budget);
    impl io::Read for Marker {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.reserve("another", 900 << 10).expect_err("the header takes it");
            buffer.fill(7);
            Ok(buffer.len())
        }
    }
    let documented = format!(r#"{{"type":"enum","name":"e","symbols":["A"],"doc":"{}"}}"#, "x".repeat(200_000));
    let mut header = raw(&documented, &[]);
    header.truncate(header.len() - 16);
    let budget = Budget::new(1 << 20, Pool::new(0, 1));
    let input = BufReader::new(io::Read::chain(Cursor::new(header), Marker(budget.clone())));
    Container::open(Box::new(input), &budget).map(drop).expect("a header");
    budget.reserve("another", 1 << 20).expect("the caller reserves the schema");
}

#[test]
fn files_of_other_things_are_a_schema_failure() {
    let mut writer = Writer::new(&AvroSchema::Long, Vec::new()).expect("a writer");
    writer.append_value(7i64).expect("a value");
    assert!(matches!(read_texts(writer.into_inner().expect("a file")), Err(DecodeError::Schema(_))));
}

#[test]
fn a_store_that_fails_is_not_a_corrupt_object() {
    let good = file(r#""long""#, (0..50).map(AvroValue::Long).collect(), Codec::Null);
    for length in 0..good.len() {
        let input = BufReader::new(BrokenStream(Cursor::new(good[..length].to_vec())));
        let found = read(open(Box::new(input), &options()), &[text_column("a")], OnNewField::Ignore);
        assert!(matches!(found, Err(DecodeError::Source(_))), "{length}");
    }
}

proptest! {
    #[test]
    fn any_bytes_come_to_an_end(bytes: Vec<u8>) {
        let _ = read_texts(bytes.clone());
        let _ = read_texts(raw(r#"["null","string",{"type":"map","values":"int"}]"#, &[(3, &bytes)]));
    }

    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let values = (0..20).map(|i| AvroValue::Array(vec![AvroValue::Long(i), AvroValue::Long(-i)])).collect();
        let mut file = file(r#"{"type":"array","items":"long"}"#, values, Codec::Snappy);
        for (index, byte) in flips {
            let at = index.index(file.len());
            file[at] = byte;
        }
        let _ = read_texts(file);
    }
}

/// Writes a file with one field and reads it into a text column.
fn check(field: &str, value: AvroValue, expected: &str) {
    let found = read_texts(file(field, vec![value], Codec::Null)).expect(field);
    assert_eq!((found.rows, found.rejects), (vec![format!("1 | {expected}")], vec![]), "{field}");
}

fn read_texts(file: Vec<u8>) -> Result<Read, DecodeError> {
    read_with(file, &[text_column("a")], OnNewField::Ignore)
}

fn read_with(file: Vec<u8>, columns: &[Column], on_new_field: OnNewField) -> Result<Read, DecodeError> {
    let mut options = options();
    options.limits.expansion_free_bytes = 64 << 20;
    read(open(Box::new(Cursor::new(file)), &options), columns, on_new_field)
}

fn schema_of(field: &str) -> String {
    format!(r#"{{"type":"record","name":"row","fields":[{{"name":"a","type":{field}}}]}}"#)
}

/// Writes a file with the library.
fn file(field: &str, values: Vec<AvroValue>, codec: Codec) -> Vec<u8> {
    let schema = AvroSchema::parse_str(&schema_of(field)).expect(field);
    let mut writer = Writer::with_codec(&schema, Vec::new(), codec).expect("a writer");
    for value in values {
        writer.append_value(AvroValue::Record(vec![("a".into(), value)])).expect(field);
    }
    writer.into_inner().expect("a file")
}

/// Writes a file by hand: row counts and the blocks' bytes.
fn raw(field: &str, blocks: &[(i64, &[u8])]) -> Vec<u8> {
    raw_with(field, "null", blocks)
}

fn raw_with(field: &str, codec: &str, blocks: &[(i64, &[u8])]) -> Vec<u8> {
    let mut out = b"Obj\x01\x04".to_vec();
    for text in ["avro.schema", &schema_of(field), "avro.codec", codec] {
        long(text.len() as i64, &mut out);
        out.extend(text.bytes());
    }
    out.push(0);
    out.extend([7; 16]);
    for (n_rows, bytes) in blocks {
        long(*n_rows, &mut out);
        long(bytes.len() as i64, &mut out);
        out.extend(*bytes);
        out.extend([7; 16]);
    }
    out
}

fn long(value: i64, out: &mut Vec<u8>) {
    let mut value = (value << 1 ^ value >> 63) as u64;
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
