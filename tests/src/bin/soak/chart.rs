//! The chart of a soak: a panel a figure, one below the other, over time.

use super::{Figure, Sample};
use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const PANEL: f64 = 90.0;
const GAP: f64 = 28.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 24.0;

/// Returns the chart.
pub fn svg(samples: &[Sample], figures: &[Figure]) -> String {
    let end = samples.last().map_or(1.0, |sample| sample.at_secs).max(1.0);
    let height = TOP + figures.len() as f64 * (PANEL + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (panel, (name, value)) in figures.iter().enumerate() {
        let bottom = TOP + panel as f64 * (PANEL + GAP) + PANEL;
        let most = samples.iter().map(value).fold(1.0, f64::max);
        let points: String = samples.iter().fold(String::new(), |mut points, sample| {
            let x = LEFT + (WIDTH - LEFT - RIGHT) * sample.at_secs / end;
            let _ = write!(points, "{x:.1},{:.1} ", bottom - PANEL * value(sample) / most);
            points
        });
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{name}</text>\
             <line x1=\"{LEFT}\" x2=\"{}\" y1=\"{bottom:.1}\" y2=\"{bottom:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{most:.0}</text>\
             <text x=\"{}\" y=\"{bottom:.1}\" text-anchor=\"end\">0</text>\
             <polyline fill=\"none\" stroke=\"#1f6fb4\" stroke-width=\"1.5\" points=\"{}\"/>",
            bottom - PANEL - 4.0,
            WIDTH - RIGHT,
            LEFT - 6.0,
            bottom - PANEL + 10.0,
            LEFT - 6.0,
            points.trim_end(),
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{:.0} min</text>\n</svg>",
        WIDTH - RIGHT,
        height - 8.0,
        end / 60.0
    );
    svg
}
