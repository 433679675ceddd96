//! Decimals, digit by digit: from text to `numeric` and to exact integers.
//!
//! No value passes through a float here, and the work is bounded by the digits that are
//! written: an exponent only moves the point.

use super::{CellError, Value, sized, text};

/// Digits before the point that `numeric` can hold.
const MAX_INTEGRAL_DIGITS: i64 = 131_072;
/// Digits after the point that `numeric` can hold.
const MAX_SCALE: i64 = 16_383;
/// Exponents are cut here: far beyond what any type holds, and safe to add lengths to.
const EXPONENT_CAP: i64 = 1 << 40;

/// A decimal number as its significant digits and where the point stands among them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digits<'a> {
    negative: bool,
    /// Significant digits, ASCII; `head` then `tail`, without leading or trailing zeros. Both empty for zero.
    head: &'a [u8],
    tail: &'a [u8],
    /// How many significant digits stand before the point; may be negative or beyond their number.
    point: i64,
    /// Digits after the point as written (less the exponent); negative counts as zero.
    scale: i64,
}

/// What an exact integer conversion can say besides the integer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotInteger {
    /// There is something after the point.
    Fraction,
    /// It does not fit an i64.
    Range,
}

/// Encodes a value for a `numeric` column.
pub(super) fn numeric(value: &Value<'_>, limit: Option<(u16, i16)>, out: &mut Vec<u8>) -> Result<(), CellError> {
    let mut buffer = text::Buffer::new();
    let digits = digits_of(value, "numeric", &mut buffer)?;
    let rounded;
    let digits = match limit {
        Some((_, scale)) if digits.len() as i64 - digits.point > i64::from(scale) => {
            rounded = digits.rounded(i64::from(scale));
            Digits::scaled(digits.negative, &rounded, i64::from(scale))
        }
        _ => digits,
    };
    let scale = match limit {
        Some((precision, scale)) => {
            if !digits.is_zero() && digits.point > i64::from(precision) - i64::from(scale) {
                let to = format!("numeric({precision},{scale})");
                return Err(CellError::out_of_range(value, &to));
            }
            i64::from(scale).max(0)
        }
        None => digits.scale.max(0),
    };
    if digits.point > MAX_INTEGRAL_DIGITS || scale > MAX_SCALE {
        return Err(CellError::out_of_range(value, "numeric"));
    }
    sized(out, |out| {
        digits.write(scale as u16, out);
        Ok(())
    })
}

/// Returns the digits of a number, which may be written into the buffer.
fn digits_of<'a>(value: &'a Value<'_>, to: &str, buffer: &'a mut text::Buffer) -> Result<Digits<'a>, CellError> {
    let digits = match value {
        Value::Int(_) | Value::UInt(_) => {
            text::push_scalar(value, buffer);
            Digits::parse(buffer.bytes())
        }
        Value::Decimal(unscaled, scale) => {
            buffer.push_u128(unscaled.unsigned_abs());
            Some(Digits::scaled(*unscaled < 0, buffer.bytes(), i64::from(*scale)))
        }
        Value::Float32(float) if float.is_finite() => {
            buffer.push_fmt(format_args!("{float:e}"));
            Digits::parse(buffer.bytes())
        }
        Value::Float64(float) if float.is_finite() => {
            buffer.push_fmt(format_args!("{float:e}"));
            Digits::parse(buffer.bytes())
        }
        Value::Float32(_) | Value::Float64(_) => return Err(CellError::out_of_range(value, to)),
        Value::Text(written) | Value::Number(written) => match Digits::parse(written.as_bytes()) {
            None if is_not_finite(written) => return Err(CellError::out_of_range(value, to)),
            parsed => parsed,
        },
        _ => None,
    };
    digits.ok_or_else(|| CellError::mismatch(value, to))
}

/// Returns a number times ten to the `shift`, rounded down.
///
/// # Errors
/// Class `type` for what is no number, `range` for one that 64 bits do not hold.
pub(crate) fn floor_shifted(value: &Value<'_>, shift: i64, to: &str) -> Result<i64, CellError> {
    let mut buffer = text::Buffer::new();
    let digits = digits_of(value, to, &mut buffer)?;
    digits.floor_shifted(shift).ok_or_else(|| CellError::out_of_range(value, to))
}

/// Returns whether `numeric` can hold a number as it is written in JSON.
pub(super) fn fits_numeric(number: &[u8]) -> bool {
    // Short and without an exponent: the common case needs no second look.
    if number.len() <= MAX_SCALE as usize && !number.iter().any(|b| matches!(b, b'e' | b'E')) {
        return true;
    }
    Digits::parse(number).is_some_and(|d| d.point <= MAX_INTEGRAL_DIGITS && d.scale <= MAX_SCALE)
}

