//! The short way: the usual values of the usual types, written at once.
//!
//! Each function appends the field that [`super::encode`] would, or appends nothing and returns false. Then the value
//! is to go the long way, which also says what is wrong with it. So nothing here decides what a value is, and nothing
//! has to be right but what is written.

use super::{PgType, fixed, time};

/// The largest number of digits that 64 bits hold whatever they are.
const MAX_DIGITS: usize = 18;
/// The largest scale of a decimal that goes the short way, and the most digits before its point.
const MAX_SCALE: u32 = 8;
const MAX_WHOLE_DIGITS: i32 = 8;
/// The largest whole number below which each is exactly a double.
const EXACT_DOUBLES: u64 = 1 << 53;
/// A longer text goes the long way, on which memory for it may be reserved.
pub const MAX_TEXT_BYTES: usize = 4 * 1024;
/// What is copied of a short text at once, where so much follows its beginning.
const AHEAD_BYTES: usize = 32;

/// Appends a text for a column of this type: one without U+0000 that is UTF-8, or a number as it is written.
/// It is what stands in `source` from `start` to `end`.
#[inline(always)]
pub fn write_text(source: &[u8], start: usize, end: usize, to: &PgType, out: &mut Vec<u8>) -> bool {
    match to {
        PgType::Text(limit) if end - start <= max_bytes(*limit) as usize => {
            push_text(source, start, end, out);
            true
        }
        PgType::Text(_) => false,
        _ => write_parsed(&source[start..end], to, out),
    }
}

fn write_parsed(text: &[u8], to: &PgType, out: &mut Vec<u8>) -> bool {
    match to {
        PgType::Timestamp | PgType::TimestampTz => {
            time::usual_timestamp(text).is_some_and(|micros| push(micros.to_be_bytes(), out))
        }
        PgType::Date => time::usual_date(text).is_some_and(|days| push(days.to_be_bytes(), out)),
        PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Float8 | PgType::Numeric(_) => {
            plain(text).is_some_and(|number| write_number(&number, to, out))
        }
        _ => false,
    }
}

#[inline]
fn write_number(number: &Plain, to: &PgType, out: &mut Vec<u8>) -> bool {
    match (to, number.scale) {
        (PgType::Int8, None) => push(number.signed().to_be_bytes(), out),
        (PgType::Int4, None) => i32::try_from(number.signed()).is_ok_and(|int| push(int.to_be_bytes(), out)),
        (PgType::Int2, None) => i16::try_from(number.signed()).is_ok_and(|int| push(int.to_be_bytes(), out)),
        (PgType::Float8, _) => push_float8(number, out),
        (PgType::Numeric(limit), scale) => {
            write_decimal(number.is_negative, number.digits, scale.unwrap_or(0), *limit, out)
        }
        _ => false,
    }
}

/// Appends `digits / 10^scale` for a `numeric` column: eight digits before the point and eight after it, at most.
#[inline]
pub fn write_decimal(is_negative: bool, digits: u64, scale: u32, limit: Option<(u16, i16)>, out: &mut Vec<u8>) -> bool {
    if scale > MAX_SCALE {
        return false;
    }
    let (whole, fraction) = (digits / POWERS[scale as usize], digits % POWERS[scale as usize]);
    let (declared, n_whole) = match limit {
        None => (scale as i16, MAX_WHOLE_DIGITS),
        Some((precision, declared)) => (declared, i32::from(precision) - i32::from(declared)),
    };
    let n_whole = n_whole.min(MAX_WHOLE_DIGITS);
    if scale as i32 > i32::from(declared) || n_whole < 0 || whole >= POWERS[n_whole as usize] {
        return false;
    }
    // Groups of four digits, two before the point and two after it; without those at either end that are 0.
    let fraction = fraction * POWERS[(MAX_SCALE - scale) as usize];
    let groups =
        ((whole / 10_000) << 48) | ((whole % 10_000) << 32) | ((fraction / 10_000) << 16) | (fraction % 10_000);
    let n_leading = groups.leading_zeros() / 16;
    let (n_groups, weight, sign) = match groups {
        0 => (0, 0, 0),
        _ => (4 - n_leading - groups.trailing_zeros() / 16, 1 - n_leading as i16, u64::from(is_negative) << 14),
    };
    let head = (u64::from(n_groups) << 48) | (u64::from(weight as u16) << 32) | (sign << 16) | declared as u64;
    let length = 8 + 2 * n_groups;
    let mut field = [0u8; 20];
    field[..4].copy_from_slice(&length.to_be_bytes());
    field[4..12].copy_from_slice(&head.to_be_bytes());
    field[12..].copy_from_slice(&groups.checked_shl(16 * n_leading).unwrap_or(0).to_be_bytes());
    let end = out.len() + 4 + length as usize;
    out.extend_from_slice(&field);
    out.truncate(end);
    true
}

