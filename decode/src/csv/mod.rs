//! CSV: records of text, with a header or without.

mod readings;
mod splitter;

use super::{
    Batch, DecodeError, Field, Fields, Limits, Mapping, PayloadForm, ReadOptions, RowEncoder, RowReader, Slot,
    budget::Reservation, encoding, named::nested, to_json::write_string_within,
};
use crate::encode::{CellError, Value, write_string};
pub use splitter::TORN;
use splitter::{MAX_FIELDS, Next, Span, Splitter};
use std::{borrow::Cow, cell::RefCell, io::BufRead, io::Read, sync::Arc};

/// What is said of a record that has not as many fields as the header or the first record.
pub const OTHER_WIDTH: &str = "fields where there should be";

/// Torn records before the first whole one of a file without header; beyond it the file is no CSV.
const MAX_TORN_AT_START: usize = 100;

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
    nulls: NullTexts,
    quote: char,
    limits: Limits,
    /// Torn records that were met while the fields were looked for.
    torn_at_start: Vec<(&'static str, String, Vec<u8>, u64)>,
    rows: Option<Rows>,
}

/// What is known once the mapping is.
struct Rows {
    encoder: RowEncoder,
    mapping: Arc<Mapping>,
    /// The field that fills each column.
    sources: Vec<Option<usize>>,
    /// The fields that go into the extras object, with their names as JSON.
    extras: Vec<(usize, Vec<u8>)>,
    /// The field for which every row is rejected.
    unwanted: Option<String>,
    limits: Limits,
    /// For a long extras object.
    held: RefCell<Option<Reservation>>,
}

impl<R: Read> CsvReader<R> {
    fn new(input: R, delimiter: u8, options: &ReadOptions) -> Result<Self, DecodeError> {
        let quote = options.csv.quote;
        let mut reader = Self {
            splitter: Splitter::new(input, delimiter, quote, options.limits.row_bytes, options.limits.budget.clone()),
            fields: Fields::Open,
            nulls: NullTexts::new(&options.csv.null),
            quote: char::from(quote),
            limits: options.limits.clone(),
            torn_at_start: Vec::new(),
            rows: None,
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
            Next::Torn { class: "row_size", message, .. } => {
                return Err(DecodeError::Limits(format!("the header is {message}")));
            }
            Next::Torn { message, .. } => return Err(DecodeError::Corrupt(format!("the header has {message}"))),
        };
        check_width(self.splitter.n_spans())?;
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
        self.splitter.expect_fields(names.len());
        self.fields = Fields::Named(names.into_iter().map(|name| Field { name, nested: false }).collect());
        Ok(())
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
                    self.splitter.expect_fields(n_fields);
                    self.fields = Fields::Positional(n_fields);
                    return Ok(());
                }
                Next::Torn { class, message, start, end, length } => {
                    if self.torn_at_start.len() == MAX_TORN_AT_START {
                        return Err(DecodeError::Corrupt(format!("no record in {MAX_TORN_AT_START} can be read")));
                    }
                    let payload = self.splitter.bytes(start, end);
                    let payload = payload[..payload.len().min(super::MAX_PAYLOAD_BYTES)].to_vec();
                    self.torn_at_start.push((class, message, payload, length));
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
        let mut rows = Rows {
            encoder: RowEncoder::new(Arc::clone(&mapping)).with_limits(&self.limits),
            sources: vec![None; mapping.columns().len()],
            extras: Vec::new(),
            unwanted: None,
            limits: self.limits.clone(),
            held: RefCell::default(),
            mapping,
        };
        let (n_fields, names) = match &self.fields {
            Fields::Named(fields) => (fields.len(), fields.as_slice()),
            Fields::Positional(n_fields) => (*n_fields, &[][..]),
            Fields::Open => (0, &[][..]),
        };
        for index in 0..n_fields {
            let name = names.get(index).map_or("", |field| &field.name);
            match rows.mapping.slot(index) {
                Slot::Column(column) => rows.sources[column] = Some(index),
                Slot::Extras => {
                    let mut key = Vec::new();
                    write_string(name, &mut key);
                    rows.extras.push((index, key));
                }
                Slot::Reject => rows.unwanted = Some(name.to_owned()),
                Slot::Ignored => {}
            }
        }
        self.rows = Some(rows);
    }

