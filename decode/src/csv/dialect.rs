//! Which bytes of a CSV file mean something.

use crate::{CsvOptions, ShortRows};
use std::borrow::Cow;

/// What the splitter goes by.
#[derive(Debug, Clone)]
pub struct Dialect {
    pub delimiter: u8,
    pub quote: Option<u8>,
    pub escape: Option<u8>,
    pub comment: Option<u8>,
    pub short_rows: ShortRows,
    pub trailing_delimiter: bool,
    /// Whether a byte ends an unquoted field.
    pub ends_field: [bool; 256],
    /// Those bytes, and the escape.
    pub stops: [bool; 256],
}

impl Dialect {
    /// Returns the dialect of these options, with the delimiter that the object has.
    pub fn new(delimiter: u8, options: &CsvOptions) -> Self {
        let mut ends_field = [false; 256];
        for byte in [delimiter, b'\n', b'\r'] {
            ends_field[usize::from(byte)] = true;
        }
        let mut stops = ends_field;
        if let Some(escape) = options.escape {
            stops[usize::from(escape)] = true;
        }
        let CsvOptions { quote, escape, comment, short_rows, trailing_delimiter, .. } = *options;
        Self { delimiter, quote, escape, comment, short_rows, trailing_delimiter, ends_field, stops }
    }

    /// Returns what a field with doubled quotes or escapes says. An escape before a character that needs none is text.
    pub fn unescaped<'t>(&self, text: &'t str, is_quoted: bool) -> Cow<'t, str> {
        let is = |byte: Option<u8>, c: char| byte.is_some_and(|byte| char::from(byte) == c);
        let mut plain = String::with_capacity(text.len());
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            let is_pair = rest.peek().is_some_and(|next| match is(self.escape, c) {
                true => {
                    let others = [self.quote, self.comment, Some(self.delimiter)].into_iter();
                    *next == c || matches!(next, '\n' | '\r') || others.into_iter().any(|byte| is(byte, *next))
                }
                false => is_quoted && is(self.quote, c) && *next == c,
            });
            plain.push(if is_pair { rest.next().unwrap_or(c) } else { c });
        }
        plain.into()
    }
}
