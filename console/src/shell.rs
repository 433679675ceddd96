//! Words of commands that people copy into a shell.

use service::terminal::is_hidden;
use std::fmt::Write as _;

/// Returns a word that a shell takes for this text, whatever is in it: producers choose keys.
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:=@%+,-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    if !word.contains(is_hidden) {
        return format!("'{}'", word.replace('\'', "'\\''"));
    }
    // What a terminal acts on, or what hides, is written as the bytes it is.
    let mut text = String::from("$'");
    for c in word.chars() {
        match c {
            '\'' | '\\' => text.extend(['\\', c]),
            c if is_hidden(c) => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(text, "\\x{byte:02x}");
                }
            }
            c => text.push(c),
        }
    }
    text + "'"
}

/// Returns the address that commands take: of an object in a bucket, or of a file on a machine.
#[must_use]
pub fn address(bucket: &str, key: &str) -> String {
    if bucket == "file" && key.starts_with('/') { key.to_owned() } else { format!("s3://{bucket}/{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_as_they_are() {
        for word in
            ["plain/key-1.csv", "", "it's", "a b; rm -rf ~", "$(id) `id` \"x\"", "a\nb\u{202e}c\u{1b}[2J\\x41'", "東京"]
        {
            let said = std::process::Command::new("bash").arg("-c").arg(format!("printf %s {}", quoted(word))).output();
            let said = said.expect("bash runs");
            assert_eq!(String::from_utf8_lossy(&said.stdout), word, "{}", quoted(word));
            assert!(!quoted(word).contains(is_hidden), "{word:?}");
        }
    }
}
