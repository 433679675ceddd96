//! Lines of text: each a field, or taken apart by a pattern.

pub mod preset;

use super::{
    Batch, DecodeError, Field, Fields, Limits, MAX_PAYLOAD_BYTES, Mapping, PayloadForm, ReadOptions, RowReader,
    encode::{CellError, RejectClass, Value},
    json::Window,
    named::{NamedRows, RowCells},
    to_json,
};
use memchr::memchr2;
use regex::{CaptureLocations, Regex, RegexBuilder};
use std::{borrow::Cow, io::BufRead, sync::Arc};

/// The field that has a whole line.
pub const LINE: &str = "line";
/// What a pattern may take once it is compiled, and again while lines are matched with it.
const MAX_PATTERN_BYTES: usize = 2 << 20;

/// A pattern of lines. Matching takes time in proportion to the line, whatever the pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Arc<Regex>,
    /// The named groups: number and name.
    groups: Vec<(usize, String)>,
}

impl Pattern {
    /// Compiles a regular expression that has named groups, for whole lines.
    ///
    /// # Errors
    /// A sentence on what is wrong with it.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let compiled = |pattern: &str| {
            RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES).build()
        };
        // By itself first, so that what is wrong is shown in it, and no bracket closes one of ours.
        compiled(pattern).map_err(|error| error.to_string())?;
        let regex = compiled(&format!(r"\A(?:{pattern})\z")).map_err(|error| error.to_string())?;
        let names = regex.capture_names().enumerate();
        let groups: Vec<_> = names.filter_map(|(group, name)| Some((group, name?.to_owned()))).collect();
        if groups.is_empty() {
            return Err("has no named group, like (?P<status>[0-9]+)".into());
        }
        Ok(Self { regex: Arc::new(regex), groups })
    }
}

/// Opens lines of text.
pub fn open(input: Box<dyn BufRead + Send>, options: &ReadOptions) -> Box<dyn RowReader> {
    let pattern = options.text.pattern.clone();
    let names: Vec<String> = match &pattern {
        Some(pattern) => pattern.groups.iter().map(|(_, name)| name.clone()).collect(),
        None => vec![LINE.to_owned()],
    };
    let locations = pattern.as_ref().map(|pattern| pattern.regex.capture_locations());
    Box::new(TextReader {
        window: Window::new(input, &options.limits.budget),
        pattern,
        locations,
        null: options.text.null.clone(),
        fields: Fields::Named(names.into_iter().map(|name| Field { name, nested: false }).collect()),
        rows: None,
        limits: options.limits.clone(),
    })
}

struct TextReader {
    window: Window,
    pattern: Option<Pattern>,
    /// Where the groups are in the line in hand.
    locations: Option<CaptureLocations>,
    null: Vec<String>,
    fields: Fields,
    rows: Option<NamedRows>,
    limits: Limits,
}

/// A line in view.
struct Line {
    length: usize,
    /// With its end.
    taken: usize,
}

impl TextReader {
    /// Brings the next line that is not blank into view; one that is too long only in part.
    fn next_line(&mut self) -> Result<Option<Line>, DecodeError> {
        let mut searched = 0;
        loop {
            let data = self.window.data();
            let found = memchr2(b'\n', b'\r', &data[searched..]).map(|found| searched + found);
            let is_too_long = data.len() > self.limits.row_bytes;
            let line = match found {
                Some(0) => {
                    self.window.consume(1);
                    searched = 0;
                    continue;
                }
                Some(length) => Line { length, taken: length + 1 },
                None if is_too_long => Line { length: data.len(), taken: data.len() },
                None => {
                    searched = data.len();
                    if self.window.more()? {
                        continue;
                    }
                    if searched == 0 {
                        return Ok(None);
                    }
                    Line { length: searched, taken: searched }
                }
            };
            return Ok(Some(line));
        }
    }

