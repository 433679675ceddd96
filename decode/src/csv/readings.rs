//! Where a record with a torn quote may end.

use super::dialect::Dialect;

/// The ways to read a quote that stands where none should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// RFC 4180: there is none.
    Strict,
    /// It means nothing until the next delimiter.
    Literal,
    /// Every quote opens or closes, wherever it stands.
    Toggle,
    /// It belongs to the text, as long as no delimiter or line's end follows.
    Inner,
    /// It is escaped by a backslash before it.
    Backslash,
}

const WAYS: [Way; 5] = [Way::Strict, Way::Literal, Way::Toggle, Way::Inner, Way::Backslash];

/// Where in a record a way of reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a backslash that escapes; whether within quotes.
    Escaped(bool),
    /// After a quote within quotes.
    Closing,
    /// The record has ended.
    Ended,
    /// This way does not go on.
    Torn,
}

/// Follows one record in all ways at once, in however many pieces its bytes come.
pub struct Readings {
    delimiter: u8,
    quote: Option<u8>,
    /// What the dialect has for an escape in every way.
    escape: Option<u8>,
    places: [Place; WAYS.len()],
    /// The record is whole as far as RFC 4180 has it; then that says where it ends.
    trusts_strict: bool,
}

impl Readings {
    /// Returns the readings at the start of a record; `trusts_strict` while nothing in it is torn.
    pub fn new(dialect: &Dialect, trusts_strict: bool) -> Self {
        let Dialect { delimiter, quote, escape, .. } = *dialect;
        Self { delimiter, quote, escape, places: [Place::FieldStart; WAYS.len()], trusts_strict }
    }

    /// Reads on; returns where in `bytes` the line's end is at which the record ends in all ways.
    pub fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, &byte) in bytes.iter().enumerate() {
            let Self { delimiter, quote, escape, .. } = *self;
            let is_escape = Some(byte) == escape;
            for (way, place) in WAYS.into_iter().zip(&mut self.places) {
                let escapes = is_escape || (way == Way::Backslash && byte == b'\\');
                *place = match *place {
                    // Of a line's end too.
                    Place::Escaped(false) if escape.is_some() => Place::Unquoted,
                    _ => step(way, *place, byte, (delimiter, quote), escapes),
                };
            }
            if matches!(byte, b'\n' | b'\r') {
                if self.trusts_strict && self.places[0] == Place::Ended {
                    return Some(at);
                }
                if !self.trusts_strict_still() && self.places[1..].contains(&Place::Ended) {
                    // Either all of them ended here, or they never will agree.
                    return (!self.disagree()).then_some(at);
                }
            }
        }
        None
    }

    /// Returns whether some ways ended the record where others went on.
    pub fn disagree(&self) -> bool {
        let ended = |place: &Place| *place == Place::Ended;
        !self.trusts_strict_still() && self.places[1..].iter().any(ended) && !self.places[1..].iter().all(ended)
    }

    /// Returns whether the record may end with the object.
    pub fn may_end(&self) -> bool {
        let is_outside = |place: &Place| matches!(place, Place::FieldStart | Place::Unquoted | Place::Closing);
        match self.trusts_strict_still() {
            true => is_outside(&self.places[0]),
            false => self.places[1..].iter().all(is_outside),
        }
    }

    fn trusts_strict_still(&self) -> bool {
        self.trusts_strict && self.places[0] != Place::Torn
    }
}

fn step(way: Way, place: Place, byte: u8, (delimiter, quote): (u8, Option<u8>), escapes: bool) -> Place {
    let is_quote = Some(byte) == quote;
    let is_line_end = matches!(byte, b'\n' | b'\r');
    match place {
        Place::Ended | Place::Torn => place,
        Place::Escaped(true) => Place::Quoted,
        Place::Quoted if is_quote => Place::Closing,
        Place::Quoted if escapes => Place::Escaped(true),
        Place::Quoted => Place::Quoted,
        Place::Closing if is_quote => Place::Quoted,
        _ if is_line_end => Place::Ended,
        _ if byte == delimiter => Place::FieldStart,
        Place::Closing if way == Way::Strict => Place::Torn,
        Place::Closing if way == Way::Inner => Place::Quoted,
        Place::Escaped(false) => Place::Unquoted,
        Place::FieldStart if is_quote => Place::Quoted,
        Place::Unquoted if is_quote && matches!(way, Way::Toggle | Way::Backslash) => Place::Quoted,
        _ if escapes => Place::Escaped(false),
        _ => Place::Unquoted,
    }
}
