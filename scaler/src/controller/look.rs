//! What a tick sees, and the observation made of it.

use super::{Controller, LONGEST_PAUSE_SECS};
use crate::{
    config::Pool,
    metrics::OfQueue,
    observation::{Observation, Sink},
    pool::{
        Members, WorkerPool,
        census::{Census, Evidence},
    },
    queue_depth::Depths,
    store::{Heartbeat, Reading},
};
use anyhow::anyhow;
use chrono::{DateTime, Utc};
use std::time::Instant;
use tokio::time::timeout;

/// What was seen in a tick.
pub(super) struct Seen {
    pub observation: Observation,
    /// `None` when the pool could not be listed.
    pub census: Option<Census>,
    pub note: Option<String>,
}

impl<P: WorkerPool> Controller<P> {
    /// Observes everything at once.
    pub(super) async fn look(&mut self, now: DateTime<Utc>) -> Seen {
        let horizon_secs = self.policy.start_up_secs + f64::from(self.parts.pool.interval_secs);
        let read_to = self.carried.read_to.filter(|read_to| (now - *read_to).num_seconds() <= LONGEST_PAUSE_SECS);
        let store = self.store();
        let Pool { name, queue_urls: urls, .. } = &self.parts.pool;
        let reading = async {
            match &store {
                Some(store) => Some(store.read(name, urls, read_to, horizon_secs).await),
                None => None,
            }
        };
        let limit = self.timeouts.members();
        let members = timeout(limit, self.parts.workers.members());
        let (depths, members, reading) = tokio::join!(self.parts.queue.depths(horizon_secs), members, reading);
        let members = members.unwrap_or_else(|_| Err(anyhow!("look at the pool: not done within {limit:.1?}")));

        self.note_queues(&depths);
        let reading = reading.map(|reading| self.note("database", reading));
        match &reading {
            Some(Ok(_)) => self.readable_since = self.readable_since.or_else(|| Some(Instant::now())),
            Some(Err(_)) => self.readable_since = None,
            None => {}
        }
        let members = self.note("pool", members);
        self.pool_failures = if members.is_ok() { 0 } else { self.pool_failures.saturating_add(1) };
        self.understand(&depths, members, reading, now)
    }

    /// Says which queues could be counted and which could not.
    fn note_queues(&mut self, depths: &Depths) {
        for (url, depth) in &depths.0 {
            let of_queue = OfQueue { pool: self.parts.pool.name.clone(), queue: url.clone() };
            self.parts.metrics.queue_counted.get_or_create(&of_queue).set(i64::from(depth.is_ok()));
        }
        drop(self.note("queue", depths.unread().map_or(Ok(()), |why| Err(anyhow!(why)))));
    }

    /// Makes an observation of what was seen; without a database there is no reading.
    fn understand(
        &mut self,
        depths: &Depths,
        members: Result<Members, String>,
        reading: Option<Result<Reading, String>>,
        now: DateTime<Utc>,
    ) -> Seen {
        let (mut depth, unread) = (depths.total(), depths.unread());
        let (read, database_unread) = match reading {
            None => (None, None),
            Some(Ok(reading)) => (Some(reading), None),
            Some(Err(why)) => (None, Some(why)),
        };
        let heartbeats = read.as_ref().map(|read| read.heartbeats.as_slice());
        let completions = read.as_ref().and_then(|read| read.completions.clone());
        let flow = self.carried.account.absorb(heartbeats, completions.as_deref(), now);
        self.carried.read_to = read.as_ref().and_then(|read| read.read_to).or(self.carried.read_to);

        if let Some(read) = &read {
            self.carried.pause.clone_from(&read.pause);
        }
        let in_flight = depth.filter(|_| unread.is_none()).map(|depth| depth.in_flight);
        let mut start_ups = Vec::new();
        let census = members.as_ref().ok().map(|members| self.take_census(members, heartbeats, in_flight, now));
        if let Some(census) = &census {
            start_ups = self.carried.track.absorb(census);
            self.first_look = false;
            self.last_size = Some(census.size());
        }
        let slots_per_worker = heartbeats.and_then(measured_slots);
        if let (Some(depth), Some(heartbeats)) = (&mut depth, heartbeats) {
            (depth.oldest_age_secs, depth.oldest_receive_count) = oldest(heartbeats);
        }
        if let (Some(depth), Some(read)) = (&mut depth, &read) {
            depth.delayed_due = depth.delayed_due.map(|due| due.saturating_add(read.due_soon));
        }
        let sink = match &read {
            Some(read) => self.watch.judge(Some(&read.load), slots_per_worker.map(|slots| slots + 2)),
            None if database_unread.is_some() => self.watch.judge(None, None),
            None => Sink::default(),
        };
        let observation = Observation {
            pool: self.last_size.unwrap_or_default(),
            pool_unread: members.as_ref().err().cloned(),
            queue: depth.ok_or_else(|| {
                format!("the counters could not be read ({})", unread.as_deref().unwrap_or("there is no queue"))
            }),
            queue_unread: depth.and(unread),
            completions,
            receives: flow.receives,
            redeliveries: flow.redeliveries,
            last_worker_empty_polls: census.as_ref().and_then(|census| census.fewest_empty_polls),
            sink,
            database_unread,
            slots_per_worker,
            objects_per_message: flow.objects_per_message,
            start_ups,
            failed_starts: Some(self.carried.track.failed_in_a_row()),
            pause: self.carried.pause.clone(),
        };
        Seen { observation, census, note: members.ok().and_then(|members| members.note) }
    }

    fn take_census(
        &mut self,
        members: &Members,
        heartbeats: Option<&[Heartbeat]>,
        in_flight: Option<u64>,
        now: DateTime<Utc>,
    ) -> Census {
        self.carried.track.meet(members, self.first_look, now);
        let track = &self.carried.track;
        let evidence = Evidence {
            heartbeats,
            readable_secs: self.readable_since.map_or(0.0, |since| since.elapsed().as_secs_f64()),
            in_flight,
            start_up_secs: self.policy.start_up_secs,
            since: &|member| track.since(member, now),
            now,
        };
        Census::take(members, &evidence)
    }
}

/// Returns the objects at once in one worker, as the workers say.
fn measured_slots(heartbeats: &[Heartbeat]) -> Option<u32> {
    let slots: Vec<u32> = heartbeats.iter().map(|heartbeat| heartbeat.slots).filter(|slots| *slots > 0).collect();
    let sum: u32 = slots.iter().sum();
    (!slots.is_empty()).then(|| (sum / slots.len() as u32).max(1))
}

/// Returns the age and the receive count of the oldest message that a worker holds.
fn oldest(heartbeats: &[Heartbeat]) -> (Option<f64>, Option<u64>) {
    let ages =
        heartbeats.iter().filter_map(|heartbeat| Some((heartbeat.oldest_age_secs?, heartbeat.oldest_receive_count)));
    match ages.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((age, count)) => (Some(age), count.and_then(|count| u64::try_from(count).ok())),
        None => (None, None),
    }
}
