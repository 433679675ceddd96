//! JSON Pointers (RFC 6901): to the array that has a document's rows, and to a member within a row.

use super::{
    frame::Frame,
    next_byte,
    row::text,
    scan::{Fault, Kind, Scanner, Token},
    window::Window,
};
use crate::DecodeError;
use std::{fmt, str::FromStr};

/// A longer name on the way to the rows is refused.
const MAX_NAME_BYTES: usize = 64 * 1024;

/// Where in a JSON value another one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// Names of members and numbers of elements, from the outside.
    segments: Vec<String>,
}

impl FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Without quotes around the examples: what is quoted may be left out, as a secret.
        let problem = || format!("{text:?} is no JSON Pointer, like /Records or /user/name");
        let segments = text.strip_prefix('/').ok_or_else(problem)?;
        let unescaped = |segment: &str| segment.replace("~1", "/").replace("~0", "~");
        let is_sound = |segment: &str| segment.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if !segments.split('/').all(is_sound) {
            return Err(problem());
        }
        Ok(Self { segments: segments.split('/').map(unescaped).collect() })
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments.iter().try_for_each(|segment| write!(f, "/{}", segment.replace('~', "~0").replace('/', "~1")))
    }
}

impl Pointer {
    /// Returns the name of the outermost member.
    pub fn root(&self) -> &str {
        &self.segments[0]
    }

    /// Returns how many containers are around what it points to.
    pub fn depth(&self) -> u64 {
        self.segments.len() as u64
    }

    /// Returns the value within `root`, a member of a row that was read whole; of members named twice the last.
    pub fn follow(&self, row: &[u8], root: Token, open: &mut Vec<u8>) -> Token {
        let mut at = root;
        for segment in &self.segments[1..] {
            at = match at.kind {
                Kind::Nested => inner(row, at, segment, open).unwrap_or(Token::ABSENT),
                _ => return Token::ABSENT,
            };
        }
        at
    }

    /// Goes to the first element of the array in the document that starts the view; false where there is null instead,
    /// and the document's start is passed up to that.
    ///
    /// # Errors
    /// [`DecodeError::Corrupt`] where the document has neither.
    pub fn descend(&self, window: &mut Window) -> Result<bool, DecodeError> {
        for segment in &self.segments {
            let found = match next_byte(window)? {
                Some(b'{') => enter_member(window, segment)?,
                Some(b'[') => match segment.parse() {
                    Ok(index) => enter_element(window, index)?,
                    Err(_) => false,
                },
                _ => false,
            };
            if !found {
                return Err(DecodeError::Corrupt(format!("nothing at \"{self}\" in a JSON document")));
            }
        }
        match next_byte(window)? {
            Some(b'[') => window.consume(1),
            Some(b'n') => {
                skip_value(window)?;
                return Ok(false);
            }
            _ => return Err(DecodeError::Corrupt(format!("no array at \"{self}\" in a JSON document"))),
        }
        Ok(true)
    }
}

/// Returns the member or element of a container.
fn inner(row: &[u8], container: Token, segment: &str, open: &mut Vec<u8>) -> Result<Token, Fault> {
    let mut scanner = Scanner::new(container.raw(row), usize::MAX, open);
    let mut found = Token::ABSENT;
    if scanner.take(b'{') {
        let mut more = !scanner.take(b'}');
        while more {
            let name = scanner.name()?;
            let value = scanner.value(0)?;
            if is_name(name.quoted(container.raw(row)), segment) {
                found = value;
            }
            more = scanner.take(b',');
        }
    } else if let (true, Ok(index)) = (scanner.take(b'['), segment.parse::<usize>()) {
        let mut more = !scanner.take(b']');
        for place in 0.. {
            if !more || place > index {
                break;
            }
            found = scanner.value(0)?;
            more = scanner.take(b',');
            if place < index {
                found = Token::ABSENT;
            }
        }
    }
    if found == Token::ABSENT {
        return Ok(found);
    }
    Ok(Token { start: container.start + found.start, end: container.start + found.end, ..found })
}

/// Returns whether this is how a name may be spelled between the quotes.
pub fn is_name(raw: &[u8], name: &str) -> bool {
    raw == name.as_bytes() || (raw.contains(&b'\\') && text(raw).is_ok_and(|text| text == name))
}

/// Goes to a member's value in the object that starts the view; false when there is none.
fn enter_member(window: &mut Window, name: &str) -> Result<bool, DecodeError> {
    window.consume(1);
    loop {
        match next_byte(window)? {
            Some(b'"') => {}
            Some(b',') => {
                window.consume(1);
                continue;
            }
            _ => return Ok(false),
        }
        let length = loop {
            let data = window.data();
            match Frame::default().advance(data) {
                Some(length) => break length,
                None if data.len() <= MAX_NAME_BYTES && window.more()? => {}
                None => return Err(DecodeError::Corrupt("a JSON member's name has no end".into())),
            }
        };
        let is_found = is_name(&window.data()[1..length - 1], name);
        window.consume(length);
        if next_byte(window)? != Some(b':') {
            return Err(DecodeError::Corrupt("a JSON member's name without a colon after it".into()));
        }
        window.consume(1);
        if next_byte(window)?.is_none() {
            return Err(ends_early());
        }
        if is_found {
            return Ok(true);
        }
        skip_value(window)?;
    }
}

/// Goes to an element of the array that starts the view; false when there is none.
fn enter_element(window: &mut Window, index: u64) -> Result<bool, DecodeError> {
    window.consume(1);
    for _ in 0..index {
        skip_value(window)?;
        if next_byte(window)? != Some(b',') {
            return Ok(false);
        }
        window.consume(1);
    }
    Ok(!matches!(next_byte(window)?, None | Some(b']')))
}

/// Passes the value that comes next, of whatever length.
fn skip_value(window: &mut Window) -> Result<(), DecodeError> {
    next_byte(window)?;
    skip(window, Frame::default())
}

/// Passes what is left of the containers that are open.
pub fn skip_rest(window: &mut Window, depth: u64) -> Result<(), DecodeError> {
    skip(window, Frame::within(depth))
}

fn skip(window: &mut Window, mut frame: Frame) -> Result<(), DecodeError> {
    loop {
        let end = frame.advance(window.data());
        window.consume(end.unwrap_or(window.data().len()));
        if end.is_some() {
            return Ok(());
        }
        if !window.more()? {
            return Err(ends_early());
        }
    }
}

fn ends_early() -> DecodeError {
    DecodeError::Corrupt("JSON document ends early".into())
}
