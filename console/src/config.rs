//! `console.toml`: which database is shown, where, and to whom.

use serde::Deserialize;
pub use service::config::{ConfigError, Database};
use service::{
    config::{Secret, Source, variable},
    words::chain,
};
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

/// The whole configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether pages show rows that were rejected, with all that is in them.
    pub show_values: bool,
    /// What starts the database, such as `docker compose start postgres`: shown while it cannot be reached.
    pub start_database: Option<String>,
    /// The database that importers load into, read by the role `penstock_reader`.
    pub database: Database,
    /// Where the pages are served.
    pub http: Http,
    /// Who may read the pages. Without it only this machine may, and everybody on it.
    pub auth: Option<Auth>,
    /// Reports of your own: SQL files that become charts and tables. Without it there are none.
    pub reports: Option<Reports>,
}

/// Where the pages are served.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address of the pages and `/healthz`. Beyond this machine's loopback only with `[auth]`. A taken port: a free one,
    /// logged.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// Names under which browsers may ask for the pages, beside `localhost` and addresses: what another name leads here
    /// is refused, or any web page could read along by a name of its own.
    #[serde(default)]
    pub hosts: Vec<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: default_listen(), hosts: Vec::new() }
    }
}

fn default_listen() -> String {
    "127.0.0.1:9466".to_owned()
}

/// Who may read the pages: by passwords of their own, or who a proxy says they are.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// A file with a line for each that may: a name, a colon, and an argon2 hash, as `console password` prints it. Read at
    /// the start. Put TLS before it: a password goes along with every request.
    pub password_file: Option<PathBuf>,
    /// The header in which a proxy says who was let in, such as `X-Forwarded-User`. Taken from `proxy` alone.
    pub trusted_header: Option<String>,
    /// The address that the proxy asks from.
    pub proxy: Option<IpAddr>,
}

/// Where reports are, and who runs them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reports {
    /// The directory of the reports: each file `NAME.sql` in it is one. They are read whenever somebody looks.
    #[serde(default = "default_directory")]
    pub directory: String,
    /// Where reports run, and as whom: a URL like `database.url`, of a login of their own that may read what they show and
    /// nothing else. `REPORTS_DATABASE_URL` overrides it, and the file that `REPORTS_DATABASE_URL_FILE` names overrides both.
    pub database_url: Option<Secret>,
    /// The same with the environment's values.
    #[serde(skip)]
    pub database: Database,
}

fn default_directory() -> String {
    "reports".to_owned()
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
                config.database.override_with(&environment);
            }
            if let Some(reports) = &mut config.reports {
                let url = reports.database_url.take();
                reports.database = Database::named(url, "reports.database_url", "REPORTS_DATABASE_URL");
                reports.database.override_with(&environment);
            }
            config.check(&mut source);
        }
        source.finish(config)
    }

    fn check(&self, source: &mut Source<'_>) {
        let of_reports = self.reports.as_ref().map(|reports| &reports.database);
        let databases = [("database.url", Some(&self.database)), ("reports.database_url", of_reports)];
        for (setting, database) in databases {
            // A file may be written later, or be another by then.
            if let Some(database) = database.filter(|database| database.url_file.is_none())
                && let Err(error) = database.server("")
            {
                source.add(setting, chain(&error));
            }
        }
        if self.http.listen.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            source.add("http.listen", "http.listen: must be an address and a port, such as 127.0.0.1:9466");
        }
        let Some(auth) = &self.auth else {
            if !is_loopback(&self.http.listen) {
                source.add(
                    "http.listen",
                    "http.listen: is beyond this machine's loopback, where `[auth]` has to say who may read",
                );
            }
            return;
        };
        match (&auth.password_file, &auth.trusted_header) {
            (None, None) => source.add("auth", "auth: needs `password_file`, or `trusted_header` and `proxy`"),
            (Some(_), Some(_)) => {
                source.add("auth.trusted_header", "auth.trusted_header: not beside `password_file`; give one of them");
            }
            (None, Some(header)) => {
                if axum::http::HeaderName::try_from(header).is_err() {
                    source.add("auth.trusted_header", "auth.trusted_header: is no name of a header");
                }
                if auth.proxy.is_none() {
                    source.add(
                        "auth.trusted_header",
                        "auth.trusted_header: anybody can send a header; name the address of the `proxy` that sets it",
                    );
                }
            }
            (Some(_), None) => {}
        }
        if auth.proxy.is_some() && auth.trusted_header.is_none() {
            source.add("auth.proxy", "auth.proxy: only with `trusted_header`");
        }
    }
}

