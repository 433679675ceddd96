//! The command line.

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand};
use service::{logging::Format, time::Time};
use std::path::PathBuf;

/// Sizes a pool of importers to the depth of its queues.
#[derive(Debug, Parser)]
#[command(name = "scaler", version = VERSION, arg_required_else_help = true)]
pub struct Cli {
    /// Configuration file
    #[arg(long, global = true, env = "SCALER_CONFIG", default_value = "scaler.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// Format of log lines on stderr
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The package's version and the commit it was built from.
pub const VERSION: &str = env!("PENSTOCK_VERSION");

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Observe, decide and apply, every tick, for every pool
    Run,
    /// Run one tick for every pool and exit (for cron)
    Once,
    /// Read observations from stdin and write decisions to stdout; changes nothing
    Decide(Decide),
    /// Run the real decision against a simulated queue, pool and database
    Simulate(Simulate),
    /// Print past decisions and why they were made
    History(History),
    /// Hold a pool at a size by hand until a time, whatever the policy wants; a second pause replaces the first
    Pause(Pause),
    /// End a pool's pause before its time
    Resume(Resume),
    /// Check the configuration, permissions and reachability, and do one dry tick
    Check,
    /// Print a completion script for a shell
    Completions(Completions),
    /// Write a man page for each command
    Man(Man),
}

/// Arguments of `completions`.
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Args, Debug)]
pub struct Man {
    /// Output directory; created if missing
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Arguments of `decide`.
#[derive(Args, Debug)]
pub struct Decide {
    /// One observation per line, one decision per line, state carried from line to line
    #[arg(long)]
    pub stream: bool,
    /// The pool whose policy decides; may be left out when there is one
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,
}

/// Arguments of `simulate`.
#[derive(Args, Debug)]
pub struct Simulate {
    /// A built-in workload's name, or a file that describes one; default: all built-in workloads
    #[arg(long, value_name = "FILE", conflicts_with = "trace")]
    pub workload: Option<String>,
    /// A history to play again, as `scaler history --json` prints it; also with other settings than the pool had; - for standard
    /// input
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// deadline, backlog, keda or aws; default: all of them
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,
    /// The same seed gives the same run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Write a chart of the first run, or of the history with other settings
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Print every change of the number and its explanation
    #[arg(long)]
    pub explain: bool,
    /// Measure the deadline policy on twenty seeds of every built-in workload, from --seed on; exit 1 when a bar
    /// is missed
    #[arg(long, conflicts_with_all = ["workload", "trace", "policy", "plot"])]
    pub bars: bool,
    /// The pool of the configuration whose limits are used
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,
}

/// Arguments of `pause`.
#[derive(Args, Debug)]
pub struct Pause {
    /// The pool; may be left out when there is one
    #[arg(long, value_name = "P")]
    pub pool: Option<String>,
    /// Workers, from 0 to the pool's maximum
    #[arg(long, value_name = "N")]
    pub at: u32,
    /// When it ends by itself: a time like 2026-01-31T12:00:00Z, a date, or a time from now such as 2h
    #[arg(long, value_name = "T", value_parser = coming)]
    pub until: DateTime<Utc>,
}

/// Arguments of `resume`.
#[derive(Args, Debug)]
pub struct Resume {
    /// The pool; may be left out when there is one
    #[arg(long, value_name = "P")]
    pub pool: Option<String>,
}

/// Arguments of `history`.
#[derive(Args, Debug)]
pub struct History {
    /// Only this pool's decisions
    #[arg(long, value_name = "P")]
    pub pool: Option<String>,
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
    /// What was decided at this time: the last decision before it and what followed within a minute
    #[arg(long, value_name = "T", value_parser = time, conflicts_with_all = ["since", "until"])]
    pub at: Option<DateTime<Utc>>,
    /// From this time on: RFC 3339, a date, or an age such as 2h
    #[arg(long, value_name = "T", value_parser = time)]
    pub since: Option<DateTime<Utc>>,
    /// Up to this time
    #[arg(long, value_name = "T", value_parser = time)]
    pub until: Option<DateTime<Utc>>,
    /// Under each decision, what every guard that was asked would have allowed, and which one was decisive
    #[arg(long, conflicts_with = "json")]
    pub guards: bool,
    /// Only decisions that changed the pool, or were not applied
    #[arg(long)]
    pub changes: bool,
    /// At most this many decisions, the newest ones
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub limit: u32,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    Ok(text.parse::<Time>()?.at(Utc::now()))
}

fn coming(text: &str) -> Result<DateTime<Utc>, String> {
    let now = Utc::now();
    let time = match text.parse() {
        Ok(Time::At(time)) => time,
        Ok(Time::Ago(length)) => now + length,
        Err(_) => return Err("it must be a time like 2026-01-31T12:00:00Z, a date, or a time from now like 2h".into()),
    };
    if time <= now { Err("it is past".to_owned()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_of_the_contract_are_read() {
        for line in [
            "run",
            "once",
            "decide",
            "decide --stream --pool importers",
            "simulate --workload burst --policy keda --seed 3 --plot a.svg",
            "simulate --trace t.jsonl",
            "history --pool importers --json --at 2026-01-01T00:00:00Z",
            "history --since 2h --guards",
            "pause --pool importers --at 4 --until 2h",
            "pause --at 0 --until 2126-01-01",
            "resume --pool importers",
            "check --config other.toml --log-format json",
            "completions zsh",
            "man /tmp/man",
        ] {
            let args = std::iter::once("scaler").chain(line.split(' '));
            Cli::try_parse_from(args).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn a_pause_ends_in_the_future() {
        let parse = |until: &str| Cli::try_parse_from(["scaler", "pause", "--at", "4", "--until", until]);
        let Command::Pause(pause) = parse("2h").expect("a time from now").command else { panic!("not a pause") };
        assert_eq!((pause.until - Utc::now()).num_minutes(), 119);
        for (until, expected) in
            [("2026-01-01", "it is past"), ("0s", "it is past"), ("noon", "a time from now like 2h")]
        {
            let error = parse(until).expect_err(until).to_string();
            assert!(error.contains("--until") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn wrong_time_is_refused() {
        let error = Cli::try_parse_from(["scaler", "history", "--at", "yesterday"]).unwrap_err();
        assert!(error.to_string().contains("--at"), "{error}");
    }
}
