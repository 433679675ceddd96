//! `scaler history`: past decisions and why they were made.

use std::fmt::Write as _;

use chrono::Duration;
use service::{postgres::STATEMENT_TIMEOUT, terminal};

use super::Failure;
use crate::cli::History;
use crate::config::Config;
use crate::store::{PastDecision, PastQuery, Store};

/// What `--at` shows after the decision that stood then.
const AFTER: Duration = Duration::seconds(60);

/// Returns the decisions asked for, a line each.
pub async fn history(config: Config, args: &History) -> Result<String, Failure> {
    config.check_database()?;
    let Some(database) = config.database else {
        return Err(Failure::Argument("`history` needs [database]: decisions are kept there".to_owned()));
    };
    if let Some(name) = &args.pool {
        config
            .pools
            .iter()
            .find(|pool| pool.name == *name)
            .ok_or_else(|| Failure::Argument(format!("--pool: there is no pool \"{name}\" in the configuration")))?;
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
            let line = serde_json::to_string(decision).map_err(anyhow::Error::from)?;
            let _ = writeln!(text, "{}", terminal::json(&line));
        } else {
            let _ = writeln!(text, "{}", terminal::line(&line(decision)));
        }
    }
    if past.is_empty() && !args.json {
        text.push_str("no decisions in that time\n");
    }
    Ok(text)
}

fn running(decision: &PastDecision) -> u64 {
    let pool = &decision.inputs["pool"];
    ["starting", "idle", "busy"].iter().filter_map(|state| pool[state].as_u64()).sum()
}

fn is_change(decision: &PastDecision) -> bool {
    running(decision) != u64::try_from(decision.desired).unwrap_or(0) || !decision.applied
}

fn line(decision: &PastDecision) -> String {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decision(desired: i32, applied: bool, outcome: Option<&str>) -> PastDecision {
        PastDecision {
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
    fn changes_are_what_moved_the_pool_or_failed_to() {
        assert!(is_change(&decision(5, true, None)));
        assert!(!is_change(&decision(3, true, None)));
        assert!(is_change(&decision(3, false, None)));
    }
}
