//! The command line. Usage errors exit 2 and name the flag.

use crate::{
    config::{CONCURRENCY, Needs},
    ledger::State,
    message::{LOCAL_BUCKET, ObjectPointer},
};
use clap::{ArgGroup, Args, Parser, Subcommand};
use service::{
    logging::Format,
    time::{Time, duration},
};
use std::{path::PathBuf, str::FromStr, time::Duration};

/// `importer` and what it was asked to do.
#[derive(Debug, Parser)]
#[command(name = "importer", version = VERSION, about = "Loads S3 objects named by SQS messages into Postgres, exactly once in effect.")]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The package's version and the commit it was built from.
pub const VERSION: &str = env!("PENSTOCK_VERSION");

/// The configuration file that may be missing unless `--config` names it.
pub const DEFAULT_CONFIG: &str = "importer.toml";

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE", env = "IMPORTER_CONFIG", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Format of log lines on stderr
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: Format,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Import what the queue points to, until stopped
    Run(Run),
    /// Import objects or local files now, without a queue
    Load(Load),
    /// Show what would become of an object's rows in the database, and roll back
    Try(Try),
    /// Run the [[dataset.test]] of the configuration
    Test {
        /// Only those of this dataset
        #[arg(value_name = "DATASET")]
        dataset: Option<String>,
    },
    /// Sample a file and print a matching CREATE TABLE and [[dataset]]
    Describe(Describe),
    /// Send pointers of known or existing objects through the queue
    Replay(Replay),
    /// Move messages from the dead-letter queue back to the source queue
    Redrive {
        /// Only messages forwarded for this reason
        #[arg(long, value_name = "REASON")]
        reason: Option<String>,
        /// Use this configured queue instead of the first
        #[arg(long, value_name = "NAME")]
        queue: Option<String>,
    },
    /// Find objects in a bucket that never reached the ledger
    Reconcile(Reconcile),
    /// Show what the ledger knows
    Status(Status),
    /// Show rejected rows, or retry them
    Rejects(Rejects),
    /// Check the configuration and everything it connects to
    Check {
        /// Use this configured queue instead of the first
        #[arg(long, value_name = "NAME")]
        queue: Option<String>,
        /// Only read the configuration; connect to nothing
        #[arg(long)]
        offline: bool,
    },
    /// Send pending step pointers and notices once
    Due,
    /// Bring the schema penstock up to date
    Migrate {
        /// Unregister a step or notification that is no longer configured, and drop what is pending for it
        #[arg(long, value_name = "NAME")]
        forget: Vec<String>,
    },
    /// Delete old ledger entries
    Prune(Prune),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write a man page for each command
    Man {
        /// Output directory; created if missing
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// `importer run`
#[derive(Debug, Args)]
pub struct Run {
    /// Exit after three consecutive empty polls, once the queue is empty and no message is held
    #[arg(long)]
    pub until_empty: bool,
    /// Import this many objects concurrently; overrides worker.concurrency
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(i64::from(*CONCURRENCY.start())..=i64::from(*CONCURRENCY.end())))]
    pub concurrency: Option<u32>,
    /// Serve this configured queue instead of the first
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
}

/// `importer load`
#[derive(Debug, Args)]
pub struct Load {
    /// s3://bucket/prefix, local files or globs
    #[arg(required = true, value_name = "URI")]
    pub uris: Vec<String>,
    /// Load into this dataset, whatever the match patterns say
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// Import again what is imported already
    #[arg(long, conflicts_with = "dry_run")]
    pub force: bool,
    /// Report counts and rejects, write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `importer try`
#[derive(Debug, Args)]
pub struct Try {
    /// The dataset they would load into
    #[arg(value_name = "DATASET")]
    pub dataset: String,
    /// A local file or s3://bucket/key
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Try this many rows, from the first on
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub rows: u64,
    /// Compare what comes out with the rows of the same key that stand in the table
    #[arg(long)]
    pub diff: bool,
}

/// `importer describe`
#[derive(Debug, Args)]
pub struct Describe {
    /// A local file or s3://bucket/key, of any supported format
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Only the CREATE TABLE, for psql
    #[arg(long, conflicts_with = "dataset")]
    pub table: bool,
    /// Only the [[dataset]], for the configuration
    #[arg(long)]
    pub dataset: bool,
    /// Name of table and dataset, instead of one from the path
    #[arg(long, value_name = "NAME", value_parser = new_name)]
    pub name: Option<String>,
    /// Look at this many rows
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: u64,
}

/// Reads a name for a table: what may stand in `public.NAME` as the configuration splits it.
fn new_name(text: &str) -> Result<String, String> {
    let is_name = !text.trim().is_empty() && text.len() <= 63 && !text.contains(|c: char| c == '.' || c.is_control());
    if is_name { Ok(text.to_owned()) } else { Err("it must be a table name without a schema".into()) }
}

/// `importer replay`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("selection").required(true).multiple(true)
    .args(["dataset", "prefix", "state", "since", "until", "as_recorded", "outdated"]))]
