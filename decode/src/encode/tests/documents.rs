use super::super::{unescape, write_string};
use super::*;

#[track_caller]
fn kept(value: Value<'_>, expected: &str) {
    check(value.clone(), PgType::Json, expected.as_bytes());
    check(value, PgType::Jsonb, format!("\u{1}{expected}").as_bytes());
}

#[track_caller]
fn neither(value: Value<'_>, class: &str) {
    refused(value.clone(), PgType::Json, class);
    refused(value, PgType::Jsonb, class);
}

#[test]
fn json_columns_take_any_json_value_as_it_was_written() {
    for raw in [
        r#"{"a": [1, 2.50, -0, 1E5, {"b": null}], "é": "\ud83d\ude00\/"}"#,
        "[]",
        "{}",
        "[[],{}]",
        r#""text""#,
        "true",
        "null",
        " 1.10 ",
        "0",
        "-0.5e-3",
    ] {
        kept(json(raw), raw);
        kept(text(raw), raw);
        kept(bytes(raw.as_bytes()), raw);
    }
    kept(number("1.10"), "1.10");
}

#[test]
fn scalars_become_json_scalars() {
    kept(Value::Bool(true), "true");
    kept(Value::Int(-5), "-5");
    kept(Value::Decimal(110, 2), "1.10");
    kept(Value::Float64(1e300), "1e+300");
    kept(Value::Date(0), r#""1970-01-01""#);
    kept(Value::Timestamp { micros: 0, utc: true }, r#""1970-01-01T00:00:00Z""#);
    kept(Value::Uuid([0; 16]), r#""00000000-0000-0000-0000-000000000000""#);
    neither(Value::Float64(f64::NAN), "range");
    neither(Value::Float32(f32::INFINITY), "range");
}

#[test]
fn what_is_not_json_is_refused() {
    for raw in [
        "",
        " ",
        "{",
        "[",
        "]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\":1]",
        "[1}",
        "'a'",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"tab\there\"",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "1e+",
        "0x1",
        "tru",
        "truee",
        "nul",
        "NaN",
        "Infinity",
        "1 2",
        "[1]]",
        "\u{feff}1",
    ] {
        neither(json(raw), "json");
        neither(text(raw), "json");
    }
    neither(number("NaN"), "json");
    neither(bytes(b"\"\xFF\""), "text");
}

#[test]
fn u0000_and_lone_surrogates_are_refused_wherever_they_stand() {
    for raw in [
        r#""\u0000""#,
        r#"{"\u0000": 1}"#,
        r#"["a\ud800"]"#,
        r#""\udc00""#,
        r#""\ud800\ud800""#,
        r#""\ud800x""#,
        r#""\ud800\n""#,
        "\"\0\"",
    ] {
        neither(json(raw), "text");
    }
}

#[test]
fn depth_is_bounded_and_costs_no_stack() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    kept(json(&nested(64)), &nested(64));
    neither(json(&nested(65)), "depth");
    neither(json(&"[".repeat(5_000_000)), "depth");
    let mixed = "{\"a\":[".repeat(300) + &"]}".repeat(300);
    let mut out = Vec::new();
    assert!(encode_within(&json(&mixed), &PgType::Jsonb, 600, &mut out).is_ok());
    assert_eq!(encode_within(&json(&mixed), &PgType::Jsonb, 599, &mut out).unwrap_err().class, RejectClass::Depth);
    assert_eq!(
        encode_within(&json(&mixed.replace("]}]", "}]]")), &PgType::Jsonb, 600, &mut out).unwrap_err().class,
        RejectClass::Json
    );
}

#[test]
fn numbers_beyond_numeric_fit_json_but_not_jsonb() {
    for raw in ["1e131072", "[1e999999999]", "1e-16384", "1E+99999999999999999999"] {
        check(json(raw), PgType::Json, raw.as_bytes());
        refused(json(raw), PgType::Jsonb, "range");
    }
    let long = format!("0.{}", "1".repeat(16_384));
    refused(json(&long), PgType::Jsonb, "range");
    kept(json("1e131071"), "1e131071");
    kept(json("1e-16383"), "1e-16383");
}

#[test]
fn a_written_string_reads_back() {
    let every: String = (1..0x250).filter_map(char::from_u32).chain("\u{10FFFF}".chars()).collect();
    let mut written = Vec::new();
    write_string(&every, &mut written);
    let written = String::from_utf8(written).unwrap();
    kept(json(&written), &written);
    assert_eq!(unescape(&written[1..written.len() - 1]).unwrap(), every);
}
