//! `scaler.toml`: what is scaled, how, and by what.

pub mod duration;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use service::postgres::Server;
use toml::Spanned;

use crate::limits::Limits;
use crate::policy::{Policy, Target};

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
    database: Option<DatabaseTable>,
    #[serde(default)]
    http: Http,
    #[serde(default)]
    pool: Vec<Spanned<Pool>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DatabaseTable {
    /// `postgres://user:password@host:port/database?sslmode=…&sslrootcert=…`, the same database as the importers'.
    /// `DATABASE_URL` overrides it.
    url: Option<String>,
}

/// Where the database is. The URL may hold a password, so it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Database {
    /// The URL of the file or of `DATABASE_URL`.
    url: Option<String>,
    /// The file of `DATABASE_URL_FILE`, read again on each connection.
    url_file: Option<PathBuf>,
}

impl Database {
    /// Takes a URL as it is.
    pub fn of(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), url_file: None }
    }

    /// Returns the URL as it stands now.
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

    /// Returns the server the URL names now; an error says nothing of the URL's parts.
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

/// One pool of workers and the queues it empties.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The pool's name: in `history`, in metrics, and in the database.
    pub name: String,
    /// The queues; their depths are added up.
    #[serde(default)]
    pub queue_urls: Vec<String>,
    /// Fewest workers, whatever else. 0 lets the pool go away when there is nothing to do.
    #[serde(default)]
    pub min: u32,
    /// Most workers, whatever else.
    #[serde(default = "default_max")]
    pub max: u32,
    /// Seconds between two decisions. Shorter sees little more, since SQS's counters lag.
    #[serde(default = "default_interval_secs")]
    pub interval_secs: u32,
    /// The deadline policy: every message done this long after it was sent.
    #[serde(default, deserialize_with = "duration::optional_positive_secs")]
    pub drain_within: Option<f64>,
    /// The backlog policy: messages, waiting or in flight, per worker.
    #[serde(default)]
    pub backlog_per_worker: Option<u64>,
    /// Objects at once in one worker, an importer's `concurrency`; measured when there is a database.
    #[serde(default = "default_slots_per_worker")]
    pub slots_per_worker: u32,
    /// First guess of the time from requesting a worker to its first receive; measured afterwards.
    #[serde(default = "default_start_up", deserialize_with = "duration::positive_secs")]
    pub start_up: f64,
    /// First guess of one message's time in one slot; measured afterwards.
    #[serde(default = "default_job", deserialize_with = "duration::positive_secs")]
    pub job: f64,
    /// Workers the pool may jump to before a larger size has proven itself.
    #[serde(default = "default_initial_proven")]
    pub initial_proven: u32,
    /// Postgres connections kept for others.
    #[serde(default = "default_connection_reserve")]
    pub connection_reserve: u32,
    /// What the workers are.
    pub workers: Option<WorkersKind>,
}

/// What a pool's workers are.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum WorkersKind {
    /// Instances of an Auto Scaling group.
    Asg {
        /// The group's name.
        group: String,
    },
    /// Child processes of the scaler on this machine.
    Processes {
        /// The program and its arguments.
        command: Vec<String>,
        /// Variables added to the scaler's own environment.
        #[serde(default)]
        env: BTreeMap<String, String>,
        /// The directory the processes run in; the scaler's own when absent.
        directory: Option<PathBuf>,
        /// The directory their output goes to, a file each; with the scaler's own output when absent.
        log_directory: Option<PathBuf>,
    },
    /// Nothing is started or stopped; decisions are only recorded.
    DryRun {},
    /// Tasks of an ECS service.
    Ecs {
        /// The cluster's name or ARN.
        #[serde(default = "default_cluster")]
        cluster: String,
        /// The service's name.
        service: String,
    },
    /// Pods of a Kubernetes Deployment.
    Kubernetes {
        /// The namespace; the context's, or the one the scaler's own pod is in, when absent.
        namespace: Option<String>,
        /// The Deployment's name.
        deployment: String,
    },
}

impl WorkersKind {
    /// Returns the kind's name in the file, and whether it is part of this build.
    fn built_in(&self) -> (&'static str, bool) {
        match self {
            Self::Asg { .. } => ("asg", true),
            Self::Processes { .. } => ("processes", true),
            Self::DryRun {} => ("dry_run", true),
            Self::Ecs { .. } => ("ecs", cfg!(feature = "ecs")),
            Self::Kubernetes { .. } => ("kubernetes", cfg!(feature = "kubernetes")),
        }
    }
}

