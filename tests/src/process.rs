//! The built binaries as child processes: started, watched, disturbed, judged.

use crate::{spawn, wait};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// The directory with the binaries, where it is not the one this program was built into.
pub const BIN_DIR_VARIABLE: &str = "PENSTOCK_BIN_DIR";

/// Variables of the caller that must not reach a program under test.
const HIDDEN_PREFIXES: [&str; 11] = [
    "AWS_",
    "PG",
    "DATABASE_URL",
    "QUEUE_URL",
    "IMPORTER_",
    "SCALER_",
    "CONSOLE_",
    "REPORTS_",
    "PENSTOCK_",
    "RUST_LOG",
    "HTTP",
];

/// What to run.
#[derive(Debug, Clone)]
pub struct Program {
    name: String,
    arguments: Vec<OsString>,
    variables: Vec<(String, String)>,
    expected_lines: Vec<String>,
    directory: Option<PathBuf>,
    watch_memory: bool,
}

impl Program {
    /// Names a binary of the workspace.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            arguments: Vec::new(),
            variables: Vec::new(),
            expected_lines: Vec::new(),
            directory: None,
            watch_memory: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = impl Into<OsString>>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Sets variables.
    #[must_use]
    pub fn envs(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// Runs it in this directory.
    #[must_use]
    pub fn in_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Lets a warning or error line pass that contains `text`.
    #[must_use]
    pub fn expect_line(mut self, text: &str) -> Self {
        self.expected_lines.push(text.to_owned());
        self
    }

    /// Watches the peak of resident memory until the process ends.
    #[must_use]
    pub fn watch_memory(mut self) -> Self {
        self.watch_memory = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the binary is not built, or cannot be started.
    pub fn start(self) -> Result<Process> {
        let mut command = spawn::tied(binary(&self.name)?, "KILL", None)?;
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if HIDDEN_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        command.args(&self.arguments).envs(self.variables);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn::spawn(command).with_context(|| format!("start {}", self.name))?;
        let output = Arc::new(Output::default());
        let readers = vec![
            read_lines(child.stdout.take().context("no stdout")?, Arc::clone(&output), Stream::Out),
            read_lines(child.stderr.take().context("no stderr")?, Arc::clone(&output), Stream::Err),
        ];
        let peak_kib = Arc::new(AtomicU64::new(0));
        if self.watch_memory {
            watch_memory(child.id(), Arc::clone(&peak_kib));
        }
        Ok(Process {
            pid: child.id(),
            name: self.name,
            child: Mutex::new(child),
            output,
            readers: Mutex::new(readers),
            expected_lines: self.expected_lines,
            peak_kib,
        })
    }

    /// Runs it to its end and returns its status, standard output and standard error.
    ///
    /// # Errors
    /// When it cannot be started, or does not end within `limit`.
    pub async fn run(self, limit: Duration) -> Result<Ended> {
        let process = self.start()?;
        let status = process.wait_exit(limit).await?;
        Ok(Ended { status, stdout: process.stdout(), stderr: process.stderr() })
    }
}

/// How a process ended and what it printed.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A running binary; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    output: Arc<Output>,
    readers: Mutex<Vec<thread::JoinHandle<()>>>,
    expected_lines: Vec<String>,
    peak_kib: Arc<AtomicU64>,
}

impl Process {
    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for a line, on either stream, that contains `text`; returns it.
    ///
    /// # Errors
    /// When it does not come within `limit` or before the process ends; with what it printed.
    pub async fn wait_for_line(&self, text: &str, limit: Duration) -> Result<String> {
        self.wait_for(&format!("a line with {text:?}"), limit, |line| line.contains(text)).await
    }

    /// Waits for a line, on either stream, that `matches`; returns it.
    ///
    /// # Errors
    /// As [`Self::wait_for_line`].
    pub async fn wait_for(&self, what: &str, limit: Duration, matches: impl Fn(&str) -> bool) -> Result<String> {
        let found = wait::until(what, limit, || async {
            let ended = self.try_wait()?;
            if let Some(line) = self.output.lines().iter().find(|(_, line)| matches(line)) {
                return Ok(Some(line.1.clone()));
            }
            if let Some(status) = ended {
                bail!("it ended with {status}");
            }
            Ok(None)
        });
        found.await.with_context(|| format!("wait for {what}, {}", self.transcript()))
    }

    /// Waits for the process to end.
    ///
    /// # Errors
    /// When it does not end within `limit`; with what it printed.
    pub async fn wait_exit(&self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        let ended = wait::until(&what, limit, || async { self.try_wait() });
        ended.await.with_context(|| self.transcript())
    }

