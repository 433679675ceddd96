//! A strict JSON scanner over one row's bytes: checks the grammar, builds nothing, never recurses.
//!
//! The bytes need not be UTF-8; the user of a string or a nested value checks that part.

/// Why a row's bytes are not acceptable JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The grammar is broken at this offset.
    Syntax {
        /// Offset into the row.
        at: usize,
        /// What was expected there.
        expected: &'static str,
    },
    /// Nested deeper than allowed.
    Depth,
}

/// What sort of value a [`Token`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No value: the row did not have the field.
    Absent,
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as written.
    Number,
    /// A string whose bytes are its text.
    Plain,
    /// A string with escapes in it.
    Escaped,
    /// An object or array.
    Nested,
}

/// A value and where it stands in the row; a string's range includes its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What sort of value it is.
    pub kind: Kind,
    /// Offset of its first byte.
    pub start: usize,
    /// Offset after its last byte.
    pub end: usize,
}

impl Token {
    /// No value.
    pub const ABSENT: Self = Self { kind: Kind::Absent, start: 0, end: 0 };

    /// Returns the value as it was written.
    pub fn raw<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start..self.end]
    }

    /// Returns what stands between a string's quotes.
    pub fn quoted<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start + 1..self.end - 1]
    }
}

/// Reads values one after another.
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    max_depth: usize,
    /// The openers of the containers around `at`; lent so that rows share its memory.
    open: &'a mut Vec<u8>,
}

impl<'a> Scanner<'a> {
    /// Returns where it is.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Goes on from another place.
    pub fn go_on_from(&mut self, at: usize) {
        self.at = at;
    }

    /// Returns a scanner at the start of `bytes`.
    pub fn new(bytes: &'a [u8], max_depth: usize, open: &'a mut Vec<u8>) -> Self {
        Self { bytes, at: 0, max_depth, open }
    }

    /// Steps over blanks and, when `byte` comes next, over it; returns whether it did.
    #[inline]
    pub fn take(&mut self, byte: u8) -> bool {
        self.skip_blank();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Steps over `byte`, which must come next.
    #[inline]
    pub fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), Fault> {
        if self.take(byte) { Ok(()) } else { Err(self.fault(expected)) }
    }

    /// Steps over what follows a member; returns whether it is a comma.
    pub fn goes_on(&mut self) -> Result<bool, Fault> {
        let more = self.take(b',');
        if !more {
            self.expect(b'}', "a comma or a closing brace")?;
        }
        Ok(more)
    }

