//! `bytea` and `uuid`.

use super::{CellError, Value, fixed, sized};

/// Encodes a value for a `bytea` column: bytes as they are, or Postgres's hex text.
pub(super) fn bytea(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
    sized(out, |out| match value {
        Value::Bytes(bytes) => {
            out.extend_from_slice(bytes);
            Ok(())
        }
        Value::Uuid(uuid) => {
            out.extend_from_slice(uuid);
            Ok(())
        }
        Value::Text(text) => match text.as_bytes() {
            [b'\\', b'x' | b'X', digits @ ..] => write_unhexed(digits, out),
            _ => None,
        }
        .ok_or_else(|| CellError::mismatch(value, "bytea (\\x and pairs of hex digits)")),
        _ => Err(CellError::mismatch(value, "bytea")),
    })
}

/// Encodes a value for a `uuid` column: with or without hyphens and braces, or sixteen bytes.
pub(super) fn uuid(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
    let uuid = match value {
        Value::Uuid(uuid) => Some(*uuid),
        Value::Text(text) => parse_uuid(text.trim_ascii().as_bytes()),
        Value::Bytes(bytes) => match <[u8; 16]>::try_from(bytes.as_ref()) {
            Ok(uuid) => Some(uuid),
            Err(_) => parse_uuid(bytes),
        },
        _ => None,
    };
    let uuid = uuid.ok_or_else(|| CellError::mismatch(value, "uuid"))?;
    fixed(out, uuid);
    Ok(())
}

/// Appends a uuid as 8-4-4-4-12 lower-case hex digits.
pub(super) fn write_uuid(uuid: &[u8; 16], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

/// Reads 32 hex digits; as in Postgres a hyphen may follow every fourth, and braces may stand around.
fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut rest = match text {
        [b'{', inner @ .., b'}'] => inner,
        _ => text,
    };
    let mut uuid = [0u8; 16];
    for (index, byte) in uuid.iter_mut().enumerate() {
        if index > 0 && index % 2 == 0 && rest.first() == Some(&b'-') {
            rest = &rest[1..];
        }
        let [high, low, after @ ..] = rest else { return None };
        *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
        rest = after;
    }
    rest.is_empty().then_some(uuid)
}

fn write_unhexed(digits: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    for pair in digits.chunks_exact(2) {
        out.push(hex_digit(pair[0])? << 4 | hex_digit(pair[1])?);
    }
    Some(())
}

/// Returns the value of a hex digit.
pub(super) fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
