//! `date`, `time`, `timestamp` and `timestamptz`.

mod calendar;
mod parse;

use super::{CellError, Value, fixed, text};
use calendar::civil_from_days;
pub(crate) use calendar::days_from_civil;
use parse::{Moment, Refused, parse_moment, parse_time_of_day, parse_usual};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// 2000-01-01, where Postgres counts from, in days since 1970-01-01.
const POSTGRES_EPOCH_DAYS: i64 = 10_957;
/// The first and the last date of Postgres, 4714-11-24 BC and 5874897-12-31, counted its way.
const DATES: std::ops::RangeInclusive<i64> = -2_451_545..=2_145_031_948;
/// The timestamps of Postgres, 4714-11-24 BC until the end of 294276, counted its way.
const TIMESTAMPS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// Encodes a value for a `date` column; a timestamp gives its date part, as written.
pub(super) fn date(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
    let days = match value {
        Value::Date(days) => i64::from(*days),
        Value::Timestamp { micros, .. } => micros.div_euclid(DAY),
        Value::Text(text) => match parse_moment(text.as_bytes()) {
            Ok(Moment::At { days, .. }) => days,
            Ok(Moment::Infinity) => return fixed(out, i32::MAX.to_be_bytes()),
            Ok(Moment::MinusInfinity) => return fixed(out, i32::MIN.to_be_bytes()),
            Err(refused) => return Err(refused.into_error(value, "date")),
        },
        _ => return Err(CellError::mismatch(value, "date")),
    };
    let days = days - POSTGRES_EPOCH_DAYS;
    if !DATES.contains(&days) {
        return Err(CellError::out_of_range(value, "date"));
    }
    fixed(out, (days as i32).to_be_bytes())
}

/// Encodes a value for a `time` column, 24:00:00 included.
pub(super) fn time(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
    let micros = match value {
        Value::Time(micros) => *micros,
        Value::Text(text) => parse_time_of_day(text.as_bytes()).map_err(|refused| refused.into_error(value, "time"))?,
        _ => return Err(CellError::mismatch(value, "time")),
    };
    if !(0..=DAY).contains(&micros) {
        return Err(CellError::out_of_range(value, "time"));
    }
    fixed(out, micros.to_be_bytes())
}

/// Encodes a value for a `timestamp` or `timestamptz` column: both count microseconds of UTC here.
///
/// Text with an offset is brought to UTC, text without one is UTC.
pub(super) fn timestamp(value: &Value<'_>, to: &str, out: &mut Vec<u8>) -> Result<(), CellError> {
    // Counted from 2000 at once: the last years of Postgres do not fit counted from 1970.
    let micros = match value {
        Value::Timestamp { micros, .. } => micros.checked_sub(POSTGRES_EPOCH_DAYS * DAY),
        Value::Date(days) => (i64::from(*days) - POSTGRES_EPOCH_DAYS).checked_mul(DAY),
        Value::Text(text) => match parse_moment(text.as_bytes()) {
            Ok(Moment::At { days, micros, offset_secs }) => since_2000(days, micros, offset_secs),
            Ok(Moment::Infinity) => return fixed(out, i64::MAX.to_be_bytes()),
            Ok(Moment::MinusInfinity) => return fixed(out, i64::MIN.to_be_bytes()),
            Err(refused) => return Err(refused.into_error(value, to)),
        },
        _ => return Err(CellError::mismatch(value, to)),
    };
    match micros {
        Some(micros) if TIMESTAMPS.contains(&micros) => fixed(out, micros.to_be_bytes()),
        _ => Err(CellError::out_of_range(value, to)),
    }
}

/// Returns the microseconds since 2000 of a local date and time.
#[inline]
fn since_2000(days: i64, micros: i64, offset_secs: i32) -> Option<i64> {
    let start = (days - POSTGRES_EPOCH_DAYS).checked_mul(DAY)?;
    start.checked_add(micros)?.checked_sub(i64::from(offset_secs) * SECOND)
}

/// Returns a timestamp as Postgres counts it, written in the usual way.
#[inline]
pub(super) fn usual_timestamp(text: &[u8]) -> Option<i64> {
    let Some(Moment::At { days, micros, offset_secs }) = parse_usual(text) else { return None };
    since_2000(days, micros, offset_secs).filter(|micros| TIMESTAMPS.contains(micros))
}

/// Returns a timestamp as Postgres counts it, of microseconds since 1970.
#[inline]
pub(crate) fn timestamp_of_micros(micros: i64) -> Option<i64> {
    micros.checked_sub(POSTGRES_EPOCH_DAYS * DAY).filter(|micros| TIMESTAMPS.contains(micros))
}

/// Returns a date as Postgres counts it, written in the usual way or that of such a timestamp.
#[inline]
pub(super) fn usual_date(text: &[u8]) -> Option<i32> {
    let Some(Moment::At { days, .. }) = parse_usual(text) else { return None };
    i32::try_from(days).ok().and_then(date_of_days)
}

/// Returns a date as Postgres counts it, of days since 1970.
#[inline]
pub(crate) fn date_of_days(days: i32) -> Option<i32> {
    let days = i64::from(days) - POSTGRES_EPOCH_DAYS;
    DATES.contains(&days).then_some(days as i32)
}

impl Refused {
    #[cold]
    fn into_error(self, value: &Value<'_>, to: &str) -> CellError {
        match self {
            Refused::Syntax => CellError::mismatch(value, to),
            Refused::Range => CellError::out_of_range(value, to),
        }
    }
}

/// Appends `YYYY-MM-DD`, with more digits or ` BC` where the year needs them.
pub(super) fn write_date(days: i64, out: &mut Vec<u8>) {
    let before_christ = write_year_to_day(days, out);
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// Appends `HH:MM:SS`, with the fraction where there is one and the sign where it is negative.
pub(super) fn write_time(micros: i64, out: &mut Vec<u8>) {
    if micros < 0 {
        out.push(b'-');
    }
    let micros = micros.unsigned_abs();
    let (seconds, fraction) = ((micros / SECOND as u64) as i64, (micros % SECOND as u64) as i64);
    push_padded(seconds / 3600, 2, out);
    out.push(b':');
    push_padded(seconds / 60 % 60, 2, out);
    out.push(b':');
    push_padded(seconds % 60, 2, out);
    if fraction > 0 {
        out.push(b'.');
        push_padded(fraction, 6, out);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// Appends `YYYY-MM-DDTHH:MM:SS`, the fraction where there is one, and `Z` for an instant.
pub(super) fn write_timestamp(micros: i64, utc: bool, out: &mut Vec<u8>) {
    let before_christ = write_year_to_day(micros.div_euclid(DAY), out);
    out.push(b'T');
    write_time(micros.rem_euclid(DAY), out);
    if utc {
        out.push(b'Z');
    }
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// Appends the date and returns whether it is one before Christ.
fn write_year_to_day(days: i64, out: &mut Vec<u8>) -> bool {
    let (year, month, day) = civil_from_days(days);
    let before_christ = year <= 0;
    push_padded(if before_christ { 1 - year } else { year }, 4, out);
    out.push(b'-');
    push_padded(i64::from(month), 2, out);
    out.push(b'-');
    push_padded(i64::from(day), 2, out);
    before_christ
}

fn push_padded(number: i64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = text::Buffer::new();
    buffer.push_u64(number.unsigned_abs());
    let digits = buffer.bytes();
    (digits.len()..width).for_each(|_| out.push(b'0'));
    out.extend_from_slice(digits);
}
