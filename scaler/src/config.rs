//! `scaler.toml`: what is scaled, how, and by what.

pub mod duration;
mod pool;
mod schedule;
#[cfg(test)]
mod tests;
mod workers;

use serde::Deserialize;
use service::config::{Source, variable};
use std::{collections::BTreeSet, path::Path};

pub use pool::Pool;
pub use schedule::ScheduleSettings;
pub use service::config::{ConfigError, Database};
pub use workers::WorkersKind;

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where state, decisions and the importers' ledger are; without it no measured rate and no leader lock.
    pub database: Option<Database>,
    /// Where health and metrics are served.
    #[serde(default)]
    pub http: Http,
    /// The pools, in the order of the file.
    #[serde(default, rename = "pool")]
    pub pools: Vec<Pool>,
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
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::of(format!("read {name}: {e}")))?;
        Self::parse(&text, &name, |variable| std::env::var(variable).ok())
    }

    /// Reads and checks a configuration. `file_name` is what errors call it; `environment` looks up a variable.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem found.
    pub fn parse(
        text: &str,
        file_name: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut source = Source::new(text, file_name);
        let mut config: Option<Self> = source.read();
        if let Some(config) = &mut config {
            if ["DATABASE_URL", "DATABASE_URL_FILE"].iter().any(|name| variable(&environment, name).is_some()) {
                config.database.get_or_insert_default().override_with(&environment);
            }
            if config.pools.is_empty() && source.is_fine() {
                source.add("pool", "there is no [[pool]]");
            }
            let mut names = BTreeSet::new();
            for (place, pool) in config.pools.iter().enumerate() {
                pool.check(&format!("pool.{place}"), !names.insert(&pool.name), &mut source);
            }
        }
        source.finish(config)
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
                .ok_or_else(|| ConfigError::of(format!("--pool: there is no pool \"{name}\""))),
            (None, [only]) => Ok(only),
            (None, pools) => {
                let names: Vec<_> = pools.iter().map(|pool| pool.name.as_str()).collect();
                Err(ConfigError::of(format!("--pool: name one of {}", names.join(", "))))
            }
        }
    }

    /// Checks that the database's URL, where there is one, can be used.
    ///
    /// # Errors
    /// As [`Database::server`].
    pub fn check_database(&self) -> Result<(), ConfigError> {
        let Some(database) = &self.database else { return Ok(()) };
        database.server("").map(drop).map_err(|error| ConfigError::of(format!("{error:#}")))
    }
}
