//! From a message's body to the objects it points at.
//!
//! Pure: every envelope is detected from the body alone, and any text whatever gives an
//! answer. Keys are decoded here, once, by the rule of the envelope they came in.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use std::fmt;

/// What a body says.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// One or more objects, in the order they were named.
    Records(Vec<Record>),
    /// S3's greeting when a notification is set up; there is nothing to do.
    TestEvent,
    /// None of the envelopes; the text says why, without quoting the body.
    Unreadable(String),
}

/// One event about one object.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What happened to the object.
    pub kind: RecordKind,
    /// The object.
    pub pointer: ObjectPointer,
    /// When it happened, by the sender's clock; for people, never for ordering.
    pub event_time: Option<DateTime<Utc>>,
    /// Why it is to be imported even if this version already stands.
    pub anew: Option<Anew>,
    /// The dataset it is for, whatever it matches.
    pub dataset: Option<String>,
    /// The dataset that sent it on, whose captures it has.
    pub after: Option<String>,
    /// When the message came that it was in.
    pub delivery: Delivery,
}

/// When a message came, by its queue's clock; for people. Nothing where there was no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivery {
    /// When it was sent.
    pub sent_at: Option<DateTime<Utc>>,
    /// When it was received for the first time, by whomever.
    pub first_received_at: Option<DateTime<Utc>>,
}

impl Record {
    /// Returns the recipe that its object is to be made anew by.
    #[must_use]
    pub fn asked_recipe(&self) -> Option<&str> {
        match &self.anew {
            Some(Anew::Recipe(recipe)) => Some(recipe),
            Some(Anew::Forced | Anew::Refresh) | None => None,
        }
    }

    /// Returns a record that asks for the import of an object.
    #[must_use]
    pub fn created(pointer: ObjectPointer) -> Self {
        let delivery = Delivery::default();
        Self { kind: RecordKind::Created, pointer, event_time: None, anew: None, dataset: None, after: None, delivery }
    }
}

/// Why a version is imported although it stands already; never although a newer one does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anew {
    /// A forced replay.
    Forced,
    /// Unless its rows are by this recipe. A worker whose configuration makes another leaves it alone.
    Recipe(String),
    /// As long as it waits for keys of other tables: some have arrived, or it is time to look.
    Refresh,
}

/// What an event says happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordKind {
    /// The object is there to be read: written, copied, restored, or named by one of our own pointers.
    Created,
    /// A version of the object, or its current version, is gone.
    Removed {
        /// A lifecycle rule did it, not a person or program.
        by_lifecycle: bool,
        /// Nothing was destroyed: a delete marker became the newest version.
        delete_marker: bool,
    },
    /// An event that changes no content (tags, access, replication, …), by its name.
    Other(String),
    /// An S3 event of a major version this parser does not know.
    UnsupportedVersion(String),
}

/// An object as a message names it. Empty texts and the version id `null` are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ObjectPointer {
    /// Bucket name, or `file` for a local file.
    pub bucket: String,
    /// The key as S3 has it, decoded; a local file's absolute path.
    pub key: String,
    /// Version id in a versioned bucket.
    pub version_id: Option<String>,
    /// ETag without quotes.
    pub etag: Option<String>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// S3's sequencer, comparable within one key.
    pub sequencer: Option<String>,
}

/// The bucket under which local files are kept in the ledger.
pub const LOCAL_BUCKET: &str = "file";

/// S3's own bound. The ledger's unique indexes rely on it: a btree entry holds about 2,700 bytes.
const MAX_KEY_BYTES: usize = 1024;

/// Bound for every other text of a pointer, for the same reason.
const MAX_FIELD_BYTES: usize = 512;

/// Digits of a sequencer; with fewer, one that S3 may send some day would not be believed.
const MAX_SEQUENCER_DIGITS: usize = 64;

impl ObjectPointer {
    /// Returns a pointer to the object as it is now.
    #[must_use]
    pub fn new(bucket: impl Into<String>, key: impl Into<String>) -> Self {
        Self { bucket: bucket.into(), key: key.into(), ..Self::default() }
    }

    /// Returns whether this is a local file rather than an object in a bucket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.bucket == LOCAL_BUCKET && self.key.starts_with('/')
    }
}

impl fmt::Display for ObjectPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_local() { write!(f, "file://{}", self.key) } else { write!(f, "s3://{}/{}", self.bucket, self.key) }
    }
}

