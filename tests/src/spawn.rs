//! Child processes that cannot outlive us.

use anyhow::{Context as _, Result, ensure};
use std::{
    ffi::OsStr,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
};

/// A command to start and where to answer.
type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// Returns a command whose process gets `signal` (as `INT`) when we die, run as `user` if given.
///
/// Where `setpriv` does not exist the process is not tied to us.
///
/// # Errors
/// When a user is given and `setpriv` does not exist.
pub fn tied(program: impl AsRef<OsStr>, signal: &str, user: Option<&str>) -> Result<Command> {
    let Some(setpriv) = find_in_path("setpriv") else {
        ensure!(user.is_none(), "setpriv (package util-linux) is needed to run a server as another user");
        return Ok(Command::new(program));
    };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", signal]);
    if let Some(user) = user {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.arg("--").arg(program);
    Ok(command)
}

/// Starts the command from a thread that lives as long as this process.
///
/// The kernel ends a tied child when the *thread* that started it ends, and the threads of a test
/// or of a runtime end early.
///
/// # Errors
/// When the program cannot be started.
pub fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, incoming) = mpsc::channel::<Request>();
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, answer) in incoming {
                    // A Ctrl-C is for us alone: we end our children, in order.
                    command.process_group(0);
                    // Who asked may have given up meanwhile; the child is dropped then.
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        requests
    });
    let (answer, answered) = mpsc::channel();
    spawner.send((command, answer)).map_err(io::Error::other)?;
    answered.recv().map_err(io::Error::other)?
}

/// Sends a signal (as `TERM`) to one process.
///
/// # Errors
/// When there is no such process, or it is not ours.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    // The shell's own `kill` is everywhere; the program of that name is not.
    let output = Command::new("sh").arg("-c").arg(format!("kill -s {name} {pid}")).output().context("run sh")?;
    ensure!(output.status.success(), "send {name} to {pid}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started, or fails; with what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Returns the first program of that name in `PATH`.
#[must_use]
pub fn find_in_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Returns a port of 127.0.0.1 that was free a moment ago.
///
/// # Errors
/// When there is none.
pub fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Returns the end of a log file, for error messages.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned()
}
