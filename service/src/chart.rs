//! What happened over time as SVG: panels one below the other, each with its lines.

use crate::words;
use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 56.0;
const GAP: f64 = 46.0;

/// Points drawn at most; a longer run is thinned, keeping each stretch's largest value.
const MOST_POINTS: usize = 900;

/// One figure of a panel.
pub struct Line<'a, P> {
    label: &'a str,
    colour: &'a str,
    dashed: bool,
    value: &'a dyn Fn(&P) -> f64,
}

impl<'a, P> Line<'a, P> {
    /// Returns a line of what `value` is at each point.
    pub fn new(label: &'a str, colour: &'a str, value: &'a dyn Fn(&P) -> f64) -> Self {
        Self { label, colour, dashed: false, value }
    }

    /// Draws it dashed.
    #[must_use]
    pub fn dashed(mut self) -> Self {
        self.dashed = true;
        self
    }
}

/// Lines that share an axis.
pub struct Panel<'a, P> {
    /// What the axis counts.
    pub label: &'a str,
    /// What is drawn.
    pub lines: Vec<Line<'a, P>>,
}

/// Returns the chart of a run: `at` is a point's time in seconds since its start, `panel_height` that of each panel
/// in pixels.
pub fn svg<P>(title: &str, points: &[P], at: impl Fn(&P) -> f64, panels: &[Panel<'_, P>], panel_height: f64) -> String {
    let end = points.last().map_or(1.0, &at).max(1.0);
    let height = TOP + panels.len() as f64 * (panel_height + GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    for (index, panel) in panels.iter().enumerate() {
        let top = TOP + index as f64 * (panel_height + GAP);
        let frame = Frame { top, height: panel_height, end, ceiling: ceiling_of(panel, points) };
        frame.draw_axes(&mut out, panel.label);
        for (index, line) in panel.lines.iter().enumerate() {
            frame.draw_line(&mut out, index, line, points, &at);
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Where a panel stands, and what its axes end at.
struct Frame {
    top: f64,
    height: f64,
    end: f64,
    ceiling: f64,
}

impl Frame {
    fn x(&self, secs: f64) -> f64 {
        LEFT + (WIDTH - RIGHT - LEFT) * secs / self.end
    }

    fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - value / self.ceiling)
    }

    fn draw_axes(&self, out: &mut String, label: &str) {
        let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{:.1}\" fill=\"#333333\">{label}</text>", self.top - 8.0);
        for quarter in 0..=4 {
            let value = self.ceiling * f64::from(quarter) / 4.0;
            let _ = writeln!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{0}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"#eeeeee\"/>\
                 <text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\" fill=\"#666666\">{4}</text>",
                WIDTH - RIGHT,
                self.y(value),
                LEFT - 8.0,
                self.y(value) + 4.0,
                tick_label(value)
            );
        }
        for sixth in 0..=6 {
            let secs = self.end * f64::from(sixth) / 6.0;
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666666\">{}</text>",
                self.x(secs),
                self.top + self.height + 16.0,
                if secs == 0.0 { "0".to_owned() } else { words::secs(secs) }
            );
        }
    }

    fn draw_line<P>(&self, out: &mut String, index: usize, line: &Line<'_, P>, points: &[P], at: impl Fn(&P) -> f64) {
        let mut path = String::new();
        let stretch = points.len().div_ceil(MOST_POINTS).max(1);
        for points in points.chunks(stretch) {
            let value = points.iter().map(line.value).fold(0.0, f64::max);
            let _ = write!(path, "{:.1},{:.1} ", self.x(at(&points[0])), self.y(value));
        }
        let dash = if line.dashed { " stroke-dasharray=\"4 3\"" } else { "" };
        let legend = self.top + 12.0 + index as f64 * 18.0;
        let right = WIDTH - RIGHT;
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{0}\" stroke-width=\"1.6\"{dash} points=\"{1}\"/>\
             <line x1=\"{2}\" x2=\"{3}\" y1=\"{legend:.1}\" y2=\"{legend:.1}\" stroke=\"{0}\" stroke-width=\"2\"{dash}/>\
             <text x=\"{4}\" y=\"{5:.1}\">{6}</text>",
            line.colour,
            path.trim_end(),
            right + 14.0,
            right + 34.0,
            right + 40.0,
            legend + 4.0,
            line.label
        );
    }
}

fn ceiling_of<P>(panel: &Panel<'_, P>, points: &[P]) -> f64 {
    let values = panel.lines.iter().flat_map(|line| points.iter().map(line.value));
    nice_ceiling(values.fold(0.0, f64::max))
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

    fn chart_of(points: &[(f64, f64)]) -> String {
        let (value, double) = (|point: &(f64, f64)| point.1, |point: &(f64, f64)| 2.0 * point.1);
        let panel = |label| Panel {
            label,
            lines: vec![Line::new("once", "#1f77b4", &value), Line::new("twice", "#ff7f0e", &double).dashed()],
        };
        svg("a <b> & c", points, |point| point.0, &[panel("messages"), panel("workers")], 170.0)
    }

    #[test]
    fn every_line_is_drawn_within_its_panel() {
        let chart = chart_of(&[(0.0, 0.0), (10.0, 17.0), (20.0, 3.0)]);
        assert!(chart.contains("a &lt;b&gt; &amp; c"));
        let lines: Vec<&str> = chart
            .split("<polyline")
            .skip(1)
            .filter_map(|rest| rest.split("points=\"").nth(1)?.split('"').next())
            .collect();
        assert_eq!(lines.len(), 4);
        for (index, line) in lines.into_iter().enumerate() {
            let top = TOP + (index / 2) as f64 * (170.0 + GAP);
            for point in line.split_whitespace() {
                let (x, y) = point.split_once(',').expect("a point");
                let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
                assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (top..=top + 170.0).contains(&y), "{index}: {point}");
            }
        }
    }

    #[test]
    fn a_long_run_is_thinned_and_keeps_its_peaks() {
        let points: Vec<_> = (0..50_000).map(|i| (f64::from(i), if i == 31_007 { 100.0 } else { 0.0 })).collect();
        let chart = chart_of(&points);
        assert!(chart.len() < 100_000, "{}", chart.len());
        // Half of the axis, which ends at 200.
        assert!(chart.contains(&format!(",{:.1} ", TOP + 85.0)), "the peak is lost");
    }

    #[test]
    fn axes_end_at_round_numbers() {
        let ends: Vec<_> = [0.0, 3.0, 9.0, 17.0, 41.0, 5001.0].into_iter().map(nice_ceiling).collect();
        assert_eq!(ends, [4.0, 4.0, 10.0, 20.0, 50.0, 8000.0]);
    }
}
