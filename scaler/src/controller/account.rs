//! What happened between two ticks, from counters that only grow.

use crate::{observation::Completion, store::Heartbeat};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Messages after which the mean of objects per message is believed.
const FEWEST_MESSAGES: f64 = 50.0;

/// The mean loses half its weight in this time.
const HALF_LIFE_SECS: f64 = 1800.0;

/// What the workers' counters stood at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Receives and redeliveries of each worker, by its id.
    counters: Option<BTreeMap<String, (u64, u64)>>,
    messages: f64,
    objects: f64,
    counted_at: Option<DateTime<Utc>>,
}

/// What happened since the tick before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// Messages received.
    pub receives: Option<u64>,
    /// Those received before.
    pub redeliveries: Option<u64>,
    /// Mean objects per message.
    pub objects_per_message: Option<f64>,
}

impl Account {
    /// Takes in the heartbeats, unless they are unknown, and what was finished.
    pub fn absorb(
        &mut self,
        heartbeats: Option<&[Heartbeat]>,
        completions: Option<&[Completion]>,
        now: DateTime<Utc>,
    ) -> Flow {
        let Some(heartbeats) = heartbeats else { return Flow::default() };
        let stand: BTreeMap<String, (u64, u64)> = heartbeats
            .iter()
            .map(|heartbeat| (heartbeat.id.clone(), (heartbeat.receives, heartbeat.redeliveries)))
            .collect();
        let Some(before) = self.counters.replace(stand) else { return Flow::default() };
        let (mut receives, mut redeliveries) = (0_u64, 0_u64);
        for heartbeat in heartbeats {
            // A worker never seen before began at 0.
            let (was, was_again) = before.get(&heartbeat.id).copied().unwrap_or_default();
            receives = receives.saturating_add(heartbeat.receives.saturating_sub(was));
            redeliveries = redeliveries.saturating_add(heartbeat.redeliveries.saturating_sub(was_again));
        }
        if let Some(at) = self.counted_at {
            let secs = ((now - at).num_milliseconds() as f64 / 1000.0).max(0.0);
            let keep = 0.5_f64.powf(secs / HALF_LIFE_SECS);
            self.messages *= keep;
            self.objects *= keep;
        }
        self.counted_at = Some(now);
        self.messages += receives.saturating_sub(redeliveries) as f64;
        self.objects += completions.map_or(0, <[Completion]>::len) as f64;
        let believed = self.messages >= FEWEST_MESSAGES;
        Flow {
            receives: Some(receives),
            redeliveries: Some(redeliveries),
            objects_per_message: believed.then(|| (self.objects / self.messages).clamp(1.0, 100.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service::worker::WorkerState;

    fn heartbeat(id: &str, receives: u64, redeliveries: u64) -> Heartbeat {
        Heartbeat {
            id: id.to_owned(),
            host: "h".to_owned(),
            pid: 1,
            instance_id: None,
            state: WorkerState::Busy,
            slots: 1,
            in_flight: 1,
            empty_polls: 0,
            silent_secs: 0.0,
            first_receive_at: None,
            receives,
            redeliveries,
            oldest_age_secs: None,
            oldest_receive_count: None,
        }
    }

    #[test]
    fn receives_are_what_the_counters_grew_by() {
        let now = Utc::now();
        let mut account = Account::default();
        assert_eq!(account.absorb(Some(&[heartbeat("a", 100, 3)]), None, now).receives, None);
        let flow = account.absorb(Some(&[heartbeat("a", 120, 4), heartbeat("b", 5, 0)]), None, now);
        assert_eq!((flow.receives, flow.redeliveries), (Some(25), Some(1)));
        assert_eq!(account.absorb(None, None, now).receives, None);
        assert_eq!(account.absorb(Some(&[heartbeat("b", 7, 0)]), None, now).receives, Some(2));
    }

    #[test]
    fn messages_with_many_objects_are_noticed() {
        let now = Utc::now();
        let mut account = Account::default();
        account.absorb(Some(&[heartbeat("a", 0, 0)]), None, now);
        let done = vec![Completion { ended_at: now, duration_secs: 1.0, ok: true }; 300];
        let flow = account.absorb(Some(&[heartbeat("a", 100, 0)]), Some(&done), now);
        assert_eq!(flow.objects_per_message, Some(3.0));
    }
}
