//! Notices that the instance is about to go.

use super::metadata::{Metadata, SpotNotice};
use chrono::{DateTime, Utc};
use service::words::chain;
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// Time between two looks. A spot notice comes two minutes ahead, of which this much is lost at most;
/// AWS advises 5 s.
const INTERVAL: Duration = Duration::from_secs(5);
/// Time kept between the end of the drain and the end of the instance, to give back what is left.
const RESERVE: Duration = Duration::from_secs(5);

/// Looks until the Auto Scaling group is ending the instance.
///
/// A spot notice meanwhile cancels `drain`, and `end_by` is told by when it has to be over.
pub async fn until_terminated(
    metadata: &Metadata,
    first_look: &watch::Sender<bool>,
    drain: &CancellationToken,
    end_by: impl Fn(Instant),
) {
    let mut interrupted = false;
    loop {
        match metadata.target_lifecycle_state().await {
            Ok(Some(state)) if is_end(&state) => return,
            Ok(_) => {}
            Err(error) => debug!(error = chain(&error), "no lifecycle state"),
        }
        if !interrupted {
            match metadata.spot_notice().await {
                Ok(Some(notice)) => {
                    interrupted = true;
                    let left = time_left(&notice, Utc::now());
                    info!(
                        action = notice.action,
                        time = notice.time.to_rfc3339(),
                        drain_ms = left.as_millis() as u64,
                        "spot interruption notice: draining"
                    );
                    end_by(Instant::now() + left);
                    drain.cancel();
                }
                Ok(None) => {}
                Err(error) => debug!(error = chain(&error), "no spot notice"),
            }
        }
        first_look.send_replace(true);
        sleep(INTERVAL).await;
    }
}

/// Returns whether an instance in this target state is going away, for good or into a warm pool.
fn is_end(state: &str) -> bool {
    matches!(state, "Terminated" | "Warmed:Terminated" | "Warmed:Stopped" | "Warmed:Hibernated")
}

fn time_left(notice: &SpotNotice, now: DateTime<Utc>) -> Duration {
    (notice.time - now).to_std().unwrap_or_default().saturating_sub(RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_leaves_the_time_to_give_back_what_is_left() {
        let now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().expect("a time");
        let left = |time: &str| {
            let text = format!("{{\"action\": \"terminate\", \"time\": \"{time}\"}}");
            time_left(&serde_json::from_str(&text).expect("a notice"), now)
        };
        assert_eq!(left("2026-01-01T00:02:00Z"), Duration::from_secs(115));
        assert_eq!(left("2026-01-01T00:00:03Z"), Duration::ZERO);
        assert_eq!(left("2025-12-31T23:59:00Z"), Duration::ZERO);
    }

    #[test]
    fn only_states_that_end_the_instance_drain() {
        for (state, expected) in
            [("Terminated", true), ("Warmed:Stopped", true), ("InService", false), ("Standby", false), ("", false)]
        {
            assert_eq!(is_end(state), expected, "{state}");
        }
    }
}
