//! Dates and moments that no type reads by itself: how they could be written.

use decode::{Notation, encode::Value};
use std::sync::LazyLock;

/// How dates are written beside `YYYY-MM-DD` and `DD.MM.YYYY`, with and without a time of day. What is only told by values
/// that the other does not take stands side by side.
const FORMATS: [&str; 15] = [
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y/%m/%d",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%d-%m-%Y %H:%M:%S",
    "%m-%d-%Y %H:%M:%S",
    "%Y/%m/%d %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M",
    "%d-%m-%Y %H:%M",
    "%m-%d-%Y %H:%M",
    "%Y/%m/%d %H:%M",
];
/// The shortest and the longest of them.
const LENGTHS: std::ops::RangeInclusive<usize> = 8..=19;

static NOTATIONS: LazyLock<Vec<Notation>> =
    LazyLock::new(|| FORMATS.iter().filter_map(|format| format.parse().ok()).collect());

/// Which of the formats all texts so far are written in, as bits: all before the first text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats(u16);

impl Default for Formats {
    fn default() -> Self {
        Self((1 << FORMATS.len()) - 1)
    }
}

impl Formats {
    /// Notes one more text.
    pub fn add(&mut self, text: &str) {
        let may_be = LENGTHS.contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_digit());
        let so_far = self.0;
        for place in (0..FORMATS.len()).filter(|place| so_far >> place & 1 == 1) {
            // The library reads years of one digit and more.
            let is_so = may_be && has_four_digits(text, FORMATS[place].starts_with("%Y")) && takes(place, text);
            if !is_so {
                self.0 &= !(1 << place);
            }
        }
    }

    /// Returns the formats.
    pub fn all(self) -> Vec<&'static str> {
        FORMATS.iter().enumerate().filter(|(place, _)| self.0 >> place & 1 == 1).map(|(_, format)| *format).collect()
    }
}

fn takes(place: usize, text: &str) -> bool {
    !text.contains("  ")
        && NOTATIONS.get(place).is_some_and(|notation| matches!(notation.read(&Value::Text(text.into())), Ok(Some(_))))
}

/// Returns whether the year, which comes first or last of a date, has four digits.
fn has_four_digits(text: &str, is_first: bool) -> bool {
    let date = text.split(' ').next().unwrap_or_default();
    let mut numbers = date.split(['/', '-']);
    let year = if is_first { numbers.next() } else { numbers.next_back() };
    year.is_some_and(|year| year.len() == 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(texts: &[&str], expected: &[&str]) {
        let mut formats = Formats::default();
        texts.iter().for_each(|text| formats.add(text));
        assert_eq!(formats.all(), expected, "{texts:?}");
    }

    #[test]
    fn what_could_be_either_is_both_until_a_value_tells() {
        check(&["03/04/2024"], &["%d/%m/%Y", "%m/%d/%Y"]);
        check(&["03/04/2024", "3/14/2024"], &["%m/%d/%Y"]);
        check(&["03/04/2024", "14/3/2024"], &["%d/%m/%Y"]);
        check(&["14/03/2024", "03/14/2024"], &[]);
        check(&["3-4-2024"], &["%d-%m-%Y", "%m-%d-%Y"]);
        check(&["2024/03/04"], &["%Y/%m/%d"]);
        check(&["03/14/2024 10:20:30"], &["%m/%d/%Y %H:%M:%S"]);
        check(&["03/14/2024 10:20"], &["%m/%d/%Y %H:%M"]);
    }

    #[test]
    fn other_texts_are_none() {
        for text in ["", "03/04/24", "1/2/3", "03/04/2024x", "99/99/2024", "2024-03-04", "03/04/20245", "03 /04/2024"] {
            check(&[text], &[]);
        }
    }
}
