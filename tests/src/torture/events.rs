//! Messages as S3, SNS, EventBridge and our own commands write them.

use super::plan::{Envelope, Message, Plan};
use crate::aws::Stored;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// What an act left in the bucket.
#[derive(Debug, Clone)]
pub struct Done {
    /// ETag and version id; of a delete, the delete marker's.
    pub stored: Stored,
    /// Bytes put.
    pub size: usize,
}

/// Returns the body of a message.
///
/// # Errors
/// When it speaks of an act that has not happened.
pub fn body(plan: &Plan, bucket: &str, done: &[Option<Done>], message: &Message) -> Result<String> {
    let happened = |act: usize| done[act].as_ref().with_context(|| format!("act {act} has not happened"));
    let key = |act: usize| &plan.keys[plan.acts[act].key].name;
    Ok(match message {
        Message::Acts(acts, Envelope::EventBridge) => {
            let act = acts[0];
            event_bridge(bucket, key(act), act, happened(act)?, plan.content(act).is_some()).to_string()
        }
        Message::Acts(acts, Envelope::Pointer) => {
            let act = acts[0];
            pointer(bucket, key(act), act, happened(act)?).to_string()
        }
        Message::Acts(acts, envelope) => {
            let records = acts
                .iter()
                .map(|act| Ok(s3_record(bucket, key(*act), *act, happened(*act)?, plan.content(*act).is_some())));
            let event = json!({"Records": records.collect::<Result<Vec<_>>>()?}).to_string();
            if *envelope == Envelope::Sns {
                json!({"Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:0:uploads", "Message": event})
                    .to_string()
            } else {
                event
            }
        }
        Message::Bare(act) => format!("s3://{bucket}/{}", key(*act)),
        Message::Unreadable(number) => json!({"torture": number}).to_string(),
        Message::Unrouted(number) => format!("s3://{bucket}/elsewhere/{number}"),
        Message::Skipped(number) => format!("s3://{bucket}/newest/{number}/_SUCCESS"),
        Message::TestEvent => json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": bucket}).to_string(),
    })
}

/// Grows with the act, as S3's grow with the order of writes to a key.
fn sequencer(act: usize) -> String {
    format!("00655F{act:010X}")
}

fn s3_record(bucket: &str, key: &str, act: usize, done: &Done, is_put: bool) -> Value {
    let mut object = json!({"key": form_encode(key), "sequencer": sequencer(act)});
    if is_put {
        object["eTag"] = json!(done.stored.etag);
        object["size"] = json!(done.size);
    }
    if let Some(version_id) = &done.stored.version_id {
        object["versionId"] = json!(version_id);
    }
    let event_name = match (is_put, &done.stored.version_id) {
        (true, _) => "ObjectCreated:Put",
        (false, Some(_)) => "ObjectRemoved:DeleteMarkerCreated",
        (false, None) => "ObjectRemoved:Delete",
    };
    json!({
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": event_name,
        "s3": {"bucket": {"name": bucket}, "object": object},
    })
}

fn event_bridge(bucket: &str, key: &str, act: usize, done: &Done, is_put: bool) -> Value {
    let mut object = json!({"key": key, "sequencer": sequencer(act)});
    if is_put {
        object["etag"] = json!(done.stored.etag);
        object["size"] = json!(done.size);
    }
    if let Some(version_id) = &done.stored.version_id {
        object["version-id"] = json!(version_id);
    }
    let mut detail = json!({"version": "0", "bucket": {"name": bucket}, "object": object});
    if !is_put {
        let marker = done.stored.version_id.is_some();
        detail["deletion-type"] = json!(if marker { "Delete Marker Created" } else { "Permanently Deleted" });
    }
    let detail_type = if is_put { "Object Created" } else { "Object Deleted" };
    json!({"version": "0", "source": "aws.s3", "detail-type": detail_type, "detail": detail})
}

fn pointer(bucket: &str, key: &str, act: usize, done: &Done) -> Value {
    let mut pointer = json!({
        "bucket": bucket,
        "key": key,
        "etag": done.stored.etag,
        "size": done.size,
        "sequencer": sequencer(act),
    });
    if let Some(version_id) = &done.stored.version_id {
        pointer["version_id"] = json!(version_id);
    }
    pointer
}

/// Encodes a key as S3's events do: a space becomes a plus, everything but the harmless a percent pair.
fn form_encode(key: &str) -> String {
    let mut text = String::new();
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => text.push(char::from(byte)),
            b' ' => text.push('+'),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_form_encoded_as_s3_does() {
        assert_eq!(form_encode("own/1 of+day/é.csv"), "own/1+of%2Bday/%C3%A9.csv");
    }

    #[test]
    fn sequencers_grow_with_the_acts() {
        assert!(sequencer(9) < sequencer(10) && sequencer(255) < sequencer(256));
    }
}
