//! What the values of one field have been so far, and which type would lose none of them.

use super::{
    dates::Formats,
    shape::{self, Shapes},
};
use decode::encode::{PgType, unescape};
use std::{
    borrow::Cow,
    collections::{BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

/// Texts that programs write into CSV for a value that is missing; as values of a text column they are left alone.
pub const NULL_TEXTS: [&str; 9] = ["NA", "N/A", "n/a", "#N/A", "NULL", "null", "\\N", "None", "-"];

/// What the values of one field have been.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    n_values: u64,
    n_booleans: u64,
    n_numbers: u64,
    n_texts: u64,
    n_lists: u64,
    n_objects: u64,
    /// What all numbers could be.
    numbers: Shapes,
    /// What all texts could be, besides those that stand for NULL.
    texts: Shapes,
    /// How all texts could be written as dates, besides those that stand for NULL.
    dates: Formats,
    /// The least and the greatest, while all are integers.
    integers: Integers,
    /// Texts that have a quote at both ends, and others that have one.
    quotes: (u64, u64),
    /// Texts that may stand for NULL.
    pub null_texts: BTreeSet<&'static str>,
    n_null_texts: u64,
    items: Option<Box<Evidence>>,
    /// Hashes of the values while they are all different.
    distinct: HashSet<u64>,
    /// Some are the same, or it does not matter.
    repeats: bool,
}

/// Which integers values are.
#[derive(Debug, Clone, Copy, Default)]
enum Integers {
    /// No value so far.
    #[default]
    None,
    /// All are between these.
    Between(i64, i64),
    /// Some is none.
    Others,
}

/// A type, and what is to be said with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    /// The type that loses none of the values.
    pub sql_type: PgType,
    /// The texts that mean NULL for it to be that.
    pub null_texts: BTreeSet<&'static str>,
    /// How the values are written, where the type does not say: empty, a decimal comma or a date with dots.
    pub written: Shapes,
    /// The format of dates that the type does not read by itself.
    pub format: Option<&'static str>,
    /// For people, when the type is not what one might expect.
    pub note: Option<&'static str>,
}

/// The note of dates that could be read in two ways.
const DAY_OR_MONTH: &str = "dates, and no value tells whether the day or the month comes first; as date or timestamp it \
                            needs [dataset.types] to say so, like %d/%m/%Y or %m/%d/%Y";
/// The note of a column without a value.
pub const ONLY_NULL: &str = "only NULL so far; text holds any scalar";

/// What texts are taken for, the first that all of them could be.
const OF_TEXTS: [(Shapes, PgType, Option<&str>); 12] = [
    (Shapes::BIGINT, PgType::Int8, None),
    (Shapes::INTEGER, PgType::Numeric(None), Some("integers beyond bigint")),
    (Shapes::DECIMAL, PgType::Numeric(None), None),
    (Shapes::FLOAT, PgType::Float8, Some("has NaN, infinities or -0, which numeric does not take")),
    (Shapes::BOOLEAN, PgType::Bool, None),
    (Shapes::DATE, PgType::Date, None),
    (Shapes::TIME, PgType::Time, None),
    (Shapes::TIMESTAMP, PgType::Timestamp, None),
    (Shapes::TIMESTAMPTZ, PgType::TimestampTz, None),
    (Shapes::UUID, PgType::Uuid, None),
    (Shapes::DECIMAL_COMMA, PgType::Numeric(None), Some("with a decimal comma")),
    (Shapes::DOTTED_DATE, PgType::Date, Some("written day.month.year")),
];

