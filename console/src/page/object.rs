//! `/objects/ID`: one version's story.

use crate::{
    html::{Page, ago, command, key, number, panel, secs, text, time},
    read::{
        kept::Seen,
        object::{Entry, MOST, RejectedRow, Story, Version, Wait},
    },
    shell,
};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde_json::Value;

/// Returns the page of a version; of one that nobody knows it says so.
#[must_use]
pub fn page(id: i64, seen: &Seen<Option<Story>>) -> Page {
    let known = seen.value.as_deref().and_then(Option::as_ref);
    let title = known.map_or_else(|| format!("Object {id}"), |story| story.entry.key.clone());
    let body = match known {
        Some(story) => whole(story),
        None => html! {
            section id="story" aria-labelledby="story-title" {
                h1 id="story-title" { "Object " (id) }
                (panel(seen, |_| html! { p { "The ledger knows no such object. It may have been pruned." } }))
            }
        },
    };
    let json = format!("/objects/{id}.json");
    Page { path: "/objects", title, stream: None, json, body }
}

/// Returns the same as JSON.
#[must_use]
pub fn json(seen: &Seen<Option<Story>>) -> Value {
    seen.json()
}

fn whole(story: &Story) -> Markup {
    let entry = &story.entry;
    let address = shell::address(&entry.bucket, &entry.key);
    let (class, sign, words) = standing(entry);
    html! {
        section id="story" aria-labelledby="story-title" {
            div .status.(class) {
                span .sign aria-hidden="true" { (sign) }
                div {
                    h1 id="story-title" .object { (key(&address)) }
                    p .answer { (text(&words)) }
                    @if let Some(error) = &entry.error { p .said { (text(error)) } }
                }
            }
            @if let Some((advice, line)) = next(entry, &address) { p .advice { (advice) } (command(&line)) }
        }
        section id="way" aria-labelledby="way-title" { h2 id="way-title" { "Its way" } (way(entry)) }
        section id="counts" aria-labelledby="counts-title" { h2 id="counts-title" { "Its rows" } (counts(entry)) }
        @if !story.rejects.is_empty() {
            section id="rejects" aria-labelledby="rejects-title" { h2 id="rejects-title" { "Rejected rows" } (rejects(&story.rejects)) }
        }
        @if !story.waits.is_empty() {
            section id="waits" aria-labelledby="waits-title" { h2 id="waits-title" { "What it waits for" } (waits(&story.waits)) }
        }
        @if !story.due.is_empty() {
            section id="due" aria-labelledby="due-title" {
                h2 id="due-title" { "What is to be sent because of it" }
                ul { @for due in &story.due {
                    li { "To " (text(&due.target)) ", not before " (time(due.at))
                        @if due.attempts > 0 { ", tried " (due.attempts) " times" }
                        @if let Some(error) = &due.error { ": " (text(error)) } }
                } }
            }
        }
        section id="versions" aria-labelledby="versions-title" {
            h2 id="versions-title" { "Versions of this key" }
            (versions(&story.versions, entry.id))
        }
        section id="identity" aria-labelledby="identity-title" { h2 id="identity-title" { "Which version it is" } (identity(entry)) }
    }
}

/// Returns how it stands: a class, a sign and a sentence.
fn standing(entry: &Entry) -> (&'static str, &'static str, String) {
    let good = |words: &str| ("fine", "✓", words.to_owned());
    let bad = |words: String| ("late", "!", words);
    let plain = |words: String| ("plain", "–", words);
    let reason = entry.reason.as_deref().unwrap_or("no reason given");
    match entry.state.as_str() {
        "imported" if entry.error.is_some() => {
            bad("Imported; a later attempt at it failed, and its rows stand.".into())
        }
        "imported" if entry.stands => good("Imported: its rows stand in the table."),
        "imported" => plain("Imported once; another version of its key stands now.".into()),
        "importing" if !entry.is_worker_there => {
            bad("Being imported by a worker that is not heard of any more.".into())
        }
        "importing" => plain("Being imported now.".into()),
        "retrying" => bad(format!("Tried again until it can be imported: {reason}.")),
        "failed" => bad(format!("Failed for good: {reason}.")),
        "skipped" => plain(format!("Skipped: {reason}.")),
        "superseded" => plain(format!("Not imported, for a newer version was there: {reason}.")),
        "gone" if entry.is_delete => plain("The key was removed.".into()),
        "gone" => plain("It was gone from the store before it could be read.".into()),
        other => plain(format!("{other}: {reason}.")),
    }
}