    fn fill(&mut self, batch: &mut Batch, batch_bytes: usize) -> Result<bool, DecodeError> {
        let Some(rows) = &mut self.rows else {
            return Err(DecodeError::Schema("rows are read before there is a mapping".into()));
        };
        for (class, message, payload, length) in self.torn_at_start.drain(..) {
            rows.encoder.reject(class, message, &payload, length, batch);
        }
        while batch.size() < batch_bytes {
            match self.splitter.advance()? {
                Next::End => return Ok(false),
                Next::Torn { class, message, start, end, length } => {
                    rows.encoder.reject(class, message, self.splitter.bytes(start, end), length, batch);
                }
                Next::Record { start, end } => {
                    let record = self.splitter.bytes(start, end);
                    rows.push(record, &self.splitter, &self.fields, &self.nulls, self.quote, batch);
                }
            }
        }
        Ok(true)
    }

    fn seen_columns(&self) -> Vec<bool> {
        self.rows.as_ref().map_or_else(Vec::new, |rows| vec![true; rows.mapping.columns().len()])
    }

    fn new_fields(&self) -> Vec<Field> {
        Vec::new()
    }
}

impl Rows {
    fn push<R: Read>(
        &mut self,
        record: &[u8],
        splitter: &Splitter<R>,
        fields: &Fields,
        nulls: &NullTexts,
        quote: char,
        batch: &mut Batch,
    ) {
        let n_expected = match fields {
            Fields::Named(fields) => fields.len(),
            Fields::Positional(n_fields) => *n_fields,
            Fields::Open => 0,
        };
        if splitter.n_spans() != n_expected {
            let message = format!("{} {OTHER_WIDTH} {n_expected}", splitter.n_spans());
            return self.encoder.reject("syntax", message, record, record.len() as u64, batch);
        }
        if let Some(name) = &self.unwanted {
            let message = format!("no column for field {name:?}");
            return self.encoder.reject("new_field", message, record, record.len() as u64, batch);
        }
        let spans = splitter.spans();
        // One look at the whole record is cheaper than one at each field.
        let text = std::str::from_utf8(record).ok();
        let cell = |index: usize| match text {
            Some(text) => Ok(nulls.value(&text[range(spans[index])], spans[index], quote)),
            None => {
                let text = std::str::from_utf8(&record[range(spans[index])]).map_err(not_utf8)?;
                Ok(nulls.value(text, spans[index], quote))
            }
        };
        let (sources, extras, extras_column) = (&self.sources, &self.extras, self.mapping.extras());
        let (limits, held) = (&self.limits, &self.held);
        held.take();
        self.encoder.push_with(
            batch,
            |column| match sources[column] {
                Some(index) => cell(index),
                None if extras_column == Some(column) => {
                    nested(limits, held, |max_bytes, object| write_extras(extras, cell, max_bytes, object))
                }
                None => Ok(Value::Null),
            },
            || record.into(),
        );
    }
}

/// Writes the fields without a column as one JSON object of texts and nulls.
fn write_extras<'r>(
    extras: &[(usize, Vec<u8>)],
    cell: impl Fn(usize) -> Result<Value<'r>, CellError>,
    max_bytes: usize,
    object: &mut Vec<u8>,
) -> Result<(), CellError> {
    object.push(b'{');
    for (index, key) in extras {
        if object.len() > 1 {
            object.push(b',');
        }
        object.extend_from_slice(key);
        object.push(b':');
        match cell(*index)? {
            Value::Text(text) => write_string_within(&text, max_bytes, object)?,
            _ => object.extend_from_slice(b"null"),
        }
    }
    object.push(b'}');
    Ok(())
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
    CellError::new("text", format!("not text in the file's encoding, from byte {}", error.valid_up_to()))
}

fn check_width(n_fields: usize) -> Result<(), DecodeError> {
    if n_fields > MAX_FIELDS {
        return Err(DecodeError::Limits(format!("{n_fields} fields; more than {MAX_FIELDS} are not read")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
