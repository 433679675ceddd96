//! `/datasets/NAME`: how much of a dataset comes, how long it takes, and what becomes of it.

use super::{encoded, over_time, problems, rejects};
use crate::{
    html::{Page, ago, cut, drawn, number, panel, prose, secs_or, text},
    read::{
        chart::Span,
        dataset::{Awaited, Dataset, Interval, MadeBy, Step},
        kept::Seen,
        now::{Kind, Problem},
    },
};
use chrono::{DateTime, Duration, Utc};
use maud::{Markup, html};
use serde_json::Value;
use service::chart::{Line, Look, Panel, fragment};

/// Returns the page.
#[must_use]
pub fn page(name: &str, span: Span, seen: &Seen<Dataset>) -> Page {
    let path = format!("/datasets/{}", encoded(name));
    let of_kind = |dataset: &Dataset, is_rejects: bool| -> Vec<Problem> {
        let known = dataset.problems.iter().filter(|problem| (problem.kind == Kind::Rejected) == is_rejects);
        known.cloned().collect()
    };
    let body = html! {
        section id="over-time" aria-labelledby="over-time-title" {
            h1 id="over-time-title" { "Dataset " (text(name)) }
            (over_time::spans(span, |span| format!("{path}?span={}", span.word())))
            (panel(seen, |dataset| html! {
                @if !dataset.is_known { p .quiet { "Nothing of it is known. It may be new, or have another name." } }
                @else { (charts(name, span, dataset)) }
            }))
            p { a href=(format!("/objects?dataset={}", encoded(name))) { "Its objects" } }
        }
        section id="broken" aria-labelledby="broken-title" {
            h2 id="broken-title" { "What failed" }
            (panel(seen, |dataset| problems::list(&of_kind(dataset, false))))
        }
        section id="rejects" aria-labelledby="rejects-title" {
            h2 id="rejects-title" { "Rejected rows" }
            (panel(seen, |dataset| rejects::kinds(&of_kind(dataset, true))))
        }
        section id="made" aria-labelledby="made-title" {
            h2 id="made-title" { "What its last objects were made by" }
            (panel(seen, |dataset| made(&dataset.made)))
        }
        section id="waits" aria-labelledby="waits-title" {
            h2 id="waits-title" { "Steps, and who waits for what" }
            (panel(seen, |dataset| related(&dataset.steps, &dataset.awaited)))
        }
    };
    let json = format!("{path}.json?span={}", span.word());
    Page { path: "/datasets", title: format!("Dataset {name}"), stream: None, json, body }
}

/// Returns the same as JSON.
#[must_use]
pub fn json(seen: &Seen<Dataset>) -> Value {
    seen.json()
}

/// Returns the intervals with those in which nothing happened.
fn filled(intervals: &[Interval], span: Span, secs: f64) -> Vec<Interval> {
    let step = secs as i64;
    let end = Utc::now().timestamp() / step * step;
    let n = (span.secs() / secs) as i64;
    let mut known = intervals.iter().peekable();
    let mut all = Vec::new();
    for place in (0..n).rev() {
        let at = end - place * step;
        while known.peek().is_some_and(|interval| interval.at.timestamp() < at) {
            known.next();
        }
        match known.peek() {
            Some(interval) if interval.at.timestamp() == at => all.push((*interval).clone()),
            _ => all.push(empty(DateTime::from_timestamp(at, 0).unwrap_or_default())),
        }
    }
    all
}

fn empty(at: DateTime<Utc>) -> Interval {
    Interval {
        at,
        n_imported: 0,
        n_skipped: 0,
        n_superseded: 0,
        n_gone: 0,
        n_failed: 0,
        rows_written: 0,
        rows_rejected: 0,
        bytes: 0,
        lag_p50: None,
        lag_p95: None,
    }
}

