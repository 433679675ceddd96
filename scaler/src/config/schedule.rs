//! When a pool has workers whatever its queues say.

use super::duration;
use crate::policy::Schedule;
use serde::Deserialize;

/// A floor under the pool's size for a while, again and again: for loads whose time is known.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSettings {
    /// When it begins, as five fields of cron: minute, hour, day of the month, month, day of the week. Workers are asked
    /// for so much earlier that they are there by then.
    pub cron: String,
    /// The time zone of `cron`, by its name in the IANA database.
    #[serde(default = "default_time_zone")]
    pub time_zone: String,
    /// How long the workers stay whatever the queues say.
    #[serde(default = "default_lasts", deserialize_with = "duration::positive_secs")]
    pub lasts: f64,
    /// Fewest workers meanwhile.
    pub floor: u32,
}

impl ScheduleSettings {
    /// Returns the schedule.
    ///
    /// # Errors
    /// As [`Schedule::new`].
    pub fn schedule(&self) -> Result<Schedule, (&'static str, String)> {
        Schedule::new(&self.cron, &self.time_zone, self.lasts, self.floor)
    }
}

fn default_time_zone() -> String {
    "UTC".to_owned()
}
fn default_lasts() -> f64 {
    3600.0
}
