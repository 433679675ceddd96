//! What a failed message looks like in the dead-letter queue.

use crate::{import::Settled, message, outcome::Failure, queue::Message, route::Routed};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A text attribute, in bytes: ten of them fit beside a body of half of what SQS takes.
const MAX_ATTRIBUTE_BYTES: usize = 1024;
/// What is kept of a body that cannot be read and does not fit; escaped for JSON it may become six times as long.
const KEPT_BODY_BYTES: usize = 32 * 1024;

/// The shortest limit a queue can have for a message
/// ([SetQueueAttributes](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html)).
const MIN_MESSAGE_BYTES: usize = 1024;

/// A record that failed.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    /// The record and where it went.
    pub routed: &'a Routed,
    /// How it was settled.
    pub settled: &'a Settled,
    /// Why it failed.
    pub failure: &'a Failure,
}

/// A message for the dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The body.
    pub body: String,
    /// Names and texts.
    pub attributes: Vec<(&'static str, String)>,
}

/// Returns what to send for a failed message, the fullest first: where the queue refuses one, the next is smaller.
/// `failed` are its records that failed; none when the message cannot be read, for the reason given.
#[must_use]
pub fn dead_letters(message: &Message, failed: &[Failed<'_>], failure: &Failure) -> Vec<Vec<DeadLetter>> {
    let original = |attributes| vec![DeadLetter { body: message.body.clone(), attributes }];
    let reason = || texts([("penstock-reason", Some(failure.reason.to_string()))]);
    let full = attributes(message, failed.first(), failure);
    let mut choices = vec![original(full), original(reason()), original(Vec::new())];
    let (mut pointers, mut short) = (Vec::new(), Vec::new());
    if failed.is_empty() {
        let mut body = stub(message, failure);
        pointers.push(DeadLetter { body: body.to_string(), attributes: reason() });
        body[message::DEAD_LETTER_FIELD]["body_start"] = Value::Null;
        short.push(body.to_string());
    }
    for failed in failed {
        let body = pointer(message, failed);
        short.push(least(&body));
        pointers
            .push(DeadLetter { attributes: attributes(message, Some(failed), failed.failure), body: body.to_string() });
    }
    let bare = |body: String| DeadLetter { body, attributes: Vec::new() };
    let without_attributes = pointers.iter().map(|letter| bare(letter.body.clone())).collect();
    choices.extend([pointers, without_attributes, short.into_iter().map(bare).collect()]);
    choices
}

/// Returns what any queue takes of a pointer: its place in the ledger, and the object where that fits.
fn least(pointer: &Value) -> String {
    let field = message::DEAD_LETTER_FIELD;
    let place = json!({ "bucket": pointer["bucket"], "key": pointer["key"], field: pointer[field] }).to_string();
    if place.len() <= MIN_MESSAGE_BYTES { place } else { json!({ field: pointer[field] }).to_string() }
}

/// Returns a body that names the failed object and its row in the ledger, and that can be read when it is sent back.
fn pointer(message: &Message, failed: &Failed<'_>) -> Value {
    let mut body: Value = serde_json::from_str(&message::body_for_event(&failed.routed.record)).unwrap_or_default();
    body[message::DEAD_LETTER_FIELD] = json!({
        "object_id": failed.settled.object_id,
        "reason": <&str>::from(failed.failure.reason),
        "message_id": message.message_id,
    });
    body
}

/// Returns what is left of a message that could not be read.
fn stub(message: &Message, failure: &Failure) -> Value {
    let digest = Sha256::digest(message.body.as_bytes());
    json!({
        message::DEAD_LETTER_FIELD: {
            "reason": <&str>::from(failure.reason),
            "message_id": message.message_id,
            "body_bytes": message.body.len(),
            "body_sha256": digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "body_start": cut(&message.body, KEPT_BODY_BYTES),
        }
    })
}

/// Returns what identifies a failed message in the dead-letter queue; SQS takes ten attributes at most.
fn attributes(message: &Message, failed: Option<&Failed<'_>>, failure: &Failure) -> Vec<(&'static str, String)> {
    let pointer = failed.map(|failed| &failed.routed.record.pointer);
    texts([
        ("penstock-reason", Some(failure.reason.to_string())),
        ("penstock-error", Some(failure.error.clone())),
        ("penstock-message-id", Some(message.message_id.clone())),
        ("penstock-dataset", failed.map(|failed| failed.settled.dataset.to_string())),
        ("penstock-bucket", pointer.map(|p| p.bucket.clone())),
        ("penstock-key", pointer.map(|p| p.key.clone())),
        ("penstock-version-id", pointer.and_then(|p| p.version_id.clone())),
        ("penstock-etag", pointer.and_then(|p| p.etag.clone())),
    ])
}

fn texts(named: impl IntoIterator<Item = (&'static str, Option<String>)>) -> Vec<(&'static str, String)> {
    named.into_iter().filter_map(|(name, text)| Some((name, attribute_text(&text?)?))).collect()
}

/// Returns a text SQS accepts as an attribute: not empty, no characters XML cannot hold, at most 1 KiB.
fn attribute_text(text: &str) -> Option<String> {
    let allowed = |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    let clean: String = text.chars().filter(allowed).collect();
    Some(cut(&clean, MAX_ATTRIBUTE_BYTES).to_owned()).filter(|text| !text.is_empty())
}

/// Returns as much of the start of a text as fits.
fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::{Delivery, Parsed, parse},
        outcome::{Outcome, Reason},
        route::Route,
    };
    use std::sync::Arc;

    fn message(body: &str) -> Message {
        Message {
            message_id: "m-1".into(),
            receipt_handle: "h".into(),
            body: body.into(),
            receive_count: 1,
            delivery: Delivery::default(),
            reason: None,
        }
    }

    #[test]
    fn attribute_texts_are_what_sqs_accepts() {
        assert_eq!(attribute_text("a\0b\u{fffe}\u{1b}c"), Some("abc".into()));
        assert_eq!(attribute_text(""), None);
        assert_eq!(attribute_text(&"é".repeat(600)).map(|t| t.len()), Some(1024));
    }

    #[test]
    fn each_next_dead_letter_is_smaller_and_the_last_names_every_failed_object_so_that_it_can_be_sent_back() {
        let body = r#"{"Records": []}"#;
        let Parsed::Records(records) = parse(r#"{"bucket":"b","key":"dir/kéy","version_id":"v1","size":7}"#) else {
            panic!("a pointer")
        };
        let failure = Failure::new(Reason::Corrupt, "no magic");
        let settled = Settled::new(&"d".into(), Some(42), Outcome::Failed(failure.clone()));
        let routed = Routed { record: Arc::new(records[0].clone()), route: Route::Unrouted };
        let one = Failed { routed: &routed, settled: &settled, failure: &failure };
        let tries = dead_letters(&message(body), &[one, one], &failure);
        let shown: Vec<Vec<(&str, usize)>> =
            tries.iter().map(|try_| try_.iter().map(|l| (l.body.as_str(), l.attributes.len())).collect()).collect();
        assert_eq!(shown[..3], [[(body, 7)], [(body, 1)], [(body, 0)]]);
        assert_eq!(tries[3].len(), 2, "one for each object that failed");
        let pointer = &tries[3][0];
        assert!(pointer.body.contains(r#""object_id":42"#) && pointer.body.contains("m-1"), "{}", pointer.body);
        assert_eq!(parse(&pointer.body), Parsed::Records(records), "it is a message of ours");
        assert_eq!((tries[4][0].body.as_str(), tries[4][0].attributes.len()), (pointer.body.as_str(), 0));
        let last: Value = serde_json::from_str(&tries[5][1].body).expect("JSON");
        assert_eq!((&last["key"], &last["dead_letter"]["object_id"]), (&json!("dir/kéy"), &json!(42)));
        assert!(tries[5][1].attributes.is_empty() && last.get("version_id").is_none());
        let long = least(&json!({ "bucket": "b", "key": "k".repeat(1000), "dead_letter": { "object_id": 42 } }));
        assert_eq!(long, r#"{"dead_letter":{"object_id":42}}"#);
    }

    #[test]
    fn a_body_that_cannot_be_read_nor_sent_is_kept_in_part() {
        let body = "\u{1}é".repeat(100_000);
        let tries = dead_letters(&message(&body), &[], &Failure::new(Reason::UnreadableMessage, "not JSON"));
        let [stub] = &tries[3][..] else { panic!("one") };
        assert!(stub.body.len() < 200_000, "{}", stub.body.len());
        let value: Value = serde_json::from_str(&stub.body).expect("JSON");
        assert_eq!(value["dead_letter"]["body_bytes"], 300_000);
        assert_eq!(value["dead_letter"]["message_id"], "m-1");
        assert!(matches!(parse(&stub.body), Parsed::Unreadable(_)));
        let [least] = &tries[5][..] else { panic!("one") };
        assert!(least.body.len() < MIN_MESSAGE_BYTES && least.body.contains("body_sha256"), "{}", least.body);
    }
}