    /// Waits for the process to end, however long that takes; looks every `interval`.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn wait_exit_forever(&self, interval: Duration) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(interval).await;
        }
    }

    /// Waits for an exit with status 0, and judges the log lines.
    ///
    /// # Errors
    /// When it takes longer than `limit`, ends otherwise, or logged a warning or error that was not expected.
    pub async fn finish(&self, limit: Duration) -> Result<()> {
        let status = self.wait_exit(limit).await?;
        ensure!(status.success(), "it ended with {status}, {}", self.transcript());
        self.check_log()
    }

    /// Asks it to drain and end (`TERM`), then as [`Self::finish`].
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub async fn terminate(&self, limit: Duration) -> Result<()> {
        self.signal("TERM")?;
        self.finish(limit).await
    }

    /// Ends it at whatever instruction it is, and returns when it is gone.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&self) -> Result<()> {
        let mut child = self.child();
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends a signal (as `STOP`).
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, name: &str) -> Result<()> {
        ensure!(self.try_wait()?.is_none(), "it had ended already, {}", self.transcript());
        spawn::signal(self.pid, name)
    }

    /// Freezes it; it keeps its connections and does nothing.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn freeze(&self) -> Result<()> {
        self.signal("STOP")
    }

    /// Lets it run on.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn thaw(&self) -> Result<()> {
        self.signal("CONT")
    }

    /// Returns whether it still runs.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.try_wait()?.is_none())
    }

    /// Returns everything on standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.output.text(Stream::Out)
    }

    /// Returns everything on standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.output.text(Stream::Err)
    }

    /// Returns the peak of resident memory, in KiB; needs [`Program::watch_memory`].
    #[must_use]
    pub fn peak_memory_kib(&self) -> u64 {
        self.peak_kib.load(Ordering::Relaxed).max(peak_memory_kib(self.pid).unwrap_or_default())
    }

    /// Fails on a warning or error line that was not expected, or one that is no log line at all (as a panic's).
    ///
    /// # Errors
    /// With the lines.
    pub fn check_log(&self) -> Result<()> {
        let lines = self.output.lines();
        let unexpected: Vec<&str> = lines
            .iter()
            .filter(|(stream, line)| *stream == Stream::Err && is_alarming(line))
            .map(|(_, line)| line.as_str())
            .filter(|line| !self.expected_lines.iter().any(|expected| line.contains(expected)))
            .collect();
        ensure!(unexpected.is_empty(), "{} logged what was not expected:\n{}", self.name, unexpected.join("\n"));
        Ok(())
    }

    fn try_wait(&self) -> Result<Option<ExitStatus>> {
        let status = self.child().try_wait()?;
        if status.is_some() {
            // Its pipes are closed: what it printed last is complete when the readers are done.
            for reader in self.readers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                let _ = reader.join();
            }
        }
        Ok(status)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn transcript(&self) -> String {
        let lines = self.output.lines();
        let shown = lines.iter().skip(lines.len().saturating_sub(60)).map(|(_, line)| line.as_str());
        format!("{} (pid {}) printed:\n{}", self.name, self.pid, shown.collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Returns the path of a built binary.
///
/// # Errors
/// When it is not there.
pub fn binary(name: &str) -> Result<PathBuf> {
    let given = std::env::var_os(BIN_DIR_VARIABLE).map(PathBuf::from);
    let ourselves = std::env::current_exe()?;
    // target/debug/deps/it-0123 and target/release/demo both stand below the directory wanted.
    let beside = ourselves.ancestors().skip(1).take(2).map(Path::to_path_buf);
    let directories: Vec<PathBuf> = given.map_or_else(|| beside.collect(), |given| vec![given]);
    let found = directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built (cargo build), looked in {directories:?}"))
}

/// Returns the peak of a running process's resident memory, in KiB.
#[must_use]
pub fn peak_memory_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

/// What a process printed, in order of arrival.
#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Vec<(Stream, String)>>,
}

impl Output {
    fn lines(&self) -> MutexGuard<'_, Vec<(Stream, String)>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self, wanted: Stream) -> String {
        let lines = self.lines();
        lines.iter().filter(|(stream, _)| *stream == wanted).map(|(_, line)| format!("{line}\n")).collect()
    }
}

fn read_lines(from: impl Read + Send + 'static, output: Arc<Output>, stream: Stream) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            output.lines().push((stream, text));
            line.clear();
        }
    })
}

/// The peak only grows, so the last look before the end is close to the truth.
fn watch_memory(pid: u32, peak_kib: Arc<AtomicU64>) {
    thread::spawn(move || {
        while let Some(peak) = peak_memory_kib(pid) {
            peak_kib.fetch_max(peak, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20));
        }
    });
}

/// A JSON log line of level WARN or ERROR, or no JSON at all.
fn is_alarming(line: &str) -> bool {
    if line.trim().is_empty() {
        return false;
    }
    let Ok(Value::Object(entry)) = serde_json::from_str::<Value>(line) else { return true };
    !matches!(entry.get("level").and_then(Value::as_str), Some("INFO" | "DEBUG" | "TRACE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_errors_and_panics_alarm() {
        for (line, alarming) in [
            (r#"{"timestamp":"t","level":"INFO","fields":{"message":"started"}}"#, false),
            (r#"{"timestamp":"t","level":"WARN","fields":{"message":"hm"}}"#, true),
            (r#"{"timestamp":"t","level":"ERROR","fields":{"message":"no"}}"#, true),
            ("thread 'main' panicked at src/main.rs:1:1:", true),
            ("", false),
        ] {
            assert_eq!(is_alarming(line), alarming, "{line}");
        }
    }
}
