//! Reading how deep the queues are.

use std::collections::HashMap;
use std::future::Future;

use anyhow::Context;
use aws_sdk_sqs::types::QueueAttributeName;

use crate::observation::QueueDepth;

/// Something that knows how deep a pool's queues are.
pub trait DepthSource: Send {
    /// Returns the depths of all queues added up. A counter that is missing is an error, never 0.
    ///
    /// `horizon_secs` is how far ahead a delayed message counts as due.
    fn depth(&mut self, horizon_secs: f64) -> impl Future<Output = anyhow::Result<QueueDepth>> + Send;
}

/// The queues of SQS.
pub struct SqsQueues {
    client: aws_sdk_sqs::Client,
    urls: Vec<String>,
}

impl SqsQueues {
    /// Names the queues.
    pub fn new(config: &aws_config::SdkConfig, urls: Vec<String>) -> Self {
        Self { client: aws_sdk_sqs::Client::new(config), urls }
    }

    async fn one(&self, url: &str, horizon_secs: f64) -> anyhow::Result<QueueDepth> {
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
            .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesDelayed)
            .attribute_names(QueueAttributeName::DelaySeconds)
            .send()
            .await
            .with_context(|| format!("read the depth of queue {url}"))?;
        depth(&answer.attributes.unwrap_or_default(), horizon_secs)
            .with_context(|| format!("read the depth of queue {url}"))
    }
}

impl DepthSource for SqsQueues {
    async fn depth(&mut self, horizon_secs: f64) -> anyhow::Result<QueueDepth> {
        let mut total = QueueDepth { delayed_due: Some(0), ..QueueDepth::default() };
        for url in &self.urls {
            total = add(total, self.one(url, horizon_secs).await?);
        }
        Ok(total)
    }
}

/// Reads the counters from the attributes of one queue.
fn depth(attributes: &HashMap<QueueAttributeName, String>, horizon_secs: f64) -> anyhow::Result<QueueDepth> {
    let counter = |name: QueueAttributeName| {
        let text = attributes.get(&name).with_context(|| format!("the counter {} is missing", name.as_str()))?;
        text.parse::<u64>().with_context(|| format!("the counter {} is not a number: {text:?}", name.as_str()))
    };
    let delayed = counter(QueueAttributeName::ApproximateNumberOfMessagesDelayed)?;
    let delay_secs = attributes.get(&QueueAttributeName::DelaySeconds).and_then(|text| text.parse::<f64>().ok());
    Ok(QueueDepth {
        visible: counter(QueueAttributeName::ApproximateNumberOfMessages)?,
        in_flight: counter(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)?,
        delayed,
        delayed_due: match delay_secs {
            _ if delayed == 0 => Some(0),
            // The queue's own delay: messages become visible evenly over it.
            Some(delay) if delay > 0.0 => Some((delayed as f64 * (horizon_secs / delay).min(1.0)).ceil() as u64),
            // Messages with delays of their own: nobody knows when.
            _ => None,
        },
        oldest_age_secs: None,
        oldest_receive_count: None,
    })
}

fn add(a: QueueDepth, b: QueueDepth) -> QueueDepth {
    QueueDepth {
        visible: a.visible.saturating_add(b.visible),
        in_flight: a.in_flight.saturating_add(b.in_flight),
        delayed: a.delayed.saturating_add(b.delayed),
        delayed_due: a.delayed_due.zip(b.delayed_due).map(|(a, b)| a.saturating_add(b)),
        oldest_age_secs: None,
        oldest_receive_count: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(counters: [&str; 4]) -> HashMap<QueueAttributeName, String> {
        [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
            QueueAttributeName::DelaySeconds,
        ]
        .into_iter()
        .zip(counters)
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, value.to_owned()))
        .collect()
    }

    #[test]
    fn counters_are_read() {
        let read = depth(&attributes(["7", "3", "0", "0"]), 60.0).unwrap();
        assert_eq!((read.visible, read.in_flight, read.delayed, read.delayed_due), (7, 3, 0, Some(0)));
    }

    #[test]
    fn missing_counter_is_an_error_and_named() {
        for (counters, name) in [
            (["", "3", "0", "0"], "ApproximateNumberOfMessages is missing"),
            (["7", "", "0", "0"], "ApproximateNumberOfMessagesNotVisible is missing"),
            (["7", "3", "", "0"], "ApproximateNumberOfMessagesDelayed is missing"),
            (["many", "3", "0", "0"], "is not a number"),
            (["-1", "3", "0", "0"], "is not a number"),
        ] {
            let error = format!("{:#}", depth(&attributes(counters), 60.0).unwrap_err());
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn delayed_messages_are_due_by_the_queues_own_delay() {
        assert_eq!(depth(&attributes(["0", "0", "90", "900"]), 60.0).unwrap().delayed_due, Some(6));
        assert_eq!(depth(&attributes(["0", "0", "90", "30"]), 60.0).unwrap().delayed_due, Some(90));
        assert_eq!(depth(&attributes(["0", "0", "90", "0"]), 60.0).unwrap().delayed_due, None);
    }

    #[test]
    fn unknown_part_of_a_sum_is_unknown() {
        let known = QueueDepth { delayed_due: Some(2), visible: u64::MAX, ..QueueDepth::default() };
        let unknown = QueueDepth { visible: 1, ..QueueDepth::default() };
        assert_eq!(add(known, unknown), QueueDepth { visible: u64::MAX, ..QueueDepth::default() });
    }
}
