//! CSV: records of text, with a header or without.

mod readings;
mod splitter;

use super::{
    Batch, DecodeError, Field, Fields, Limits, Mapping, PayloadForm, ReadOptions, RowReader, Slot,
    budget::Reservation,
    encoding,
    named::{NamedRows, RowCells, quoted},
    to_json,
};
use crate::encode::{CellError, RejectClass, Value};
pub use splitter::TORN;
use splitter::{MAX_FIELDS, Next, Span, Splitter};
use std::{borrow::Cow, io::BufRead, io::Read, sync::Arc};

/// What is said of a record that has not as many fields as the header or the first record.
pub const OTHER_WIDTH: &str = "fields where there should be";

/// Torn records before the first whole one of a file without header; beyond it the file is no CSV.
const MAX_TORN_AT_START: usize = 100;

/// A longer header is refused: its names are kept until the end, and beside the rejects for good.
const MAX_HEADER_BYTES: usize = 1024 * 1024;
/// How often a name is in memory: here, at the loader, and written as JSON, which can be six times as long.
const NAME_COPIES: usize = 8;
/// What a field takes beside its name.
const FIELD_BYTES: usize = 256;

/// Opens a CSV file and reads its header.
///
/// # Errors
/// [`DecodeError::Corrupt`] for a header that cannot be read.
pub fn open(
    input: Box<dyn BufRead + Send>,
    head: &[u8],
    delimiter: u8,
    options: &ReadOptions,
) -> Result<Box<dyn RowReader>, DecodeError> {
    let input = encoding::to_utf8(input, head, &options.csv.encoding)?;
    Ok(Box::new(CsvReader::new(input, delimiter, options)?))
}

/// Reads the rows of a CSV file.
struct CsvReader<R> {
    splitter: Splitter<R>,
    fields: Fields,
    /// How many there are.
    n_fields: usize,
    nulls: NullTexts,
    quote: char,
    limits: Limits,
    /// Torn records that were met while the fields were looked for.
    torn_at_start: Vec<(CellError, Vec<u8>, u64)>,
    rows: Option<NamedRows>,
    /// For the fields' names.
    reserved: Reservation,
    /// The field for which every row is rejected, as messages quote it.
    unwanted: Option<String>,
    /// Bytes of records that were read.
    input_bytes: u64,
    /// Bytes of rows that came of them: each may have the header's names in it.
    output_bytes: u64,
}

impl<R: Read> CsvReader<R> {
    fn new(input: R, delimiter: u8, options: &ReadOptions) -> Result<Self, DecodeError> {
        let quote = options.csv.quote;
        let mut reader = Self {
            splitter: Splitter::new(input, delimiter, quote, options.limits.row_bytes, &options.limits.budget),
            fields: Fields::Open,
            n_fields: 0,
            nulls: NullTexts::new(&options.csv.null),
            quote: char::from(quote),
            limits: options.limits.clone(),
            torn_at_start: Vec::new(),
            rows: None,
            reserved: options.limits.budget.nothing(),
            unwanted: None,
            input_bytes: 0,
            output_bytes: 0,
        };
        if options.csv.header {
            reader.read_header()?
        } else {
            reader.count_fields()?
        }
        Ok(reader)
    }

    fn read_header(&mut self) -> Result<(), DecodeError> {
        let (start, end) = match self.splitter.advance()? {
            // Without a header nothing is known of the fields, and there are no rows to ask.
            Next::End => return Ok(()),
            Next::Record { start, end } => (start, end),
            Next::Torn { why: CellError { class, message }, .. } => {
                return Err(match class {
                    RejectClass::RowSize => DecodeError::Limits(format!("the header is {message}")),
                    _ => DecodeError::Corrupt(format!("the header has {message}")),
                });
            }
        };
        let n_fields = self.splitter.n_spans();
        check_width(n_fields)?;
        let length = end - start;
        if length > MAX_HEADER_BYTES {
            let problem = format!("the header has {length} bytes, {MAX_HEADER_BYTES} are allowed");
            return Err(DecodeError::Limits(problem));
        }
        self.reserved.grow("the CSV header", length * NAME_COPIES + n_fields * FIELD_BYTES)?;
        let record = self.splitter.bytes(start, end);
        let mut names = Vec::new();
        for (index, span) in self.splitter.spans().iter().enumerate() {
            let text = field_text(record, *span, self.quote).map_err(|error| {
                DecodeError::Corrupt(format!("field {} of the header: {}", index + 1, error.message))
            })?;
            let name = match text.trim() {
                // Some writers leave the index column without a name.
                "" => format!("column_{}", index + 1),
                name => name.to_owned(),
            };
            names.push(name);
        }
        self.expect_fields(names.len());
        self.fields = Fields::Named(names.into_iter().map(|name| Field { name, nested: false }).collect());
        Ok(())
    }

