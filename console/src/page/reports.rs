//! `/reports`: a team's own SQL, drawn or as a table.

mod drawing;

use super::encoded;
use crate::{
    html::{Page, ago, cut, number, panel, prose, secs, text},
    read::kept::Seen,
    report::{Asked, Chart, Listed, Report, Table, Wrong},
};
use maud::{Markup, html};
use serde_json::{Value, json};

/// Rows that a page shows; the rest is for programs.
const MOST_SHOWN: usize = 200;

/// One report of the list.
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The report, unless its file is none.
    pub report: Result<Report, Wrong>,
    /// What it returned for its defaults, if it was run.
    pub seen: Seen<Table>,
}

/// Returns the page of all reports.
#[must_use]
pub fn list(directory: &str, entries: &Result<Vec<Entry>, Wrong>) -> Page {
    let body = html! {
        section id="reports" aria-labelledby="reports-title" {
            h1 id="reports-title" { "Reports" }
            @match entries {
                Err(wrong) => (trouble(wrong)),
                Ok(entries) if entries.is_empty() => p .quiet { "There is no " code .word { "*.sql" } " in " (text(directory)) " yet." },
                Ok(_) => {}
            }
        }
        @for entry in entries.iter().flatten() {
            section aria-labelledby=(format!("{}-title", entry.name)) {
                h2 id=(format!("{}-title", entry.name)) {
                    a href=(format!("/reports/{}", encoded(&entry.name))) { (text(entry.report.as_ref().map_or(&entry.name, |report| &report.title))) }
                }
                @match &entry.report {
                    Ok(report) => (panel(&entry.seen, |table| drawing::drawing(report, table))),
                    Err(wrong) => (trouble(wrong)),
                }
            }
        }
    };
    Page { path: "/reports", title: "Reports".to_owned(), stream: None, json: "/reports.json".to_owned(), body }
}

/// Returns what reports there are as JSON.
#[must_use]
pub fn list_json(listed: &Result<Vec<Listed>, Wrong>) -> Value {
    let one = |Listed { name, report }: &Listed| match report {
        Ok(report) => json!({ "name": name, "title": report.title, "chart": report.chart, "failure": null }),
        Err(wrong) => json!({ "name": name, "title": null, "chart": null, "failure": wrong.to_string() }),
    };
    let reports = listed.as_ref().ok().map(|listed| listed.iter().map(one).collect::<Vec<_>>());
    json!({ "value": reports, "failure": listed.as_ref().err().map(ToString::to_string) })
}

/// Returns the page of a report whose file is none.
#[must_use]
pub fn wrong(name: &str, wrong: &Wrong) -> Page {
    let body = html! {
        section id="report" aria-labelledby="report-title" { h1 id="report-title" { (text(name)) } (trouble(wrong)) }
    };
    Page { path: "/reports", title: name.to_owned(), stream: None, json: "/reports.json".to_owned(), body }
}

/// Returns the page of a report.
#[must_use]
pub fn page(report: &Report, asked: &Asked, seen: &Seen<Table>) -> Page {
    let path = format!("/reports/{}", report.name);
    let query = query(report, asked);
    let body = html! {
        section id="report" aria-labelledby="report-title" {
            h1 id="report-title" { (text(&report.title)) }
            @if !report.parameters.is_empty() { (form(&path, report, asked)) }
            @if let Err(wrong) = &asked.values { p .trouble role="alert" { (prose(&cut(wrong))) } }
            (panel(seen, |table| whole(report, table)))
            @if let (Some(table), Some(at)) = (&seen.value, seen.at) {
                p {
                    a href=(format!("{path}.csv{query}")) { "CSV" }
                    @if table.is_cut { " of the first " (number(table.rows.len() as i64)) " rows: there are more" }
                }
                p .quiet { "Read " (ago(at)) ", and anew when it is looked at " (secs(report.every.as_secs_f64())) " later. By " (text(&report.file)) "." }
            }
        }
    };
    Page { path: "/reports", title: report.title.clone(), stream: None, json: format!("{path}.json{query}"), body }
}

/// Returns the same as JSON.
#[must_use]
pub fn json(report: &Report, asked: &Asked, seen: &Seen<Table>) -> Value {
    let mut json = seen.json();
    let asked = report.parameters.iter().zip(&asked.texts).map(|(parameter, text)| (&parameter.name, text));
    json["parameters"] = asked.map(|(name, text)| (name.clone(), Value::from(text.as_str()))).collect();
    json["name"] = report.name.as_str().into();
    json["title"] = report.title.as_str().into();
    json["chart"] = json!(report.chart);
    json
}

fn query(report: &Report, asked: &Asked) -> String {
    let parts = report.parameters.iter().zip(&asked.texts);
    let parts: Vec<String> = parts.map(|(parameter, text)| format!("{}={}", parameter.name, encoded(text))).collect();
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}

fn form(path: &str, report: &Report, asked: &Asked) -> Markup {
    html! {
        form .filter method="get" action=(path) {
            @for (parameter, text) in report.parameters.iter().zip(&asked.texts) {
                label { (parameter.name)
                    @if parameter.is_boolean() {
                        select name=(parameter.name) { @for word in ["true", "false"] { option selected[word == text] { (word) } } }
                    } @else {
                        input name=(parameter.name) value=(text) placeholder=(parameter.default) inputmode=[parameter.keyboard()]
                            autocomplete="off" spellcheck="false";
                    }
                }
            }
            button type="submit" { "Show" }
        }
    }
}

fn trouble(wrong: &Wrong) -> Markup {
    html! { @for line in &wrong.0 { p .trouble role="alert" { (prose(&cut(line))) } } }
}

fn whole(report: &Report, table: &Table) -> Markup {
    let is_drawn = matches!(report.chart, Chart::Line | Chart::Bar) && report.undrawable(&table.columns).is_none();
    html! {
        (drawing::drawing(report, table))
        @if report.chart == Chart::Number { }
        @else if is_drawn && !table.rows.is_empty() { details { summary { "The same in figures" } (rows(table)) } }
        @else { (rows(table)) }
    }
}

fn rows(table: &Table) -> Markup {
    let shown = &table.rows[..table.rows.len().min(MOST_SHOWN)];
    html! {
        div .scroll role="region" aria-label="Rows" tabindex="0" {
            table {
                thead { tr { @for column in &table.columns { th scope="col" .n[column.kind.is_number()] { (text(&column.name)) } } } }
                tbody { @for row in shown { tr {
                    @for (value, column) in row.iter().zip(&table.columns) {
                        td .n[column.kind.is_number()] data-label=(cut(&column.name)) {
                            @match value { Some(value) => (text(value)), None => span .quiet { "–" } }
                        }
                    }
                } } }
            }
        }
        @if shown.len() < table.rows.len() {
            p .quiet { "The first " (shown.len()) " of " (number(table.rows.len() as i64)) " rows." }
        }
    }
}
