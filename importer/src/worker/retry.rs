//! Waiting between tries: the pauses grow, the message counts as one that waits, and a drain ends them.

use super::Worker;
use crate::{dataset::DatasetName, import::Held};
use service::{time, words::chain};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// The tries of something that has to be done for a message.
pub(super) struct Retry<'a> {
    worker: &'a Worker,
    message_id: &'a str,
    drain: &'a CancellationToken,
    tries: u32,
}

impl<'a> Retry<'a> {
    pub fn new(worker: &'a Worker, message_id: &'a str, drain: &'a CancellationToken) -> Self {
        Self { worker, message_id, drain, tries: 0 }
    }

    /// Counts a try.
    pub fn tried(&mut self) {
        self.tries += 1;
    }

    /// Returns how long to wait after the tries so far.
    pub fn pause(&self) -> Duration {
        backoff(self.tries)
    }

    /// Waits; false when the worker drains meanwhile.
    pub async fn wait_until(&self, end: Instant) -> bool {
        let _waiting = self.worker.waits.wait(self.message_id);
        tokio::select! {
            () = self.drain.cancelled() => false,
            () = sleep_until(end) => true,
        }
    }

    /// Waits for what is broken outside; false when the worker drains meanwhile.
    pub async fn wait_out(&self, held: &Held, dataset: &DatasetName) -> bool {
        let pause = self.pause();
        let (error, retry_in_ms) = (chain(&held.error), pause.as_millis() as u64);
        if self.worker.circuit.worsened(held.outside, dataset, &error) {
            warn!(error, retry_in_ms, "held: external dependency failing");
        } else {
            debug!(error, retry_in_ms, "held");
        }
        self.wait_until(Instant::now() + pause).await
    }
}

/// Returns the pause before try `n + 1`: doubling from half a second to 20 s, with jitter of a half.
pub(super) fn backoff(n: u32) -> Duration {
    let full = time::backoff(Duration::from_millis(500), n, Duration::from_secs(20));
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_twenty_seconds() {
        assert!(backoff(1) <= Duration::from_secs(1));
        assert!(backoff(50) >= Duration::from_secs(10) && backoff(50) <= Duration::from_secs(20));
    }
}
