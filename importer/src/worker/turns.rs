//! Whose turn it is: which of the records in hand gets the next slot.
//!
//! No dataset, and no prefix within one, can keep the others waiting:
//! the slots are shared out evenly among those that want them; a dataset whose records had to be held
//! gets half as many slots each time, down to one, until one of its records is settled; and when all
//! slots are taken, one more object is started for a prefix that has none.
//! A record that has a slot may take small ones of its dataset that wait for one along, into its transaction. While
//! two such transactions run, one that fetches and one that writes, those that wait gather for the next: until it is full.

use super::in_hand::SOON_SECS;
use crate::{
    dataset::DatasetName,
    import::{GROUP_OBJECTS, Settled},
    route::{Class, Routed},
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::sync::oneshot;

/// Transactions of a dataset's small objects that run while more of them gather. With one the database waits for the
/// store, and the store for the database; with more each has fewer objects.
const GATHERED_AT_ONCE: usize = 2;

/// Shares out the slots.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Mutex<State>>);

/// A slot; free again when dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    class: Class,
    /// Counted as a transaction for those that gather.
    gathered: bool,
}

#[derive(Debug, Default)]
struct State {
    n_slots: usize,
    n_running: usize,
    /// Turns given so far: the clock by which those that waited longest are known.
    n_given: u64,
    datasets: HashMap<DatasetName, Usage>,
    prefixes: HashMap<Class, Usage>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Usage {
    n_running: usize,
    /// How many of those, of a dataset, run for records that gather.
    n_gathered: usize,
    /// Mean time of a dataset's objects, decaying, in seconds; none before the first.
    mean_secs: Option<f64>,
    last_given: u64,
    /// Times in a row that a record had to be held.
    n_held: u32,
}

#[derive(Debug)]
struct Waiting {
    class: Class,
    /// The record, where it may be settled together with others.
    routed: Option<Routed>,
    /// It waits for others rather than begin with few.
    gathers: bool,
    message_id: String,
    sender: oneshot::Sender<Call>,
}

/// What ends a record's wait.
#[derive(Debug)]
pub enum Call {
    /// It has a slot.
    Turn(Turn),
    /// Another record of its dataset took it along: the answer says how it was settled, or, when there is none,
    /// that it has to be settled alone.
    Along(oneshot::Receiver<Settled>),
}

/// A record that waited and was taken along. Dropped without an answer it is settled alone.
#[derive(Debug)]
pub struct Companion {
    /// The record.
    pub routed: Routed,
    answer: oneshot::Sender<Settled>,
}

impl Companion {
    /// Says how the record was settled.
    pub fn settled(self, settled: Settled) {
        // A record that is no longer waited for is found in the ledger.
        let _ = self.answer.send(settled);
    }
}

impl Turns {
    /// Returns this many free slots.
    #[must_use]
    pub fn new(n_slots: usize) -> Self {
        Self(Arc::new(Mutex::new(State { n_slots, ..State::default() })))
    }

    /// Waits for a slot, or, where `routed` is given, for another record of its dataset that takes it along.
    pub async fn wait(&self, class: Class, routed: Option<Routed>, message_id: &str) -> Call {
        let (sender, receiver) = oneshot::channel();
        let message_id = message_id.to_owned();
        {
            let mut state = self.0.lock();
            let gathers = routed.is_some() && state.usage(&class).0.fills_groups();
            state.waiting.push_back(Waiting { class, routed, gathers, message_id, sender });
        }
        self.give();
        receiver.await.expect("a waiting record is only forgotten when it no longer waits")
    }

    /// Takes along up to `most` of a dataset's records that wait for a slot and may be settled together.
    #[must_use]
    pub fn take_along(&self, dataset: &DatasetName, most: usize) -> Vec<Companion> {
        let mut state = self.0.lock();
        let mut companions = Vec::new();
        let mut place = 0;
        while place < state.waiting.len() && companions.len() < most {
            let waiting = &mut state.waiting[place];
            let Some(routed) = waiting.routed.take_if(|_| waiting.class.dataset == *dataset) else {
                place += 1;
                continue;
            };
            let Some(waiting) = state.waiting.remove(place) else { break };
            let (answer, receiver) = oneshot::channel();
            // What is no longer waited for is left out.
            if waiting.sender.send(Call::Along(receiver)).is_ok() {
                companions.push(Companion { routed, answer });
            }
        }
        companions
    }

