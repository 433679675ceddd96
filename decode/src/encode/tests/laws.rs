//! What holds for any value.

use super::super::{unescape, validate, write_string, write_text};
use super::*;
use proptest::prelude::*;

/// Text that is nearly something: pieces of numbers, times, JSON and literals, in any order.
fn nearly() -> impl Strategy<Value = String> {
    let pieces = [
        "0",
        "1",
        "9999",
        "12",
        "-",
        "+",
        ".",
        "e",
        "E5",
        "e-3",
        "e999999999",
        "NaN",
        "inf",
        "infinity",
        "2024-02-30",
        "2024-01-02",
        "T",
        " ",
        ":",
        "03:04:05",
        ".123456789",
        "Z",
        "+05:30",
        " BC",
        "24:00:00",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "\"a\"",
        "\\",
        "\\u0000",
        "\\ud83d\\ude00",
        "\\ud800",
        "null",
        "true",
        "NULL",
        "t",
        "é",
        "\u{0}",
        "\\x",
        "ff",
        "00000000-0000-0000-0000-000000000000",
        "{\"a\":",
        "1}",
        "\n",
    ];
    prop_oneof![
        prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..12).prop_map(|pieces| pieces.concat()),
        any::<String>(),
    ]
}

fn values() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![
        nearly().prop_map(|text| Value::Text(text.into())),
        nearly().prop_map(|text| Value::Number(text.into())),
        nearly().prop_map(|text| Value::Json(text.into())),
        nearly().prop_map(|text| Value::Bytes(text.into_bytes().into())),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Bytes(bytes.into())),
        Just(Value::Null),
        Just(Value::Absent),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::UInt),
        (any::<i128>(), any::<i8>()).prop_map(|(unscaled, scale)| Value::Decimal(unscaled, scale)),
        any::<u32>().prop_map(|bits| Value::Float32(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| Value::Float64(f64::from_bits(bits))),
        any::<i32>().prop_map(Value::Date),
        any::<i64>().prop_map(Value::Time),
        (any::<i64>(), any::<bool>()).prop_map(|(micros, utc)| Value::Timestamp { micros, utc }),
        any::<[u8; 16]>().prop_map(Value::Uuid),
    ]
}

