//! How a column's values are written where its type alone does not say: counts of an epoch, dates of other countries.

use crate::encode::{CellError, RejectClass, Value, floor_shifted};
use chrono::{
    DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, Timelike as _,
    format::{self, Fixed, Item, ParseErrorKind, Parsed, StrftimeItems},
};
use std::{borrow::Cow, str::FromStr};

/// What counts of time since 1970 are called, and how many digits more microseconds have.
const EPOCHS: [(&str, i64); 4] = [("epoch_s", 6), ("epoch_ms", 3), ("epoch_us", 0), ("epoch_ns", -3)];
/// As much of a text as a message quotes.
const MAX_QUOTED_CHARS: usize = 48;

/// `[dataset.types]`: how the values of a column are written.
#[derive(Debug, Clone, PartialEq)]
pub struct Notation {
    written: String,
    way: Way,
}

#[derive(Debug, Clone, PartialEq)]
enum Way {
    /// Units since 1970-01-01T00:00:00Z; ten to this many are a microsecond.
    Epoch(i64),
    /// A text with these parts.
    Parts(Vec<Item<'static>>),
}

impl FromStr for Notation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let epoch = EPOCHS.iter().find(|(name, _)| *name == text).map(|(_, digits)| Way::Epoch(*digits));
        let way = match epoch {
            Some(way) => way,
            None if text.contains('%') => Way::Parts(parts(text)?),
            None => {
                let names = EPOCHS.map(|(name, _)| name).join(", ");
                return Err(format!("{text:?} is neither a format like %d.%m.%Y nor one of {names}"));
            }
        };
        Ok(Self { written: text.to_owned(), way })
    }
}

impl Notation {
    /// Returns how it is configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Reads a value; None where it is a date or time already, or nothing that could be read so.
    ///
    /// # Errors
    /// Class `type` or `range` for what is not written so.
    pub fn read(&self, value: &Value<'_>) -> Result<Option<Value<'static>>, CellError> {
        match &self.way {
            Way::Epoch(digits) => match value {
                Value::Text(_)
                | Value::Number(_)
                | Value::Int(_)
                | Value::UInt(_)
                | Value::Decimal(..)
                | Value::Float32(_)
                | Value::Float64(_) => {
                    let micros = floor_shifted(value, *digits, &self.written)?;
                    Ok(Some(Value::Timestamp { micros, utc: true }))
                }
                _ => Ok(None),
            },
            Way::Parts(parts) => {
                let text: Cow<'_, str> = match value {
                    Value::Text(text) | Value::Number(text) => Cow::Borrowed(&**text),
                    Value::Int(int) => int.to_string().into(),
                    _ => return Ok(None),
                };
                read_text(text.trim_ascii(), parts).map(Some).map_err(|kind| self.refuse(&text, kind))
            }
        }
    }

    #[cold]
    fn refuse(&self, text: &str, kind: ParseErrorKind) -> CellError {
        let class = match kind {
            ParseErrorKind::OutOfRange | ParseErrorKind::Impossible => RejectClass::Range,
            _ => RejectClass::Type,
        };
        let excerpt: String = text.chars().take(MAX_QUOTED_CHARS).collect();
        CellError::new(class, format!("{excerpt:?} is no {:?}", self.written))
    }
}

/// Returns the parts of a format that says a whole date, time or moment.
fn parts(text: &str) -> Result<Vec<Item<'static>>, String> {
    let parts = StrftimeItems::new(text).parse_to_owned().map_err(|_| format!("{text:?} is no format"))?;
    if parts.contains(&Item::Fixed(Fixed::TimezoneName)) {
        return Err(format!("{text:?} has the name of a zone, which does not say an offset"));
    }
    // What it writes it must be able to read.
    let sample = DateTime::parse_from_rfc3339("2026-11-29T13:14:15.016+02:00").expect("a moment");
    let written = sample.format_with_items(parts.iter()).to_string();
    read_text(&written, &parts).map_err(|_| format!("{text:?} does not say a whole date or time of day"))?;
    Ok(parts)
}

