//! Booleans, integers and floats.

use super::decimal::{Digits, NotInteger, is_not_finite};
use super::{CellError, Value, fixed, text};
use std::str::FromStr;

/// Encodes a value for a `boolean` column: Postgres's words and their prefixes, 0 and 1.
pub(super) fn boolean(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
    let truth = match value {
        Value::Bool(truth) => Some(*truth),
        Value::Text(text) => parse_bool(text.trim_ascii().as_bytes()),
        Value::Int(_) | Value::UInt(_) | Value::Decimal(..) | Value::Number(_) => match integer(value, "boolean")? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
        _ => None,
    };
    let truth = truth.ok_or_else(|| CellError::mismatch(value, "boolean"))?;
    fixed(out, [u8::from(truth)])
}

/// Encodes a value for a `smallint` column.
pub(super) fn int2(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
    let narrow = i16::try_from(integer(value, "smallint")?).map_err(|_| CellError::out_of_range(value, "smallint"))?;
    fixed(out, narrow.to_be_bytes())
}

/// Encodes a value for an `integer` column.
pub(super) fn int4(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
    let narrow = i32::try_from(integer(value, "integer")?).map_err(|_| CellError::out_of_range(value, "integer"))?;
    fixed(out, narrow.to_be_bytes())
}

/// Encodes a value for a `bigint` column.
pub(super) fn int8(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
    fixed(out, integer(value, "bigint")?.to_be_bytes())
}

/// Encodes a value for a `double precision` column.
pub(super) fn float8(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
    let float = match value {
        Value::Float64(float) => *float,
        Value::Float32(float) => f64::from(*float),
        Value::Int(int) => *int as f64,
        Value::UInt(int) => *int as f64,
        Value::Text(_) | Value::Number(_) | Value::Decimal(..) => parse_float::<f64>(value, "double precision")?,
        _ => return Err(CellError::mismatch(value, "double precision")),
    };
    fixed(out, float.to_be_bytes())
}

/// Encodes a value for a `real` column.
pub(super) fn float4(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
    let float = match value {
        Value::Float32(float) => *float,
        Value::Float64(wide) => {
            let float = *wide as f32;
            if (float.is_infinite() && wide.is_finite()) || (float == 0.0 && *wide != 0.0) {
                return Err(CellError::out_of_range(value, "real"));
            }
            float
        }
        Value::Int(int) => *int as f32,
        Value::UInt(int) => *int as f32,
        Value::Text(_) | Value::Number(_) | Value::Decimal(..) => parse_float::<f32>(value, "real")?,
        _ => return Err(CellError::mismatch(value, "real")),
    };
    fixed(out, float.to_be_bytes())
}

/// Returns the exact integer a value stands for.
fn integer(value: &Value<'_>, to: &str) -> Result<i64, CellError> {
    match value {
        Value::Int(int) => Ok(*int),
        Value::UInt(int) => i64::try_from(*int).map_err(|_| CellError::out_of_range(value, to)),
        Value::Text(text) | Value::Number(text) => match plain_integer(text.as_bytes()) {
            Some(int) => Ok(int),
            None => written_integer(value, text.as_bytes(), to),
        },
        Value::Decimal(unscaled, 0) => i64::try_from(*unscaled).map_err(|_| CellError::out_of_range(value, to)),
        Value::Decimal(..) => {
            let mut buffer = text::Buffer::new();
            text::push_scalar(value, &mut buffer);
            written_integer(value, buffer.bytes(), to)
        }
        Value::Float32(float) => float_integer(value, f64::from(*float), to),
        Value::Float64(float) => float_integer(value, *float, to),
        _ => Err(CellError::mismatch(value, to)),
    }
}

/// Reads a sign and up to 18 digits, which cannot overflow; everything else takes the long way.
#[inline]
fn plain_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut magnitude = 0i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude * 10 + i64::from(digit);
    }
    Some(if negative { -magnitude } else { magnitude })
}

fn written_integer(value: &Value<'_>, text: &[u8], to: &str) -> Result<i64, CellError> {
    match Digits::parse(text).map(Digits::to_i64) {
        Some(Ok(int)) => Ok(int),
        Some(Err(NotInteger::Range)) => Err(CellError::out_of_range(value, to)),
        Some(Err(NotInteger::Fraction)) | None => Err(CellError::mismatch(value, to)),
    }
}

fn float_integer(value: &Value<'_>, float: f64, to: &str) -> Result<i64, CellError> {
    // 2^63 is exact as a float; i64::MAX is not.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if !float.is_finite() || !(-BEYOND..BEYOND).contains(&float) {
        return Err(CellError::out_of_range(value, to));
    }
    if float.fract() != 0.0 {
        return Err(CellError::mismatch(value, to));
    }
    Ok(float as i64)
}

/// Reads a float; like Postgres it refuses what overflows to infinity or vanishes to zero.
fn parse_float<F: FromStr + Into<f64> + Copy>(value: &Value<'_>, to: &str) -> Result<F, CellError> {
    let mut buffer = text::Buffer::new();
    let text = match value {
        Value::Text(text) | Value::Number(text) => text.trim_ascii(),
        _ => {
            text::push_scalar(value, &mut buffer);
            std::str::from_utf8(buffer.bytes()).unwrap_or_default()
        }
    };
    let Ok(float) = text.parse::<F>() else { return Err(CellError::mismatch(value, to)) };
    let wide: f64 = float.into();
    let overflows = wide.is_infinite() && !is_not_finite(text);
    let vanishes = wide == 0.0 && Digits::parse(text.as_bytes()).is_some_and(|digits| !digits.is_zero());
    if overflows || vanishes {
        return Err(CellError::out_of_range(value, to));
    }
    Ok(float)
}

/// Reads Postgres's texts for booleans: any unique prefix of true, false, yes, no, on, off; 1 and 0.
fn parse_bool(text: &[u8]) -> Option<bool> {
    let is_prefix = |word: &str, at_least: usize| {
        text.len() >= at_least && text.len() <= word.len() && word.as_bytes()[..text.len()].eq_ignore_ascii_case(text)
    };
    match text {
        b"1" => Some(true),
        b"0" => Some(false),
        _ if is_prefix("true", 1) || is_prefix("yes", 1) || is_prefix("on", 2) => Some(true),
        _ if is_prefix("false", 1) || is_prefix("no", 1) || is_prefix("off", 2) => Some(false),
        _ => None,
    }
}
