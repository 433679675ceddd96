//! JSON: one object a line, or a document of objects.

mod answers;
mod document;
mod fields;
mod frame;
mod lines;
mod pointer;
mod row;
mod scan;
mod window;

pub use answers::{Answer, Answers, Asked, CONTROL_FIELDS};
pub use fields::MAX_NEW_FIELDS;
pub use pointer::Pointer;

use super::{Batch, DecodeError, Field, Fields, Format, JsonOptions, Limits, Mapping, ReadOptions, RowReader};
use document::Document;
use frame::Frame;
use lines::Lines;
use row::RowParser;
use std::{io, sync::Arc};
pub(crate) use window::Window;

/// How many blanks after the first line are looked through for the start of a second one.
const MAX_BLANKS: usize = 1024;

/// Opens JSON text; `declared` as NDJSON it is read by lines, else the content says how.
///
/// # Errors
/// [`DecodeError::Corrupt`] when it is declared a document and is not one.
pub fn open(
    input: Box<dyn io::BufRead + Send>,
    declared: Format,
    options: &ReadOptions,
) -> Result<Box<dyn RowReader>, DecodeError> {
    let mut window = Window::new(input, &options.limits.budget);
    skip_byte_order_mark(&mut window)?;
    let max_bytes = options.limits.row_bytes;
    let JsonOptions { rows: place, fields: nested } = options.json.clone();
    let by_lines = place.is_none()
        && (is_by_lines(&mut window, max_bytes)?
            || (declared == Format::Ndjson && window.data().len() <= max_bytes && !is_document(&mut window)?));
    let framing = match place {
        None if is_by_carriage_returns(&window) => Framing::Lines(Lines::ending_in(b'\r')),
        None if by_lines => Framing::Lines(Lines::ending_in(b'\n')),
        place => Framing::Document(Document::new(place)),
    };
    let rows = RowParser::new(Arc::default(), &options.limits);
    let limits = options.limits.clone();
    Ok(Box::new(JsonReader { fields: Fields::Open, window, framing, rows, nested, max_bytes, limits }))
}

struct JsonReader {
    fields: Fields,
    window: Window,
    framing: Framing,
    rows: RowParser,
    nested: Vec<(String, Pointer)>,
    max_bytes: usize,
    limits: Limits,
}

enum Framing {
    Lines(Lines),
    Document(Document),
}

impl RowReader for JsonReader {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn set_mapping(&mut self, mapping: Arc<Mapping>) {
        self.rows = RowParser::new(mapping, &self.limits).with_nested(&self.nested);
    }

    fn fill(&mut self, batch: &mut Batch, batch_bytes: usize) -> Result<bool, DecodeError> {
        let Self { window, framing, rows, max_bytes, .. } = self;
        while batch.size() < batch_bytes {
            let more = match framing {
                Framing::Lines(lines) => lines.next(window, *max_bytes, rows, batch)?,
                Framing::Document(document) => document.next(window, *max_bytes, rows, batch)?,
            };
            if !more {
                return if rows.are_strangers() { Err(no_common_field()) } else { Ok(false) };
            }
        }
        Ok(true)
    }

    fn seen_columns(&self) -> Vec<bool> {
        self.rows.seen_columns()
    }

    fn new_fields(&self) -> Vec<Field> {
        self.rows.new_fields()
    }
}

/// The same as a file with a header or a schema gets.
fn no_common_field() -> DecodeError {
    DecodeError::Schema("no field matches a column of the table".into())
}

fn skip_byte_order_mark(window: &mut Window) -> io::Result<()> {
    while window.data().len() < 3 && window.more()? {}
    if window.data().starts_with(b"\xef\xbb\xbf") {
        window.consume(3);
    }
    Ok(())
}

/// Decides from the first line whether each line is a row.
///
/// A first line that is a whole object is a row (Spark calls such files "json", too), and so is
/// one that no document could go on from: otherwise one bad line would cost the whole object.
fn is_by_lines(window: &mut Window, max_bytes: usize) -> io::Result<bool> {
    let Some(first) = next_byte(window)? else { return Ok(true) };
    if first != b'{' {
        return Ok(false);
    }
    let mut searched = 0;
    let line_end = loop {
        let data = window.data();
        if let Some(found) = memchr::memchr(b'\n', &data[searched..]) {
            break searched + found;
        }
        if data.len() > max_bytes {
            // As a document it would be one row that is too long; as a line it is that, too, and more can follow:
            // unless the line is long because rows share it.
            let shared = Frame::default().advance(data).and_then(|end| data[end..].trim_ascii_start().first());
            return Ok(shared != Some(&b'{'));
        }
        searched = data.len();
        if !window.more()? {
            break searched;
        }
    };
    let line = &window.data()[..line_end];
    let mut frame = Frame::default();
    match frame.advance(line) {
        Some(end) => Ok(!matches!(line[end..].trim_ascii_start().first(), Some(b'{' | b'['))),
        None if frame.in_string() && line_end < window.data().len() => Ok(true),
        None => {
            let goes_on = matches!(line.trim_ascii_end().last(), Some(b'{' | b'[' | b',' | b':'));
            // The line stays in view, so whatever follows must be read behind it; a few blanks are enough to ask.
            while window.data().len() < line_end + MAX_BLANKS && window.more()? {}
            let next = window.data()[line_end..].trim_ascii_start().first();
            Ok(!goes_on && next == Some(&b'{'))
        }
    }
}

/// Returns whether what is called lines is a document all the same: an array of objects, or an object that is written over
/// lines and not torn, for then a name would follow on the next.
fn is_document(window: &mut Window) -> io::Result<bool> {
    let first = next_byte(window)?;
    while window.data().len() < MAX_BLANKS && window.more()? {}
    let data = window.data();
    let next_after = |at: usize| data.get(at..).unwrap_or_default().trim_ascii_start().first();
    Ok(match first {
        Some(b'[') => matches!(next_after(1), Some(b'{')),
        Some(b'{') => memchr::memchr(b'\n', data).is_some_and(|end| {
            let goes_on = matches!(data[..end].trim_ascii_end().last(), Some(b'{' | b'[' | b',' | b':'));
            goes_on && Frame::default().advance(&data[..end]).is_none() && next_after(end) == Some(&b'"')
        }),
        _ => false,
    })
}

/// Returns whether objects are lines that end in a carriage return alone.
fn is_by_carriage_returns(window: &Window) -> bool {
    let data = window.data();
    let Some(end) = memchr::memchr2(b'\r', b'\n', data) else { return false };
    data[end] == b'\r'
        && data.first() == Some(&b'{')
        && Frame::default().advance(&data[..end]).is_some()
        && data[end..].iter().find(|byte| **byte != b'\r') == Some(&b'{')
}

/// Steps over blanks; returns the byte after them, which stays in view.
fn next_byte(window: &mut Window) -> io::Result<Option<u8>> {
    loop {
        let data = window.data();
        let blanks = data.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
        let next = data.get(blanks).copied();
        window.consume(blanks);
        if next.is_some() || !window.more()? {
            return Ok(next);
        }
    }
}

#[cfg(test)]
mod tests;
