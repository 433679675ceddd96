//! Which of the messages in hand only wait, and those returned to the queue until the dataset recovers.

use crate::dataset::DatasetName;
use parking_lot::Mutex;
use service::time::backoff;
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};
use tokio::time::Instant;

/// Counts records that wait outside the slots, by message: a message whose open records all wait takes no room
/// in the intake.
#[derive(Debug, Default)]
pub struct Waits(Mutex<HashMap<String, Open>>);

#[derive(Debug, Default)]
struct Open {
    dataset: DatasetName,
    n_open: usize,
    n_waiting: usize,
}

/// A record that is not settled yet, for as long as it lives.
pub struct OpenRecord<'a>(&'a Waits, &'a str);

/// A record that waits, for as long as it lives.
pub struct Waiting<'a>(&'a Waits, &'a str);

impl Waits {
    /// Counts a record of a message that is about to be settled.
    pub fn open<'a>(&'a self, message_id: &'a str, dataset: &DatasetName) -> OpenRecord<'a> {
        let mut messages = self.0.lock();
        let open = messages.entry(message_id.to_owned()).or_default();
        open.dataset = dataset.clone();
        open.n_open += 1;
        OpenRecord(self, message_id)
    }

    /// Counts a record, or a message without any, as waiting.
    pub fn wait<'a>(&'a self, message_id: &'a str) -> Waiting<'a> {
        self.0.lock().entry(message_id.to_owned()).or_default().n_waiting += 1;
        Waiting(self, message_id)
    }

    /// Returns how many messages only wait. `stalled` names the messages of further records that do.
    pub fn n_waiting(&self, stalled: &[String]) -> usize {
        self.count(stalled, |_| true)
    }

    /// Returns how many messages of one dataset only wait.
    pub fn n_waiting_of(&self, dataset: &DatasetName, stalled: &[String]) -> usize {
        self.count(stalled, |open| open.dataset == *dataset)
    }

    fn count(&self, stalled: &[String], counts: impl Fn(&Open) -> bool) -> usize {
        let mut n_stalled: HashMap<&str, usize> = HashMap::new();
        for message_id in stalled {
            *n_stalled.entry(message_id).or_default() += 1;
        }
        let only_waits = |(message_id, open): &(&String, &Open)| {
            let n_waiting = open.n_waiting + n_stalled.get(message_id.as_str()).copied().unwrap_or(0);
            n_waiting > 0 && n_waiting >= open.n_open && counts(open)
        };
        self.0.lock().iter().filter(only_waits).count()
    }

    /// Returns how many records of a message are not settled yet.
    #[cfg(test)]
    pub fn n_open(&self, message_id: &str) -> usize {
        self.0.lock().get(message_id).map_or(0, |open| open.n_open)
    }

    fn change(&self, message_id: &str, change: impl FnOnce(&mut Open)) {
        let mut messages = self.0.lock();
        let Some(open) = messages.get_mut(message_id) else { return };
        change(open);
        if open.n_open == 0 && open.n_waiting == 0 {
            messages.remove(message_id);
        }
    }
}

impl Drop for OpenRecord<'_> {
    fn drop(&mut self) {
        self.0.change(self.1, |open| open.n_open -= 1);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.change(self.1, |open| open.n_waiting -= 1);
    }
}

/// Receipt handles of messages that were given back to the queue hidden, because more of their dataset waited
/// than a worker holds. When the dataset works again they are made visible at once.
#[derive(Debug, Default)]
pub struct Parked(Mutex<VecDeque<ParkedMessage>>);

#[derive(Debug)]
struct ParkedMessage {
    dataset: DatasetName,
    handle: String,
    until: Instant,
}

/// Handles kept at most, of a few hundred bytes each; what is beyond them comes back by itself.
const MAX_PARKED: usize = 5000;
/// How long a message is hidden the first time, and at most. Each time costs one of the receives the queue
/// allows: with ten they last for more than six hours. Longer keeps messages of a worker that died from others.
const FIRST_PERIOD: Duration = Duration::from_secs(300);
const MAX_PERIOD: Duration = Duration::from_secs(3600);

impl Parked {
    /// Notes a message that is hidden until then.
    pub fn add(&self, dataset: &DatasetName, handle: String, until: Instant) {
        let mut parked = self.0.lock();
        if parked.len() >= MAX_PARKED {
            parked.pop_front();
        }
        parked.push_back(ParkedMessage { dataset: dataset.clone(), handle, until });
    }

    /// Takes out up to `most` handles of a dataset's messages that are still hidden.
    pub fn take(&self, dataset: &DatasetName, most: usize, now: Instant) -> Vec<String> {
        let mut parked = self.0.lock();
        let mut taken = Vec::new();
        parked.retain_mut(|message| {
            if message.dataset == *dataset && message.until > now && taken.len() < most {
                taken.push(std::mem::take(&mut message.handle));
                return false;
            }
            message.until > now
        });
        taken
    }

    /// Takes out all handles of messages that are still hidden.
    pub fn take_all(&self, now: Instant) -> Vec<String> {
        let parked = std::mem::take(&mut *self.0.lock());
        parked.into_iter().filter(|message| message.until > now).map(|message| message.handle).collect()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// Returns how long a message is parked after its `n`th receive.
pub fn park_period(n: u32) -> Duration {
    backoff(FIRST_PERIOD, n.saturating_sub(1), MAX_PERIOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_waits_when_all_its_open_records_do() {
        let waits = Waits::default();
        let dataset = DatasetName::from("d");
        let n_waiting = |stalled: &[&str]| {
            let stalled: Vec<String> = stalled.iter().map(|&id| id.into()).collect();
            (waits.n_waiting_of(&dataset, &stalled), waits.n_waiting(&stalled))
        };
        let mut records: Vec<_> = (0..3).map(|_| waits.open("m", &dataset)).collect();
        assert_eq!(n_waiting(&[]), (0, 0));
        let waiting: Vec<_> = (0..2).map(|_| waits.wait("m")).collect();
        assert_eq!(n_waiting(&[]), (0, 0), "one of three runs");
        assert_eq!(n_waiting(&["m"]), (1, 1), "or waits for a slot it does not get");
        drop(records.pop());
        assert_eq!(n_waiting(&[]), (1, 1), "one is settled, the others wait");
        assert_eq!(waits.n_waiting_of(&"other".into(), &[]), 0);
        drop(waiting);
        drop(records);
        assert!(waits.0.lock().is_empty());
    }

    #[test]
    fn parked_periods_grow_to_an_hour() {
        let minutes = [1, 2, 3, 4, 5, 100].map(|n| park_period(n).as_secs() / 60);
        assert_eq!(minutes, [5, 10, 20, 40, 60, 60]);
    }

    #[test]
    fn parked_messages_are_taken_back_by_dataset_while_they_are_hidden() {
        let (parked, start) = (Parked::default(), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        let (dataset, another) = (DatasetName::from("d"), DatasetName::from("e"));
        parked.add(&dataset, "past".into(), at(1));
        for handle in ["a", "b", "c"] {
            parked.add(&dataset, handle.into(), at(9));
        }
        parked.add(&another, "other".into(), at(9));
        assert_eq!(parked.take(&dataset, 2, at(2)), ["a", "b"]);
        assert_eq!(parked.take(&dataset, 2, at(2)), ["c"]);
        assert_eq!(parked.take(&another, 2, at(2)), ["other"]);
        assert!(parked.is_empty());
    }
}