    /// Notes how long an object of a dataset took, with others or alone.
    pub fn measured(&self, dataset: &DatasetName, duration: Duration) {
        let mut state = self.0.lock();
        let mean = &mut state.datasets.entry(dataset.clone()).or_default().mean_secs;
        let seconds = duration.as_secs_f64();
        *mean = Some(mean.map_or(seconds, |mean| mean * 0.8 + seconds * 0.2));
    }

    /// Returns the message of each record that waits for its dataset's trouble rather than for a free slot.
    #[must_use]
    pub fn stalled(&self) -> Vec<String> {
        let state = self.0.lock();
        let waiting = state.waiting.iter().filter(|waiting| !waiting.sender.is_closed());
        waiting.filter(|waiting| state.is_troubled(&waiting.class)).map(|waiting| waiting.message_id.clone()).collect()
    }

    /// Returns whether a record of this class would wait for its dataset's trouble.
    #[must_use]
    pub fn is_troubled(&self, class: &Class) -> bool {
        self.0.lock().is_troubled(class)
    }

    /// Returns whether all slots are taken and the one more is not: a prefix that has none would begin at once.
    #[must_use]
    pub fn only_for_others(&self) -> bool {
        let state = self.0.lock();
        state.n_running == state.n_slots
    }

    /// Gives free slots to those whose turn it is.
    fn give(&self) {
        loop {
            let Some(next) = self.0.lock().next() else { return };
            let turn = Turn { turns: self.clone(), class: next.class, gathered: next.gathers };
            // A record that is no longer waited for sends the turn back, and the next one gets it.
            let _ = next.sender.send(Call::Turn(turn));
        }
    }
}

impl Usage {
    /// Returns whether objects are so quick that a full transaction of small ones is done soon: it is worth waiting for.
    fn fills_groups(&self) -> bool {
        self.mean_secs.is_some_and(|mean| mean * GROUP_OBJECTS as f64 <= SOON_SECS)
    }
}

impl Turn {
    /// Notes that its record goes alone: those that gather need not wait for it.
    pub fn goes_alone(&mut self) {
        if std::mem::take(&mut self.gathered) {
            self.turns.0.lock().datasets.entry(self.class.dataset.clone()).or_default().n_gathered -= 1;
            self.turns.give();
        }
    }

    /// Gives the slot back after its record was settled: its dataset works.
    pub fn settled(self) {
        self.turns.0.lock().datasets.entry(self.class.dataset.clone()).or_default().n_held = 0;
    }

    /// Gives the slot back after its record had to be held.
    pub fn held(self) {
        let mut state = self.turns.0.lock();
        let usage = state.datasets.entry(self.class.dataset.clone()).or_default();
        usage.n_held = usage.n_held.saturating_add(1);
        drop(state);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.goes_alone();
        self.turns.0.lock().free(&self.class);
        self.turns.give();
    }
}

impl State {
    /// Takes out the record whose turn it is, and counts it as running.
    fn next(&mut self) -> Option<Waiting> {
        self.waiting.retain(|waiting| !waiting.sender.is_closed());
        let order = |(place, waiting): &(usize, &Waiting)| {
            let (dataset, prefix) = self.usage(&waiting.class);
            (dataset.n_running, dataset.last_given, prefix.n_running, prefix.last_given, *place)
        };
        let gathering = self.gathering();
        let is_held = |waiting: &Waiting| waiting.gathers && gathering.contains(&waiting.class.dataset);
        let may_begin = self.waiting.iter().enumerate();
        let may_begin = may_begin.filter(|(_, waiting)| self.may_begin(&waiting.class) && !is_held(waiting));
        let (place, _) = may_begin.min_by_key(order)?;
        let next = self.waiting.remove(place)?;
        self.n_running += 1;
        self.n_given += 1;
        let now = self.n_given;
        let dataset = self.datasets.entry(next.class.dataset.clone()).or_default();
        dataset.n_gathered += usize::from(next.gathers);
        for usage in [dataset, self.prefixes.entry(next.class.clone()).or_default()] {
            usage.n_running += 1;
            usage.last_given = now;
        }
        Some(next)
    }