/// Returns what may be done next.
fn next(entry: &Entry, address: &str) -> Option<(&'static str, String)> {
    let quoted = shell::quoted(address);
    let is_local = !address.starts_with("s3://");
    match entry.state.as_str() {
        "failed" if is_local => Some(("Once what was wrong is mended:", format!("importer load {quoted}"))),
        "failed" if !entry.dataset.is_empty() => {
            let dataset = shell::quoted(&entry.dataset);
            let line = format!("importer replay --state failed --dataset {dataset} --prefix {quoted}");
            Some(("Once what was wrong is mended:", line))
        }
        "imported" if entry.rows_rejected.unwrap_or(0) > 0 => Some((
            "Once they fit, its rejected rows get their second chance:",
            format!("importer rejects --replay {quoted}"),
        )),
        _ => Some(("The same on a terminal:", format!("importer status {quoted}"))),
    }
}

fn way(entry: &Entry) -> Markup {
    let no_message = entry.sent_at.is_none() && entry.queue_url.is_none();
    let message = if no_message { "it came without a message" } else { "not kept by the release that imported it" };
    let ended = match entry.state.as_str() {
        "imported" => ("Committed", entry.imported_at, "not known"),
        "importing" | "retrying" => ("Committed", None, "not yet"),
        _ => ("Ended", entry.finished_at, "not known"),
    };
    let begun = if entry.attempts > 1 { "Begun, for the last time" } else { "Begun" };
    let steps = [
        ("Put", entry.event_time, "no event told"),
        ("Sent to the queue", entry.sent_at, message),
        ("First received", entry.first_received_at, message),
        ("First seen by the ledger", Some(entry.first_seen_at), ""),
        (begun, entry.started_at, "not yet"),
        ended,
    ];
    let mut before: Option<DateTime<Utc>> = None;
    html! {
        ol .way {
            @for (what, at, unknown) in steps {
                li {
                    span .what { (what) }
                    @match at {
                        Some(at) => {
                            span { (time(at)) }
                            @let took = before.replace(at).map(|before| (at - before).as_seconds_f64());
                            @if let Some(took) = took.filter(|took| *took >= 0.0) { span .took { "+" (secs(took)) } }
                        }
                        None => span .quiet { "unknown: " (unknown) },
                    }
                }
            }
        }
        p .quiet {
            @if let (Some(event), Some(imported)) = (entry.event_time, entry.imported_at) {
                "From put to commit " (secs((imported - event).as_seconds_f64().max(0.0))) ". "
            }
            (entry.attempts) @if entry.attempts == 1 { " attempt" } @else { " attempts" }
            @if let Some(worker) = &entry.worker {
                ", the last by worker " (text(worker)) @if !entry.is_worker_there { ", which is gone" }
            }
            @if let Some(took) = entry.duration_seconds { "; it took " (secs(took)) } "."
        }
    }
}

fn counts(entry: &Entry) -> Markup {
    let Some(read) = entry.rows_read else { return html! { p .quiet { "None were counted." } } };
    let added = entry.rows_added.unwrap_or(0);
    let ends = [
        ("written: they stand in the table", entry.rows_written),
        ("merged: they gave way to another row with their key", entry.rows_merged),
        ("filtered: a transform or a trigger dropped them", entry.rows_filtered),
        ("rejected", entry.rows_rejected),
    ];
    let sum: i64 = ends.iter().filter_map(|(_, n)| *n).sum();
    html! {
        table .sum.whole {
            tbody {
                tr { th scope="row" { "read" } td .n { (number(read)) } }
                @if added > 0 { tr { th scope="row" { "added by a transform" } td .n { "+ " (number(added)) } } }
                @for (what, n) in ends { tr { th scope="row" { (what) } td .n { (number(n.unwrap_or(0))) } } }
            }
        }
        @if entry.state == "imported" {
            p { @if read + added == sum { "They add up." } @else { strong { "They do not add up." } } }
        }
    }
}

