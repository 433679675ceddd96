//! The plan of a run, drawn from its seed: what is put and deleted, which messages say so, in which
//! order they are sent, and which faults happen when.
//!
//! Pure: the same seed and number of objects give the same plan.

use super::{
    content::{Content, Dataset, Format, Frame, Spoiled},
    faults::Fault,
};
use fastrand::Rng;
use std::time::Duration;

/// Everything a run does.
#[derive(Debug)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// Whether the bucket keeps versions.
    pub versioned: bool,
    /// What objects are put for.
    pub datasets: Vec<Dataset>,
    /// The objects' keys.
    pub keys: Vec<Key>,
    /// What happens to them, in order.
    pub acts: Vec<Act>,
    /// What the importers are told.
    pub messages: Vec<Message>,
    /// Acts and messages in the order they happen.
    pub deeds: Vec<Deed>,
    /// Faults, each with the number of deeds before it.
    pub faults: Vec<(usize, Fault)>,
}

/// A key of the bucket.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// The dataset that takes it.
    pub dataset: Dataset,
    /// The row keys its objects have.
    ids: Vec<i64>,
    format: Format,
}

/// Something that happens to a key.
#[derive(Debug)]
pub struct Act {
    /// Which key.
    pub key: usize,
    /// What.
    pub kind: ActKind,
}

/// See [`Act`].
#[derive(Debug)]
pub enum ActKind {
    /// An object is put.
    Put(Content),
    /// The bytes of an earlier act are put once more.
    Again(usize),
    /// The object is deleted.
    Delete,
}

/// A message to be sent.
#[derive(Debug)]
pub enum Message {
    /// Says that these acts happened.
    Acts(Vec<usize>, Envelope),
    /// Names the key of an act, as it is then: `s3://bucket/key`.
    Bare(usize),
    /// No envelope at all; belongs in the dead-letter queue.
    Unreadable(usize),
    /// Names an object no dataset takes; belongs in the dead-letter queue.
    Unrouted(usize),
    /// Names an object a skip rule takes.
    Skipped(usize),
    /// S3's greeting.
    TestEvent,
}

/// What a message looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// S3's own notification.
    S3,
    /// The same inside SNS.
    Sns,
    /// EventBridge.
    EventBridge,
    /// A pointer of our own; for puts only.
    Pointer,
}

/// One step of the feeder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Carry out an act.
    Act(usize),
    /// Send a message.
    Send(usize),
}

/// Row keys that objects of [`Dataset::Newest`] share, per 100 objects.
const SHARED_IDS: usize = 200;

/// Row keys between the first ones of two objects of [`Dataset::Site`].
const SITES_OF_A_KEY: usize = 20;
/// Objects put for one key of [`Dataset::Site`], about.
const OBJECTS_PER_SITE_KEY: usize = 12;