/// Reads a message body.
///
/// One record that cannot be read makes the whole body unreadable: a message is deleted
/// when all of its records are safe, and that could not be told of that one.
#[must_use]
pub fn parse(body: &str) -> Parsed {
    read_body(body, Inside::Queue).unwrap_or_else(Parsed::Unreadable)
}

/// Returns the body of our own pointer to a record's object, for `replay` and `reconcile`.
#[must_use]
pub fn pointer_body(record: &Record) -> String {
    let ObjectPointer { bucket, key, version_id, etag, size, sequencer } = &record.pointer;
    let mut body = Map::new();
    body.insert("bucket".into(), json!(bucket));
    body.insert("key".into(), json!(key));
    let recipe = record.asked_recipe().map(str::to_owned);
    for (name, text) in [
        ("version_id", version_id),
        ("etag", etag),
        ("sequencer", sequencer),
        ("dataset", &record.dataset),
        ("after", &record.after),
        ("recipe", &recipe),
    ] {
        if let Some(text) = text {
            body.insert(name.into(), json!(text));
        }
    }
    if let Some(size) = size {
        body.insert("size".into(), json!(size));
    }
    for (name, is_so) in [
        ("force", record.anew == Some(Anew::Forced)),
        ("refresh", record.anew == Some(Anew::Refresh)),
        ("removed", matches!(record.kind, RecordKind::Removed { .. })),
    ] {
        if is_so {
            body.insert(name.into(), json!(true));
        }
    }
    Value::Object(body).to_string()
}

/// Returns the body of a pointer that asks for what an event asked for. The version of a delete marker is the marker's
/// own, which no row came from.
#[must_use]
pub fn body_for_event(record: &Record) -> String {
    let mut record = record.clone();
    if matches!(record.kind, RecordKind::Removed { delete_marker: true, .. }) {
        record.pointer.version_id = None;
    }
    pointer_body(&record)
}

/// Where a body was found; SNS does not wrap twice.
#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Queue,
    Sns,
}

type Reading<T> = Result<T, String>;

fn read_body(body: &str, inside: Inside) -> Reading<Parsed> {
    // A key may end in spaces, but a line feed after a bare URI is somebody's `echo`.
    let text = body.trim_start().trim_end_matches(['\r', '\n']);
    if text.starts_with("s3://") {
        return Ok(Parsed::Records(vec![bare_pointer(text)?]));
    }
    // Not the parser's own message: it may quote the body.
    let value: Value = serde_json::from_str(text).map_err(|error| {
        format!("not JSON and not an s3:// address (line {}, column {})", error.line(), error.column())
    })?;
    let Value::Object(object) = value else { return Err("JSON, but not an object".into()) };
    read_object(&object, inside)
}

fn read_object(object: &Map<String, Value>, inside: Inside) -> Reading<Parsed> {
    if let Some(records) = object.get("Records") {
        return s3_event(records);
    }
    if text_of(object, "Event").is_some_and(|event| event == "s3:TestEvent") {
        return Ok(Parsed::TestEvent);
    }
    if object.contains_key("Type") && (object.contains_key("TopicArn") || object.contains_key("Message")) {
        return sns_message(object, inside);
    }
    if object.contains_key("detail-type") {
        return event_bridge(object).map(|record| Parsed::Records(vec![record]));
    }
    if object.contains_key("bucket") && object.contains_key("key") {
        return own_pointer(object).map(|record| Parsed::Records(vec![record]));
    }
    Err("JSON of no known shape".into())
}

fn sns_message(object: &Map<String, Value>, inside: Inside) -> Reading<Parsed> {
    if text_of(object, "Type") != Some("Notification") {
        return Err("SNS message that is not a notification".into());
    }
    if inside == Inside::Sns {
        return Err("SNS notification inside an SNS notification".into());
    }
    let message = text_of(object, "Message").ok_or("SNS notification without a message text")?;
    read_body(message, Inside::Sns).map_err(|reason| format!("SNS notification whose message is unreadable: {reason}"))
}

fn s3_event(records: &Value) -> Reading<Parsed> {
    let Some(records) = records.as_array() else { return Err("Records is not a list".into()) };
    if records.is_empty() {
        return Err("Records is empty".into());
    }
    let read = |(index, record)| s3_record(record).map_err(|reason| format!("record {}: {reason}", index + 1));
    Ok(Parsed::Records(records.iter().enumerate().map(read).collect::<Reading<_>>()?))
}

