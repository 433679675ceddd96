//! Values written as JSON text: what nested values of the binary formats become.

use crate::encode::{CellError, RejectClass, Value, write_escaped, write_string, write_text};

/// A text is written in pieces of this many bytes, each of which can become six times as long.
const PIECE_BYTES: usize = 16 * 1024;

/// Appends `value` as JSON; decimals are numbers with all their digits, bytes are `\x` and hex as a string.
pub fn write_value(value: &Value<'_>, out: &mut Vec<u8>) {
    let is_bare = match value {
        Value::Null | Value::Absent => return out.extend_from_slice(b"null"),
        Value::Text(text) => return write_string(text, out),
        Value::Bytes(bytes) => return write_hex(bytes, out),
        Value::Float32(float) => float.is_finite(),
        Value::Float64(float) => float.is_finite(),
        Value::Date(_) | Value::Time(_) | Value::Timestamp { .. } | Value::Uuid(_) => false,
        _ => true,
    };
    if is_bare {
        return write_text(value, out);
    }
    out.push(b'"');
    write_text(value, out);
    out.push(b'"');
}

/// Does what [`write_value`] does, until `out` is longer than `max_bytes`.
///
/// # Errors
/// `row_size` when it is.
pub fn write_value_within(value: &Value<'_>, max_bytes: usize, out: &mut Vec<u8>) -> Result<(), CellError> {
    match value {
        Value::Text(text) => write_string_within(text, max_bytes, out),
        Value::Bytes(bytes) if out.len() + 2 * bytes.len() > max_bytes => Err(too_long(max_bytes)),
        value => {
            write_value(value, out);
            Ok(())
        }
    }
}

/// Appends a JSON string, until `out` is longer than `max_bytes`.
///
/// # Errors
/// `row_size` when it is.
pub fn write_string_within(text: &str, max_bytes: usize, out: &mut Vec<u8>) -> Result<(), CellError> {
    let mut rest = text;
    out.push(b'"');
    while !rest.is_empty() {
        if out.len() > max_bytes {
            return Err(too_long(max_bytes));
        }
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        write_escaped(piece, out);
        rest = after;
    }
    out.push(b'"');
    Ok(())
}

/// Appends what `write` appends for each item, with commas between them and brackets around.
///
/// # Errors
/// Those of `write`.
pub fn write_items<T>(
    brackets: [u8; 2],
    items: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>) -> Result<(), CellError>,
) -> Result<(), CellError> {
    let mut separator = None;
    out.push(brackets[0]);
    for item in items {
        out.extend(separator.replace(b','));
        write(item, out)?;
    }
    out.push(brackets[1]);
    Ok(())
}

/// Returns why a nested value is not written to its end.
pub fn too_long(max_bytes: usize) -> CellError {
    CellError::new(RejectClass::RowSize, format!("nested value of more than {max_bytes} bytes"))
}

fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    // JSON wants the backslash escaped.
    out.extend_from_slice(br#""\\x"#);
    out.extend(hex::encode(bytes).bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_that_keeps_what_they_say() {
        check(Value::Null, "null");
        check(Value::Bool(true), "true");
        check(Value::UInt(u64::MAX), "18446744073709551615");
        check(Value::Decimal(110, 2), "1.10");
        check(Value::Float64(1e300), "1e+300");
        check(Value::Float32(0.1), "0.1");
        check(Value::Float64(f64::NAN), "\"NaN\"");
        check(Value::Float32(f32::NEG_INFINITY), "\"-Infinity\"");
        check(Value::Text("a\"\\\n\u{1}é".into()), r#""a\"\\\n\u0001é""#);
        check(Value::Bytes(vec![0, 0xff].into()), r#""\\x00ff""#);
        check(Value::Date(-719_162), "\"0001-01-01\"");
        check(Value::Time(86_399_000_001), "\"23:59:59.000001\"");
        check(Value::Time(-13_899_000_000), "\"-03:51:39\"");
        check(Value::Time(i64::MIN), "\"-2562047788:00:54.775808\"");
        check(Value::Timestamp { micros: -1, utc: true }, "\"1969-12-31T23:59:59.999999Z\"");
        check(Value::Timestamp { micros: 0, utc: false }, "\"1970-01-01T00:00:00\"");
        check(Value::Uuid([0x11; 16]), "\"11111111-1111-1111-1111-111111111111\"");
    }

    fn check(value: Value<'_>, expected: &str) {
        let mut out = Vec::new();
        write_value(&value, &mut out);
        assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));
    }
}