impl Plan {
    /// Draws a plan in which about `n_objects` objects are put.
    #[must_use]
    pub fn draw(seed: u64, n_objects: usize, datasets: &[Dataset]) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut plan = Self {
            seed,
            versioned: rng.bool(),
            datasets: datasets.to_vec(),
            keys: Vec::new(),
            acts: Vec::new(),
            messages: Vec::new(),
            deeds: Vec::new(),
            faults: Vec::new(),
        };
        plan.draw_acts(&mut rng, n_objects);
        plan.draw_messages(&mut rng);
        plan.faults = Fault::draw_all(&mut rng, n_objects, plan.deeds.len(), plan.has_steps());
        plan
    }

    /// Returns whether something follows a commit.
    #[must_use]
    pub fn has_steps(&self) -> bool {
        self.datasets.contains(&Dataset::Post)
    }

    /// Returns what a put wrote; none for a delete.
    #[must_use]
    pub fn content(&self, act: usize) -> Option<&Content> {
        match &self.acts[act].kind {
            ActKind::Put(content) => Some(content),
            ActKind::Again(earlier) => self.content(*earlier),
            ActKind::Delete => None,
        }
    }

    /// Returns the acts of a key, in order.
    pub fn acts_of(&self, key: usize) -> impl DoubleEndedIterator<Item = usize> {
        self.acts.iter().enumerate().filter(move |(_, act)| act.key == key).map(|(number, _)| number)
    }

    fn draw_acts(&mut self, rng: &mut Rng, n_objects: usize) {
        let n_shared = i64::try_from((n_objects * SHARED_IDS / 100).max(50)).unwrap_or(i64::MAX);
        let n_sites = (n_objects / OBJECTS_PER_SITE_KEY).max(2) * SITES_OF_A_KEY;
        for _ in 0..n_objects {
            let key = match self.keys.len() {
                0 => self.draw_key(rng, n_shared),
                n if rng.u32(..100) < 40 => {
                    // Mostly a recent one, whose messages are still about.
                    if rng.bool() { n - 1 - rng.usize(..n.min(20)) } else { rng.usize(..n) }
                }
                _ => self.draw_key(rng, n_shared),
            };
            let kind = self.draw_put(rng, key, n_sites);
            self.acts.push(Act { key, kind });
            if rng.u32(..100) < 7 {
                let key = rng.usize(..self.keys.len());
                if self.acts_of(key).last().is_some_and(|last| self.content(last).is_some()) {
                    self.acts.push(Act { key, kind: ActKind::Delete });
                }
            }
        }
    }

    fn draw_key(&mut self, rng: &mut Rng, n_shared: i64) -> usize {
        let number = self.keys.len();
        let dataset = self.datasets[rng.usize(..self.datasets.len())];
        let n_rows = match rng.u32(..100) {
            0 => rng.usize(2000..4000),
            1..20 => rng.usize(100..400),
            _ => rng.usize(1..40),
        };
        let ids: Vec<i64> = match dataset {
            Dataset::Newest => {
                let mut ids: Vec<i64> = (0..n_rows.min(400)).map(|_| rng.i64(0..n_shared)).collect();
                ids.sort_unstable();
                ids.dedup();
                ids
            }
            Dataset::Site => {
                let before = self.keys.iter().filter(|key| key.dataset == Dataset::Site).count();
                let first = i64::try_from(before * SITES_OF_A_KEY).unwrap_or(i64::MAX);
                (first..).take(n_rows.clamp(SITES_OF_A_KEY / 2, SITES_OF_A_KEY)).collect()
            }
            _ => {
                let first = i64::try_from(number * 10_000).unwrap_or(i64::MAX);
                (first..).take(n_rows).collect()
            }
        };
        let format = Format::draw(rng);
        // What envelopes encode differently: a space, a plus, a percent, beyond ASCII.
        let odd = ["", "", "", " of+day", "/100%41", "/zürich"][rng.usize(..6)];
        let name = format!("{}/{number:05}{odd}/part.{}", dataset.name(), format.extension());
        self.keys.push(Key { name, dataset, ids, format });
        number
    }

    fn draw_put(&self, rng: &mut Rng, key: usize, n_sites: usize) -> ActKind {
        let Key { dataset, ids, format, .. } = &self.keys[key];
        let earlier: Vec<usize> = self
            .acts_of(key)
            .filter(|act| matches!(&self.acts[*act].kind, ActKind::Put(content) if content.spoiled.is_none()))
            .collect();
        // Bytes put back: not where `newer` would have to run backwards, which is no clean pass over the newest.
        if *dataset != Dataset::Newest && !earlier.is_empty() && rng.u32(..100) < 15 {
            return ActKind::Again(earlier[rng.usize(..earlier.len())]);
        }
        let spoiled = match rng.u32(..100) {
            0..2 if matches!(format, Format::NdjsonGz(_) | Format::Parquet) => Some(Spoiled::Corrupt),
            2..4 => Some(Spoiled::TooManyRejects),
            4 => Some(Spoiled::Empty),
            5..8 if *dataset == Dataset::Card => Some(Spoiled::Crash),
            _ => None,
        };
        // Few, so that many objects become complete; those of objects that are put much later, or never, among them.
        let sites = match dataset {
            Dataset::Post => (0..rng.usize(1..5)).filter_map(|_| i64::try_from(rng.usize(..n_sites)).ok()).collect(),
            _ => Vec::new(),
        };
        let put = self.acts.len();
        let frame = Frame { dataset: *dataset, put, ids, sites: &sites, format: *format, spoiled };
        ActKind::Put(Content::draw(rng, frame))
    }

    fn draw_messages(&mut self, rng: &mut Rng) {
        // Deeds by the time they happen; ten units of time lie between two acts.
        let mut timed: Vec<(usize, Deed)> = (0..self.acts.len()).map(|act| (act * 10, Deed::Act(act))).collect();
        let mut send = |messages: &mut Vec<Message>, message, times: &[usize]| {
            timed.extend(times.iter().map(|time| (*time, Deed::Send(messages.len()))));
            messages.push(message);
        };
        let mut act = 0;
        while act < self.acts.len() {
            let group = if rng.u32(..100) < 12 { rng.usize(2..5) } else { 1 };
            let acts: Vec<usize> = (act..self.acts.len().min(act + group)).collect();
            act += acts.len();
            let last = acts[acts.len() - 1];
            let is_put = acts.len() == 1 && self.content(last).is_some();
            let envelope = match rng.u32(..4) {
                _ if acts.len() > 1 => Envelope::S3,
                0 => Envelope::Sns,
                1 => Envelope::EventBridge,
                2 if is_put => Envelope::Pointer,
                _ => Envelope::S3,
            };
            // SQS delivers at least once: sometimes a message is sent again, soon or much later.
            let copies = [1, 1, 1, 1, 2, 2, 3][rng.usize(..7)];
            let times: Vec<usize> = (0..copies).map(|_| last * 10 + 1 + delay(rng)).collect();
            send(&mut self.messages, Message::Acts(acts, envelope), &times);
            if rng.u32(..100) < 8 {
                send(&mut self.messages, Message::Bare(last), &[last * 10 + 1 + delay(rng)]);
            }
            if rng.u32(..100) < 6 {
                let stray = match rng.u32(..4) {
                    0 => Message::Unreadable(last),
                    1 => Message::Unrouted(last),
                    2 => Message::Skipped(last),
                    _ => Message::TestEvent,
                };
                send(&mut self.messages, stray, &[last * 10 + 1 + delay(rng)]);
            }
        }
        timed.sort_by_key(|(time, _)| *time);
        self.deeds = timed.into_iter().map(|(_, deed)| deed).collect();
    }
}

