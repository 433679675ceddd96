//! How long the parts of a tick may take: it ends within its interval, whichever peer does not answer.

use aws_config::{SdkConfig, retry::RetryConfig};
use service::aws::timeouts;
use std::time::Duration;

/// A tick shorter than this would give up on peers that are only slow.
const SHORTEST: Duration = Duration::from_secs(10);

/// A tick longer than this would notice late that it waits for a peer that is gone.
const LONGEST: Duration = Duration::from_secs(30);

/// Pause before a call that was throttled or refused is made again; it doubles.
const BACKOFF: Duration = Duration::from_millis(100);

/// How long the parts of one pool's ticks may take, each a share of the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The whole tick.
    pub tick: Duration,
}

impl Timeouts {
    /// Returns the timeouts of a pool with this interval.
    pub fn of(interval_secs: u32) -> Self {
        Self { tick: Duration::from_secs(interval_secs.into()).clamp(SHORTEST, LONGEST) }
    }

    /// For asking who leads, before the look and before the act.
    pub fn lead(&self) -> Duration {
        self.tick.mul_f64(0.15)
    }

    /// For one look at the counters or at the database, and for one call to the workers' platform.
    pub fn call(&self) -> Duration {
        self.tick.mul_f64(0.3)
    }

    /// For a look at the pool, which may take several calls.
    pub fn members(&self) -> Duration {
        self.tick.mul_f64(0.5)
    }

    /// How far into the tick a plan is carried out; what is left then is the next tick's.
    pub fn act_until(&self) -> Duration {
        self.tick.mul_f64(0.8)
    }

    /// Gives every call of an AWS client an end; throttling and errors of the service's own are tried again before it.
    /// Where silence is to be tried again as well, a single try gets less than half of the time.
    pub fn aws(&self, config: &SdkConfig, is_silence_tried_again: bool) -> SdkConfig {
        let operation = self.call();
        let attempt = operation.mul_f64(if is_silence_tried_again { 0.45 } else { 0.8 });
        // A try is ended by the connection, which knows the peer and leaves it.
        let timeouts = timeouts(attempt, operation).to_builder().operation_attempt_timeout(operation).build();
        config
            .clone()
            .into_builder()
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_initial_backoff(BACKOFF))
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_tick_end_within_it() {
        for interval_secs in [1, 10, 20, 3600] {
            let timeouts = Timeouts::of(interval_secs);
            assert!(timeouts.tick <= Duration::from_secs(interval_secs.max(10).into()));
            assert!(
                timeouts.lead() + timeouts.members() + timeouts.lead() <= timeouts.act_until(),
                "the act comes after these"
            );
            assert!(timeouts.call() < timeouts.members());
            assert!(timeouts.act_until() < timeouts.tick, "what was decided is kept after the act");
        }
    }
}
