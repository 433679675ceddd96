use super::*;

const TEXT: PgType = PgType::Text(None);

#[track_caller]
fn reads(value: Value<'_>, expected: &str) {
    check(value.clone(), TEXT, expected.as_bytes());
    check(value, PgType::Cast, expected.as_bytes());
}

#[test]
fn text_takes_scalars_as_they_were_written() {
    reads(text(" a "), " a ");
    reads(text(""), "");
    reads(number("1.10"), "1.10");
    reads(number("1E+400"), "1E+400");
    reads(Value::Bool(false), "false");
    reads(Value::Int(i64::MIN), "-9223372036854775808");
    reads(Value::UInt(u64::MAX), "18446744073709551615");
    for (int, written) in [(0, "0"), (9, "9"), (10, "10"), (99, "99"), (100, "100"), (-12_345, "-12345")] {
        reads(Value::Int(int), written);
    }
    reads(Value::Decimal(-5, 3), "-0.005");
    reads(Value::Decimal(12_340, 3), "12.340");
    reads(Value::Decimal(12, -3), "12000");
    reads(Value::Decimal(0, -3), "0");
    reads(Value::Decimal(i128::MIN, 127), &format!("-0.{}{}", "0".repeat(88), i128::MIN.unsigned_abs()));
    reads(json(r#"{"a": [1]}"#), r#"{"a": [1]}"#);
    reads(bytes("é".as_bytes()), "é");
    reads(Value::Uuid([0xAB; 16]), "abababab-abab-abab-abab-abababababab");
}

#[test]
fn floats_are_written_at_their_shortest_as_postgres_does() {
    reads(Value::Float32(0.1), "0.1");
    reads(Value::Float64(0.1), "0.1");
    reads(Value::Float64(5.0), "5");
    reads(Value::Float64(-0.0), "-0");
    reads(Value::Float64(1e14), "100000000000000");
    reads(Value::Float64(1e15), "1e+15");
    reads(Value::Float64(123_456_789.125), "123456789.125");
    reads(Value::Float64(1.25e-7), "1.25e-07");
    reads(Value::Float64(0.0001), "0.0001");
    reads(Value::Float64(0.00012), "0.00012");
    reads(Value::Float32(1e6), "1e+06");
    reads(Value::Float64(-1.5e300), "-1.5e+300");
    reads(Value::Float64(f64::NAN), "NaN");
    reads(Value::Float32(f32::NEG_INFINITY), "-Infinity");
}

#[test]
fn times_are_written_in_iso_form() {
    reads(Value::Date(0), "1970-01-01");
    reads(Value::Date(-719_163), "0001-12-31 BC");
    reads(Value::Time(3_723_000_500), "01:02:03.0005");
    reads(Value::Timestamp { micros: -1, utc: true }, "1969-12-31T23:59:59.999999Z");
    reads(Value::Timestamp { micros: 1_700_000_000_000_000, utc: false }, "2023-11-14T22:13:20");
}

#[test]
fn a_limit_counts_characters_and_cuts_only_blanks() {
    let limit = PgType::Text(Some(3));
    check(text("äöü"), limit.clone(), "äöü".as_bytes());
    check(text("abc   "), limit.clone(), b"abc");
    check(text("ab"), limit.clone(), b"ab");
    refused(text("abcd"), limit.clone(), "length");
    refused(text("abc d"), limit.clone(), "length");
    refused(text("äöüß"), limit.clone(), "length");
    refused(Value::Int(1000), limit.clone(), "length");
    check(Value::Int(100), limit.clone(), b"100");
    refused(bytes(b"abcd"), limit, "length");
}

#[test]
fn what_postgres_text_cannot_hold_is_refused() {
    refused(text("a\0b"), TEXT, "text");
    refused(json(r#""a\u0000""#), TEXT, "text");
    refused(json(r#""\ud800""#), TEXT, "text");
    refused(bytes(b"\xFF"), TEXT, "text");
    refused(bytes(b"\0"), PgType::Cast, "text");
}

#[test]
fn uuids_may_have_hyphens_and_braces() {
    let uuid = [0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC, 0xDE, 0xF0, 0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC, 0xDE, 0xF0];
    for written in [
        "12345678-9abc-def0-1234-56789abcdef0",
        "123456789ABCDEF0123456789abcdef0",
        "{12345678-9abc-def0-1234-56789abcdef0}",
        "1234-5678-9abc-def0-1234-5678-9abc-def0",
    ] {
        check(text(written), PgType::Uuid, &uuid);
    }
    check(Value::Uuid(uuid), PgType::Uuid, &uuid);
    check(bytes(&uuid), PgType::Uuid, &uuid);
    for written in [
        "",
        "{12345678-9abc-def0-1234-56789abcdef0",
        "12345678-9abc-def0-1234-56789abcdef",
        "12-345678-9abcdef0123456789abcdef0",
        "12345678-9abc-def0-1234-56789abcdefg",
        "12345678-9abc-def0-1234-56789abcdef0-",
    ] {
        refused(text(written), PgType::Uuid, "type");
    }
}

#[test]
fn bytea_takes_bytes_and_hex_text() {
    check(bytes(b"\0\xFF"), PgType::Bytea, b"\0\xFF");
    check(text(r"\x00fF"), PgType::Bytea, b"\0\xFF");
    check(text(r"\x"), PgType::Bytea, b"");
    refused(text(r"\x0"), PgType::Bytea, "type");
    refused(text(r"\xzz"), PgType::Bytea, "type");
    refused(text("plain"), PgType::Bytea, "type");
}
