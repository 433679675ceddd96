//! Walking over JSON: what it is, where it ends, and whether Postgres takes it.

use super::super::decimal::fits_numeric;
use crate::encode::{CellError, RejectClass, bytes::hex_digit};

/// jsonb keeps a string's length in 28 bits.
const MAX_JSONB_STRING: usize = 0x0FFF_FFFF;

/// Walks over JSON.
pub(in crate::encode) struct Scanner<'a> {
    pub(in crate::encode) bytes: &'a [u8],
    pub(in crate::encode) at: usize,
    pub(in crate::encode) jsonb: bool,
    pub(in crate::encode) max_depth: usize,
}

impl Scanner<'_> {
    /// Walks over one value and the blanks before it.
    pub(in crate::encode) fn value(&mut self) -> Result<(), CellError> {
        let mut open = Containers::default();
        loop {
            self.blanks();
            match self.peek() {
                Some(container @ (b'{' | b'[')) => {
                    if open.depth == self.max_depth {
                        let message = format!("JSON nested deeper than {}", self.max_depth);
                        return Err(CellError::new(RejectClass::Depth, message));
                    }
                    let is_object = container == b'{';
                    open.push(is_object);
                    self.at += 1;
                    self.blanks();
                    if self.peek() != Some(if is_object { b'}' } else { b']' }) {
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                _ => return Err(self.unexpected("a value")),
            }
            // A value has ended, or a container may end at once.
            loop {
                let Some(is_object) = open.last() else { return Ok(()) };
                self.blanks();
                match (self.peek(), is_object) {
                    (Some(b','), _) => {
                        self.at += 1;
                        if is_object {
                            self.blanks();
                            self.key()?;
                        }
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        open.pop();
                    }
                    _ => return Err(self.unexpected(if is_object { "',' or '}'" } else { "',' or ']'" })),
                }
            }
        }
    }

    pub(in crate::encode) fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline]
    pub(in crate::encode) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[cold]
    pub(in crate::encode) fn unexpected(&self, wanted: &str) -> CellError {
        let message = match self.bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            Some(rest) => {
                let found = String::from_utf8_lossy(&rest[..rest.len().min(12)]).into_owned();
                format!("not JSON: {found:?} at byte {} where {wanted} should be", self.at)
            }
            None => format!("not JSON: ends where {wanted} should be"),
        };
        CellError::new(RejectClass::Json, message)
    }

    fn key(&mut self) -> Result<(), CellError> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a field's name"));
        }
        self.string()?;
        self.blanks();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("':'"));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), CellError> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                Some(0) => return Err(CellError::new(RejectClass::Text, format!("U+0000 at byte {}", self.at))),
                Some(0..0x20) | None => return Err(self.unexpected("the string's end")),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        if self.jsonb && self.at - start > MAX_JSONB_STRING {
            return Err(CellError::new(RejectClass::Range, "a string too long for jsonb"));
        }
        Ok(())
    }

    /// Walks over an escape, after its backslash, and returns what it stands for.
    pub(in crate::encode) fn escape(&mut self) -> Result<char, CellError> {
        let Some(kind) = self.peek() else { return Err(self.unexpected("an escape")) };
        let plain = match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(self.unexpected("an escape")),
        };
        self.at += 1;
        Ok(plain)
    }

    fn unicode_escape(&mut self) -> Result<char, CellError> {
        let start = self.at;
        let first = self.four_hex_digits()?;
        let code = match first {
            0xD800..=0xDBFF if self.bytes.get(self.at..self.at + 2) == Some(b"\\u") => {
                self.at += 1;
                let second = self.four_hex_digits()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(CellError::new(RejectClass::Text, format!("lone surrogate at byte {start}")));
                }
                0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            0 => return Err(CellError::new(RejectClass::Text, format!("U+0000 at byte {start}"))),
            _ => first,
        };
        char::from_u32(code).ok_or_else(|| CellError::new(RejectClass::Text, format!("lone surrogate at byte {start}")))
    }

    /// Walks over `uXXXX`.
    fn four_hex_digits(&mut self) -> Result<u32, CellError> {
        let digits = self.bytes.get(self.at + 1..self.at + 5);
        let code = digits.and_then(|digits| {
            digits.iter().try_fold(0u32, |code, digit| Some(code << 4 | u32::from(hex_digit(*digit)?)))
        });
        let Some(code) = code else { return Err(self.unexpected("an escape")) };
        self.at += 5;
        Ok(code)
    }

    fn number(&mut self) -> Result<(), CellError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        if self.jsonb && !fits_numeric(&self.bytes[start..self.at]) {
            return Err(CellError::new(
                RejectClass::Range,
                format!("a number at byte {start} is out of range for jsonb"),
            ));
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), CellError> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.unexpected("a digit"));
        }
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), CellError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        Ok(())
    }
}

/// Which containers are open, a bit each: objects are 1. The usual few levels need no memory of their own.
#[derive(Default)]
struct Containers {
    depth: usize,
    bits: u128,
    full: Vec<u128>,
}

impl Containers {
    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(128) {
            self.full.push(self.bits);
        }
        self.depth += 1;
        self.bits = self.bits << 1 | u128::from(is_object);
    }

    fn last(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.bits & 1 == 1)
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.bits >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(128) {
            self.bits = self.full.pop().unwrap_or_default();
        }
    }
}
