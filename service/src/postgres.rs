//! Reaching Postgres: reading a URL, connecting within a time, and the schema that importers and scalers bring up to date.

pub mod migrations;
mod pooler;
mod row;
mod tcp;

use anyhow::{Context as _, bail};
use percent_encoding::percent_decode_str;
pub use pooler::{TransactionPooler, refuse_transaction_pooler};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use std::{borrow::Cow, net::IpAddr, str::FromStr, time::Duration};
use tcp::Tcp;
use tokio::time::timeout;

/// How long connecting may take where nothing says otherwise: name, TCP, TLS and sign-in together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a statement may take that neither waits for a lock nor works on rows.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// What every session says first, so that nothing another role has put into `public` is taken for what its statements
/// mean; whatever is not `pg_catalog`'s they name with its schema.
///
/// A statement and not a startup parameter: poolers refuse those they do not know, and `pg_settings.reset_val` would no
/// longer tell the role's own path.
pub const NAMES_ARE_THE_CATALOGS: &str = "SET search_path = pg_catalog";

/// A Postgres server as a URL names it.
#[derive(Debug, Clone)]
pub struct Server {
    options: PgConnectOptions,
    connect_timeout: Duration,
    tcp: Tcp,
}

/// A server that did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("{call}: Postgres at {place} did not answer within {} s", .after.as_secs())]
pub struct Silent {
    /// What was asked.
    pub call: &'static str,
    /// Who was asked.
    pub place: String,
    /// How long was waited.
    pub after: Duration,
}

impl Server {
    /// Reads a `postgres://` URL. TLS is `verify-full` unless the URL or `PGSSLMODE` says otherwise or the host is this
    /// machine; as with libpq, `require` with a root certificate is `verify-ca`.
    ///
    /// # Errors
    /// A sentence that names what is wrong but never quotes any part of the URL, which may be a password.
    pub fn read(url: &str) -> anyhow::Result<Self> {
        let Some(rest) = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")) else {
            bail!("must start with postgres://");
        };
        check_escapes(url)?;
        let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
        // What follows a '/' or '#' that belongs to a password would be taken for the host and shown.
        let path = base.split_once('/').map_or("", |(_, path)| path);
        if url.contains('#') || path.contains(['@', '/']) || query.contains('/') && query.contains('@') {
            bail!(
                "is ambiguous: '@', '/', '?', '#' and '%' in a password or a name are written %40, %2F, %3F, %23 and %25"
            );
        }
        let parameters = Parameters::read(query)?;
        let options = PgConnectOptions::from_str(&format!("postgres://{base}?{}", parameters.kept.join("&")));
        let mut options = options.map_err(without_values)?;
        let names_mode = parameters.names_mode || std::env::var_os("PGSSLMODE").is_some();
        let names_root = parameters.names_root || std::env::var_os("PGSSLROOTCERT").is_some();
        if parameters.system_roots && names_mode && !matches!(options.get_ssl_mode(), PgSslMode::VerifyFull) {
            bail!("sslrootcert=system needs sslmode=verify-full");
        }
        if !names_mode && (parameters.system_roots || !is_this_machine(&options)) {
            options = options.ssl_mode(PgSslMode::VerifyFull);
        } else if names_root && matches!(options.get_ssl_mode(), PgSslMode::Require) {
            options = options.ssl_mode(PgSslMode::VerifyCa);
        }
        Ok(Self { options, connect_timeout: parameters.connect_timeout, tcp: parameters.tcp })
    }

    /// Returns what sqlx makes of it.
    #[must_use]
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Gives its sessions a name. Their statements are not logged: a merge may take minutes, and sqlx would warn of each
    /// that takes a second, with all of it.
    #[must_use]
    pub fn named(mut self, application_name: &str) -> Self {
        self.options = self.options.application_name(application_name).disable_statement_logging();
        self
    }

    /// Returns host and port, or the socket's directory, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        place(&self.options)
    }

    /// Connects within `connect_timeout`, to a session in which [`NAMES_ARE_THE_CATALOGS`].
    ///
    /// # Errors
    /// [`Silent`], or what Postgres says; the text names the place.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        self.within(async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            connection.execute(NAMES_ARE_THE_CATALOGS).await?;
            Ok(connection)
        })
        .await
    }

    /// As [`Self::connect`], but leaves the session as it is: it may be a transaction pooler's, and so another's next.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_only(&self) -> anyhow::Result<PgConnection> {
        self.within(PgConnection::connect_with(&self.options)).await
    }

    async fn within(
        &self,
        connecting: impl Future<Output = sqlx::Result<PgConnection>>,
    ) -> anyhow::Result<PgConnection> {
        let connecting = async {
            let connection = connecting.await?;
            self.tcp.apply(&self.options);
            Ok::<_, sqlx::Error>(connection)
        };
        match timeout(self.connect_timeout, connecting).await {
            Ok(connected) => connected.with_context(|| format!("connect to Postgres at {}", self.place())),
            Err(_) => Err(Silent { call: "connect", place: self.place(), after: self.connect_timeout }.into()),
        }
    }

    /// Waits for an answer that must come soon.
    ///
    /// # Errors
    /// [`Silent`] after [`STATEMENT_TIMEOUT`]; the connection must be dropped then.
    pub async fn answer<T, E: Into<anyhow::Error>>(
        &self,
        call: &'static str,
        statement: impl Future<Output = Result<T, E>>,
    ) -> anyhow::Result<T> {
        match timeout(STATEMENT_TIMEOUT, statement).await {
            Ok(answer) => answer.map_err(Into::into),
            Err(_) => Err(Silent { call, place: self.place(), after: STATEMENT_TIMEOUT }.into()),
        }
    }
}

