//! `max_rejects`: how many bad rows an object may have.

use serde::{Deserialize, Deserializer, de};
use std::fmt;

/// How many bad rows an object may have and still load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxRejects {
    /// This many rows.
    Rows(u64),
    /// This share of the object's rows, in millionths of a percent; one row is always allowed.
    Percent(u64),
}

/// Rejects after which an object most of whose rows are bad is not read on, where less than half of them may be.
const MANY_REJECTS: u64 = 10_000;

/// One percent, in the unit of [`MaxRejects::Percent`].
const PERCENT: u64 = 1_000_000;

impl MaxRejects {
    /// Returns how many of `n_read` rows may be rejects: whatever the limit, one row must be good.
    #[must_use]
    pub fn allowed(self, n_read: u64) -> u64 {
        self.limit(n_read).min(n_read.saturating_sub(1))
    }

    fn limit(self, n_read: u64) -> u64 {
        match self {
            Self::Rows(n_rows) => n_rows,
            Self::Percent(share) => {
                let exact = u128::from(n_read) * u128::from(share) / u128::from(100 * PERCENT);
                u64::try_from(exact).unwrap_or(u64::MAX).max(1)
            }
        }
    }

    /// Returns whether an object with these counts still loads.
    #[must_use]
    pub fn allows(self, n_rejected: u64, n_read: u64) -> bool {
        n_rejected <= self.allowed(n_read)
    }

    /// Returns whether an object of which so much was read has too many rejects already, whatever follows.
    ///
    /// A share is only known at the end; but where most of many rows are bad, none waits for the good ones that would have
    /// to follow by the million.
    #[must_use]
    pub fn surely_exceeded(self, n_rejected: u64, n_read: u64) -> bool {
        match self {
            Self::Rows(n_rows) => n_rejected > n_rows,
            Self::Percent(share) => {
                n_rejected >= MANY_REJECTS && n_rejected > n_read / 2 && share.saturating_mul(2) < 100 * PERCENT
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let Some(number) = text.strip_suffix('%') else { return text.parse().ok().map(Self::Rows) };
        let (whole, fraction) = number.trim_end().split_once('.').unwrap_or((number.trim_end(), "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 6 {
            return None;
        }
        let share = whole.parse::<u64>().ok()?.checked_mul(PERCENT)? + format!("{fraction:0<6}").parse::<u64>().ok()?;
        (share <= 100 * PERCENT).then_some(Self::Percent(share))
    }
}

impl Default for MaxRejects {
    fn default() -> Self {
        Self::Percent(PERCENT)
    }
}

impl fmt::Display for MaxRejects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Rows(n_rows) => write!(f, "{n_rows}"),
            Self::Percent(share) => {
                let text = format!("{}.{:06}", share / PERCENT, share % PERCENT);
                write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
            }
        }
    }
}

impl<'de> Deserialize<'de> for MaxRejects {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = MaxRejects;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of rows (0 or more) or a percentage from \"0%\" to \"100%\"")
    }

    fn visit_i64<E: de::Error>(self, n_rows: i64) -> Result<MaxRejects, E> {
        let n_rows = u64::try_from(n_rows).map_err(|_| E::invalid_value(de::Unexpected::Signed(n_rows), &self))?;
        Ok(MaxRejects::Rows(n_rows))
    }

    fn visit_u64<E: de::Error>(self, n_rows: u64) -> Result<MaxRejects, E> {
        Ok(MaxRejects::Rows(n_rows))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<MaxRejects, E> {
        MaxRejects::parse(text.trim()).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_and_percentages_are_told_apart() {
        for (text, expected) in [
            ("0", Some("0")),
            ("10", Some("10")),
            ("1%", Some("1%")),
            ("0.5%", Some("0.5%")),
            ("0.000001 %", Some("0.000001%")),
            ("100%", Some("100%")),
            ("100.1%", None),
            ("-1%", None),
            ("1.%", None),
            ("%", None),
            ("1e2%", None),
            ("-1", None),
            ("1.5", None),
            ("many", None),
        ] {
            assert_eq!(MaxRejects::parse(text).map(|limit| limit.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn percentages_always_allow_one_row_and_round_down_but_never_every_row() {
        let percent = |text| MaxRejects::parse(text).expect("a percentage");
        for (limit, n_read, allowed) in [
            (percent("1%"), 0, 0),
            (percent("1%"), 1, 0),
            (percent("1%"), 2, 1),
            (percent("1%"), 99, 1),
            (percent("1%"), 199, 1),
            (percent("1%"), 200, 2),
            (percent("0.29%"), 10_000, 29),
            (percent("0%"), 10_000, 1),
            (percent("100%"), u64::MAX, u64::MAX - 1),
            (percent("100%"), 7, 6),
            (MaxRejects::Rows(0), 10_000, 0),
            (MaxRejects::Rows(5), 1, 0),
            (MaxRejects::Rows(5), 6, 5),
        ] {
            assert_eq!(limit.allowed(n_read), allowed, "{limit} of {n_read}");
            assert!(limit.allows(allowed, n_read));
            assert!(!limit.allows(allowed + 1, n_read));
        }
    }

    #[test]
    fn objects_most_of_whose_many_rows_are_bad_are_given_up_early() {
        let percent = |text| MaxRejects::parse(text).expect("a percentage");
        for (limit, n_rejected, n_read, given_up) in [
            (MaxRejects::Rows(5), 5, 5, false),
            (MaxRejects::Rows(5), 6, 6_000_000, true),
            (percent("1%"), 9_999, 9_999, false),
            (percent("1%"), 10_000, 10_000, true),
            (percent("1%"), 10_000, 20_000, false),
            (percent("49%"), 10_000, 10_000, true),
            (percent("50%"), 1_000_000, 1_000_000, false),
        ] {
            assert_eq!(limit.surely_exceeded(n_rejected, n_read), given_up, "{limit}: {n_rejected} of {n_read}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_limit_or_refused(text in any::<String>()) {
            let _ = MaxRejects::parse(&text);
        }
    }
}