/// How long a message is under way.
fn delay(rng: &mut Rng) -> usize {
    match rng.u32(..100) {
        0..70 => rng.usize(..50),
        70..95 => rng.usize(..500),
        _ => rng.usize(..5000),
    }
}

/// Returns a pause between the two, in milliseconds.
pub(super) fn pause(rng: &mut Rng, from_ms: u64, to_ms: u64) -> Duration {
    Duration::from_millis(rng.u64(from_ms..to_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torture::{content::ALL, model};
    use std::collections::BTreeSet;

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        assert_eq!(format!("{:?}", Plan::draw(7, 60, &ALL)), format!("{:?}", Plan::draw(7, 60, &ALL)));
        assert_ne!(format!("{:?}", Plan::draw(7, 60, &ALL)), format!("{:?}", Plan::draw(8, 60, &ALL)));
    }

    #[test]
    fn every_act_is_told_after_it_happened() {
        let plan = Plan::draw(3, 200, &ALL);
        let (mut done, mut told) = (BTreeSet::new(), BTreeSet::new());
        for deed in &plan.deeds {
            match *deed {
                Deed::Act(act) => assert!(done.insert(act)),
                Deed::Send(message) => {
                    if let Message::Acts(acts, _) = &plan.messages[message] {
                        assert!(acts.iter().all(|act| done.contains(act)));
                        told.extend(acts.iter().copied());
                    }
                }
            }
        }
        assert_eq!(done.len(), plan.acts.len());
        assert_eq!(told.len(), plan.acts.len());
    }

    #[test]
    fn the_row_keys_of_an_object_are_the_same_in_each_version() {
        let plan = Plan::draw(4, 300, &ALL);
        for key in (0..plan.keys.len()).filter(|key| plan.keys[*key].dataset.is_keyed()) {
            let ids: BTreeSet<Vec<i64>> = plan
                .acts_of(key)
                .filter_map(|act| plan.content(act))
                .map(|content| model::by_id(plan.keys[key].dataset, content).into_keys().collect())
                .collect();
            assert!(ids.len() <= 1, "{}", plan.keys[key].name);
        }
    }
}
