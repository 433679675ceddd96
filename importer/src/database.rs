//! Connecting to Postgres as the configuration says.

use crate::config;
use anyhow::{Context, bail};
use sqlx::{
    ConnectOptions, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use std::{net::IpAddr, str::FromStr};

/// Returns options for a new connection. `DATABASE_URL_FILE` is read anew on every call.
///
/// # Errors
/// No URL, an unreadable file, or a URL that is none; the text never contains the URL.
pub fn options(database: &config::Database, application_name: &str) -> anyhow::Result<PgConnectOptions> {
    let options = match (&database.url_file, &database.url) {
        (Some(path), _) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("read DATABASE_URL_FILE {}", path.display()))?;
            connect_options(text.trim()).with_context(|| format!("read DATABASE_URL_FILE {}", path.display()))?
        }
        (None, Some(url)) => connect_options(url.expose()).context("read database.url")?,
        (None, None) => bail!("database.url is missing"),
    };
    // A merge may take minutes; sqlx would warn of each that takes a second, with the whole statement.
    Ok(options.application_name(application_name).disable_statement_logging())
}

/// Opens one connection.
///
/// # Errors
/// As [`options`], and whatever Postgres says.
pub async fn connect(database: &config::Database, application_name: &str) -> anyhow::Result<PgConnection> {
    let options = options(database, application_name)?;
    let place = place(&options);
    options.connect().await.with_context(|| format!("connect to Postgres at {place}"))
}

/// Returns the name a worker's connections show in `pg_stat_activity`. Postgres keeps 63 bytes of it.
#[must_use]
pub fn application_name(worker_id: &str) -> String {
    format!("penstock importer {worker_id}")
}

/// Returns host and port, or the socket's directory, for messages.
#[must_use]
pub fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Parameters libpq knows that are either the default here or make no difference.
const WITHOUT_EFFECT: [&str; 9] = [
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "gssencmode",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
];

/// Parameters sqlx reads.
const UNDERSTOOD: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Reads a `postgres://` URL. TLS is `verify-full` unless the URL or `PGSSLMODE` says otherwise or the host is this machine.
///
/// # Errors
/// A sentence that names what is wrong but never quotes a value, which may be a password.
pub fn connect_options(url: &str) -> anyhow::Result<PgConnectOptions> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        bail!("must start with postgres://");
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut names_mode = std::env::var_os("PGSSLMODE").is_some();
    let mut kept = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            // libpq's word for the system's roots, which are used anyway.
            "sslrootcert" if value == "system" => continue,
            "sslmode" => {
                names_mode = true;
                if PgSslMode::from_str(value).is_err() {
                    bail!("sslmode must be disable, allow, prefer, require, verify-ca or verify-full");
                }
            }
            name if WITHOUT_EFFECT.contains(&name) => continue,
            name if UNDERSTOOD.contains(&name) || name.starts_with("options[") => {}
            _ => bail!("has a parameter that is none of {}", UNDERSTOOD.join(", ")),
        }
        kept.push(parameter);
    }
    let options = PgConnectOptions::from_str(&format!("{base}?{}", kept.join("&"))).map_err(without_values)?;
    if names_mode || is_this_machine(&options) {
        return Ok(options);
    }
    Ok(options.ssl_mode(PgSslMode::VerifyFull))
}

/// URL errors speak of the URL's parts without quoting them; any other configuration error may quote a value.
fn without_values(error: sqlx::Error) -> anyhow::Error {
    match error {
        sqlx::Error::Configuration(inner) if inner.to_string().len() < 60 && !inner.to_string().contains('"') => {
            anyhow::anyhow!("is not a URL: {inner}")
        }
        _ => anyhow::anyhow!("is not a URL this program can read"),
    }
}

fn is_this_machine(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The TLS mode a URL leads to, as libpq spells it.
    fn mode(url: &str) -> String {
        format!("{:?}", connect_options(url).expect(url).get_ssl_mode())
    }

    #[test]
    fn remote_hosts_are_verified_unless_the_url_says_otherwise() {
        for (url, expected) in [
            ("postgres://u@db.example.com/d", "VerifyFull"),
            ("postgres://u@10.0.0.1/d?application_name=x", "VerifyFull"),
            ("postgres://u@db.example.com/d?sslrootcert=system", "VerifyFull"),
            ("postgres://u@db.example.com/d?sslmode=require", "Require"),
            ("postgres://u@db.example.com/d?sslmode=disable", "Disable"),
            ("postgres://u@localhost/d", "Prefer"),
            ("postgres://u@127.0.0.2:5433/d", "Prefer"),
            ("postgres://u@[::1]/d", "Prefer"),
            ("postgres:///d?host=/run/postgresql", "Prefer"),
            ("postgres://u@%2Frun%2Fpostgresql/d", "Prefer"),
            ("postgres://u@localhost/d?host=db.example.com", "VerifyFull"),
        ] {
            assert_eq!(mode(url), expected, "{url}");
        }
    }

    #[test]
    fn libpq_parameters_without_effect_are_accepted() {
        connect_options("postgres://u@h/d?channel_binding=require&connect_timeout=10").expect("accepted");
    }

    #[test]
    fn the_url_file_is_read_for_every_connection_and_wins() {
        let path = std::env::temp_dir().join(format!("penstock-url-{}", uuid::Uuid::new_v4()));
        let url = Some(config::Secret::from("postgres://localhost/from_url".to_owned()));
        let database = config::Database { url, url_file: Some(path.clone()) };
        for name in ["one", "two"] {
            std::fs::write(&path, format!("postgres://localhost/{name}\n")).expect("write the file");
            let options = options(&database, "test").expect("readable");
            assert_eq!(options.get_database(), Some(name));
            assert_eq!(options.get_application_name(), Some("test"));
        }
        std::fs::remove_file(&path).expect("remove the file");
        let error = format!("{:#}", options(&database, "test").expect_err("the file is gone"));
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
