//! Workers that are there at set times, since somebody knows what comes then.

use super::words;
use crate::decision::{Bound, Guard, Reason};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

/// A schedule that lasts longer is a `min`.
const LONGEST_SECS: f64 = 366.0 * 86_400.0;

/// A floor under the pool's size for a while, again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    cron: Cron,
    text: String,
    zone: Tz,
    lasts: TimeDelta,
    floor: u32,
}

impl Schedule {
    /// Reads when it begins: five fields of cron in a time zone of the IANA database.
    ///
    /// # Errors
    /// When one of the two cannot be read, no such time ever comes, or it lasts longer than a year; with the setting's name.
    pub fn new(cron: &str, zone: &str, lasts_secs: f64, floor: u32) -> Result<Self, (&'static str, String)> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parsed = parser.parse(cron).map_err(|error| ("cron", format!("\"{cron}\": {error}")))?;
        let zone = zone
            .parse()
            .map_err(|_| ("time_zone", format!("\"{zone}\" is no time zone such as \"UTC\" or \"Europe/Berlin\"")))?;
        if parsed.find_next_occurrence(&DateTime::UNIX_EPOCH, true).is_err() {
            return Err(("cron", format!("\"{cron}\" is a time that never comes")));
        }
        if lasts_secs > LONGEST_SECS {
            return Err(("lasts", "is longer than 366 days: such a floor is a `min`".to_owned()));
        }
        let lasts = TimeDelta::milliseconds((lasts_secs * 1000.0) as i64);
        Ok(Self { cron: parsed, text: cron.to_owned(), zone, lasts, floor })
    }

    /// Returns the workers it has.
    pub fn floor(&self) -> u32 {
        self.floor
    }

    /// Returns what it asks for now, where workers asked for now are there after `lead_secs`.
    pub fn bound(&self, lead_secs: f64, now: DateTime<Utc>) -> Option<Bound> {
        let soon = now + TimeDelta::milliseconds((lead_secs.min(LONGEST_SECS) * 1000.0) as i64);
        let after = (now - self.lasts).with_timezone(&self.zone);
        let begins = self.cron.find_next_occurrence(&after, false).ok().filter(|begins| *begins <= soon)?;
        let until = (begins + self.lasts).format("%H:%M %Z");
        let floor = words::workers(self.floor);
        let why = format!("the schedule \"{}\" has {floor} until {until}", self.text);
        Some(Bound::at_least(self.floor, Guard::Schedule, Reason::Schedule, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(schedule: &Schedule, now: &str) -> Option<u32> {
        schedule.bound(60.0, now.parse().unwrap())?.at_least
    }

    #[test]
    fn workers_are_there_when_it_begins_and_may_go_when_it_ends() {
        let schedule = Schedule::new("0 2 * * MON-FRI", "Europe/Berlin", 5400.0, 8).unwrap();
        // A Tuesday in winter: 02:00 there is 01:00 UTC.
        for (now, expected) in [
            ("2026-01-06T00:58:59Z", None),
            ("2026-01-06T00:59:00Z", Some(8)),
            ("2026-01-06T02:29:59Z", Some(8)),
            ("2026-01-06T02:30:00Z", None),
            // In summer an hour earlier, and on no Sunday.
            ("2026-07-07T00:30:00Z", Some(8)),
            ("2026-07-05T00:30:00Z", None),
        ] {
            assert_eq!(floor(&schedule, now), expected, "{now}");
        }
        let why = schedule.bound(60.0, "2026-01-06T01:00:00Z".parse().unwrap()).unwrap().why;
        assert_eq!(why, "the schedule \"0 2 * * MON-FRI\" has 8 workers until 03:30 CET");
    }

    #[test]
    fn hour_that_a_time_zone_skips_or_repeats_has_its_workers() {
        let schedule = Schedule::new("30 2 * * *", "Europe/Berlin", 600.0, 3).unwrap();
        assert_eq!(floor(&schedule, "2026-03-29T01:05:00Z"), Some(3), "02:30 does not exist, 03:00 does");
        assert_eq!(floor(&schedule, "2026-10-25T00:35:00Z"), Some(3), "02:30 comes twice");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (cron, zone, setting, part) in [
            ("0 2 * *", "UTC", "cron", "\"0 2 * *\""),
            ("0 0 2 * * *", "UTC", "cron", "\"0 0 2 * * *\""),
            ("61 2 * * *", "UTC", "cron", "61"),
            ("0 0 30 2 *", "UTC", "cron", "never comes"),
            ("0 2 * * *", "Europe/Nowhere", "time_zone", "Europe/Nowhere"),
        ] {
            let (named, problem) = Schedule::new(cron, zone, 60.0, 1).unwrap_err();
            assert!(named == setting && problem.contains(part), "{cron} {zone}: {named} {problem}");
        }
        let (named, problem) = Schedule::new("0 2 * * *", "UTC", f64::MAX, 1).unwrap_err();
        assert!(named == "lasts" && problem.contains("366 days"), "{named} {problem}");
    }
}
