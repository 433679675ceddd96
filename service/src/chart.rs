//! What happened over time as SVG: panels one below the other, each with its lines; and bars that have names.

mod bars;

pub use bars::{Bar, bars};

use crate::words;
use std::fmt::Write as _;

const GAP: f64 = 46.0;

/// Points drawn at most; a longer run is thinned, keeping each stretch's largest value.
const MOST_POINTS: usize = 900;

/// One figure of a panel.
pub struct Line<'a, P> {
    label: &'a str,
    colour: &'a str,
    dashed: bool,
    stacked: bool,
    value: &'a dyn Fn(&P) -> f64,
}

impl<'a, P> Line<'a, P> {
    /// Returns a line of what `value` is at each point.
    pub fn new(label: &'a str, colour: &'a str, value: &'a dyn Fn(&P) -> f64) -> Self {
        Self { label, colour, dashed: false, stacked: false, value }
    }

    /// Returns what `value` is at each point as bars, on top of those of the panel before it.
    pub fn bars(label: &'a str, colour: &'a str, value: &'a dyn Fn(&P) -> f64) -> Self {
        Self { stacked: true, ..Self::new(label, colour, value) }
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

/// Where a chart is shown.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    width: f64,
    left: f64,
    right: f64,
    top: f64,
    ticks: u32,
    ink: &'static str,
    faint: &'static str,
    grid: &'static str,
}

/// A picture of its own: white, with its title and what the lines mean.
const PICTURE: Look = Look {
    width: 960.0,
    left: 70.0,
    right: 150.0,
    top: 56.0,
    ticks: 6,
    ink: "#333333",
    faint: "#666666",
    grid: "#eeeeee",
};

impl Look {
    /// Part of a page, which says what it shows and what the lines mean, and has the colours `--ink`, `--faint` and
    /// `--grid`.
    pub const PAGE: Self = Self {
        width: 960.0,
        left: 56.0,
        right: 14.0,
        top: 24.0,
        ticks: 6,
        ink: "var(--ink)",
        faint: "var(--faint)",
        grid: "var(--grid)",
    };
    /// The same on a telephone.
    pub const NARROW_PAGE: Self = Self { width: 400.0, left: 44.0, ticks: 3, ..Self::PAGE };

    fn is_page(&self) -> bool {
        self.right < 100.0
    }
}

/// Returns the chart of a run: `at` is a point's time in seconds since its start, `panel_height` that of each panel
/// in pixels.
pub fn svg<P>(title: &str, points: &[P], at: impl Fn(&P) -> f64, panels: &[Panel<'_, P>], panel_height: f64) -> String {
    let end = points.last().map_or(1.0, &at).max(1.0);
    let tick = |secs: f64| if secs == 0.0 { "0".to_owned() } else { words::secs(secs) };
    draw(&PICTURE, title, points, (&at, end), panels, panel_height, &tick)
}

/// Returns a chart as part of a page, over `span_secs`. `tick` says what stands under the axis at a time; where a value is
/// not a number, a line has a gap.
pub fn fragment<P>(
    look: &Look,
    title: &str,
    points: &[P],
    (at, span_secs): (&dyn Fn(&P) -> f64, f64),
    panels: &[Panel<'_, P>],
    panel_height: f64,
    tick: &dyn Fn(f64) -> String,
) -> String {
    draw(look, title, points, (at, span_secs.max(1.0)), panels, panel_height, tick)
}

fn draw<P>(
    look: &Look,
    title: &str,
    points: &[P],
    (at, end): (&dyn Fn(&P) -> f64, f64),
    panels: &[Panel<'_, P>],
    panel_height: f64,
    tick: &dyn Fn(f64) -> String,
) -> String {
    let (width, left, title) = (look.width, look.left, escaped(title));
    let height = look.top + panels.len() as f64 * (panel_height + GAP) - if look.is_page() { GAP - 24.0 } else { 0.0 };
    let mut out = if look.is_page() {
        format!("<svg role=\"img\" aria-label=\"{title}\" viewBox=\"0 0 {width} {height}\" font-size=\"12\">\n")
    } else {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{left}\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{title}</text>\n"
        )
    };
    for (index, panel) in panels.iter().enumerate() {
        let top = look.top + index as f64 * (panel_height + GAP);
        let (floor, ceiling) = range_of(panel, points);
        let frame = Frame { look, top, height: panel_height, end, floor, ceiling };
        frame.draw_axes(&mut out, panel.label, tick);
        let mut heights = vec![0.0; points.len()];
        for (index, line) in panel.lines.iter().enumerate() {
            if line.stacked {
                frame.draw_bars(&mut out, line, points, at, &mut heights);
            } else {
                frame.draw_line(&mut out, line, points, at);
            }
            if !look.is_page() {
                frame.draw_meaning(&mut out, index, line);
            }
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Where a panel stands, and what its axes end at.
struct Frame<'l> {
    look: &'l Look,
    top: f64,
    height: f64,
    end: f64,
    floor: f64,
    ceiling: f64,
}

impl Frame<'_> {
    fn x(&self, secs: f64) -> f64 {
        self.look.left + (self.look.width - self.look.right - self.look.left) * secs / self.end
    }

    fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - (value - self.floor) / (self.ceiling - self.floor))
    }

    fn draw_axes(&self, out: &mut String, label: &str, tick: &dyn Fn(f64) -> String) {
        let Look { width, left, right, ticks, ink, faint, grid, .. } = *self.look;
        let begin = if self.look.is_page() { 0.0 } else { left };
        let label = escaped(label);
        let above = if self.look.is_page() { 12.0 } else { 8.0 };
        let _ = writeln!(out, "<text x=\"{begin}\" y=\"{:.1}\" fill=\"{ink}\">{label}</text>", self.top - above);
        for quarter in 0..=4 {
            let value = self.floor + (self.ceiling - self.floor) * f64::from(quarter) / 4.0;
            let _ = writeln!(
                out,
                "<line x1=\"{left}\" x2=\"{0}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"{grid}\"/>\
                 <text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\" fill=\"{faint}\">{4}</text>",
                width - right,
                self.y(value),
                left - 8.0,
                self.y(value) + 4.0,
                tick_label(value)
            );
        }
        for part in 0..=ticks {
            let secs = self.end * f64::from(part) / f64::from(ticks);
            // On a page the last one would be cut.
            let anchor = if self.look.is_page() && part == ticks { "end" } else { "middle" };
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" fill=\"{faint}\">{}</text>",
                self.x(secs),
                self.top + self.height + 16.0,
                escaped(&tick(secs))
            );
        }
    }

    fn draw_line<P>(&self, out: &mut String, line: &Line<'_, P>, points: &[P], at: impl Fn(&P) -> f64) {
        let dash = if line.dashed { " stroke-dasharray=\"4 3\"" } else { "" };
        let mut draw = |path: &mut String| {
            let (colour, points) = (line.colour, path.trim_end());
            if let Some((x, y)) = points.split_once(',').filter(|_| !points.contains(' ')) {
                // A line of one point would not be seen.
                let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"2\" fill=\"{colour}\"/>");
            } else if !points.is_empty() {
                let _ = writeln!(
                    out,
                    "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"{dash} points=\"{points}\"/>"
                );
            }
            path.clear();
        };
        let mut path = String::new();
        let stretch = points.len().div_ceil(MOST_POINTS).max(1);
        for points in points.chunks(stretch) {
            let value = points.iter().map(line.value).fold(f64::NAN, f64::max);
            if value.is_nan() {
                draw(&mut path);
            } else {
                let _ = write!(path, "{:.1},{:.1} ", self.x(at(&points[0])), self.y(value));
            }
        }
        draw(&mut path);
    }

