//! Bars that have names, one below the other: names are read from left to right, and there may be many.

use super::{Look, escaped, tick_label};
use std::fmt::Write as _;

/// How much each bar has of the height.
const STEP: f64 = 24.0;

/// What a value at the end of a bar takes, and a character of a name, of which those beyond ASCII may be as wide as two.
const VALUE: f64 = 64.0;
const CHARACTER: f64 = 7.6;

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// Its parts, in the order of their colours; those below zero go the other way.
    pub parts: Vec<f64>,
}

/// Returns bars as part of a page, a colour for each of their parts.
#[must_use]
pub fn bars(look: &Look, title: &str, bars: &[Bar], colours: &[&str]) -> String {
    let (width, ink, faint, grid) = (look.width, look.ink, look.faint, look.grid);
    let begin = (width * 0.28).max(140.0);
    let sum = |bar: &Bar, sign: f64| bar.parts.iter().filter(|part| **part * sign > 0.0).sum::<f64>();
    let high = bars.iter().map(|bar| sum(bar, 1.0)).fold(0.0, f64::max);
    let low = bars.iter().map(|bar| sum(bar, -1.0)).fold(0.0, f64::min);
    let range = if high > low { high - low } else { 1.0 };
    // Values stand at the ends of bars on both sides.
    let left = begin + if low < 0.0 { VALUE } else { 0.0 };
    let x = |value: f64| left + (width - VALUE - left) * (value - low) / range;
    let height = bars.len() as f64 * STEP;
    let mut out = format!(
        "<svg role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {width} {height}\" font-size=\"12\">\n",
        escaped(title)
    );
    for (index, bar) in bars.iter().enumerate() {
        let top = index as f64 * STEP;
        let (mut right, mut left) = (0.0, 0.0);
        for (part, colour) in bar.parts.iter().zip(colours).filter(|(part, _)| part.is_finite()) {
            let end = if *part < 0.0 { &mut left } else { &mut right };
            let (from, to) = (x(*end), x(*end + part));
            *end += part;
            let (from, wide) = (from.min(to), (to - from).abs());
            let _ = writeln!(
                out,
                "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                top + 3.0,
                STEP - 6.0
            );
        }
        let (value, baseline) = (right + left, top + STEP / 2.0 + 4.0);
        let (at, anchor) = if value < 0.0 { (x(left) - 5.0, "end") } else { (x(right) + 5.0, "start") };
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{baseline:.1}\" text-anchor=\"end\" fill=\"{ink}\">{}</text>\
             <text x=\"{at:.1}\" y=\"{baseline:.1}\" text-anchor=\"{anchor}\" fill=\"{faint}\">{}</text>",
            begin - 8.0,
            escaped(&shortened(&bar.name, ((begin - 8.0) / CHARACTER) as usize)),
            value_label(value)
        );
    }
    let _ =
        writeln!(out, "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{height}\" stroke=\"{grid}\"/>\n</svg>", x(0.0));
    out
}

/// Returns a value as far as its place is wide.
fn value_label(value: f64) -> String {
    match value.abs() {
        size if (1.0..1e7).contains(&size) => format!("{}", (value * 100.0).round() / 100.0),
        size if size >= 1e7 => {
            let unit = 10.0_f64.powf(size.log10().floor() - 3.0);
            tick_label((value / unit).round() * unit)
        }
        _ => tick_label(value),
    }
}

fn shortened(name: &str, most: usize) -> String {
    let mut taken = 0;
    let wide = |c: char| if c.is_ascii() { 1 } else { 2 };
    if name.chars().map(wide).sum::<usize>() <= most {
        return name.to_owned();
    }
    let fits = |c: &char| {
        taken += wide(*c);
        taken < most
    };
    name.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_as_long_as_their_places() {
        assert_eq!(["abcde", "abcdef", "東京"].map(|name| shortened(name, 5)), ["abcde", "abcd…", "東京"]);
        assert_eq!(shortened("東京都", 5), "東京…");
        let values = [0.0, 0.25, 12.345, -1_234_567.0, 123_456_789.0, 2e12].map(value_label);
        assert_eq!(values, ["0", "0.25", "12.35", "-1234567", "123.5M", "2000G"]);
    }

    #[test]
    fn parts_follow_each_other_to_both_sides_within_the_picture() {
        let bar = |name: &str, parts: &[f64]| Bar { name: name.into(), parts: parts.to_vec() };
        let drawn = bars(
            &Look::NARROW_PAGE,
            "a \"<b>",
            &[bar("<x>", &[3.0, 1.0]), bar(&"y".repeat(99), &[-2.0, f64::NAN])],
            &["a", "b"],
        );
        assert!(drawn.contains("aria-label=\"a &quot;&lt;b&gt;\"") && drawn.contains("&lt;x&gt;"), "{drawn}");
        assert!(!drawn.contains("NaN") && drawn.contains("y…<") && drawn.contains(">-2<"), "{drawn}");
        let number = |rect: &str, name: &str| -> f64 {
            let text = rect.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split('"').next());
            text.and_then(|text| text.parse().ok()).expect("a number")
        };
        let rects: Vec<(f64, f64)> = drawn
            .lines()
            .filter(|line| line.starts_with("<rect"))
            .map(|rect| (number(rect, "x"), number(rect, "width")))
            .collect();
        let [(a, wide), (b, _), (c, back)] = rects[..] else { panic!("{rects:?}") };
        assert!((a + wide - b).abs() < 0.2 && (c + back - a).abs() < 0.2, "{rects:?}");
        assert!(
            (wide - 1.5 * back).abs() < 0.2
                && rects.iter().all(|(x, wide)| *x > 100.0 && x + wide <= 400.0 - VALUE + 0.2),
            "{rects:?}"
        );
    }
}
