//! Values written as JSON text: what nested values of the binary formats become.

use super::decimal;
use crate::encode::Value;
use std::fmt::Write;

/// Appends `value` as JSON; decimals are numbers with all their digits, bytes are `\x` and hex as a string.
pub fn write_value(value: &Value<'_>, out: &mut String) {
    // Writing to a string cannot fail.
    let _ = match value {
        Value::Null | Value::Absent => write!(out, "null"),
        Value::Bool(value) => write!(out, "{value}"),
        Value::Int(value) => write!(out, "{value}"),
        Value::UInt(value) => write!(out, "{value}"),
        Value::Decimal(unscaled, scale) => {
            decimal::write(*unscaled, *scale, out);
            Ok(())
        }
        // `{:?}` is the shortest text that reads back as the same number.
        Value::Float32(value) if value.is_finite() => write!(out, "{value:?}"),
        Value::Float64(value) if value.is_finite() => write!(out, "{value:?}"),
        Value::Float32(value) => write!(out, "\"{}\"", non_finite(f64::from(*value))),
        Value::Float64(value) => write!(out, "\"{}\"", non_finite(*value)),
        Value::Text(text) => {
            write_string(text, out);
            Ok(())
        }
        Value::Number(text) | Value::Json(text) => write!(out, "{text}"),
        Value::Bytes(bytes) => {
            // A backslash is escaped in JSON.
            out.push_str("\"\\\\x");
            write_hex(bytes, out);
            write!(out, "\"")
        }
        Value::Date(days) => {
            out.push('"');
            write_date(i64::from(*days), out);
            write!(out, "\"")
        }
        Value::Time(micros) => {
            out.push('"');
            write_time(*micros, out);
            write!(out, "\"")
        }
        Value::Timestamp { micros, utc } => {
            out.push('"');
            write_date(micros.div_euclid(MICROS_PER_DAY), out);
            out.push('T');
            write_time(micros.rem_euclid(MICROS_PER_DAY), out);
            write!(out, "{}", if *utc { "Z\"" } else { "\"" })
        }
        Value::Uuid(bytes) => write!(out, "\"{}\"", uuid::Uuid::from_bytes(*bytes)),
    };
}

/// Appends `text` as a JSON string.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut copied = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[copied..at]);
        copied = at + 1;
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[copied..]);
    out.push('"');
}

/// Returns a period of months, days and milliseconds as ISO 8601 text, which Postgres reads as an interval.
pub fn period(months: u32, days: u32, millis: u32) -> String {
    format!("P{months}M{days}DT{}.{:03}S", millis / 1000, millis % 1000)
}

const MICROS_PER_DAY: i64 = 86_400_000_000;

fn non_finite(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

fn write_hex(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Appends days since 1970-01-01 as a date of the Gregorian calendar, extended to all years.
fn write_date(days: i64, out: &mut String) {
    // Years that start in March put the leap day last, and 400 of them always have the same length.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let _ = match year {
        0..=9999 => write!(out, "{year:04}-{month:02}-{day:02}"),
        // ISO 8601 wants a sign where four digits do not do.
        _ => write!(out, "{year:+05}-{month:02}-{day:02}"),
    };
}

/// Appends microseconds since midnight, the fraction only where there is one.
fn write_time(micros: i64, out: &mut String) {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let _ = write!(out, ".{fraction:06}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_have_one_spelling() {
        check(Value::Decimal(110, 2), "1.10");
        check(Value::Float64(1e300), "1e300");
        check(Value::Float32(0.1), "0.1");
        check(Value::Float64(f64::NAN), "\"NaN\"");
        check(Value::Float32(f32::NEG_INFINITY), "\"-Infinity\"");
        check(Value::Text("a\"\\\n\u{1}é".into()), r#""a\"\\\n\u0001é""#);
        check(Value::Bytes(vec![0, 0xff].into()), r#""\\x00ff""#);
        check(Value::Date(-719_162), "\"0001-01-01\"");
        check(Value::Date(2_932_896), "\"9999-12-31\"");
        check(Value::Date(2_932_897), "\"+10000-01-01\"");
        check(Value::Date(-719_529), "\"-0001-12-31\"");
        check(Value::Time(86_399_000_001), "\"23:59:59.000001\"");
        check(Value::Timestamp { micros: -1, utc: true }, "\"1969-12-31T23:59:59.999999Z\"");
        check(Value::Timestamp { micros: 0, utc: false }, "\"1970-01-01T00:00:00\"");
        assert_eq!(period(14, 3, 1_005), "P14M3DT1.005S");
    }

    proptest! {
        #[test]
        fn dates_agree_with_chrono(days in -3_000_000i32..3_000_000) {
            let mut ours = String::new();
            write_date(i64::from(days), &mut ours);
            let theirs = chrono::DateTime::UNIX_EPOCH.date_naive() + chrono::Duration::days(i64::from(days));
            prop_assert_eq!(ours, theirs.to_string());
        }

        #[test]
        fn strings_read_back(text: String) {
            let mut out = String::new();
            write_string(&text, &mut out);
            prop_assert_eq!(serde_json::from_str::<String>(&out).ok(), Some(text));
        }
    }

    fn check(value: Value<'_>, expected: &str) {
        let mut out = String::new();
        write_value(&value, &mut out);
        assert_eq!(out, expected);
    }
}
