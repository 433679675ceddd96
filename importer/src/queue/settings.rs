//! What a queue is set to, for `check`.

use super::sqs::{attributes, url_of_policy};
use anyhow::Context;
use aws_sdk_sqs::types::QueueAttributeName;
use service::aws::sqs::client;
use std::collections::HashMap;

/// The settings of a queue that importing depends on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueSettings {
    /// How long a message is kept, in seconds.
    pub retention_secs: u64,
    /// Receives after which SQS itself moves a message to the dead-letter queue; `None` without a redrive policy.
    pub max_receive_count: Option<u32>,
    /// URL of the redrive policy's queue.
    pub dead_letter_url: Option<String>,
    /// It is a FIFO queue.
    pub fifo: bool,
}

/// Reads a queue's settings.
///
/// # Errors
/// When SQS does not answer, denies access or does not know the queue.
pub async fn read(config: &aws_config::SdkConfig, url: &str) -> anyhow::Result<QueueSettings> {
    let client = client(config, url);
    let found = attributes(&client, url, [QueueAttributeName::All]).await?;
    let mut settings = from_attributes(&found)?;
    if let Some(policy) = found.get(&QueueAttributeName::RedrivePolicy) {
        settings.dead_letter_url = Some(url_of_policy(&client, policy).await?);
    }
    Ok(settings)
}

fn from_attributes(found: &HashMap<QueueAttributeName, String>) -> anyhow::Result<QueueSettings> {
    let retention =
        found.get(&QueueAttributeName::MessageRetentionPeriod).context("the answer has no retention period")?;
    let policy = found.get(&QueueAttributeName::RedrivePolicy);
    Ok(QueueSettings {
        retention_secs: retention.parse().with_context(|| format!("the retention period is {retention:?}"))?,
        max_receive_count: policy.map(|policy| max_receive_count(policy)).transpose()?,
        dead_letter_url: None,
        fifo: found.get(&QueueAttributeName::FifoQueue).is_some_and(|fifo| fifo == "true"),
    })
}

fn max_receive_count(policy: &str) -> anyhow::Result<u32> {
    let policy: serde_json::Value = serde_json::from_str(policy).context("read the redrive policy")?;
    // AWS answers with a number; who wrote the policy may have written a text.
    let count = match &policy["maxReceiveCount"] {
        serde_json::Value::String(text) => text.parse().ok(),
        number => number.as_u64().and_then(|count| u32::try_from(count).ok()),
    };
    count.context("the redrive policy has no maxReceiveCount")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_the_attributes() {
        for (policy, expected) in [
            (r#"{"deadLetterTargetArn":"arn:aws:sqs:r:1:dlq","maxReceiveCount":5}"#, Some(5)),
            (r#"{"deadLetterTargetArn":"arn:aws:sqs:r:1:dlq","maxReceiveCount":"5"}"#, Some(5)),
            ("", None),
        ] {
            let mut found = HashMap::from([(QueueAttributeName::MessageRetentionPeriod, "60".to_owned())]);
            if !policy.is_empty() {
                found.insert(QueueAttributeName::RedrivePolicy, policy.to_owned());
            }
            let settings = from_attributes(&found).expect(policy);
            assert_eq!((settings.retention_secs, settings.max_receive_count, settings.fifo), (60, expected, false));
        }
        from_attributes(&HashMap::new()).expect_err("no retention period");
        max_receive_count("{}").expect_err("no count");
    }
}
