//! The simulated messages, and the workers that take them.

use super::{at, workload::Load};
use crate::observation::{Completion, PoolSize};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

/// How much start-up times differ.
const START_UP_SPREAD: f64 = 0.2;

/// A message that was not finished comes back after this.
const VISIBILITY_SECS: f64 = 60.0;

/// A poison message is forwarded after this many receives.
const POISON_RECEIVES: u32 = 5;

/// A draining worker lets go of what it has not finished by then.
const DRAIN_SECS: f64 = 110.0;

const LONG_POLL_SECS: f64 = 20.0;

/// How much each busy slot beyond what the sink takes slows all of them down.
const CROWDING: f64 = 0.001;

/// Which workers go first when the pool shrinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victims {
    /// Starting, then idle, then the one nearest to the end of its work.
    LeastBusy,
    /// Any of them, as with a pool that does not know its workers' work.
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting { fails: bool },
    Up,
    Draining,
    Gone,
}

/// A message, wherever it is.
#[derive(Clone, Copy, Debug)]
struct Message {
    sent: f64,
    work: f64,
    poison: bool,
    receives: u32,
}

#[derive(Clone, Copy, Debug)]
struct InHand {
    id: u64,
    message: Message,
    started: f64,
    ends: f64,
}

#[derive(Debug)]
struct Worker {
    stage: Stage,
    requested: f64,
    last_receive: f64,
    drain_until: f64,
    in_hand: Vec<InHand>,
}

impl Worker {
    /// Returns when the last of its work ends.
    fn ends(&self) -> f64 {
        self.in_hand.iter().map(|job| job.ends).fold(0.0, f64::max)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ready { worker: usize },
    Done { worker: usize, id: u64 },
    DrainOver { worker: usize },
    Back,
}

/// The workers, what they have in hand, and what waits for them.
#[derive(Default)]
pub struct Workers {
    rng: fastrand::Rng,
    now: f64,
    next_arrival: usize,
    waiting: VecDeque<Message>,
    /// Messages out of sight until their visibility timeout ends, in that order.
    hidden: VecDeque<Message>,
    workers: Vec<Worker>,
    /// Workers before this one are gone.
    first_alive: usize,
    /// A worker's number for each free slot; entries of workers that receive no more are skipped.
    free: Vec<usize>,
    /// Time in microseconds, so that events have a total order.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    next_id: u64,
    in_hand: u64,
    /// What has happened since the rule looked last.
    pub since: Since,
    /// Starts in a row that failed.
    pub failed_in_a_row: u32,
    /// Times from sent to done of all messages that were no poison.
    pub latencies: Vec<f32>,
    /// The longest of them since this was taken.
    pub longest_latency: f64,
    /// What comes before is not judged.
    judged_from: f64,
    /// Worker time paid for, up to `close`.
    pub worker_secs: f64,
    /// Jobs that a scale-in cut short.
    pub busy_kills: u64,
    finished_work: f64,
    saturated_secs: f64,
    saturated_work: f64,
}

/// What accumulates between two looks of the rule.
#[derive(Default)]
pub struct Since {
    pub completions: Vec<Completion>,
    pub receives: u64,
    pub redeliveries: u64,
    /// Start-up times of workers that came up.
    pub start_ups: Vec<f64>,
}

impl Workers {
    /// Starts with no worker and no message.
    pub fn new(load: &Load, rng: fastrand::Rng) -> Self {
        let latencies = Vec::with_capacity(load.arrivals.len());
        Self { rng, latencies, judged_from: load.workload.warm_up, ..Self::default() }
    }

    /// Lets everything happen up to a time.
    pub fn advance(&mut self, load: &Load, until: f64) {
        let (from, work_before, saturated) = (self.now, self.finished_work, self.is_saturated(load));
        loop {
            let arrival = load.arrivals.get(self.next_arrival).map_or(f64::INFINITY, |job| job.at);
            let event = self.events.peek().map_or(f64::INFINITY, |Reverse((at, ..))| *at as f64 / 1e6);
            if arrival.min(event) > until {
                break;
            }
            if arrival <= event {
                let job = load.arrivals[self.next_arrival];
                self.next_arrival += 1;
                self.now = arrival;
                self.waiting.push_back(Message { sent: job.at, work: job.work_secs, poison: job.poison, receives: 0 });
            } else if let Some(Reverse((_, _, happening))) = self.events.pop() {
                self.now = event.max(self.now);
                self.happen(happening, load);
            }
            self.hand_out(load);
        }
        self.now = until;
        if saturated && self.is_saturated(load) {
            self.saturated_secs += until - from;
            self.saturated_work += self.finished_work - work_before;
        }
    }