impl From<PgConnectOptions> for Server {
    fn from(options: PgConnectOptions) -> Self {
        Self { options, connect_timeout: CONNECT_TIMEOUT, tcp: Tcp::default() }
    }
}

/// Returns host and port, or the socket's directory, for messages.
#[must_use]
pub fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Reads a URL as [`Server::read`] does, for those who connect themselves.
///
/// # Errors
/// As [`Server::read`].
pub fn connect_options(url: &str) -> anyhow::Result<PgConnectOptions> {
    Server::read(url).map(|server| server.options)
}

/// A parameter libpq knows that makes no difference here.
const WITHOUT_EFFECT: &str = "client_encoding";

/// Parameters that say how long to wait, and for what.
const LIMITS: [&str; 6] =
    ["connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"];

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

/// A URL's parameters.
struct Parameters<'a> {
    /// Those sqlx is to read.
    kept: Vec<&'a str>,
    names_mode: bool,
    names_root: bool,
    system_roots: bool,
    connect_timeout: Duration,
    tcp: Tcp,
}

impl<'a> Parameters<'a> {
    fn read(query: &'a str) -> anyhow::Result<Self> {
        let mut read = Self {
            kept: Vec::new(),
            names_mode: false,
            names_root: false,
            system_roots: false,
            connect_timeout: connect_timeout(
                std::env::var("PGCONNECT_TIMEOUT").ok().and_then(|s| s.trim().parse().ok()),
            ),
            tcp: Tcp::default(),
        };
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let decode = |text| percent_decode_str(text).decode_utf8();
            let (Ok(name), Ok(value)) = (decode(name), decode(value)) else {
                bail!("has a parameter that is not in UTF-8");
            };
            let value = &*value;
            match &*name {
                // libpq's word for the system's roots, which are used anyway.
                "sslrootcert" if value == "system" => {
                    read.system_roots = true;
                    continue;
                }
                "sslrootcert" => read.names_root = true,
                "sslmode" => {
                    read.names_mode = true;
                    if PgSslMode::from_str(value).is_err() {
                        bail!("sslmode must be disable, allow, prefer, require, verify-ca or verify-full");
                    }
                }
                name if LIMITS.contains(&name) => {
                    let Ok(value) = value.trim().parse::<i32>() else { bail!("{name} must be a whole number") };
                    match name {
                        "connect_timeout" => read.connect_timeout = connect_timeout(Some(value)),
                        _ => read.tcp.set(name, value),
                    }
                    continue;
                }
                WITHOUT_EFFECT => continue,
                // What asks for them only where they are there is kept by connections without them.
                "channel_binding" | "gssencmode" if matches!(value, "disable" | "prefer") => continue,
                "channel_binding" | "gssencmode" => {
                    bail!(
                        "{name} must be disable or prefer: channel binding and GSSAPI encryption are not supported, and \
                         sslmode=verify-full makes sure of the server"
                    );
                }
                "port" if value.parse::<u16>().is_err() => bail!("port must be a number up to 65535"),
                name if UNDERSTOOD.contains(&name) || name.starts_with("options[") => {}
                _ => bail!("has a parameter that is none of {}, {}", UNDERSTOOD.join(", "), LIMITS.join(", ")),
            }
            read.kept.push(parameter);
        }
        Ok(read)
    }
}

