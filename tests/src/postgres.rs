//! A private Postgres server.

use crate::{database::Database, repository, scratch::Scratch, spawn, wait};
use anyhow::{Context as _, Result, bail};
use service::postgres::migrations;
use sqlx::{Connection as _, Executor as _, PgConnection};
use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

/// A URL in this variable names a running server to share; its role must be a superuser.
pub const URL_VARIABLE: &str = "PENSTOCK_TEST_DATABASE_URL";

/// A directory in this variable has the programs of the Postgres to start, in place of the newest installed.
pub const BINARIES_VARIABLE: &str = "PENSTOCK_TEST_POSTGRES";

/// How long a server may take to start, recovery after a crash included.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The superuser of a private cluster. No schema has its name, so that tables are created in `public`.
const ROLE: &str = "owner";

/// What a private server should be like.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Keep fsync and its kin on, as in production: for crash tests and measurements.
    pub durable: bool,
    /// Further settings, as (name, value).
    pub settings: Vec<(String, String)>,
    /// The directory of its programs; without it that of [`find_binaries`].
    pub binaries: Option<PathBuf>,
}

/// A running server: a private cluster of ours, or one that a variable named.
#[derive(Debug)]
pub struct Postgres {
    host_and_port: String,
    password: String,
    role: String,
    cluster: Option<Cluster>,
}

/// The parts of a private cluster.
#[derive(Debug)]
struct Cluster {
    bin: PathBuf,
    user: Option<String>,
    port: u16,
    settings: Vec<(String, String)>,
    server: Mutex<Option<Child>>,
    scratch: Scratch,
}

