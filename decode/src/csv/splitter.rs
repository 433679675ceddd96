//! Taking a stream of CSV apart into records and fields.
//!
//! Unlike the usual splitters this one keeps whether a field was quoted (an empty field is NULL,
//! a quoted one is not).
//!
//! A record is taken by RFC 4180, and the escape where the dialect has one, alone: a quote that opens a field is closed by the next one that is
//! not doubled, and after that only a delimiter or a line's end may follow. Where something else
//! follows, or a record over lines has not as many fields as there should be, a quote stands where
//! none should, and what is text and what is rows can be read in several ways ([`Readings`]). Such a record is one
//! reject where all of them end it at the same place; else the object fails, for a line of a text
//! must never become a row. It fails as well where a quote is not closed before the end.

use super::super::{
    DecodeError, MAX_PAYLOAD_BYTES, ShortRows,
    budget::{Budget, Reservation},
};
use super::readings::Readings;
use super::{dialect::Dialect, line};
use crate::encode::{CellError, RejectClass};
use memchr::{memchr, memchr_iter, memchr2, memchr3};
use std::io::{self, Read};

/// A table has at most 1600 columns; of a first record with more fields than this no more are kept.
pub const MAX_FIELDS: usize = 10_000;

/// What is read at once. Larger costs memory per slot, smaller moves more torn ends to the front.
const CHUNK_BYTES: usize = 256 * 1024;

/// How an error begins that a record is torn, and that no row after it can be told from a text.
pub const TORN: &str = "the CSV record at line";

/// Why such a record is not taken for one: more likely it is lines that one torn quote swallowed.
const ACROSS_LINES: &str = "the wrong number of fields, over lines";

/// Where a field stands in its record, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
    pub is_quoted: bool,
    /// There are doubled quotes or escapes in it.
    pub has_escapes: bool,
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
        why: CellError,
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
    /// Line feeds in what is no longer in the buffer.
    lines_passed: u64,
    spans: Vec<Span>,
    n_spans: usize,
    /// For a buffer that holds a long record.
    reserved: Reservation,
    /// What scans and moves cost so far.
    #[cfg(test)]
    pub n_touched: u64,
}

/// What a scan for one record found.
#[derive(Debug, PartialEq, Eq)]
enum Scan {
    /// A record that ends before `end`; the next may begin at `next`.
    Record { end: usize, next: usize },
    /// A quote has no end in what was `seen`, which is all there is.
    Unclosed { seen: usize },
    /// Something follows the quote that was to close at `closed`.
    GoesOn { closed: usize },
    /// The record goes on beyond what was given.
    More,
}

