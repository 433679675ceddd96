//! How the inside of files is written.

use super::{Dataset, InputFormat};
use decode::{CsvOptions, Format, Pattern, Pointer, Preset, ShortRows, TextOptions};
use serde::{Deserialize, Deserializer};
use std::{collections::BTreeMap, str::FromStr};

/// `[dataset.csv]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Csv {
    /// The first record names the fields; without it the fields are the table's columns in order.
    pub header: bool,
    /// The character between fields, one byte.
    pub delimiter: char,
    /// The character around fields that contain delimiters or line ends, one byte. Within such a field it is doubled, or
    /// follows the `escape`. Empty: no character is special but the delimiter, the line's end and the escape.
    #[serde(deserialize_with = "one_or_none")]
    pub quote: Option<char>,
    /// A character, one byte, that makes a quote, delimiter, line end, comment character or itself after it part of the
    /// text, as in `"say \"hi\""` with `escape = "\\"`. Before anything else it is a character like others. None by default.
    #[serde(deserialize_with = "one_or_none")]
    pub escape: Option<char>,
    /// Lines that begin with this character, one byte, are left out, wherever they stand between records. None by default.
    #[serde(deserialize_with = "one_or_none")]
    pub comment: Option<char>,
    /// How many lines at the start of the file are left out, before the header or the first record.
    pub skip_lines: u32,
    /// What becomes of a row that has fewer fields than the header or the first record: `reject`, or `null` for its last
    /// columns. A row with more is a reject.
    pub short_rows: ShortRows,
    /// Records may end with a delimiter that no field follows, as in `1|a|`; the header need not.
    pub trailing_delimiter: bool,
    /// What stands before a number's fraction in columns of numbers: `.` or `,`. With the comma, groups of three digits
    /// may be parted by points, spaces or apostrophes, as in `1.234,50`.
    pub decimal: char,
    /// Unquoted texts that mean NULL, besides the empty field.
    pub null: Vec<String>,
    /// Column → the texts that mean NULL in it, in place of those of `null`: `{ country = [], amount = ["-"] }`.
    pub null_by_column: BTreeMap<String, Vec<String>>,
    /// Quoted fields may be NULL as well: an empty one, and one that is a text that means NULL.
    pub null_quoted: bool,
    /// A WHATWG label such as `utf-8`, `windows-1252`, `utf-16le`; a byte order mark wins over it.
    pub encoding: String,
}

impl Default for Csv {
    fn default() -> Self {
        let CsvOptions { header, skip_lines, short_rows, null, encoding, .. } = CsvOptions::default();
        Self {
            header,
            delimiter: ',',
            quote: Some('"'),
            escape: None,
            comment: None,
            skip_lines,
            short_rows,
            trailing_delimiter: false,
            decimal: '.',
            null,
            null_by_column: BTreeMap::new(),
            null_quoted: false,
            encoding,
        }
    }
}

impl Csv {
    /// Returns the dialect as the decoder wants it.
    pub(super) fn options(&self) -> CsvOptions {
        // The check has seen to it that all are ASCII.
        let byte = |c: char| u8::try_from(c).ok();
        CsvOptions {
            header: self.header,
            delimiter: byte(self.delimiter).unwrap_or(b','),
            quote: self.quote.and_then(byte),
            escape: self.escape.and_then(byte),
            comment: self.comment.and_then(byte),
            skip_lines: self.skip_lines,
            short_rows: self.short_rows,
            trailing_delimiter: self.trailing_delimiter,
            decimal_comma: self.decimal == ',',
            null: self.null.clone(),
            null_by_column: self.null_by_column.clone(),
            null_quoted: self.null_quoted,
            encoding: self.encoding.clone(),
            ..CsvOptions::default()
        }
    }