    fn expect_fields(&mut self, n_fields: usize) {
        self.n_fields = n_fields;
        self.splitter.expect_fields(n_fields);
    }

    /// Takes the number of fields from the first record that can be taken apart, and leaves that to be read.
    fn count_fields(&mut self) -> Result<(), DecodeError> {
        loop {
            match self.splitter.advance()? {
                Next::End => return Ok(()),
                Next::Record { start, .. } => {
                    let n_fields = self.splitter.n_spans();
                    check_width(n_fields)?;
                    self.splitter.take_back(start);
                    self.expect_fields(n_fields);
                    self.fields = Fields::Positional(n_fields);
                    return Ok(());
                }
                Next::Torn { why, start, end, length } => {
                    if self.torn_at_start.len() == MAX_TORN_AT_START {
                        return Err(DecodeError::Corrupt(format!("no record in {MAX_TORN_AT_START} can be read")));
                    }
                    let payload = self.splitter.bytes(start, end);
                    let payload = payload[..payload.len().min(super::MAX_PAYLOAD_BYTES)].to_vec();
                    self.torn_at_start.push((why, payload, length));
                }
            }
        }
    }
}

impl<R: Read + Send> RowReader for CsvReader<R> {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn payload_form(&self) -> PayloadForm {
        PayloadForm::Csv
    }

    fn set_mapping(&mut self, mapping: Arc<Mapping>) {
        let names: Vec<&str> = match &self.fields {
            Fields::Named(fields) => fields.iter().map(|field| field.name.as_str()).collect(),
            Fields::Positional(n_fields) => vec![""; *n_fields],
            Fields::Open => Vec::new(),
        };
        let unwanted = (0..names.len()).rev().find(|index| mapping.slot(*index) == Slot::Reject);
        self.unwanted = unwanted.map(|index| quoted(names[index]).to_owned());
        self.rows = Some(NamedRows::new(&mapping, names.into_iter(), &self.limits));
    }

    fn fill(&mut self, batch: &mut Batch, batch_bytes: usize) -> Result<bool, DecodeError> {
        let start = batch.size();
        let more = self.fill_rows(batch, batch_bytes)?;
        self.output_bytes += (batch.size() - start) as u64;
        if self.output_bytes > self.limits.allowed_bytes(self.input_bytes) {
            let problem = format!("{} bytes of rows in {} of CSV", self.output_bytes, self.input_bytes);
            return Err(DecodeError::Limits(problem));
        }
        Ok(more)
    }

    fn seen_columns(&self) -> Vec<bool> {
        vec![true; self.rows.as_ref().map_or(0, NamedRows::n_columns)]
    }
}

impl<R: Read> CsvReader<R> {
    fn fill_rows(&mut self, batch: &mut Batch, batch_bytes: usize) -> Result<bool, DecodeError> {
        let Some(rows) = &mut self.rows else {
            return Err(DecodeError::Schema("rows are read before there is a mapping".into()));
        };
        for (why, payload, length) in self.torn_at_start.drain(..) {
            rows.encoder.reject(why, &payload, length, batch);
        }
        while batch.size() < batch_bytes {
            match self.splitter.advance()? {
                Next::End => return Ok(false),
                Next::Torn { why, start, end, length } => {
                    self.input_bytes += length + 1;
                    rows.encoder.reject(why, self.splitter.bytes(start, end), length, batch);
                }
                Next::Record { start, end } => {
                    self.input_bytes += (end - start) as u64 + 1;
                    let record = self.splitter.bytes(start, end);
                    // One look at the whole record is cheaper than one at each field.
                    let text = std::str::from_utf8(record).ok();
                    let (spans, nulls, quote) = (self.splitter.spans(), &self.nulls, self.quote);
                    let cells = Cells { record, text, spans, nulls, quote };
                    let (n_fields, n_expected) = (self.splitter.n_spans(), self.n_fields);
                    if n_fields != n_expected {
                        let message = format!("{n_fields} {OTHER_WIDTH} {n_expected}");
                        rows.reject(CellError::new(RejectClass::Syntax, message), &cells, None, batch);
                    } else if let Some(name) = &self.unwanted {
                        let message = format!("no column for field {name:?}");
                        rows.reject(CellError::new(RejectClass::NewField, message), &cells, None, batch);
                    } else {
                        rows.push(&cells, batch);
                    }
                }
            }
        }
        Ok(true)
    }
}

