//! Postgres arrays, from JSON arrays and from Postgres's own array literals.

use super::json::{Scanner, scalar};
use super::{CellError, PgType, RejectClass, Value, encode_within, sized, text};
use std::borrow::Cow;

/// Postgres's limit (MAXDIM).
const MAX_DIMENSIONS: usize = 6;

/// Encodes a value for an array column.
///
/// Nested lists make a multidimensional array when they are rectangular; in an array of
/// json or jsonb the elements of the outer list are the elements, whatever they are.
pub(super) fn array(
    value: &Value<'_>,
    element: &PgType,
    oid: u32,
    max_depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), CellError> {
    let written = match value {
        Value::Json(raw) | Value::Text(raw) => raw.as_ref(),
        Value::Bytes(bytes) => text::utf8(bytes)?,
        _ => return Err(CellError::mismatch(value, "array")),
    };
    let first = written.trim_ascii().bytes().next();
    sized(out, |out| {
        let mut writer = ArrayWriter::new(element, oid, max_depth, out);
        match (first, value) {
            (Some(b'['), _) => from_json(written, &mut writer)?,
            (Some(b'{'), Value::Text(_) | Value::Bytes(_)) => from_literal(value, written, &mut writer)?,
            _ => return Err(CellError::mismatch(value, "array")),
        }
        writer.finish();
        Ok(())
    })
}

/// Feeds the writer from a JSON array.
fn from_json(written: &str, writer: &mut ArrayWriter<'_>) -> Result<(), CellError> {
    let bytes = written.as_bytes();
    let jsonb = *writer.element == PgType::Jsonb;
    let keeps_json = matches!(writer.element, PgType::Json | PgType::Jsonb);
    let mut scanner = Scanner { bytes, at: 0, jsonb, max_depth: writer.max_depth };
    scanner.blanks();
    loop {
        // Here a value is expected.
        scanner.blanks();
        let is_list = scanner.peek() == Some(b'[') && !(keeps_json && writer.depth > 0);
        let mut may_be_empty = is_list;
        if is_list {
            scanner.at += 1;
            writer.open()?;
        } else {
            let start = scanner.at;
            scanner.max_depth = writer.max_depth.saturating_sub(writer.depth);
            scanner.value()?;
            let raw = &written[start..scanner.at];
            match scalar(raw)? {
                Some(Value::Null) => writer.element(&Value::Null)?,
                Some(scalar) if !keeps_json => writer.element(&scalar)?,
                _ => writer.element(&Value::Json(raw.into()))?,
            }
        }
        // Here a list may go on or end.
        loop {
            scanner.blanks();
            match scanner.peek() {
                Some(b']') => {
                    scanner.at += 1;
                    writer.close()?;
                    if writer.depth == 0 {
                        scanner.blanks();
                        return if scanner.at == bytes.len() { Ok(()) } else { Err(scanner.unexpected("the end")) };
                    }
                    may_be_empty = false;
                }
                _ if may_be_empty => break,
                Some(b',') => {
                    scanner.at += 1;
                    break;
                }
                _ => return Err(scanner.unexpected("',' or ']'")),
            }
        }
    }
}

/// Feeds the writer from a literal like `{1,NULL,"a \"b\"",{…}}`.
fn from_literal(value: &Value<'_>, written: &str, writer: &mut ArrayWriter<'_>) -> Result<(), CellError> {
    let malformed = || CellError::mismatch(value, "array literal");
    let mut rest = written.trim_ascii();
    loop {
        // Here an element or a list is expected.
        rest = rest.trim_ascii_start();
        let mut may_be_empty = false;
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            writer.open()?;
            may_be_empty = true;
        } else {
            let (element, after) = literal_element(rest).ok_or_else(malformed)?;
            rest = after;
            match element {
                Some(text) => writer.element(&Value::Text(text))?,
                None => writer.element(&Value::Null)?,
            }
        }
        // Here a list may go on or end.
        loop {
            rest = rest.trim_ascii_start();
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                writer.close()?;
                if writer.depth == 0 {
                    return if rest.trim_ascii_start().is_empty() { Ok(()) } else { Err(malformed()) };
                }
                may_be_empty = false;
            } else if may_be_empty {
                break;
            } else {
                rest = rest.strip_prefix(',').ok_or_else(malformed)?;
                break;
            }
        }
    }
}