/// As libpq counts: at least two seconds; where libpq would wait forever, the default.
fn connect_timeout(seconds: Option<i32>) -> Duration {
    match seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(u64::from(seconds.unsigned_abs()).max(2)),
        _ => CONNECT_TIMEOUT,
    }
}

/// Refuses a '%' that is not followed by two hexadecimal digits, or stands for what no name can hold.
fn check_escapes(url: &str) -> anyhow::Result<()> {
    for escape in url.split('%').skip(1) {
        let digits = escape.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        if !matches!(digits, Some(digits) if digits != "00") {
            bail!("has a '%' that is not followed by two hexadecimal digits of a character; '%' itself is written %25");
        }
    }
    Ok(())
}

/// URL errors speak of the URL's parts in fixed words; any other may quote a value.
fn without_values(error: sqlx::Error) -> anyhow::Error {
    const WORDS: [&str; 6] = [
        "empty host",
        "invalid international domain name",
        "invalid port number",
        "invalid IPv4 address",
        "invalid IPv6 address",
        "invalid domain character",
    ];
    let said = match error {
        sqlx::Error::Configuration(inner) => Cow::Owned(inner.to_string()),
        _ => Cow::Borrowed(""),
    };
    match WORDS.iter().find(|words| **words == said) {
        Some(words) => anyhow::anyhow!("is not a URL: {words}"),
        None => anyhow::anyhow!("is not a URL this program can read"),
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

/// Returns whether an error is one of reaching Postgres, or of a state it will leave, rather than its answer.
#[must_use]
pub fn is_outage(error: &anyhow::Error) -> bool {
    if error.chain().any(|cause| cause.is::<Silent>()) {
        return true;
    }
    match error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>()) {
        // Connection, read-only, resources, lock timeout, rollback for contention, shutdown, system.
        Some(sqlx::Error::Database(said)) => said
            .code()
            .is_some_and(|code| matches!(code.get(..2), Some("08" | "25" | "40" | "53" | "55" | "57" | "58"))),
        Some(sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_)) => true,
        _ => false,
    }
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
        connect_options("postgres://u@h/d?channel_binding=prefer&gssencmode=disable&client_encoding=UTF8")
            .expect("accepted");
        for asked in ["channel_binding=require", "gssencmode=require", "channel_binding=r%65quire"] {
            let error = connect_options(&format!("postgres://u@h/d?{asked}")).expect_err("what cannot be kept");
            assert!(error.to_string().contains("must be disable or prefer"), "{error}");
        }
    }

    #[test]
    fn values_of_parameters_may_be_escaped() {
        assert_eq!(mode("postgres://u@h/d?ssl%6Dode=verify%2Dca"), "VerifyCa");
        assert_eq!(mode("postgres://u@localhost/d?sslrootcert=%73ystem"), "VerifyFull");
        let url = "postgres://u@h/d?connect_timeout=%35&port=54%333";
        let server = Server::read(url).expect(url);
        assert_eq!((server.connect_timeout.as_secs(), server.place()), (5, "h:5433".to_owned()));
    }

    #[test]
    fn require_with_a_root_certificate_verifies_as_libpq_does() {
        assert_eq!(mode("postgres://u@h/d?sslmode=require&sslrootcert=/ca.pem"), "VerifyCa");
        assert_eq!(mode("postgres://u@h/d?sslrootcert=/ca.pem&sslmode=prefer"), "Prefer");
        assert_eq!(mode("postgres://u@localhost/d?sslrootcert=system"), "VerifyFull");
        Server::read("postgres://u@h/d?sslmode=require&sslrootcert=system")
            .expect_err("weaker than the system's roots");
    }

    #[test]
    fn limits_of_the_url_are_heeded() {
        let wait = |url: &str| Server::read(url).expect(url).connect_timeout.as_secs();
        assert_eq!(wait("postgres://u@h/d"), 10);
        assert_eq!(wait("postgres://u@h/d?connect_timeout=5"), 5);
        assert_eq!(wait("postgres://u@h/d?connect_timeout=1"), 2);
        assert_eq!(wait("postgres://u@h/d?connect_timeout=0"), 10);
        let url = "postgres://u@h/d?keepalives_idle=5&keepalives_interval=2&keepalives_count=4&tcp_user_timeout=10000";
        let tcp = Server::read(url).expect(url).tcp;
        assert_eq!(tcp, Tcp { keepalives: true, idle: 5, interval: 2, count: 4, user_timeout: 10_000 });
        assert!(!Server::read("postgres://u@h/d?keepalives=0").expect("off").tcp.keepalives);
    }

    #[test]
    fn a_silent_server_is_an_outage_and_what_nobody_knows_is_none() {
        let silent = Silent { call: "connect", place: "h:5432".into(), after: Duration::from_secs(1) };
        assert!(is_outage(&anyhow::Error::new(silent).context("apply migrations")));
        assert!(is_outage(&anyhow::Error::new(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()))));
        assert!(!is_outage(&anyhow::anyhow!("no right")));
    }

    #[test]
    fn no_part_of_a_url_is_quoted() {
        for url in [
            "u:hunter2@h/d",
            "postgre://u:hunter2@h/d",
            "postgres://u:hunter2",
            "postgres://u:hun/ter2@h/d",
            "postgres://u:12/ter2@h/d",
            "postgres://u:12#ter2@h/d",
            "postgres://u:12?ter2@h/d",
            "postgres://u:hunter2@h:port/d",
            "postgres://u:hunter2%@h/d",
            "postgres://u:hunter2%zz@h/d",
            "postgres://u:hunter2%00@h/d",
            "postgres://u:hunter2@h/d?port=hunter2",
            "postgres://u:hunter2@h/d?passwrd=hunter2",
            "postgres://u:hunter2@h/d?hunter2",
            "postgres://u:hunter2@h/d?sslmode=hunter2",
            "postgres://u:hunter2@h/d?connect_timeout=hunter2",
            "postgres://u:hunter2@h/d?password=%zz",
            "postgres://u:hunter2@[h/d",
            "postgres://u:hunter2@h^/d",
        ] {
            let error = format!("{:#}", Server::read(url).map(|server| server.place()).expect_err(url));
            assert!(!["hunter", "ter2", "12"].iter().any(|part| error.contains(part)), "{url}: {error}");
        }
    }

    #[test]
    fn what_belongs_to_a_password_is_taken_for_one() {
        for (url, expected) in [
            ("postgres://u:p@ss@h:5433/d", "h:5433"),
            ("postgres://u:p%2Fss%23@h/d", "h:5432"),
            ("postgres://u:p:ss@h/d", "h:5432"),
        ] {
            assert_eq!(Server::read(url).expect(url).place(), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn connecting_to_a_silent_server_ends() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = silent.local_addr().expect("an address").port();
        let server = Server::read(&format!("postgres://u@127.0.0.1:{port}/d?connect_timeout=2")).expect("a URL");
        let error = server.connect().await.expect_err("nobody answers");
        assert_eq!(format!("{error:#}"), format!("connect: Postgres at 127.0.0.1:{port} did not answer within 2 s"));
    }
}