fn charts(name: &str, span: Span, dataset: &Dataset) -> Markup {
    if dataset.intervals.is_empty() {
        return html! { p .quiet { "None of its objects came through a queue in that time." } };
    }
    let intervals = filled(&dataset.intervals, span, dataset.interval_secs);
    let minutes = dataset.interval_secs / 60.0;
    let rows = |i: &Interval| i.rows_written as f64 / minutes;
    let half = |i: &Interval| i.lag_p50.unwrap_or(f64::NAN);
    let most = |i: &Interval| i.lag_p95.unwrap_or(f64::NAN);
    let imported = |i: &Interval| i.n_imported as f64 / minutes;
    let skipped = |i: &Interval| (i.n_skipped + i.n_gone) as f64 / minutes;
    let superseded = |i: &Interval| i.n_superseded as f64 / minutes;
    let failed = |i: &Interval| i.n_failed as f64 / minutes;
    let rejected = |i: &Interval| i.rows_rejected as f64 / minutes;
    let panels = [
        Panel {
            label: "objects in a minute",
            lines: vec![
                Line::bars("imported", "var(--line-3)", &imported),
                Line::bars("superseded", "var(--line-1)", &superseded),
                Line::bars("skipped or gone", "var(--line-2)", &skipped),
                Line::bars("failed", "var(--late)", &failed),
            ],
        },
        Panel { label: "rows in a minute", lines: vec![Line::new("written", "var(--line-3)", &rows)] },
        Panel { label: "rejected rows in a minute", lines: vec![Line::bars("rejected", "var(--late)", &rejected)] },
        Panel {
            label: "seconds from put to commit",
            lines: vec![Line::new("95 %", "var(--line-4)", &most).dashed(), Line::new("half", "var(--line-1)", &half)],
        },
    ];
    // What the last one holds is not known before it is over.
    let over = &intervals[..intervals.len().saturating_sub(1)];
    let begin = intervals.first().map_or_else(Utc::now, |interval| interval.at);
    let at = |interval: &Interval| (interval.at - begin).as_seconds_f64();
    let format = if span.secs() > 90_000.0 { "%m-%d %H:%M" } else { "%H:%M" };
    let tick = |secs: f64| (begin + Duration::seconds(secs as i64)).format(format).to_string();
    let sum = |n: fn(&Interval) -> i64| number(intervals.iter().map(n).sum());
    let summary = format!(
        "Dataset {name}, {} in UTC: {} objects imported, {} failed, {} rows written, {} rejected",
        span.words(),
        sum(|i| i.n_imported),
        sum(|i| i.n_failed),
        sum(|i| i.rows_written),
        sum(|i| i.rows_rejected)
    );
    let draw =
        |look: &Look, height| drawn(fragment(look, &cut(&summary), over, (&at, span.secs()), &panels, height, &tick));
    html! {
        figure {
            ul .legend aria-hidden="true" {
                li .line-3 { "imported, written" } li .line-1 { "superseded; half of the lags" } li .line-2 { "skipped or gone" }
                li .line-5 { "failed, rejected" } li .line-4 { "95 % of the lags" }
            }
            div .wide { (draw(&Look::PAGE, 110.0)) }
            div .narrow { (draw(&Look::NARROW_PAGE, 100.0)) }
            figcaption { (text(&summary)) "." }
        }
        (figures(&intervals))
    }
}

fn figures(intervals: &[Interval]) -> Markup {
    let with_objects = intervals.iter().rev().filter(|i| i.n_imported + i.n_failed + i.n_skipped + i.n_superseded > 0);
    html! {
        details {
            summary { "The same in figures" }
            table {
                thead { tr {
                    th scope="col" { "From (UTC)" } th scope="col" .n { "Imported" } th scope="col" .n { "Failed" }
                    th scope="col" .n { "Rows" } th scope="col" .n { "Rejected" } th scope="col" .n { "Half within" } th scope="col" .n { "95 % within" }
                } }
                tbody { @for interval in with_objects.take(24) { tr {
                    th scope="row" { (interval.at.format("%m-%d %H:%M")) }
                    @for (label, n) in [("Imported", interval.n_imported), ("Failed", interval.n_failed), ("Rows", interval.rows_written), ("Rejected", interval.rows_rejected)] {
                        td .n data-label=(label) { (number(n)) }
                    }
                    @for (label, secs) in [("Half within", interval.lag_p50), ("95 % within", interval.lag_p95)] {
                        td .n data-label=(label) { (secs_or(secs, "–")) }
                    }
                } } }
            }
        }
    }
}

fn made(made: &[MadeBy]) -> Markup {
    html! {
        @if made.is_empty() { p .quiet { "None was imported within two hours." } } @else {
            ul { @for made in made { li {
                (number(made.n)) " by recipe " span .word { (text(made.recipe.as_deref().unwrap_or("unknown"))) }
                @if let Some(latest) = made.latest { ", the last " (ago(latest)) }
            } } }
            p .quiet {
                "Of the last 2,000 objects of all datasets. A recipe is what shapes rows: settings, SQL, program. "
                (prose("`importer check` counts all that stand by an older one."))
            }
        }
    }
}

fn related(steps: &[Step], awaited: &[Awaited]) -> Markup {
    html! {
        @if steps.is_empty() && awaited.is_empty() { p .quiet { "It follows none, none follows it, and nothing is awaited." } }
        ul {
            @for step in steps { li {
                (text(&step.dataset)) " follows " @for (place, after) in step.after.iter().enumerate() { @if place > 0 { ", " } (text(after)) }
                ", by queue " (text(&step.queue))
            } }
            @for wait in awaited { li {
                (text(&wait.dataset)) " awaits keys of field " (text(&wait.field)) " in " (text(&wait.lookup))
                @if !wait.fillers.is_empty() { ", which " @for (place, filler) in wait.fillers.iter().enumerate() { @if place > 0 { ", " } (text(filler)) } " fill" }
                ": " (number(wait.n.min(1000))) @if wait.n > 1000 { "+" } " keys wait now"
            } }
        }
    }
}
