//! Forwarding a failed message to the dead-letter queue, or hiding it where there is none.

use super::{
    Worker,
    dead_letter::{DeadLetter, Failed, dead_letters},
    message::Disposition,
    retry::Retry,
};
use crate::{
    outcome::Failure,
    queue::{Message, Refused},
};
use service::{time::backoff, words::chain};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// The longest a failed message without a dead-letter queue is hidden.
const MAX_HIDE: Duration = Duration::from_secs(3600);

impl Worker {
    /// Sends a failed message to the dead-letter queue, trying until it is there; what the queue does not take
    /// is sent with less, and what it does not take at all is left to the ledger and the log. Returns also whether
    /// anything was sent.
    pub(super) async fn forward(
        &self,
        message: &Message,
        failed: &[Failed<'_>],
        failure: &Failure,
        drain: &CancellationToken,
    ) -> (Disposition, bool) {
        if !self.queue.has_dead_letter_queue() {
            if failed.is_empty() {
                self.hide(message).await;
            }
            return (Disposition::Release, false);
        }
        let mut choices = dead_letters(message, failed, failure).into_iter();
        let mut letters = choices.next().unwrap_or_default();
        // Of the letters of a choice; the choices that have several have the same ones.
        let (mut n_sent, mut n_refused) = (0, 0);
        let end = Instant::now() + self.hold_limit;
        let mut retry = Retry::new(self, &message.message_id, drain);
        loop {
            let Err(error) = self.send(&letters, &mut n_sent).await else {
                let label = [("reason", <&str>::from(failure.reason).into())];
                let is_sent = n_refused < letters.len();
                if is_sent {
                    self.metrics.messages_dead_lettered.get_or_create(&label).inc();
                }
                return (Disposition::Delete, is_sent);
            };
            if error.is::<Refused>() {
                let error = chain(&error);
                if let Some(less) = choices.next() {
                    warn!(error, "the dead-letter queue does not take the message: sending less of it");
                    letters = less;
                } else {
                    let (message_id, letter) = (&message.message_id, letters.get(n_sent).map(|letter| &letter.body));
                    error!(
                        error,
                        message_id, letter, "the dead-letter queue takes nothing of the message: left to the ledger"
                    );
                    n_sent += 1;
                    n_refused += 1;
                }
                continue;
            }
            retry.tried();
            let pause = retry.pause();
            error!(error = chain(&error), retry_in_ms = pause.as_millis() as u64, "forward failed");
            if !retry.wait_until(end.min(Instant::now() + pause)).await || Instant::now() >= end {
                return (Disposition::Release, false);
            }
        }
    }

    async fn send(&self, letters: &[DeadLetter], n_sent: &mut usize) -> anyhow::Result<()> {
        for letter in letters.iter().skip(*n_sent) {
            self.queue.forward(&letter.body, &letter.attributes).await?;
            *n_sent += 1;
        }
        Ok(())
    }

    /// Without a dead-letter queue a failed message is hidden for growing periods until its retention ends.
    pub(super) async fn hide(&self, message: &Message) {
        let period = hide_period(message.receive_count);
        warn!(hidden_secs = period.as_secs(), "there is no dead-letter queue: hiding the failed message");
        let dropped = {
            let _between = self.in_hand.extending.lock().await;
            self.in_hand.drop_message(&message.message_id)
        };
        if let Some(handle) = dropped {
            let _ = self.queue.extend(&[handle], period).await;
        }
    }
}

/// Returns how long a failed message is hidden after its `n`th receive: doubling from half a minute to an hour.
fn hide_period(n: u32) -> Duration {
    backoff(Duration::from_secs(30), n.saturating_sub(1), MAX_HIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_messages_without_a_dead_letter_queue_are_hidden_for_growing_periods_up_to_an_hour() {
        let minutes = [1, 2, 3, 7, 8, 1000].map(|n| hide_period(n).as_secs_f64() / 60.0);
        assert_eq!(minutes, [0.5, 1.0, 2.0, 32.0, 60.0, 60.0]);
    }
}