/// Returns whether only this machine reaches an address.
fn is_loopback(listen: &str) -> bool {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: &str = "[database]\nurl = \"postgres://u@localhost/d\"\n";

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let parsed = Config::parse(&format!("{DATABASE}{text}"), "f", |_| None);
        let problems = parsed.err().map(|error| error.problems).unwrap_or_default();
        assert_eq!(problems.len(), expected.len(), "{text}: {problems:?}");
        for (problem, start) in problems.iter().zip(expected) {
            assert!(problem.starts_with(start), "{problem}");
        }
    }

    #[test]
    fn beyond_the_loopback_somebody_has_to_be_named() {
        for listen in ["127.0.0.1:1", "127.3.2.1:1", "localhost:1", "[::1]:1"] {
            check(&format!("[http]\nlisten = \"{listen}\""), &[]);
        }
        for listen in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.com:1", ":1"] {
            check(&format!("[http]\nlisten = \"{listen}\""), &["f:4: http.listen: is beyond"]);
            check(&format!("[http]\nlisten = \"{listen}\"\n[auth]\npassword_file = \"x\""), &[]);
        }
    }

    #[test]
    fn a_header_is_trusted_from_a_proxy_that_is_named_only() {
        check("[auth]\ntrusted_header = \"X-User\"\nproxy = \"10.0.0.1\"", &[]);
        check("[auth]\ntrusted_header = \"X-User\"", &["f:4: auth.trusted_header: anybody"]);
        check("[auth]\ntrusted_header = \"X User\"\nproxy = \"::1\"", &["f:4: auth.trusted_header: is no name"]);
        check("[auth]\n", &["f:3: auth: needs"]);
        check("[auth]\npassword_file = \"x\"\nproxy = \"::1\"", &["f:5: auth.proxy: only with"]);
        check(
            "[auth]\npassword_file = \"x\"\ntrusted_header = \"X-User\"\nproxy = \"::1\"",
            &["f:5: auth.trusted_header: not beside"],
        );
    }

    #[test]
    fn reports_have_a_database_of_their_own() {
        let parse = |text: &str, variable: &str| {
            let environment = |name: &str| (name == variable).then(|| "postgres://u@localhost/other".to_owned());
            Config::parse(&format!("{DATABASE}{text}"), "f", environment)
        };
        check("[reports]\ndatabase_url = \"postgres://r@localhost/d\"", &[]);
        check("[reports]\ndirectory = \"x\"", &["f:3: `reports.database_url` is missing"]);
        check(
            "[reports]\ndatabase_url = \"mysql://h\"",
            &["f:4: read `reports.database_url` (or REPORTS_DATABASE_URL): must"],
        );
        let reports = parse("[reports]", "REPORTS_DATABASE_URL").expect("a URL").reports.expect("reports");
        assert_eq!(reports.database.server("").expect("a server").options().get_database(), Some("other"));
        assert_eq!(reports.directory, "reports");
        assert!(parse("[reports]", "REPORTS_DATABASE_URL_FILE").is_ok() && parse("[reports]", "DATABASE_URL").is_err());
    }

    #[test]
    fn the_environment_s_database_wins() {
        let environment = |name: &str| (name == "DATABASE_URL").then(|| "postgres://u@localhost/other".to_owned());
        let config = Config::parse(DATABASE, "f", environment).expect("a configuration");
        let server = config.database.server("").expect("a server");
        assert_eq!(server.options().get_database(), Some("other"));
        assert!(Config::parse("", "f", environment).is_ok());
        Config::parse("", "f", |_| None).expect_err("no database");
    }
}