fn read_text(text: &str, parts: &[Item<'_>]) -> Result<Value<'static>, ParseErrorKind> {
    let mut parsed = Parsed::new();
    format::parse(&mut parsed, text, parts.iter()).map_err(|error| error.kind())?;
    if let Ok(moment) = parsed.to_datetime() {
        return Ok(Value::Timestamp { micros: micros(moment.naive_utc()), utc: true });
    }
    let has_hour = parsed.hour_div_12().is_some() || parsed.hour_mod_12().is_some();
    let day = [parsed.month().is_some(), parsed.day().is_some(), parsed.ordinal().is_some()];
    let year = [parsed.year().is_some(), parsed.year_mod_100().is_some(), parsed.isoyear().is_some()];
    let has_day = day.into_iter().chain(year).any(|is_there| is_there);
    let date = has_day.then(|| parsed.to_naive_date()).transpose().map_err(|error| error.kind())?;
    let time = has_hour.then(|| parsed.to_naive_time()).transpose().map_err(|error| error.kind())?;
    match (date, time) {
        (Some(date), Some(time)) => Ok(Value::Timestamp { micros: micros(date.and_time(time)), utc: false }),
        (Some(date), None) => {
            let epoch = NaiveDate::default().num_days_from_ce();
            Ok(Value::Date(date.num_days_from_ce() - epoch))
        }
        (None, Some(time)) => Ok(Value::Time(micros_of_day(time))),
        (None, None) => Err(ParseErrorKind::NotEnough),
    }
}

/// A leap second is the first of the next minute, as Postgres has it.
fn micros(moment: NaiveDateTime) -> i64 {
    moment.and_utc().timestamp() * 1_000_000 + i64::from(moment.nanosecond() / 1000)
}

fn micros_of_day(time: NaiveTime) -> i64 {
    i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(time.nanosecond() / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::write_text;

    #[track_caller]
    fn check(way: &str, value: Value<'_>, expected: &str) {
        let read = way.parse::<Notation>().expect(way).read(&value);
        let shown = match read {
            Ok(value) => {
                let mut text = Vec::new();
                value.iter().for_each(|value| write_text(value, &mut text));
                String::from_utf8(text).expect("text")
            }
            Err(CellError { class, message }) => format!("{class}: {message}"),
        };
        assert_eq!(shown, expected, "{way}");
    }

    #[test]
    fn counts_of_an_epoch_are_exact() {
        let number = |text: &'static str| Value::Number(text.into());
        check("epoch_ms", Value::Int(1_767_225_600_123), "2026-01-01T00:00:00.123Z");
        check("epoch_s", number("1767225600.123456"), "2026-01-01T00:00:00.123456Z");
        check("epoch_s", number("1.7672256e9"), "2026-01-01T00:00:00Z");
        check("epoch_s", Value::Float64(-0.5), "1969-12-31T23:59:59.5Z");
        check("epoch_us", Value::Text(" 1 ".into()), "1970-01-01T00:00:00.000001Z");
        check("epoch_ns", Value::Int(-1), "1969-12-31T23:59:59.999999Z");
        check("epoch_ns", Value::Int(1_999), "1970-01-01T00:00:00.000001Z");
        check("epoch_s", Value::Decimal(15, 1), "1970-01-01T00:00:01.5Z");
        check("epoch_s", number("99999999999999"), "range: 99999999999999 is out of range for epoch_s");
        check("epoch_s", Value::Text("soon".into()), "type: \"soon\" is not a valid epoch_s");
        check("epoch_s", Value::Date(0), "");
    }

    #[test]
    fn texts_are_read_by_their_format() {
        let text = |text: &'static str| Value::Text(text.into());
        check("%d.%m.%Y", text("02.01.2026"), "2026-01-02");
        check("%Y%m%d", Value::Int(20_260_102), "2026-01-02");
        check("%d/%b/%Y:%H:%M:%S %z", text("06/Feb/2019:00:00:38 +0200"), "2019-02-05T22:00:38Z");
        check("%m/%d/%Y %I:%M %p", text("1/2/2026 03:04 PM"), "2026-01-02T15:04:00");
        check("%d.%m.%Y %H:%M:%S%.f", text("02.01.2026 03:04:60.25"), "2026-01-02T03:05:00.25");
        check("%H:%M", text("23:05"), "23:05:00");
        check("%s", text("1767225600"), "2026-01-01T00:00:00Z");
        check("%d.%m.%Y", text("31.02.2026"), "range: \"31.02.2026\" is no \"%d.%m.%Y\"");
        check("%d.%m.%Y", text("2026-01-02"), "type: \"2026-01-02\" is no \"%d.%m.%Y\"");
        check("%d.%m.%Y", text("02.01.2026 x"), "type: \"02.01.2026 x\" is no \"%d.%m.%Y\"");
        check("%d.%m.%Y", Value::Null, "");
    }

    #[test]
    fn what_says_no_whole_date_or_time_is_refused() {
        for way in ["", "epoch", "%", "%Q", "%d.%m.", "%Y-%m-%d %H", "%Y-%m", "%Y-%m-%d %H:%M %Z", "%%", "%m/%d %H:%M"]
        {
            assert!(way.parse::<Notation>().is_err(), "{way}");
        }
    }
}
