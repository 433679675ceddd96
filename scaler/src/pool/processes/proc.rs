//! Reading `/proc`: which processes carry a mark, and whether a process id still means the same process.

use anyhow::Context;
use chrono::{DateTime, Utc};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use std::{fmt, fs};

/// Clock ticks per second in `/proc`, the same on every Linux that Rust runs on.
const TICKS_PER_SEC: f64 = 100.0;

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since the machine did.
    pub started: u64,
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid, self.started)
    }
}

/// A process that carries the mark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proc {
    /// Which one.
    pub id: ProcessId,
    /// Its parent's number.
    pub parent: i32,
    /// When it started.
    pub started_at: Option<DateTime<Utc>>,
}

/// Returns every live process whose environment has the variable with that value.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn marked(variable: &str, value: &str) -> anyhow::Result<Vec<Proc>> {
    let entry = format!("{variable}={value}");
    let booted_at = booted_at();
    let mut found = Vec::new();
    for directory in fs::read_dir("/proc").context("list /proc")?.flatten() {
        let Some(pid) = directory.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // Other users' processes cannot be read, and are not ours.
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        if !environment.split(|byte| *byte == 0).any(|part| part == entry.as_bytes()) {
            continue;
        }
        let Some(stat) = stat(pid) else { continue };
        let started_at = booted_at.and_then(|booted| {
            let millis = (stat.started as f64 / TICKS_PER_SEC * 1000.0) as i64;
            booted.checked_add_signed(chrono::Duration::milliseconds(millis))
        });
        found.push(Proc { id: ProcessId { pid, started: stat.started }, parent: stat.parent, started_at });
    }
    found.sort_by_key(|process| process.id);
    Ok(found)
}

/// Returns the identity of a process that has just been started.
pub fn id_of(pid: i32) -> Option<ProcessId> {
    read_stat(pid).map(|stat| ProcessId { pid, started: stat.started })
}

/// Sends a signal, unless the process is gone.
///
/// # Errors
/// When the process is there and may not be signalled.
pub fn signal(id: ProcessId, signal: Signal) -> anyhow::Result<()> {
    // The number may have been given to another process meanwhile.
    if stat(id.pid).is_none_or(|stat| stat.started != id.started) {
        return Ok(());
    }
    let pid = Pid::from_raw(id.pid).context("a process without a number")?;
    match kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => {
            let error = std::io::Error::from_raw_os_error(error.raw_os_error());
            Err(error).with_context(|| format!("send {signal:?} to process {}", id.pid))
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    zombie: bool,
    parent: i32,
    started: u64,
}

/// Reads a live process's line; one that only waits to be reaped is not alive.
fn stat(pid: i32) -> Option<Stat> {
    read_stat(pid).filter(|stat| !stat.zombie)
}

fn read_stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads `pid (name) state parent …`; the name may hold spaces and brackets, and the 22nd field is the start.
fn parse_stat(line: &str) -> Option<Stat> {
    let rest = &line[line.rfind(')')? + 1..];
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Stat { zombie: matches!(state, "Z" | "X"), parent, started })
}

fn booted_at() -> Option<DateTime<Utc>> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let secs = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    DateTime::from_timestamp(secs, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name_is() {
        let line = "42 (a) b) (c) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1\n";
        assert_eq!(parse_stat(line), Some(Stat { zombie: false, parent: 7, started: 987_654 }));
        let line = line.replace(" S 7", " Z 7");
        assert!(parse_stat(&line).unwrap().zombie);
        assert_eq!(parse_stat("42 (a"), None);
    }

    #[test]
    fn this_process_has_an_identity_and_a_start() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let id = id_of(pid).unwrap();
        assert_eq!(id_of(pid), Some(id));
        assert!(booted_at().unwrap() < Utc::now());
    }

    #[test]
    fn signal_to_a_process_that_is_gone_is_no_error() {
        let mut child = std::process::Command::new("sleep").arg("0").spawn().unwrap();
        let id = id_of(i32::try_from(child.id()).unwrap());
        child.wait().unwrap();
        signal(id.unwrap_or(ProcessId { pid: 1, started: 1 }), Signal::TERM).unwrap();
    }
}