fn s3_record(record: &Value) -> Reading<Record> {
    let version = required_text(record, "eventVersion")?;
    let event_name = required_text(record, "eventName")?;
    let s3 = record.get("s3").ok_or("no s3")?;
    let bucket = required_text(s3.get("bucket").ok_or("no s3.bucket")?, "name")?;
    let object = s3.get("object").ok_or("no s3.object")?;
    let pointer = pointer(bucket, object, form_decode, ["versionId", "eTag"])?;
    let kind = match version.split('.').next().map(str::parse::<u32>) {
        Some(Ok(2)) => s3_event_kind(event_name),
        _ => RecordKind::UnsupportedVersion(bounded(version, "eventVersion", MAX_FIELD_BYTES)?),
    };
    Ok(Record { kind, event_time: record.get("eventTime").and_then(rfc3339), ..Record::created(pointer) })
}

/// S3 sends names without the `s3:` its configuration has; some compatible stores send it.
fn s3_event_kind(event_name: &str) -> RecordKind {
    let event_name = event_name.strip_prefix("s3:").unwrap_or(event_name);
    let (family, action) = event_name.split_once(':').unwrap_or((event_name, ""));
    let delete_marker = action == "DeleteMarkerCreated";
    match (family, action) {
        ("ObjectCreated", _) | ("ObjectRestore", "Completed") => RecordKind::Created,
        ("ObjectRemoved", _) => RecordKind::Removed { by_lifecycle: false, delete_marker },
        ("LifecycleExpiration", _) => RecordKind::Removed { by_lifecycle: true, delete_marker },
        _ => other_event(event_name),
    }
}

/// Keeps an event's name fit for the ledger and a log line.
fn other_event(name: &str) -> RecordKind {
    RecordKind::Other(name.chars().filter(|c| !c.is_control()).take(100).collect())
}

/// EventBridge does not encode the key.
fn event_bridge(event: &Map<String, Value>) -> Reading<Record> {
    let detail_type = text_of(event, "detail-type").ok_or("detail-type is not a text")?;
    let detail = event.get("detail").ok_or("EventBridge event without detail")?;
    let bucket = required_text(detail.get("bucket").ok_or("no detail.bucket")?, "name")?;
    let object = detail.get("object").ok_or("no detail.object")?;
    let pointer = pointer(bucket, object, |key| Ok(key.to_owned()), ["version-id", "etag"])?;
    let says = |name: &str, text: &str| detail.get(name).and_then(Value::as_str) == Some(text);
    let kind = match detail_type {
        "Object Created" | "Object Restore Completed" => RecordKind::Created,
        "Object Deleted" => RecordKind::Removed {
            by_lifecycle: says("reason", "Lifecycle Expiration"),
            delete_marker: says("deletion-type", "Delete Marker Created"),
        },
        other => other_event(other),
    };
    Ok(Record { kind, event_time: event.get("time").and_then(rfc3339), ..Record::created(pointer) })
}

/// Field of a pointer that tells what became of an earlier message about the object; it is not read.
pub const DEAD_LETTER_FIELD: &str = "dead_letter";

/// A field we do not know is refused: a misspelt `version_id` would read another version in silence.
fn own_pointer(object: &Map<String, Value>) -> Reading<Record> {
    const FIELDS: [&str; 12] = [
        "bucket",
        "key",
        "version_id",
        "etag",
        "size",
        "sequencer",
        "force",
        "removed",
        "dataset",
        "after",
        "recipe",
        "refresh",
    ];
    if object.keys().any(|name| !FIELDS.contains(&name.as_str()) && name != DEAD_LETTER_FIELD) {
        return Err(format!("pointer with a field that is none of {}", FIELDS.join(", ")));
    }
    let is_so = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(is_so)) => Ok(*is_so),
        Some(_) => Err(format!("{name} is not true or false")),
    };
    let (force, refresh, removed) = (is_so("force")?, is_so("refresh")?, is_so("removed")?);
    let object = &Value::Object(object.clone());
    let pointer = pointer(required_text(object, "bucket")?, object, |key| Ok(key.to_owned()), ["version_id", "etag"])?;
    let kind = match removed {
        true => RecordKind::Removed { by_lifecycle: false, delete_marker: false },
        false => RecordKind::Created,
    };
    let (dataset, after) = (optional_text(object, "dataset")?, optional_text(object, "after")?);
    let anew = match (force, optional_text(object, "recipe")?, refresh) {
        (false, None, false) => None,
        (true, None, false) => Some(Anew::Forced),
        (false, Some(recipe), false) => Some(Anew::Recipe(recipe)),
        (false, None, true) => Some(Anew::Refresh),
        _ => return Err("more than one of force, recipe and refresh".into()),
    };
    Ok(Record { kind, anew, dataset, after, ..Record::created(pointer) })
}

