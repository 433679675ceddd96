//! Reading how deep the queues are.

use crate::{observation::QueueDepth, timeouts::Timeouts};
use anyhow::Context;
use aws_config::SdkConfig;
use aws_sdk_sqs::{Client, types::QueueAttributeName};
use service::{
    aws::{for_queue, role::Role},
    words::chain,
};
use std::{collections::HashMap, sync::Arc};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

/// Queues asked at once.
const SIDE_BY_SIDE: usize = 16;

/// Queues named in a sentence, at most.
const MOST_NAMED: usize = 3;

/// The depths of a pool's queues, or why one could not be read.
#[derive(Debug, Default)]
pub struct Depths(pub Vec<(String, anyhow::Result<QueueDepth>)>);

impl Depths {
    /// Adds up what could be read.
    pub fn total(&self) -> Option<QueueDepth> {
        let read = self.0.iter().filter_map(|(_, depth)| depth.as_ref().ok().copied());
        read.reduce(add)
    }

    /// Says which queues could not be read, and why.
    pub fn unread(&self) -> Option<String> {
        let whys: Vec<String> = self.0.iter().filter_map(|(_, depth)| Some(chain(depth.as_ref().err()?))).collect();
        if whys.is_empty() {
            return None;
        }
        let more = whys.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let named = whys[..whys.len().min(MOST_NAMED)].join("; ");
        Some(match (whys.len(), self.0.len()) {
            (1, 1) => named,
            (some, all) => format!("{some} of {all} queues: {named}{more}"),
        })
    }
}

/// The queues of SQS.
pub struct SqsQueues {
    queues: Vec<(String, Client)>,
    timeouts: Timeouts,
}

impl SqsQueues {
    /// Names the queues, and the role that may read their counters, if it is not our own.
    pub fn new(config: &SdkConfig, urls: Vec<String>, role: Option<&Role>, timeouts: Timeouts) -> Self {
        let config = timeouts.aws(config, true);
        let config = role.map_or_else(|| config.clone(), |role| role.assumed(&config));
        let queues = urls.into_iter().map(|url| (url.clone(), Client::new(&for_queue(&config, &url)))).collect();
        Self { queues, timeouts }
    }

    /// Returns the depth of each queue, within a limit of its own. A counter that is missing is an error, never 0.
    ///
    /// `horizon_secs` is how far ahead a delayed message counts as due.
    pub async fn depths(&self, horizon_secs: f64) -> Depths {
        let free = Arc::new(Semaphore::new(SIDE_BY_SIDE));
        let limit = self.timeouts.call();
        let mut asked = JoinSet::new();
        for (place, (url, client)) in self.queues.iter().cloned().enumerate() {
            let free = Arc::clone(&free);
            asked.spawn(async move {
                let reading = timeout(limit, async {
                    let _free = free.acquire().await?;
                    read(&client, &url, horizon_secs).await
                });
                // A call has ends of its own; this one is for those that wait for their turn.
                let depth = reading.await.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {limit:.1?}")));
                let depth = depth.with_context(|| format!("read the depth of queue {url}"));
                (place, url, depth)
            });
        }
        let mut depths = asked.join_all().await;
        depths.sort_by_key(|(place, ..)| *place);
        Depths(depths.into_iter().map(|(_, url, depth)| (url, depth)).collect())
    }
}

async fn read(client: &Client, url: &str, horizon_secs: f64) -> anyhow::Result<QueueDepth> {
    let answer = client
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
        .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
        .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesDelayed)
        .attribute_names(QueueAttributeName::DelaySeconds)
        .send()
        .await?;
    depth(&answer.attributes.unwrap_or_default(), horizon_secs)
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
            // Messages have delays of their own, which are not known.
            _ => None,
        },
        ..QueueDepth::default()
    })
}

fn add(a: QueueDepth, b: QueueDepth) -> QueueDepth {
    QueueDepth {
        visible: a.visible.saturating_add(b.visible),
        in_flight: a.in_flight.saturating_add(b.in_flight),
        delayed: a.delayed.saturating_add(b.delayed),
        delayed_due: a.delayed_due.zip(b.delayed_due).map(|(a, b)| a.saturating_add(b)),
        ..QueueDepth::default()
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
    fn queue_that_cannot_be_read_is_named_and_the_others_are_counted() {
        let read = |visible| Ok(QueueDepth { visible, delayed_due: Some(0), ..QueueDepth::default() });
        let missing = |n: u32| Err(anyhow::anyhow!("there is no queue {n}"));
        let of = |depths: Vec<anyhow::Result<QueueDepth>>| {
            let depths = Depths(depths.into_iter().map(|depth| ("u".to_owned(), depth)).collect());
            (depths.total().map(|depth| depth.visible), depths.unread())
        };
        assert_eq!(of(vec![read(3), read(4)]), (Some(7), None));
        let named = "1 of 2 queues: there is no queue 1".to_owned();
        assert_eq!(of(vec![missing(1), read(4)]), (Some(4), Some(named)));
        assert_eq!(of(vec![missing(1)]), (None, Some("there is no queue 1".to_owned())));
        let (total, unread) = of((0..9).map(missing).collect());
        assert_eq!(total, None, "what nobody could read is not 0");
        assert!(unread.is_some_and(|text| text.starts_with("9 of 9 queues: ") && text.ends_with("2; and 6 more")));
    }

    #[test]
    fn unknown_part_of_a_sum_is_unknown() {
        let known = QueueDepth { delayed_due: Some(2), visible: u64::MAX, ..QueueDepth::default() };
        let unknown = QueueDepth { visible: 1, ..QueueDepth::default() };
        assert_eq!(add(known, unknown), QueueDepth { visible: u64::MAX, ..QueueDepth::default() });
    }
}