impl<R: Read> Splitter<R> {
    /// Returns a splitter at the start of a stream.
    pub fn new(input: R, dialect: Dialect, max_record_bytes: usize, budget: &Budget) -> Self {
        Self {
            input,
            dialect,
            // Spans count in 32 bits.
            max_record_bytes: max_record_bytes.min(u32::MAX as usize / 2),
            n_fields: None,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            at_end: false,
            lines_passed: 0,
            spans: Vec::new(),
            n_spans: 0,
            reserved: budget.nothing(),
            #[cfg(test)]
            n_touched: 0,
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

    /// Steps over this many lines, whatever is in them.
    ///
    /// # Errors
    /// What reading says.
    pub fn skip_lines(&mut self, n_lines: u32) -> Result<(), DecodeError> {
        for _ in 0..n_lines {
            self.skip_line()?;
            let is_carriage_return = self.buffer.get(self.start) == Some(&b'\r');
            self.start = (self.start + 1).min(self.end);
            if self.start == self.end && !self.at_end {
                self.read_more()?;
            }
            if is_carriage_return && self.start < self.end && self.buffer[self.start] == b'\n' {
                self.start += 1;
            }
        }
        Ok(())
    }

    /// Returns the next line that is a comment; None where a record or the end comes next.
    ///
    /// # Errors
    /// What reading says, and when the line is longer than `max_bytes`.
    pub fn next_comment(&mut self, max_bytes: usize) -> Result<Option<&[u8]>, DecodeError> {
        let comment = self.dialect.comment.take();
        let skipped = self.skip_blank_lines();
        self.dialect.comment = comment;
        skipped?;
        if self.start == self.end || Some(self.buffer[self.start]) != comment {
            return Ok(None);
        }
        loop {
            let found = memchr2(b'\n', b'\r', &self.buffer[self.start..self.end]);
            let length = found.unwrap_or(self.end - self.start);
            if length > max_bytes {
                return Err(DecodeError::Limits(format!("a comment of more than {max_bytes} bytes")));
            }
            if found.is_some() || self.at_end {
                let start = self.start;
                self.start += length;
                return Ok(Some(&self.buffer[start..start + length]));
            }
            self.read_more()?;
        }
    }

    /// Returns the next record that is neither a blank line nor a comment.
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
                self.n_touched += match &scan {
                    Scan::Record { end, .. } => *end,
                    Scan::Unclosed { seen } => *seen,
                    Scan::GoesOn { closed } => *closed,
                    Scan::More => self.end - self.start,
                } as u64;
            }
            match scan {
                Scan::Record { end, .. } if self.has_other_width() && self.goes_over_lines(end) => {
                    return self.give_up(Some(ACROSS_LINES));
                }
                Scan::Record { end, .. } if end > self.max_record_bytes => return self.give_up(None),
                Scan::Record { end, next } => {
                    let start = self.start;
                    self.start += next;
                    return Ok(Next::Record { start, end: start + end });
                }
                Scan::Unclosed { .. } => return Err(self.corrupt("a quote that is never closed")),
                Scan::GoesOn { .. } => return self.give_up(Some("something after a closing quote")),
                Scan::More if self.end - self.start > self.max_record_bytes => return self.give_up(None),
                Scan::More => self.read_more()?,
            }
        }
    }

    /// Scans one record from `self.start`; places are relative to it.
    fn scan(&mut self) -> Scan {
        self.scan_line().unwrap_or_else(|| self.scan_any())
    }

    /// Scans a record that is a line without quotes and escapes; None where there may be some, or no end.
    fn scan_line(&mut self) -> Option<Scan> {
        let Dialect { delimiter, quote, escape: None, .. } = self.dialect else { return None };
        let bytes = &self.buffer[self.start..self.end];
        let end = memchr3(b'\n', b'\r', quote.unwrap_or(b'\n'), bytes)?;
        if Some(bytes[end]) == quote {
            return None;
        }
        let max_spans = self.n_fields.unwrap_or(MAX_FIELDS) + 1;
        self.spans.clear();
        self.n_spans = line::split(&bytes[..end], delimiter, max_spans, &mut self.spans);
        self.drop_trailing();
        Some(Scan::Record { end, next: end + 1 })
    }

    fn scan_any(&mut self) -> Scan {
        let bytes = &self.buffer[self.start..self.end];
        let Dialect { delimiter, quote, escape, ref ends_field, ref stops, .. } = self.dialect;
        // A record of too many fields is counted, but not kept.
        let max_spans = self.n_fields.unwrap_or(MAX_FIELDS) + 1;
        self.spans.clear();
        self.n_spans = 0;
        let mut at = 0;
        loop {
            let mut has_escapes = false;
            let (span, end) = if let Some(quote) = quote.filter(|quote| bytes.get(at) == Some(quote)) {
                let opened = at;
                let mut from = at + 1;
                let closed = loop {
                    let rest = bytes.get(from..).unwrap_or_default();
                    let found = escape.map_or_else(|| memchr(quote, rest), |escape| memchr2(quote, escape, rest));
                    let Some(found) = found else {
                        return if self.at_end { Scan::Unclosed { seen: bytes.len() } } else { Scan::More };
                    };
                    let found = from + found;
                    if bytes[found] == quote && bytes.get(found + 1) != Some(&quote) {
                        break found;
                    }
                    has_escapes = true;
                    from = found + 2;
                };
                if bytes.get(closed + 1).is_some_and(|after| !ends_field[usize::from(*after)]) {
                    return Scan::GoesOn { closed };
                }
                (Span { start: opened as u32 + 1, end: closed as u32, is_quoted: true, has_escapes }, closed + 1)
            } else {
                let mut end = at;
                loop {
                    let rest = &bytes[end..];
                    end += rest.iter().position(|byte| stops[usize::from(*byte)]).unwrap_or(rest.len());
                    if end == bytes.len() || Some(bytes[end]) != escape {
                        break;
                    }
                    has_escapes = true;
                    if end + 1 == bytes.len() && !self.at_end {
                        return Scan::More;
                    }
                    end = (end + 2).min(bytes.len());
                }
                (Span { start: at as u32, end: end as u32, is_quoted: false, has_escapes }, end)
            };
            if self.n_spans < max_spans {
                self.spans.push(span);
            }
            self.n_spans += 1;
            match bytes.get(end) {
                Some(byte) if *byte == delimiter => {
                    at = end + 1;
                }
                Some(_) => {
                    self.drop_trailing();
                    return Scan::Record { end, next: end + 1 };
                }
                None if self.at_end => {
                    self.drop_trailing();
                    return Scan::Record { end, next: end };
                }
                None => return Scan::More,
            }
        }
    }

    /// Takes what follows a trailing delimiter for no field.
    fn drop_trailing(&mut self) {
        let is_one_more = self.n_fields.map_or(self.n_spans > 1, |n_fields| self.n_spans == n_fields + 1);
        if self.dialect.trailing_delimiter
            && is_one_more
            && self.n_spans == self.spans.len()
            && self.spans.last().is_some_and(|span| !span.is_quoted && span.start == span.end)
        {
            self.spans.pop();
            self.n_spans -= 1;
        }
    }

    /// Returns whether the record has not as many fields as the dialect lets it have.
    pub fn has_other_width(&self) -> bool {
        self.n_fields.is_some_and(|n_fields| {
            self.n_spans > n_fields || (self.n_spans < n_fields && self.dialect.short_rows == ShortRows::Reject)
        })
    }

    fn goes_over_lines(&self, end: usize) -> bool {
        memchr2(b'\n', b'\r', &self.buffer[self.start..self.start + end]).is_some()
    }

    /// Says what is wrong with the record in hand, and where that begins.
    fn corrupt(&self, problem: &str) -> DecodeError {
        let line = self.lines_passed + memchr_iter(b'\n', &self.buffer[..self.start]).count() as u64 + 1;
        DecodeError::Corrupt(format!("{TORN} {line} has {problem}, and its end cannot be determined"))
    }

    /// Gives up the record in hand, of which its beginning is kept, and goes to where it ends.
    ///
    /// Without a `problem` it is only too long: then its end is where the dialect says.
    fn give_up(&mut self, problem: Option<&'static str>) -> Result<Next, DecodeError> {
        let torn = problem.unwrap_or("a quote that is torn");
        let mut readings = Readings::new(&self.dialect, problem.is_none());
        // Places are relative to the record's start, which moves to the front only where more has to be read.
        let (mut read, mut length, mut kept, mut lines_dropped) = (0, 0, None, 0);
        let ended = loop {
            let unread = &self.buffer[self.start + read..self.end];
            if let Some(found) = readings.advance(unread) {
                length += found as u64;
                break read + found;
            }
            length += unread.len() as u64;
            read += unread.len();
            if readings.disagree() || (self.at_end && !readings.may_end()) {
                return Err(self.corrupt(torn));
            }
            if self.at_end {
                break read;
            }
            if read <= self.max_record_bytes {
                self.read_more()?;
                continue;
            }
            // Too long to be kept whole: what is read now goes after its beginning.
            if kept.is_none() {
                self.make_room();
            }
            let beginning = *kept.get_or_insert(MAX_PAYLOAD_BYTES.min(read));
            lines_dropped += memchr_iter(b'\n', &self.buffer[beginning..self.end]).count() as u64;
            self.end = beginning;
            read = beginning;
            self.read_chunk()?;
        };
        if readings.disagree() {
            return Err(self.corrupt(torn));
        }
        let start = self.start;
        self.start = (start + ended + 1).min(self.end);
        self.lines_passed += lines_dropped;
        let is_too_long = length > self.max_record_bytes as u64;
        let end = start + if is_too_long { kept.unwrap_or(MAX_PAYLOAD_BYTES).min(ended) } else { ended };
        let why = match problem {
            Some(problem) if !is_too_long => CellError::new(RejectClass::Syntax, problem),
            _ => CellError::new(RejectClass::RowSize, format!("longer than {} bytes", self.max_record_bytes)),
        };
        Ok(Next::Torn { why, start, end, length })
    }

    fn skip_blank_lines(&mut self) -> Result<(), DecodeError> {
        loop {
            while self.start < self.end && matches!(self.buffer[self.start], b'\n' | b'\r') {
                self.start += 1;
            }
            if self.start < self.end && Some(self.buffer[self.start]) == self.dialect.comment {
                self.skip_line()?;
            } else if self.start < self.end || self.at_end {
                return Ok(());
            } else {
                self.read_more()?;
            }
        }
    }

    /// Goes to the end of the line, however long it is.
    fn skip_line(&mut self) -> Result<(), DecodeError> {
        loop {
            if let Some(found) = memchr2(b'\n', b'\r', &self.buffer[self.start..self.end]) {
                self.start += found;
                return Ok(());
            }
            self.start = self.end;
            if self.at_end {
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
            self.reserved.shrink_to(0);
        }
        if self.end + CHUNK_BYTES / 2 > self.buffer.len() {
            let at_most = self.max_record_bytes + CHUNK_BYTES;
            let larger = (self.buffer.len() * 2).clamp(CHUNK_BYTES, at_most.max(CHUNK_BYTES));
            let larger = larger.max(self.end + CHUNK_BYTES / 2);
            if larger > CHUNK_BYTES {
                self.reserved.grow_to("a CSV record", larger)?;
            }
            self.buffer.resize(larger, 0);
            self.buffer.shrink_to(larger);
        }
        self.read_chunk()
    }

    fn make_room(&mut self) {
        #[cfg(test)]
        {
            self.n_touched += (self.end - self.start) as u64;
        }
        self.lines_passed += memchr_iter(b'\n', &self.buffer[..self.start]).count() as u64;
        self.buffer.copy_within(self.start..self.end, 0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CsvOptions, budget::Pool};

    #[test]
    fn the_memory_of_a_long_record_is_given_back_after_it() {
        let budget = Budget::new(4 << 20, Pool::new(0, 1));
        // The buffer is read full behind the record, so lines of its length must pass before it shrinks.
        let content = format!("{}\n{}", "x".repeat(1 << 20), "1,2\n".repeat(1 << 20));
        let mut splitter =
            Splitter::new(content.as_bytes(), Dialect::new(b',', &CsvOptions::default()), 2 << 20, &budget);
        splitter.advance().expect("it fits");
        budget.reserve("another", 3 << 20).expect_err("the record takes it");
        while splitter.advance().expect("the lines fit") != Next::End {}
        budget.reserve("another", 4 << 20).expect("the record is gone");
        assert!(splitter.buffer.capacity() <= CHUNK_BYTES, "{}", splitter.buffer.capacity());
    }
}