    /// Brings the pool to a size: takes back draining workers, starts, or drains.
    pub fn scale_to(&mut self, desired: u32, victims: Victims, load: &Load, now: f64) {
        let live = self.size().live();
        if desired > live {
            let mut more = desired - live;
            for i in self.first_alive..self.workers.len() {
                if more > 0 && victims == Victims::LeastBusy && self.workers[i].stage == Stage::Draining {
                    self.workers[i].stage = Stage::Up;
                    self.workers[i].last_receive = now;
                    let slots = load.workload.slots_per_worker as usize - self.workers[i].in_hand.len();
                    self.free.extend(std::iter::repeat_n(i, slots));
                    more -= 1;
                }
            }
            for _ in 0..more {
                self.start(load, now);
            }
            self.hand_out(load);
        } else {
            for _ in desired..live {
                self.drain_one(victims, now);
            }
        }
    }

    /// Returns the workers by what they are doing.
    pub fn size(&self) -> PoolSize {
        let mut size = PoolSize::default();
        for worker in &self.workers[self.first_alive..] {
            match worker.stage {
                Stage::Starting { .. } => size.starting += 1,
                Stage::Up if worker.in_hand.is_empty() => size.idle += 1,
                Stage::Up => size.busy += 1,
                Stage::Draining => size.draining += 1,
                Stage::Gone => {}
            }
        }
        size
    }

    /// Returns the workers that are paid for.
    pub fn paid(&self) -> u32 {
        let size = self.size();
        size.live() + size.draining
    }

