//! Unforeseen failures: they are tried again a few times, for they may pass.

use crate::{
    load::liveness::elsewhere,
    outcome::{ODD_TRIES, Reason, Sorted},
};
use std::time::Duration;

/// Pause before the first retry; longer after each.
const PAUSE: Duration = Duration::from_millis(500);

/// Counts the odd failures of one import.
#[derive(Default)]
pub(super) struct OddRetries {
    n_seen: u32,
}

impl OddRetries {
    /// Returns, after a pause, whether to try again.
    pub async fn may_pass(&mut self, sorted: &Sorted) -> bool {
        match sorted {
            Sorted::Failed(failure) if matches!(failure.reason, Reason::Internal | Reason::TransformTimeout) => {
                self.again().await
            }
            _ => false,
        }
    }

    /// As [`Self::may_pass`], of what is odd for certain.
    pub async fn again(&mut self) -> bool {
        self.n_seen += 1;
        let again = self.n_seen < ODD_TRIES;
        if again {
            elsewhere(tokio::time::sleep(PAUSE * self.n_seen)).await;
        }
        again
    }
}
