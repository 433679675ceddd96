//! Reading ISO 8601 dates and times, in the variants programs write.
//!
//! What depends on a locale (`01/02/2024`), a clock (`now`) or a zone's name is refused:
//! only forms with one meaning are read.

use super::SECOND;
use super::calendar::{days_from_civil, days_in_month};

/// Why a text is not a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is something else.
    Syntax,
    /// It is one, but no calendar has it (February 30) or Postgres does not.
    Range,
}

/// A date, with a time and an offset where written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Infinity,
    MinusInfinity,
    At {
        /// Days since 1970-01-01, as written.
        days: i64,
        /// Microseconds after that midnight; 24:00 and leap seconds go beyond the day.
        micros: i64,
        /// Seconds east of UTC; 0 where none is written.
        offset_secs: i32,
    },
}

/// Reads a date or a timestamp.
pub(super) fn parse_moment(text: &[u8]) -> Result<Moment, Refused> {
    parse_usual(text).map_or_else(|| parse_any(text), Ok)
}

fn parse_any(text: &[u8]) -> Result<Moment, Refused> {
    let text = text.trim_ascii();
    if let Some(infinity) = parse_infinity(text) {
        return Ok(infinity);
    }
    let (text, before_christ) = match text {
        [rest @ .., b' ', b'B' | b'b', b'C' | b'c'] => (rest, true),
        [rest @ .., b' ', b'A' | b'a', b'D' | b'd'] => (rest, false),
        _ => (text, false),
    };
    let mut cursor = Cursor { rest: text };
    let days = cursor.date(before_christ)?;
    let micros = match cursor.rest.first() {
        Some(b'T' | b't') => {
            cursor.rest = &cursor.rest[1..];
            cursor.time()?
        }
        Some(b' ') => {
            cursor.rest = cursor.rest.trim_ascii_start();
            if cursor.rest.first().is_some_and(u8::is_ascii_digit) { cursor.time()? } else { 0 }
        }
        _ => 0,
    };
    let offset_secs = cursor.offset()?;
    Ok(Moment::At { days, micros, offset_secs })
}

/// Reads a time of day, in microseconds.
pub(super) fn parse_time_of_day(text: &[u8]) -> Result<i64, Refused> {
    let text = text.trim_ascii();
    let mut cursor = Cursor { rest: text.strip_prefix(b"T").unwrap_or(text) };
    let micros = cursor.time()?;
    if cursor.rest.is_empty() { Ok(micros) } else { Err(Refused::Syntax) }
}

/// Reads `YYYY-MM-DD` and `YYYY-MM-DD[T ]HH:MM:SS…`, which nearly every cell is; None sends the rest the long way.
#[inline]
pub(super) fn parse_usual(text: &[u8]) -> Option<Moment> {
    let (year_month, rest) = text.split_first_chunk()?;
    let [tens, ones, rest @ ..] = rest else { return None };
    let pairs = pairs_of(year_month, *b"0000-00-")?;
    let year = i64::from(pairs[0]) * 100 + i64::from(pairs[2]);
    let (month, day) = (u32::from(pairs[5]), two(*tens, *ones)?);
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    let days = days_from_civil(year, month, day);
    let Some((separator, rest)) = rest.split_first() else {
        return Some(Moment::At { days, micros: 0, offset_secs: 0 });
    };
    let (clock, rest) = rest.split_first_chunk()?;
    let [hour, _, _, minute, _, _, second, _] = pairs_of(clock, *b"00:00:00")?;
    if !matches!(separator, b'T' | b' ') || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
    let fraction = rest.try_into().ok().and_then(|rest| pairs_of(rest, *b".000000Z"));
    if let Some([_, first, _, second, _, third, ..]) = fraction {
        let fraction = (i64::from(first) * 100 + i64::from(second)) * 100 + i64::from(third);
        return Some(Moment::At { days, micros: seconds * SECOND + fraction, offset_secs: 0 });
    }
    let mut cursor = Cursor { rest };
    let micros = seconds * SECOND + cursor.fraction().ok()?;
    match cursor.rest {
        b"" | b"Z" => Some(Moment::At { days, micros, offset_secs: 0 }),
        [b'+' | b'-', ..] => {
            let offset_secs = cursor.offset().ok()?;
            Some(Moment::At { days, micros, offset_secs })
        }
        _ => None,
    }
}

