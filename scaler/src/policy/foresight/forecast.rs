//! What a flood is expected to bring, and how many workers are worth their price.

use super::{
    DONE_SHARE, Flood, Foresight, HORIZONS, IN_A_ROW, LAST_HORIZON_SECS, MEAN_LAG_SECS, STALE_COUNTERS_SECS,
    TOLERANCE_SECS, Terms, apart_secs, elapsed_secs, seconds,
};
use crate::policy::{
    demand::{PLANNED_SHARE, UTILISATION},
    words,
};
use chrono::{DateTime, TimeDelta, Utc};

/// How long workers wait for a flood that is late.
const GRACE_SECS: f64 = 30.0;

/// What a worker is idle for before it is seen that nothing is left to do.
const IDLE_SECS: f64 = 5.0;

/// A flood is to be worked off in this share of the time that it takes unforeseen, and is not worth it beyond the second.
const GOAL_SHARE: f64 = 0.27;
const LEAST_GAIN_SHARE: f64 = 0.5;

/// Share of what it may cost that is planned for: a flood that costs more leaves later ones unforeseen.
const PLANNED_COST: f64 = 0.85;

/// A flood that is expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// When the floods of the row began, a period or more later.
    pub earliest: DateTime<Utc>,
    latest: DateTime<Utc>,
    /// Objects that will have arrived within each of the horizons.
    arrived: [f64; HORIZONS.len()],
    /// The shortest of the row's mean times of an object in a slot.
    pub job_secs: f64,
    period: Period,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Period {
    Day,
    Week,
}

impl Period {
    fn times(self, n: i32) -> TimeDelta {
        match self {
            Self::Day => TimeDelta::days(1) * n,
            Self::Week => TimeDelta::days(7) * n,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
        }
    }
}

impl Foresight {
    /// Returns the flood for which workers asked for now are wanted.
    pub(super) fn forecast(&self, start_up_secs: f64, now: DateTime<Utc>) -> Option<Forecast> {
        let lead = seconds(start_up_secs);
        let candidates = [Period::Day, Period::Week].into_iter().flat_map(|period| {
            let near = move |flood: &&Flood| {
                let expected = flood.begins + period.times(1);
                let slack = seconds(TOLERANCE_SECS);
                expected - lead - slack <= now && now <= expected + seconds(LAST_HORIZON_SECS) + slack
            };
            self.floods.iter().filter(near).filter_map(move |flood| self.row(flood, period))
        });
        candidates
            .filter(|forecast| {
                forecast.earliest - lead <= now && now <= forecast.gives_up(true) + seconds(STALE_COUNTERS_SECS)
            })
            .max_by(|a, b| a.arrived[0].total_cmp(&b.arrived[0]))
    }

    /// Returns the forecast of the row that ends with a flood, if it is one.
    fn row(&self, last: &Flood, period: Period) -> Option<Forecast> {
        let expected = last.begins + period.times(1);
        let row: Vec<(DateTime<Utc>, &Flood)> = (1..=IN_A_ROW)
            .map(|n| {
                let flood = self.near(expected - period.times(n))?;
                Some((flood.begins + period.times(n), flood))
            })
            .collect::<Option<_>>()?;
        // A day of the week that is left out.
        let week = Period::Week.times(1);
        let is_left_out = period == Period::Day
            && self.near(expected - week).is_none()
            && self.near(expected - week - Period::Day.times(1)).is_some();
        if is_left_out {
            return None;
        }
        let arrived = std::array::from_fn(|place| {
            let mut known: Vec<f64> = row.iter().map(|(_, flood)| flood.arrived[place]).collect();
            known.sort_by(f64::total_cmp);
            known[known.len() / 2]
        });
        let begins = || row.iter().map(|(begins, _)| *begins);
        let job_secs = row.iter().map(|(_, flood)| flood.job_secs).fold(f64::INFINITY, f64::min);
        Some(Forecast { earliest: begins().min()?, latest: begins().max()?, arrived, job_secs, period })
    }

    /// Returns the flood that began about then.
    fn near(&self, at: DateTime<Utc>) -> Option<&Flood> {
        let nearest = self.floods.iter().min_by_key(|flood| (flood.begins - at).num_milliseconds().abs())?;
        (apart_secs(nearest.begins, at) <= TOLERANCE_SECS).then_some(nearest)
    }
}

impl Forecast {
    /// Returns its objects, as far as they are known.
    pub fn all(&self) -> f64 {
        self.arrived[HORIZONS.len() - 1]
    }

