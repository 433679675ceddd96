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
    fixed(out, uuid)
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
        *byte = hex_pair(*high, *low)?;
        rest = after;
    }
    rest.is_empty().then_some(uuid)
}

fn write_unhexed(digits: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    for pair in digits.chunks_exact(2) {
        out.push(hex_pair(pair[0], pair[1])?);
    }
    Some(())
}

/// Returns the value of a hex digit.
#[inline]
pub(super) fn hex_digit(digit: u8) -> Option<u8> {
    let value = HEX_VALUES[usize::from(digit)];
    (value < 16).then_some(value)
}

#[inline]
fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let (high, low) = (HEX_VALUES[usize::from(high)], HEX_VALUES[usize::from(low)]);
    (high | low < 16).then_some(high << 4 | low)
}

/// What each byte is worth as a hex digit; 255 for those that are not.
const HEX_VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit] as usize] = digit as u8;
        values[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};