    /// Draws bars that begin at `heights`, and raises those.
    fn draw_bars<P>(
        &self,
        out: &mut String,
        line: &Line<'_, P>,
        points: &[P],
        at: impl Fn(&P) -> f64,
        heights: &mut [f64],
    ) {
        let width = (self.x(self.end) - self.x(0.0)) / points.len().max(1) as f64 * 0.8;
        for (point, height) in points.iter().zip(heights) {
            let value = (line.value)(point);
            if value > 0.0 {
                let (bottom, top) = (self.y(*height), self.y(*height + value));
                *height += value;
                let _ = writeln!(
                    out,
                    "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
                    self.x(at(point)),
                    bottom - top,
                    line.colour
                );
            }
        }
    }

    fn draw_meaning<P>(&self, out: &mut String, index: usize, line: &Line<'_, P>) {
        let dash = if line.dashed { " stroke-dasharray=\"4 3\"" } else { "" };
        let legend = self.top + 12.0 + index as f64 * 18.0;
        let right = self.look.width - self.look.right;
        let _ = writeln!(
            out,
            "<line x1=\"{1}\" x2=\"{2}\" y1=\"{legend:.1}\" y2=\"{legend:.1}\" stroke=\"{0}\" stroke-width=\"2\"{dash}/>\
             <text x=\"{3}\" y=\"{4:.1}\">{5}</text>",
            line.colour,
            right + 14.0,
            right + 34.0,
            right + 40.0,
            legend + 4.0,
            escaped(line.label)
        );
    }
}

/// Returns where a panel's axis begins and ends; with values below zero, as far below as above.
fn range_of<P>(panel: &Panel<'_, P>, points: &[P]) -> (f64, f64) {
    let (bars, lines): (Vec<_>, Vec<_>) = panel.lines.iter().partition(|line| line.stacked);
    let values = lines.iter().flat_map(|line| points.iter().map(line.value));
    let sums = points.iter().map(|point| bars.iter().map(|line| (line.value)(point)).sum());
    let all = values.chain(sums);
    let (low, high) = all.fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let ceiling = nice_ceiling(high.max(-low));
    (if low < 0.0 { -ceiling } else { 0.0 }, ceiling)
}

