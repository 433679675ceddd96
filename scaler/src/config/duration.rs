//! Durations as people write them: `45s`, `15m`, `1h30m`, `250ms`, or a number of seconds.

use serde::{Deserialize, Deserializer, de};

/// Longest duration accepted, so that no sum of them overflows a date.
const LONGEST_SECS: f64 = 366.0 * 86_400.0;

/// Reads a duration as seconds.
///
/// # Errors
/// When it is none, or longer than 366 days.
pub fn parse(text: &str) -> Result<f64, String> {
    let bad = || format!("\"{text}\" is not a duration like \"45s\", \"15m\" or \"1h30m\"");
    let mut rest = text.trim();
    let mut secs = 0.0;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let n: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        secs += n * match &rest[..letters] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(bad()),
        };
        rest = rest[letters..].trim_start();
    }
    checked(secs)
}

fn checked(secs: f64) -> Result<f64, String> {
    if secs.is_finite() && (0.0..=LONGEST_SECS).contains(&secs) {
        Ok(secs)
    } else {
        Err("a duration must be between 0 and 366 days".to_owned())
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a duration like \"45s\", \"15m\" or \"1h30m\"")]
enum Written {
    Text(String),
    Secs(f64),
}

impl Written {
    fn secs(self) -> Result<f64, String> {
        match self {
            Self::Text(text) => parse(&text),
            Self::Secs(secs) => checked(secs),
        }
    }
}

/// Deserializes a duration into seconds.
///
/// # Errors
/// As [`parse`].
pub fn secs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Written::deserialize(deserializer)?.secs().map_err(de::Error::custom)
}

/// Deserializes a duration that is longer than nothing.
///
/// # Errors
/// As [`parse`], and when it is 0.
pub fn positive_secs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match secs(deserializer)? {
        secs if secs > 0.0 => Ok(secs),
        _ => Err(de::Error::custom("the duration must be longer than 0")),
    }
}

/// Deserializes a duration that may be absent.
///
/// # Errors
/// As [`secs`].
pub fn optional_secs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    secs(deserializer).map(Some)
}

/// Deserializes a duration that may be absent and is otherwise longer than nothing.
///
/// # Errors
/// As [`positive_secs`].
pub fn optional_positive_secs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    positive_secs(deserializer).map(Some)
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
            ("250ms", 0.25),
            ("1.5h", 5400.0),
            ("2d", 172_800.0),
            ("0s", 0.0),
        ] {
            assert_eq!(parse(text), Ok(secs), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "15", "m", "15 minutes", "-5s", "1y", "99999d", "1..5s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
