//! The chart of a run: messages sent, queue depth and workers over time, as SVG.

use crate::watch::Sample;
use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 60.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 40.0;

/// Returns the chart.
pub fn svg(samples: &[Sample]) -> String {
    let last = samples.last().map_or(1.0, |s| s.at_secs).max(1.0);
    let most_messages = samples.iter().map(|s| s.sent.max(s.depth)).max().unwrap_or(1).max(1) as f64;
    let most_workers = samples.iter().map(|s| s.workers).max().unwrap_or(1).max(1) as f64;
    let x = |secs: f64| LEFT + (WIDTH - LEFT - RIGHT) * secs / last;
    let y = |share: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share;
    let line = |value: &dyn Fn(&Sample) -> f64| {
        let mut points = String::new();
        let mut before = None;
        for sample in samples {
            let height = y(value(sample));
            // Steps: a count holds until the next sample.
            if let Some(before) = before {
                let _ = write!(points, "{:.1},{before:.1} ", x(sample.at_secs));
            }
            let _ = write!(points, "{:.1},{height:.1} ", x(sample.at_secs));
            before = Some(height);
        }
        points
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = y(share);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{:.0}</text>\
             <text x=\"{}\" y=\"{:.1}\">{:.1}</text>\
             <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{:.0} s</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            most_messages * share,
            WIDTH - RIGHT + 6.0,
            at + 4.0,
            most_workers * share,
            x(last * share),
            HEIGHT - BOTTOM + 18.0,
            last * share,
        );
    }
    for (index, (name, colour, points)) in [
        ("messages sent", "#888", line(&|s| s.sent as f64 / most_messages)),
        ("queue depth", "#1f6fb4", line(&|s| s.depth as f64 / most_messages)),
        ("workers (right)", "#d6541f", line(&|s| s.workers as f64 / most_workers)),
    ]
    .into_iter()
    .enumerate()
    {
        let at = LEFT + index as f64 * 150.0;
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\
             <rect x=\"{at}\" y=\"14\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"24\">{name}</text>",
            points.trim_end(),
            at + 18.0,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_drawn_within_the_frame() {
        let sample = |at_secs, sent, depth, workers| Sample { at_secs, sent, depth, workers };
        let svg = svg(&[sample(0.5, 0, 0, 0), sample(1.0, 10, 10, 2), sample(2.0, 10, 0, 0)]);
        assert_eq!(svg.matches("<polyline").count(), 3);
        for points in svg.split("points=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            for point in points.split_whitespace() {
                let (x, y) = point.split_once(',').expect("a point");
                let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
                assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y), "{point}");
            }
        }
    }
}
