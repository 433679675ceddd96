//! From a bucket to a queue: what a producer and the infrastructure would set up.

use super::{Account, Stored};
use crate::wait;
use anyhow::{Context as _, Result, ensure};
use aws_sdk_s3::types as s3;
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry};
use serde_json::json;
use std::{collections::BTreeMap, path::Path, time::Duration};

/// How an upload becomes a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Bucket → SNS → SQS, the event inside SNS's envelope.
    Sns,
    /// Bucket → SNS → SQS with raw delivery.
    SnsRaw,
    /// Bucket → SQS.
    Direct,
    /// Bucket → EventBridge → SQS.
    EventBridge,
    /// Not at all: the test sends the messages.
    Nowhere,
}

/// What to wire up.
#[derive(Debug, Clone)]
pub struct Options {
    /// How an upload becomes a message.
    pub route: Route,
    /// Whether the bucket keeps versions.
    pub versioned: bool,
    /// Of the queue, in seconds.
    pub visibility_timeout_secs: u32,
    /// After how many receives SQS itself gives a message to the dead-letter queue; without one there is none.
    pub max_receive_count: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { route: Route::Sns, versioned: false, visibility_timeout_secs: 30, max_receive_count: Some(10) }
    }
}

/// A bucket wired to a queue.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Whose they are.
    pub account: Account,
    /// The bucket's name.
    pub bucket: String,
    /// The queue's URL.
    pub queue_url: String,
    /// The dead-letter queue's URL.
    pub dead_letter_url: Option<String>,
}

/// A queue's three counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Waiting.
    pub visible: u64,
    /// Received and not yet deleted.
    pub in_flight: u64,
    /// Not yet to be received.
    pub delayed: u64,
}

/// A message taken from a queue by a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// SQS's id.
    pub message_id: String,
    /// The body.
    pub body: String,
    /// Its message attributes that are text or numbers.
    pub attributes: BTreeMap<String, String>,
    /// How often it was received, this time included.
    pub receive_count: u32,
}

impl Pipeline {
    pub(super) async fn create(account: Account, options: Options) -> Result<Self> {
        // Names of buckets are shared by all accounts, there as here.
        let bucket = format!("enriched-{}", account.id());
        account.create_bucket(&bucket, options.versioned).await?;
        let (queue_url, dead_letter_url) = create_queues(&account, "imports", &options).await?;
        let pipeline = Self { account, bucket, queue_url, dead_letter_url };
        pipeline.wire(options.route).await?;
        Ok(pipeline)
    }

    /// Creates another queue of this name, and one for its dead letters, over the same bucket; nothing is wired to it.
    ///
    /// # Errors
    /// When the emulator refuses.
    pub async fn another_queue(&self, name: &str, options: &Options) -> Result<Self> {
        let (queue_url, dead_letter_url) = create_queues(&self.account, name, options).await?;
        Ok(Self { queue_url, dead_letter_url, ..self.clone() })
    }

    async fn wire(&self, route: Route) -> Result<()> {
        let queue_arn = queue_arn(&self.account, &self.queue_url).await?;
        let events = [s3::Event::S3ObjectCreated, s3::Event::S3ObjectRemoved];
        let notifications = s3::NotificationConfiguration::builder();
        let notifications = match route {
            Route::Nowhere => return Ok(()),
            Route::Direct => {
                let to =
                    s3::QueueConfiguration::builder().queue_arn(queue_arn).set_events(Some(events.into())).build()?;
                notifications.queue_configurations(to)
            }
            Route::Sns | Route::SnsRaw => {
                let topic_arn = self.topic("uploads", route == Route::SnsRaw).await?;
                let to =
                    s3::TopicConfiguration::builder().topic_arn(topic_arn).set_events(Some(events.into())).build()?;
                notifications.topic_configurations(to)
            }
            Route::EventBridge => {
                let pattern = json!({"source": ["aws.s3"], "detail": {"bucket": {"name": [self.bucket]}}});
                let rule = json!({"Name": "uploads", "EventPattern": pattern.to_string()});
                self.account.event_bridge("PutRule", rule).await?;
                let target = json!({"Rule": "uploads", "Targets": [{"Id": "queue", "Arn": queue_arn}]});
                self.account.event_bridge("PutTargets", target).await?;
                notifications.event_bridge_configuration(s3::EventBridgeConfiguration::builder().build())
            }
        };
        let put = self.account.s3.put_bucket_notification_configuration().bucket(&self.bucket);
        put.notification_configuration(notifications.build()).send().await.context("put bucket notifications")?;
        Ok(())
    }

