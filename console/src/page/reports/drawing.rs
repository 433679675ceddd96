//! A report's result as a picture: lines, bars, or numbers.

use crate::{
    html::{cut, drawn, prose, text},
    report::{Chart, Kind, Report, Table},
};
use chrono::DateTime;
use maud::{Markup, html};
use service::chart::{Bar, Line, Look, Panel, bars, fragment};

/// What columns are drawn in; those behind them stand in the table only.
const COLOURS: [&str; 4] = ["var(--line-1)", "var(--line-2)", "var(--line-3)", "var(--line-4)"];

/// Bars that are drawn.
const MOST_BARS: usize = 60;

/// How wide lines are before they are brought to the picture's width.
const WIDTH: f64 = 1000.0;

/// Returns what is drawn of a result; of a table nothing is.
#[must_use]
pub fn drawing(report: &Report, table: &Table) -> Markup {
    if report.chart == Chart::Table {
        return html! {};
    }
    if table.rows.is_empty() {
        return html! { p .answer { "No rows." } };
    }
    if let Some(why) = report.undrawable(&table.columns) {
        return html! { p .trouble role="alert" { (prose(&cut(&why))) } };
    }
    match report.chart {
        Chart::Number => numbers(table),
        Chart::Bar => bar(report, table),
        _ => line(report, table),
    }
}

/// Returns the columns that are drawn, but for the first.
fn series(table: &Table) -> Vec<usize> {
    let numbers = table.columns.iter().enumerate().skip(1).filter(|(_, column)| column.kind.is_number());
    numbers.map(|(place, _)| place).take(COLOURS.len()).collect()
}

fn numbers(table: &Table) -> Markup {
    let row = table.rows.first().map(Vec::as_slice).unwrap_or_default();
    html! {
        dl .numbers {
            @for (value, column) in row.iter().zip(&table.columns) {
                div {
                    dt { (text(&column.name)) }
                    dd { @match value {
                        Some(value) if column.kind.is_number() => (text(&grouped(value))),
                        Some(value) => (text(value)),
                        None => "–",
                    } }
                }
            }
        }
        @if table.rows.len() > 1 { p .quiet { "Of " (table.rows.len()) " rows the first." } }
    }
}

/// Returns a number with its thousands apart.
fn grouped(number: &str) -> String {
    let whole = number.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(number.len());
    let (whole, rest) = number.split_at(whole);
    whole.parse().map_or_else(
        |_| number.to_owned(),
        |n| {
            let sign = if n == 0 && whole.starts_with('-') { "-" } else { "" };
            format!("{sign}{}{rest}", crate::html::number(n))
        },
    )
}

struct Point {
    x: f64,
    values: Vec<f64>,
}

fn line(report: &Report, table: &Table) -> Markup {
    let series = series(table);
    let kind = table.columns[0].kind;
    let point =
        |row| Point { x: table.number(row, 0), values: series.iter().map(|place| table.number(row, *place)).collect() };
    let mut points: Vec<Point> = (0..table.rows.len()).map(point).filter(|point| point.x.is_finite()).collect();
    points.sort_by(|one, other| one.x.total_cmp(&other.x));
    let (Some(begin), Some(end)) = (points.first().map(|point| point.x), points.last().map(|point| point.x)) else {
        return html! { p .quiet { "No row has a place on the line." } };
    };
    let width = if end > begin { end - begin } else { 1.0 };
    let at = |point: &Point| (point.x - begin) / width * WIDTH;
    let tick = |place: f64| said(kind, begin + place / WIDTH * width, width);
    let values: Vec<_> = (0..series.len()).map(|place| move |point: &Point| point.values[place]).collect();
    let names: Vec<String> = series.iter().map(|place| cut(&table.columns[*place].name)).collect();
    let line = |(place, value): (usize, _)| {
        let line = Line::new(&names[place], COLOURS[place], value);
        if place % 2 == 1 { line.dashed() } else { line }
    };
    let lines = || values.iter().map(|value| value as &dyn Fn(&Point) -> f64).enumerate().map(line).collect();
    let label = if let [name] = &names[..] { name.as_str() } else { "" };
    let most = |value: &dyn Fn(&Point) -> f64| points.iter().map(value).fold(f64::NAN, f64::max);
    let said_of = names.iter().zip(&values).map(|(name, value)| format!("{name} at most {}", most(value)));
    let summary = format!(
        "{}, {} points from {} to {}: {}",
        report.title,
        points.len(),
        said(kind, begin, width),
        said(kind, end, width),
        said_of.collect::<Vec<_>>().join(", ")
    );
    let draw = |look: &Look, height| {
        drawn(fragment(look, &cut(&summary), &points, (&at, WIDTH), &[Panel { label, lines: lines() }], height, &tick))
    };
    figure(&names, draw(&Look::PAGE, 200.0), draw(&Look::NARROW_PAGE, 160.0), &summary)
}

