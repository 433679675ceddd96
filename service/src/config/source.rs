//! A configuration file's text: what it says, and where it says what is wrong.

use super::{ConfigError, without_values};
use serde::de::DeserializeOwned;
use std::{fmt::Display, ops::Range};
use toml::{
    Deserializer, Spanned,
    de::{DeArray, DeTable, DeValue, Error},
};

/// A file that is read, and the problems found in it.
///
/// A setting has a path: `queue.wait_secs`, or `dataset.0.table` in the first table of a list.
pub struct Source<'t> {
    text: &'t str,
    file_name: &'t str,
    /// What the text says, without what could not be read.
    table: Spanned<DeTable<'t>>,
    is_toml: bool,
    /// The paths of settings that could not be read.
    unread: Vec<String>,
    /// Each with its place in the text, where it has one.
    problems: Vec<(usize, String)>,
}

impl<'t> Source<'t> {
    /// Takes a file's text.
    #[must_use]
    pub fn new(text: &'t str, file_name: &'t str) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let is_toml = errors.is_empty();
        let mut source = Self { text, file_name, table, is_toml, unread: Vec::new(), problems: Vec::new() };
        for error in &errors {
            source.note(error.span(), without_values(error.message().trim_end()));
        }
        source
    }

    /// Reads the text into a value, which is then to be checked. A setting that is unknown or of another type is noted
    /// and left out, and so is a table that lacks something, for the others to be read; `None` when nothing is left.
    pub fn read<T: DeserializeOwned>(&mut self) -> Option<T> {
        // Where the text is not TOML, the rest cannot be interpreted.
        while self.is_toml {
            match T::deserialize(Deserializer::from(self.table.clone())) {
                Ok(value) => return Some(value),
                Err(error) => self.leave_out(&error)?,
            }
        }
        None
    }

    /// Returns whether a list stands under this name, where one table may stand as well.
    #[must_use]
    pub fn is_list(&self, name: &str) -> bool {
        self.table.get_ref().get(name).is_some_and(|value| matches!(value.get_ref(), DeValue::Array(_)))
    }

    /// Returns whether nothing was found wrong so far.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.problems.is_empty()
    }

    /// Returns whether neither the setting of this path nor one it is part of is known to be unreadable.
    #[must_use]
    pub fn is_readable(&self, path: &str) -> bool {
        let is_part =
            |unread: &String| path.strip_prefix(unread).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        !self.unread.iter().any(is_part)
    }

    /// Notes what is wrong with a setting, unless it could not be read in the first place.
    pub fn add(&mut self, path: &str, problem: impl Display) {
        if self.is_readable(path) {
            self.note(self.span(path), problem);
        }
    }

    /// Notes what is wrong elsewhere.
    pub fn add_elsewhere(&mut self, problem: String) {
        self.problems.push((usize::MAX, problem));
    }

    /// Returns what was read, if nothing is wrong with it.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem found.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, ConfigError> {
        self.problems.sort_by_key(|(offset, _)| *offset);
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(ConfigError { problems: self.problems.into_iter().map(|(_, problem)| problem).collect() }),
        }
    }

    /// Notes an error of reading, and leaves out what it is about; `None` when that is nothing in particular.
    fn leave_out(&mut self, error: &Error) -> Option<()> {
        // Not the error's Display: it shows the line, which may hold a password.
        let message = error.message().trim_end();
        let path = error.span().and_then(|span| take_out(self.table.get_mut(), &span));
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let within = |path: &String| missing.map(|name| format!("{path}.{name}"));
        if path.as_ref().and_then(within).is_none_or(|missing| self.is_readable(&missing)) {
            let parts = path.iter().flat_map(|path| path.split('.')).filter(|part| !is_index(part));
            let field: String = parts.collect::<Vec<_>>().join(".");
            let colon = if field.is_empty() { "" } else { ": " };
            self.note(error.span(), format!("{field}{colon}{}", without_values(message)));
        }
        let path = path?;
        if path.rsplit('.').next().is_some_and(is_index) {
            // The next one of the list has its path now.
            self.unread.retain(|unread| !unread.starts_with(&format!("{path}.")));
        } else {
            self.unread.push(path);
        }
        Some(())
    }

    fn note(&mut self, span: Option<Range<usize>>, problem: impl Display) {
        let (offset, line) = match span {
            Some(span) => (span.start, format!(":{}", self.line(span.start))),
            None => (usize::MAX, String::new()),
        };
        self.problems.push((offset, format!("{}{line}: {problem}", self.file_name)));
    }

    /// Returns the place of a setting, or of the innermost table that would hold it.
    fn span(&self, path: &str) -> Option<Range<usize>> {
        let mut parts = path.split('.');
        let (key, mut value) = self.table.get_ref().get_key_value(parts.next()?)?;
        let mut found = key.span();
        for part in parts {
            let (span, inner) = match value.get_ref() {
                DeValue::Table(table) => match table.get_key_value(part) {
                    Some((key, inner)) => (key.span(), inner),
                    None => break,
                },
                DeValue::Array(list) => match part.parse().ok().and_then(|place: usize| list.get(place)) {
                    Some(item) => (item.span(), item),
                    None => break,
                },
                _ => break,
            };
            (found, value) = (span, inner);
        }
        Some(found)
    }

    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

