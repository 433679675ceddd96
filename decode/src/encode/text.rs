//! The text form of every value: for text columns, and for types the server casts.

use super::value::quote;
use super::{CellError, RejectClass, Value, bytes, sized, time, whole};
use std::fmt::{self, Write as _};

/// Encodes a value for a `text`, `varchar(n)` or `char(n)` column, or one the server casts.
pub(super) fn text(value: &Value<'_>, limit: Option<u32>, out: &mut Vec<u8>) -> Result<(), CellError> {
    if let Value::Text(text) | Value::Number(text) | Value::Json(text) = value {
        let text = within_limit(text, limit)?;
        check_nul(text)?;
        return whole(out, text.as_bytes());
    }
    if let Value::Bytes(bytes) = value {
        let text = utf8(bytes)?;
        return self::text(&Value::Text(text.into()), limit, out);
    }
    sized(out, |out| {
        let start = out.len();
        write_text(value, out);
        // What is rendered here is ASCII: a byte is a character.
        match limit {
            Some(limit) if out.len() - start > limit as usize => Err(too_long(limit, &out[start..])),
            _ => Ok(()),
        }
    })
}

/// Encodes a value for a `name` or a `"char"`, which hold this many bytes.
pub(super) fn short(value: &Value<'_>, n_bytes: usize, out: &mut Vec<u8>) -> Result<(), CellError> {
    let start = out.len() + 4;
    text(value, None, out)?;
    match out.len() - start {
        // A "char" is one byte on its way, also where it is nothing.
        0 if n_bytes == 1 => {
            out.truncate(start - 4);
            whole(out, b"\0")
        }
        length if length > n_bytes => {
            let text = quote(&String::from_utf8_lossy(&out[start..][..length.min(256)]));
            Err(CellError::new(RejectClass::Length, format!("{text} is longer than {n_bytes} bytes")))
        }
        _ => Ok(()),
    }
}

/// Appends the text form of a value; nothing for NULL. Numbers as written, floats at their shortest, times in ISO form.
pub fn write_text(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) | Value::Number(text) | Value::Json(text) => out.extend_from_slice(text.as_bytes()),
        Value::Bytes(bytes) => out.extend_from_slice(bytes),
        Value::Date(days) => time::write_date(i64::from(*days), out),
        Value::Time(micros) => time::write_time(*micros, out),
        Value::Timestamp { micros, utc } => time::write_timestamp(*micros, *utc, out),
        Value::Uuid(uuid) => bytes::write_uuid(uuid, out),
        scalar => {
            let mut buffer = Buffer::new();
            push_scalar(scalar, &mut buffer);
            out.extend_from_slice(buffer.bytes());
        }
    }
}

/// Writes a boolean, integer, decimal or float; leaves the buffer empty for everything else.
pub(super) fn push_scalar(value: &Value<'_>, buffer: &mut Buffer) {
    match value {
        Value::Bool(truth) => buffer.push(if *truth { b"true" } else { b"false" }),
        Value::Int(int) => {
            if *int < 0 {
                buffer.push(b"-");
            }
            buffer.push_u64(int.unsigned_abs());
        }
        Value::UInt(int) => buffer.push_u64(*int),
        Value::Decimal(unscaled, scale) => push_decimal(*unscaled, *scale, buffer),
        Value::Float32(float) => push_float(f64::from(*float), format_args!("{float:e}"), 6, buffer),
        Value::Float64(float) => push_float(*float, format_args!("{float:e}"), 15, buffer),
        _ => {}
    }
}

fn push_decimal(unscaled: i128, scale: i8, buffer: &mut Buffer) {
    if unscaled < 0 {
        buffer.push(b"-");
    }
    let mut digits = Buffer::new();
    digits.push_u128(unscaled.unsigned_abs());
    let digits = std::str::from_utf8(digits.bytes()).unwrap_or_default();
    push_scaled(digits, scale, &mut |piece| buffer.push(piece.as_bytes()));
}

