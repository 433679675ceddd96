//! Taking a stream of CSV apart into records and fields.
//!
//! Unlike the usual splitters this one keeps whether a field was quoted (an empty field is NULL,
//! a quoted one is not) and gets over torn quotes: a quote that is never closed, or is followed by
//! something other than a delimiter, costs the line it opened in and nothing more.

use super::super::{DecodeError, MAX_PAYLOAD_BYTES};
use memchr::{memchr, memchr2};
use std::io::{self, Read};

/// A table has at most 1600 columns; of a first record with more fields than this no more are kept.
pub const MAX_FIELDS: usize = 10_000;

/// What is read at once. Larger costs memory per slot, smaller moves more torn ends to the front.
const CHUNK_BYTES: usize = 256 * 1024;

/// Why such a record is not taken for one: more likely it is lines that one torn quote swallowed.
const ACROSS_LINES: &str = "quoted over lines, and too long or not of as many fields as there should be";

/// Where a field stands in its record, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
    pub is_quoted: bool,
    /// There are doubled quotes in it.
    pub has_quotes: bool,
}

/// What the stream has next. Ranges are of [`Splitter::bytes`] and hold until the next call.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A record; its fields are [`Splitter::spans`].
    Record {
        start: usize,
        end: usize,
    },
    /// A record that could not be taken apart, and its beginning.
    Torn {
        class: &'static str,
        message: String,
        start: usize,
        end: usize,
        length: u64,
    },
    End,
}

/// Splits what it reads.
pub struct Splitter<R> {
    input: R,
    dialect: Dialect,
    max_record_bytes: usize,
    /// Fields of a record. Those of another width that go over lines are taken for torn quotes.
    n_fields: Option<usize>,
    buffer: Vec<u8>,
    /// The bytes not yet taken.
    start: usize,
    end: usize,
    at_end: bool,
    /// Where in the stream the buffer begins.
    offset: u64,
    /// Quotes that open before this place in the stream may not span lines: a scan has shown where
    /// they lead. Without it a file of torn quotes would be scanned again and again from each line.
    one_line_until: u64,
    spans: Vec<Span>,
    n_spans: usize,
    /// What scans cost so far.
    #[cfg(test)]
    pub n_scanned: u64,
}

/// The bytes that mean something.
#[derive(Debug, Clone)]
struct Dialect {
    delimiter: u8,
    quote: u8,
    /// Whether a byte ends an unquoted field.
    ends_field: [bool; 256],
}

/// What a scan for one record found.
#[derive(Debug, PartialEq, Eq)]
enum Scan {
    /// A record that ends before `end`; the next may begin at `next`.
    Record { end: usize, next: usize },
    /// The quote at `opened` has no end, as `seen` shows: the end of the stream, or of what a quote may span.
    Unclosed { opened: usize, seen: usize },
    /// The quote at `opened` is closed at `closed`, but goes on.
    GoesOn { opened: usize, closed: usize },
    /// A record that goes over lines and has too many fields even before `end`.
    Overfull { end: usize },
    /// The record goes on beyond what was given, perhaps within the quote at `opened`.
    More { opened: Option<usize> },
}

impl<R: Read> Splitter<R> {
    /// Returns a splitter at the start of a stream.
    pub fn new(input: R, delimiter: u8, quote: u8, max_record_bytes: usize) -> Self {
        let mut ends_field = [false; 256];
        for byte in [delimiter, b'\n', b'\r'] {
            ends_field[usize::from(byte)] = true;
        }
        Self {
            input,
            dialect: Dialect { delimiter, quote, ends_field },
            // Spans count in 32 bits.
            max_record_bytes: max_record_bytes.min(u32::MAX as usize / 2),
            n_fields: None,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            at_end: false,
            offset: 0,
            one_line_until: 0,
            spans: Vec::new(),
            n_spans: 0,
            #[cfg(test)]
            n_scanned: 0,
        }
    }

    /// Sets how many fields a record has.
    pub fn expect_fields(&mut self, n_fields: usize) {
        self.n_fields = Some(n_fields);
    }

    /// Returns a piece of the buffer.
    pub fn bytes(&self, start: usize, end: usize) -> &[u8] {
        &self.buffer[start..end]
    }

    /// Returns the fields of the record last returned; only one more than expected where there are more.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Returns how many fields the record last returned has.
    pub fn n_spans(&self) -> usize {
        self.n_spans
    }