/// Returns whether a text is one of the float words Postgres knows: NaN and the infinities.
pub(super) fn is_not_finite(text: &str) -> bool {
    let word = text.trim_ascii();
    let word = word.strip_prefix(['+', '-']).unwrap_or(word);
    ["nan", "inf", "infinity"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

impl<'a> Digits<'a> {
    /// Takes a decimal apart: sign, digits, point, digits, exponent, with blanks around it; None when it is not one.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let text = text.trim_ascii();
        let (negative, rest) = match text.first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (head, rest) = split_digits(rest);
        let (tail, rest) = match rest.first() {
            Some(b'.') => split_digits(&rest[1..]),
            _ => (&rest[..0], rest),
        };
        if head.is_empty() && tail.is_empty() {
            return None;
        }
        let exponent = match rest.first() {
            None => 0,
            Some(b'e' | b'E') => parse_exponent(&rest[1..])?,
            Some(_) => return None,
        };
        Some(Self::normalised(negative, head, tail, exponent))
    }

    fn floor_shifted(&self, shift: i64) -> Option<i64> {
        let n_whole = self.point + shift;
        if self.is_zero() {
            return Some(0);
        }
        if n_whole > 19 {
            return None;
        }
        let n_whole = usize::try_from(n_whole).unwrap_or(0);
        let whole = (0..n_whole).fold(0, |whole: i128, place| whole * 10 + i128::from(self.digit(place)));
        let is_cut = n_whole < self.len();
        i64::try_from(if self.negative { -whole - i128::from(is_cut) } else { whole }).ok()
    }

    /// Returns `digits / 10^scale`.
    fn scaled(negative: bool, digits: &'a [u8], scale: i64) -> Self {
        Self { scale, ..Self::normalised(negative, digits, b"", -scale) }
    }

    fn normalised(negative: bool, mut head: &'a [u8], mut tail: &'a [u8], exponent: i64) -> Self {
        let scale = tail.len() as i64 - exponent;
        let mut point = head.len() as i64 + exponent;
        while let [b'0', rest @ ..] = head {
            head = rest;
            point -= 1;
        }
        if head.is_empty() {
            while let [b'0', rest @ ..] = tail {
                tail = rest;
                point -= 1;
            }
        }
        while let [rest @ .., b'0'] = tail {
            tail = rest;
        }
        if tail.is_empty() {
            while let [rest @ .., b'0'] = head {
                head = rest;
            }
        }
        if head.is_empty() && tail.is_empty() {
            point = 0;
        }
        Self { negative, head, tail, point, scale }
    }

    fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    pub(super) fn is_zero(&self) -> bool {
        self.len() == 0
    }

    fn digit(&self, index: usize) -> u8 {
        let ascii = match self.head.get(index) {
            Some(digit) => *digit,
            None => self.tail.get(index - self.head.len()).copied().unwrap_or(b'0'),
        };
        ascii - b'0'
    }

    /// Returns the number as an integer when it is exactly one.
    pub(super) fn to_i64(self) -> Result<i64, NotInteger> {
        if (self.len() as i64) > self.point {
            return Err(if self.is_zero() { return Ok(0) } else { NotInteger::Fraction });
        }
        if self.point > 19 {
            return Err(NotInteger::Range);
        }
        let mut magnitude: i128 = 0;
        for index in 0..self.point as usize {
            let digit = if index < self.len() { self.digit(index) } else { 0 };
            magnitude = magnitude * 10 + i128::from(digit);
        }
        let signed = if self.negative { -magnitude } else { magnitude };
        i64::try_from(signed).map_err(|_| NotInteger::Range)
    }

    /// Returns the digits of the number times `10^scale`, rounded half away from zero as Postgres does.
    fn rounded(&self, scale: i64) -> Vec<u8> {
        let keep = self.point.saturating_add(scale);
        if keep < 0 {
            return Vec::new();
        }
        let keep = keep as usize; // Less than len(): the caller checked that there is something to cut.
        let mut digits: Vec<u8> = (0..keep).map(|index| self.digit(index) + b'0').collect();
        if self.digit(keep) >= 5 {
            match digits.iter().rposition(|d| *d != b'9') {
                Some(last) => {
                    digits[last] += 1;
                    digits[last + 1..].fill(b'0');
                }
                None => {
                    digits.fill(b'0');
                    digits.insert(0, b'1');
                }
            }
        }
        digits
    }

    /// Writes the binary form of `numeric`: groups of four digits, aligned on the point.
    fn write(&self, scale: u16, out: &mut Vec<u8>) {
        let n_digits = self.len();
        if n_digits == 0 {
            out.extend_from_slice(&[0; 6]);
            out.extend_from_slice(&scale.to_be_bytes());
            return;
        }
        let weight = (self.point - 1).div_euclid(4);
        let first = (self.point - 4 * weight) as usize; // 1 to 4 digits in the first group
        let n_groups = 1 + n_digits.saturating_sub(first).div_ceil(4);
        out.extend_from_slice(&(n_groups as u16).to_be_bytes());
        out.extend_from_slice(&(weight as i16).to_be_bytes());
        out.extend_from_slice(&(if self.negative { 0x4000u16 } else { 0 }).to_be_bytes());
        out.extend_from_slice(&scale.to_be_bytes());
        let mut start = 0;
        let mut end = first;
        for _ in 0..n_groups {
            let group = (start..end)
                .fold(0u16, |sum, index| sum * 10 + if index < n_digits { u16::from(self.digit(index)) } else { 0 });
            out.extend_from_slice(&group.to_be_bytes());
            start = end;
            end += 4;
        }
    }
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut exponent: i64 = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        exponent = (exponent * 10 + i64::from(byte - b'0')).min(EXPONENT_CAP);
    }
    Some(if negative { -exponent } else { exponent })
}