/// Appends a text that is known to be one.
#[inline(always)]
pub fn push_text(source: &[u8], start: usize, end: usize, out: &mut Vec<u8>) {
    let length = end - start;
    // As what is longer could not be a field, it is no part of a row.
    out.extend_from_slice(&(length as i32).to_be_bytes());
    match source.get(start..start + AHEAD_BYTES) {
        // Copied with what follows, and cut: cheaper than by the length.
        Some(ahead) if length <= AHEAD_BYTES => {
            let end = out.len() + length;
            out.extend_from_slice(ahead);
            out.truncate(end);
        }
        _ => out.extend_from_slice(&source[start..end]),
    }
}

/// Appends a field of so many bytes.
#[inline]
pub fn push<const N: usize>(bytes: [u8; N], out: &mut Vec<u8>) -> bool {
    fixed(out, bytes).is_ok()
}

/// Two numbers that are exactly doubles have the quotient that is nearest to the true one
/// (Clinger, How to read floating point numbers accurately, 1990).
#[inline]
fn push_float8(number: &Plain, out: &mut Vec<u8>) -> bool {
    if number.digits > EXACT_DOUBLES {
        return false;
    }
    let magnitude = number.digits as f64 / POWERS[number.scale.unwrap_or(0) as usize] as f64;
    push(if number.is_negative { -magnitude } else { magnitude }.to_be_bytes(), out)
}

/// A number as nearly all are written: digits, with a point among them or not, and a minus before them or not.
struct Plain {
    is_negative: bool,
    digits: u64,
    /// How many digits are after the point, where there is one.
    scale: Option<u32>,
}

impl Plain {
    #[inline]
    fn signed(&self) -> i64 {
        let magnitude = self.digits as i64;
        if self.is_negative { -magnitude } else { magnitude }
    }
}

#[inline]
fn plain(text: &[u8]) -> Option<Plain> {
    let (is_negative, written) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if written.is_empty() || written.len() > MAX_DIGITS {
        return None;
    }
    let (mut digits, mut point) = (0u64, None);
    for (at, byte) in written.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            digits = digits * 10 + u64::from(digit);
        } else if *byte == b'.' && point.is_none() {
            point = Some(at);
        } else {
            return None;
        }
    }
    let scale = match point {
        None => None,
        Some(at) if at > 0 && at + 1 < written.len() => Some((written.len() - at - 1) as u32),
        Some(_) => return None,
    };
    Some(Plain { is_negative, digits, scale })
}

/// Powers of ten.
const POWERS: [u64; MAX_DIGITS + 1] = {
    let mut powers = [1; MAX_DIGITS + 1];
    let mut exponent = 1;
    while exponent <= MAX_DIGITS {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// Returns how many bytes a text for a column of this limit in characters may have, to go the short way.
#[inline]
pub fn max_bytes(limit: Option<u32>) -> u32 {
    limit.map_or(MAX_TEXT_BYTES as u32, |limit| limit.min(MAX_TEXT_BYTES as u32))
}

/// Returns whether bytes are UTF-8 without U+0000.
#[inline(always)]
pub fn is_text(bytes: &[u8]) -> bool {
    is_plain(bytes) || is_other_text(bytes)
}

#[inline(never)]
fn is_other_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok() && memchr::memchr(0, bytes).is_none()
}

/// Returns whether all bytes are ASCII and none is U+0000.
#[inline(always)]
fn is_plain(bytes: &[u8]) -> bool {
    // For 0 and for what is above 127 one of the two has its highest bit set.
    let Some(last) = bytes.last_chunk() else {
        return bytes.iter().fold(0, |outside, byte| outside | byte.wrapping_sub(1) | byte) & 0x80 == 0;
    };
    // Where nothing is 0, no byte borrows of the next.
    let outside = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        word.wrapping_sub(u64::from_ne_bytes([1; 8])) | word
    };
    let mut any = outside(last);
    for word in bytes.as_chunks().0 {
        any |= outside(word);
    }
    any & u64::from_ne_bytes([0x80; 8]) == 0
}

/// Appends a text of at most twelve bytes, which stand in `view` behind its length, as Arrow has it: zeros follow them.
/// It must be within the column's limit.
#[inline(always)]
pub fn write_view(view: u128, out: &mut Vec<u8>) -> bool {
    const ONES: u128 = u128::from_le_bytes([1; 16]);
    const HIGH: u128 = ONES << 7;
    let length = view as u32;
    let filled = (view >> 32) | (ONES << (8 * length));
    let is_plain = (filled.wrapping_sub(ONES) | filled) & HIGH == 0;
    if !is_plain && !is_other_text(&view.to_le_bytes()[4..4 + length as usize]) {
        return false;
    }
    let end = out.len() + 4 + length as usize;
    out.extend_from_slice(&((view >> 32 << 32) | u128::from(length.to_be())).to_le_bytes());
    out.truncate(end);
    true
}
