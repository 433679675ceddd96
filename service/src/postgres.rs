//! Reading a Postgres URL.

use anyhow::bail;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::{net::IpAddr, str::FromStr};

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
}