    /// Takes back the record that begins at `start`: it is returned again.
    pub fn take_back(&mut self, start: usize) {
        self.start = start;
    }

    /// Returns the next record that is not a blank line.
    ///
    /// # Errors
    /// What reading says.
    pub fn advance(&mut self) -> Result<Next, DecodeError> {
        self.skip_blank_lines()?;
        if self.start == self.end {
            return Ok(Next::End);
        }
        loop {
            let scan = self.scan();
            #[cfg(test)]
            {
                self.n_scanned += match &scan {
                    Scan::Record { end, .. } | Scan::Overfull { end } => *end,
                    Scan::Unclosed { seen, .. } => *seen,
                    Scan::GoesOn { closed, .. } => *closed,
                    Scan::More { .. } => self.end - self.start,
                } as u64;
            }
            match scan {
                Scan::Record { end, .. } if self.is_unlikely(end) && self.spanning_quote(end).is_some() => {
                    return self.tear(end, end, ACROSS_LINES);
                }
                Scan::Record { end, .. } if end > self.max_record_bytes => return self.too_long(end),
                Scan::Record { end, next } => {
                    let start = self.start;
                    self.start += next;
                    return Ok(Next::Record { start, end: start + end });
                }
                Scan::Overfull { end } => return self.tear(end, end, ACROSS_LINES),
                Scan::Unclosed { opened, seen } => return self.tear(opened, seen, "a quote that is never closed"),
                Scan::GoesOn { opened, closed } => {
                    return self.tear(opened, closed, "something follows a closing quote");
                }
                Scan::More { opened } if self.end - self.start > self.max_record_bytes => {
                    let known = self.end - self.start;
                    return match opened.or_else(|| self.spanning_quote(known)) {
                        Some(opened) => self.tear(opened, known, "a quote that is not closed in time"),
                        None => self.too_long(known),
                    };
                }
                Scan::More { .. } => self.read_more()?,
            }
        }
    }

    /// Scans one record from `self.start`; places are relative to it.
    fn scan(&mut self) -> Scan {
        let bytes = &self.buffer[self.start..self.end];
        let Dialect { delimiter, quote, ref ends_field } = self.dialect;
        // A record of too many fields is counted, but not kept.
        let max_spans = self.n_fields.unwrap_or(MAX_FIELDS) + 1;
        let one_line_until = self.one_line_until.saturating_sub(self.offset + self.start as u64);
        self.spans.clear();
        self.n_spans = 0;
        let mut at = 0;
        loop {
            let (span, end) = if bytes.get(at) == Some(&quote) {
                let opened = at;
                let limit = match (opened as u64) < one_line_until {
                    true => memchr2(b'\n', b'\r', &bytes[opened..]).map_or(bytes.len(), |found| opened + found),
                    false => bytes.len(),
                };
                let mut has_quotes = false;
                let mut from = at + 1;
                let closed = loop {
                    let Some(found) = memchr(quote, &bytes[from..limit]) else {
                        return match self.at_end || limit < bytes.len() {
                            true => Scan::Unclosed { opened, seen: limit },
                            false => Scan::More { opened: Some(opened) },
                        };
                    };
                    let found = from + found;
                    if bytes.get(found + 1) != Some(&quote) {
                        break found;
                    }
                    has_quotes = true;
                    from = found + 2;
                };
                if bytes.get(closed + 1).is_some_and(|after| !ends_field[usize::from(*after)]) {
                    return Scan::GoesOn { opened, closed };
                }
                (Span { start: opened as u32 + 1, end: closed as u32, is_quoted: true, has_quotes }, closed + 1)
            } else {
                let rest = &bytes[at..];
                let len = rest.iter().position(|byte| ends_field[usize::from(*byte)]).unwrap_or(rest.len());
                let end = at + len;
                (Span { start: at as u32, end: end as u32, is_quoted: false, has_quotes: false }, end)
            };
            if self.n_spans < max_spans {
                self.spans.push(span);
            }
            self.n_spans += 1;
            match bytes.get(end) {
                Some(byte) if *byte == delimiter => {
                    if Some(self.n_spans) == self.n_fields && memchr2(b'\n', b'\r', &bytes[..end]).is_some() {
                        return Scan::Overfull { end };
                    }
                    at = end + 1;
                }
                Some(_) => return Scan::Record { end, next: end + 1 },
                None if self.at_end => return Scan::Record { end, next: end },
                None => return Scan::More { opened: None },
            }
        }
    }

