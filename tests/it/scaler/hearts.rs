//! Workers on machines that only exist for an API, played: their hearts beat, and nothing else.

use super::stand::Stand;
use anyhow::Result;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The hearts of everyone who is on a list.
pub struct Hearts {
    states: Arc<Mutex<BTreeMap<String, &'static str>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Hearts {
    /// Lets them beat; `list` says which instances there are.
    pub fn start<F, L>(stand: &Arc<Stand>, list: F) -> Self
    where
        F: Fn() -> L + Send + 'static,
        L: Future<Output = Result<Vec<String>>> + Send,
    {
        let states = Arc::new(Mutex::new(BTreeMap::new()));
        let (chosen, stand) = (Arc::clone(&states), Arc::clone(stand));
        let task = tokio::spawn(async move {
            loop {
                if let Ok(instances) = list().await {
                    let _ = beat(&stand, &instances, &chosen).await;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        Self { states, task }
    }

    /// Says what a worker does from now on; a worker nothing was said of is busy.
    pub fn set(&self, instance: &str, state: &'static str) {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).insert(instance.to_owned(), state);
    }
}

impl Drop for Hearts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn beat(stand: &Stand, instances: &[String], chosen: &Mutex<BTreeMap<String, &'static str>>) -> Result<()> {
    let states = chosen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut statements = String::from("DELETE FROM penstock.workers;");
    for instance in instances {
        let state = states.get(instance).copied().unwrap_or("busy");
        let (in_flight, empty_polls) = if state == "busy" { (1, 0) } else { (0, 5) };
        statements.push_str(&format!(
            "INSERT INTO penstock.workers (id, host, pid, instance_id, version, state, slots, in_flight, empty_polls, \
             heartbeat_at, queue_url, visibility_timeout_secs, started_at, first_receive_at) VALUES ('{instance}', 'h', 1, \
             '{instance}', '0', '{state}', 4, {in_flight}, {empty_polls}, now(), '{}', 30, now(), now());",
            stand.pipeline.queue_url
        ));
    }
    stand.database.execute(&statements).await
}
