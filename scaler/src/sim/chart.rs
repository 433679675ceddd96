//! The chart of a run as SVG: messages, workers and latency over time, one panel each.

use super::{Outcome, Point};
use crate::policy::words;
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const PANEL: f64 = 170.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 56.0;
const GAP: f64 = 46.0;

/// Points drawn at most; a longer run is thinned, keeping each stretch's largest value.
const MOST_POINTS: usize = 900;

/// A line of a panel.
struct Line<'a> {
    label: &'a str,
    colour: &'a str,
    dashed: bool,
    value: &'a dyn Fn(&Point) -> f64,
}

/// Returns the chart of a run.
pub fn svg(title: &str, outcome: &Outcome, promised_secs: f64) -> String {
    let points = &outcome.points;
    let end = points.last().map_or(1.0, |point| point.at).max(1.0);
    let height = TOP + 3.0 * PANEL + 3.0 * GAP;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    let in_flight_or_waiting = |point: &Point| point.depth as f64;
    let sent = |point: &Point| point.sent as f64;
    let wanted = |point: &Point| f64::from(point.desired);
    let up = |point: &Point| f64::from(point.up);
    let paid = |point: &Point| f64::from(point.paid);
    let latency = |point: &Point| point.latency;
    let promised = |_: &Point| promised_secs;
    let line = |label, colour, dashed, value| Line { label, colour, dashed, value };
    let panels: [(&str, Vec<Line<'_>>); 3] = [
        (
            "messages",
            vec![
                line("sent", "#999999", true, &sent as &dyn Fn(&Point) -> f64),
                line("in the queue", "#1f77b4", false, &in_flight_or_waiting),
            ],
        ),
        (
            "workers",
            vec![
                line("paid for", "#bbbbbb", false, &paid),
                line("wanted", "#ff7f0e", true, &wanted),
                line("working", "#2ca02c", false, &up),
            ],
        ),
        (
            "seconds from sent to done",
            vec![line("promised", "#d62728", true, &promised), line("slowest", "#9467bd", false, &latency)],
        ),
    ];
    for (i, (label, lines)) in panels.iter().enumerate() {
        let top = TOP + i as f64 * (PANEL + GAP);
        panel(&mut out, label, lines, points, end, top);
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, label: &str, lines: &[Line<'_>], points: &[Point], end: f64, top: f64) {
    let most = lines.iter().flat_map(|line| points.iter().map(line.value)).fold(0.0, f64::max);
    let ceiling = nice_ceiling(most);
    let right = WIDTH - RIGHT;
    let x = |secs: f64| LEFT + (right - LEFT) * secs / end;
    let y = |value: f64| top + PANEL - PANEL * value / ceiling;
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{:.1}\" fill=\"#333333\">{label}</text>", top - 8.0);
    for quarter in 0..=4 {
        let value = ceiling * f64::from(quarter) / 4.0;
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#eeeeee\"/>\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\" fill=\"#666666\">{3}</text>",
            y(value),
            LEFT - 8.0,
            y(value) + 4.0,
            tick_label(value)
        );
    }
    for sixth in 0..=6 {
        let secs = end * f64::from(sixth) / 6.0;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666666\">{}</text>",
            x(secs),
            top + PANEL + 16.0,
            if secs == 0.0 { "0".to_owned() } else { words::secs(secs) }
        );
    }
    let chunk = points.len().div_ceil(MOST_POINTS).max(1);
    for (i, line) in lines.iter().enumerate() {
        let mut path = String::new();
        for part in points.chunks(chunk) {
            let value = part.iter().map(line.value).fold(0.0, f64::max);
            let _ = write!(path, "{:.1},{:.1} ", x(part[0].at), y(value));
        }
        let dash = if line.dashed { " stroke-dasharray=\"4 3\"" } else { "" };
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{0}\" stroke-width=\"1.6\"{dash} points=\"{1}\"/>\
             <line x1=\"{2}\" x2=\"{3}\" y1=\"{4:.1}\" y2=\"{4:.1}\" stroke=\"{0}\" stroke-width=\"2\"{dash}/>\
             <text x=\"{5}\" y=\"{6:.1}\">{7}</text>",
            line.colour,
            path.trim_end(),
            right + 14.0,
            right + 34.0,
            top + 12.0 + i as f64 * 18.0,
            right + 40.0,
            top + 16.0 + i as f64 * 18.0,
            line.label
        );
    }
}

/// Returns the next of 1, 2, 4, 5, 8 or 10 times a power of ten.
fn nice_ceiling(value: f64) -> f64 {
    if value <= 4.0 {
        return 4.0;
    }
    let power = 10.0_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 5.0, 8.0, 10.0].into_iter().map(|step| step * power).find(|c| *c >= value).unwrap_or(value)
}

fn tick_label(value: f64) -> String {
    if value >= 10_000.0 { format!("{}k", value / 1000.0) } else { format!("{value}") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chart_shows_all_three_panels_and_escapes_its_title() {
        let points = (0..5000)
            .map(|i| Point { at: f64::from(i) * 10.0, depth: 7, up: 2, desired: 2, paid: 2, ..Point::default() })
            .collect();
        let chart = svg("a <b> & c", &Outcome { points, ..Outcome::default() }, 900.0);
        assert!(chart.contains("a &lt;b&gt; &amp; c"));
        for word in ["in the queue", "wanted", "slowest"] {
            assert!(chart.contains(word), "{word}");
        }
        assert_eq!(chart.matches("<polyline").count(), 7);
        assert!(chart.len() < 200_000, "{}", chart.len());
    }

    #[test]
    fn axes_end_at_round_numbers() {
        let ends: Vec<_> = [0.0, 3.0, 9.0, 17.0, 41.0, 5001.0].into_iter().map(nice_ceiling).collect();
        assert_eq!(ends, [4.0, 4.0, 10.0, 20.0, 50.0, 8000.0]);
    }
}
