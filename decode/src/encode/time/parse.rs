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
    if let Some(moment) = parse_usual(text) {
        return Ok(moment);
    }
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
fn parse_usual(text: &[u8]) -> Option<Moment> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, rest @ ..] = text else { return None };
    let year = i64::from(two(*y1, *y2)?) * 100 + i64::from(two(*y3, *y4)?);
    let (month, day) = (two(*m1, *m2)?, two(*d1, *d2)?);
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    let days = days_from_civil(year, month, day);
    if rest.is_empty() {
        return Some(Moment::At { days, micros: 0, offset_secs: 0 });
    }
    let [b'T' | b' ', h1, h2, b':', i1, i2, b':', s1, s2, rest @ ..] = rest else { return None };
    let (hour, minute, second) = (two(*h1, *h2)?, two(*i1, *i2)?, two(*s1, *s2)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut cursor = Cursor { rest };
    let fraction = cursor.fraction().ok()?;
    let micros = i64::from(hour * 3600 + minute * 60 + second) * SECOND + fraction;
    match cursor.rest {
        b"" | b"Z" => Some(Moment::At { days, micros, offset_secs: 0 }),
        [b'+' | b'-', ..] => {
            let offset_secs = cursor.offset().ok()?;
            Some(Moment::At { days, micros, offset_secs })
        }
        _ => None,
    }
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