impl Postgres {
    /// Returns the server that tests of this process share; starts one unless [`URL_VARIABLE`] names it.
    ///
    /// # Errors
    /// When no server can be started.
    pub fn shared() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(postgres) = shared.upgrade() {
            return Ok(postgres);
        }
        let postgres = Arc::new(match std::env::var(URL_VARIABLE) {
            Ok(url) => Self::external(&url).with_context(|| format!("read {URL_VARIABLE}"))?,
            Err(_) => Self::start(Options::default())?,
        });
        *shared = Arc::downgrade(&postgres);
        Ok(postgres)
    }

    /// Creates and starts a private cluster.
    ///
    /// # Errors
    /// When Postgres is not installed, or does not start; with the end of its log.
    pub fn start(options: Options) -> Result<Self> {
        let bin = options.binaries.clone().map_or_else(find_binaries, Ok)?;
        let scratch = Scratch::traversable("pg")?;
        let user = server_user()?;
        let password = format!("{:032x}", fastrand::u128(..));

        // initdb reads the password as the server's user, and so nobody else may.
        let password_file = scratch.write("password", &password)?;
        let sockets = scratch.path().join("sockets");
        fs::DirBuilder::new().mode(0o700).create(&sockets)?;
        let data = scratch.path().join("data");
        fs::DirBuilder::new().mode(0o700).create(&data)?;
        let log = scratch.write("log", "")?;
        fs::set_permissions(&password_file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        if let Some(user) = &user {
            let id = spawn::run(std::process::Command::new("id").args(["-u", user]))?.parse::<u32>()?;
            for path in [&password_file, &sockets, &data, &log] {
                chown(path, Some(id), None).with_context(|| format!("give {} to {user}", path.display()))?;
            }
        }
        spawn::run(
            spawn::tied(bin.join("initdb"), "KILL", user.as_deref())?
                .current_dir("/")
                .arg("--pgdata")
                .arg(&data)
                .args(["--username", ROLE, "--encoding", "UTF8", "--locale", "C.UTF-8"])
                .args(["--auth", "scram-sha-256", "--no-sync", "--pwfile"])
                .arg(&password_file),
        )?;
        fs::remove_file(&password_file)?;

        let cluster = Cluster { bin, user, port: 0, settings: settings(&options), server: Mutex::new(None), scratch };
        let cluster = cluster.launch_on_a_free_port()?;
        Ok(Self {
            host_and_port: format!("127.0.0.1:{}", cluster.port),
            password,
            role: ROLE.to_owned(),
            cluster: Some(cluster),
        })
    }

    /// Takes a running server that others look after.
    fn external(url: &str) -> Result<Self> {
        let parts = url.strip_prefix("postgres://").and_then(|rest| {
            let (login, rest) = rest.split_once('@')?;
            let (role, password) = login.split_once(':')?;
            Some((role, password, rest.split('/').next()?))
        });
        let Some((role, password, host_and_port)) = parts else {
            bail!("expected postgres://ROLE:PASSWORD@HOST:PORT/…");
        };
        Ok(Self {
            host_and_port: host_and_port.to_owned(),
            password: password.to_owned(),
            role: role.to_owned(),
            cluster: None,
        })
    }

    /// Returns the process id of a private server that runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.cluster.as_ref()?.server().as_ref().map(Child::id)
    }

    /// Returns host and port, for a proxy in front of the server.
    #[must_use]
    pub fn host_and_port(&self) -> &str {
        &self.host_and_port
    }

    /// Returns the superuser's URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_through(&self.host_and_port, database)
    }

    /// Creates an empty database, dropped with its handle.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_database(self: &Arc<Self>) -> Result<Database> {
        self.create_database_as("").await
    }

    /// Creates an empty database of this encoding, dropped with its handle.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_database_in(self: &Arc<Self>, encoding: &str) -> Result<Database> {
        self.create_database_as(&format!("ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")).await
    }

    /// Creates a database that has the schema `penstock` already, dropped with its handle.
    ///
    /// The migrations are applied once and the outcome is copied: they take longer than most stories.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_database_with_ledger(self: &Arc<Self>) -> Result<Database> {
        let template = self.ledger_template().await?;
        self.create_database_as(&format!("TEMPLATE {template}")).await
    }

    /// Returns the database to copy, which the first to ask makes. Its name says which migrations it has.
    async fn ledger_template(&self) -> Result<String> {
        let mut files: Vec<_> = fs::read_dir(repository().join("migrations"))?.collect::<std::io::Result<_>>()?;
        files.sort_by_key(fs::DirEntry::path);
        let mut hasher = DefaultHasher::new();
        for file in files {
            fs::read(file.path())?.hash(&mut hasher);
        }
        let name = format!("ledger_{:016x}", hasher.finish());
        let mut connection = PgConnection::connect(&self.url("postgres")).await.context("connect to Postgres")?;
        let there = format!("SELECT EXISTS (SELECT FROM pg_database WHERE datname = '{name}')");
        if sqlx::query_scalar(&there).fetch_one(&mut connection).await? {
            return Ok(name);
        }
        // Ends with the connection; the tests run in processes of their own.
        connection.execute("SELECT pg_advisory_lock(hashtext('ledger'))").await?;
        if !sqlx::query_scalar::<_, bool>(&there).fetch_one(&mut connection).await? {
            let unfinished = format!("{name}_unfinished");
            connection.execute(&*format!("DROP DATABASE IF EXISTS {unfinished}")).await?;
            connection.execute(&*format!("CREATE DATABASE {unfinished}")).await?;
            let mut ledger = PgConnection::connect(&self.url(&unfinished)).await?;
            migrations::migrate(&mut ledger).await?;
            ledger.close().await?;
            connection.execute(&*format!("ALTER DATABASE {unfinished} RENAME TO {name}")).await?;
        }
        connection.close().await?;
        Ok(name)
    }

    async fn create_database_as(self: &Arc<Self>, settings: &str) -> Result<Database> {
        let name = format!("t_{:016x}", fastrand::u64(..));
        self.admin(&format!("CREATE DATABASE {name} {settings}")).await?;
        Ok(Database::new(Arc::clone(self), name))
    }

    /// Ends the server as a power cut would (`immediate`) and starts it again; returns when it takes connections.
    ///
    /// # Errors
    /// When the cluster is not ours, or does not come back.
    pub fn crash_and_restart(&self) -> Result<()> {
        self.stop_with("QUIT")?;
        self.start_again()
    }

    /// Ends every connection, stops the server in order (`fast`) and starts it again.
    ///
    /// # Errors
    /// As [`Self::crash_and_restart`].
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }

    /// Stops the server in order; its data stays for [`Self::start_again`].
    ///
    /// # Errors
    /// When the cluster is not ours, or does not end.
    pub fn stop(&self) -> Result<()> {
        self.stop_with("INT")
    }

    /// Starts a stopped server on the port it had.
    ///
    /// # Errors
    /// When the cluster is not ours, or does not start.
    pub fn start_again(&self) -> Result<()> {
        self.cluster()?.launch()
    }

    /// Returns the directory with this cluster's Postgres programs (`psql`, `pg_dump`, …).
    ///
    /// # Errors
    /// When Postgres is not installed.
    pub fn binaries(&self) -> Result<PathBuf> {
        self.cluster.as_ref().map_or_else(find_binaries, |cluster| Ok(cluster.bin.clone()))
    }

    fn stop_with(&self, signal: &str) -> Result<()> {
        let cluster = self.cluster()?;
        let server = cluster.server().take();
        server.map_or(Ok(()), |server| end(server, signal))
    }

    fn cluster(&self) -> Result<&Cluster> {
        self.cluster.as_ref().context("a shared server is not ours to stop; start one for this test")
    }

    /// Returns the superuser's URL of a database through a proxy.
    #[must_use]
    pub fn url_through(&self, host_and_port: &str, database: &str) -> String {
        format!("postgres://{}:{}@{host_and_port}/{database}", self.role, self.password)
    }

    /// Returns whether the cluster goes away with this handle.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.cluster.is_some()
    }

    /// Runs a statement in the database `postgres`.
    pub(crate) async fn admin(&self, statement: &str) -> Result<()> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.context("connect to Postgres")?;
        connection.execute(statement).await.with_context(|| statement.to_owned())?;
        connection.close().await?;
        Ok(())
    }
}