impl Evidence {
    /// Adds a JSON value other than null, as it was written.
    pub fn add_json(&mut self, raw: &str) {
        self.note_value(raw);
        match raw.as_bytes().first() {
            Some(b't' | b'f') => self.n_booleans += 1,
            Some(b'"') => {
                self.n_texts += 1;
                let inside = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
                let text = unescape(inside).unwrap_or_default();
                self.texts &= shape::of_text(&text) & Shapes::OF_STRINGS;
                self.dates.add(&text);
                self.integers = Integers::Others;
            }
            Some(b'[') => {
                self.n_lists += 1;
                let items = self.items.get_or_insert_with(|| Box::new(Self { repeats: true, ..Self::default() }));
                match serde_json::from_str::<Vec<&serde_json::value::RawValue>>(raw) {
                    Ok(values) => values
                        .iter()
                        .map(|item| item.get())
                        .filter(|item| *item != "null")
                        .for_each(|item| items.add_json(item)),
                    // Nothing is known of them then; an object among them says just that.
                    Err(_) => items.n_objects += 1,
                }
            }
            Some(b'{') => self.n_objects += 1,
            _ => {
                self.n_numbers += 1;
                self.numbers &= shape::of_number(raw);
                self.note_integer(raw);
            }
        }
    }

    /// Adds a text of a format that has nothing but texts.
    pub fn add_text(&mut self, text: &str) {
        self.note_value(text);
        self.n_texts += 1;
        match NULL_TEXTS.iter().find(|null| **null == text) {
            Some(null) => {
                self.null_texts.insert(null);
                self.n_null_texts += 1;
            }
            None => {
                self.texts &= shape::of_text(text);
                self.dates.add(text);
                self.note_integer(text);
                let is_wrapped = text.len() > 1 && text.starts_with('"') && text.ends_with('"');
                self.quotes.0 += u64::from(is_wrapped);
                self.quotes.1 += u64::from(!is_wrapped && text.contains('"'));
            }
        }
    }

    fn note_integer(&mut self, text: &str) {
        self.integers = match (self.integers, text.parse()) {
            (Integers::None, Ok(value)) => Integers::Between(value, value),
            (Integers::Between(least, greatest), Ok(value)) => Integers::Between(least.min(value), greatest.max(value)),
            _ => Integers::Others,
        };
    }

    /// Returns the least and the greatest value, where all are integers.
    #[must_use]
    pub fn integers(&self) -> Option<(i64, i64)> {
        match self.integers {
            Integers::Between(least, greatest) => Some((least, greatest)),
            _ => None,
        }
    }

    /// Returns how many texts have a quote at both ends, and how many others have one.
    #[must_use]
    pub fn quotes(&self) -> (u64, u64) {
        self.quotes
    }

    fn note_value(&mut self, written: &str) {
        self.n_values += 1;
        if !self.repeats {
            let mut hasher = DefaultHasher::new();
            written.hash(&mut hasher);
            if !self.distinct.insert(hasher.finish()) {
                self.forget_values();
            }
        }
    }

    /// Returns whether its values are no numbers, or are the same with a decimal comma.
    #[must_use]
    pub fn takes_decimal_comma(&self) -> bool {
        let is_number = matches!(self.guess().sql_type, PgType::Int8 | PgType::Numeric(_) | PgType::Float8);
        !is_number || self.texts.contains(Shapes::DECIMAL_COMMA)
    }

    /// Returns whether the only value is a list of objects, and nothing else in it.
    #[must_use]
    pub fn is_one_list_of_objects(&self) -> bool {
        let is_of_objects = |items: &Self| items.n_objects > 0 && items.n_objects == items.n_values;
        self.n_values == 1 && self.n_lists == 1 && self.items.as_deref().is_some_and(is_of_objects)
    }

    /// Returns how many hashes are kept.
    #[must_use]
    pub fn n_kept(&self) -> usize {
        self.distinct.len()
    }

    /// Stops looking for values that are there twice.
    pub fn forget_values(&mut self) {
        (self.distinct, self.repeats) = (HashSet::new(), true);
    }

    /// Returns whether every one of `n_rows` rows has a value, none twice.
    #[must_use]
    pub fn is_unique(&self, n_rows: u64) -> bool {
        n_rows > 0 && self.n_values == n_rows && self.n_kept() as u64 == n_rows
    }

    /// Returns whether every one of `n_rows` rows has a value.
    #[must_use]
    pub fn is_complete(&self, n_rows: u64) -> bool {
        self.n_values == n_rows
    }