    /// Returns the datasets of which enough transactions run, and too few records wait for another one.
    fn gathering(&self) -> HashSet<&DatasetName> {
        let mut n_waiting = HashMap::new();
        for waiting in self.waiting.iter().filter(|waiting| waiting.gathers) {
            *n_waiting.entry(&waiting.class.dataset).or_insert(0) += 1;
        }
        let runs = |name: &DatasetName| self.datasets.get(name).is_some_and(|of| of.n_gathered >= GATHERED_AT_ONCE);
        n_waiting.into_iter().filter(|(name, n)| *n < GROUP_OBJECTS && runs(name)).map(|(name, _)| name).collect()
    }

    fn may_begin(&self, class: &Class) -> bool {
        let has_room = match self.n_running.cmp(&self.n_slots) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => self.usage(class).1.n_running == 0,
            std::cmp::Ordering::Greater => false,
        };
        has_room && !self.is_troubled(class)
    }

    /// Returns whether the class's dataset has been in trouble and has as many slots as that leaves it.
    fn is_troubled(&self, class: &Class) -> bool {
        let usage = self.usage(class).0;
        let allowed = self.n_slots.checked_shr(usage.n_held).unwrap_or(0).max(1);
        usage.n_held > 0 && usage.n_running >= allowed
    }

    fn usage(&self, class: &Class) -> (Usage, Usage) {
        let dataset = self.datasets.get(&class.dataset).copied().unwrap_or_default();
        (dataset, self.prefixes.get(class).copied().unwrap_or_default())
    }

