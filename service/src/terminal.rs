//! What people are shown on a terminal. Keys, names and servers' messages are written by others: characters that a terminal
//! acts on, or that make a text look like another one, are shown as escapes, and what is too long is cut.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The longest cell of a table; `--json` has all of it.
pub const MAX_CELL_CHARS: usize = 120;
/// The longest line: it holds the longest key and what is said of it.
const MAX_LINE_CHARS: usize = 2000;

/// Returns whether a character is not shown as itself: it controls a terminal, ends a line, or changes the direction of what
/// stands around it.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{feff}'
        )
}

/// Returns a text of one line, escaped.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, |c, shown| shown.extend(c.escape_default()))
}

/// Returns a text as a table's cell shows it.
#[must_use]
pub fn cell(text: &str) -> String {
    cut(text, MAX_CELL_CHARS)
}

/// Returns a text as a line shows it.
#[must_use]
pub fn line(text: &str) -> String {
    cut(text, MAX_LINE_CHARS)
}

/// Returns lines as they are shown.
#[must_use]
pub fn lines(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|whole| match whole.strip_suffix('\n') {
            Some(text) => line(text) + "\n",
            None => line(whole),
        })
        .collect()
}

/// Returns JSON that means the same, with escapes in its strings.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    replaced(text, |c, shown| match c {
        // Between values; within strings JSON has escaped it already.
        '\n' | '\r' | '\t' => shown.push(c),
        _ => {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    })
}

/// Returns a text with whatever is hidden written by `write`.
fn replaced(text: &str, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hidden(c) { write(c, &mut shown) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// Returns the start of a text, escaped, with its length where that is not all.
fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        None => escaped(text).into_owned(),
        Some((end, _)) => format!("{}… ({} characters)", escaped(&text[..end]), text.chars().count()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_sent_no_character_that_they_act_on() {
        for (text, shown) in [
            ("a\u{1b}[2Jb\nc", "a\\u{1b}[2Jb\\nc"),
            (
                "\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\u{9b}\u{7f}",
                "\\u{202e}\\u{2066}\\u{200f}\\u{61c}\\u{2028}\\u{9b}\\u{7f}",
            ),
            ("naïve 東京 \\ \"", "naïve 東京 \\ \""),
        ] {
            assert_eq!(escaped(text), shown);
        }
        assert_eq!(lines("a\rb\nc\u{85}"), "a\\rb\nc\\u{85}");
    }

    #[test]
    fn what_is_too_long_is_cut_and_its_length_said() {
        assert_eq!(cell(&"é".repeat(500)), format!("{}… (500 characters)", "é".repeat(120)));
        assert_eq!(cell(&"é".repeat(120)), "é".repeat(120));
        assert!(line(&"x".repeat(1 << 20)).ends_with("x… (1048576 characters)"));
    }

    #[test]
    fn json_means_the_same_with_escapes() {
        let value = serde_json::json!({"k\u{202e}": "a\u{9b}b\u{1b}\u{feff}\n"});
        let text = value.to_string();
        let shown = json(&text);
        assert!(!shown.contains(is_hidden), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
    }
}