/// Returns the next of 1, 2, 4, 5, 8 or 10 times a power of ten; what is counted has an axis up to 4 at least.
fn nice_ceiling(value: f64) -> f64 {
    if value == 0.0 || (1.0..=4.0).contains(&value) {
        return 4.0;
    }
    let power = 10.0_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 5.0, 8.0, 10.0].into_iter().map(|step| step * power).find(|c| *c >= value).unwrap_or(value)
}

fn tick_label(value: f64) -> String {
    let (divisor, unit) = match value.abs() {
        size if size >= 1e15 || (size > 0.0 && size < 1e-4) => return format!("{value:e}"),
        size if size >= 1e9 => (1e9, "G"),
        size if size >= 1e6 => (1e6, "M"),
        size if size >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    // Without what binary fractions leave behind.
    format!("{}{unit}", (value / divisor * 1e6).round() / 1e6)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
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
        let Look { width, left, right, .. } = PICTURE;
        for (index, line) in lines.into_iter().enumerate() {
            let top = PICTURE.top + (index / 2) as f64 * (170.0 + GAP);
            for point in line.split_whitespace() {
                let (x, y) = point.split_once(',').expect("a point");
                let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
                assert!((left..=width - right).contains(&x) && (top..=top + 170.0).contains(&y), "{index}: {point}");
            }
        }
    }

    #[test]
    fn a_long_run_is_thinned_and_keeps_its_peaks() {
        let points: Vec<_> = (0..50_000).map(|i| (f64::from(i), if i == 31_007 { 100.0 } else { 0.0 })).collect();
        let chart = chart_of(&points);
        assert!(chart.len() < 100_000, "{}", chart.len());
        // Half of the axis, which ends at 200.
        assert!(chart.contains(&format!(",{:.1} ", PICTURE.top + 85.0)), "the peak is lost");
    }

    #[test]
    fn on_a_page_lines_have_gaps_and_a_name_cannot_end_its_attribute() {
        let value = |point: &(f64, f64)| point.1;
        let panels = [Panel { label: "workers", lines: vec![Line::new("running", "var(--a)", &value)] }];
        let points = [(0.0, 1.0), (10.0, 2.0), (20.0, f64::NAN), (30.0, f64::NAN), (40.0, 3.0), (50.0, 3.0)];
        let chart = fragment(&Look::PAGE, "a \"<b>", &points, (&|point| point.0, 60.0), &panels, 90.0, &|secs| {
            format!("{secs}")
        });
        assert_eq!(chart.matches("<polyline").count(), 2);
        assert!(chart.contains("aria-label=\"a &quot;&lt;b&gt;\"") && chart.contains(">60</text>"), "{chart}");
        assert!(!chart.contains("NaN") && !chart.contains("white"), "{chart}");
    }

    #[test]
    fn bars_stand_on_each_other() {
        let (low, high) = (|point: &(f64, f64)| point.1, |point: &(f64, f64)| 3.0 * point.1);
        let bars = vec![Line::bars("low", "a", &low), Line::bars("high", "b", &high)];
        let panels = [Panel { label: "objects", lines: bars }];
        let chart =
            fragment(&Look::PAGE, "", &[(0.0, 1.0), (10.0, 0.0)], (&|point| point.0, 20.0), &panels, 80.0, &|_| {
                String::new()
            });
        let bars: Vec<&str> = chart.lines().filter(|line| line.starts_with("<rect")).collect();
        // Of an axis that ends at 4.
        assert!(bars[0].contains("y=\"84.0\"") && bars[0].contains("height=\"20.0\""), "{bars:?}");
        assert!(bars[1].contains("y=\"24.0\"") && bars[1].contains("height=\"60.0\""), "{bars:?}");
        assert_eq!(bars.len(), 2);
    }

    #[test]
    fn axes_end_at_round_numbers() {
        let ends: Vec<_> = [0.0, 3.0, 9.0, 17.0, 41.0, 5001.0, 0.03].into_iter().map(nice_ceiling).collect();
        assert_eq!(ends, [4.0, 4.0, 10.0, 20.0, 50.0, 8000.0, 0.04]);
        let labels = [0.0, 0.1 + 0.2, 9500.0, 12_500.0, -2e7, 3e10].map(tick_label);
        assert_eq!(labels, ["0", "0.3", "9500", "12.5k", "-20M", "30G"]);
    }

    #[test]
    fn values_below_zero_have_their_place_and_one_alone_is_seen() {
        let value = |point: &(f64, f64)| point.1;
        let panels = [Panel { label: "<b>", lines: vec![Line::new("balance", "a", &value)] }];
        let points = [(0.0, -10.0), (10.0, 10.0), (20.0, f64::NAN), (30.0, 0.0)];
        let chart = fragment(&Look::PAGE, "", &points, (&|point| point.0, 40.0), &panels, 80.0, &|_| String::new());
        assert!(chart.contains("points=\"56.0,104.0 278.5,24.0\""), "{chart}");
        assert!(chart.contains("<circle cx=\"723.5\" cy=\"64.0\""), "{chart}");
        assert!(chart.contains(">-10<") && chart.contains("&lt;b&gt;"), "{chart}");
    }
}