    /// Returns the messages that can be received.
    pub fn visible(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Returns the messages received and not finished.
    pub fn in_flight(&self) -> u64 {
        self.in_hand + self.hidden.len() as u64
    }

    /// Returns all messages not finished.
    pub fn backlog(&self) -> u64 {
        self.visible() + self.in_flight()
    }

    /// Returns the messages sent so far.
    pub fn sent(&self) -> u64 {
        self.next_arrival as u64
    }

    /// Returns the age and receive count of the oldest message a worker has in hand.
    pub fn oldest_in_hand(&self, now: f64) -> Option<(f64, u64)> {
        let in_hand = self.workers[self.first_alive..].iter().flat_map(|worker| &worker.in_hand);
        let oldest = in_hand.min_by(|a, b| a.message.sent.total_cmp(&b.message.sent))?;
        Some((now - oldest.message.sent, u64::from(oldest.message.receives)))
    }

    /// Returns the empty long polls in a row of the worker that has seen the fewest.
    pub fn fewest_empty_polls(&self) -> Option<u32> {
        let up = self.workers[self.first_alive..].iter().filter(|worker| worker.stage == Stage::Up);
        up.map(|worker| ((self.now - worker.last_receive) / LONG_POLL_SECS) as u32).min()
    }

    /// Returns how much slower than alone a job is that begins now.
    pub fn slowdown(&self, load: &Load) -> f64 {
        let Some(takes) = load.workload.sink_slots else { return 1.0 };
        let busy = self.in_hand as f64;
        (busy / f64::from(takes)).max(1.0) * (1.0 + CROWDING * (busy - f64::from(takes)).max(0.0))
    }

    /// Ends the workers that are left and their account.
    pub fn close(&mut self, now: f64) {
        for i in self.first_alive..self.workers.len() {
            self.end(i, now);
        }
    }

    /// Returns what was done while the sink was saturated, over what it can take.
    pub fn sink_share(&self, load: &Load) -> Option<f64> {
        let takes = f64::from(load.workload.sink_slots?);
        (self.saturated_secs > 0.0).then(|| self.saturated_work / (self.saturated_secs * takes))
    }

    fn is_saturated(&self, load: &Load) -> bool {
        load.workload.sink_slots.is_some_and(|takes| self.in_hand >= u64::from(takes)) && !self.waiting.is_empty()
    }

    fn start(&mut self, load: &Load, now: f64) {
        let fails = self.rng.f64() < load.workload.start_failures;
        let spread = 1.0 + START_UP_SPREAD * (2.0 * self.rng.f64() - 1.0);
        let worker = self.workers.len();
        self.workers.push(Worker {
            stage: Stage::Starting { fails },
            requested: now,
            last_receive: now,
            drain_until: 0.0,
            in_hand: Vec::new(),
        });
        self.schedule(now + load.workload.start_up * spread, Event::Ready { worker });
    }

    fn drain_one(&mut self, victims: Victims, now: f64) {
        let receiving = |worker: &Worker| matches!(worker.stage, Stage::Starting { .. } | Stage::Up);
        let candidates = (self.first_alive..self.workers.len()).filter(|i| receiving(&self.workers[*i]));
        let victim = match victims {
            Victims::Any => {
                let all: Vec<usize> = candidates.collect();
                all.get(self.rng.usize(..all.len().max(1))).copied()
            }
            Victims::LeastBusy => candidates.min_by(|a, b| {
                let rank = |i: usize| {
                    let worker = &self.workers[i];
                    let starting = matches!(worker.stage, Stage::Starting { .. });
                    (!starting, worker.ends().max(now))
                };
                let (a, b) = (rank(*a), rank(*b));
                a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
            }),
        };
        let Some(i) = victim else { return };
        if self.workers[i].in_hand.is_empty() {
            self.end(i, now);
            return;
        }
        self.workers[i].stage = Stage::Draining;
        self.workers[i].drain_until = now + DRAIN_SECS;
        self.schedule(now + DRAIN_SECS, Event::DrainOver { worker: i });
    }

    fn end(&mut self, i: usize, now: f64) {
        if self.workers[i].stage != Stage::Gone {
            self.workers[i].stage = Stage::Gone;
            self.worker_secs += (now - self.workers[i].requested.max(self.judged_from)).max(0.0);
        }
        while self.workers.get(self.first_alive).is_some_and(|worker| worker.stage == Stage::Gone) {
            self.first_alive += 1;
        }
    }

    fn happen(&mut self, event: Event, load: &Load) {
        match event {
            Event::Ready { worker: i } => match self.workers[i].stage {
                Stage::Starting { fails: true } => {
                    self.failed_in_a_row += 1;
                    self.end(i, self.now);
                }
                Stage::Starting { fails: false } => {
                    self.failed_in_a_row = 0;
                    self.since.start_ups.push(self.now - self.workers[i].requested);
                    self.workers[i].stage = Stage::Up;
                    self.workers[i].last_receive = self.now;
                    self.free.extend(std::iter::repeat_n(i, load.workload.slots_per_worker as usize));
                }
                _ => {}
            },
            Event::Done { worker: i, id } => self.done(i, id, load),
            Event::DrainOver { worker: i } => {
                if self.workers[i].stage == Stage::Draining && self.workers[i].drain_until <= self.now {
                    for job in std::mem::take(&mut self.workers[i].in_hand) {
                        self.in_hand -= 1;
                        self.busy_kills += 1;
                        self.waiting.push_front(job.message);
                    }
                    self.end(i, self.now);
                }
            }
            Event::Back => {
                if let Some(message) = self.hidden.pop_front() {
                    self.waiting.push_back(message);
                }
            }
        }
    }

    fn done(&mut self, i: usize, id: u64, load: &Load) {
        let worker = &mut self.workers[i];
        let Some(place) = worker.in_hand.iter().position(|job| job.id == id) else { return };
        let job = worker.in_hand.swap_remove(place);
        self.in_hand -= 1;
        match worker.stage {
            Stage::Up => self.free.push(i),
            Stage::Draining if worker.in_hand.is_empty() => self.end(i, self.now),
            _ => {}
        }
        let message = job.message;
        if message.poison && message.receives < POISON_RECEIVES {
            self.hidden.push_back(message);
            self.schedule(self.now + VISIBILITY_SECS, Event::Back);
            return;
        }
        self.since.completions.push(Completion {
            ended_at: at(self.now),
            duration_secs: self.now - job.started - load.workload.overhead,
            ok: !message.poison,
        });
        self.finished_work += message.work;
        if !message.poison && message.sent >= self.judged_from {
            let latency = self.now - message.sent;
            self.latencies.push(latency as f32);
            self.longest_latency = self.longest_latency.max(latency);
        }
    }

    /// Gives waiting messages to free slots, at random, as long polls do.
    fn hand_out(&mut self, load: &Load) {
        while !self.waiting.is_empty() && !self.free.is_empty() {
            let i = self.free.swap_remove(self.rng.usize(..self.free.len()));
            if self.workers[i].stage != Stage::Up
                || self.workers[i].in_hand.len() >= load.workload.slots_per_worker as usize
            {
                continue;
            }
            let Some(mut message) = self.waiting.pop_front() else { return };
            message.receives += 1;
            self.since.receives += 1;
            self.since.redeliveries += u64::from(message.receives > 1);
            self.in_hand += 1;
            let ends = self.now + message.work * self.slowdown(load);
            self.next_id += 1;
            let id = self.next_id;
            self.workers[i].last_receive = self.now;
            self.workers[i].in_hand.push(InHand { id, message, started: self.now, ends });
            self.schedule(ends, Event::Done { worker: i, id });
        }
    }

    fn schedule(&mut self, at: f64, event: Event) {
        self.next_id += 1;
        self.events.push(Reverse(((at * 1e6) as u64, self.next_id, event)));
    }
}
