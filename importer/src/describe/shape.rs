//! What a text could be, without losing anything of it.
//!
//! Stricter than what the importer reads: `007` loads into a `bigint`, and comes out as `7`.

use bitflags::bitflags;
use decode::encode::{PgType, Value, encode};

bitflags! {
    /// A set of readings a text allows.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Shapes: u16 {
        /// An integer without a sign but minus and without leading zeros.
        const INTEGER = 1;
        /// Such an integer, within 64 bits.
        const BIGINT = 1 << 1;
        /// A number that `numeric` holds.
        const DECIMAL = 1 << 2;
        /// A number that `double precision` gives back with all its digits.
        const FLOAT = 1 << 3;
        /// `true` or `false`.
        const BOOLEAN = 1 << 4;
        /// `YYYY-MM-DD`.
        const DATE = 1 << 5;
        /// `HH:MM:SS`.
        const TIME = 1 << 6;
        /// Date and time without a zone.
        const TIMESTAMP = 1 << 7;
        /// Date and time with one.
        const TIMESTAMPTZ = 1 << 8;
        /// A UUID as Postgres writes it: lower case, hyphens.
        const UUID = 1 << 9;
        /// A UUID in another spelling.
        const OTHER_UUID = 1 << 10;
        /// Date and time, finer than microseconds.
        const NANOS = 1 << 11;
        /// A number with a comma before its fraction, and perhaps points between groups of three digits.
        const DECIMAL_COMMA = 1 << 12;
        /// `DD.MM.YYYY`.
        const DOTTED_DATE = 1 << 13;
        /// What a string of a format with types of its own may stand for: a number in quotes was meant as text.
        const OF_STRINGS = Self::DATE.bits() | Self::TIME.bits() | Self::TIMESTAMP.bits() | Self::TIMESTAMPTZ.bits()
            | Self::UUID.bits() | Self::OTHER_UUID.bits() | Self::NANOS.bits() | Self::DOTTED_DATE.bits();
    }
}

impl Default for Shapes {
    /// What is known before the first text.
    fn default() -> Self {
        Self::all()
    }
}

/// Returns what a text could be.
#[must_use]
pub fn of_text(text: &str) -> Shapes {
    let mut shapes = of_plain(text);
    shapes.set(Shapes::DECIMAL_COMMA, has_decimal_comma(text));
    shapes.set(Shapes::DOTTED_DATE, is_dotted_date(text));
    shapes
}

/// Returns whether it is a number as `decimal = ","` reads it, also one without a comma, and no code.
fn has_decimal_comma(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once(',').map_or((unsigned, None), |(whole, rest)| (whole, Some(rest)));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut groups = whole.split('.');
    let first = groups.next().unwrap_or_default();
    let is_grouped = groups.clone().next().is_none() || (first.len() <= 3 && groups.all(|group| group.len() == 3));
    let is_code = whole.len() > 1 && whole.starts_with('0');
    is_grouped && !is_code && whole.split('.').all(is_digits) && fraction.is_none_or(is_digits)
}

fn is_dotted_date(text: &str) -> bool {
    let [day, month, year] = text.split('.').collect::<Vec<_>>()[..] else { return false };
    (day.len(), month.len(), year.len()) == (2, 2, 4) && fits(&format!("{year}-{month}-{day}"), &PgType::Date)
}

fn of_plain(text: &str) -> Shapes {
    let bytes = text.as_bytes();
    match bytes {
        [] => Shapes::empty(),
        [b'-' | b'.' | b'0'..=b'9', ..] if is_number(bytes) => of_number(text),
        [b'0'..=b'9', ..] if bytes.get(4) == Some(&b'-') => of_moment(text),
        [b'0'..=b'9', ..] if bytes.get(2) == Some(&b':') => {
            let micros =
                bytes.len() >= 8 && fraction_digits(&bytes[8..]).is_some_and(|(n, rest)| n <= 6 && rest.is_empty());
            if is_clock(bytes) && micros && fits(text, &PgType::Time) { Shapes::TIME } else { Shapes::empty() }
        }
        _ if matches!(text, "true" | "false" | "True" | "False" | "TRUE" | "FALSE") => Shapes::BOOLEAN,
        _ if matches!(text, "NaN" | "Infinity" | "-Infinity") => Shapes::FLOAT,
        _ => of_uuid(bytes),
    }
}

