//! Durations and points in time as people write them, and pauses between tries.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde::Deserialize;
use std::{str::FromStr, time::Duration};

/// Longest duration accepted, a century, so that no sum of them overflows a date.
const LONGEST_SECS: f64 = 36_525.0 * 86_400.0;

/// Reads a duration such as `45s`, `15m`, `1h30m`, `2w` or `250ms`.
///
/// # Errors
/// When it is not one, or is longer than a century.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("\"{text}\" is not a duration like \"45s\", \"15m\", \"1h30m\" or \"2w\"");
    let mut rest = text.trim();
    let mut secs = 0.0;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let n: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        secs += n * match &rest[..letters] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return Err(bad()),
        };
        rest = rest[letters..].trim_start();
    }
    of_secs(secs)
}

fn of_secs(secs: f64) -> Result<Duration, String> {
    if (0.0..=LONGEST_SECS).contains(&secs) {
        Ok(Duration::from_secs_f64(secs))
    } else {
        Err("a duration must be between 0 and 36525 days".to_owned())
    }
}

/// A duration in a configuration file: a text as [`duration`] reads it, or a number of seconds.
#[derive(Deserialize)]
#[serde(try_from = "Written")]
pub struct Length(pub Duration);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a duration like \"45s\", \"15m\", \"1h30m\" or \"2w\"")]
enum Written {
    Text(String),
    Secs(f64),
}

impl TryFrom<Written> for Length {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let length = match written {
            Written::Text(text) => duration(&text),
            Written::Secs(secs) => of_secs(secs),
        };
        length.map(Self)
    }
}

/// A point in time on a command line: RFC 3339, a date, or a duration back from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// This instant.
    At(DateTime<Utc>),
    /// This long ago.
    Ago(Duration),
}

impl Time {
    /// Returns the instant, given the present one.
    #[must_use]
    pub fn at(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(time) => time,
            Self::Ago(age) => now - age,
        }
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(time.to_utc()));
        }
        if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return Ok(Self::At(date.and_time(NaiveTime::MIN).and_utc()));
        }
        duration(text)
            .map(Self::Ago)
            .map_err(|_| "it must be a time like 2026-01-31T12:00:00Z, a date, or an age like 2h".into())
    }
}

/// Returns the pause after a failure: `first`, doubled this many times, but no longer than `longest`.
#[must_use]
pub fn backoff(first: Duration, doublings: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << doublings.min(31)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, secs) in [
            ("45s", 45.0),
            ("15m", 900.0),
            ("1h30m", 5400.0),
            ("1h 30 m", 5400.0),
            ("250ms", 0.25),
            ("1.5h", 5400.0),
            ("2d", 172_800.0),
            ("2w", 1_209_600.0),
            ("0s", 0.0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(secs)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "15", "m", "15 minutes", "-5s", "1y", "1€", "99999d", "99999999999999999w", "1..5s", "."] {
            duration(text).expect_err(text);
        }
    }

    #[test]
    fn times_are_instants_dates_or_ages() {
        let now = DateTime::parse_from_rfc3339("2026-01-31T12:00:00Z").unwrap().to_utc();
        for (text, expected) in [
            ("2026-01-01T00:00:00+01:00", "2025-12-31T23:00:00+00:00"),
            ("2026-01-01", "2026-01-01T00:00:00+00:00"),
            ("2h", "2026-01-31T10:00:00+00:00"),
            ("1h30m", "2026-01-31T10:30:00+00:00"),
            ("4w", "2026-01-03T12:00:00+00:00"),
            ("36525d", "1926-01-31T12:00:00+00:00"),
        ] {
            assert_eq!(text.parse::<Time>().expect(text).at(now).to_rfc3339(), expected, "{text}");
        }
        for text in ["", "h", "yesterday", "-1h"] {
            text.parse::<Time>().expect_err(text);
        }
    }

    #[test]
    fn pauses_double_and_have_an_end() {
        let secs =
            [0, 1, 2, 3, 4, u32::MAX].map(|n| backoff(Duration::from_secs(2), n, Duration::from_secs(9)).as_secs());
        assert_eq!(secs, [2, 4, 8, 9, 9, 9]);
    }
}