    /// Returns the type that loses none of the values.
    #[must_use]
    pub fn guess(&self) -> Guess {
        let plain = |sql_type| Guess::of(sql_type, None);
        let noted = |sql_type, note| Guess::of(sql_type, Some(note));
        let kinds = [self.n_booleans, self.n_numbers, self.n_texts, self.n_lists, self.n_objects];
        match kinds.iter().filter(|n| **n > 0).count() {
            0 => return noted(PgType::Text(None), ONLY_NULL),
            1 => {}
            _ => return noted(PgType::Jsonb, "values of several kinds; jsonb keeps them apart"),
        }
        if self.n_booleans > 0 {
            return plain(PgType::Bool);
        }
        if self.n_numbers > 0 {
            return self.of_numbers();
        }
        if self.n_objects > 0 {
            return plain(PgType::Jsonb);
        }
        if self.n_lists > 0 {
            return plain(self.of_lists());
        }
        self.of_texts()
    }

    fn of_numbers(&self) -> Guess {
        let (sql_type, note) = match self.numbers {
            shapes if shapes.contains(Shapes::BIGINT) => (PgType::Int8, None),
            shapes if shapes.contains(Shapes::INTEGER) => (PgType::Numeric(None), Some("integers beyond bigint")),
            shapes if shapes.contains(Shapes::DECIMAL) => (PgType::Numeric(None), None),
            shapes if shapes.contains(Shapes::FLOAT) => (PgType::Float8, Some("has -0, which numeric does not")),
            _ => (PgType::Text(None), Some("numbers that neither numeric nor double precision holds as they are")),
        };
        Guess::of(sql_type, note)
    }

    fn of_lists(&self) -> PgType {
        let Some(items) = &self.items else { return PgType::Jsonb };
        let kinds = [items.n_booleans, items.n_numbers, items.n_texts, items.n_lists, items.n_objects];
        let is_simple = kinds.iter().filter(|n| **n > 0).count() == 1 && items.n_lists + items.n_objects == 0;
        // Lists that were all empty say nothing of their items.
        match is_simple {
            false => PgType::Jsonb,
            // Within a list there is no telling a date from a text that looks like one.
            true if items.n_texts > 0 => PgType::Array(Box::new(PgType::Text(None)), 0),
            true => match items.guess().sql_type {
                PgType::Text(None) => PgType::Jsonb,
                item => PgType::Array(Box::new(item), 0),
            },
        }
    }

    fn of_texts(&self) -> Guess {
        let no_nulls = |note| Guess::of(PgType::Text(None), note);
        if self.n_texts == self.n_null_texts {
            return no_nulls(None);
        }
        match OF_TEXTS.iter().find(|(shape, ..)| self.texts.contains(*shape)) {
            Some((shape, sql_type, note)) => Guess {
                null_texts: self.null_texts.clone(),
                written: *shape & (Shapes::DECIMAL_COMMA | Shapes::DOTTED_DATE),
                ..Guess::of(sql_type.clone(), *note)
            },
            None if self.texts.contains(Shapes::OTHER_UUID) => {
                no_nulls(Some("UUIDs, which uuid would write in lower case"))
            }
            None if self.texts.contains(Shapes::NANOS) => {
                no_nulls(Some("timestamps, of which timestamptz would cut the nanoseconds"))
            }
            None => match self.dates.all()[..] {
                [] => no_nulls(None),
                [format] => {
                    let has_clock = format.contains("%H");
                    let sql_type = if has_clock { PgType::Timestamp } else { PgType::Date };
                    let format = Some(format);
                    Guess { null_texts: self.null_texts.clone(), format, ..Guess::of(sql_type, None) }
                }
                _ => no_nulls(Some(DAY_OR_MONTH)),
            },
        }
    }
}

impl Guess {
    /// Returns a type that reads its values by itself.
    #[must_use]
    pub fn of(sql_type: PgType, note: Option<&'static str>) -> Self {
        Self { sql_type, null_texts: BTreeSet::new(), written: Shapes::empty(), format: None, note }
    }
}

/// Returns a JSON string's text; one that has none stands for itself.
#[must_use]
pub fn text_of_json(raw: &str) -> Cow<'_, str> {
    let inside = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    unescape(inside).unwrap_or(Cow::Borrowed(inside))
}

