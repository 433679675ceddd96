//! [`Queue`] over SQS.

use super::{EntryError, Message, Queue, QueueDepth, Refused};
use crate::message::Delivery;
use anyhow::{Context, bail};
use aws_sdk_sqs::{
    config::{Builder, retry::RetryConfig},
    error::{ProvideErrorMetadata, SdkError},
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
        MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
    },
};
use chrono::DateTime;
use futures_util::future::BoxFuture;
use service::aws::{
    ATTEMPT,
    sqs::{BATCH, client, in_turn, send},
    timeouts,
};
use std::{collections::HashMap, time::Duration};

/// How much longer than it waits for messages a receive may take.
const RECEIVE_GRACE: Duration = Duration::from_secs(10);

/// Message attribute that says why a message was forwarded.
pub const REASON_ATTRIBUTE: &str = "penstock-reason";

/// A queue that waiting does not make usable.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// SQS knows no such queue.
    #[error("queue {0} does not exist")]
    Missing(String),
    /// Its order and deduplication are not S3's.
    #[error("queue {0} is a FIFO queue; Penstock orders by what S3 says and needs a standard queue")]
    Fifo(String),
}

/// A queue of SQS and its dead-letter queue.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: aws_sdk_sqs::Client,
    url: String,
    /// Where failed messages go, perhaps in another region; a queue of its own, to take them out of again.
    pub dead_letters: Option<Box<Self>>,
    visibility_timeout: Duration,
}

impl SqsQueue {
    /// Returns the queue. Its dead-letter queue is the one given, else that of its redrive policy.
    ///
    /// # Errors
    /// [`Unusable`], or when SQS does not answer.
    pub async fn connect(
        config: &aws_config::SdkConfig,
        url: &str,
        dead_letter_url: Option<&str>,
        visibility_timeout: Duration,
    ) -> anyhow::Result<Self> {
        let client = client(config, url);
        let attributes = attributes(&client, url, [QueueAttributeName::All]).await?;
        if attributes.contains_key(&QueueAttributeName::FifoQueue) {
            return Err(Unusable::Fifo(url.to_owned()).into());
        }
        let dead_letters = match dead_letter_url {
            Some(dead) => Some((self::client(config, dead), dead.to_owned())),
            None => match attributes.get(&QueueAttributeName::RedrivePolicy) {
                Some(policy) => Some((client.clone(), url_of_policy(&client, policy).await?)),
                None => None,
            },
        };
        let queue = |(client, url)| Self { client, url, dead_letters: None, visibility_timeout };
        let dead_letters = dead_letters.map(|found| Box::new(queue(found)));
        Ok(Self { dead_letters, ..queue((client, url.to_owned())) })
    }

    /// Sends messages, in batches. One result a body, in order; `Ok` means it is stored.
    pub async fn send(&self, bodies: &[String]) -> Vec<anyhow::Result<()>> {
        send(&self.client, &self.url, bodies).await
    }

    async fn extend_batch(&self, handles: &[String], timeout: Duration) -> Vec<Result<(), EntryError>> {
        let entries = handles.iter().enumerate().map(|(place, handle)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(place.to_string())
                .receipt_handle(handle)
                .visibility_timeout(seconds(timeout))
                .build()
                .expect("id and handle are set")
        });
        let answer = self
            .client
            .change_message_visibility_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries.collect()))
            .customize()
            .config_override(within(self.extension()))
            .send()
            .await;
        entry_results(handles.len(), answer.map(|answer| answer.failed))
    }

    async fn delete_batch(&self, handles: &[String]) -> Vec<Result<(), EntryError>> {
        let entries = handles.iter().enumerate().map(|(place, handle)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(place.to_string())
                .receipt_handle(handle)
                .build()
                .expect("id and handle are set")
        });
        let answer = self
            .client
            .delete_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries.collect()))
            .customize()
            // The acker tries failed entries again itself; what is never deleted comes back and is recognised.
            .config_override(within(ATTEMPT).retry_config(RetryConfig::disabled()))
            .send()
            .await;
        entry_results(handles.len(), answer.map(|answer| answer.failed))
    }

    /// Returns how long one extension may take. Messages are extended at a third of the visibility timeout, so
    /// that after one without an answer there is time for others.
    fn extension(&self) -> Duration {
        (self.visibility_timeout / 6).clamp(Duration::from_secs(1), ATTEMPT)
    }
}