pub struct Replay {
    /// Objects of this dataset
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// Objects under this prefix
    #[arg(long, value_name = "S3_URI")]
    pub prefix: Option<Prefix>,
    /// Objects in this state
    #[arg(long)]
    pub state: Option<State>,
    /// First seen at or after this time: RFC 3339, a date, or an age such as 2h
    #[arg(long, value_name = "TIME")]
    pub since: Option<Time>,
    /// First seen before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<Time>,
    /// Also re-import objects that are already imported (never a version older than the table's)
    #[arg(long)]
    pub force: bool,
    /// Objects that stand by another recipe (mapping, SQL, command) than the configuration's, to be made anew by it
    #[arg(long, conflicts_with_all = ["force", "state", "as_recorded"])]
    pub outdated: bool,
    /// At most this many messages per second (also per minute: 30/m)
    #[arg(long, value_name = "N/s", value_parser = rate)]
    pub rate: Option<f64>,
    /// Keep the original intervals between events
    #[arg(long, conflicts_with = "rate")]
    pub as_recorded: bool,
    /// Speed factor relative to the recording
    #[arg(long, value_name = "X", requires = "as_recorded", value_parser = speed)]
    pub speed: Option<f64>,
}

/// `importer reconcile`
#[derive(Debug, Args)]
pub struct Reconcile {
    /// Objects under this prefix
    #[arg(long, value_name = "S3_URI")]
    pub prefix: Prefix,
    /// Send pointers to missing objects to the queue
    #[arg(long)]
    pub enqueue: bool,
}

/// `importer status`
#[derive(Debug, Args)]
pub struct Status {
    /// One object: s3://bucket/key, or the path of a local file
    #[arg(value_name = "OBJECT", value_parser = object_name, conflicts_with_all = ["state", "dataset"])]
    pub object: Option<ObjectPointer>,
    /// Objects in this state
    #[arg(long)]
    pub state: Option<State>,
    /// Objects of this dataset
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// `importer rejects`
#[derive(Debug, Args)]
pub struct Rejects {
    /// One object: s3://bucket/key, or the path of a local file
    #[arg(value_name = "OBJECT", value_parser = object_name)]
    pub object: Option<ObjectPointer>,
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Retry rejected rows and mark those that load as resolved
    #[arg(long, conflicts_with = "json")]
    pub replay: bool,
}

/// `importer prune`
#[derive(Debug, Args)]
pub struct Prune {
    /// Delete entries finished longer ago than this (at least 30d)
    #[arg(long, value_name = "AGE", value_parser = prune_age)]
    pub older_than: Duration,
    /// Also trim entries of current versions
    #[arg(long)]
    pub standing: bool,
}

/// Reads an object's address, or a local file's path; neither is decoded.
///
/// # Errors
/// What it lacks.
pub fn object_name(text: &str) -> Result<ObjectPointer, String> {
    let path = text.strip_prefix("file://").unwrap_or(text);
    if path.starts_with('/') {
        return Ok(ObjectPointer::new(LOCAL_BUCKET, path));
    }
    let Prefix { bucket, prefix } = text.parse()?;
    if prefix.is_empty() {
        return Err("it has no key".into());
    }
    Ok(ObjectPointer::new(bucket, prefix))
}

/// `s3://bucket/prefix`; the prefix may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// Bucket.
    pub bucket: String,
    /// What keys start with.
    pub prefix: String,
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("s3://").ok_or("it must start with s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err("it has no bucket".into());
        }
        Ok(Self { bucket: bucket.into(), prefix: prefix.into() })
    }
}

/// Reads a rate: a number a second, a minute or an hour; returns it a second.
fn rate(text: &str) -> Result<f64, String> {
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("it must be like 50/s, 30/m or 100/h".into()),
    };
    let number = number.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    Ok(number.ok_or("it must be like 50/s, greater than 0")? / seconds)
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.trim_end_matches('x').parse::<f64>().ok().filter(|speed| speed.is_finite() && *speed > 0.0);
    speed.ok_or_else(|| "it must be a number greater than 0".into())
}

fn prune_age(text: &str) -> Result<Duration, String> {
    let age = duration(text)?;
    if age < Duration::from_secs(30 * 86_400) { Err("it must be at least 30d".into()) } else { Ok(age) }
}

impl Command {
    /// Returns what the command cannot do without in the configuration.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let nothing = Needs::default();
        let database = Needs { database: true, ..nothing };
        let queue = Needs { queue: true, ..database };
        match self {
            Self::Run(_) => Needs { datasets: true, ..queue },
            Self::Load(_) | Self::Try(_) | Self::Test { .. } => Needs { datasets: true, ..database },
            Self::Describe(_) | Self::Completions { .. } | Self::Man { .. } => nothing,
            Self::Redrive { .. } => Needs { queue: true, ..nothing },
            Self::Replay(_) => queue,
            Self::Reconcile(reconcile) if reconcile.enqueue => Needs { datasets: true, ..queue },
            Self::Reconcile(_) => Needs { datasets: true, ..database },
            Self::Rejects(rejects) => Needs { datasets: rejects.replay, ..database },
            // What it connects to it reports itself.
            Self::Check { .. } => Needs { datasets: true, ..nothing },
            Self::Status(_) | Self::Migrate { .. } | Self::Due | Self::Prune(_) => database,
        }
    }

    /// Returns the name of the queue it serves, where one was given.
    #[must_use]
    pub fn queue(&self) -> Option<&str> {
        match self {
            Self::Run(Run { queue, .. }) | Self::Redrive { queue, .. } | Self::Check { queue, .. } => queue.as_deref(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