    /// Creates a topic whose messages come to the queue, as they are or in SNS's envelope; returns its ARN.
    ///
    /// # Errors
    /// When the emulator refuses.
    pub async fn topic(&self, name: &str, raw: bool) -> Result<String> {
        let queue_arn = queue_arn(&self.account, &self.queue_url).await?;
        let topic = self.account.sns.create_topic().name(name).send().await.context("create topic")?;
        let topic_arn = topic.topic_arn.context("the new topic has no ARN")?;
        let mut subscription = self.account.sns.subscribe().topic_arn(&topic_arn).protocol("sqs").endpoint(queue_arn);
        if raw {
            subscription = subscription.attributes("RawMessageDelivery", "true");
        }
        subscription.send().await.context("subscribe the queue")?;
        Ok(topic_arn)
    }

    /// Puts an object into the bucket.
    ///
    /// # Errors
    /// When the emulator refuses.
    pub async fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) -> Result<Stored> {
        self.account.put(&self.bucket, key, bytes).await
    }

    /// Puts a file's content into the bucket.
    ///
    /// # Errors
    /// When the file cannot be read or the emulator refuses.
    pub async fn put_file(&self, key: &str, file: &Path) -> Result<Stored> {
        self.account.put_file(&self.bucket, key, file).await
    }

    /// Deletes an object from the bucket.
    ///
    /// # Errors
    /// When the emulator refuses.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.account.delete(&self.bucket, key).await
    }

    /// Sends a message as it is; returns its id.
    ///
    /// # Errors
    /// When the emulator refuses.
    pub async fn send(&self, body: impl Into<String>) -> Result<String> {
        let sent = self.account.sqs.send_message().queue_url(&self.queue_url).message_body(body).send().await?;
        sent.message_id.context("the sent message has no id")
    }

    /// Sends many messages, ten a call.
    ///
    /// # Errors
    /// When the emulator refuses one.
    pub async fn send_all(&self, bodies: &[String]) -> Result<()> {
        for bodies in bodies.chunks(10) {
            let entries = bodies.iter().enumerate().map(|(index, body)| {
                SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(body).build()
            });
            let entries = entries.collect::<Result<Vec<_>, _>>()?;
            let batch = self.account.sqs.send_message_batch().queue_url(&self.queue_url).set_entries(Some(entries));
            let sent = batch.send().await.context("send messages")?;
            ensure!(sent.failed.is_empty(), "{} messages were not taken", sent.failed.len());
        }
        Ok(())
    }

    /// Returns the queue's counters.
    ///
    /// # Errors
    /// When the emulator refuses.
    pub async fn depth(&self) -> Result<Depth> {
        depth(&self.account, &self.queue_url).await
    }

    /// Returns the dead-letter queue's counters.
    ///
    /// # Errors
    /// When there is none, or the emulator refuses.
    pub async fn dead_letter_depth(&self) -> Result<Depth> {
        depth(&self.account, self.dead_letters_url()?).await
    }

    /// Waits until that many messages are visible, and no fewer or more.
    ///
    /// # Errors
    /// When they do not come within `limit`.
    pub async fn wait_for_visible(&self, count: u64, limit: Duration) -> Result<()> {
        wait::until(&format!("{count} visible messages"), limit, || async {
            Ok((self.depth().await?.visible == count).then_some(()))
        })
        .await
    }

    /// Waits until the queue holds nothing, not even in flight.
    ///
    /// # Errors
    /// When that does not happen within `limit`.
    pub async fn wait_until_empty(&self, limit: Duration) -> Result<()> {
        wait::until("an empty queue", limit, || async { Ok((self.depth().await? == Depth::default()).then_some(())) })
            .await
    }

    /// Takes every visible message from the queue for good.
    ///
    /// # Errors
    /// When the emulator refuses.
    pub async fn take_all(&self) -> Result<Vec<Received>> {
        take_all(&self.account, &self.queue_url).await
    }

    /// Takes every visible message from the dead-letter queue for good.
    ///
    /// # Errors
    /// When there is none, or the emulator refuses.
    pub async fn take_dead_letters(&self) -> Result<Vec<Received>> {
        take_all(&self.account, self.dead_letters_url()?).await
    }

    /// Empties the queue.
    ///
    /// # Errors
    /// When the emulator refuses.
    pub async fn purge(&self) -> Result<()> {
        self.account.sqs.purge_queue().queue_url(&self.queue_url).send().await.context("purge queue")?;
        Ok(())
    }

    fn dead_letters_url(&self) -> Result<&str> {
        self.dead_letter_url.as_deref().context("this pipeline has no dead-letter queue")
    }
}