/// Returns what makes a call end after this long, all its tries together.
fn within(limit: Duration) -> Builder {
    Builder::default().timeout_config(timeouts(limit, limit))
}

/// Reads queue attributes.
///
/// # Errors
/// [`Unusable::Missing`], or when SQS does not answer.
pub async fn attributes(
    client: &aws_sdk_sqs::Client,
    url: &str,
    names: impl IntoIterator<Item = QueueAttributeName>,
) -> anyhow::Result<HashMap<QueueAttributeName, String>> {
    let answer = client
        .get_queue_attributes()
        .queue_url(url)
        .set_attribute_names(Some(names.into_iter().collect()))
        .send()
        .await;
    match answer {
        Ok(answer) => Ok(answer.attributes.unwrap_or_default()),
        Err(error) if is_missing(&error) => Err(Unusable::Missing(url.to_owned()).into()),
        Err(error) => Err(error).with_context(|| format!("read attributes of queue {url}")),
    }
}

/// Returns whether SQS says that it has no such queue: in the JSON protocol's word, or in that of the query protocol.
fn is_missing(error: &impl ProvideErrorMetadata) -> bool {
    matches!(error.code(), Some("QueueDoesNotExist" | "AWS.SimpleQueueService.NonExistentQueue"))
}

/// Returns the URL of the queue a redrive policy names by its ARN (`arn:aws:sqs:region:account:name`).
///
/// # Errors
/// A policy that names no queue, [`Unusable::Missing`], or when SQS does not answer.
pub async fn url_of_policy(client: &aws_sdk_sqs::Client, policy: &str) -> anyhow::Result<String> {
    let policy: serde_json::Value = serde_json::from_str(policy).context("read the redrive policy")?;
    let arn = policy["deadLetterTargetArn"].as_str().context("the redrive policy names no queue")?;
    let mut parts = arn.rsplit(':');
    let (Some(name), Some(account)) = (parts.next(), parts.next()) else {
        bail!("the redrive policy's {arn} is no queue");
    };
    let answer = client.get_queue_url().queue_name(name).queue_owner_aws_account_id(account).send().await;
    let answer = match answer {
        Err(error) if is_missing(&error) => return Err(Unusable::Missing(arn.to_owned()).into()),
        answer => answer.with_context(|| format!("look up dead-letter queue {arn}"))?,
    };
    answer.queue_url.with_context(|| format!("look up dead-letter queue {arn}"))
}

impl Queue for SqsQueue {
    fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, anyhow::Result<Vec<Message>>> {
        Box::pin(async move {
            let answer = self
                .client
                .receive_message()
                .queue_url(&self.url)
                .max_number_of_messages(i32::try_from(max.clamp(1, BATCH)).unwrap_or(1))
                .wait_time_seconds(seconds(wait))
                .visibility_timeout(seconds(self.visibility_timeout))
                .message_system_attribute_names(MessageSystemAttributeName::All)
                .message_attribute_names(REASON_ATTRIBUTE)
                .customize()
                .config_override(within(wait + RECEIVE_GRACE))
                .send()
                .await
                .with_context(|| format!("receive messages from queue {}", self.url))?;
            Ok(answer.messages.unwrap_or_default().into_iter().filter_map(message).collect())
        })
    }

