//! `/pools/NAME`: a pool's decisions, and the workers.

use super::{encoded, over_time};
use crate::{
    html::{Page, ago, command, number, panel, prose, secs_or, text, time},
    read::{
        chart::{Point, Span},
        kept::Seen,
        pool::{Decision, MOST, Pause, Pool, Worker},
    },
    shell,
};
use maud::{Markup, html};
use serde_json::{Value, json};

/// Returns the page.
#[must_use]
pub fn page(name: &str, span: Span, points: &Seen<Vec<Point>>, seen: &Seen<Pool>) -> Page {
    let path = format!("/pools/{}", encoded(name));
    let body = html! {
        section id="over-time" aria-labelledby="over-time-title" {
            h1 id="over-time-title" { "Pool " (text(name)) }
            (panel(seen, |pool| html! {
                @if !pool.is_known { p .quiet { "No scaler has decided for it. It may be new, or have another name." } }
                @if let Some(pause) = &pool.pause { (paused(name, pause)) }
            }))
            (over_time::spans(span, |span| format!("{path}?span={}", span.word())))
            (panel(points, |points| over_time::chart(name, points, span)))
            p { "What another promise, maximum or start-up time would have cost:" }
            (command(&format!(
                "scaler history --pool {} --since {} --limit 100000 --json | scaler simulate --trace -",
                shell::quoted(name), span.word()
            )))
        }
        section id="guards" aria-labelledby="guards-title" {
            h2 id="guards-title" { "What each guard allowed in the last decision" }
            (panel(seen, |pool| guards(pool.inputs.as_ref())))
        }
        section id="decisions" aria-labelledby="decisions-title" {
            h2 id="decisions-title" { "Decisions that changed something" }
            (panel(seen, |pool| decisions(&pool.decisions)))
        }
        section id="workers" aria-labelledby="workers-title" {
            h2 id="workers-title" { "Workers of all pools" }
            (panel(seen, |pool| workers(&pool.workers)))
        }
    };
    let json = format!("{path}.json?span={}", span.word());
    Page { path: "/pools", title: format!("Pool {name}"), stream: None, json, body }
}

/// Returns the same as JSON.
#[must_use]
pub fn json(points: &Seen<Vec<Point>>, seen: &Seen<Pool>) -> Value {
    json!({ "over_time": points.json(), "pool": seen.json() })
}

/// Says that a pool is held at a size by hand, and what ends that.
pub(super) fn paused(pool: &str, pause: &Pause) -> Markup {
    html! {
        p {
            strong { "Paused at " (pause.at) } " until " (time(pause.until))
            @if let Some(by) = &pause.by { " by " (text(by)) }
            ". It ends by itself, or at once:"
        }
        (command(&format!("scaler resume --pool {}", shell::quoted(pool))))
    }
}

fn guards(inputs: Option<&Value>) -> Markup {
    static NOTHING: Value = Value::Null;
    let inputs = inputs.unwrap_or(&NOTHING);
    let bounds = inputs["bounds"].as_array().map(Vec::as_slice).unwrap_or_default();
    let n = |value: &Value| value.as_u64().map_or_else(|| "–".to_owned(), |n| n.to_string());
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    html! {
        @if inputs.is_null() { p .quiet { "Nothing was decided yet." } } @else {
            p { "The policy alone would have " strong { (n(&inputs["want"])) } " workers. A start takes "
                (secs_or(inputs["start_up_secs"].as_f64(), "an unknown time")) ", an object " (secs_or(inputs["job_secs"].as_f64(), "an unknown time"))
                " in its slot; " @match inputs["arrivals_per_sec"].as_f64() { Some(rate) => (format!("{:.0}", rate * 60.0)), None => "?" } " come in a minute." }
        }
        @if !bounds.is_empty() {
            table {
                thead { tr { th scope="col" { "Guard" } th scope="col" .n { "At least" } th scope="col" .n { "At most" } th scope="col" { "Why" } } }
                tbody { @for bound in bounds { tr {
                    th scope="row" { (text(&word(&bound["guard"]))) }
                    td .n data-label="At least" { (n(&bound["at_least"])) }
                    td .n data-label="At most" { (n(&bound["at_most"])) }
                    td data-label="Why" { (text(&word(&bound["why"]))) }
                } } }
            }
        }
    }
}

fn decisions(decisions: &[Decision]) -> Markup {
    html! {
        @if decisions.is_empty() { p .quiet { "None is kept." } }
        ol .changes { @for decision in decisions.iter().take(MOST as usize) { li {
            (ago(decision.at)) " " strong { (decision.desired) } " " span .word { (text(&decision.reason)) }
            @if !decision.applied { " " strong { "not carried out" } }
            p { (text(&decision.explain)) @if let Some(outcome) = &decision.outcome { " [" (text(outcome)) "]" } }
        } } }
        @if decisions.len() as i64 > MOST { p .quiet { (prose("And older ones: `scaler history` has them all.")) } }
    }
}

fn workers(workers: &[Worker]) -> Markup {
    html! {
        @if workers.is_empty() { p .quiet { "No worker runs." } } @else {
            table {
                caption { "Silent for longest first" }
                thead { tr {
                    th scope="col" { "Worker" } th scope="col" { "State" } th scope="col" .n { "Importing" } th scope="col" { "Heartbeat" }
                    th scope="col" { "Started" } th scope="col" .n { "Took to start" } th scope="col" { "Release" }
                } }
                tbody { @for worker in workers.iter().take(MOST as usize) { tr {
                    th scope="row" { (text(&worker.id)) br; span .quiet { (text(&worker.host)) } }
                    td data-label="State" { (text(&worker.state)) }
                    td .n data-label="Importing" { (number(worker.in_flight.into())) " of " (number(worker.slots.into())) }
                    td data-label="Heartbeat" { (ago(worker.heartbeat_at)) }
                    td data-label="Started" { (time(worker.started_at)) }
                    td .n data-label="Took to start" { (secs_or(worker.start_secs, "–")) }
                    td data-label="Release" { (text(&worker.version)) }
                } } }
            }
            @if workers.len() as i64 > MOST { p .quiet { "And more." } }
        }
    }
}
