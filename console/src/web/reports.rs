//! `/reports`: a team's own SQL, run at most now and then, however many look.

use super::{
    NO_PAGE,
    answers::{Shared, html, json, split, with_status},
};
use crate::{
    config,
    page::reports::{self as page, Entry},
    read::{
        Reader,
        kept::{Kept, Seen},
        reports::{reader, run},
    },
    report::{Asked, Chart, Listed, Report, Table, Wrong, list},
};
use axum::{
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Results that are kept; anybody may ask for other values of parameters.
const MOST_RESULTS: usize = 32;

/// How long the list of reports runs them; those that are left then show what they showed last.
const PATIENCE: Duration = Duration::from_secs(2);

/// A result of these values, and the report as it was.
type Results = HashMap<(String, Vec<String>), (Report, Arc<Kept<Table>>)>;

/// The reports, and what they returned last.
pub struct Reports {
    directory: String,
    reader: Reader,
    results: Mutex<Results>,
}

impl Reports {
    /// Nothing is read yet.
    pub fn new(config: &config::Reports) -> Self {
        let reader = reader(config.database.clone());
        Self { directory: config.directory.clone(), reader, results: Mutex::default() }
    }

    async fn list(&self) -> Result<Vec<Listed>, Wrong> {
        let directory = self.directory.clone();
        let listed = tokio::task::spawn_blocking(move || list(&directory)).await;
        listed.unwrap_or_else(|error| Err(Wrong(vec![error.to_string()])))
    }

    /// Returns all reports, each with its result for the defaults, as far as there is time.
    async fn all(&self) -> Result<Vec<Entry>, Wrong> {
        let begun = Instant::now();
        let mut entries = Vec::new();
        for Listed { name, report } in self.list().await? {
            let seen = match &report {
                // A table is for its own page.
                Ok(report) if report.chart != Chart::Table => {
                    let asked = Asked::of(&report.parameters, &[], Utc::now());
                    let in_time = begun.elapsed() < PATIENCE;
                    if in_time { self.result(report, &asked).await } else { self.kept(report, &asked).last() }
                }
                _ => Seen::default(),
            };
            entries.push(Entry { name, report, seen });
        }
        Ok(entries)
    }

    /// Returns what a report returns for these values; nothing where they are wrong.
    async fn result(&self, report: &Report, asked: &Asked) -> Seen<Table> {
        let Ok(values) = &asked.values else { return Seen::default() };
        let kept = self.kept(report, asked);
        kept.get(async || run(&self.reader, report, values).await).await
    }

    fn kept(&self, report: &Report, asked: &Asked) -> Arc<Kept<Table>> {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (report.name.clone(), asked.texts.clone());
        if let Some((_, kept)) = results.get(&key).filter(|(known, _)| known == report) {
            return Arc::clone(kept);
        }
        if results.len() >= MOST_RESULTS {
            results.clear();
        }
        let kept = Arc::new(Kept::new(report.every));
        results.insert(key, (report.clone(), Arc::clone(&kept)));
        kept
    }
}

/// `/reports`
pub async fn all(State(app): Shared) -> Response {
    let Some(reports) = &app.reports else { return none() };
    let all = reports.all().await;
    with_problem(all.is_err(), html(&app, page::list(&reports.directory, &all)))
}

/// `/reports.json`
pub async fn all_json(State(app): Shared) -> Response {
    let Some(reports) = &app.reports else { return none() };
    let listed = reports.list().await;
    with_problem(listed.is_err(), json(&page::list_json(&listed)))
}

/// `/reports/NAME`, `/reports/NAME.json` and `/reports/NAME.csv`
pub async fn one(State(app): Shared, Path(path): Path<String>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let Some(reports) = &app.reports else { return none() };
    let (name, is_json) = split(&path);
    let (name, is_csv) = name.strip_suffix(".csv").map_or((name, false), |name| (name, true));
    let found = match reports.list().await {
        Ok(listed) => listed.into_iter().find(|listed| listed.name == name),
        Err(wrong) => Some(Listed { name: name.to_owned(), report: Err(wrong) }),
    };
    let Some(Listed { report, .. }) = found else { return none() };
    let report = match report {
        Ok(report) => report,
        Err(wrong) if is_csv || is_json => {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{wrong}\n")).into_response();
        }
        Err(wrong) => return with_problem(true, html(&app, page::wrong(name, &wrong))),
    };
    let asked = Asked::of(&report.parameters, &query, Utc::now());
    let seen = reports.result(&report, &asked).await;
    if let (Err(wrong), true) = (&asked.values, is_csv || is_json) {
        return (StatusCode::BAD_REQUEST, format!("{wrong}\n")).into_response();
    }
    if is_csv {
        return csv(&report, &seen);
    }
    let answer = if is_json {
        json(&page::json(&report, &asked, &seen))
    } else {
        html(&app, page::page(&report, &asked, &seen))
    };
    if asked.values.is_err() { (StatusCode::BAD_REQUEST, answer).into_response() } else { with_status(&seen, answer) }
}

fn csv(report: &Report, seen: &Seen<Table>) -> Response {
    // A file that is not what it seems would be worse than none.
    let table = match (&seen.value, &seen.failure) {
        (Some(table), None) => table,
        (_, failure) => {
            let why = failure.as_ref().map(ToString::to_string).unwrap_or_default();
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response();
        }
    };
    let cut = if table.is_cut { format!(".first-{}-rows", table.rows.len()) } else { String::new() };
    let name = format!("attachment; filename=\"{}{cut}.csv\"", report.name);
    let headers = [(header::CONTENT_TYPE, "text/csv; charset=utf-8"), (header::CONTENT_DISPOSITION, name.as_str())];
    (headers, table.csv()).into_response()
}

fn none() -> Response {
    (StatusCode::NOT_FOUND, NO_PAGE).into_response()
}

fn with_problem(is_wrong: bool, answer: Response) -> Response {
    if is_wrong { (StatusCode::SERVICE_UNAVAILABLE, answer).into_response() } else { answer }
}