fn default_cluster() -> String {
    "default".to_owned()
}
fn default_listen() -> String {
    "127.0.0.1:9465".to_owned()
}
fn default_max() -> u32 {
    40
}
fn default_interval_secs() -> u32 {
    10
}
fn default_slots_per_worker() -> u32 {
    1
}
fn default_start_up() -> f64 {
    45.0
}
fn default_job() -> f64 {
    2.0
}
fn default_initial_proven() -> u32 {
    32
}
fn default_connection_reserve() -> u32 {
    10
}

impl Config {
    /// Reads and checks a configuration file; the environment overrides where the database is.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError(format!("read {name}: {e}")))?;
        let mut config = Self::parse(&text).map_err(|e| ConfigError(format!("{name}: {}", e.0)))?;
        let env = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        config.override_database(env("DATABASE_URL"), env("DATABASE_URL_FILE"));
        Ok(config)
    }

    /// Reads and checks a configuration.
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
            database: file.database.map(|table| Database { url: table.url, url_file: None }),
            http: file.http,
            pools: file.pool.into_iter().map(Spanned::into_inner).collect(),
        })
    }

    /// Returns the pool of a name, or the only one.
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
    pub fn check_database(&self) -> Result<(), ConfigError> {
        self.database.as_ref().map_or(Ok(()), |database| database.server().map(|_| ()))
    }

    fn override_database(&mut self, url: Option<String>, url_file: Option<String>) {
        if let Some(url) = url {
            self.database = Some(Database { url: Some(url), url_file: None });
        }
        if let Some(file) = url_file {
            self.database = Some(Database { url: None, url_file: Some(file.into()) });
        }
    }
}

impl Pool {
    /// Returns the pool's policy.
    pub fn policy(&self) -> Policy {
        let target = match (self.drain_within, self.backlog_per_worker) {
            (_, Some(messages_per_worker)) => Target::Backlog { messages_per_worker },
            (drain_within, None) => Target::Deadline { drain_within_secs: drain_within.unwrap_or(f64::MAX) },
        };
        Policy {
            target,
            min: self.min,
            max: self.max,
            slots_per_worker: self.slots_per_worker,
            start_up_secs: self.start_up,
            job_secs: self.job,
            initial_proven: self.initial_proven,
            connection_reserve: self.connection_reserve,
        }
    }

    /// Returns how long the parts of its ticks may take.
    pub fn limits(&self) -> Limits {
        Limits::of(self.interval_secs)
    }

    /// Checks what is needed to run the pool, beyond what is needed to decide for it.
    pub fn check_runnable(&self) -> Result<&WorkersKind, ConfigError> {
        let problem = |text: &str| Err(ConfigError(format!("pool \"{}\": {text}", self.name)));
        if self.queue_urls.is_empty() {
            return problem("`queue_urls` is missing");
        }
        match &self.workers {
            None => problem("[pool.workers] is missing"),
            Some(kind) if !kind.built_in().1 => Err(self.not_built_in(kind)),
            Some(kind) => Ok(kind),
        }
    }

    /// Says that a kind of workers was left out of this build.
    pub fn not_built_in(&self, kind: &WorkersKind) -> ConfigError {
        let (name, _) = kind.built_in();
        ConfigError(format!(
            "pool \"{}\": `workers.kind` \"{name}\" is not in this build of the scaler; \
             use one built with `--features {name}`, as a default build is",
            self.name
        ))
    }

    /// Returns what tells a pool's processes from those of another stack on the same machine.
    pub fn mark(&self) -> String {
        format!("{} {}", self.name, self.queue_urls.join(" "))
    }