/// Returns what a number could be; it must be one.
#[must_use]
pub fn of_number(text: &str) -> Shapes {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_zero = digits.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    let is_negative_zero = is_zero && digits.len() < text.len();
    let is_integer = digits.bytes().all(|byte| byte.is_ascii_digit());
    // A code, such as a postcode, rather than a number.
    if digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit() {
        return Shapes::empty();
    }
    let is_integer = is_integer && !is_negative_zero;
    let mut shapes = Shapes::empty();
    shapes.set(Shapes::INTEGER, is_integer);
    shapes.set(Shapes::BIGINT, is_integer && fits(text, &PgType::Int8));
    shapes.set(Shapes::DECIMAL, !is_negative_zero && fits(text, &PgType::Numeric(None)));
    shapes.set(Shapes::FLOAT, survives_float(text));
    shapes
}

/// Returns whether a type takes a text, as the importer reads it.
fn fits(text: &str, pg_type: &PgType) -> bool {
    encode(&Value::Text(text.into()), pg_type, &mut Vec::new()).is_ok()
}

/// Returns whether it reads `-?digits[.digits][e[+-]digits]`, or `.digits`.
fn is_number(bytes: &[u8]) -> bool {
    let unsigned = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let (n_before, rest) = digits(unsigned);
    let (n_after, rest) = rest.strip_prefix(b".").map_or((0, rest), digits);
    if n_before + n_after == 0 {
        return false;
    }
    match rest {
        [] => true,
        [b'e' | b'E', exponent @ ..] => {
            let exponent = exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
            matches!(digits(exponent), (1.., []))
        }
        _ => false,
    }
}

/// Returns how many digits there are at the start, and what follows them.
fn digits(bytes: &[u8]) -> (usize, &[u8]) {
    let n = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (n, &bytes[n..])
}

/// Returns whether a float gives back every significant digit.
fn survives_float(text: &str) -> bool {
    let Ok(float) = text.parse::<f64>() else { return false };
    let significant = |text: &str| {
        let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        digits.trim_start_matches('0').trim_end_matches('0').to_owned()
    };
    float.is_finite() && significant(text) == significant(&format!("{float:e}"))
}

fn of_moment(text: &str) -> Shapes {
    let bytes = text.as_bytes();
    if bytes.len() == 10 {
        return if fits(text, &PgType::Date) { Shapes::DATE } else { Shapes::empty() };
    }
    let Some(b'T' | b' ') = bytes.get(10) else { return of_uuid(bytes) };
    let clock = &bytes[11..];
    if !is_clock(clock) {
        return Shapes::empty();
    }
    let Some((n_digits, zone)) = fraction_digits(&clock[8..]) else { return Shapes::empty() };
    let (shape, pg_type) = match zone {
        [] => (Shapes::TIMESTAMP, PgType::Timestamp),
        [b'Z' | b'z' | b'+' | b'-', ..] => (Shapes::TIMESTAMPTZ, PgType::TimestampTz),
        _ => return Shapes::empty(),
    };
    match fits(text, &pg_type) {
        true if n_digits <= 6 => shape,
        true => Shapes::NANOS,
        false => Shapes::empty(),
    }
}

/// Returns whether it starts like `23:59:59`.
fn is_clock(bytes: &[u8]) -> bool {
    matches!(bytes, [a, b, b':', c, d, b':', e, f, ..]
        if [a, b, c, d, e, f].iter().all(|byte| byte.is_ascii_digit()) && [*a, *b] < *b"24" && *e < b'6')
}

/// Returns how many digits a fraction of a second has, zeros at its end not counted, and what follows it.
fn fraction_digits(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let Some(fraction) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let (n, rest) = digits(fraction);
    let n_zeros = fraction[..n].iter().rev().take_while(|byte| **byte == b'0').count();
    (n > 0).then_some((n - n_zeros, rest))
}

