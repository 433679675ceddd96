//! `json` and `jsonb`: checking, never rewriting.
//!
//! The server parses JSON too, but an error there would end the whole COPY; so everything it
//! would refuse is refused here, row by row. Nothing recurses: depth is a number.

mod scan;

use super::{CellError, Value, sized, text, write_text};
pub(super) use scan::Scanner;
use std::borrow::Cow;

/// How deep JSON may nest by default.
pub const DEFAULT_DEPTH: usize = 64;

/// Encodes a value for a `json` or `jsonb` column.
pub(super) fn json(value: &Value<'_>, jsonb: bool, max_depth: usize, out: &mut Vec<u8>) -> Result<(), CellError> {
    sized(out, |out| {
        if jsonb {
            out.push(1); // The version of jsonb's binary form; the rest is text.
        }
        match value {
            Value::Json(raw) | Value::Text(raw) | Value::Number(raw) => {
                validate(raw, jsonb, max_depth)?;
                out.extend_from_slice(raw.as_bytes());
            }
            Value::Bytes(bytes) => {
                let raw = text::utf8(bytes)?;
                validate(raw, jsonb, max_depth)?;
                out.extend_from_slice(raw.as_bytes());
            }
            Value::Float32(float) if !float.is_finite() => return Err(CellError::out_of_range(value, "JSON")),
            Value::Float64(float) if !float.is_finite() => return Err(CellError::out_of_range(value, "JSON")),
            Value::Date(_) | Value::Time(_) | Value::Timestamp { .. } | Value::Uuid(_) => {
                out.push(b'"');
                write_text(value, out);
                out.push(b'"');
            }
            scalar => write_text(scalar, out),
        }
        Ok(())
    })
}

/// Checks that a text is one JSON value that Postgres takes; with `jsonb` also that its numbers fit `numeric`.
///
/// # Errors
/// Class `json` when it is not JSON, `text` for U+0000 and lone surrogates, `depth`, and `range` for numbers.
pub fn validate(text: &str, jsonb: bool, max_depth: usize) -> Result<(), CellError> {
    let bytes = text.as_bytes();
    let mut scanner = Scanner { bytes, at: 0, jsonb, max_depth };
    scanner.value()?;
    scanner.blanks();
    if scanner.at < bytes.len() {
        return Err(scanner.unexpected("the end"));
    }
    Ok(())
}

/// Returns the scalar a JSON text is; None for objects and arrays.
pub(super) fn scalar(raw: &str) -> Result<Option<Value<'_>>, CellError> {
    let raw = raw.trim_ascii();
    let value = match raw.as_bytes() {
        [b'{' | b'[', ..] => return Ok(None),
        b"null" => Value::Null,
        b"true" => Value::Bool(true),
        b"false" => Value::Bool(false),
        [b'"', ..] => {
            validate(raw, false, 0)?;
            Value::Text(unescape(&raw[1..raw.len() - 1])?)
        }
        _ => {
            validate(raw, false, 0)?;
            Value::Number(raw.into())
        }
    };
    Ok(Some(value))
}

/// Returns the text a JSON string stands for, given what is between its quotes.
///
/// # Errors
/// Class `text` for U+0000 and lone surrogates, `json` for an escape JSON does not have.
pub fn unescape(inner: &str) -> Result<Cow<'_, str>, CellError> {
    let Some(first) = memchr::memchr(b'\\', inner.as_bytes()) else { return Ok(inner.into()) };
    let mut text = String::with_capacity(inner.len());
    text.push_str(&inner[..first]);
    let mut rest = &inner[first..];
    while !rest.is_empty() {
        let mut scanner = Scanner { bytes: rest.as_bytes(), at: 1, jsonb: false, max_depth: 0 };
        text.push(scanner.escape()?);
        rest = &rest[scanner.at..];
        let next = memchr::memchr(b'\\', rest.as_bytes()).unwrap_or(rest.len());
        text.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    Ok(text.into())
}

/// Appends a text as a JSON string, quotes included.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    write_escaped(text, out);
    out.push(b'"');
}

/// Appends what stands between the quotes of a JSON string.
pub fn write_escaped(text: &str, out: &mut Vec<u8>) {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => b"",
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        plain = at + 1;
        if escape.is_empty() {
            out.extend_from_slice(b"\\u00");
            out.push(b'0' + (byte >> 4));
            out.push(b"0123456789abcdef"[usize::from(byte & 15)]);
        } else {
            out.extend_from_slice(escape);
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
}
