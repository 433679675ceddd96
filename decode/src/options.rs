//! What a dataset says about the inside of its files.

use crate::{Pattern, Preset, json::Pointer};
use std::collections::BTreeMap;

/// Where in JSON the rows and some of their fields are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JsonOptions {
    /// The array of a document's rows; None where the document is it, or a row.
    pub rows: Option<Pointer>,
    /// Fields that each row has beside its members, and where in it they are.
    pub fields: Vec<(String, Pointer)>,
}

/// `[dataset.csv]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// The first record names the fields; without it fields are the table's columns in order.
    pub header: bool,
    /// What the fields are called, with a header.
    pub names: Names,
    /// One byte between fields.
    pub delimiter: u8,
    /// One byte around fields; None where a quote is a character like others.
    pub quote: Option<u8>,
    /// One byte that takes its meaning from the quote, delimiter, line end or escape after it.
    pub escape: Option<u8>,
    /// Lines that begin with this byte are no records.
    pub comment: Option<u8>,
    /// Lines before the header or the first record.
    pub skip_lines: u32,
    /// What a record with fewer fields is.
    pub short_rows: ShortRows,
    /// Records may end with a delimiter after the last field.
    pub trailing_delimiter: bool,
    /// Numbers have a comma before their fraction, and may have groups of three digits.
    pub decimal_comma: bool,
    /// Texts that mean NULL, besides the empty field.
    pub null: Vec<String>,
    /// Those of a column, in place of `null`.
    pub null_by_column: BTreeMap<String, Vec<String>>,
    /// Quoted fields may mean NULL too.
    pub null_quoted: bool,
    /// A WHATWG encoding label; a BOM wins over it.
    pub encoding: String,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            header: true,
            names: Names::default(),
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
            comment: None,
            skip_lines: 0,
            short_rows: ShortRows::default(),
            trailing_delimiter: false,
            decimal_comma: false,
            null: Vec::new(),
            null_by_column: BTreeMap::new(),
            null_quoted: false,
            encoding: "utf-8".into(),
        }
    }
}

/// What a CSV file's fields are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Names {
    /// As the header has them.
    #[default]
    AsWritten,
    /// As the header has them, in lower case and with underscores for all that is neither letter nor digit.
    Plain,
    /// The same, of a comment that begins with `#Fields:`.
    OfFieldsLine,
}

/// `[dataset.text]`.
#[derive(Debug, Clone, Default)]
pub struct TextOptions {
    /// What lines are taken apart by; None where a line is a field.
    pub pattern: Option<Pattern>,
    /// The log it is.
    pub preset: Option<Preset>,
    /// Texts of groups that mean NULL.
    pub null: Vec<String>,
}

impl TextOptions {
    /// Returns those of a log, in which a dash means NULL, and these texts.
    #[must_use]
    pub fn of_preset(preset: Preset, null: &[String]) -> Self {
        let null = null.iter().cloned().chain(["-".to_owned()]).collect();
        Self { pattern: preset.pattern(), preset: Some(preset), null }
    }
}

/// `short_rows` of a CSV dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShortRows {
    /// The row is a reject.
    #[default]
    Reject,
    /// The fields it lacks are NULL.
    Null,
}
