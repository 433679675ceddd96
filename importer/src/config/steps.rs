//! The settings of pipelines: several queues, datasets after others, and notifications.

use super::Dataset;
use serde::{
    Deserialize, Deserializer,
    de::{self, value},
};
use service::time::{Length, duration};
use std::{fmt, marker::PhantomData, time::Duration};

/// Reads a table or a text where a list of them may stand as well.
pub(super) fn one_or_several<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Visitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("one or a list of them")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            Ok(vec![T::deserialize(value::StrDeserializer::new(text))?])
        }

        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
            Ok(vec![T::deserialize(value::MapAccessDeserializer::new(map))?])
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = list.next_element()? {
                all.push(one);
            }
            Ok(all)
        }
    }

    deserializer.deserialize_any(Visitor(PhantomData))
}

/// `[[notify]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// Its name, unique in the configuration.
    pub name: String,
    /// Target: the ARN of an SNS topic or of an EventBridge bus, or the URL of an SQS queue.
    pub to: String,
    /// Events to notify about.
    pub on: Vec<Event>,
    /// Datasets to notify about; default: all.
    pub datasets: Option<Vec<String>>,
    /// At most this many notices per dataset and event, such as `1 per 15m`. Further ones are counted, and a `held_back`
    /// notice reports the count when the window ends. Unlimited when absent.
    pub at_most: Option<AtMost>,
}

/// What a notice may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Event {
    /// An object was imported.
    Imported,
    /// An object was imported, and rows of it were rejected.
    Rejected,
    /// An object's version gave way to a newer one.
    Superseded,
    /// An object was removed, and its rows with it.
    Removed,
    /// An object failed.
    Failed,
    /// A dataset's objects wait: a brake is on, or something has been out of reach for a minute.
    Held,
    /// A message is older than its pool promises (`drain_within`); the scaler tells, once until it is over. Of no dataset.
    Late,
    /// An object gave up waiting for keys of other tables (`awaits`).
    GaveUp,
    /// A message could not be read.
    UnreadableMessage,
}

/// `at_most`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AtMost {
    /// How many.
    pub n: i32,
    /// In how many seconds.
    pub secs: i32,
}

impl TryFrom<String> for AtMost {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        read_at_most(&text).ok_or_else(|| "must be like 1 per 15m: a number, and a duration of whole seconds".into())
    }
}

fn read_at_most(text: &str) -> Option<AtMost> {
    let (n, time) = text.split_once(" per ")?;
    let n = n.trim().parse().ok().filter(|number| *number > 0)?;
    let time = time.trim();
    // "15m", and "m" for one.
    let time = if time.len() == 1 { format!("1{time}") } else { time.to_owned() };
    Some(AtMost { n, secs: whole_secs(duration(&time).ok()?)? })
}

/// A length of time, like `60s`.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Length")]
pub struct Seconds(pub i32);

impl fmt::Debug for Seconds {
    /// As it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}s\"", self.0)
    }
}

impl TryFrom<Length> for Seconds {
    type Error = &'static str;

    fn try_from(Length(time): Length) -> Result<Self, Self::Error> {
        whole_secs(time).map(Self).ok_or("must be a whole number of seconds, and longer than 0")
    }
}

/// Notes of each dataset the captures of those that it follows.
pub(super) fn note_captures(datasets: &mut [Dataset]) {
    let all: Vec<_> = datasets.iter().map(|dataset| followed_captures(datasets, dataset)).collect();
    datasets.iter_mut().zip(all).for_each(|(dataset, captures)| dataset.followed_captures = captures);
}

/// Returns them in their order. There are no cycles in a checked configuration.
fn followed_captures(datasets: &[Dataset], dataset: &Dataset) -> Vec<Vec<String>> {
    let followed = dataset.after.iter().filter_map(|name| datasets.iter().find(|other| other.name == *name));
    let of_each = followed.flat_map(|before| match &before.pattern {
        Some(pattern) => vec![names_in(pattern)],
        None => followed_captures(datasets, before),
    });
    of_each.collect()
}

/// Returns the names in braces of a pattern, in their order.
#[must_use]
pub fn names_in(pattern: &str) -> Vec<String> {
    pattern.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0.to_owned())).collect()
}

/// Reads a time above 0 as whole seconds.
fn whole_secs(time: Duration) -> Option<i32> {
    i32::try_from(time.as_secs()).ok().filter(|secs| *secs > 0 && time.subsec_nanos() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_time_are_read() {
        for (text, expected) in [
            ("1 per 15m", Some((1, 900))),
            ("10 per 1h", Some((10, 3600))),
            ("3 per d", Some((3, 86_400))),
            ("1 per 30 s", Some((1, 30))),
            ("1 per 1h30m", Some((1, 5400))),
            ("1 per 250ms", None),
            ("0 per 1h", None),
            ("1 per 0m", None),
            ("1/15m", None),
            ("1 per 15", None),
            ("1 per 99999999d", None),
            ("", None),
        ] {
            assert_eq!(read_at_most(text).map(|at_most| (at_most.n, at_most.secs)), expected, "{text}");
        }
    }
}