    fn free(&mut self, class: &Class) {
        self.n_running -= 1;
        if let Some(dataset) = self.datasets.get_mut(&class.dataset) {
            dataset.n_running -= 1;
        }
        // There is no end of prefixes: those at rest are forgotten.
        if let Some(prefix) = self.prefixes.get_mut(class) {
            prefix.n_running -= 1;
            if prefix.n_running == 0 {
                self.prefixes.remove(class);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::{ObjectPointer, Record},
        route::Route,
    };
    use std::collections::BTreeMap;
    use tokio::sync::mpsc;

    /// Slots, and records that note when they begin and end when they are told to.
    struct Bench {
        turns: Turns,
        begun: mpsc::UnboundedReceiver<(String, Turn)>,
        begin: mpsc::UnboundedSender<(String, Turn)>,
        running: Vec<(String, Turn)>,
    }

    impl Bench {
        fn new(n_slots: usize) -> Self {
            let (begin, begun) = mpsc::unbounded_channel();
            Self { turns: Turns::new(n_slots), begun, begin, running: Vec::new() }
        }

        /// Lets records wait, named by dataset and prefix, as `0a`.
        async fn wait(&self, names: &[&str]) {
            for name in names {
                let class = Class { dataset: name[..1].into(), prefix: name[1..].to_owned() };
                let (turns, begin, name) = (self.turns.clone(), self.begin.clone(), (*name).to_owned());
                tokio::spawn(async move { begin.send((name, turn(&turns, class).await)) });
                tokio::task::yield_now().await;
            }
        }

        /// Returns who runs, with how many.
        async fn running(&mut self) -> String {
            for _ in 0..50 {
                tokio::task::yield_now().await;
                while let Ok(begun) = self.begun.try_recv() {
                    self.running.push(begun);
                }
            }
            let mut counts = BTreeMap::new();
            for (name, _) in &self.running {
                *counts.entry(name.clone()).or_insert(0) += 1;
            }
            counts.iter().map(|(name, n)| format!("{name}×{n}")).collect::<Vec<_>>().join(" ")
        }

        /// Ends one record of this name.
        fn end(&mut self, name: &str, end: impl FnOnce(Turn)) {
            let place = self.running.iter().position(|(running, _)| running == name).expect("it runs");
            end(self.running.remove(place).1);
        }
    }

    fn routed(key: &str) -> Routed {
        let pointer = ObjectPointer::new("b", key);
        let record = Record::created(pointer);
        Routed { record: Arc::new(record), route: Route::Unrouted }
    }

    async fn turn(turns: &Turns, class: Class) -> Turn {
        match turns.wait(class, None, "m").await {
            Call::Turn(turn) => turn,
            Call::Along(_) => panic!("it has to be settled alone"),
        }
    }

    #[tokio::test]
    async fn a_record_with_a_slot_takes_along_those_of_its_dataset_that_may_share_its_transaction() {
        let turns = Turns::new(1);
        let class = |dataset: &str| Class { dataset: dataset.into(), prefix: "a".into() };
        // The one slot, and the one more that the other dataset has a right to.
        let running = (turn(&turns, class("0")).await, turn(&turns, class("1")).await);
        let waiting: Vec<_> = [("0", Some("x")), ("0", None), ("1", Some("y")), ("0", Some("z")), ("0", Some("left"))]
            .into_iter()
            .map(|(dataset, key)| {
                let turns = turns.clone();
                tokio::spawn(async move { turns.wait(class(dataset), key.map(routed), "m").await })
            })
            .collect();
        while turns.0.lock().waiting.len() < waiting.len() {
            tokio::task::yield_now().await;
        }
        waiting[4].abort();
        while !waiting[4].is_finished() {
            tokio::task::yield_now().await;
        }
        let keys = |companions: &[Companion]| -> Vec<String> {
            companions.iter().map(|companion| companion.routed.record.pointer.key.clone()).collect()
        };
        let one = turns.take_along(&"0".into(), 1);
        assert_eq!(keys(&one), ["x"]);
        let rest = turns.take_along(&"0".into(), 9);
        assert_eq!(keys(&rest), ["z"], "neither another dataset's, nor one that goes alone, nor one that gave up");
        drop((one, rest));
        let mut waiting = waiting.into_iter();
        let Call::Along(answer) = waiting.next().expect("five").await.expect("no panic") else { panic!("taken along") };
        assert!(answer.await.is_err(), "dropped without an answer: it goes alone");
        drop(running);
        assert!(matches!(waiting.next().expect("five").await.expect("no panic"), Call::Turn(_)));
    }

    #[tokio::test]
    async fn while_two_transactions_run_records_gather_for_a_full_one() {
        let turns = Turns::new(4);
        turns.measured(&"0".into(), Duration::from_millis(10));
        let (begin, mut begun) = mpsc::unbounded_channel();
        let wait = async |n_records: usize, gathers: bool| {
            for _ in 0..n_records {
                let (turns, begin) = (turns.clone(), begin.clone());
                let class = Class { dataset: "0".into(), prefix: "a".into() };
                let routed = gathers.then(|| routed("x"));
                tokio::spawn(async move { begin.send(turns.wait(class, routed, "m").await) });
                tokio::task::yield_now().await;
            }
        };
        let mut running = Vec::new();
        let mut n_begun = async |running: &mut Vec<Turn>| {
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
            let before = running.len();
            while let Ok(call) = begun.try_recv() {
                let Call::Turn(turn) = call else { panic!("nobody takes it along") };
                running.push(turn);
            }
            running.len() - before
        };
        wait(GROUP_OBJECTS + 1, true).await;
        assert_eq!(n_begun(&mut running).await, GATHERED_AT_ONCE, "the others gather");
        wait(1, false).await;
        assert_eq!(n_begun(&mut running).await, 1, "one that goes alone need not wait");
        wait(1, true).await;
        assert_eq!(n_begun(&mut running).await, 1, "enough for a full transaction");
        running.truncate(GATHERED_AT_ONCE);
        assert_eq!(n_begun(&mut running).await, 0);
        running[0].goes_alone();
        assert_eq!(n_begun(&mut running).await, 1, "they need not wait for it");
        running.remove(1).settled();
        assert_eq!(n_begun(&mut running).await, 1);
        let mut n_left = GROUP_OBJECTS + 3 - 6;
        while n_left > 0 {
            running.clear();
            let n = n_begun(&mut running).await;
            assert!((1..=GATHERED_AT_ONCE).contains(&n), "{n}");
            n_left -= n;
        }
        running.clear();
        let state = turns.0.lock();
        assert_eq!(state.datasets[&DatasetName::from("0")].n_gathered, 0);
    }

    #[tokio::test]
    async fn records_of_a_dataset_whose_objects_take_long_do_not_gather() {
        for (took, expected) in [(None, 4), (Some(11), 4), (Some(10), GATHERED_AT_ONCE)] {
            let turns = Turns::new(4);
            turns.measured(&"1".into(), Duration::from_millis(1));
            if let Some(ms) = took {
                turns.measured(&"0".into(), Duration::from_millis(ms));
            }
            let (begin, mut begun) = mpsc::unbounded_channel();
            for _ in 0..9 {
                let (turns, begin) = (turns.clone(), begin.clone());
                let class = Class { dataset: "0".into(), prefix: "a".into() };
                tokio::spawn(async move { begin.send(turns.wait(class, Some(routed("x")), "m").await) });
            }
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
            let mut running = Vec::new();
            while let Ok(call) = begun.try_recv() {
                running.push(call);
            }
            assert_eq!(running.len(), expected, "{took:?}");
        }
    }

    #[tokio::test]
    async fn a_single_prefix_takes_the_slots_and_no_more() {
        let mut bench = Bench::new(4);
        bench.wait(&["0a"; 9]).await;
        assert_eq!(bench.running().await, "0a×4");
        bench.end("0a", Turn::settled);
        assert_eq!(bench.running().await, "0a×4");
    }

    #[tokio::test]
    async fn a_newcomer_begins_at_once_though_all_slots_are_taken() {
        for n_slots in [1, 4] {
            let mut bench = Bench::new(n_slots);
            bench.wait(&["0a"; 9]).await;
            bench.wait(&["1b"; 2]).await;
            assert_eq!(bench.running().await, format!("0a×{n_slots} 1b×1"));
            // And another prefix of the same dataset has the same right.
            bench.end("1b", Turn::settled);
            bench.wait(&["0c"]).await;
            assert!(bench.running().await.contains("1b×1"), "who waited longer comes first");
        }
        let mut bench = Bench::new(1);
        bench.wait(&["0a", "0a", "0c"]).await;
        assert_eq!(bench.running().await, "0a×1 0c×1");
    }

    #[tokio::test]
    async fn slots_are_shared_out_evenly() {
        let mut bench = Bench::new(4);
        bench.wait(&["0a"; 20]).await;
        bench.wait(&["1b"; 20]).await;
        for _ in 0..8 {
            bench.running().await;
            bench.end("0a", Turn::settled);
            bench.running().await;
            if bench.running.iter().filter(|(name, _)| name == "0a").count() < 2 {
                break;
            }
        }
        // 4 slots and the one more.
        let shared = bench.running().await;
        assert!(["0a×2 1b×2", "0a×2 1b×3", "0a×1 1b×3", "0a×3 1b×2"].contains(&shared.as_str()), "{shared}");
    }

    #[tokio::test]
    async fn a_dataset_in_trouble_tries_with_one_slot_until_something_is_settled() {
        let mut bench = Bench::new(4);
        bench.wait(&["0a"; 12]).await;
        assert_eq!(bench.running().await, "0a×4");
        assert_eq!(bench.turns.stalled().len(), 0);
        for _ in 0..4 {
            bench.end("0a", Turn::held);
        }
        assert_eq!(bench.running().await, "0a×1");
        assert_eq!(bench.turns.stalled().len(), 7);
        bench.wait(&["1b"; 3]).await;
        assert_eq!(bench.running().await, "0a×1 1b×3", "who is in trouble leaves the slots to others");
        bench.end("0a", Turn::settled);
        bench.end("1b", Turn::settled);
        bench.end("1b", Turn::settled);
        assert_eq!(bench.running().await, "0a×3 1b×1", "and has them back when it works");
        assert_eq!(bench.turns.stalled().len(), 0);
    }

    #[tokio::test]
    async fn a_record_that_no_longer_waits_costs_no_turn() {
        let mut bench = Bench::new(1);
        bench.wait(&["0a"]).await;
        bench.running().await;
        let given_up = bench.turns.clone();
        let class = Class { dataset: "0".into(), prefix: "a".into() };
        let waiting = tokio::spawn(async move { turn(&given_up, class).await });
        tokio::task::yield_now().await;
        bench.wait(&["0a"]).await;
        waiting.abort();
        let _ = waiting.await;
        bench.end("0a", drop);
        assert_eq!(bench.running().await, "0a×1");
        bench.end("0a", drop);
        let state = bench.turns.0.lock();
        assert_eq!((state.n_running, state.waiting.len(), state.prefixes.len()), (0, 0, 0));
    }
}