    /// Checks that only blanks are left.
    pub fn finish(&mut self) -> Result<(), Fault> {
        self.skip_blank();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.fault("the end of the row")) }
    }

    /// Reads a member's name and the colon after it.
    pub fn name(&mut self) -> Result<Token, Fault> {
        self.skip_blank();
        if self.peek() != Some(b'"') {
            return Err(self.fault("a field name"));
        }
        let name = self.string()?;
        self.expect(b':', "a colon")?;
        Ok(name)
    }

    /// Reads any value; `depth_above` containers are open around it.
    #[inline]
    pub fn value(&mut self, depth_above: usize) -> Result<Token, Fault> {
        self.skip_blank();
        match self.peek() {
            Some(b'{' | b'[') => self.nested(depth_above),
            _ => self.scalar(),
        }
    }

    #[inline]
    fn scalar(&mut self) -> Result<Token, Fault> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", Kind::Bool(true)),
            Some(b'f') => self.word(b"false", Kind::Bool(false)),
            Some(b'n') => self.word(b"null", Kind::Null),
            _ => Err(self.fault("a value")),
        }
    }

    fn nested(&mut self, depth_above: usize) -> Result<Token, Fault> {
        let start = self.at;
        self.open.clear();
        loop {
            // Here a value comes next.
            self.skip_blank();
            match self.peek() {
                Some(opener @ (b'{' | b'[')) => {
                    if depth_above + self.open.len() >= self.max_depth {
                        return Err(Fault::Depth);
                    }
                    self.open.push(opener);
                    self.at += 1;
                    if !self.take(closer_of(opener)) {
                        if opener == b'{' {
                            self.name()?;
                        }
                        continue;
                    }
                    self.open.pop();
                }
                _ => {
                    self.scalar()?;
                }
            }
            // Here a value has just ended.
            while let Some(&opener) = self.open.last() {
                if self.take(b',') {
                    if opener == b'{' {
                        self.name()?;
                    }
                    break;
                }
                self.expect(closer_of(opener), "a comma or a closing bracket")?;
                self.open.pop();
            }
            if self.open.is_empty() {
                return Ok(Token { kind: Kind::Nested, start, end: self.at });
            }
        }
    }

    #[inline]
    fn string(&mut self) -> Result<Token, Fault> {
        let start = self.at;
        self.at += 1;
        self.at += plain_length(&self.bytes[self.at..]);
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Token { kind: Kind::Plain, start, end: self.at });
        }
        self.rest_of_string(start)
    }

    /// Reads on where something in a string is neither plain nor its end.
    fn rest_of_string(&mut self, start: usize) -> Result<Token, Fault> {
        let mut kind = Kind::Plain;
        loop {
            self.at += plain_length(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Token { kind, start, end: self.at });
                }
                Some(b'\\') => {
                    kind = Kind::Escaped;
                    self.at += 1;
                    self.escape()?;
                }
                Some(_) => return Err(self.fault("no bare control character in a string")),
                None => return Err(self.fault("the end of the string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') if self.bytes.get(self.at + 1..self.at + 5).is_some_and(all_hex) => self.at += 5,
            _ => return Err(self.fault("an escape")),
        }
        Ok(())
    }

    #[inline]
    fn number(&mut self) -> Result<Token, Fault> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(Token { kind: Kind::Number, start, end: self.at })
    }

    #[inline]
    fn digits(&mut self) -> Result<(), Fault> {
        let n_digits = n_digits(&self.bytes[self.at..]);
        if n_digits == 0 {
            return Err(self.fault("a digit"));
        }
        self.at += n_digits;
        Ok(())
    }

    fn word(&mut self, word: &'static [u8], kind: Kind) -> Result<Token, Fault> {
        let start = self.at;
        if !self.bytes[start..].starts_with(word) {
            return Err(self.fault("a value"));
        }
        self.at += word.len();
        Ok(Token { kind, start, end: self.at })
    }

    #[inline]
    fn skip_blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn fault(&self, expected: &'static str) -> Fault {
        Fault::Syntax { at: self.at, expected }
    }
}

fn all_hex(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_hexdigit)
}

fn closer_of(opener: u8) -> u8 {
    if opener == b'{' { b'}' } else { b']' }
}

/// Returns the value at `start`, where it is a scalar without escapes and exponents.
#[inline]
pub fn usual_value(bytes: &[u8], start: usize) -> Option<Token> {
    let (kind, end) = match *bytes.get(start)? {
        b'"' => {
            let end = start + 1 + plain_length(&bytes[start + 1..]);
            (bytes.get(end) == Some(&b'"')).then_some((Kind::Plain, end + 1))?
        }
        first @ (b'-' | b'0'..=b'9') => {
            let whole = start + usize::from(first == b'-');
            let mut end = whole + n_digits(&bytes[whole..]);
            if end == whole || (end > whole + 1 && bytes[whole] == b'0') {
                return None;
            }
            if bytes.get(end) == Some(&b'.') {
                let fraction = end + 1;
                end = fraction + n_digits(&bytes[fraction..]);
                if end == fraction {
                    return None;
                }
            }
            if matches!(bytes.get(end), Some(b'e' | b'E')) {
                return None;
            }
            (Kind::Number, end)
        }
        b'n' if bytes[start..].starts_with(b"null") => (Kind::Null, start + 4),
        b't' if bytes[start..].starts_with(b"true") => (Kind::Bool(true), start + 4),
        b'f' if bytes[start..].starts_with(b"false") => (Kind::Bool(false), start + 5),
        _ => return None,
    };
    Some(Token { kind, start, end })
}

/// Returns the place after a blank, if there is one.
#[inline]
pub fn skip_one(bytes: &[u8], at: usize) -> usize {
    at + usize::from(bytes.get(at) == Some(&b' '))
}

#[inline]
fn n_digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Returns whether bytes start with a text, which is short nearly always.
#[inline]
pub fn starts_with(bytes: &[u8], text: &[u8]) -> bool {
    let Some(bytes) = bytes.get(..text.len()) else { return false };
    // Two words that may overlap, instead of a call.
    match (text.first_chunk::<8>(), text.first_chunk::<4>()) {
        (Some(first), _) if text.len() <= 16 => {
            bytes.first_chunk() == Some(first) && bytes.last_chunk() == text.last_chunk::<8>()
        }
        (None, Some(first)) => bytes.first_chunk() == Some(first) && bytes.last_chunk() == text.last_chunk::<4>(),
        _ => bytes == text,
    }
}

