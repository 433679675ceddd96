//! What the scaler sees in one tick, and how that is read from JSON.
//!
//! Nothing unknown is ever taken for zero: a part that could not be read is
//! `None`, and the guards of the policy say what follows from that.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Everything one decision is made from, apart from the clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The workers, by what they are doing.
    pub pool: PoolSize,
    /// Why the workers could not be seen now; `pool` is then what was seen last.
    pub pool_unread: Option<String>,
    /// The queues' counters, or why none could be read.
    pub queue: Result<QueueDepth, String>,
    /// Why some of the queues are not part of `queue`.
    pub queue_unread: Option<String>,
    /// Objects finished since the observation before; `None` without a ledger to read.
    pub completions: Option<Vec<Completion>>,
    /// Messages received since the observation before.
    pub receives: Option<u64>,
    /// Those of `receives` that had been received before.
    pub redeliveries: Option<u64>,
    /// Consecutive empty long polls of the worker that has seen the fewest.
    pub last_worker_empty_polls: Option<u32>,
    /// How the database is doing.
    pub sink: Sink,
    /// Why the database could not be read.
    pub database_unread: Option<String>,
    /// Objects at once in one worker, measured; the configured figure is used without it.
    pub slots_per_worker: Option<u32>,
    /// Mean objects per message, measured; 1 without it.
    pub objects_per_message: Option<f64>,
    /// Times from request to first receive of workers that came up since the observation before.
    pub start_ups: Vec<f64>,
    /// Starts in a row that never became a worker.
    pub failed_starts: Option<u32>,
    /// The pause that was asked for last, whether or not it is over.
    pub pause: Option<Pause>,
}

impl Observation {
    /// Returns an observation of the workers and the counters; nothing else is known.
    pub fn of(pool: PoolSize, queue: Result<QueueDepth, String>) -> Self {
        Self {
            pool,
            pool_unread: None,
            queue,
            queue_unread: None,
            completions: None,
            receives: None,
            redeliveries: None,
            last_worker_empty_polls: None,
            sink: Sink::default(),
            database_unread: None,
            slots_per_worker: None,
            objects_per_message: None,
            start_ups: Vec::new(),
            failed_starts: None,
            pause: None,
        }
    }
}

/// A size at which somebody holds a pool, until a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Workers.
    pub at: u32,
    /// When it ends by itself.
    pub until: DateTime<Utc>,
    /// Who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Pause {
    /// Returns it in words: "at 4 until 2026-01-31 12:00:00 UTC".
    pub fn words(&self) -> String {
        format!("at {} until {}", self.at, self.until.format("%Y-%m-%d %H:%M:%S UTC"))
    }
}

/// The workers of a pool, by what they are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolSize {
    /// Requested, not yet receiving.
    pub starting: u32,
    /// Receiving, nothing in hand.
    pub idle: u32,
    /// Importing.
    pub busy: u32,
    /// Finishing what they have; not capacity.
    pub draining: u32,
    /// Running without a heartbeat; not capacity.
    #[serde(skip_serializing_if = "is_zero")]
    pub dead: u32,
}

impl PoolSize {
    /// Returns the workers that are, or will be, capacity.
    pub fn live(&self) -> u32 {
        self.starting.saturating_add(self.up())
    }

    /// Returns the workers that are receiving now.
    pub fn up(&self) -> u32 {
        self.idle.saturating_add(self.busy)
    }
}

/// The depth of a pool's queues, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct QueueDepth {
    /// Messages waiting to be received.
    pub visible: u64,
    /// Messages received and not yet deleted.
    pub in_flight: u64,
    /// Messages that may not be received yet.
    pub delayed: u64,
    /// Those of `delayed` that become visible before a new worker could be up, and pointers of earlier steps that will be
    /// sent by then.
    pub delayed_due: Option<u64>,
    /// Age of the oldest message, in seconds.
    pub oldest_age_secs: Option<f64>,
    /// How often that message was received.
    pub oldest_receive_count: Option<u64>,
}

