//! The place of the database.

use super::Secret;
use crate::postgres::Server;
use anyhow::{Context, bail};
use serde::Deserialize;
use std::path::PathBuf;

/// `[database]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `postgres://user:password@host:port/database?sslmode=…&sslrootcert=…`, the same database for importers and scaler.
    ///
    /// `DATABASE_URL` overrides it. Unless the URL or `PGSSLMODE` says otherwise, TLS is
    /// `verify-full` with the system's roots when the host is not this machine.
    pub url: Option<Secret>,
    /// A file whose content is the URL, re-read for every connection, so that a password can change
    /// while the program runs. Only from the environment: `DATABASE_URL_FILE`, which wins over `DATABASE_URL`.
    #[serde(skip)]
    pub url_file: Option<PathBuf>,
    /// What it is called where it is set.
    #[serde(skip)]
    names: Names,
}

/// What the URL is called where it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Names {
    setting: &'static str,
    /// With `_FILE` behind it, that of the file.
    variable: &'static str,
}

impl Default for Names {
    fn default() -> Self {
        Self { setting: "database.url", variable: "DATABASE_URL" }
    }
}

impl Database {
    /// Takes a URL as it is.
    pub fn of(url: impl Into<String>) -> Self {
        Self { url: Some(Secret::from(url.into())), ..Self::default() }
    }

    /// Takes a URL from a setting and a variable that have other names.
    #[must_use]
    pub fn named(url: Option<Secret>, setting: &'static str, variable: &'static str) -> Self {
        Self { url, url_file: None, names: Names { setting, variable } }
    }

    /// Puts the environment's values in place.
    pub fn override_with(&mut self, environment: &impl Fn(&str) -> Option<String>) {
        let name = self.names.variable;
        self.url = variable(environment, name).map(Secret::from).or(self.url.take());
        let file = variable(environment, &format!("{name}_FILE"));
        self.url_file = file.map(PathBuf::from).or(self.url_file.take());
    }

    /// Returns whether there is a URL, or a file that holds one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.url.is_some() || self.url_file.is_some()
    }

    /// Returns the server to connect to, where the session has a name. A file is read again on every call.
    ///
    /// # Errors
    /// No URL, an unreadable file, or an invalid URL; the text never contains the URL.
    pub fn server(&self, application_name: &str) -> anyhow::Result<Server> {
        let Names { setting, variable } = self.names;
        let server = match (&self.url_file, &self.url) {
            (Some(path), _) => std::fs::read_to_string(path)
                .map_err(Into::into)
                .and_then(|text| Server::read(text.trim()))
                .with_context(|| format!("read {variable}_FILE {}", path.display()))?,
            (None, Some(url)) => {
                Server::read(url.expose()).with_context(|| format!("read `{setting}` (or {variable})"))?
            }
            (None, None) => bail!("`{setting}` is missing"),
        };
        Ok(server.named(application_name))
    }

    /// Returns the server's place, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        self.server("").map_or_else(|_| "its place".to_owned(), |server| server.place())
    }
}

/// Returns a variable's value; an empty one counts as unset.
pub fn variable(environment: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    environment(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_file_is_read_for_every_connection_and_wins() {
        let path = std::env::temp_dir().join(format!("penstock-url-{}", std::process::id()));
        let database = Database { url_file: Some(path.clone()), ..Database::of("postgres://localhost/from_url") };
        for name in ["one", "two"] {
            std::fs::write(&path, format!("postgres://localhost/{name}\n")).expect("write the file");
            let server = database.server("test").expect("readable");
            assert_eq!(server.options().get_database(), Some(name));
            assert_eq!(server.options().get_application_name(), Some("test"));
        }
        std::fs::remove_file(&path).expect("remove the file");
        let error = format!("{:#}", database.server("test").expect_err("the file is gone"));
        assert!(error.contains(&path.display().to_string()), "{error}");
    }

    #[test]
    fn a_url_that_is_refused_is_not_shown() {
        for (url, expected) in [
            ("mysql://u:hunter2@h/d", "must start with postgres://"),
            ("u:hunter2@h/d", "must start with postgres://"),
            ("postgres://u:hunter2@h/d?passwrd=hunter2", "has a parameter that is none of"),
            ("postgres://u:hun/ter2@h/d", "is ambiguous"),
        ] {
            let database = Database::of(url);
            let error = format!("{:#}", database.server("test").expect_err(url));
            assert!(error.contains("`database.url`") && error.contains(expected), "{error}");
            assert!(!format!("{error}{database:?}").contains("ter2"), "{error}");
        }
    }
}