/// Returns how many bytes at the start are neither a quote, nor a backslash, nor a control character.
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let mut length = 0;
    for chunk in bytes.as_chunks().0 {
        let word = u64::from_le_bytes(*chunk);
        // A byte below what is subtracted borrows into its high bit; bytes above 127 are masked out by `!word`.
        // A borrow can only reach bytes after the first hit, and the first hit is all that is asked for.
        // The flipped bit brings the quote, 0x22, below the control characters' end, and changes places with a blank.
        let controls_and_quote = (word ^ (ONES << 1)).wrapping_sub(ONES * 0x21);
        let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
        let hits = (controls_and_quote | backslash) & !word & HIGH;
        if hits != 0 {
            return length + hits.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let is_plain = |byte: &&u8| !matches!(**byte, b'"' | b'\\' | 0..=0x1f);
    length + bytes[length..].iter().take_while(is_plain).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn grammar_is_strict() {
        for good in ["0", "-0.5e+10", "[]", "{}", " [1, {\"a\":[ ]} ] ", "\"\\u00e9\\n\"", "null", "[[[1]]]"] {
            assert_eq!(check(good.as_bytes(), 64), Ok(()), "{good}");
        }
        for bad in [
            "",
            "01",
            "1.",
            "+1",
            ".5",
            "NaN",
            "Infinity",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "[1}",
            "\"\t\"",
            "\"\\x\"",
            "nul",
            "1 2",
        ] {
            assert!(matches!(check(bad.as_bytes(), 64), Err(Fault::Syntax { .. })), "{bad}");
        }
    }

    #[test]
    fn depth_is_counted_without_recursion() {
        let deep = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
        assert_eq!(check(&deep(64), 64), Ok(()));
        assert_eq!(check(&deep(65), 64), Err(Fault::Depth));
        assert_eq!(check(&deep(1_000_000), 1_000_000), Ok(()));
    }

    proptest! {
        #[test]
        fn scanner_accepts_exactly_what_serde_json_accepts(text in r#"[\[\]{}",:0-9eE.+\-\\ua-f tlrsn \x01é]{0,24}"#) {
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(check(text.as_bytes(), 100).is_ok(), theirs);
        }

        #[test]
        fn any_bytes_are_scanned_without_panic(bytes: Vec<u8>) {
            let _ = check(&bytes, 8);
        }

        #[test]
        fn a_usual_value_is_what_the_scanner_reads(value in r#"-?[01]{0,3}(\.[0-9]{0,3})?([eE][0-9])?|"[a-z\\"\x01é]{0,9}"|nul?l|true|false|[\[{]"#, rest in "[,} 0-9a]{0,2}") {
            let bytes = format!(":{value}{rest}");
            let mut open = Vec::new();
            let mut scanner = Scanner::new(bytes.as_bytes(), 8, &mut open);
            scanner.go_on_from(1);
            if let Some(usual) = usual_value(bytes.as_bytes(), 1) {
                prop_assert_eq!(Ok(usual), scanner.value(0), "{}", bytes);
            }
        }

        #[test]
        fn a_name_is_what_a_row_goes_on_with(text in "[a-c]{0,20}", rest in "[a-c]{0,20}", at in 0usize..20) {
            let bytes = format!("{text}{rest}");
            let other = [&text[..at.min(text.len())], "x", &text[at.min(text.len())..]].concat();
            prop_assert!(starts_with(bytes.as_bytes(), text.as_bytes()));
            prop_assert!(!starts_with(bytes.as_bytes(), other.as_bytes()));
            let longer = format!("{bytes}a");
            prop_assert!(!starts_with(bytes.as_bytes(), longer.as_bytes()));
        }

        #[test]
        fn plain_length_finds_the_first_special_byte(bytes: Vec<u8>) {
            let slow = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(bytes.len());
            prop_assert_eq!(plain_length(&bytes), slow);
        }
    }

    fn check(bytes: &[u8], max_depth: usize) -> Result<(), Fault> {
        let mut open = Vec::new();
        let mut scanner = Scanner::new(bytes, max_depth, &mut open);
        scanner.value(0)?;
        scanner.finish()
    }
}
