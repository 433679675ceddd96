//! Durations of the configuration, as seconds.

use serde::{Deserialize, Deserializer, de};
use service::time::Length;

/// Deserializes a duration into seconds.
///
/// # Errors
/// As [`service::time::duration`].
pub fn secs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Length::deserialize(deserializer)?.0.as_secs_f64())
}

/// Deserializes a duration that is longer than nothing.
///
/// # Errors
/// As [`secs`], and when it is 0.
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