/// Creates a queue and, where there is to be one, the queue of its dead letters; returns their URLs.
async fn create_queues(account: &Account, name: &str, options: &Options) -> Result<(String, Option<String>)> {
    let mut attributes = vec![(QueueAttributeName::VisibilityTimeout, options.visibility_timeout_secs.to_string())];
    let mut dead_letter_url = None;
    if let Some(max_receive_count) = options.max_receive_count {
        let dead = create_queue(account, &format!("{name}-dead"), &[]).await?;
        let target = queue_arn(account, &dead).await?;
        let policy = json!({"deadLetterTargetArn": target, "maxReceiveCount": max_receive_count});
        attributes.push((QueueAttributeName::RedrivePolicy, policy.to_string()));
        dead_letter_url = Some(dead);
    }
    Ok((create_queue(account, name, &attributes).await?, dead_letter_url))
}

async fn create_queue(account: &Account, name: &str, attributes: &[(QueueAttributeName, String)]) -> Result<String> {
    let mut create = account.sqs.create_queue().queue_name(name);
    for (name, value) in attributes {
        create = create.attributes(name.clone(), value);
    }
    let created = create.send().await.with_context(|| format!("create queue {name}"))?;
    created.queue_url.context("the new queue has no URL")
}

async fn queue_arn(account: &Account, url: &str) -> Result<String> {
    attribute(account, url, QueueAttributeName::QueueArn).await
}

async fn attribute(account: &Account, url: &str, name: QueueAttributeName) -> Result<String> {
    let asked = account.sqs.get_queue_attributes().queue_url(url).attribute_names(name.clone()).send().await?;
    let value = asked.attributes.and_then(|mut all| all.remove(&name));
    value.with_context(|| format!("the queue has no {name}"))
}

async fn depth(account: &Account, url: &str) -> Result<Depth> {
    let names = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let asked =
        account.sqs.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec())).send().await?;
    let attributes = asked.attributes.unwrap_or_default();
    let counter = |name: &QueueAttributeName| -> Result<u64> {
        Ok(attributes.get(name).with_context(|| format!("the queue has no {name}"))?.parse()?)
    };
    let [visible, in_flight, delayed] = &names;
    Ok(Depth { visible: counter(visible)?, in_flight: counter(in_flight)?, delayed: counter(delayed)? })
}

async fn take_all(account: &Account, url: &str) -> Result<Vec<Received>> {
    let mut taken = Vec::new();
    loop {
        let receive = account.sqs.receive_message().queue_url(url).max_number_of_messages(10);
        let receive = receive.message_attribute_names("All");
        let receive = receive.message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        let received = receive.send().await?.messages.unwrap_or_default();
        if received.is_empty() {
            return Ok(taken);
        }
        for message in received {
            let handle = message.receipt_handle.context("a message has no receipt handle")?;
            account.sqs.delete_message().queue_url(url).receipt_handle(handle).send().await?;
            let count =
                message.attributes.and_then(|mut all| all.remove(&MessageSystemAttributeName::ApproximateReceiveCount));
            let attributes = message.message_attributes.unwrap_or_default().into_iter();
            taken.push(Received {
                message_id: message.message_id.unwrap_or_default(),
                body: message.body.unwrap_or_default(),
                attributes: attributes.filter_map(|(name, value)| Some((name, value.string_value?))).collect(),
                receive_count: count.and_then(|count| count.parse().ok()).unwrap_or_default(),
            });
        }
    }
}