#[cfg(test)]
mod tests {
    use super::{super::types::name, *};

    #[track_caller]
    fn json(values: &[&str], expected: &str) {
        let mut evidence = Evidence::default();
        values.iter().for_each(|value| evidence.add_json(value));
        assert_eq!(name(&evidence.guess().sql_type), expected, "{values:?}");
    }

    #[track_caller]
    fn csv(values: &[&str], expected: &str) {
        let mut evidence = Evidence::default();
        values.iter().for_each(|value| evidence.add_text(value));
        let guess = evidence.guess();
        let nulls: Vec<&str> = guess.null_texts.into_iter().collect();
        assert_eq!(format!("{} {}", name(&guess.sql_type), nulls.join(" ")).trim_end(), expected, "{values:?}");
    }

    #[test]
    fn json_values_keep_their_kind_and_every_digit() {
        json(&[], "text");
        json(&["true", "false"], "boolean");
        json(&["1", "-2"], "bigint");
        json(&["1", "18446744073709551615"], "numeric");
        json(&["1", "0.1", "1e400"], "numeric");
        json(&["0.5", "-0.0"], "double precision");
        json(&[r#""a""#, r#""""#], "text");
        json(&[r#""12""#], "text");
        json(&[r#""2026-01-31""#], "date");
        json(&[r#""2026-01-31T00:00:00Z""#, r#""2026-01-31T00:00:00+02:00""#], "timestamptz");
        json(&[r#""2026-01-31T00:00:00""#], "timestamp");
        json(&[r#""2026-01-31T00:00:00""#, r#""2026-01-31T00:00:00Z""#], "text");
        json(&[r#""2026-01-31T00:00:00.123456789Z""#], "text");
        json(&[r#""6fa459ea-ee8a-3ca4-894e-db77e160355e""#], "uuid");
        json(&[r#""6FA459EA-EE8A-3CA4-894E-DB77E160355E""#], "text");
        json(&[r#"{"a":1}"#], "jsonb");
        json(&[r#"["a",null]"#, "[]"], "text[]");
        json(&["[1,2]", "[3]"], "bigint[]");
        json(&["[1.5]"], "numeric[]");
        json(&["[]"], "jsonb");
        json(&["[[1]]"], "jsonb");
        json(&[r#"[1,"a"]"#], "jsonb");
        json(&["1", r#""a""#], "jsonb");
        json(&["true", "1"], "jsonb");
        json(&["[1]", "{}"], "jsonb");
    }

    #[test]
    fn csv_fields_are_what_all_of_them_could_be() {
        csv(&["1", "2"], "bigint");
        csv(&["1", "2.5"], "numeric");
        csv(&["1", "99999999999999999999"], "numeric");
        csv(&["1.5", "NaN"], "double precision");
        csv(&["0.1000000000000000055511151231257827", "NaN"], "text");
        csv(&["01234", "98765"], "text");
        csv(&["TRUE", "FALSE"], "boolean");
        csv(&["2026-01-31", "2026-01-31T00:00:00Z"], "text");
        csv(&["05:17:00"], "time");
        csv(&["03/14/2024", "NA"], "date NA");
        csv(&["03/04/2024", "04/05/2024"], "text");
        csv(&["03/14/2024 10:00"], "timestamp");
        csv(&["1", ""], "text");
        csv(&["a", "1"], "text");
    }

    #[test]
    fn texts_for_null_are_so_only_where_something_else_has_a_type() {
        csv(&["1", "NA"], "bigint NA");
        csv(&["1.5", "NA", "\\N"], "numeric NA \\N");
        csv(&["NA", "DE"], "text");
        csv(&["NA"], "text");
    }

    #[test]
    fn values_are_unique_while_none_is_missing_or_there_twice() {
        let mut evidence = Evidence::default();
        ["1", "2"].iter().for_each(|value| evidence.add_json(value));
        assert!(evidence.is_unique(2) && !evidence.is_unique(3) && !evidence.is_complete(3));
        evidence.add_json("2");
        assert!(!evidence.is_unique(3) && evidence.is_complete(3));
        assert!(!Evidence::default().is_unique(0));
    }
}
