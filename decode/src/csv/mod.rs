//! CSV: records of text, with a header or without.

mod cells;
mod dialect;
mod line;
mod readings;
mod splitter;

use super::{
    Batch, DecodeError, Field, Fields, Limits, Mapping, Names, PayloadForm, ReadOptions, RowReader, Slot,
    budget::Reservation,
    encoding,
    named::{NamedRows, quoted},
};
use crate::encode::{CellError, RejectClass, usual};
use cells::{Cells, FieldReadings, field_text};
use dialect::Dialect;
pub use splitter::TORN;
use splitter::{MAX_FIELDS, Next, Splitter};
use std::{io::BufRead, io::Read, sync::Arc};

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
    let mut reader = CsvReader::new(input, delimiter, options);
    reader.splitter.skip_lines(options.csv.skip_lines)?;
    match (options.csv.header, options.csv.names) {
        (false, _) => reader.count_fields()?,
        (true, Names::OfFieldsLine) => reader.read_fields_line()?,
        (true, names) => reader.read_header(names)?,
    }
    Ok(Box::new(reader))
}

/// Opens records that were taken from a file with these fields: there is no header, and no line is skipped.
#[must_use]
pub fn open_records(
    input: Box<dyn BufRead + Send>,
    fields: &Fields,
    delimiter: u8,
    options: &ReadOptions,
) -> Box<dyn RowReader> {
    let mut reader = CsvReader::new(input, delimiter, options);
    reader.expect_fields(match fields {
        Fields::Named(fields) => fields.len(),
        Fields::Positional(n_fields) => *n_fields,
        Fields::Open => 0,
    });
    reader.fields = fields.clone();
    Box::new(reader)
}

/// Reads the rows of a CSV file.
struct CsvReader<R> {
    splitter: Splitter<R>,
    fields: Fields,
    /// How many there are.
    n_fields: usize,
    dialect: Dialect,
    readings: FieldReadings,
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
    fn new(input: R, delimiter: u8, options: &ReadOptions) -> Self {
        let dialect = Dialect::new(delimiter, &options.csv);
        Self {
            splitter: Splitter::new(input, dialect.clone(), options.limits.row_bytes, &options.limits.budget),
            fields: Fields::Open,
            n_fields: 0,
            dialect,
            readings: FieldReadings::new(&options.csv),
            limits: options.limits.clone(),
            torn_at_start: Vec::new(),
            rows: None,
            reserved: options.limits.budget.nothing(),
            unwanted: None,
            input_bytes: 0,
            output_bytes: 0,
        }
    }

    fn read_header(&mut self, names_as: Names) -> Result<(), DecodeError> {
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
            let text = field_text(record, *span, &self.dialect).map_err(|error| {
                DecodeError::Corrupt(format!("field {} of the header: {}", index + 1, error.message))
            })?;
            let name = match text.trim() {
                // Some writers leave the index column without a name.
                "" => format!("column_{}", index + 1),
                name if names_as == Names::Plain => plain(name),
                name => name.to_owned(),
            };
            names.push(name);
        }
        self.name_fields(names);
        Ok(())
    }

    /// Reads the comments at the start up to the one that names the fields.
    fn read_fields_line(&mut self) -> Result<(), DecodeError> {
        while let Some(line) = self.splitter.next_comment(MAX_HEADER_BYTES)? {
            let Some(names) = line.strip_prefix(b"#Fields:") else { continue };
            let names = String::from_utf8_lossy(names).into_owned();
            let names: Vec<String> = names.split_ascii_whitespace().map(plain).collect();
            check_width(names.len())?;
            let length = names.iter().map(String::len).sum::<usize>() * NAME_COPIES;
            self.reserved.grow("the names of fields", length + names.len() * FIELD_BYTES)?;
            self.name_fields(names);
            return Ok(());
        }
        Err(DecodeError::Corrupt("no #Fields: line before the first record".into()))
    }

    fn name_fields(&mut self, names: Vec<String>) {
        self.expect_fields(names.len());
        self.fields = Fields::Named(names.into_iter().map(|name| Field { name, nested: false }).collect());
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
        self.readings.set_mapping(&mapping, names.len());
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
                    let is_usual = self.readings.are_all_alike() && usual::is_text(record);
                    let (spans, readings, dialect) = (self.splitter.spans(), &self.readings, &self.dialect);
                    let cells = Cells { record, is_usual, spans, readings, dialect };
                    if self.splitter.has_other_width() {
                        let message = format!("{} {OTHER_WIDTH} {}", self.splitter.n_spans(), self.n_fields);
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

/// Returns a name in lower case, with an underscore for each run of what is neither letter nor digit.
fn plain(name: &str) -> String {
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("_")
}

fn check_width(n_fields: usize) -> Result<(), DecodeError> {
    if n_fields > MAX_FIELDS {
        return Err(DecodeError::Limits(format!("{n_fields} fields; more than {MAX_FIELDS} are not read")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
