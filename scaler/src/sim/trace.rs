//! A recorded history as a load: what `scaler history --json` printed, played again.

use super::workload::{Arrival, Load, Workload};
use serde_json::Value;

/// What of a history is used.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment {
    secs: f64,
    backlog: Option<f64>,
    completed: f64,
    completed_secs: f64,
    start_up_secs: f64,
    slots_per_worker: u32,
    promised_secs: Option<f64>,
    max: Option<u32>,
}

/// Builds a load from the lines of a history; `base` gives what a history does not know.
///
/// Messages arrived when the queue grew by more than what was finished
/// meanwhile. The error names the line.
///
/// # Errors
/// When a line is no decision of a history; the error names it.
pub fn load(text: &str, base: &Load) -> Result<Load, String> {
    let mut moments = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        moments.push(moment(line).map_err(|why| format!("line {}: {why}", i + 1))?);
    }
    moments.sort_by(|a, b| a.secs.total_cmp(&b.secs));
    let (Some(first), Some(last)) = (moments.first(), moments.last()) else {
        return Err("the trace has no lines".to_owned());
    };
    let done: f64 = moments.iter().map(|moment| moment.completed).sum();
    let done_secs: f64 = moments.iter().map(|moment| moment.completed_secs).sum();
    let work_secs = if done > 0.0 { done_secs / done } else { base.workload.guess_secs() };
    let mut arrivals = Vec::new();
    let mut owed = 0.0;
    let (mut before_at, mut before) = (first.secs, first.backlog.unwrap_or(0.0));
    send(&mut arrivals, 0.0, 0.0, before.round(), work_secs);
    for moment in &moments[1..] {
        owed += moment.completed;
        // A gap in the counters is bridged: what came in it is known at its end.
        let Some(backlog) = moment.backlog else { continue };
        owed += backlog - before;
        // Readings that fall too low are made up by the next ones.
        let n = owed.max(0.0).round();
        send(&mut arrivals, before_at - first.secs, moment.secs - first.secs, n, work_secs);
        owed -= n;
        (before_at, before) = (moment.secs, backlog);
    }
    let workload = Workload {
        name: "trace".to_owned(),
        start_up: last.start_up_secs.max(1.0),
        slots_per_worker: last.slots_per_worker.max(1),
        drain_within: last.promised_secs.unwrap_or(base.workload.drain_within),
        max: last.max.unwrap_or(base.workload.max),
        horizon: last.secs - first.secs,
        ..base.workload.clone()
    };
    Ok(Load { workload, arrivals })
}

fn send(arrivals: &mut Vec<Arrival>, from: f64, to: f64, n: f64, work_secs: f64) {
    for i in 0..n as u64 {
        arrivals.push(Arrival { at: from + (to - from) * i as f64 / n, work_secs, poison: false });
    }
}

/// Returns the configured maximum, which stands among the bounds.
fn max_of(inputs: &Value) -> Option<u32> {
    let max = inputs.get("bounds")?.as_array()?.iter().find(|bound| bound["guard"] == "max")?;
    u32::try_from(max["at_most"].as_u64()?).ok()
}

/// Reads a line: a decision of the history, or its inputs alone.
fn moment(line: &str) -> Result<Moment, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("not JSON: {e}"))?;
    let inputs = value.get("inputs").unwrap_or(&value);
    let now = inputs.get("now").or(value.get("at")).and_then(Value::as_str).ok_or("`now` is missing")?;
    let now = chrono::DateTime::parse_from_rfc3339(now).map_err(|_| "`now` is not an RFC 3339 time")?;
    let number = |name: &str| inputs.get(name).and_then(Value::as_f64);
    let counter = |name: &str| inputs.get("queue").and_then(|queue| queue.get(name)).and_then(Value::as_f64);
    Ok(Moment {
        secs: now.timestamp_millis() as f64 / 1000.0,
        backlog: counter("visible").zip(counter("in_flight")).map(|(visible, in_flight)| visible + in_flight),
        completed: number("completed").unwrap_or(0.0),
        completed_secs: number("completed_secs").unwrap_or(0.0),
        start_up_secs: number("start_up_secs").unwrap_or(45.0),
        slots_per_worker: number("slots_per_worker").unwrap_or(1.0) as u32,
        promised_secs: number("promised_secs"),
        max: max_of(inputs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(secs: u32, visible: Option<u32>, completed: u32) -> String {
        let queue = match visible {
            Some(visible) => format!("{{\"visible\": {visible}, \"in_flight\": 0}}"),
            None => "null".to_owned(),
        };
        format!(
            "{{\"at\": \"2026-01-01T00:00:00Z\", \"desired\": 1, \"inputs\": {{\"now\": \"2026-01-01T00:{:02}:{:02}Z\", \
             \"queue\": {queue}, \"completed\": {completed}, \"completed_secs\": {}}}}}",
            secs / 60,
            secs % 60,
            f64::from(completed) * 1.5,
        )
    }

    #[test]
    fn what_arrived_is_what_was_finished_and_what_the_queue_grew_by() {
        let text = [
            line(0, Some(0), 0),
            line(10, Some(100), 0),
            line(20, Some(70), 30),
            line(30, None, 30),
            line(40, Some(20), 20),
        ];
        let load = load(&text.join("\n"), &Workload::default().draw(1)).unwrap();
        assert_eq!(load.arrivals.len(), 100);
        assert!(load.arrivals.iter().all(|job| job.at <= 10.0 && job.work_secs == 1.5));
        assert_eq!(load.workload.horizon, 40.0);
    }

    #[test]
    fn broken_line_is_named() {
        let text = format!("{}\n{{\"inputs\": {{}}}}\n", line(0, Some(0), 0));
        assert_eq!(load(&text, &Workload::default().draw(1)).unwrap_err(), "line 2: `now` is missing");
    }
}
