//! The chart of a run: messages, workers and latency over time, one panel each.

use super::{Outcome, Point};
use service::chart::{self, Line, Panel};

/// Height of a panel in pixels.
const PANEL: f64 = 170.0;

/// Returns the chart of a run as SVG.
pub fn svg(title: &str, outcome: &Outcome, promised_secs: f64) -> String {
    let waiting = |point: &Point| point.depth as f64;
    let sent = |point: &Point| point.sent as f64;
    let wanted = |point: &Point| f64::from(point.desired);
    let up = |point: &Point| f64::from(point.up);
    let paid = |point: &Point| f64::from(point.paid);
    let latency = |point: &Point| point.latency;
    let promised = |_: &Point| promised_secs;
    let panels = [
        Panel {
            label: "messages",
            lines: vec![Line::new("sent", "#999999", &sent).dashed(), Line::new("in the queue", "#1f77b4", &waiting)],
        },
        Panel {
            label: "workers",
            lines: vec![
                Line::new("paid for", "#bbbbbb", &paid),
                Line::new("wanted", "#ff7f0e", &wanted).dashed(),
                Line::new("working", "#2ca02c", &up),
            ],
        },
        Panel {
            label: "seconds from sent to done",
            lines: vec![
                Line::new("promised", "#d62728", &promised).dashed(),
                Line::new("slowest", "#9467bd", &latency),
            ],
        },
    ];
    chart::svg(title, &outcome.points, |point| point.at, &panels, PANEL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chart_shows_all_three_panels() {
        let points = (0..5000)
            .map(|i| Point { at: f64::from(i) * 10.0, depth: 7, up: 2, desired: 2, paid: 2, ..Point::default() })
            .collect();
        let chart = svg("a burst", &Outcome { points, ..Outcome::default() }, 900.0);
        for word in ["in the queue", "wanted", "slowest"] {
            assert!(chart.contains(word), "{word}");
        }
        assert_eq!(chart.matches("<polyline").count(), 7);
    }
}
