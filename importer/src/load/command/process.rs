//! The program's process: fed, read, and ended.

use super::{CommandError, Invocation};
use decode::DecodeError;
use parking_lot::Mutex;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process_group},
};
use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// `EX_TEMPFAIL` of `sysexits.h`.
const TRY_LATER: i32 = 75;
/// Bytes of standard error that are kept, the last ones.
const STDERR_BYTES: usize = 4096;
/// How often a program that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// The same at its end.
const LAST_LOOK: Duration = Duration::from_millis(2);
/// How long a pipe may stay open after the program has ended: something that it started has it.
const LEFT_OPEN: Duration = Duration::from_secs(1);

/// The groups of programs that run.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Kills all programs that run and what they started; for when this process is about to end and they are not looked after
/// any more.
pub fn end_all() {
    for group in RUNNING.lock().iter().filter_map(|group| Pid::from_raw(*group)) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// How much of the object a program took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// All of it.
    Whole,
    /// It closed its standard input before.
    InPart,
}

impl Fed {
    /// Returns what an error of writing to a program says.
    ///
    /// # Errors
    /// Of any other kind than that the program does not read on.
    pub fn in_part(error: &io::Error) -> Result<Self, DecodeError> {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(Self::InPart),
            _ => Err(CommandError::failed(format!("cannot be written to: {error}")).into()),
        }
    }
}

/// A running program, and what it prints. Reading fails at the end of the output unless all went well.
pub struct Process {
    child: Child,
    stdout: ChildStdout,
    fed: Receiver<Result<Fed, DecodeError>>,
    stderr: Receiver<Vec<u8>>,
    /// How it ended.
    status: Option<ExitStatus>,
    stopped: Arc<AtomicBool>,
    idle: Duration,
    activity: Arc<Activity>,
    is_finished: bool,
}

/// When a byte went in or out last, and whether the program is who is waited for.
struct Activity {
    started: Instant,
    last_byte_ms: AtomicU64,
    /// There are bytes for it, or there will be no more; else the object is waited for, which has limits of its own.
    has_input: AtomicBool,
}

impl Activity {
    fn note(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_byte_ms.store(now, Ordering::Relaxed);
    }

    /// The program has bytes to take, or everything.
    fn offer(&self, has_input: bool) {
        self.note();
        self.has_input.store(has_input, Ordering::Relaxed);
    }

    fn idle(&self) -> Duration {
        if !self.has_input.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last_byte_ms.load(Ordering::Relaxed)))
    }
}

impl Process {
    /// Starts a program; `feed` writes to it on a thread of its own.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`].
    pub fn start(
        invocation: &Invocation,
        stopped: Arc<AtomicBool>,
        feed: impl FnOnce(&mut dyn Write) -> Result<Fed, DecodeError> + Send + 'static,
    ) -> Result<Self, CommandError> {
        let (program, arguments) = invocation.arguments.split_first().expect("a command names its program");
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(invocation.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that what it starts ends with it.
            .process_group(0)
            .spawn()
            .map_err(|error| CommandError::NotStarted(format!("{program:?}: {error}")))?;
        RUNNING.lock().insert(Pid::from_child(&child).as_raw_nonzero().get());
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            unreachable!("all three are piped");
        };
        let (started, last_byte_ms, has_input) = (Instant::now(), AtomicU64::new(0), AtomicBool::new(false));
        let activity = Arc::new(Activity { started, last_byte_ms, has_input });
        let mut stdin = Noted { inner: stdin, activity: Arc::clone(&activity) };
        // The threads may outlive us where something that the program started keeps a pipe open.
        let feeding = Arc::clone(&activity);
        let fed = on_thread(move || {
            let fed = feed(&mut stdin);
            drop(stdin);
            feeding.offer(true);
            fed
        });
        let stderr = on_thread(move || last_bytes(stderr));
        let (status, is_finished, idle) = (None, false, invocation.idle);
        Ok(Self { child, stdout, fed, stderr, status, stopped, idle, activity, is_finished })
    }

