//! Times as the binary formats store them.

use crate::encode::{CellError, RejectClass};

/// Returns a period of months, days and milliseconds as ISO 8601 text, which Postgres reads as an interval.
pub fn period(months: u32, days: u32, millis: u32) -> String {
    format!("P{months}M{days}DT{}.{:03}S", millis / 1000, millis % 1000)
}

/// Brings a count of units, of which this many make a second, to microseconds; nanoseconds are rounded down.
///
/// # Errors
/// Class `range` where 64 bits do not hold it.
#[inline]
pub fn micros(count: i64, per_second: i64) -> Result<i64, CellError> {
    match per_second {
        1_000_000 => Ok(count),
        1_000 => {
            count.checked_mul(1_000).ok_or_else(|| CellError::new(RejectClass::Range, format!("{count} milliseconds")))
        }
        _ => Ok(count.div_euclid(1_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_brought_to_microseconds_without_wrapping() {
        assert_eq!(micros(-1, 1_000_000_000), Ok(-1));
        assert_eq!(micros(-1_001, 1_000_000_000), Ok(-2));
        assert_eq!(micros(1_999, 1_000_000_000), Ok(1));
        assert_eq!(micros(i64::MAX, 1_000).map_err(|error| error.class), Err(RejectClass::Range));
    }

    #[test]
    fn a_period_is_iso_8601() {
        assert_eq!(period(14, 3, 1_005), "P14M3DT1.005S");
    }
}