/// One finished object.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Completion {
    /// When it was finished.
    pub ended_at: DateTime<Utc>,
    /// The time it took in its slot.
    pub duration_secs: f64,
    /// Whether it was imported, rather than failed.
    pub ok: bool,
}

/// How the database is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sink {
    /// Whether it takes writes at its usual speed; `None` when that is not known.
    pub healthy: Option<bool>,
    /// The server's connection limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Connections one worker holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_worker: Option<u32>,
    /// How long the scaler's own commits took lately.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_secs: Option<f64>,
}

/// A line of `decide`'s input, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The time the line speaks of.
    pub now: DateTime<Utc>,
    /// What was seen then.
    pub seen: Observation,
    /// A counter that was there but is no number: the decision holds, and the line counts as unreadable.
    pub complaint: Option<String>,
}

/// Reads a line of `decide`'s input; the error names the field.
///
/// # Errors
/// When the line is not JSON, or a field is missing or of another type; the error names it.
pub fn parse_line(text: &str) -> Result<Line, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("the line is not JSON: {e}"))?;
    let Value::Object(top) = value else { return Err("the line is not a JSON object".to_owned()) };
    let top = Fields { path: String::new(), map: &top };
    let now = top.time("now")?.ok_or("`now` is missing")?;
    let pool = top.object("pool")?.ok_or("`pool` is missing")?;
    let sink = match top.object("sink")? {
        Some(sink) => Sink {
            healthy: sink.boolean("healthy")?,
            max_connections: sink.count32("max_connections")?,
            connections_per_worker: sink.count32("connections_per_worker")?,
            commit_secs: sink.number("commit_secs")?,
        },
        None => Sink::default(),
    };
    let (queue, complaint) = match top.object("queue")? {
        Some(queue) => read_depth(&queue)?,
        None => (Err("the queue's counters could not be read".to_owned()), None),
    };
    let seen = Observation {
        pool: PoolSize {
            starting: pool.required("starting")?,
            idle: pool.required("idle")?,
            busy: pool.required("busy")?,
            draining: pool.required("draining")?,
            dead: pool.count32("dead")?.unwrap_or(0),
        },
        pool_unread: top.text("pool_unread")?,
        queue,
        queue_unread: top.text("queue_unread")?,
        completions: top.completions(now)?,
        receives: top.count("receives")?,
        redeliveries: top.count("redeliveries")?,
        last_worker_empty_polls: top.count32("last_worker_empty_polls")?,
        sink,
        database_unread: top.text("database_unread")?,
        slots_per_worker: top.count32("slots_per_worker")?.filter(|slots| *slots > 0),
        objects_per_message: top.number("objects_per_message")?,
        start_ups: top.numbers("start_ups")?,
        failed_starts: top.count32("failed_starts")?,
        pause: top.object("pause")?.map(|pause| read_pause(&pause)).transpose()?,
    };
    Ok(Line { now, seen, complaint })
}

/// Reads the counters; one that is missing or no number leaves the whole reading unknown, never zero.
fn read_depth(queue: &Fields<'_>) -> Result<(Result<QueueDepth, String>, Option<String>), String> {
    let mut counters = [0; 3];
    for (slot, name) in counters.iter_mut().zip(["visible", "in_flight", "delayed"]) {
        match queue.count(name) {
            Ok(Some(n)) => *slot = n,
            Ok(None) => return Ok((Err(format!("the counter `{}` is missing", queue.name(name))), None)),
            Err(complaint) => return Ok((Err(complaint.clone()), Some(complaint))),
        }
    }
    let depth = QueueDepth {
        visible: counters[0],
        in_flight: counters[1],
        delayed: counters[2],
        delayed_due: queue.count("delayed_due")?,
        oldest_age_secs: queue.number("oldest_age_secs")?,
        oldest_receive_count: queue.count("oldest_receive_count")?,
    };
    Ok((Ok(depth), None))
}