fn rejects(rows: &[RejectedRow]) -> Markup {
    let has_more = rows.len() as i64 > MOST;
    html! {
        table {
            thead { tr {
                th scope="col" { "Row" } th scope="col" { "Class" } th scope="col" { "Column" } th scope="col" { "Why" } th scope="col" { "When" }
            } }
            tbody { @for row in rows.iter().take(MOST as usize) { tr {
                th scope="row" { (number(row.row_number)) }
                td data-label="Class" { span .word { (text(&row.class)) } }
                td data-label="Column" { (row.column_name.as_deref().map_or_else(|| html! { "–" }, text)) }
                td data-label="Why" {
                    @match &row.message { Some(message) => (text(message)), None => span .quiet { "not shown: it may quote a value" } }
                    @if let Some(payload) = &row.payload { pre .payload { (text(payload)) } }
                }
                td data-label="When" {
                    (ago(row.created_at))
                    @if let Some(at) = row.resolved_at { "; taken at its second chance " (time(at)) }
                }
            } } }
        }
        @if has_more { p .quiet { "And more." } }
    }
}

fn waits(waits: &[Wait]) -> Markup {
    html! {
        ul { @for wait in waits { li {
            (number(wait.n.min(1000))) @if wait.n > 1000 { "+" } " keys of field " (text(&wait.field)) " that are not in "
            (text(&wait.lookup)) " yet, since " (ago(wait.since)) "; given up at " (time(wait.until))
            @if let Some(at) = wait.again_at { "; run again at " (time(at)) " at the latest" }
        } } }
    }
}

fn versions(versions: &[Version], this: i64) -> Markup {
    let has_more = versions.len() as i64 > MOST;
    html! {
        table {
            thead { tr {
                th scope="col" { "Version" } th scope="col" { "Dataset" } th scope="col" { "State" }
                th scope="col" { "First seen" } th scope="col" .n { "Rows" }
            } }
            tbody { @for version in versions.iter().take(MOST as usize) { tr {
                th scope="row" {
                    @let name = version.version_id.as_deref().or(version.etag.as_deref()).unwrap_or("unknown");
                    @if version.id == this { (key(name)) " (this one)" }
                    @else { a href=(format!("/objects/{}", version.id)) { (key(name)) } }
                }
                td data-label="Dataset" { @if version.dataset.is_empty() { "none" } @else { (text(&version.dataset)) } }
                td data-label="State" {
                    @if version.is_delete { "removal, " } (version.state)
                    @if let Some(reason) = &version.reason { " " span .word { (text(reason)) } }
                    @if version.stands { " " strong { "stands" } }
                }
                td data-label="First seen" { (ago(version.first_seen_at)) }
                td .n data-label="Rows" { (version.rows_written.map_or_else(|| "–".into(), number)) }
            } } }
        }
        @if has_more { p .quiet { "And older ones." } }
    }
}

fn identity(entry: &Entry) -> Markup {
    let texts = [
        ("Dataset", Some(if entry.dataset.is_empty() { "none takes it" } else { &entry.dataset })),
        ("Bucket", Some(entry.bucket.as_str())),
        ("Key", Some(entry.key.as_str())),
        ("Version id", entry.version_id.as_deref()),
        ("ETag", entry.etag.as_deref()),
        ("Sequencer", entry.sequencer.as_deref()),
        ("Queue", entry.queue_url.as_deref()),
        ("Followed dataset", entry.after.as_deref()),
        ("Written", entry.technique.as_deref()),
        ("Recipe", entry.recipe.as_deref()),
        ("Recipe it could not be made by", entry.tried_recipe.as_deref()),
        ("Dead letter", entry.forwarded_message_id.as_deref()),
    ];
    html! {
        dl {
            div { dt { "Object" } dd { (entry.id) } }
            @for (name, value) in texts { @if let Some(value) = value { div { dt { (name) } dd { (key(value)) } } } }
            @for (name, n) in [("Size", entry.size), ("Bytes read", entry.bytes)] {
                @if let Some(n) = n { div { dt { (name) } dd { (number(n)) " bytes" } } }
            }
            @if let Some(at) = entry.last_modified { div { dt { "Last-Modified" } dd { (time(at)) } } }
        }
    }
}