    fn extend<'a>(&'a self, handles: &'a [String], timeout: Duration) -> BoxFuture<'a, Vec<Result<(), EntryError>>> {
        let batches = handles.chunks(BATCH);
        in_turn(batches.map(|batch| Box::pin(self.extend_batch(batch, timeout)) as BoxFuture<'_, _>).collect())
    }

    fn delete<'a>(&'a self, handles: &'a [String]) -> BoxFuture<'a, Vec<Result<(), EntryError>>> {
        in_turn(handles.chunks(BATCH).map(|batch| Box::pin(self.delete_batch(batch)) as BoxFuture<'_, _>).collect())
    }

    fn has_dead_letter_queue(&self) -> bool {
        self.dead_letters.is_some()
    }

    fn forward<'a>(&'a self, body: &'a str, attributes: &'a [(&'a str, String)]) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async move {
            let Self { client, url, .. } = self.dead_letters.as_deref().context("there is no dead-letter queue")?;
            let mut request = client.send_message().queue_url(url).message_body(body);
            for (name, text) in attributes {
                let value = MessageAttributeValue::builder().data_type("String").string_value(text).build();
                request = request.message_attributes(*name, value.context("build a message attribute")?);
            }
            match request.send().await {
                Ok(_) => Ok(()),
                Err(error) if is_refused(&error) => Err(anyhow::Error::new(error).context(Refused)),
                Err(error) => Err(anyhow::Error::new(error).context(format!("send to the dead-letter queue {url}"))),
            }
        })
    }

    fn depth(&self) -> BoxFuture<'_, anyhow::Result<QueueDepth>> {
        Box::pin(async move {
            use QueueAttributeName::{
                ApproximateNumberOfMessages as Visible, ApproximateNumberOfMessagesDelayed as Delayed,
                ApproximateNumberOfMessagesNotVisible as InFlight,
            };
            let found = attributes(&self.client, &self.url, [Visible, InFlight, Delayed]).await?;
            let number = |name: QueueAttributeName| {
                let text = found.get(&name).with_context(|| format!("the answer lacks {name}"))?;
                text.parse::<u64>().with_context(|| format!("{name} is {text:?}"))
            };
            Ok(QueueDepth { visible: number(Visible)?, in_flight: number(InFlight)?, delayed: number(Delayed)? })
        })
    }
}

/// Returns whether SQS says of the message itself that it does not take it: it is too long, or holds characters it
/// does not accept.
fn is_refused<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    const CODES: [&str; 4] = ["InvalidParameterValue", "InvalidMessageContents", "InvalidAttributeValue", "TooLong"];
    let code = error.code().unwrap_or_default();
    CODES.iter().any(|known| code.contains(known))
        || error.raw_response().is_some_and(|answer| answer.status().as_u16() == 413)
}

fn message(message: aws_sdk_sqs::types::Message) -> Option<Message> {
    let attributes = message.attributes.unwrap_or_default();
    let number = |name: MessageSystemAttributeName| attributes.get(&name)?.parse::<i64>().ok();
    let time = |name| number(name).and_then(DateTime::from_timestamp_millis);
    Some(Message {
        message_id: message.message_id?,
        receipt_handle: message.receipt_handle?,
        body: message.body.unwrap_or_default(),
        receive_count: number(MessageSystemAttributeName::ApproximateReceiveCount)
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(1),
        delivery: Delivery {
            sent_at: time(MessageSystemAttributeName::SentTimestamp),
            first_received_at: time(MessageSystemAttributeName::ApproximateFirstReceiveTimestamp),
        },
        reason: message.message_attributes.and_then(|mut named| named.remove(REASON_ATTRIBUTE)?.string_value),
    })
}

/// Returns one result an entry; ids are the entries' places.
fn entry_results<E>(
    n_entries: usize,
    answer: Result<Vec<BatchResultErrorEntry>, aws_sdk_sqs::error::SdkError<E>>,
) -> Vec<Result<(), EntryError>>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let failed = match answer {
        Ok(failed) => failed,
        Err(error) => {
            let text = format!("{:#}", anyhow::Error::new(error));
            return vec![Err(EntryError::Failed(text)); n_entries];
        }
    };
    let mut results = vec![Ok(()); n_entries];
    for entry in failed {
        let Some(result) = entry.id.parse::<usize>().ok().and_then(|place| results.get_mut(place)) else { continue };
        // AWS answers a stale handle with success or one of these; emulators differ.
        let stale = entry.code.contains("ReceiptHandleIsInvalid")
            || entry.code.contains("MessageNotInflight")
            || entry.code.contains("InvalidParameterValue")
            || entry.code.contains("InvalidReceiptHandle");
        *result = Err(if stale {
            EntryError::Stale
        } else {
            EntryError::Failed(format!("{}: {}", entry.code, entry.message.unwrap_or_default()))
        });
    }
    results
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}