impl Cluster {
    fn server(&self) -> MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the server; another program may take the port between our look and its bind.
    fn launch_on_a_free_port(mut self) -> Result<Self> {
        let mut attempt = 1;
        loop {
            self.port = spawn::free_port()?;
            match self.launch() {
                Ok(()) => return Ok(self),
                Err(error) if attempt == 3 => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    fn launch(&self) -> Result<()> {
        let path = self.scratch.path();
        let data = path.join("data");
        let log_path = path.join("log");
        let log = fs::File::options().append(true).open(&log_path)?;
        let mut command = spawn::tied(self.bin.join("postgres"), "INT", self.user.as_deref())?;
        command.current_dir("/").arg("-D").arg(&data);
        command.arg("-c").arg(format!("unix_socket_directories={}", path.join("sockets").display()));
        command.arg("-c").arg(format!("port={}", self.port));
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut server = spawn::spawn(command).context("start postgres")?;
        let pid = server.id();
        wait::until_blocking("Postgres to take connections", START_LIMIT, || {
            if let Some(status) = server.try_wait()? {
                bail!("postgres ended with {status}:\n{}", spawn::tail(&log_path));
            }
            Ok(is_ready(&data.join("postmaster.pid"), pid).then_some(()))
        })?;
        *self.server() = Some(server);
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(server) = self.server().take() {
            // Immediate: the data goes away with the directory.
            let _ = end(server, "QUIT");
        }
    }
}

/// Returns the directory of the programs of the Postgres that [`BINARIES_VARIABLE`] names, else of the newest installed.
///
/// # Errors
/// When there is none, saying how to get it.
pub fn find_binaries() -> Result<PathBuf> {
    std::env::var_os(BINARIES_VARIABLE).map_or_else(installed, |named| Ok(named.into()))
}

/// Returns the directory of the newest installed Postgres's programs, `psql` among them.
///
/// # Errors
/// When there is none, saying how to get it.
pub fn installed() -> Result<PathBuf> {
    let complete = |directory: &Path| ["postgres", "initdb"].iter().all(|name| directory.join(name).is_file());
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().filter_map(|entry| {
        let version = entry.file_name().to_str()?.parse::<u32>().ok()?;
        Some((version, entry.path().join("bin")))
    });
    if let Some((_, bin)) = debian.filter(|(_, bin)| complete(bin)).max() {
        return Ok(bin);
    }
    let in_path =
        std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    in_path.into_iter().find(|directory| complete(directory)).context(
        "no Postgres server is installed: neither /usr/lib/postgresql/*/bin nor PATH has postgres and initdb (package postgresql)",
    )
}

/// Returns the user to run the server as: Postgres refuses to be run by root.
fn server_user() -> Result<Option<String>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let user = "postgres";
    spawn::run(std::process::Command::new("id").args(["-u", user]))
        .context("root cannot run Postgres, and there is no user postgres to run it as")?;
    Ok(Some(user.to_owned()))
}

fn settings(options: &Options) -> Vec<(String, String)> {
    let fast: &[(&str, &str)] = &[("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off")];
    let always: &[(&str, &str)] = &[
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_permissions", "0700"),
        // Tests run side by side, each with a few workers and their pools.
        ("max_connections", "300"),
        ("max_wal_size", "4GB"),
        ("timezone", "UTC"),
        ("log_min_messages", "warning"),
    ];
    let chosen = if options.durable { &[] } else { fast };
    let mut settings: Vec<(String, String)> =
        always.iter().chain(chosen).map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    settings.extend(options.settings.iter().cloned());
    settings
}

/// Reads the server's own word for it: line 1 is its process id, line 8 its state.
fn is_ready(pid_file: &Path, pid: u32) -> bool {
    let text = fs::read_to_string(pid_file).unwrap_or_default();
    let mut lines = text.lines();
    lines.next().and_then(|line| line.trim().parse().ok()) == Some(pid)
        && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}

/// Sends the signal and waits for the end; the last resort is the kernel.
fn end(mut server: Child, signal: &str) -> Result<()> {
    spawn::signal(server.id(), signal)?;
    let ended = wait::until_blocking("Postgres to end", Duration::from_secs(30), || Ok(server.try_wait()?));
    if ended.is_err() {
        server.kill()?;
        server.wait()?;
    }
    ended.map(|_| ())
}
