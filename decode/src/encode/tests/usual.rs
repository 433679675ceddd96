//! The short way leads where the long one does.

use super::super::usual;
use super::*;
use proptest::prelude::*;

/// Numbers and times as nearly all are written, and others that look like them.
fn usual_texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[-+]?[0-9]{0,20}(\\.[0-9]{0,18})?([e:/.][0-9])?",
        "-?0{0,3}[0-9]{1,5}\\.[0-9]{0,4}0{0,3}",
        any::<i32>().prop_map(|int| int.to_string()),
        any::<i64>().prop_map(|int| int.to_string()),
        any::<f32>().prop_map(|float| float.to_string()),
        (-9_999_999..=9_999_999i64).prop_map(|e6| (e6 as f64 / 1e6).to_string()),
        "(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,7})?(Z|[+-][01][0-9])?)?",
        "\\PC{0,40}",
        "[a-z0-9. ]{0,40}",
    ]
}

fn types() -> impl Strategy<Value = PgType> {
    let numeric = |(precision, scale)| PgType::Numeric(Some((precision, scale)));
    prop_oneof![
        prop::sample::select(vec![
            PgType::Bool,
            PgType::Int2,
            PgType::Int4,
            PgType::Int8,
            PgType::Float4,
            PgType::Float8,
            PgType::Numeric(None),
            PgType::Text(None),
            PgType::Date,
            PgType::Timestamp,
            PgType::TimestampTz,
            PgType::Jsonb,
        ]),
        (1..=30u16, -3..=24i16).prop_map(numeric),
        (10..=18u16, 0..=9i16).prop_map(numeric),
        (0..12u32).prop_map(|limit| PgType::Text(Some(limit))),
    ]
}

/// Returns what the short way writes, if it does.
fn short(write: impl FnOnce(&mut Vec<u8>) -> bool) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    let is_written = write(&mut out);
    assert!(is_written || out == b"before", "nothing is left of what is not written");
    is_written.then(|| out.split_off(6))
}

fn long(value: &Value<'_>, to: &PgType) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    encode(value, to, &mut out).ok().map(|()| out)
}

/// Checks what the short way writes, which need not be anything.
fn same(short: Option<Vec<u8>>, value: &Value<'_>, to: &PgType) -> Result<(), TestCaseError> {
    if short.is_some() {
        prop_assert_eq!(short, long(value, to), "{:?} as {:?}", value, to);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_text_is_written_shortly_as_it_is_at_length(
        text in usual_texts(), to in types(), before in "[ -~]{0,8}", after in "[ -~]{0,40}"
    ) {
        let source = format!("{before}{text}{after}");
        let write = |out: &mut Vec<u8>| {
            usual::write_text(source.as_bytes(), before.len(), before.len() + text.len(), &to, out)
        };
        if usual::is_text(text.as_bytes()) {
            same(short(write), &Value::Text(text.as_str().into()), &to)?;
        }
    }

    #[test]
    fn a_decimal_is_written_shortly_as_it_is_at_length(
        digits in prop_oneof![
            any::<i64>(),
            -10_000..10_000i64,
            -10_000_000_000..10_000_000_000i64,
            (0..1000i64).prop_map(|n| n * 10_000_000),
        ],
        scale in 0..12i8,
        to in types(),
    ) {
        if let PgType::Numeric(limit) = to {
            let write = |out: &mut Vec<u8>| {
                usual::write_decimal(digits < 0, digits.unsigned_abs(), scale.unsigned_abs().into(), limit, out)
            };
            same(short(write), &Value::Decimal(digits.into(), scale), &to)?;
        }
    }

    #[test]
    fn a_text_in_its_view_is_written_as_it_is_at_length(text in prop_oneof!["[ -~\0]{0,12}", "[a\0\u{7f}-\u{ff}€]{0,4}"]) {
        let mut view = [0; 16];
        view[..4].copy_from_slice(&(text.len() as u32).to_le_bytes());
        view[4..4 + text.len()].copy_from_slice(text.as_bytes());
        let written = short(|out| usual::write_view(u128::from_le_bytes(view), out));
        prop_assert_eq!(written, long(&Value::Text(text.as_str().into()), &PgType::Text(None)));
    }

    #[test]
    fn bytes_are_text_where_they_are_utf8_without_zeros(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        "[ -~]{0,40}".prop_map(String::into_bytes),
        "[ -~]{0,30}[\0é\u{7f}][ -~]{0,30}".prop_map(String::into_bytes),
    ]) {
        let expected = std::str::from_utf8(&bytes).is_ok() && !bytes.contains(&0);
        prop_assert_eq!(usual::is_text(&bytes), expected);
    }
}

#[test]
fn usual_values_do_go_the_short_way() {
    let written = |text: &str, to: PgType| short(|out| usual::write_text(text.as_bytes(), 0, text.len(), &to, out));
    for (text, to) in [
        ("-123456789012345678", PgType::Int8),
        ("2147483647", PgType::Int4),
        ("-0.000001", PgType::Float8),
        ("12345678.1234", PgType::Numeric(Some((12, 4)))),
        ("12345678.12345678", PgType::Numeric(None)),
        ("-0.00", PgType::Numeric(None)),
        ("10000", PgType::Numeric(Some((5, 0)))),
        ("2026-01-02T03:04:05.678901Z", PgType::TimestampTz),
        ("2026-01-02 03:04:05", PgType::Timestamp),
        ("2026-01-02", PgType::Date),
        ("text", PgType::Text(Some(4))),
    ] {
        let is_same =
            written(text, to.clone()).is_some_and(|short| Some(short) == long(&Value::Text(text.into()), &to));
        assert!(is_same, "{text} as {to:?}");
    }
}
