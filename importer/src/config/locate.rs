//! From a setting's path to its line in the file, so that every error can name it.

use super::ConfigError;
use serde::de::DeserializeOwned;
use std::ops::Range;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The text of a configuration file, ready to say where something stands in it.
pub struct Source<'t> {
    text: &'t str,
    file_name: &'t str,
    /// `None` when the text is not TOML; then only the parser's own position is known.
    table: Option<Spanned<DeTable<'t>>>,
}

/// One step of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'p> {
    /// A key of a table.
    Key(&'p str),
    /// A place in a list.
    Index(usize),
}

impl<'t> Source<'t> {
    /// Takes a file's text.
    pub fn new(text: &'t str, file_name: &'t str) -> Self {
        Self { text, file_name, table: DeTable::parse(text).ok() }
    }

    /// Reads the text into a value.
    ///
    /// # Errors
    /// [`ConfigError`] with the first problem of the file's syntax or shape.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(self.text).map_err(|error| {
            // Not the error's Display: it shows the line, which may hold a password.
            let message = service::config::without_values(error.message().trim_end());
            let problem = match error.span() {
                Some(span) => {
                    let field = self.field_at(&span).map(|field| format!("{field}: ")).unwrap_or_default();
                    format!("{}:{}: {field}{message}", self.file_name, self.line(span.start))
                }
                None => format!("{}: {message}", self.file_name),
            };
            ConfigError { problems: vec![problem] }
        })
    }

    /// Returns `importer.toml:12` for the setting, or for the innermost table that would hold it.
    pub fn position(&self, path: &[Part<'_>]) -> String {
        match self.span(path) {
            Some(span) => format!("{}:{}", self.file_name, self.line(span.start)),
            None => self.file_name.to_owned(),
        }
    }

    fn span(&self, path: &[Part<'_>]) -> Option<Range<usize>> {
        let table = self.table.as_ref()?;
        let mut found = None;
        let mut value: Option<&DeValue<'_>> = None;
        for (depth, part) in path.iter().enumerate() {
            let entry = match (part, value) {
                (Part::Key(name), None) if depth == 0 => table.get_ref().get_key_value(*name),
                (Part::Key(name), Some(DeValue::Table(table))) => table.get_key_value(*name),
                (Part::Index(index), Some(DeValue::Array(list))) => {
                    let Some(item) = list.get(*index) else { break };
                    found = Some(item.span());
                    value = Some(item.get_ref());
                    continue;
                }
                _ => break,
            };
            let Some((key, item)) = entry else { break };
            found = Some(key.span());
            value = Some(item.get_ref());
        }
        found
    }

    /// Returns the dotted path of the setting whose value lies at `span`.
    fn field_at(&self, span: &Range<usize>) -> Option<String> {
        let mut names = Vec::new();
        descend(self.table.as_ref()?.get_ref(), span, &mut names).then(|| names.join("."))
    }

    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

fn descend<'t>(table: &'t DeTable<'_>, span: &Range<usize>, names: &mut Vec<&'t str>) -> bool {
    for (key, value) in table {
        names.push(key.get_ref());
        if descend_value(value, span, names) {
            return true;
        }
        names.pop();
    }
    false
}

fn descend_value<'t>(value: &'t Spanned<DeValue<'_>>, span: &Range<usize>, names: &mut Vec<&'t str>) -> bool {
    let inside = match value.get_ref() {
        DeValue::Table(table) => return descend(table, span, names),
        DeValue::Array(list) => list.iter().any(|item| descend_value(item, span, names)),
        _ => false,
    };
    inside || value.span() == *span
}
