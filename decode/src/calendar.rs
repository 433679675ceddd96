//! The calendar a file's dates were written in.
//!
//! Spark before 3.0 counted days in the hybrid calendar of `java.util.GregorianCalendar`: Julian before 1582-10-15.
//! Such a count, read as it stands, is another date: 0001-01-01 becomes 0001-12-30 BC. Later releases write either,
//! and say in the file's metadata which
//! ([SPARK-31159](https://issues.apache.org/jira/browse/SPARK-31159), [SPARK-31361](https://issues.apache.org/jira/browse/SPARK-31361)).

use crate::encode::{Value, days_from_civil};

/// The release that wrote the file.
const VERSION: &str = "org.apache.spark.version";
/// There, whatever its value, where dates and timestamps are in the hybrid calendar.
const LEGACY_DATE_TIME: &str = "org.apache.spark.legacyDateTime";
/// The same for INT96.
const LEGACY_INT96: &str = "org.apache.spark.legacyINT96";

/// 1582-10-15, the first day of the Gregorian calendar, in days since 1970-01-01.
const GREGORIAN_START: i64 = -141_427;
/// The Julian day number of 1970-01-01.
const EPOCH_JULIAN_DAY: i64 = 2_440_588;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// How days before 1582-10-15 are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Calendar {
    /// Gregorian all the way back, as Postgres and ISO 8601 count.
    #[default]
    Gregorian,
    /// Julian before 1582-10-15.
    Hybrid,
}

/// The calendars of a file's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calendars {
    /// Of dates and timestamps.
    pub moments: Calendar,
    /// Of INT96, which Spark changed a release later.
    pub int96: Calendar,
}

impl Calendars {
    /// Returns the calendars that a file's metadata tells, as Spark itself reads them.
    pub fn of_metadata<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Self {
        let version = value(VERSION).and_then(release);
        let is_before = |first| version.is_some_and(|version| version < first);
        let hybrid_if = |is_hybrid| if is_hybrid { Calendar::Hybrid } else { Calendar::Gregorian };
        Self {
            moments: hybrid_if(is_before((3, 0)) || value(LEGACY_DATE_TIME).is_some()),
            int96: hybrid_if(is_before((3, 1)) || value(LEGACY_INT96).is_some()),
        }
    }
}