/// Writes digits with the point `scale` places from the right.
#[inline]
pub(crate) fn push_scaled(digits: &str, scale: i8, push: &mut impl FnMut(&str)) {
    let scale = i32::from(scale);
    if scale <= 0 {
        push(digits);
        if digits != "0" {
            (scale..0).for_each(|_| push("0"));
        }
        return;
    }
    let scale = scale as usize;
    let (integral, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    push(if integral.is_empty() { "0" } else { integral });
    push(".");
    (fraction.len()..scale).for_each(|_| push("0"));
    push(fraction);
}

/// Writes a float as Postgres does: shortest digits, an exponent when it is below -4 or not below `plain_below`.
fn push_float(float: f64, shortest: fmt::Arguments<'_>, plain_below: i32, buffer: &mut Buffer) {
    if !float.is_finite() {
        let word: &[u8] = match (float.is_nan(), float > 0.0) {
            (true, _) => b"NaN",
            (false, true) => b"Infinity",
            (false, false) => b"-Infinity",
        };
        return buffer.push(word);
    }
    let mut written = Buffer::new();
    written.push_fmt(shortest); // like -1.25e-7
    let written = std::str::from_utf8(written.bytes()).unwrap_or_default();
    let (mantissa, exponent) = written.split_once('e').unwrap_or((written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    buffer.push(sign.as_bytes());
    let (first, rest) = mantissa.split_at(1);
    let rest = rest.trim_start_matches('.');
    if exponent < -4 || exponent >= plain_below {
        buffer.push(mantissa.as_bytes());
        return buffer.push_fmt(format_args!("e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()));
    }
    if exponent < 0 {
        buffer.push(b"0.");
        (exponent + 1..0).for_each(|_| buffer.push(b"0"));
        buffer.push(first.as_bytes());
        return buffer.push(rest.as_bytes());
    }
    let integral = (exponent as usize).min(rest.len());
    buffer.push(first.as_bytes());
    buffer.push(&rest.as_bytes()[..integral]);
    (integral..exponent as usize).for_each(|_| buffer.push(b"0"));
    if integral < rest.len() {
        buffer.push(b".");
        buffer.push(&rest.as_bytes()[integral..]);
    }
}

/// Returns the text cut to the limit where only blanks are lost, as Postgres does; `length` otherwise.
fn within_limit(text: &str, limit: Option<u32>) -> Result<&str, CellError> {
    let Some(limit) = limit else { return Ok(text) };
    // A character is at least a byte.
    if text.len() <= limit as usize {
        return Ok(text);
    }
    match text.char_indices().nth(limit as usize) {
        None => Ok(text),
        Some((end, _)) if text[end..].bytes().all(|b| b == b' ') => Ok(&text[..end]),
        Some(_) => Err(too_long(limit, text.as_bytes())),
    }
}

#[cold]
fn too_long(limit: u32, text: &[u8]) -> CellError {
    let text = quote(&String::from_utf8_lossy(&text[..text.len().min(256)]));
    CellError::new(RejectClass::Length, format!("{text} is longer than {limit} characters"))
}

/// Refuses U+0000, which Postgres's text cannot hold.
pub(super) fn check_nul(text: &str) -> Result<(), CellError> {
    match memchr::memchr(0, text.as_bytes()) {
        None => Ok(()),
        Some(at) => Err(CellError::new(RejectClass::Text, format!("U+0000 at byte {at}"))),
    }
}

/// Returns bytes as text.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, CellError> {
    std::str::from_utf8(bytes)
        .map_err(|error| CellError::new(RejectClass::Text, format!("not UTF-8 from byte {}", error.valid_up_to())))
}

/// A piece of text on the stack: long enough for any scalar (a decimal of 39 digits and 128 zeros).
pub(super) struct Buffer {
    bytes: [u8; 192],
    len: usize,
}

impl Buffer {
    pub(super) fn new() -> Self {
        Self { bytes: [0; 192], len: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    pub(super) fn push_fmt(&mut self, arguments: fmt::Arguments<'_>) {
        // Fails only when the buffer is full, which its size rules out.
        let _ = self.write_fmt(arguments);
    }

    pub(super) fn push_u64(&mut self, mut number: u64) {
        let mut digits = [0u8; 20];
        let mut start = digits.len();
        while number >= 100 {
            let pair = (number % 100) as usize * 2;
            number /= 100;
            start -= 2;
            digits[start..start + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
        }
        if number >= 10 {
            let pair = number as usize * 2;
            start -= 2;
            digits[start..start + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
        } else {
            start -= 1;
            digits[start] = b'0' + number as u8;
        }
        self.push(&digits[start..]);
    }

    pub(super) fn push_u128(&mut self, number: u128) {
        match u64::try_from(number) {
            Ok(small) => self.push_u64(small),
            Err(_) => self.push_fmt(format_args!("{number}")),
        }
    }
}

impl fmt::Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.len + text.len() > self.bytes.len() {
            return Err(fmt::Error);
        }
        self.push(text.as_bytes());
        Ok(())
    }
}

/// "00" to "99", so that two digits cost one division.
const PAIRS: [u8; 200] = {
    let mut pairs = [0u8; 200];
    let mut number = 0;
    while number < 100 {
        pairs[number * 2] = b'0' + (number / 10) as u8;
        pairs[number * 2 + 1] = b'0' + (number % 10) as u8;
        number += 1;
    }
    pairs
};
