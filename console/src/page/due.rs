//! `/due`: what waits to be sent, and what refuses.

use super::encoded;
use crate::{
    html::{Page, ago, command, number, panel, text, time},
    read::{
        due::{Due, Item, MOST, Target},
        kept::Seen,
    },
};
use maud::{Markup, html};
use serde_json::Value;

/// Returns the page.
#[must_use]
pub fn page(seen: &Seen<Due>) -> Page {
    let body = html! {
        section id="targets" aria-labelledby="targets-title" {
            h1 id="targets-title" { "What is to be sent" }
            p .quiet { "Pointers for the steps after a dataset, notices, tags of loaded objects, and looks for keys that are awaited. Importers and the leading scaler send them; tags are written by importers." }
            (panel(seen, |due| targets(&due.targets)))
        }
        section id="items" aria-labelledby="items-title" { h2 id="items-title" { "One by one" } (panel(seen, |due| items(&due.items))) }
    };
    Page { path: "/due", title: "Due".to_owned(), stream: None, json: "/due.json".to_owned(), body }
}

/// Returns the same as JSON.
#[must_use]
pub fn json(seen: &Seen<Due>) -> Value {
    seen.json()
}

fn targets(targets: &[Target]) -> Markup {
    html! {
        @if targets.is_empty() { p .answer { "Nothing waits." } } @else {
            table {
                thead { tr {
                    th scope="col" { "To" } th scope="col" { "What" } th scope="col" .n { "Waiting" } th scope="col" .n { "Overdue" }
                    th scope="col" .n { "Refused" } th scope="col" { "Since" } th scope="col" { "What was said" }
                } }
                tbody { @for target in targets { tr {
                    th scope="row" { (text(&target.target)) @if let Some(place) = &target.place { br; span .quiet { (text(place)) } } }
                    td data-label="What" { (text(&target.kind)) }
                    td .n data-label="Waiting" { (number(target.n)) @if target.n >= 5000 { "+" } }
                    td .n data-label="Overdue" { (number(target.n_overdue)) }
                    td .n data-label="Refused" { (number(target.n_refused)) }
                    td data-label="Since" { (ago(target.since)) }
                    td data-label="What was said" { (text(target.error.as_deref().unwrap_or("–"))) }
                } } }
            }
            p .advice { "They are sent by themselves; once what refuses is mended, at once by:" }
            (command("importer due"))
        }
    }
}

fn items(items: &[Item]) -> Markup {
    let shown = &items[..items.len().min(MOST as usize)];
    html! {
        @if shown.is_empty() { p .quiet { "None." } } @else {
            table {
                thead { tr {
                    th scope="col" { "Not before" } th scope="col" { "To" } th scope="col" { "What" } th scope="col" { "Object" }
                    th scope="col" .n { "Tries" } th scope="col" { "What was said" }
                } }
                tbody { @for item in shown { tr {
                    th scope="row" { (time(item.at)) }
                    td data-label="To" { (text(&item.target)) }
                    td data-label="What" { (text(&item.kind)) @if let Some(event) = &item.event { " " span .word { (text(event)) } } }
                    td data-label="Object" { @match item.object_id { Some(id) => { a href=(format!("/objects/{id}")) { (id) } } None => { "–" } } }
                    td .n data-label="Tries" { (item.attempts) }
                    td data-label="What was said" { (text(item.error.as_deref().unwrap_or("–"))) }
                } } }
            }
        }
        @if let Some(last) = shown.last().filter(|_| items.len() > shown.len()) {
            p { a rel="next" href=(format!("/due?after={}", encoded(&format!("{} {}", last.at.to_rfc3339(), last.id)))) { "Go on" } }
        }
    }
}
