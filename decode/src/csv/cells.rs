//! From the fields of a record to cells.

use super::{dialect::Dialect, splitter::Span};
use crate::{
    CsvOptions, Mapping, Slot,
    encode::{CellError, PgType, RejectClass, Value, usual},
    named::RowCells,
    row::Short,
    to_json,
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// What may stand between groups of three digits, where a comma comes before the fraction.
const GROUPING: [char; 5] = ['.', ' ', '\u{a0}', '\u{202f}', '\''];

/// How fields are read.
pub struct FieldReadings {
    nulls: NullTexts,
    null_by_column: BTreeMap<String, Vec<String>>,
    null_quoted: bool,
    decimal_comma: bool,
    /// By field, where some are read in another way.
    by_field: Vec<FieldReading>,
}

#[derive(Default)]
struct FieldReading {
    nulls: Option<NullTexts>,
    decimal_comma: bool,
}

impl FieldReadings {
    /// Returns what is the same for all fields.
    pub fn new(options: &CsvOptions) -> Self {
        Self {
            nulls: NullTexts::new(&options.null),
            null_by_column: options.null_by_column.clone(),
            null_quoted: options.null_quoted,
            decimal_comma: options.decimal_comma,
            by_field: Vec::new(),
        }
    }

    /// Adds what columns say of the fields they take.
    pub fn set_mapping(&mut self, mapping: &Mapping, n_fields: usize) {
        if self.null_by_column.is_empty() && !self.decimal_comma {
            return;
        }
        let reading = |field| {
            let Slot::Column(column) = mapping.slot(field) else { return FieldReading::default() };
            let column = &mapping.all_columns()[column];
            FieldReading {
                nulls: self.null_by_column.get(&column.name).map(|texts| NullTexts::new(texts)),
                decimal_comma: self.decimal_comma && is_number(&column.pg_type),
            }
        };
        self.by_field = (0..n_fields).map(reading).collect();
    }

    #[inline]
    fn value<'r>(&self, field: usize, text: &'r str, span: Span, dialect: &Dialect) -> Result<Value<'r>, CellError> {
        let reading = self.by_field.get(field);
        let nulls = reading.and_then(|reading| reading.nulls.as_ref()).unwrap_or(&self.nulls);
        if self.is_null(text.as_bytes(), span, nulls) {
            return Ok(Value::Null);
        }
        let text = unescaped(text, span, dialect);
        match reading {
            Some(FieldReading { decimal_comma: true, .. }) => with_decimal_point(text).map(Value::Text),
            _ => Ok(Value::Text(text)),
        }
    }

    /// Returns whether no column has its fields read in a way of its own.
    pub fn are_all_alike(&self) -> bool {
        self.by_field.is_empty()
    }

    #[inline]
    fn is_null(&self, text: &[u8], span: Span, nulls: &NullTexts) -> bool {
        (!span.is_quoted || self.null_quoted) && nulls.contains(text)
    }
}

fn is_number(pg_type: &PgType) -> bool {
    use PgType::{Float4, Float8, Int2, Int4, Int8, Numeric};
    matches!(pg_type, Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(_))
}

/// Returns `1.234,5` as `1234.5`; what has neither a comma nor groups as it is.
fn with_decimal_point(text: Cow<'_, str>) -> Result<Cow<'_, str>, CellError> {
    let number = text.trim_ascii();
    if !number.contains(',') && !number.contains(GROUPING) {
        return Ok(text);
    }
    let (whole, fraction) = number.split_once(',').unwrap_or((number, ""));
    let digits = whole.strip_prefix(['-', '+']).unwrap_or(whole);
    let groups: Vec<&str> = digits.split(GROUPING).collect();
    let separators: BTreeSet<char> = digits.chars().filter(|c| GROUPING.contains(c)).collect();
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_grouped =
        groups.len() == 1 || ((1..=3).contains(&groups[0].len()) && groups[1..].iter().all(|group| group.len() == 3));
    let is_number =
        separators.len() <= 1 && is_grouped && is_digits(&groups.concat()) && !fraction.contains([',', '.']);
    if !is_number || fraction.contains(GROUPING) {
        let excerpt: String = number.chars().take(48).collect();
        let message = format!("{excerpt:?} is not a number with a decimal comma");
        return Err(CellError::new(RejectClass::Type, message));
    }
    let sign = &whole[..whole.len() - digits.len()];
    let point = if number.contains(',') { "." } else { "" };
    Ok(format!("{sign}{}{point}{fraction}", groups.concat()).into())
}

/// One record.
pub struct Cells<'r> {
    pub record: &'r [u8],
    /// It is UTF-8 without U+0000, and its fields are as the columns' types say.
    pub is_usual: bool,
    pub spans: &'r [Span],
    pub readings: &'r FieldReadings,
    pub dialect: &'r Dialect,
}

