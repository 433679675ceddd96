//! The place of the database.

use super::ConfigError;
use serde::Deserialize;
use service::postgres::Server;
use std::{fmt, path::PathBuf};

/// Where the database is. The URL may hold a password, so it is never printed.
#[derive(Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `postgres://user:password@host:port/database?sslmode=…&sslrootcert=…`, the same database as the importers'.
    /// `DATABASE_URL` overrides it.
    url: Option<String>,
    /// The file of `DATABASE_URL_FILE`, read again on each connection.
    #[serde(skip)]
    url_file: Option<PathBuf>,
}

impl Database {
    /// Takes a URL as it is.
    pub fn of(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), url_file: None }
    }

    /// Takes the URL that stands in a file.
    pub(super) fn in_file(path: impl Into<PathBuf>) -> Self {
        Self { url: None, url_file: Some(path.into()) }
    }

    /// Returns the URL as it stands now.
    ///
    /// # Errors
    /// When there is none, or its file cannot be read.
    pub fn url(&self) -> Result<String, ConfigError> {
        match (&self.url_file, &self.url) {
            (Some(file), _) => match std::fs::read_to_string(file) {
                Ok(text) => Ok(text.trim().to_owned()),
                Err(e) => Err(ConfigError(format!("DATABASE_URL_FILE: read {}: {e}", file.display()))),
            },
            (None, Some(url)) => Ok(url.clone()),
            (None, None) => Err(ConfigError("`database.url` is missing".to_owned())),
        }
    }

    /// Returns the server the URL names now.
    ///
    /// # Errors
    /// As [`Self::url`], or the URL is refused; the error shows no part of it.
    pub fn server(&self) -> Result<Server, ConfigError> {
        let named = match &self.url_file {
            Some(file) => format!("DATABASE_URL_FILE {}:", file.display()),
            None => "`database.url` (or DATABASE_URL)".to_owned(),
        };
        Server::read(&self.url()?).map_err(|error| ConfigError(format!("{named} {error:#}")))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database([redacted])")
    }
}
