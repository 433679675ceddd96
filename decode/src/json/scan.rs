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
    /// Returns a scanner at the start of `bytes`.
    pub fn new(bytes: &'a [u8], max_depth: usize, open: &'a mut Vec<u8>) -> Self {
        Self { bytes, at: 0, max_depth, open }
    }

    /// Steps over blanks and, when `byte` comes next, over it; returns whether it did.
    pub fn take(&mut self, byte: u8) -> bool {
        self.skip_blank();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Steps over `byte`, which must come next.
    pub fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), Fault> {
        if self.take(byte) { Ok(()) } else { Err(self.fault(expected)) }
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
    pub fn value(&mut self, depth_above: usize) -> Result<Token, Fault> {
        self.skip_blank();
        match self.peek() {
            Some(b'{' | b'[') => self.nested(depth_above),
            _ => self.scalar(),
        }
    }

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

    fn string(&mut self) -> Result<Token, Fault> {
        let start = self.at;
        self.at += 1;
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

    fn digits(&mut self) -> Result<(), Fault> {
        let n_digits = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
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

    fn skip_blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

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

/// Returns how many bytes at the start are neither a quote, nor a backslash, nor a control character.
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // A byte below n borrows into its high bit; bytes above 127 are masked out by `!word`.
    // A borrow can only reach bytes after the first hit, and the first hit is all that is asked for.
    let below = |word: u64, n: u8| word.wrapping_sub(ONES * u64::from(n)) & !word;
    let mut length = 0;
    for chunk in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight bytes"));
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let hits = (below(word, 0x20) | below(quote, 1) | below(backslash, 1)) & HIGH;
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