    /// Returns whether a program that is waited for has no more time.
    ///
    /// # Errors
    /// Why.
    fn check_time(&self) -> Result<(), CommandError> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(CommandError::failed("was stopped"));
        }
        if self.activity.idle() > self.idle {
            return Err(CommandError::failed(format!(
                "neither read nor wrote a byte for {} s (idle_timeout)",
                self.idle.as_secs()
            )));
        }
        Ok(())
    }

    /// Waits until there is something to read, or nothing will be any more.
    fn wait_for_output(&mut self) -> io::Result<()> {
        let look = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
        let mut ended: Option<Instant> = None;
        loop {
            let mut fds = [PollFd::new(&self.stdout, PollFlags::IN)];
            match poll(&mut fds, Some(&look)) {
                Ok(0) => {}
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if self.has_ended() {
                if ended.get_or_insert_with(Instant::now).elapsed() > LEFT_OPEN {
                    return Err(io::Error::other(self.failed("ended and left its output open")));
                }
                continue;
            }
            if let Err(late) = self.check_time() {
                self.kill();
                return Err(io::Error::other(DecodeError::from(late)));
            }
        }
    }

    /// Waits for the end, and returns why the output does not count.
    fn finish(&mut self) -> Result<(), DecodeError> {
        self.is_finished = true;
        while !self.has_ended() {
            if let Err(late) = self.check_time() {
                self.kill();
                return Err(late.into());
            }
            thread::sleep(LAST_LOOK);
        }
        // What it started has nothing more to say.
        self.kill();
        // Whoever feeds it may be waiting for the object, which has limits of its own.
        let fed = loop {
            match self.fed.recv_timeout(LOOK) {
                // The object's own fault, or the store's: of no account is what a program makes of half of it.
                Ok(fed) => break fed?,
                Err(RecvTimeoutError::Timeout) if self.stopped.load(Ordering::Relaxed) => {
                    return Err(self.failed("was stopped"));
                }
                // Something outside its group has the pipe, and does not read.
                Err(RecvTimeoutError::Timeout) if self.activity.idle() > self.idle => {
                    return Err(self.failed("ended and left its input open"));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(DecodeError::Corrupt("what makes no sense to the decoder (it panicked)".into()));
                }
            }
        };
        let status = self.status.unwrap_or_default();
        match (status.code(), status.signal()) {
            (Some(0), _) if fed == Fed::InPart => Err(self.failed("ended before it had read all rows")),
            (Some(0), _) => Ok(()),
            (Some(TRY_LATER), _) => Err(CommandError::Later.into()),
            (Some(code), _) => Err(self.failed(&format!("ended with status {code}"))),
            (None, signal) => Err(self.failed(&format!("was ended by signal {}", signal.unwrap_or_default()))),
        }
    }

    fn failed(&self, what: &str) -> DecodeError {
        let stderr = self.stderr.recv_timeout(LEFT_OPEN).unwrap_or_default();
        // Of a character that was cut off at the beginning nothing is kept.
        let rest = stderr.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
        let stderr = String::from_utf8_lossy(&stderr[rest..]).into_owned();
        CommandError::Failed { what: what.to_owned(), stderr }.into()
    }

    /// Returns whether the program has ended. What is not known of it has.
    fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap_or(Some(ExitStatus::from_raw(1 << 8)));
        }
        self.status.is_some()
    }

    /// Kills the program and what it started. Its group keeps its number for as long as anyone is in it.
    fn kill(&self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }
}

impl Read for Process {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_finished || buffer.is_empty() {
            return Ok(0);
        }
        // Until now it may have waited for us. One that always has something to say is stopped, too.
        self.activity.note();
        if self.stopped.load(Ordering::Relaxed) {
            self.kill();
            return Err(io::Error::other(self.failed("was stopped")));
        }
        self.wait_for_output()?;
        match self.stdout.read(buffer)? {
            0 => self.finish().map(|()| 0).map_err(io::Error::other),
            n_bytes => Ok(n_bytes),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also what it started and left behind.
        self.kill();
        if self.status.is_none() {
            // Killed, it ends at once.
            drop(self.child.wait());
        }
        RUNNING.lock().remove(&Pid::from_child(&self.child).as_raw_nonzero().get());
    }
}

/// A writer whose bytes are noted.
struct Noted<W> {
    inner: W,
    activity: Arc<Activity>,
}

impl<W: Write> Write for Noted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.activity.offer(true);
        let written = self.inner.write(bytes);
        self.activity.offer(false);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Does work on a thread, and returns where its result comes.
fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Nobody waits for it any more where the load was given up.
        drop(sender.send(work()));
    });
    receiver
}

/// Reads to the end, and keeps the last [`STDERR_BYTES`].
fn last_bytes(mut from: impl Read) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; STDERR_BYTES]);
    // What cannot be read is only less to tell.
    while let Ok(n_bytes @ 1..) = from.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..n_bytes]);
        kept.drain(..kept.len().saturating_sub(STDERR_BYTES));
    }
    kept
}
