//! What `check` says about the queue and its dead-letter queue.

use super::Findings;
use crate::queue::settings::{self, QueueSettings};
use anyhow::Context;

const DAY_SECS: u64 = 86_400;

/// A queue and where its failed messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queues {
    source: QueueSettings,
    dead_letter: Option<(String, QueueSettings)>,
}

/// Reads the settings of the queue and of its dead-letter queue.
///
/// # Errors
/// When SQS does not say them.
pub async fn read(sdk: &aws_config::SdkConfig, url: &str, dead_letter_url: Option<&str>) -> anyhow::Result<Queues> {
    let source = settings::read(sdk, url).await?;
    let dead_letter = match dead_letter_url.or(source.dead_letter_url.as_deref()) {
        Some(url) => Some((url.to_owned(), settings::read(sdk, url).await.context("read the dead-letter queue")?)),
        None => None,
    };
    Ok(Queues { source, dead_letter })
}

impl Queues {
    /// Returns a short description for people.
    pub fn described(&self) -> String {
        match &self.dead_letter {
            Some((url, _)) => format!("failed messages to {url}"),
            None => "no dead-letter queue".into(),
        }
    }
}

/// Finds what is wrong or dangerous in the settings.
pub fn judge(queues: &Queues, findings: &mut Findings) {
    let source = &queues.source;
    if source.fifo {
        findings.wrong("queue", "is a FIFO queue, which S3 does not send to", "use a standard queue");
    }
    match &queues.dead_letter {
        None => findings.warn(
            "queue",
            "has no dead-letter queue (DLQ): what cannot be imported is hidden for growing periods and lost when its \
             retention ends",
            "add a redrive policy, or set queue.dead_letter_url",
        ),
        Some((_, dead_letter)) => {
            if dead_letter.fifo {
                findings.wrong("dead-letter queue", "is a FIFO queue", "use a standard queue");
            }
            // SQS keeps a moved message's age, so with equal retention it may be deleted soon after it arrives.
            if dead_letter.retention_secs <= source.retention_secs {
                findings.warn(
                    "dead-letter queue",
                    format!(
                        "its retention of {} is not longer than the queue's {}, and a message keeps its age when it moves",
                        days(dead_letter.retention_secs),
                        days(source.retention_secs)
                    ),
                    "set its MessageRetentionPeriod to 1209600 (14 d)",
                );
            }
        }
    }
    if let Some(count) = source.max_receive_count.filter(|count| *count < 10) {
        findings.warn(
            "queue",
            format!(
                "its maxReceiveCount is {count}: killed workers and short outages use receives up, so good messages \
                 would end in the dead-letter queue"
            ),
            "set it to 10 or more",
        );
    }
    if source.retention_secs < 4 * DAY_SECS {
        findings.warn(
            "queue",
            format!("its retention is {}: a weekend's outage would lose messages", days(source.retention_secs)),
            "set MessageRetentionPeriod to 345600 (4 d) or more",
        );
    }
}

fn days(secs: u64) -> String {
    if secs.is_multiple_of(DAY_SECS) { format!("{} d", secs / DAY_SECS) } else { format!("{secs} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks which words the findings contain, in order; `wrong` and `warning` are among them.
    #[track_caller]
    fn check(source: QueueSettings, dead_letter: Option<QueueSettings>, expected: &[[&str; 2]]) {
        let queues =
            Queues { source, dead_letter: dead_letter.map(|settings| ("http://h/1/dlq".to_owned(), settings)) };
        let mut findings = Findings::default();
        judge(&queues, &mut findings);
        let found: Vec<String> = findings.lines().collect();
        assert_eq!(found.len() - 1, expected.len(), "{found:#?}");
        for (found, words) in found.iter().zip(expected) {
            assert!(words.iter().all(|word| found.contains(word)), "{words:?}: {found}");
        }
    }

    fn good() -> QueueSettings {
        QueueSettings { retention_secs: 4 * DAY_SECS, max_receive_count: Some(10), ..QueueSettings::default() }
    }

    fn good_dead_letter() -> QueueSettings {
        QueueSettings { retention_secs: 14 * DAY_SECS, ..QueueSettings::default() }
    }

    #[test]
    fn good_queues_give_no_finding() {
        check(good(), Some(good_dead_letter()), &[]);
    }

    #[test]
    fn each_mistake_is_found_alone() {
        check(QueueSettings { max_receive_count: None, ..good() }, None, &[["warning", "no dead-letter queue"]]);
        check(good(), Some(good()), &[["warning", "not longer than"]]);
        check(
            QueueSettings { max_receive_count: Some(9), ..good() },
            Some(good_dead_letter()),
            &[["warning", "maxReceiveCount is 9"]],
        );
        check(
            QueueSettings { retention_secs: 4 * DAY_SECS - 1, ..good() },
            Some(good_dead_letter()),
            &[["warning", "345599 s"]],
        );
        check(QueueSettings { fifo: true, ..good() }, Some(good_dead_letter()), &[["wrong", "FIFO"]]);
    }
}