/// Takes one element of a literal: its text (None for NULL) and what follows; None when there is none.
fn literal_element(text: &str) -> Option<(Option<Cow<'_, str>>, &str)> {
    if let Some(inner) = text.strip_prefix('"') {
        let mut end = 0;
        loop {
            end += memchr::memchr2(b'"', b'\\', &inner.as_bytes()[end..])?;
            if inner.as_bytes()[end] == b'"' {
                return Some((Some(without_backslashes(&inner[..end])), &inner[end + 1..]));
            }
            // The escaped character may be longer than a byte; its later bytes are neither quote nor backslash.
            end += 2;
            if end > inner.len() {
                return None;
            }
        }
    }
    let bytes = text.as_bytes();
    let mut end = 0;
    let mut kept = 0; // Blanks at the end are not part of an element, unless escaped.
    loop {
        match bytes.get(end)? {
            b',' | b'}' => break,
            b'"' | b'{' => return None,
            b'\\' => {
                end += 1 + text[end + 1..].chars().next()?.len_utf8();
                kept = end;
            }
            byte => {
                end += 1;
                if !byte.is_ascii_whitespace() {
                    kept = end;
                }
            }
        }
    }
    let element = &text[..kept];
    if element.is_empty() {
        return None;
    }
    let element = (!element.eq_ignore_ascii_case("null")).then(|| without_backslashes(element));
    Some((element, &text[end..]))
}

/// Removes each backslash that escapes the character after it.
fn without_backslashes(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        plain.extend(if char == '\\' { chars.next() } else { Some(char) });
    }
    plain.into()
}

/// Writes the binary form of an array as its lists open and close.
struct ArrayWriter<'o> {
    element: &'o PgType,
    oid: u32,
    max_depth: usize,
    out: &'o mut Vec<u8>,
    start: usize,
    /// Lists open now.
    depth: usize,
    /// Elements so far of each open list.
    counts: [u32; MAX_DIMENSIONS],
    /// Lengths of the lists of each dimension, known when the first of them closes.
    lengths: [Option<u32>; MAX_DIMENSIONS],
    /// Known, and the header's place kept, from the first element on.
    dimensions: Option<usize>,
    has_null: bool,
}

impl<'o> ArrayWriter<'o> {
    fn new(element: &'o PgType, oid: u32, max_depth: usize, out: &'o mut Vec<u8>) -> Self {
        let start = out.len();
        Self {
            element,
            oid,
            max_depth,
            out,
            start,
            depth: 0,
            counts: [0; MAX_DIMENSIONS],
            lengths: [None; MAX_DIMENSIONS],
            dimensions: None,
            has_null: false,
        }
    }

    fn open(&mut self) -> Result<(), CellError> {
        if self.depth == MAX_DIMENSIONS {
            return Err(CellError::new(
                RejectClass::Range,
                format!("an array of more than {MAX_DIMENSIONS} dimensions"),
            ));
        }
        if self.dimensions.is_some_and(|dimensions| self.depth >= dimensions) {
            return Err(not_rectangular());
        }
        if self.depth > 0 {
            self.counts[self.depth - 1] += 1;
        }
        self.counts[self.depth] = 0;
        self.depth += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), CellError> {
        self.depth -= 1;
        let length = self.counts[self.depth];
        if *self.lengths[self.depth].get_or_insert(length) != length {
            return Err(not_rectangular());
        }
        Ok(())
    }

    fn element(&mut self, value: &Value<'_>) -> Result<(), CellError> {
        match self.dimensions {
            None => {
                self.dimensions = Some(self.depth);
                self.out.resize(self.out.len() + 12 + 8 * self.depth, 0);
            }
            Some(dimensions) if dimensions != self.depth => return Err(not_rectangular()),
            Some(_) => {}
        }
        self.counts[self.depth - 1] += 1;
        self.has_null |= *value == Value::Null;
        encode_within(value, self.element, self.max_depth, self.out)
    }

    fn finish(self) {
        let dimensions = self.dimensions.unwrap_or(0);
        if dimensions == 0 {
            self.out.resize(self.start + 12, 0);
        }
        let header = &mut self.out[self.start..];
        header[..4].copy_from_slice(&(dimensions as u32).to_be_bytes());
        header[4..8].copy_from_slice(&u32::from(self.has_null).to_be_bytes());
        header[8..12].copy_from_slice(&self.oid.to_be_bytes());
        for (dimension, length) in self.lengths[..dimensions].iter().enumerate() {
            let at = 12 + 8 * dimension;
            header[at..at + 4].copy_from_slice(&length.unwrap_or(0).to_be_bytes());
            header[at + 4..at + 8].copy_from_slice(&1u32.to_be_bytes()); // The lower bound.
        }
    }
}

#[cold]
fn not_rectangular() -> CellError {
    CellError::new(RejectClass::Type, "nested lists of different lengths or depths are no array")
}