fn types() -> impl Strategy<Value = PgType> {
    let scalars = prop_oneof![
        prop::sample::select(vec![
            PgType::Bool,
            PgType::Int2,
            PgType::Int4,
            PgType::Int8,
            PgType::Float4,
            PgType::Float8,
            PgType::Numeric(None),
            PgType::Text(None),
            PgType::Bytea,
            PgType::Date,
            PgType::Time,
            PgType::Timestamp,
            PgType::TimestampTz,
            PgType::Uuid,
            PgType::Json,
            PgType::Jsonb,
            PgType::Cast,
        ]),
        (1..=1000u16, -1000..=1000i16).prop_map(|limit| PgType::Numeric(Some(limit))),
        (1..20u32).prop_map(|limit| PgType::Text(Some(limit))),
    ];
    (scalars, any::<bool>()).prop_map(|(scalar, is_array)| match is_array {
        true => PgType::Array(Box::new(scalar), 1),
        false => scalar,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_is_one_well_formed_field_or_a_stated_refusal(value in values(), to in types()) {
        match field(&value, &to) {
            Ok(field) => {
                let is_text = matches!(to, PgType::Text(_) | PgType::Cast | PgType::Json | PgType::Jsonb);
                if let (true, Some(bytes)) = (is_text, field) {
                    prop_assert!(std::str::from_utf8(&bytes).is_ok() && !bytes.contains(&0));
                }
            }
            Err(error) => {
                prop_assert!(["type", "range", "length", "text", "json", "depth"].contains(&error.class.into()));
                prop_assert!(!error.message.contains('\0'), "{}", error.message);
                prop_assert!(error.message.chars().count() < 300, "{}", error.message);
            }
        }
    }

    #[test]
    fn every_integer_and_decimal_reads_back_from_its_text(unscaled in any::<i128>(), scale in -20..40i8) {
        let mut written = Vec::new();
        write_text(&Value::Decimal(unscaled, scale), &mut written);
        let written = String::from_utf8(written).unwrap();
        let numeric = PgType::Numeric(None);
        prop_assert_eq!(field(&text(&written), &numeric), field(&Value::Decimal(unscaled, scale), &numeric));
        let int = (unscaled >> 64) as i64;
        prop_assert_eq!(field(&text(&int.to_string()), &PgType::Int8), Ok(Some(int.to_be_bytes().to_vec())));
    }

    #[test]
    fn every_float_reads_back_from_its_text(bits in any::<u64>()) {
        let (wide, narrow) = (f64::from_bits(bits), f32::from_bits(bits as u32));
        for (value, to) in [(Value::Float64(wide), PgType::Float8), (Value::Float32(narrow), PgType::Float4)] {
            let mut written = Vec::new();
            write_text(&value, &mut written);
            let written = String::from_utf8(written).unwrap();
            if written != "NaN" {
                prop_assert_eq!(field(&text(&written), &to), field(&value, &to), "{}", written);
            }
        }
    }

    #[test]
    fn every_moment_reads_back_from_its_text(micros in any::<i64>(), days in any::<i32>(), of_day in 0..86_400_000_000i64) {
        let moments = [
            (Value::Timestamp { micros, utc: true }, PgType::TimestampTz),
            (Value::Timestamp { micros, utc: false }, PgType::Timestamp),
            (Value::Timestamp { micros, utc: false }, PgType::Date),
            (Value::Date(days), PgType::Date),
            (Value::Date(days), PgType::TimestampTz),
            (Value::Time(of_day), PgType::Time),
        ];
        for (value, to) in moments {
            let mut written = Vec::new();
            write_text(&value, &mut written);
            let written = String::from_utf8(written).unwrap();
            let class = |field: Result<_, CellError>| field.map_err(|error| error.class);
            prop_assert_eq!(class(field(&text(&written), &to)), class(field(&value, &to)), "{}", written);
        }
    }

    #[test]
    fn an_offset_moves_an_instant_by_itself(seconds in 0..4_000_000_000i64, hours in -15..=15i64, minutes in 0..60i64) {
        let mut local = Vec::new();
        let offset = hours * 3600 + hours.signum() * minutes * 60;
        write_text(&Value::Timestamp { micros: (seconds + offset) * 1_000_000, utc: false }, &mut local);
        let local = String::from_utf8(local).unwrap();
        let sign = if hours < 0 { '-' } else { '+' };
        let minutes = if hours == 0 { 0 } else { minutes };
        let written = format!("{local}{sign}{:02}:{minutes:02}", hours.abs());
        let instant = Value::Timestamp { micros: seconds * 1_000_000, utc: true };
        prop_assert_eq!(field(&text(&written), &PgType::TimestampTz), field(&instant, &PgType::TimestampTz), "{}", written);
    }

    #[test]
    fn json_is_what_an_independent_reader_takes_for_json(raw in nearly()) {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&raw).is_ok();
        match validate(&raw, false, 64).map_err(|error| error.class) {
            Ok(()) => prop_assert!(is_json),
            Err(RejectClass::Json) => prop_assert!(!is_json),
            Err(class) => prop_assert_eq!(class, RejectClass::Text),
        }
    }

    #[test]
    fn any_text_written_as_json_reads_back(plain in any::<String>()) {
        let mut written = Vec::new();
        write_string(&plain, &mut written);
        let written = String::from_utf8(written).unwrap();
        prop_assert_eq!(&serde_json::from_str::<String>(&written).unwrap(), &plain);
        if !plain.contains('\0') {
            prop_assert_eq!(unescape(&written[1..written.len() - 1]).unwrap(), plain);
        }
    }

    #[test]
    fn a_list_is_the_same_array_as_json_and_as_literal(list in prop::collection::vec(prop::option::of("[^\0]{0,8}"), 0..6)) {
        let to = PgType::Array(Box::new(PgType::Text(None)), 25);
        let as_json = serde_json::to_string(&list).unwrap();
        let literal: Vec<String> = list
            .iter()
            .map(|element| match element {
                Some(element) => format!("\"{}\"", element.replace('\\', "\\\\").replace('"', "\\\"")),
                None => "NULL".into(),
            })
            .collect();
        let literal = format!("{{{}}}", literal.join(","));
        prop_assert_eq!(field(&json(&as_json), &to), field(&text(&literal), &to));
        prop_assert!(field(&json(&as_json), &to).is_ok());
    }
}
