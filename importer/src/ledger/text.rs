//! Texts as the database can hold them.

/// Returns text as Postgres can hold it, which is without U+0000.
#[must_use]
pub fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Returns whether a text could not be stored because the database's encoding lacks characters of it.
#[must_use]
pub fn lacks_characters(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(&*code, "22P05" | "22021"))
}

/// Returns text with what is beyond ASCII escaped.
#[must_use]
pub fn in_ascii(text: &str) -> String {
    let mut ascii = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_ascii() {
            true => ascii.push(character),
            false => ascii.extend(character.escape_unicode()),
        }
    }
    ascii
}