/// Returns, for each place of a text that has digits where its form has zeros and else is like it, the number that the
/// digit there and the next one make.
#[inline]
fn pairs_of(text: &[u8; 8], form: [u8; 8]) -> Option<[u8; 8]> {
    // What sets the highest bit of a byte that is too large, without a carry into the next.
    let headroom = u64::from_le_bytes(form.map(|byte| if byte == b'0' { 0x7F - 9 } else { 0x7F }));
    let digits = u64::from_le_bytes(*text) ^ u64::from_le_bytes(form);
    let low = digits & u64::from_le_bytes([0x7F; 8]);
    if (digits | (low + headroom)) & u64::from_le_bytes([0x80; 8]) != 0 {
        return None;
    }
    Some((digits * 10 + (digits >> 8)).to_le_bytes())
}

#[inline]
fn two(tens: u8, ones: u8) -> Option<u32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| u32::from(tens) * 10 + u32::from(ones))
}

fn parse_infinity(text: &[u8]) -> Option<Moment> {
    let (minus, word) = match text {
        [b'-', word @ ..] => (true, word),
        [b'+', word @ ..] => (false, word),
        _ => (false, text),
    };
    let moment = if minus { Moment::MinusInfinity } else { Moment::Infinity };
    word.eq_ignore_ascii_case(b"infinity").then_some(moment)
}

