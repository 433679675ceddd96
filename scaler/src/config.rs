//! `scaler.toml`: what is scaled, how, and by what.

mod database;
pub mod duration;
mod pool;
#[cfg(test)]
mod tests;
mod workers;

use serde::Deserialize;
use std::{collections::BTreeSet, ops::Range, path::Path};
use toml::Spanned;

pub use database::Database;
pub use pool::Pool;
pub use workers::WorkersKind;

/// A mistake in the configuration, with the file and the line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where state, decisions and the importers' ledger are; without it no measured rate and no leader lock.
    pub database: Option<Database>,
    /// Where health and metrics are served.
    pub http: Http,
    /// The pools, in the order of the file.
    pub pools: Vec<Pool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    database: Option<Database>,
    #[serde(default)]
    http: Http,
    #[serde(default)]
    pool: Vec<Spanned<Pool>>,
}

/// Where health and metrics are served.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address of `/healthz`, `/readyz` and `/metrics`; empty turns them off. A taken port: a free one, logged.
    #[serde(default = "default_listen")]
    pub listen: String,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: default_listen() }
    }
}

fn default_listen() -> String {
    "127.0.0.1:9465".to_owned()
}

impl Config {
    /// Reads and checks a configuration file; the environment overrides where the database is.
    ///
    /// # Errors
    /// When the file cannot be read, or as [`Self::parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError(format!("read {name}: {e}")))?;
        let mut config = Self::parse(&text).map_err(|e| ConfigError(format!("{name}: {}", e.0)))?;
        let env = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        config.override_database(env("DATABASE_URL"), env("DATABASE_URL_FILE"));
        Ok(config)
    }

    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// When the text is not TOML, or a setting is unknown or out of its range; the error names the line.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| {
            // Not the error's Display: it shows the line, which may hold a password.
            let problem = service::config::without_values(error.message().trim_end());
            let line = error.span().map(|span| 1 + text[..span.start].matches('\n').count());
            ConfigError(line.map_or(problem.clone(), |line| format!("line {line}: {problem}")))
        })?;
        if file.pool.is_empty() {
            return Err(ConfigError("there is no [[pool]]".to_owned()));
        }
        let mut names = BTreeSet::new();
        for pool in &file.pool {
            let check = pool.get_ref().check().and_then(|()| {
                let fresh = names.insert(pool.get_ref().name.clone());
                if fresh { Ok(()) } else { Err(("name", "is another pool's name too".to_owned())) }
            });
            if let Err((key, problem)) = check {
                let line = line_of(text, pool.span(), key);
                return Err(ConfigError(format!("line {line}: pool \"{}\": `{key}` {problem}", pool.get_ref().name)));
            }
        }
        Ok(Self {
            database: file.database,
            http: file.http,
            pools: file.pool.into_iter().map(Spanned::into_inner).collect(),
        })
    }

    /// Returns the pool of a name, or the only one.
    ///
    /// # Errors
    /// When no pool has that name, or there are several and none is named.
    pub fn pool(&self, name: Option<&str>) -> Result<&Pool, ConfigError> {
        match (name, self.pools.as_slice()) {
            (Some(name), pools) => pools
                .iter()
                .find(|pool| pool.name == name)
                .ok_or_else(|| ConfigError(format!("--pool: there is no pool \"{name}\""))),
            (None, [only]) => Ok(only),
            (None, pools) => {
                let names: Vec<_> = pools.iter().map(|pool| pool.name.as_str()).collect();
                Err(ConfigError(format!("--pool: name one of {}", names.join(", "))))
            }
        }
    }

    /// Checks that the database's URL, where there is one, can be used.
    ///
    /// # Errors
    /// As [`Database::server`].
    pub fn check_database(&self) -> Result<(), ConfigError> {
        self.database.as_ref().map_or(Ok(()), |database| database.server().map(|_| ()))
    }

    fn override_database(&mut self, url: Option<String>, url_file: Option<String>) {
        if let Some(url) = url {
            self.database = Some(Database::of(url));
        }
        if let Some(file) = url_file {
            self.database = Some(Database::in_file(file));
        }
    }
}

/// Returns the line of a key in a table, or the table's own.
fn line_of(text: &str, table: Range<usize>, key: &str) -> usize {
    let first = text[..table.start.min(text.len())].matches('\n').count();
    let lines = text.lines().enumerate().skip(first);
    let in_table = lines.take_while(|(i, line)| *i == first || !line.trim_start().starts_with("[[pool]]"));
    for (i, line) in in_table {
        let rest = line.trim_start().strip_prefix(key);
        if rest.is_some_and(|rest| rest.trim_start().starts_with('=')) {
            return i + 1;
        }
    }
    first + 1
}
