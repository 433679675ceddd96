//! Sending to SQS, in batches.

use super::{SilenceIsFinal, for_queue};
use crate::words::chain;
use anyhow::Context;
use aws_sdk_sqs::{config::Builder, types::SendMessageBatchRequestEntry};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};

/// Entries of a batch call: SQS's limit.
pub const BATCH: usize = 10;
/// Bytes of the bodies of a batch together, as of one body: SQS's limit.
const BATCH_BYTES: usize = 262_144;
/// Batches on their way at once, so that one without an answer does not keep the others waiting.
/// More are only more connections; fewer make a hundred batches lapse by a few silent ones.
const BATCHES_AT_ONCE: usize = 16;

/// Returns a client for the queue of this URL, in its region.
#[must_use]
pub fn client(config: &aws_config::SdkConfig, url: &str) -> aws_sdk_sqs::Client {
    let config = Builder::from(&for_queue(config, url)).retry_classifier(SilenceIsFinal).build();
    aws_sdk_sqs::Client::from_conf(config)
}

/// Sends messages, in batches. One result a body, in order; `Ok` means it is stored.
pub async fn send(client: &aws_sdk_sqs::Client, url: &str, bodies: &[String]) -> Vec<anyhow::Result<()>> {
    in_turn(batches(bodies).into_iter().map(|batch| send_batch(client, url, batch)).collect()).await
}

fn send_batch<'a>(
    client: &'a aws_sdk_sqs::Client,
    url: &'a str,
    bodies: &'a [String],
) -> BoxFuture<'a, Vec<anyhow::Result<()>>> {
    Box::pin(async move {
        let entries = bodies.iter().enumerate().map(|(place, body)| {
            SendMessageBatchRequestEntry::builder()
                .id(place.to_string())
                .message_body(body)
                .build()
                .expect("id and body are set")
        });
        let request = client.send_message_batch().queue_url(url).set_entries(Some(entries.collect()));
        let answer = request.send().await;
        let is_refused = answer.as_ref().err().and_then(|error| error.raw_response());
        if bodies.len() > 1 && is_refused.is_some_and(|answer| answer.status().is_client_error()) {
            // Refused as a whole for what may be the fault of one.
            let alone: Vec<_> = bodies.chunks(1).map(|body| send_batch(client, url, body)).collect();
            return in_turn(alone).await;
        }
        let mut results: Vec<anyhow::Result<()>> = bodies.iter().map(|_| Ok(())).collect();
        match answer {
            Ok(answer) => {
                for entry in answer.failed {
                    let Some(result) = entry.id.parse::<usize>().ok().and_then(|place| results.get_mut(place)) else {
                        continue;
                    };
                    *result = Err(anyhow::anyhow!("{}: {}", entry.code, entry.message.unwrap_or_default()));
                }
            }
            Err(error) => {
                let text = chain(&anyhow::Error::new(error));
                results = bodies.iter().map(|_| Err(anyhow::anyhow!(text.clone()))).collect();
            }
        }
        results.into_iter().map(|result| result.with_context(|| format!("send to queue {url}"))).collect()
    })
}

/// Makes the calls, several at once, and returns the results in the entries' order.
pub fn in_turn<'a, T: Send + 'a>(calls: Vec<BoxFuture<'a, Vec<T>>>) -> BoxFuture<'a, Vec<T>> {
    let answers = stream::iter(calls).buffered(BATCHES_AT_ONCE);
    Box::pin(answers.collect::<Vec<_>>().map(|results| results.into_iter().flatten().collect()))
}

/// Cuts bodies into batches that SQS takes: by their number and by their bytes together.
fn batches(bodies: &[String]) -> Vec<&[String]> {
    let mut batches = Vec::new();
    let mut rest = bodies;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(BATCH).take_while(|body| {
            bytes += body.len();
            bytes <= BATCH_BYTES
        });
        // A body too long for any batch goes alone, to be refused by name.
        let (batch, others) = rest.split_at(fits.count().max(1));
        batches.push(batch);
        rest = others;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_ten_bodies_and_what_sqs_takes_of_bytes() {
        let sizes = |lengths: &[usize]| {
            let bodies: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
            batches(&bodies).into_iter().map(<[String]>::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&[1; 25]), [10, 10, 5]);
        assert_eq!(sizes(&[BATCH_BYTES / 2; 3]), [2, 1]);
        assert_eq!(sizes(&[BATCH_BYTES / 2, BATCH_BYTES / 2 + 1, 1]), [1, 2]);
        assert_eq!(sizes(&[1, BATCH_BYTES + 1, 1]), [1, 1, 1], "one too long for any goes alone");
    }
}