fn of_uuid(bytes: &[u8]) -> Shapes {
    let hyphens = [8, 13, 18, 23];
    let hyphenated = bytes.len() == 36
        && bytes
            .iter()
            .enumerate()
            .all(|(at, byte)| if hyphens.contains(&at) { *byte == b'-' } else { byte.is_ascii_hexdigit() });
    match hyphenated {
        false => Shapes::empty(),
        true if bytes.iter().any(u8::is_ascii_uppercase) => Shapes::OTHER_UUID,
        true => Shapes::UUID | Shapes::OTHER_UUID,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [(Shapes, &str); 4] = [
        (Shapes::INTEGER, "integer"),
        (Shapes::BIGINT, "bigint"),
        (Shapes::DECIMAL, "decimal"),
        (Shapes::FLOAT, "float"),
    ];
    const OTHERS: [(Shapes, &str); 9] = [
        (Shapes::BOOLEAN, "boolean"),
        (Shapes::DATE, "date"),
        (Shapes::TIME, "time"),
        (Shapes::TIMESTAMP, "timestamp"),
        (Shapes::TIMESTAMPTZ, "timestamptz"),
        (Shapes::UUID, "uuid"),
        (Shapes::OTHER_UUID, "other-uuid"),
        (Shapes::NANOS, "nanos"),
        (Shapes::DOTTED_DATE, "dotted"),
    ];

    #[test]
    fn a_text_is_only_what_comes_out_of_a_column_as_it_went_in() {
        for (text, expected) in [
            ("", ""),
            ("0", "integer bigint decimal float"),
            ("-12", "integer bigint decimal float"),
            ("9223372036854775807", "integer bigint decimal"),
            ("9223372036854775808", "integer decimal"),
            ("007", ""),
            ("-0", "float"),
            ("+1", ""),
            ("0.5", "decimal float"),
            (".5", "decimal float"),
            ("-0.0", "float"),
            ("1.50", "decimal float"),
            ("10.357019999999999", "decimal float"),
            ("0.1000000000000000055511151231257827", "decimal"),
            ("1e5", "decimal float"),
            ("1e400", "decimal"),
            ("1e", ""),
            ("-", ""),
            ("1,5", ""),
            ("0x1F", ""),
            ("NaN", "float"),
            ("nan", ""),
            ("true", "boolean"),
            ("yes", ""),
            ("2026-01-31", "date"),
            ("2026-02-30", ""),
            ("2026-1-31", ""),
            ("31.01.2026", "dotted"),
            ("32.01.2026", ""),
            ("05:17:00", "time"),
            ("05:17:00.1234560", "time"),
            ("05:17:00.1234567", ""),
            ("24:00:00", ""),
            ("05:17", ""),
            ("2026-01-31 05:17:00", "timestamp"),
            ("2026-01-31T05:17:00.123456", "timestamp"),
            ("2026-01-31T05:17:00Z", "timestamptz"),
            ("2026-01-31 05:17:00.5+02:00", "timestamptz"),
            ("2026-01-31 05:17:00+02", "timestamptz"),
            ("2026-01-31T05:17:00.123456789Z", "nanos"),
            ("2026-01-31T05:17:00.123456000Z", "timestamptz"),
            ("2026-01-31T05:17:60Z", ""),
            ("2026-01-31T05:17:00 Europe/Berlin", ""),
            ("6fa459ea-ee8a-3ca4-894e-db77e160355e", "uuid other-uuid"),
            ("00000000-ee8a-3ca4-894e-db77e160355e", "uuid other-uuid"),
            ("12345678-1234-1234-1234-123456789012", "uuid other-uuid"),
            ("6FA459EA-ee8a-3ca4-894e-db77e160355e", "other-uuid"),
            ("6fa459eaee8a3ca4894edb77e160355e", ""),
            (" 1", ""),
            ("N14228", ""),
        ] {
            let shapes = of_text(text);
            let names: Vec<&str> = NUMBERS
                .iter()
                .chain(&OTHERS)
                .filter(|(shape, _)| shapes.contains(*shape))
                .map(|(_, name)| *name)
                .collect();
            assert_eq!(names.join(" "), expected, "{text:?}");
        }
    }

    #[test]
    fn numbers_of_other_countries_are_known() {
        for text in ["1,5", "-1.234,50", "12", "1.234.567", "0,5"] {
            assert!(of_text(text).contains(Shapes::DECIMAL_COMMA), "{text}");
        }
        for text in ["1.5", "1,", ",5", "1.23,4", "1,2,3", "007", "", "1,5e3", "1234.567"] {
            assert!(!of_text(text).contains(Shapes::DECIMAL_COMMA), "{text}");
        }
    }

    #[test]
    fn quoted_numbers_stay_text() {
        assert_eq!(of_text("12") & Shapes::OF_STRINGS, Shapes::empty());
        assert!((of_text("2026-01-31") & Shapes::OF_STRINGS).contains(Shapes::DATE));
    }
}