    /// Adds what is wrong, with the field.
    pub(super) fn check(&self, add: &mut impl FnMut(&str, String)) {
        let special = [
            ("csv.delimiter", Some(self.delimiter)),
            ("csv.quote", self.quote),
            ("csv.escape", self.escape),
            ("csv.comment", self.comment),
        ];
        for (place, (field, c)) in special.into_iter().enumerate() {
            let Some(c) = c else { continue };
            if !c.is_ascii() || matches!(c, '\0' | '\r' | '\n') {
                add(field, format!("{c:?} is not a single byte that can stand within a line"));
            } else if let Some((other, _)) = special[..place].iter().find(|(_, other)| *other == Some(c)) {
                add(field, format!("must differ from {other}"));
            }
        }
        if !matches!(self.decimal, '.' | ',') {
            add("csv.decimal", format!("{:?} is neither \".\" nor \",\"", self.decimal));
        }
        if encoding_rs::Encoding::for_label_no_replacement(self.encoding.as_bytes()).is_none() {
            add(
                "csv.encoding",
                format!("{:?} is not a WHATWG encoding label, like \"utf-8\" or \"windows-1252\"", self.encoding),
            );
        }
    }
}

/// `[dataset.text]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Text {
    /// A [regular expression](https://docs.rs/regex/latest/regex/#syntax) for a whole line; each named group is a field, as
    /// in `(?P<status>[0-9]{3}) (?P<path>.*)`. One that takes no part is NULL, and a line that is not so is a reject.
    /// Without it, and without a `preset`, the line is the field `line`.
    pub pattern: Option<String>,
    /// A log whose lines are known. A dash is NULL, and times are read as the log writes them.
    pub preset: Option<Preset>,
    /// Texts of groups that mean NULL.
    pub null: Vec<String>,
}

impl Text {
    /// Returns what the decoder wants to know.
    pub(super) fn options(&self) -> TextOptions {
        match self.preset {
            Some(preset) => TextOptions::of_preset(preset, &self.null),
            None => {
                // The check has compiled it.
                let pattern = self.pattern.as_deref().and_then(|pattern| Pattern::new(pattern).ok());
                TextOptions { pattern, preset: None, null: self.null.clone() }
            }
        }
    }

    /// Adds what is wrong, with the field.
    pub(super) fn check(&self, format: Format, add: &mut impl FnMut(&str, String)) {
        let is_set = self.pattern.is_some() || self.preset.is_some() || !self.null.is_empty();
        if is_set && format != Format::Text {
            add("text", "is for format = \"text\"".into());
        }
        if self.pattern.is_some() && self.preset.is_some() {
            add("text.pattern", "excludes text.preset, which is a pattern".into());
        }
        if let Some(Err(problem)) = self.pattern.as_deref().map(Pattern::new) {
            add("text.pattern", problem);
        }
    }
}

/// Adds what is wrong with where a dataset's rows and fields are said to be.
pub(super) fn check_places(dataset: &Dataset, add: &mut impl FnMut(&str, String)) {
    let is_json = matches!(dataset.format, Format::Auto | Format::Json | Format::Ndjson);
    let settings = [("rows", dataset.rows.is_some()), ("fields", !dataset.fields.is_empty())];
    for (field, _) in settings.into_iter().filter(|(_, is_set)| *is_set) {
        if !is_json {
            add(field, format!("is for JSON, and format is {:?}", format!("{:?}", dataset.format).to_lowercase()));
        }
        let answers = !dataset.command.is_empty() && (field == "fields" || dataset.input_format == InputFormat::Bytes);
        if answers {
            add(field, "is for rows as the file has them, and those of the command are others".into());
        }
    }
    if let Some(path) = dataset.rename.keys().find(|field| is_json && field.starts_with('/')) {
        let name = path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("name");
        add("rename", format!("{path:?} is a path, and no field's name; fields = {{ {name} = {path:?} }} reads it"));
    }
}

/// Reads a JSON Pointer.
pub(super) fn pointer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Pointer>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(serde::de::Error::custom)
}

/// Reads what is written as a text, by name.
pub(super) fn by_name<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = String>,
{
    let texts = BTreeMap::<String, String>::deserialize(deserializer)?.into_iter();
    let parsed = texts.map(|(name, text)| match text.parse() {
        Ok(value) => Ok((name, value)),
        Err(problem) => Err(serde::de::Error::custom(format!("{name}: {problem}"))),
    });
    parsed.collect()
}

/// Reads a character; an empty text is none.
fn one_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<char>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (c, None) => Ok(c),
        _ => Err(serde::de::Error::invalid_length(text.chars().count(), &"one character, or none")),
    }
}