impl<'r> RowCells<'r> for Cells<'r> {
    #[inline]
    fn cell(&self, field: usize) -> Result<Value<'r>, CellError> {
        // Only a record that may be short lacks one.
        let Some(span) = self.spans.get(field).copied() else { return Ok(Value::Null) };
        let text = std::str::from_utf8(&self.record[range(span)]).map_err(not_utf8)?;
        self.readings.value(field, text, span, self.dialect)
    }

    #[inline(always)]
    fn write_short(&self, _column: usize, field: usize, to: &PgType, out: &mut Vec<u8>) -> Short {
        let Some(span) = self.spans.get(field) else { return Short::Null };
        if !self.is_usual || span.has_escapes {
            return Short::No;
        }
        let (start, end) = (span.start as usize, span.end as usize);
        if self.readings.is_null(&self.record[start..end], *span, &self.readings.nulls) {
            return Short::Null;
        }
        Short::of(usual::write_text(self.record, start, end, to, out))
    }

    /// Fields are texts and nulls.
    fn write_json(&self, field: usize, max_bytes: usize, out: &mut Vec<u8>) -> Result<(), CellError> {
        to_json::write_value_within(&self.cell(field)?, max_bytes, out)
    }

    fn payload(&self, _fields: &[(usize, Vec<u8>)]) -> Cow<'r, [u8]> {
        self.record.into()
    }
}

/// The texts that mean NULL, besides the empty one.
struct NullTexts {
    texts: Vec<String>,
    /// A bit for each length one of them has, so that most fields are compared with none.
    lengths: u64,
}

impl NullTexts {
    fn new(texts: &[String]) -> Self {
        let lengths = texts.iter().fold(0, |lengths, text| lengths | length_bit(text.as_bytes()));
        Self { texts: texts.to_vec(), lengths }
    }

    #[inline]
    fn contains(&self, text: &[u8]) -> bool {
        text.is_empty()
            || (self.lengths & length_bit(text) != 0 && self.texts.iter().any(|null| null.as_bytes() == text))
    }
}

#[inline]
fn length_bit(text: &[u8]) -> u64 {
    1 << text.len().min(63)
}

#[inline]
fn range(span: Span) -> std::ops::Range<usize> {
    span.start as usize..span.end as usize
}

/// Returns what a field of the header says.
pub fn field_text<'r>(record: &'r [u8], span: Span, dialect: &Dialect) -> Result<Cow<'r, str>, CellError> {
    let text = std::str::from_utf8(&record[range(span)]).map_err(not_utf8)?;
    Ok(unescaped(text, span, dialect))
}

#[inline]
fn unescaped<'t>(text: &'t str, span: Span, dialect: &Dialect) -> Cow<'t, str> {
    if span.has_escapes { dialect.unescaped(text, span.is_quoted) } else { text.into() }
}

#[cold]
fn not_utf8(error: std::str::Utf8Error) -> CellError {
    CellError::new(RejectClass::Text, format!("not text in the file's encoding, from byte {}", error.valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_comma_is_a_point_and_groups_are_none() {
        for (text, expected) in [
            ("1.234,5", Some("1234.5")),
            ("-12", Some("-12")),
            ("1,5e3", Some("1.5e3")),
            ("1.234.567", Some("1234567")),
            ("1\u{a0}234,50", Some("1234.50")),
            ("-0,5", Some("-0.5")),
            ("1.5", None),
            ("1234.567", None),
            ("1.234 567", None),
            ("1,2,3", None),
            ("1.23,4", None),
            ("1,2.3", None),
        ] {
            assert_eq!(with_decimal_point(text.into()).ok().as_deref(), expected, "{text}");
        }
    }
}
