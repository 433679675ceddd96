//! A program that an object's rows pass through on their way into the table.
//!
//! It is fed by one thread and read by the decoding thread, so that neither pipe can fill up while the other is waited
//! for. What it prints counts only if it ends with status 0: nothing is committed before.

mod account;
mod process;

use crate::{
    config::{self, InputFormat},
    object::ReadTarget,
};
use account::Account;
use decode::{Answer, Answers, Asked, Batch, DecodeError, Format, Questions, ReadOptions, RowReader, Source, json};
use parking_lot::Mutex;
pub use process::end_all;
use process::{Fed, Process};
use std::{
    io::{self, BufReader, BufWriter, Read, Write},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

/// Bytes that are handed over at once in either direction.
const PIPE_BYTES: usize = 64 * 1024;

/// Variables of the importer's own environment that a program gets.
const KEPT_VARIABLES: [&str; 3] = ["PATH", "HOME", "LANG"];

/// Why a program's output does not count.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such program, or it may not be run.
    #[error("cannot start the command {0}")]
    NotStarted(String),
    /// It ended with status 75, `EX_TEMPFAIL` of `sysexits.h`.
    #[error("the command asks to be tried again later (exit status 75)")]
    Later,
    /// It failed, or did not keep to what was agreed.
    #[error("the command {what}")]
    Failed {
        /// What it did.
        what: String,
        /// The end of what it wrote to standard error. May hold row values.
        stderr: String,
    },
}

impl CommandError {
    fn failed(what: impl Into<String>) -> Self {
        Self::Failed { what: what.into(), stderr: String::new() }
    }
}

impl From<CommandError> for DecodeError {
    fn from(error: CommandError) -> Self {
        Self::Source(error.into())
    }
}

/// A program and what it is told about an object.
#[derive(Debug, Clone)]
pub struct Invocation {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    input: InputFormat,
    idle: Duration,
    fan_out: bool,
}

impl Invocation {
    /// Returns how a dataset's program is run for an object; None when the dataset has no program.
    #[must_use]
    pub fn new(dataset: &config::Dataset, object: &ReadTarget) -> Option<Self> {
        let names = KEPT_VARIABLES.into_iter().chain(dataset.command_env.iter().map(String::as_str));
        let kept = names.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
        let version_id = object.version_id.as_deref().unwrap_or_default();
        let told = [
            ("PENSTOCK_DATASET", dataset.name.as_str()),
            ("PENSTOCK_BUCKET", &object.bucket),
            ("PENSTOCK_KEY", &object.key),
            ("PENSTOCK_VERSION_ID", version_id),
        ];
        let told = told.map(|(name, value)| (name.to_owned(), value.replace('\0', "\u{fffd}")));
        (!dataset.command.is_empty()).then(|| Self {
            arguments: dataset.command.clone(),
            variables: kept.chain(told).collect(),
            input: dataset.input_format,
            idle: Duration::from_secs(dataset.idle_timeout.0.unsigned_abs().into()),
            fan_out: dataset.fan_out,
        })
    }
}

/// Opens an object: its rows, or those that the program, if there is one, answers with. That is started, and killed when
/// `stopped` is set or the reader is dropped.
///
/// # Errors
/// As [`decode::open`], and [`CommandError::NotStarted`] within [`DecodeError::Source`].
pub fn open(
    source: Arc<dyn Source>,
    options: &ReadOptions,
    invocation: Option<&Invocation>,
    stopped: Arc<AtomicBool>,
) -> Result<Box<dyn RowReader>, DecodeError> {
    let Some(invocation) = invocation else { return decode::open(source, options) };
    match invocation.input {
        InputFormat::Rows => open_rows(decode::open(source, options)?, options, invocation, stopped),
        InputFormat::Bytes => {
            let content = decode::content(&*source, options)?;
            let output = Process::start(invocation, stopped, move |stdin: &mut dyn Write| copy(content, stdin))?;
            json::open(Box::new(BufReader::with_capacity(PIPE_BYTES, output)), Format::Ndjson, options)
        }
    }
}

/// Opens what the program answers to these rows. As [`open`].
///
/// # Errors
/// As [`open`].
pub fn open_rows(
    rows: Box<dyn RowReader>,
    options: &ReadOptions,
    invocation: &Invocation,
    stopped: Arc<AtomicBool>,
) -> Result<Box<dyn RowReader>, DecodeError> {
    let questions = Questions::new(rows)?;
    let kept_as = questions.kept_as();
    let account = Arc::new(Mutex::new(Account::new(invocation.fan_out, &options.limits.budget)));
    let feeding = Arc::clone(&account);
    let feed = move |stdin: &mut dyn Write| ask(questions, &feeding, stdin);
    let output = Process::start(invocation, stopped, feed)?;
    let output = BufReader::with_capacity(PIPE_BYTES, output);
    Ok(Box::new(Answers::new(Box::new(output), &options.limits, Box::new(Shared(account)), kept_as)))
}

/// Hands all rows over.
fn ask(mut questions: Questions, account: &Mutex<Account>, stdin: &mut dyn Write) -> Result<Fed, DecodeError> {
    let mut stdin = BufWriter::with_capacity(PIPE_BYTES, stdin);
    loop {
        let asking = questions.fill()?;
        let is_end = asking.is_end;
        account.lock().ask(asking)?;
        let written = questions.write(&mut stdin).and_then(|()| if is_end { stdin.flush() } else { Ok(()) });
        match written {
            Ok(()) if is_end => return Ok(Fed::Whole),
            Ok(()) => {}
            Err(error) => {
                // What it would flush has nowhere to go.
                drop(stdin.into_parts());
                return Fed::in_part(&error);
            }
        }
    }
}

/// Hands all bytes over. A program may know enough before it has read them all.
fn copy(mut content: Box<dyn Read + Send>, stdin: &mut dyn Write) -> Result<Fed, DecodeError> {
    let mut buffer = vec![0; PIPE_BYTES];
    loop {
        let n_bytes = match content.read(&mut buffer) {
            Ok(0) => return Ok(Fed::Whole),
            Ok(n_bytes) => n_bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        if let Err(error) = stdin.write_all(&buffer[..n_bytes]) {
            return Fed::in_part(&error).map(|_| Fed::Whole);
        }
    }
}

/// The account, as the thread that reads the answers has it.
struct Shared(Arc<Mutex<Account>>);

impl Asked for Shared {
    fn answered(&mut self, row: u64, is_only: bool) -> Result<Answer, DecodeError> {
        Ok(self.0.lock().answer(row, is_only)?)
    }

    fn refused(&mut self, row: u64) {
        self.0.lock().refuse(row);
    }

    fn take_rejects(&mut self, batch: &mut Batch) {
        self.0.lock().take_rejects(batch);
    }

    fn finish(&mut self) -> Result<(), DecodeError> {
        Ok(self.0.lock().check_whole()?)
    }

    fn unreadable(&self, why: &str) -> DecodeError {
        CommandError::failed(format!("gave {why}")).into()
    }
}
