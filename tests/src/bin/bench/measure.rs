//! What a run cost: time, CPU of client and server, WAL, memory.

use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Ticks of a processor second in /proc; Linux has used this number for as long as anyone remembers.
const TICKS_PER_SEC: f64 = 100.0;

/// What a run cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Wall time, in seconds.
    pub secs: f64,
    /// CPU of the clients, in seconds.
    pub client_cpu_secs: f64,
    /// CPU of all of the server's processes, in seconds.
    pub server_cpu_secs: f64,
    /// WAL written, in bytes.
    pub wal_bytes: u64,
    /// Peak resident memory of the largest client, in KiB.
    pub peak_kib: u64,
}

/// Runs programs at the same time until all have ended.
///
/// # Errors
/// When one cannot be started or fails; with what it printed.
pub fn run(commands: Vec<Command>) -> Result<Cost> {
    let begun = Instant::now();
    let watched: Vec<_> = commands
        .into_iter()
        .map(|mut command| {
            let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
            let child = child.with_context(|| format!("start {command:?}"))?;
            Ok(thread::spawn(move || watch(child)))
        })
        .collect::<Result<_>>()?;
    let mut cost = Cost::default();
    for watched in watched {
        let (cpu_secs, peak_kib) = watched.join().map_err(|_| anyhow::anyhow!("a watcher panicked"))??;
        cost.client_cpu_secs += cpu_secs;
        cost.peak_kib = cost.peak_kib.max(peak_kib);
    }
    cost.secs = begun.elapsed().as_secs_f64();
    Ok(cost)
}

/// Waits for a child; CPU time and memory only grow, so the last look before the end is close to the truth.
fn watch(child: Child) -> Result<(f64, u64)> {
    let pid = child.id();
    let looking = thread::spawn(move || {
        let (mut cpu_secs, mut peak_kib) = (0.0, 0);
        while let Some(seen) = cpu_of(pid, 13..15) {
            cpu_secs = seen;
            // A process that has ended and was not waited for has no memory any more.
            let Some(kib) = penstock_tests::process::peak_memory_kib(pid) else { break };
            peak_kib = kib;
            thread::sleep(Duration::from_millis(10));
        }
        (cpu_secs, peak_kib)
    });
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    looking.join().map_err(|_| anyhow::anyhow!("a watcher panicked"))
}

/// Returns the CPU time of a server and its children so far, living and ended, in seconds.
///
/// A child that ends during a look is counted twice or not at all; so it looks until two looks agree.
pub fn server_cpu_secs(postmaster: u32) -> f64 {
    let mut before = one_look(postmaster);
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(20));
        let now = one_look(postmaster);
        if (now - before).abs() <= 2.0 / TICKS_PER_SEC {
            return now;
        }
        before = now;
    }
    before
}

fn one_look(postmaster: u32) -> f64 {
    let mut secs = cpu_of(postmaster, 13..17).unwrap_or(0.0);
    let Ok(processes) = fs::read_dir("/proc") else { return secs };
    for entry in processes.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if fields(pid).is_some_and(|fields| fields.get(3).is_some_and(|parent| *parent == postmaster.to_string())) {
            secs += cpu_of(pid, 13..15).unwrap_or(0.0);
        }
    }
    secs
}

/// Returns the CPU seconds a process has used so far, and its resident memory in KiB.
pub fn process_now(pid: u32) -> Option<(f64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib = line.split_whitespace().next()?.parse().ok()?;
    Some((cpu_of(pid, 13..15)?, kib))
}

/// Returns the CPU seconds of this process's children that have ended.
pub fn ended_children_cpu_secs() -> f64 {
    cpu_of(std::process::id(), 15..17).unwrap_or(0.0)
}

/// Sums fields of /proc/PID/stat (from 0; 13 to 16 are utime, stime, and those of ended children: proc(5)).
fn cpu_of(pid: u32, range: std::ops::Range<usize>) -> Option<f64> {
    let ticks: u64 = fields(pid)?.get(range)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(ticks as f64 / TICKS_PER_SEC)
}

fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name, may contain anything; it ends at the last parenthesis.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = vec![pid.to_string(), String::new()];
    fields.extend(rest.split_whitespace().map(str::to_owned));
    Some(fields)
}