fn read_pause(pause: &Fields<'_>) -> Result<Pause, String> {
    let until = pause.time("until")?.ok_or_else(|| format!("`{}` is missing", pause.name("until")))?;
    Ok(Pause { at: pause.required("at")?, until, by: pause.text("by")? })
}

/// The fields of a JSON object, each absent, null, or of the right type.
struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn name(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    fn wrong(&self, field: &str, expected: &str) -> String {
        let found = self.get(field).map(short).unwrap_or_default();
        format!("`{}` is not {expected}: {found}", self.name(field))
    }

    /// Reads a field that may be absent or null.
    fn read<T>(
        &self,
        field: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        self.get(field).map(|value| read(value).ok_or_else(|| self.wrong(field, expected))).transpose()
    }

    fn object(&self, field: &str) -> Result<Option<Fields<'a>>, String> {
        let map = self.read(field, "an object", Value::as_object)?;
        Ok(map.map(|map| Fields { path: self.name(field), map }))
    }

    fn text(&self, field: &str) -> Result<Option<String>, String> {
        Ok(self.read(field, "a text", Value::as_str)?.map(str::to_owned))
    }

    fn number(&self, field: &str) -> Result<Option<f64>, String> {
        self.read(field, "a number from 0", natural)
    }

    fn numbers(&self, field: &str) -> Result<Vec<f64>, String> {
        let read = |value: &Value| value.as_array()?.iter().map(natural).collect();
        Ok(self.read(field, "a list of numbers from 0", read)?.unwrap_or_default())
    }

    fn count(&self, field: &str) -> Result<Option<u64>, String> {
        // `as` saturates, so a count beyond u64 is the largest one.
        let whole = |value: &Value| value.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0).map(|n| n as u64);
        self.read(field, "a whole number from 0", |value| value.as_u64().or_else(|| whole(value)))
    }

    fn count32(&self, field: &str) -> Result<Option<u32>, String> {
        Ok(self.count(field)?.map(|n| u32::try_from(n).unwrap_or(u32::MAX)))
    }

    fn required(&self, field: &str) -> Result<u32, String> {
        self.count32(field)?.ok_or_else(|| format!("`{}` is missing", self.name(field)))
    }

    fn boolean(&self, field: &str) -> Result<Option<bool>, String> {
        self.read(field, "true or false", Value::as_bool)
    }

    fn time(&self, field: &str) -> Result<Option<DateTime<Utc>>, String> {
        let read = |value: &Value| DateTime::parse_from_rfc3339(value.as_str()?).ok();
        Ok(self.read(field, "an RFC 3339 time", read)?.map(|time| time.with_timezone(&Utc)))
    }

    fn completions(&self, now: DateTime<Utc>) -> Result<Option<Vec<Completion>>, String> {
        let Some(items) = self.read("completions", "a list", Value::as_array)? else { return Ok(None) };
        let mut completions = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let Value::Object(map) = item else {
                return Err(format!("`completions[{i}]` is not an object: {}", short(item)));
            };
            let fields = Fields { path: format!("completions[{i}]"), map };
            completions.push(Completion {
                ended_at: fields.time("ended_at")?.unwrap_or(now),
                duration_secs: fields
                    .number("duration_secs")?
                    .ok_or_else(|| format!("`completions[{i}].duration_secs` is missing"))?,
                ok: fields.boolean("ok")?.unwrap_or(true),
            });
        }
        Ok(Some(completions))
    }
}

fn natural(value: &Value) -> Option<f64> {
    value.as_f64().filter(|n| n.is_finite() && *n >= 0.0)
}