/// What is left to read of a text.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    /// Takes a run of digits and returns its length and value, which is capped far beyond any field.
    fn digits(&mut self) -> (usize, i64) {
        let len = self.rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(len);
        self.rest = rest;
        let value = digits.iter().fold(0i64, |sum, digit| (sum * 10 + i64::from(digit - b'0')).min(1 << 40));
        (len, value)
    }

    fn take(&mut self, wanted: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == wanted => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Reads `YYYY-MM-DD`, `YYYY/MM/DD`, `YYYYMMDD`, with more digits or a sign on the year.
    fn date(&mut self, before_christ: bool) -> Result<i64, Refused> {
        let signed = self.rest.first().is_some_and(|b| matches!(b, b'-' | b'+'));
        let negative = self.take(b'-');
        if !negative {
            self.take(b'+');
        }
        let (len, number) = self.digits();
        let (year, month, day) = match (len, self.rest.first()) {
            (8, None | Some(b'T' | b't' | b' ' | b'Z' | b'z')) if !signed => {
                (number / 10_000, number / 100 % 100, number % 100)
            }
            (4.., Some(separator @ (b'-' | b'/'))) => {
                let separator = *separator;
                self.take(separator);
                let (month_len, month) = self.digits();
                if !(1..=2).contains(&month_len) || !self.take(separator) {
                    return Err(Refused::Syntax);
                }
                let (day_len, day) = self.digits();
                if !(1..=2).contains(&day_len) {
                    return Err(Refused::Syntax);
                }
                (number, month, day)
            }
            _ => return Err(Refused::Syntax),
        };
        let year = match (negative, before_christ) {
            (true, true) => return Err(Refused::Syntax),
            (true, false) => -year,
            // Written without a sign, years are as people count them: there is no year 0.
            (false, _) if year == 0 && !signed => return Err(Refused::Range),
            (false, true) => 1 - year,
            (false, false) => year,
        };
        // Beyond Postgres's own range by far, and safe to calculate with.
        if year.abs() > 10_000_000 || !(1..=12).contains(&month) {
            return Err(Refused::Range);
        }
        let (month, day) = (month as u32, day as u32);
        if day == 0 || day > days_in_month(year, month) {
            return Err(Refused::Range);
        }
        Ok(days_from_civil(year, month, day))
    }

    /// Reads `HH:MM[:SS[.fraction]]`, `HHMM` and `HHMMSS[.fraction]`; a second of 60 and 24:00 are counted on.
    fn time(&mut self) -> Result<i64, Refused> {
        let (len, number) = self.digits();
        let (hour, minute, second, fraction) = match (len, self.rest.first()) {
            (1..=2, Some(b':')) => {
                self.take(b':');
                let (2, minute) = self.digits() else { return Err(Refused::Syntax) };
                if self.take(b':') {
                    let (2, second) = self.digits() else { return Err(Refused::Syntax) };
                    (number, minute, second, self.fraction()?)
                } else {
                    (number, minute, 0, 0)
                }
            }
            (4, _) => (number / 100, number % 100, 0, 0),
            (6, _) => (number / 10_000, number / 100 % 100, number % 100, self.fraction()?),
            _ => return Err(Refused::Syntax),
        };
        if hour > 24 || minute > 59 || second > 60 || (hour == 24 && (minute, second, fraction) != (0, 0, 0)) {
            return Err(Refused::Range);
        }
        Ok((hour * 3600 + minute * 60 + second) * SECOND + fraction)
    }

    /// Reads `.digits` (or `,digits`) as microseconds, rounded; 0 where there is none.
    #[inline]
    fn fraction(&mut self) -> Result<i64, Refused> {
        let [b'.' | b',', rest @ ..] = self.rest else { return Ok(0) };
        let len = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, rest) = rest.split_at(len);
        if digits.is_empty() {
            return Err(Refused::Syntax);
        }
        self.rest = rest;
        let mut micros = 0;
        for index in 0..6 {
            micros = micros * 10 + digits.get(index).map_or(0, |digit| i64::from(digit - b'0'));
        }
        Ok(micros + i64::from(digits.get(6).is_some_and(|digit| *digit >= b'5')))
    }

    /// Reads the offset that ends a text: nothing, `Z`, `UTC`, `GMT`, `±HH`, `±HHMM`, `±HH:MM`, `±HH:MM:SS`.
    fn offset(&mut self) -> Result<i32, Refused> {
        self.rest = self.rest.trim_ascii_start();
        if self.rest.is_empty() || [&b"Z"[..], b"UTC", b"GMT"].iter().any(|w| self.rest.eq_ignore_ascii_case(w)) {
            return Ok(0);
        }
        let negative = self.take(b'-');
        if !negative && !self.take(b'+') {
            return Err(Refused::Syntax);
        }
        let (len, number) = self.digits();
        let (hours, minutes, seconds) = match len {
            1..=2 if self.take(b':') => {
                let (2, minutes) = self.digits() else { return Err(Refused::Syntax) };
                if self.take(b':') {
                    let (2, seconds) = self.digits() else { return Err(Refused::Syntax) };
                    (number, minutes, seconds)
                } else {
                    (number, minutes, 0)
                }
            }
            1..=2 => (number, 0, 0),
            4 => (number / 100, number % 100, 0),
            _ => return Err(Refused::Syntax),
        };
        if !self.rest.is_empty() {
            return Err(Refused::Syntax);
        }
        if hours > 15 || minutes > 59 || seconds > 59 {
            return Err(Refused::Range);
        }
        let offset = (hours * 3600 + minutes * 60 + seconds) as i32;
        Ok(if negative { -offset } else { offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_usual_is_what_any_reader_reads(
            text in r"[0-9]{2}[0-9:/é-][0-9]-(0[0-9]|1[0-3:;])-[0-3][0-9:]([T ][0-2][0-9:]:[0-6][0-9]:[0-6][0-9](\.[0-9]{0,8})?(Z|[+-]0[0-9](:?30)?|x)?)?"
        ) {
            if let Some(usual) = parse_usual(text.as_bytes()) {
                prop_assert_eq!(Ok(usual), parse_any(text.as_bytes()), "{}", text);
            }
        }

        #[test]
        fn every_usual_moment_is_read_shortly(
            (year, month, day) in (1..=9999u16, 1..=12u8, 1..=28u8), (hour, minute, second) in (0..24u8, 0..60u8, 0..60u8), micros in 0..1_000_000u32
        ) {
            let date = format!("{year:04}-{month:02}-{day:02}");
            for text in [format!("{date}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"), format!("{date} {hour:02}:{minute:02}:{second:02}"), date] {
                let usual = parse_usual(text.as_bytes());
                prop_assert!(usual.is_some(), "{}", text);
                prop_assert_eq!(usual, parse_any(text.as_bytes()).ok(), "{}", text);
            }
        }
    }
}