fn is_index(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_digit())
}

/// Takes the innermost setting out whose key or value is at `span`; returns its path.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    for (key, value) in table.iter_mut() {
        if let Some(inner) = take_out_of(value.get_mut(), span) {
            return Some(format!("{}.{inner}", key.get_ref()));
        }
    }
    let (key, _) = table.iter().find(|(key, value)| key.span() == *span || value.span() == *span)?;
    let key = key.get_ref().to_string();
    table.remove(key.as_str());
    Some(key)
}

fn take_out_of(value: &mut DeValue<'_>, span: &Range<usize>) -> Option<String> {
    match value {
        DeValue::Table(table) => take_out(table, span),
        DeValue::Array(list) => {
            for (place, item) in list.iter_mut().enumerate() {
                if let Some(inner) = take_out_of(item.get_mut(), span) {
                    return Some(format!("{place}.{inner}"));
                }
            }
            let place = list.iter().position(|item| item.span() == *span)?;
            let items = std::mem::replace(list, DeArray::new()).into_iter().enumerate();
            *list = items.filter(|(other, _)| *other != place).map(|(_, item)| item).collect();
            Some(place.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct File {
        n: u32,
        pools: Vec<Pool>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pool {
        name: String,
        max: Option<u32>,
    }

    /// Checks what is wrong with a text; every pool's `max` has to be there, and less than 10.
    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let mut source = Source::new(text, "f");
        let file = source.read::<File>();
        for (place, pool) in file.iter().flat_map(|file| &file.pools).enumerate() {
            if pool.max.is_none_or(|max| max >= 10) {
                source.add(&format!("pools.{place}.max"), format!("{}: not less than 10", pool.name));
            }
        }
        let problems = source.finish(file).err().map(|error| error.problems).unwrap_or_default();
        assert_eq!(problems, expected, "{text}");
    }

    #[test]
    fn problems_of_every_kind_are_found_at_once_and_in_order() {
        check("n = 1\n[[pools]]\nname = \"a\"\nmax = 1", &[]);
        check(
            "[[pools]]\nname = \"a\"\nmax = 10\nmin = 1\n[[pools]]\nname = 7\n[[pools]]\nname = \"c\"\nmax = 11\n[extra]",
            &[
                "f:3: a: not less than 10",
                "f:4: pools.min: unknown field `min`, expected `name` or `max`",
                "f:6: pools.name: invalid type: integer `7`, expected a string",
                "f:9: c: not less than 10",
                "f:10: extra: unknown field `extra`, expected `n` or `pools`",
            ],
        );
    }

    #[test]
    fn what_could_not_be_read_is_neither_missing_nor_judged() {
        check("[[pools]]\nname = \"a\"\nmax = \"x\"", &["f:3: pools.max: invalid type: string \"x\", expected u32"]);
        check(
            "[[pools]]\nname = 1\nmax = \"x\"\n[[pools]]\nname = \"b\"\n",
            &[
                "f:2: pools.name: invalid type: integer `1`, expected a string",
                "f:3: pools.max: invalid type: string \"x\", expected u32",
                "f:4: b: not less than 10",
            ],
        );
        check(
            "[[pools]]\nmax = 1\n[[pools]]\n",
            &["f:1: pools: missing field `name`", "f:3: pools: missing field `name`"],
        );
    }

    #[test]
    fn text_that_is_not_toml_is_not_read_any_further() {
        let mut source = Source::new("n = \nn = \"x\"\nm = 1\n=", "f");
        assert!(source.read::<File>().is_none());
        let problems = source.finish(None::<File>).expect_err("not TOML").problems;
        assert!(problems.len() > 1 && problems.iter().all(|problem| !problem.contains("unknown")), "{problems:#?}");
    }
}
