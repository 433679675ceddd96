//! `scaler history`: past decisions and why they were made.

use crate::{
    cli::History,
    config::{Config, ConfigError},
    store::{PastQuery, Record, Store},
};
use chrono::Duration;
use serde_json::Value;
use service::{postgres::STATEMENT_TIMEOUT, terminal};
use std::fmt::Write as _;

/// What `--at` shows after the decision that stood then.
const AFTER: Duration = Duration::seconds(60);

/// Returns the decisions asked for, a line each.
///
/// # Errors
/// When there is no database or no such pool, or the database cannot be read.
pub async fn history(config: Config, args: &History) -> anyhow::Result<String> {
    config.check_database()?;
    let Some(database) = config.database else {
        return Err(ConfigError::of("`history` needs [database]: decisions are kept there").into());
    };
    if let Some(name) = &args.pool {
        config
            .pools
            .iter()
            .find(|pool| pool.name == *name)
            .ok_or_else(|| ConfigError::of(format!("--pool: there is no pool \"{name}\" in the configuration")))?;
    }
    let store = Store::new(database, "penstock scaler history", STATEMENT_TIMEOUT);
    let mut query =
        PastQuery { pool: args.pool.clone(), since: args.since, until: args.until, limit: args.limit.max(1) };
    if let Some(at) = args.at {
        // The last decision before it is what stood then.
        query.since = Some(store.last_before(args.pool.as_deref(), at).await?.unwrap_or(at));
        query.until = Some(at + AFTER);
    }
    let mut past = store.past(&query).await?;
    if args.changes {
        past.retain(is_change);
    }
    let mut text = String::new();
    for decision in &past {
        if args.json {
            let line = serde_json::to_string(decision)?;
            let _ = writeln!(text, "{}", terminal::json(&line));
        } else {
            let _ = writeln!(text, "{}", terminal::line(&line(decision)));
            for guard in if args.guards { guards(decision) } else { Vec::new() } {
                let _ = writeln!(text, "    {}", terminal::line(&guard));
            }
        }
    }
    if past.is_empty() && !args.json {
        text.push_str("no decisions in that time\n");
    }
    Ok(text)
}

fn running(decision: &Record) -> u64 {
    let pool = &decision.inputs["pool"];
    ["starting", "idle", "busy"].iter().filter_map(|state| pool[state].as_u64()).sum()
}

fn is_change(decision: &Record) -> bool {
    running(decision) != u64::try_from(decision.desired).unwrap_or(0) || !decision.applied
}

fn line(decision: &Record) -> String {
    let queue = match &decision.inputs["queue"] {
        queue if queue.is_object() => format!("{} visible, {} in flight", queue["visible"], queue["in_flight"]),
        _ => "counters unknown".to_owned(),
    };
    let outcome = match (&decision.outcome, decision.applied) {
        (Some(outcome), true) => format!(" [{outcome}]"),
        (Some(outcome), false) => format!(" [not applied: {outcome}]"),
        (None, true) => String::new(),
        (None, false) => " [not applied]".to_owned(),
    };
    format!(
        "{}  {}  {} -> {}  {}  ({queue})  {}{outcome}",
        decision.at.format("%Y-%m-%d %H:%M:%SZ"),
        decision.pool,
        running(decision),
        decision.desired,
        decision.reason,
        decision.explain
    )
}

/// Returns what the policy wanted and what each guard would allow, those at the decision's number with a star.
fn guards(decision: &Record) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value, side: &str| value.as_i64().map(|n| format!("{side} {n}"));
    let inputs = &decision.inputs;
    let want = number(&inputs["want"], "wants").map(|want| format!("  policy         {want}"));
    let bounds = inputs["bounds"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(|bound| {
        let (least, most) = (&bound["at_least"], &bound["at_most"]);
        let at_number = [least, most].iter().any(|n| n.as_i64() == Some(decision.desired.into()));
        let sides: Vec<_> = [number(least, "at least"), number(most, "at most")].into_iter().flatten().collect();
        let star = if at_number && bound["reason"] == decision.reason.as_str() { '*' } else { ' ' };
        format!("{star} {:<14} {:<14} {}", word(&bound["guard"]), sides.join(", "), word(&bound["why"]))
    });
    want.into_iter().chain(bounds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decision(desired: i32, applied: bool, outcome: Option<&str>) -> Record {
        Record {
            pool: "importers".to_owned(),
            at: chrono::DateTime::from_timestamp(1_767_225_600, 0).expect("in range"),
            desired,
            reason: "deadline".to_owned(),
            explain: "Because.".to_owned(),
            inputs: json!({"pool": {"starting": 1, "idle": 0, "busy": 2, "draining": 5}, "queue": {"visible": 7, "in_flight": 2}}),
            applied,
            outcome: outcome.map(str::to_owned),
        }
    }

    #[test]
    fn line_says_what_was_seen_decided_and_done() {
        assert_eq!(
            line(&decision(5, true, Some("started 2"))),
            "2026-01-01 00:00:00Z  importers  3 -> 5  deadline  (7 visible, 2 in flight)  Because. [started 2]"
        );
        assert!(line(&decision(5, false, Some("throttled"))).ends_with("[not applied: throttled]"));
    }

    #[test]
    fn guards_say_what_else_would_have_bound_the_number() {
        let inputs = json!({"want": 200, "bounds": [
            {"guard": "growth_gate", "reason": "growth_gate", "at_most": 64, "why": "beyond the proven 32 …"},
            {"guard": "sink_cap", "reason": "sink_cap", "at_most": 32, "why": "more than 32 workers did not …"},
            {"guard": "max", "reason": "max", "at_most": 32, "why": "max is 32"},
        ]});
        let decision = Record { reason: "sink_cap".to_owned(), inputs, ..decision(32, true, None) };
        assert_eq!(
            guards(&decision),
            [
                "  policy         wants 200",
                "  growth_gate    at most 64     beyond the proven 32 …",
                "* sink_cap       at most 32     more than 32 workers did not …",
                "  max            at most 32     max is 32",
            ]
        );
    }

    #[test]
    fn decision_of_a_release_without_a_trace_has_no_guards() {
        assert_eq!(guards(&decision(5, true, None)), [] as [&str; 0]);
    }

    #[test]
    fn changes_are_what_moved_the_pool_or_failed_to() {
        assert!(is_change(&decision(5, true, None)));
        assert!(!is_change(&decision(3, true, None)));
        assert!(is_change(&decision(3, false, None)));
    }
}