impl Calendar {
    /// Returns a date or timestamp read in this calendar, with the same year, month and day in the Gregorian one.
    ///
    /// The day of a timestamp is that of UTC.
    #[inline]
    pub fn read(self, value: Value<'_>) -> Value<'_> {
        match (self, value) {
            (Self::Hybrid, Value::Date(days)) if i64::from(days) < GREGORIAN_START => {
                // A few days either way, so what does not fit is out of Postgres's range in both calendars.
                Value::Date(i32::try_from(from_julian(days.into())).unwrap_or(days))
            }
            (Self::Hybrid, Value::Timestamp { micros, utc }) if micros < GREGORIAN_START * MICROS_PER_DAY => {
                let start_of_day = from_julian(micros.div_euclid(MICROS_PER_DAY)).checked_mul(MICROS_PER_DAY);
                let rebased = start_of_day.and_then(|start| start.checked_add(micros.rem_euclid(MICROS_PER_DAY)));
                Value::Timestamp { micros: rebased.unwrap_or(micros), utc }
            }
            (_, value) => value,
        }
    }
}

/// Returns the major and the minor number of a release.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Returns, in days since 1970-01-01, the Gregorian day with the year, month and day that a day has in the Julian
/// calendar; 1 March for a 29 February that only the Julian calendar has.
///
/// Years begin in March here, as in [`days_from_civil`]; 1,461 days are four years.
fn from_julian(days: i64) -> i64 {
    // Days since 0000-03-01 of the Julian calendar, whose Julian day number is 1,721,118.
    let days = days + EPOCH_JULIAN_DAY - 1_721_118;
    let cycle = days.div_euclid(1_461);
    let day_of_cycle = days.rem_euclid(1_461);
    let year_of_cycle = (day_of_cycle / 365).min(3);
    let day_of_year = day_of_cycle - 365 * year_of_cycle;
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = cycle * 4 + year_of_cycle + i64::from(month <= 2);
    days_from_civil(year, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Days since 1970-01-01 of the date with these numbers in the Julian calendar, by the formula for its Julian day.
    fn julian(year: i64, month: i64, day: i64) -> i64 {
        let a = (14 - month) / 12;
        let (y, m) = (year + 4800 - a, month + 12 * a - 3);
        day + (153 * m + 2) / 5 + 365 * y + y.div_euclid(4) - 32_083 - EPOCH_JULIAN_DAY
    }

    #[test]
    fn julian_days_keep_their_year_month_and_day() {
        for (year, month, day) in
            [(1, 1, 1), (0, 12, 31), (-43, 3, 15), (4, 2, 29), (1000, 1, 1), (1000, 3, 1), (1582, 10, 4)]
        {
            let read = Calendar::Hybrid.read(Value::Date(julian(year, month, day) as i32));
            let expected = days_from_civil(year, month as u32, day as u32);
            assert_eq!(read, Value::Date(expected as i32), "{year}-{month}-{day}");
        }
        let leap = Calendar::Hybrid.read(Value::Date(julian(1000, 2, 29) as i32));
        assert_eq!(leap, Value::Date(days_from_civil(1000, 3, 1) as i32), "no such day in the Gregorian calendar");
    }

    #[test]
    fn every_julian_day_of_sixteen_centuries_is_the_next() {
        let mut before = from_julian(julian(1, 1, 1) - 1);
        for days in julian(1, 1, 1)..GREGORIAN_START {
            let read = from_julian(days);
            assert!((0..=1).contains(&(read - before)), "day {days} becomes {read} after {before}");
            before = read;
        }
        assert_eq!(before, days_from_civil(1582, 10, 4));
    }

    #[test]
    fn timestamps_keep_the_time_of_day_and_later_ones_everything() {
        let at = |days: i64| Value::Timestamp { micros: days * MICROS_PER_DAY + 5, utc: true };
        assert_eq!(Calendar::Hybrid.read(at(julian(1000, 1, 1))), at(days_from_civil(1000, 1, 1)));
        assert_eq!(Calendar::Hybrid.read(at(GREGORIAN_START)), at(GREGORIAN_START));
        assert_eq!(Calendar::Gregorian.read(at(julian(1000, 1, 1))), at(julian(1000, 1, 1)));
        // Out of Postgres's range before and after, and not wrapped around.
        let Value::Timestamp { micros, .. } = Calendar::Hybrid.read(Value::Timestamp { micros: i64::MIN, utc: false })
        else {
            panic!("a timestamp stays one")
        };
        assert!(micros < -9_000_000_000_000_000_000, "{micros}");
        assert!(matches!(Calendar::Hybrid.read(Value::Date(i32::MIN)), Value::Date(days) if days < -2_000_000_000));
    }

    #[test]
    fn the_metadata_says_which_calendar() {
        use Calendar::{Gregorian, Hybrid};
        for (entries, moments, int96) in [
            (vec![], Gregorian, Gregorian),
            (vec![(VERSION, "2.4.8")], Hybrid, Hybrid),
            (vec![(VERSION, "3.0.1")], Gregorian, Hybrid),
            (vec![(VERSION, "3.1.0-SNAPSHOT")], Gregorian, Gregorian),
            (vec![(VERSION, "10.0.0")], Gregorian, Gregorian),
            (vec![(VERSION, "4.0.0"), (LEGACY_DATE_TIME, "")], Hybrid, Gregorian),
            (vec![(VERSION, "4.0.0"), (LEGACY_INT96, "")], Gregorian, Hybrid),
            (vec![(VERSION, "unknown")], Gregorian, Gregorian),
        ] {
            let told = Calendars::of_metadata(|key| entries.iter().find(|(name, _)| *name == key).map(|(_, v)| *v));
            assert_eq!(told, Calendars { moments, int96 }, "{entries:?}");
        }
    }
}