    /// Passes a line that is too long; returns its beginning and its length.
    fn pass(&mut self, line: &Line) -> Result<(Vec<u8>, u64), DecodeError> {
        let start = self.window.data()[..line.length.min(MAX_PAYLOAD_BYTES)].to_vec();
        let mut length = line.length as u64;
        let mut is_over = line.taken > line.length;
        self.window.consume(line.taken);
        while !is_over {
            let data = self.window.data();
            let found = memchr2(b'\n', b'\r', data);
            length += found.unwrap_or(data.len()) as u64;
            self.window.consume(found.map_or(data.len(), |found| found + 1));
            is_over = found.is_some() || !self.window.more()?;
        }
        Ok((start, length))
    }
}

impl RowReader for TextReader {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn payload_form(&self) -> PayloadForm {
        PayloadForm::Text
    }

    fn set_mapping(&mut self, mapping: Arc<Mapping>) {
        let Fields::Named(fields) = &self.fields else { return };
        self.rows = Some(NamedRows::new(&mapping, fields.iter().map(|field| field.name.as_str()), &self.limits));
    }

    fn fill(&mut self, batch: &mut Batch, batch_bytes: usize) -> Result<bool, DecodeError> {
        while batch.size() < batch_bytes {
            let Some(line) = self.next_line()? else { return Ok(false) };
            if line.length > self.limits.row_bytes {
                let (start, length) = self.pass(&line)?;
                if let Some(rows) = &mut self.rows {
                    let message = format!("longer than {} bytes", self.limits.row_bytes);
                    rows.encoder.reject(CellError::new(RejectClass::RowSize, message), &start, length, batch);
                }
                continue;
            }
            let Some(rows) = &mut self.rows else {
                return Err(DecodeError::Schema("rows are read before there is a mapping".into()));
            };
            let bytes = &self.window.data()[..line.length];
            let refused = match std::str::from_utf8(bytes) {
                Err(error) => {
                    let message = format!("not text in UTF-8, from byte {}", error.valid_up_to());
                    Err(CellError::new(RejectClass::Text, message))
                }
                Ok(text) => {
                    let matching = self.pattern.as_ref().zip(self.locations.as_mut());
                    match matching.is_none_or(|(pattern, at)| pattern.regex.captures_read(at, text).is_some()) {
                        true => Ok(text),
                        false => Err(CellError::new(RejectClass::Syntax, "the line is not as the pattern has it")),
                    }
                }
            };
            match refused {
                Ok(text) => {
                    let places = self.pattern.as_ref().zip(self.locations.as_ref());
                    rows.push(&Cells { text, places, null: &self.null }, batch);
                }
                Err(why) => rows.encoder.reject(why, bytes, bytes.len() as u64, batch),
            }
            self.window.consume(line.taken);
        }
        Ok(true)
    }

    fn seen_columns(&self) -> Vec<bool> {
        vec![true; self.rows.as_ref().map_or(0, NamedRows::n_columns)]
    }
}

/// One line.
struct Cells<'r> {
    text: &'r str,
    places: Option<(&'r Pattern, &'r CaptureLocations)>,
    null: &'r [String],
}

impl<'r> RowCells<'r> for Cells<'r> {
    fn cell(&self, field: usize) -> Result<Value<'r>, CellError> {
        let Some((pattern, locations)) = self.places else { return Ok(Value::Text(self.text.into())) };
        let Some((start, end)) = locations.get(pattern.groups[field].0) else { return Ok(Value::Null) };
        let text = &self.text[start..end];
        Ok(if self.null.iter().any(|null| null == text) { Value::Null } else { Value::Text(text.into()) })
    }

    fn write_json(&self, field: usize, max_bytes: usize, out: &mut Vec<u8>) -> Result<(), CellError> {
        to_json::write_value_within(&self.cell(field)?, max_bytes, out)
    }

    fn payload(&self, _fields: &[(usize, Vec<u8>)]) -> Cow<'r, [u8]> {
        self.text.as_bytes().into()
    }
}

#[cfg(test)]
mod tests;