/// Returns a place on the first column's axis, which is this wide.
fn said(kind: Kind, value: f64, width: f64) -> String {
    if !kind.is_time() {
        return format!("{}", (value * 1e6).round() / 1e6);
    }
    let format = match (kind, width) {
        (Kind::Date, _) => "%Y-%m-%d",
        (_, ..=90_000.0) => "%H:%M",
        (_, ..=3e6) => "%m-%d %H:%M",
        _ => "%Y-%m-%d",
    };
    DateTime::from_timestamp(value as i64, 0).map_or_else(String::new, |at| at.format(format).to_string())
}

fn bar(report: &Report, table: &Table) -> Markup {
    let series = series(table);
    let names: Vec<String> = series.iter().map(|place| cut(&table.columns[*place].name)).collect();
    let bar = |(row, values): (usize, &Vec<Option<String>>)| Bar {
        name: values.first().and_then(Option::as_deref).map_or_else(|| "–".to_owned(), cut),
        parts: series.iter().map(|place| table.number(row, *place)).collect(),
    };
    let all: Vec<Bar> = table.rows.iter().enumerate().take(MOST_BARS).map(bar).collect();
    let cut_to = if all.len() < table.rows.len() { format!("the first {MOST_BARS} of ") } else { String::new() };
    let summary = format!("{}: {cut_to}{} bars of {}", report.title, table.rows.len(), names.join(", "));
    let draw = |look: &Look| drawn(bars(look, &cut(&summary), &all, &COLOURS));
    figure(&names, draw(&Look::PAGE), draw(&Look::NARROW_PAGE), &summary)
}

fn figure(names: &[String], wide: Markup, narrow: Markup, summary: &str) -> Markup {
    html! {
        figure {
            @if names.len() > 1 {
                ul .legend aria-hidden="true" { @for (place, name) in names.iter().enumerate() { li .(format!("line-{}", place + 1)) { (name) } } }
            }
            div .wide { (wide) }
            div .narrow { (narrow) }
            figcaption { (text(summary)) "." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart_and_the_rest_stays() {
        let numbers = ["1234567.50", "-1234", "-0.5", "12", "NaN", "1e+300", "123456789012345678901234"];
        let shown = ["1,234,567.50", "-1,234", "-0.5", "12", "NaN", "1e+300", "123456789012345678901234"];
        assert_eq!(numbers.map(grouped), shown);
    }

    #[test]
    fn places_on_the_axis_are_said_as_finely_as_it_is_wide() {
        let day = 86_400.0;
        assert_eq!(said(Kind::Time, 3600.0, day), "01:00");
        assert_eq!(said(Kind::Time, 3600.0, 7.0 * day), "01-01 01:00");
        assert_eq!(said(Kind::Time, 3600.0, 90.0 * day), "1970-01-01");
        assert_eq!(said(Kind::Date, 3600.0, day), "1970-01-01");
        assert_eq!(said(Kind::Number, 0.1 + 0.2, 1.0), "0.3");
    }
}