/// Returns a value's text, cut so that an error line stays a line.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"now": "2026-01-01T00:00:00Z",
        "pool": {"starting": 0, "idle": 0, "busy": 3, "draining": 0},
        "queue": {"visible": 120, "in_flight": 30, "delayed": 0, "delayed_due": 0, "oldest_age_secs": 12.5, "oldest_receive_count": 1},
        "completions": [{"ended_at": "2025-12-31T23:59:59Z", "duration_secs": 0.8, "ok": true}],
        "receives": 14, "last_worker_empty_polls": 0, "sink": {"healthy": true}}"#;

    /// Checks the error, or the reason the counters are unknown, after one replacement in the line.
    fn check(from: &str, to: &str, expected: &str) {
        let text = LINE.replace(from, to);
        assert_ne!(text, LINE, "{from} is not in the line");
        let got = match parse_line(&text) {
            Err(error) => error,
            Ok(line) => match line.seen.queue {
                Err(why) => format!("hold: {why}"),
                Ok(_) => "read".to_owned(),
            },
        };
        assert_eq!(got, expected, "{from} -> {to}");
    }

    #[test]
    fn line_of_the_contract_is_read() {
        let line = parse_line(LINE).unwrap();
        assert_eq!(line.seen.pool.live(), 3);
        assert_eq!(line.seen.queue.as_ref().unwrap().visible, 120);
        assert_eq!(line.seen.queue.as_ref().unwrap().oldest_age_secs, Some(12.5));
        assert_eq!(line.seen.completions.as_ref().unwrap()[0].duration_secs, 0.8);
        assert_eq!(line.seen.receives, Some(14));
        assert_eq!(line.seen.sink.healthy, Some(true));
        assert_eq!(line.complaint, None);
    }

    #[test]
    fn error_names_the_field() {
        check("\"2026-01-01T00:00:00Z\"", "7", "`now` is not an RFC 3339 time: 7");
        check("\"now\"", "\"then\"", "`now` is missing");
        check("\"busy\": 3", "\"busy\": \"three\"", "`pool.busy` is not a whole number from 0: \"three\"");
        check("\"busy\": 3,", "", "`pool.busy` is missing");
        check("0.8", "-1", "`completions[0].duration_secs` is not a number from 0: -1");
        check("14", "1.5", "`receives` is not a whole number from 0: 1.5");
        check("{\"healthy\": true}", "[]", "`sink` is not an object: []");
        check("\"receives\"", "\"pause\": {\"at\": 4}, \"receives\"", "`pause.until` is missing");
        check("12.5", "\"old\"", "`queue.oldest_age_secs` is not a number from 0: \"old\"");
    }

    #[test]
    fn missing_counter_is_unknown_and_named() {
        check("\"visible\": 120, ", "", "hold: the counter `queue.visible` is missing");
        check("\"in_flight\": 30", "\"in_flight\": null", "hold: the counter `queue.in_flight` is missing");
        check("\"delayed\": 0, ", "", "hold: the counter `queue.delayed` is missing");
        check("120", "\"many\"", "hold: `queue.visible` is not a whole number from 0: \"many\"");
        check("120", "-2", "hold: `queue.visible` is not a whole number from 0: -2");
    }

    #[test]
    fn absent_optional_parts_are_unknown() {
        let text = r#"{"now": "2026-01-01T00:00:00Z", "pool": {"starting": 0, "idle": 0, "busy": 3, "draining": 0}, "queue": null}"#;
        let seen = parse_line(text).unwrap().seen;
        assert!(seen.queue.is_err());
        assert_eq!(seen.completions, None);
        assert_eq!(seen.receives, None);
        assert_eq!(seen.last_worker_empty_polls, None);
        assert_eq!(seen.sink.healthy, None);
    }

    #[test]
    fn broken_json_says_so() {
        assert!(parse_line("{").unwrap_err().starts_with("the line is not JSON"));
        assert_eq!(parse_line("[]").unwrap_err(), "the line is not a JSON object");
    }

    #[test]
    fn enormous_counter_saturates() {
        let line = parse_line(&LINE.replace("120", "1e300")).unwrap();
        assert_eq!(line.seen.queue.unwrap().visible, u64::MAX);
    }
}