/// One record.
struct Cells<'r> {
    record: &'r [u8],
    /// All of it, where it is text.
    text: Option<&'r str>,
    spans: &'r [Span],
    nulls: &'r NullTexts,
    quote: char,
}

impl<'r> RowCells<'r> for Cells<'r> {
    #[inline]
    fn cell(&self, field: usize) -> Result<Value<'r>, CellError> {
        let span = self.spans[field];
        let text = match self.text {
            Some(text) => &text[range(span)],
            None => std::str::from_utf8(&self.record[range(span)]).map_err(not_utf8)?,
        };
        Ok(self.nulls.value(text, span, self.quote))
    }

    /// Fields are texts and nulls.
    fn write_json(&self, field: usize, max_bytes: usize, out: &mut Vec<u8>) -> Result<(), CellError> {
        to_json::write_value_within(&self.cell(field)?, max_bytes, out)
    }

    fn payload(&self, _fields: &[(usize, Vec<u8>)]) -> Cow<'r, [u8]> {
        self.record.into()
    }
}

/// The unquoted texts that mean NULL.
struct NullTexts {
    texts: Vec<String>,
    /// A bit for each length one of them has, so that most fields are compared with none.
    lengths: u64,
}

impl NullTexts {
    fn new(texts: &[String]) -> Self {
        let lengths = texts.iter().fold(0, |lengths, text| lengths | length_bit(text));
        Self { texts: texts.to_vec(), lengths }
    }

    #[inline]
    fn value<'r>(&self, text: &'r str, span: Span, quote: char) -> Value<'r> {
        if span.is_quoted {
            return Value::Text(unquoted(text, span, quote));
        }
        let is_null =
            text.is_empty() || (self.lengths & length_bit(text) != 0 && self.texts.iter().any(|null| null == text));
        if is_null { Value::Null } else { Value::Text(Cow::Borrowed(text)) }
    }
}

fn length_bit(text: &str) -> u64 {
    1 << text.len().min(63)
}

#[inline]
fn range(span: Span) -> std::ops::Range<usize> {
    span.start as usize..span.end as usize
}

fn field_text(record: &[u8], span: Span, quote: char) -> Result<Cow<'_, str>, CellError> {
    let text = std::str::from_utf8(&record[range(span)]).map_err(not_utf8)?;
    Ok(unquoted(text, span, quote))
}

fn unquoted(text: &str, span: Span, quote: char) -> Cow<'_, str> {
    if !span.has_quotes {
        return text.into();
    }
    let mut doubled = [0; 8];
    let len = quote.len_utf8();
    quote.encode_utf8(&mut doubled);
    quote.encode_utf8(&mut doubled[len..]);
    match std::str::from_utf8(&doubled[..2 * len]) {
        Ok(doubled) => text.replace(doubled, &doubled[len..]).into(),
        Err(_) => text.into(),
    }
}

#[cold]
fn not_utf8(error: std::str::Utf8Error) -> CellError {
    CellError::new(RejectClass::Text, format!("not text in the file's encoding, from byte {}", error.valid_up_to()))
}

fn check_width(n_fields: usize) -> Result<(), DecodeError> {
    if n_fields > MAX_FIELDS {
        return Err(DecodeError::Limits(format!("{n_fields} fields; more than {MAX_FIELDS} are not read")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
