//! One pool over time.

use crate::{
    html::{cut, drawn, text},
    read::chart::{Point, Span},
};
use chrono::Duration;
use maud::{Markup, html};
use service::chart::{Line, Look, Panel, fragment};

/// Rows of the table that says the same in figures.
const ROWS: usize = 12;

/// Returns links to how far back may be looked.
pub fn spans(shown: Span, link: impl Fn(Span) -> String) -> Markup {
    html! {
        nav .spans aria-label="How far back" {
            @for span in Span::ALL {
                a href=(link(span)) aria-current=[(span == shown).then_some("true")] { (span.words()) }
            }
        }
    }
}

/// Returns a pool's messages and workers, drawn and in figures.
pub fn chart(pool: &str, points: &[Point], span: Span) -> Markup {
    let Some(first) = points.first().filter(|_| points.iter().any(|point| point.desired.is_some())) else {
        return html! { p .quiet { "Nothing was decided in that time." } };
    };
    let begin = first.at;
    let or_gap = |value: Option<f64>| value.unwrap_or(f64::NAN);
    let depth = |point: &Point| or_gap(point.depth);
    let arriving = |point: &Point| or_gap(point.arriving);
    let desired = |point: &Point| or_gap(point.desired.map(f64::from));
    let running = |point: &Point| or_gap(point.running);
    let panels = [
        Panel {
            label: "messages",
            lines: vec![
                Line::new("sent in a minute", "var(--line-2)", &arriving).dashed(),
                Line::new("in the queue", "var(--line-1)", &depth),
            ],
        },
        Panel {
            label: "workers",
            lines: vec![
                Line::new("wanted", "var(--line-4)", &desired).dashed(),
                Line::new("running", "var(--line-3)", &running),
            ],
        },
    ];
    let at = |point: &Point| (point.at - begin).as_seconds_f64();
    let end = points.last().map_or(0.0, at);
    let format = if span.secs() > 90_000.0 { "%m-%d %H:%M" } else { "%H:%M" };
    let tick = |secs: f64| (begin + Duration::milliseconds((secs * 1000.0) as i64)).format(format).to_string();
    let most = |value: &dyn Fn(&Point) -> f64| points.iter().map(value).fold(0.0, f64::max);
    let summary = format!(
        "Pool {pool}, {} in UTC: at most {:.0} messages in the queue and {:.0} workers running",
        span.words(),
        most(&depth),
        most(&running)
    );
    let draw = |look: &Look, height| drawn(fragment(look, &cut(&summary), points, (&at, end), &panels, height, &tick));
    html! {
        figure {
            ul .legend aria-hidden="true" {
                li .line-1 { "messages in the queue" }
                li .line-2 { "sent in a minute" }
                li .line-3 { "workers running" }
                li .line-4 { "workers wanted" }
            }
            div .wide { (draw(&Look::PAGE, 150.0)) }
            div .narrow { (draw(&Look::NARROW_PAGE, 120.0)) }
            figcaption { (text(&summary)) "." }
        }
        (figures(points))
    }
}

fn figures(points: &[Point]) -> Markup {
    let step = points.len().div_ceil(ROWS).max(1);
    html! {
        details {
            summary { "The same in figures" }
            table .whole {
                thead { tr {
                    th scope="col" { "Time (UTC)" }
                    th scope="col" .n { "In the queue" }
                    th scope="col" .n { "Sent in a minute" }
                    th scope="col" .n { "Running" }
                    th scope="col" .n { "Wanted" }
                } }
                tbody {
                    @for point in points.iter().rev().step_by(step) {
                        tr {
                            th scope="row" { (point.at.format("%m-%d %H:%M:%S")) }
                            @for value in [point.depth, point.arriving, point.running, point.desired.map(f64::from)] {
                                td .n { @match value { Some(value) => (format!("{value:.0}")), None => "–" } }
                            }
                        }
                    }
                }
            }
        }
    }
}