fn bare_pointer(uri: &str) -> Reading<Record> {
    let (bucket, key) =
        uri.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).ok_or("s3:// address without a key")?;
    let pointer = ObjectPointer::new(bounded(bucket, "bucket", MAX_FIELD_BYTES)?, bounded(key, "key", MAX_KEY_BYTES)?);
    Ok(Record::created(pointer))
}

/// Reads what names an object; the version's id and the ETag have names of their own in each kind of message.
fn pointer(
    bucket: &str,
    object: &Value,
    read_key: impl Fn(&str) -> Reading<String>,
    [version_id_name, etag_name]: [&str; 2],
) -> Reading<ObjectPointer> {
    Ok(ObjectPointer {
        bucket: bounded(bucket, "bucket", MAX_FIELD_BYTES)?,
        key: bounded(&read_key(required_text(object, "key")?)?, "key", MAX_KEY_BYTES)?,
        version_id: version_id(object, version_id_name)?,
        etag: etag(object, etag_name)?,
        size: size(object)?,
        sequencer: sequencer(object)?,
    })
}

/// Undoes form encoding: `+` is a space, `%XX` a byte. A `%` that starts no pair stands for itself.
fn form_decode(key: &str) -> Reading<String> {
    let spaced = key.replace('+', " ");
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(&spaced).collect();
    String::from_utf8(bytes).map_err(|_| "key is not UTF-8 after decoding".into())
}

/// Checks a text that goes into the ledger.
fn bounded(text: &str, name: &str, max_bytes: usize) -> Reading<String> {
    if text.is_empty() {
        return Err(format!("{name} is empty"));
    }
    if text.contains('\0') {
        return Err(format!("{name} contains U+0000"));
    }
    if text.len() > max_bytes {
        return Err(format!("{name} is longer than {max_bytes} bytes"));
    }
    Ok(text.to_owned())
}

fn text_of<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v str> {
    object.get(name).and_then(Value::as_str)
}

fn required_text<'v>(object: &'v Value, name: &str) -> Reading<&'v str> {
    object.get(name).and_then(Value::as_str).ok_or_else(|| format!("{name} is missing or not a text"))
}

fn optional_text(object: &Value, name: &str) -> Reading<Option<String>> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => bounded(text, name, MAX_FIELD_BYTES).map(Some),
        Some(_) => Err(format!("{name} is not a text")),
    }
}

/// Buckets that were never versioned, or no longer are, say `null`.
fn version_id(object: &Value, name: &str) -> Reading<Option<String>> {
    Ok(optional_text(object, name)?.filter(|id| id != "null"))
}

fn etag(object: &Value, name: &str) -> Reading<Option<String>> {
    let quoted = optional_text(object, name)?;
    Ok(quoted.map(|etag| etag.trim_matches('"').to_owned()).filter(|etag| !etag.is_empty()))
}

/// S3's are 16 to about 40 hexadecimal digits. Others would be older or newer than all of them, whatever it
/// stands for, so it counts as absent: then Last-Modified decides.
fn sequencer(object: &Value) -> Reading<Option<String>> {
    let said = optional_text(object, "sequencer")?;
    Ok(said.filter(|text| text.len() <= MAX_SEQUENCER_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())))
}

fn size(object: &Value) -> Reading<Option<u64>> {
    match object.get("size") {
        None | Some(Value::Null) => Ok(None),
        // The ledger's column is a bigint.
        Some(size) => match size.as_u64().filter(|size| i64::try_from(*size).is_ok()) {
            Some(size) => Ok(Some(size)),
            None => Err("size is not a whole number of bytes".into()),
        },
    }
}

/// A time that cannot be read is no time: nothing but the ledger's `event_time` column depends on it.
fn rfc3339(value: &Value) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(value.as_str()?).ok().map(|time| time.to_utc())
}

#[cfg(test)]
mod tests;