    /// Returns for how long most of its objects still arrive.
    fn lasts_secs(&self) -> f64 {
        let last = self.arrived.iter().position(|n| *n >= DONE_SHARE * self.all());
        last.map_or(LAST_HORIZON_SECS, |place| HORIZONS[place])
    }

    /// Returns by when most of its objects will have arrived.
    pub fn ends(&self) -> DateTime<Utc> {
        self.latest + seconds(self.lasts_secs() + MEAN_LAG_SECS)
    }

    /// Returns until when workers are held for it.
    pub fn gives_up(&self, has_come: bool) -> DateTime<Utc> {
        self.latest + seconds(if has_come { LAST_HORIZON_SECS } else { GRACE_SECS })
    }

    /// Returns the workers it is to be met with, unless that is dear or brings little; calm hours keep some slots busy.
    pub fn size(&self, terms: &Terms, calm: f64) -> Option<u32> {
        let unforeseen_secs = unforeseen_secs(terms)?;
        let usual_secs = usual_secs(&self.arrived, self.job_secs, terms)?;
        let per_worker = f64::from(terms.slots_per_worker) / self.job_secs;
        let all_secs = self.all() / per_worker;
        let may_cost = PLANNED_COST * ((1.0 + terms.share) * usual_secs - all_secs);
        // Until then they are held.
        let lasts_secs = self.lasts_secs();
        let each_secs = terms.start_up_secs + elapsed_secs(self.earliest, self.latest) + IDLE_SECS;
        let mut within = (GOAL_SHARE * unforeseen_secs).max(2.0 * self.job_secs);
        while within + 2.0 * self.job_secs <= LEAST_GAIN_SHARE * unforeseen_secs {
            let later = (arrived(&self.arrived, 2.0 * within) - arrived(&self.arrived, within)) / UTILISATION;
            let workers = arrived(&self.arrived, within).max(later) / per_worker / within;
            let idle_secs =
                if lasts_secs > HORIZONS[0] { (workers * lasts_secs - all_secs / UTILISATION).max(0.0) } else { 0.0 };
            if workers * each_secs + idle_secs <= may_cost {
                return Some((workers + calm / f64::from(terms.slots_per_worker) / UTILISATION).ceil() as u32);
            }
            within *= 1.02;
        }
        None
    }

    /// Says in a clause what is foreseen, or has come.
    pub fn said(&self, has_come: bool) -> String {
        let n = words::count(self.all().round() as u64, "object");
        let at = self.earliest.format("%H:%M:%S UTC");
        let row = format!("as at this time of each of the last {IN_A_ROW} {}s", self.period.noun());
        if has_come {
            format!("the flood of about {n} has come that was foreseen for {at}, {row}")
        } else {
            format!("a flood of about {n} is foreseen for {at}, {row}")
        }
    }
}

/// Returns the time that an unforeseen flood is spread over, if the promise leaves any.
fn unforeseen_secs(terms: &Terms) -> Option<f64> {
    let secs = PLANNED_SHARE * terms.promised_secs - terms.start_up_secs;
    (secs > 0.0).then_some(secs)
}

/// Returns the worker time that a flood costs when it is not foreseen: its work, and each worker's start and end.
pub fn usual_secs(arrived_by: &[f64; HORIZONS.len()], job_secs: f64, terms: &Terms) -> Option<f64> {
    let unforeseen_secs = unforeseen_secs(terms)?;
    let worker_secs = |objects: f64| objects * job_secs / f64::from(terms.slots_per_worker);
    let first = worker_secs(arrived(arrived_by, unforeseen_secs));
    let later = worker_secs(arrived_by[HORIZONS.len() - 1]) - first;
    let workers = (first / unforeseen_secs).max(1.0);
    Some(first + later / UTILISATION + workers * (terms.start_up_secs + terms.shrink_window_secs))
}

/// Returns the objects that have arrived so long after the beginning.
fn arrived(by: &[f64; HORIZONS.len()], secs: f64) -> f64 {
    let after = HORIZONS.iter().position(|horizon| *horizon >= secs).unwrap_or(HORIZONS.len() - 1);
    let Some(before) = after.checked_sub(1) else { return by[0] };
    let share = ((secs - HORIZONS[before]) / (HORIZONS[after] - HORIZONS[before])).min(1.0);
    by[before] + share * (by[after] - by[before])
}
