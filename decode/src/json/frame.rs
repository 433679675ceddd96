//! Where a JSON value ends, by quotes and brackets alone; what is between them is checked later.

/// Follows one value through however many pieces its bytes come in.
#[derive(Debug, Default)]
pub struct Frame {
    depth: u64,
    in_string: bool,
    after_backslash: bool,
    /// The value is neither a string nor has brackets: it ends where a delimiter follows.
    bare: bool,
}

impl Frame {
    /// Returns a frame of what is left of this many open containers.
    pub fn within(depth: u64) -> Self {
        Self { depth, ..Self::default() }
    }

    /// Reads the next piece of the value; returns where in it the value ends, if it does.
    pub fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.in_string {
                at = self.skip_string(bytes, at);
                if !self.in_string && self.depth == 0 {
                    return Some(at);
                }
                continue;
            }
            match bytes[at] {
                b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n' if self.bare => return Some(at),
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => self.bare |= self.depth == 0,
            }
            at += 1;
        }
        None
    }

    /// Returns whether the bytes so far end inside a string.
    pub fn in_string(&self) -> bool {
        self.in_string
    }

    /// Returns where the string that `at` is in ends, or the end of `bytes`.
    fn skip_string(&mut self, bytes: &[u8], mut at: usize) -> usize {
        if std::mem::take(&mut self.after_backslash) {
            at += 1;
        }
        while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
            at += found + 1;
            if bytes[at - 1] == b'"' {
                self.in_string = false;
                return at;
            }
            if at == bytes.len() {
                self.after_backslash = true;
                return at;
            }
            at += 1;
        }
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_end_where_json_says() {
        check(r#"{"a":"}\"]\\"},"#, Some(14));
        check(r#"[[1],{"b":[]}] x"#, Some(14));
        check(r#""a\"b",1"#, Some(6));
        check("12.5,1", Some(4));
        check("null]", Some(4));
        check(r#"{"a":"never closed"#, None);
        check("[[]", None);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(text in r#"[\[\]{}"\\,a ]{0,40}"#, cut in 0usize..40) {
            let cut = cut.min(text.len());
            let whole = Frame::default().advance(text.as_bytes());
            let mut frame = Frame::default();
            let first = frame.advance(&text.as_bytes()[..cut]);
            let pieces = first.or_else(|| frame.advance(&text.as_bytes()[cut..]).map(|end| cut + end));
            prop_assert_eq!(whole, pieces);
        }
    }

    fn check(text: &str, end: Option<usize>) {
        assert_eq!(Frame::default().advance(text.as_bytes()), end, "{text}");
    }
}