    /// Returns whether the record that ends at `end` is too long, or not of the expected width.
    fn is_unlikely(&self, end: usize) -> bool {
        end > self.max_record_bytes || self.n_fields.is_some_and(|n_fields| n_fields != self.n_spans)
    }

    /// Returns the first quote before `end` whose field goes over a line's end.
    fn spanning_quote(&self, end: usize) -> Option<usize> {
        let line_end = memchr2(b'\n', b'\r', &self.buffer[self.start..self.start + end])?;
        let quoted = self.spans.iter().rfind(|span| span.is_quoted && (span.start as usize) <= line_end)?;
        Some(quoted.start as usize - 1)
    }

    /// Gives up a line because of the quote at `opened`, having looked as far as `seen`.
    ///
    /// Where fields before that quote go over lines, the first of them is taken for the torn one:
    /// what one torn quote pairs up with are other fields' quotes, and lines between are not to be lost.
    fn tear(&mut self, opened: usize, seen: usize, message: &str) -> Result<Next, DecodeError> {
        let opened = self.spanning_quote(opened).unwrap_or(opened);
        self.one_line_until = self.one_line_until.max(self.offset + (self.start + seen) as u64);
        loop {
            let rest = &self.buffer[self.start + opened..self.end];
            let line_end = match memchr2(b'\n', b'\r', rest) {
                Some(found) => opened + found,
                None if self.at_end => self.end - self.start,
                None if self.end - self.start > self.max_record_bytes => return self.too_long(self.end - self.start),
                None => {
                    self.read_more()?;
                    continue;
                }
            };
            let (start, end) = (self.start, self.start + line_end);
            self.start = (end + 1).min(self.end);
            let length = line_end as u64;
            return Ok(Next::Torn { class: "syntax", message: message.to_owned(), start, end, length });
        }
    }

    /// Gives up a record that is too long, of which `known` bytes are certain, and goes to its line's end.
    fn too_long(&mut self, known: usize) -> Result<Next, DecodeError> {
        // The beginning is kept at the front of the buffer; what is read now goes after it.
        self.make_room();
        let kept = MAX_PAYLOAD_BYTES.min(known);
        let mut length = known as u64;
        self.start = known;
        loop {
            let rest = &self.buffer[self.start..self.end];
            if let Some(found) = memchr2(b'\n', b'\r', rest) {
                length += found as u64;
                self.start += found + 1;
                break;
            }
            length += rest.len() as u64;
            self.start = self.end;
            if self.at_end {
                break;
            }
            self.offset += (self.end - kept) as u64;
            self.start = kept;
            self.end = kept;
            self.read_chunk()?;
        }
        let message = format!("longer than {} bytes", self.max_record_bytes);
        Ok(Next::Torn { class: "row_size", message, start: 0, end: kept, length })
    }

    fn skip_blank_lines(&mut self) -> Result<(), DecodeError> {
        loop {
            while self.start < self.end && matches!(self.buffer[self.start], b'\n' | b'\r') {
                self.start += 1;
            }
            if self.start < self.end || self.at_end {
                return Ok(());
            }
            self.read_more()?;
        }
    }

    /// Reads on, with what is not yet taken moved to the front and more room where that is all of it.
    fn read_more(&mut self) -> Result<(), DecodeError> {
        self.make_room();
        if self.end < CHUNK_BYTES / 2 && self.buffer.len() > CHUNK_BYTES {
            // A long record has passed; its memory is not needed for the short ones.
            self.buffer.truncate(CHUNK_BYTES);
            self.buffer.shrink_to_fit();
        }
        if self.end + CHUNK_BYTES / 2 > self.buffer.len() {
            let at_most = self.max_record_bytes + CHUNK_BYTES;
            let larger = (self.buffer.len() * 2).clamp(CHUNK_BYTES, at_most.max(CHUNK_BYTES));
            self.buffer.resize(larger.max(self.end + CHUNK_BYTES / 2), 0);
        }
        self.read_chunk()
    }

    fn make_room(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.offset += self.start as u64;
        self.end -= self.start;
        self.start = 0;
    }

    /// Fills the rest of the buffer.
    fn read_chunk(&mut self) -> Result<(), DecodeError> {
        while self.end < self.buffer.len() && !self.at_end {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.at_end = true,
                Ok(n_bytes) => self.end += n_bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
