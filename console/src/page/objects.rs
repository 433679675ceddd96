//! `/objects`: objects that are searched for.

use super::encoded;
use crate::{
    html::{Page, ago, key, number, panel, text},
    read::{
        kept::Seen,
        objects::{Cursor, Found, Objects},
    },
    shell,
};
use maud::{Markup, html};
use serde_json::Value;

/// The states that objects may be in.
const STATES: [&str; 7] = ["failed", "retrying", "importing", "imported", "skipped", "superseded", "gone"];

/// What was asked for, as it was written.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "they are the form's fields")]
pub struct Asked {
    pub prefix: String,
    pub dataset: String,
    pub state: String,
    pub reason: String,
    pub since: String,
    pub until: String,
    pub after: String,
}

impl Asked {
    /// Returns the address of the same search from there on.
    fn query(&self, after: Option<&Cursor>) -> String {
        let after = match after {
            Some(Cursor::Id(id)) => id.to_string(),
            Some(Cursor::Key(key, head)) => format!("{head} {key}"),
            None => self.after.clone(),
        };
        let parts = [
            ("prefix", &self.prefix),
            ("dataset", &self.dataset),
            ("state", &self.state),
            ("reason", &self.reason),
            ("since", &self.since),
            ("until", &self.until),
            ("after", &after),
        ];
        let parts = parts.iter().filter(|(_, value)| !value.is_empty());
        let parts: Vec<String> = parts.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
    }
}

/// Returns the page; `wrong` is what is wrong with what was asked for.
#[must_use]
pub fn page(asked: &Asked, wrong: Option<&str>, seen: &Seen<Objects>) -> Page {
    let body = html! {
        section id="search" aria-labelledby="search-title" {
            h1 id="search-title" { "Objects" }
            (form(asked))
            @if let Some(wrong) = wrong { p .trouble role="alert" { (text(wrong)) } }
        }
        section id="found" aria-label="Found" { (panel(seen, |objects| found(asked, objects))) }
    };
    let json = format!("/objects.json{}", asked.query(None));
    Page { path: "/objects", title: "Objects".to_owned(), stream: None, json, body }
}

/// Returns the same as JSON.
#[must_use]
pub fn json(asked: &Asked, seen: &Seen<Objects>) -> Value {
    let next = seen.value.as_deref().and_then(|objects| objects.next.as_ref());
    let mut json = seen.json();
    json["next"] = next.map(|next| format!("/objects.json{}", asked.query(Some(next)))).into();
    json
}

fn form(asked: &Asked) -> Markup {
    let field = |name: &str, label: &str, value: &str, hint: &str| {
        html! { label { (label) input name=(name) value=(value) placeholder=(hint) autocomplete="off" spellcheck="false"; } }
    };
    html! {
        form .filter method="get" action="/objects" role="search" {
            (field("prefix", "Begins with", &asked.prefix, "s3://bucket/key"))
            (field("dataset", "Dataset", &asked.dataset, "any"))
            label { "State" select name="state" {
                option value="" { "any" }
                @for state in STATES { option value=(state) selected[state == asked.state] { (state) } }
            } }
            (field("reason", "Reason", &asked.reason, "any"))
            (field("since", "First seen since (UTC)", &asked.since, "2h or 2026-01-31T12:00:00Z"))
            (field("until", "And before", &asked.until, "30m or a time"))
            button type="submit" { "Search" }
        }
    }
}

fn found(asked: &Asked, objects: &Objects) -> Markup {
    html! {
        @if objects.found.is_empty() && objects.next.is_none() { p .quiet { "There is none." } }
        @if !objects.found.is_empty() { (table(&objects.found)) }
        @if let Some(n) = objects.looked_at {
            p .quiet { "Of the " (number(n)) " entries that were looked at. There are more behind them." }
        }
        @if let Some(next) = &objects.next { p { a rel="next" href=(format!("/objects{}", asked.query(Some(next)))) { "Go on" } } }
    }
}

fn table(found: &[Found]) -> Markup {
    html! {
        table {
            caption { (found.len()) " entries, each a version of an object" }
            thead { tr {
                th scope="col" .widest { "Object" } th scope="col" { "Dataset" } th scope="col" { "State" }
                th scope="col" .n { "Read" } th scope="col" .n { "Written" } th scope="col" .n { "Rejected" }
                th scope="col" { "First seen" }
            } }
            tbody { @for entry in found { tr {
                th scope="row" { a href=(format!("/objects/{}", entry.id)) { (key(&shell::address(&entry.bucket, &entry.key))) } }
                td data-label="Dataset" {
                    @if entry.dataset.is_empty() { "none" }
                    @else { a href=(format!("/datasets/{}", encoded(&entry.dataset))) { (text(&entry.dataset)) } }
                }
                td data-label="State" {
                    @if entry.is_delete { "removal, " } (entry.state)
                    @if let Some(reason) = &entry.reason { " " span .word { (text(reason)) } }
                    @if entry.stands { " " strong { "stands" } }
                }
                @for (label, n) in [("Read", entry.rows_read), ("Written", entry.rows_written), ("Rejected", entry.rows_rejected)] {
                    td .n data-label=(label) { (n.map_or_else(|| "–".into(), number)) }
                }
                td data-label="First seen" { (ago(entry.first_seen_at)) }
            } } }
        }
    }
}
