//! `/rejects`: rejected rows by what is wrong with them.

use super::encoded;
use crate::{
    html::{Page, ago, command, key, number, panel, text, time},
    read::{
        kept::Seen,
        now::Problem,
        rejects::{MOST, Row, Which},
    },
    shell,
};
use maud::{Markup, html};
use serde_json::{Value, json};

/// Returns the page of all kinds, or of one with its rows.
#[must_use]
pub fn page(groups: &Seen<Vec<Problem>>, which: Option<&Which>, rows: &Seen<Vec<Row>>) -> Page {
    let body = html! {
        section id="kinds" aria-labelledby="kinds-title" {
            h1 id="kinds-title" { "Rejected rows" }
            p .quiet { "Rows that wait for their second chance. Those around them were loaded." }
            (panel(groups, |groups| kinds(groups)))
        }
        @if let Some(which) = which {
            section id="rows" aria-labelledby="rows-title" {
                h2 id="rows-title" {
                    "Of " (text(&which.dataset)) " " span .word { (text(&which.class)) }
                    @if !which.column.is_empty() { " in column " span .word { (text(&which.column)) } }
                }
                (panel(rows, |rows| table(rows)))
            }
        }
    };
    let query = which.map(query).unwrap_or_default();
    let json = format!("/rejects.json{query}");
    Page { path: "/rejects", title: "Rejects".to_owned(), stream: None, json, body }
}

/// Returns the same as JSON.
#[must_use]
pub fn json(groups: &Seen<Vec<Problem>>, rows: &Seen<Vec<Row>>) -> Value {
    json!({ "kinds": groups.json(), "rows": rows.json() })
}

fn query(which: &Which) -> String {
    format!("?dataset={}&class={}&column={}", encoded(&which.dataset), encoded(&which.class), encoded(&which.column))
}

fn which(problem: &Problem) -> Which {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Which { dataset: text(&problem.of), class: text(&problem.reason), column: text(&problem.column) }
}

/// Returns a table of groups of rejects.
#[must_use]
pub fn kinds(groups: &[Problem]) -> Markup {
    html! {
        @if groups.is_empty() { p .answer { "None." } } @else {
            table {
                thead { tr {
                    th scope="col" { "Dataset" } th scope="col" { "Class" } th scope="col" { "Column" } th scope="col" .n { "Rows" }
                    th scope="col" { "Since" } th scope="col" { "Last" } th scope="col" { "For one" }
                } }
                tbody { @for group in groups { tr {
                    th scope="row" { (text(group.of.as_deref().unwrap_or("none"))) }
                    td data-label="Class" { a href=(format!("/rejects{}#rows", query(&which(group)))) { span .word { (text(group.reason.as_deref().unwrap_or("–"))) } } }
                    td data-label="Column" { (text(group.column.as_deref().unwrap_or("–"))) }
                    td .n data-label="Rows" { (number(group.n)) @if group.more { "+" } }
                    td data-label="Since" { @if let Some(since) = group.since { (time(since)) } }
                    td data-label="Last" { @if let Some(latest) = group.latest { (ago(latest)) } }
                    td data-label="For one" {
                        @if let Some(said) = &group.said { (text(said)) " " }
                        @if let Some(sample) = &group.sample {
                            a href=(format!("/objects/{}", sample.object_id)) { (key(&shell::address(&sample.bucket, &sample.key))) }
                        }
                    }
                } } }
            }
            p .advice { "Once they fit the table, all of them get their second chance by:" }
            (command("importer rejects --replay"))
        }
    }
}

fn table(rows: &[Row]) -> Markup {
    html! {
        @if rows.is_empty() { p .quiet { "None any more." } } @else {
            table {
                caption { "At most five of each of the last objects" }
                thead { tr {
                    th scope="col" { "Object" } th scope="col" .n { "Row" } th scope="col" { "Why" } th scope="col" { "When" }
                } }
                tbody { @for row in rows.iter().take(MOST as usize) { tr {
                    th scope="row" { a href=(format!("/objects/{}", row.object_id)) { (key(&shell::address(&row.bucket, &row.key))) } }
                    td .n data-label="Row" { (number(row.row_number)) }
                    td data-label="Why" {
                        @match &row.message { Some(message) => (text(message)), None => span .quiet { "not shown: it may quote a value" } }
                        @if let Some(payload) = &row.payload { pre .payload { (text(payload)) } }
                    }
                    td data-label="When" { (ago(row.created_at)) }
                } } }
            }
            @if rows.len() as i64 > MOST { p .quiet { "And more." } }
        }
    }
}