    /// Returns the key that is wrong, and what is wrong with it.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let wrong = |key, problem: String| Err((key, problem));
        if self.name.is_empty() || self.name.len() > 100 {
            return wrong("name", "must have 1 to 100 bytes".to_owned());
        }
        match (self.drain_within, self.backlog_per_worker) {
            (Some(_), Some(_)) => {
                return wrong("backlog_per_worker", "stands beside `drain_within`: give exactly one of the two".into());
            }
            (None, None) => {
                return wrong("drain_within", "or `backlog_per_worker` is missing: give one of the two".into());
            }
            (None, Some(0)) => return wrong("backlog_per_worker", "must be at least 1".to_owned()),
            _ => {}
        }
        if self.max == 0 {
            return wrong("max", "must be at least 1".to_owned());
        }
        if self.min > self.max {
            return wrong("min", format!("is {}, more than `max` ({})", self.min, self.max));
        }
        for (key, value, range) in [
            ("interval_secs", self.interval_secs, 1..=3600),
            ("slots_per_worker", self.slots_per_worker, 1..=1000),
            ("initial_proven", self.initial_proven, 1..=100_000),
            ("max", self.max, 1..=100_000),
        ] {
            if !range.contains(&value) {
                return wrong(key, format!("is {value}, not between {} and {}", range.start(), range.end()));
            }
        }
        for (place, url) in self.queue_urls.iter().enumerate() {
            // The value is not shown: it may be another URL, with a password.
            if !(url.starts_with("https://") || url.starts_with("http://")) {
                return wrong("queue_urls", format!("entry {} is no queue URL", place + 1));
            }
            if url.ends_with(".fifo") {
                return wrong("queue_urls", format!("entry {} is a FIFO queue, which is not supported", place + 1));
            }
        }
        match &self.workers {
            Some(WorkersKind::Processes { command, .. }) if command.is_empty() => {
                wrong("command", "must name a program".to_owned())
            }
            Some(WorkersKind::Asg { group }) if group.is_empty() => wrong("group", "must not be empty".to_owned()),
            Some(WorkersKind::Ecs { cluster, .. }) if cluster.is_empty() => {
                wrong("cluster", "must not be empty; leave it out for the cluster \"default\"".to_owned())
            }
            Some(WorkersKind::Ecs { service, .. }) if service.is_empty() => {
                wrong("service", "must not be empty".to_owned())
            }
            Some(WorkersKind::Kubernetes { namespace: Some(namespace), .. }) if namespace.is_empty() => {
                wrong("namespace", "must not be empty; leave it out for the scaler's own".to_owned())
            }
            Some(WorkersKind::Kubernetes { deployment, .. }) if deployment.is_empty() => {
                wrong("deployment", "must not be empty".to_owned())
            }
            _ => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"[database]
url = "postgres://penstock@localhost/warehouse"

[http]
listen = "127.0.0.1:9465"

[[pool]]
name = "importers"
queue_urls = ["https://sqs.eu-west-1.amazonaws.com/123456789012/imports"]
min = 0
max = 40
interval_secs = 10
drain_within = "15m"
# backlog_per_worker = 100
slots_per_worker = 4
start_up = "45s"
job = "2s"
initial_proven = 32
connection_reserve = 10
[pool.workers]
kind = "asg"
group = "penstock-importers"
"#;

    /// Checks the message for one replacement in the full file.
    fn check(from: &str, to: &str, expected: &[&str]) {
        let text = FULL.replacen(from, to, 1);
        assert_ne!(text, FULL, "{from} is not in the file");
        let error = Config::parse(&text).expect_err(to).to_string();
        for part in expected {
            assert!(error.contains(part), "{to}: {error}");
        }
    }

    #[test]
    fn file_of_the_contract_is_read() {
        let config = Config::parse(FULL).unwrap();
        let pool = config.pool(None).unwrap();
        assert_eq!(pool.policy().target, Target::Deadline { drain_within_secs: 900.0 });
        assert_eq!(pool.policy().slots_per_worker, 4);
        assert_eq!(pool.check_runnable(), Ok(&WorkersKind::Asg { group: "penstock-importers".to_owned() }));
        assert_eq!(config.database.unwrap().url().unwrap(), "postgres://penstock@localhost/warehouse");
    }

    #[test]
    fn little_is_enough() {
        let config = Config::parse("[[pool]]\nname = \"a\"\nbacklog_per_worker = 5\n").unwrap();
        let pool = &config.pools[0];
        assert_eq!((pool.min, pool.max, pool.interval_secs, pool.initial_proven), (0, 40, 10, 32));
        assert_eq!(config.http.listen, "127.0.0.1:9465");
        assert!(pool.check_runnable().unwrap_err().to_string().contains("queue_urls"));
    }

    #[test]
    fn mistakes_name_the_field_and_the_line() {
        check("min = 0", "min = 41", &["line 10", "`min`", "41", "40"]);
        check("min = 0", "mins = 0", &["line 10", "mins"]);
        check("max = 40", "max = 0", &["line 11", "`max`"]);
        check("max = 40", "max = -1", &["line 11"]);
        check("\"15m\"", "\"soon\"", &["line 13", "soon"]);
        check("\"15m\"", "\"0s\"", &["line 13", "longer than 0"]);
        check("# backlog", "backlog", &["line 14", "`backlog_per_worker`", "exactly one"]);
        check("drain_within = \"15m\"", "", &["line 7", "`drain_within`", "backlog_per_worker"]);
        check("interval_secs = 10", "interval_secs = 0", &["line 12", "`interval_secs`"]);
        check("https://sqs", "sqs", &["line 9", "`queue_urls`"]);
        check("imports\"]", "imports.fifo\"]", &["line 9", "FIFO"]);
        check("kind = \"asg\"", "kind = \"asgs\"", &["line 21", "asgs"]);
        check("group =", "groups =", &["groups"]);
        check("url =", "uri =", &["line 2", "uri"]);
    }

    #[test]
    fn two_pools_need_two_names() {
        let text = format!("{FULL}\n[[pool]]\nname = \"importers\"\nbacklog_per_worker = 1\n");
        let error = Config::parse(&text).unwrap_err().to_string();
        assert!(error.contains("line 25") && error.contains("`name`"), "{error}");
        let text = text.replace("name = \"importers\"\nbacklog", "name = \"others\"\nbacklog");
        let config = Config::parse(&text).unwrap();
        assert_eq!(config.pool(Some("others")).unwrap().backlog_per_worker, Some(1));
        assert!(config.pool(None).unwrap_err().to_string().contains("importers, others"));
        assert!(config.pool(Some("x")).unwrap_err().to_string().contains("\"x\""));
    }

    #[test]
    fn processes_are_configured() {
        let text = FULL.replace(
            "kind = \"asg\"\ngroup = \"penstock-importers\"",
            "kind = \"processes\"\ncommand = [\"importer\", \"run\"]\nenv = { RUST_LOG = \"debug\" }",
        );
        let config = Config::parse(&text).unwrap();
        let Ok(WorkersKind::Processes { command, env, .. }) = config.pools[0].check_runnable() else { panic!() };
        assert_eq!(command, &["importer", "run"]);
        assert_eq!(env["RUST_LOG"], "debug");
    }

    #[test]
    fn containers_are_configured() {
        let with = |workers: &str| {
            let text = FULL.replace("kind = \"asg\"\ngroup = \"penstock-importers\"", workers);
            Config::parse(&text).map(|mut config| config.pools.remove(0))
        };
        let ecs = with("kind = \"ecs\"\nservice = \"importers\"").unwrap();
        let expected = WorkersKind::Ecs { cluster: "default".to_owned(), service: "importers".to_owned() };
        assert_eq!(ecs.workers, Some(expected));
        let kubernetes = with("kind = \"kubernetes\"\ndeployment = \"importers\"").unwrap();
        let expected = WorkersKind::Kubernetes { namespace: None, deployment: "importers".to_owned() };
        assert_eq!(kubernetes.workers, Some(expected));
        for (pool, name, is_built_in) in
            [(ecs, "ecs", cfg!(feature = "ecs")), (kubernetes, "kubernetes", cfg!(feature = "kubernetes"))]
        {
            match pool.check_runnable() {
                Ok(_) => assert!(is_built_in),
                Err(error) => assert!(!is_built_in && error.to_string().contains(&format!("--features {name}"))),
            }
        }
        for (workers, expected) in [
            ("kind = \"ecs\"", "service"),
            ("kind = \"ecs\"\nservice = \"\"", "line 22: pool \"importers\": `service`"),
            ("kind = \"ecs\"\nservice = \"a\"\ncluster = \"\"", "`cluster`"),
            ("kind = \"kubernetes\"", "deployment"),
            ("kind = \"kubernetes\"\ndeployment = \"\"", "`deployment`"),
            ("kind = \"kubernetes\"\ndeployment = \"a\"\nnamespace = \"\"", "`namespace`"),
            ("kind = \"kubernetes\"\nservice = \"a\"", "service"),
        ] {
            let error = with(workers).unwrap_err().to_string();
            assert!(error.contains(expected), "{workers}: {error}");
        }
    }

    #[test]
    fn url_that_is_refused_is_a_mistake_in_the_configuration_and_shows_no_part_of_it() {
        for (url, expected) in [
            ("mysql://u:hunter2@h/d", "must start with postgres://"),
            ("u:hunter2@h/d", "must start with postgres://"),
            ("postgres://u:hunter2@h/d?passwrd=hunter2", "has a parameter that is none of"),
            ("postgres://u:hun/ter2@h/d", "is ambiguous"),
        ] {
            let text = FULL.replace("postgres://penstock@localhost/warehouse", url);
            let error = Config::parse(&text).unwrap().check_database().unwrap_err().to_string();
            assert!(error.starts_with("`database.url`") && error.contains(expected), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("ter2"), "{error}");
        }
        assert_eq!(Config::parse(FULL).unwrap().check_database(), Ok(()));
        // A URL in another's place may hold a password, too.
        let error = Config::parse(&FULL.replace("https://sqs", "postgres://u:hunter2@sqs")).unwrap_err().to_string();
        assert!(error.contains("entry 1 is no queue URL") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn environment_overrides_the_database() {
        let mut config = Config::parse(FULL).unwrap();
        config.override_database(Some("postgres://other/db".to_owned()), None);
        assert_eq!(config.database.as_ref().unwrap().url().unwrap(), "postgres://other/db");
        config.override_database(None, Some("/nonexistent/url".to_owned()));
        assert!(config.database.as_ref().unwrap().url().unwrap_err().to_string().contains("DATABASE_URL_FILE"));
        assert_eq!(format!("{:?}", config.database), "Some(Database([redacted]))");
    }
}
