//! The targets of what is due.

use super::{Deliver, Item};
use crate::aws::{
    notify,
    role::Role,
    sqs::{self, in_turn},
};
use crate::words::chain;
use aws_config::SdkConfig;
use futures_util::future::BoxFuture;
use std::collections::HashMap;

/// Reaches the targets over AWS.
#[derive(Debug, Clone)]
pub struct Targets {
    config: SdkConfig,
    /// Those of queues that are reached by a role, by their URLs.
    roles: HashMap<String, SdkConfig>,
}

/// What a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The URL of an SQS queue.
    Queue,
    /// The ARN of an SNS topic.
    Topic,
    /// The ARN of an EventBridge bus.
    Bus,
}

impl Place {
    /// Reads a URL or an ARN.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        if text.starts_with("https://") || text.starts_with("http://") {
            return Some(Self::Queue);
        }
        let mut parts = text.strip_prefix("arn:")?.split(':').skip(1);
        match (parts.next()?, parts.nth(2)?) {
            ("sns", _) => Some(Self::Topic),
            ("events", resource) if resource.starts_with("event-bus/") => Some(Self::Bus),
            _ => None,
        }
    }
}

impl Targets {
    /// Returns what reaches the targets with this configuration.
    #[must_use]
    pub fn new(config: SdkConfig) -> Self {
        Self { config, roles: HashMap::new() }
    }

    /// Makes the calls to a queue as a role.
    #[must_use]
    pub fn with_role(mut self, queue_url: &str, role: &Role) -> Self {
        self.roles.insert(queue_url.to_owned(), role.assumed(&self.config));
        self
    }

    async fn send_all<'a>(&'a self, place: &'a str, items: &'a [Item]) -> Vec<Result<(), String>> {
        let results = match Place::of(place) {
            Some(Place::Queue) => {
                let bodies: Vec<String> = items.iter().map(|item| item.body.clone()).collect();
                let config = self.roles.get(place).unwrap_or(&self.config);
                sqs::send(&sqs::client(config, place), place, &bodies).await
            }
            Some(Place::Topic) => {
                in_turn(items.iter().map(|item| one(notify::publish(&self.config, place, &item.body))).collect()).await
            }
            Some(Place::Bus) => {
                let put = |item: &'a Item| {
                    one(notify::put_event(&self.config, place, item.event.as_deref().unwrap_or_default(), &item.body))
                };
                in_turn(items.iter().map(put).collect()).await
            }
            None => items
                .iter()
                .map(|_| {
                    Err(anyhow::anyhow!("{place} is neither a queue's URL nor the ARN of a topic or an event bus"))
                })
                .collect(),
        };
        results.into_iter().map(|result| result.map_err(|error| chain(&error))).collect()
    }
}

impl Deliver for Targets {
    fn send<'a>(&'a self, place: &'a str, items: &'a [Item]) -> BoxFuture<'a, Vec<Result<(), String>>> {
        Box::pin(self.send_all(place, items))
    }
}

/// Makes a call about one item one of [`in_turn`]'s.
fn one<'a>(call: impl Future<Output = anyhow::Result<()>> + Send + 'a) -> BoxFuture<'a, Vec<anyhow::Result<()>>> {
    Box::pin(async { vec![call.await] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_queues_topics_and_event_buses() {
        for (text, expected) in [
            ("https://sqs.eu-west-1.amazonaws.com/1/q", Some(Place::Queue)),
            ("http://127.0.0.1:4566/1/q", Some(Place::Queue)),
            ("arn:aws:sns:eu-west-1:123456789012:imports", Some(Place::Topic)),
            ("arn:aws-cn:sns:cn-north-1:123456789012:imports", Some(Place::Topic)),
            ("arn:aws:events:eu-west-1:123456789012:event-bus/ops", Some(Place::Bus)),
            ("arn:aws:events:eu-west-1:123456789012:rule/ops", None),
            ("arn:aws:sqs:eu-west-1:123456789012:q", None),
            ("arn:aws:sns", None),
            ("imports", None),
        ] {
            assert_eq!(Place::of(text), expected, "{text}");
        }
    }
}
