//! Workers as child processes on this machine.
//!
//! The members are asked of the system, not remembered: every child
//! carries the pool's mark in its environment. So a scaler that takes over finds
//! the children of the one before, also one that was started a moment before
//! its parent was killed, and none is counted twice.

mod blocking;
mod proc;
mod trial;

use super::{Abilities, Applied, Key, Member, Members, Phase, Plan, Remark, WorkerPool};
use anyhow::{Context, bail};
use blocking::Blocking;
use proc::{Proc, ProcessId};
use rustix::process::Signal;
use service::{host::host, words::chain};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::process::{Child, Command};
use tracing::{info, warn};

/// The variable that marks a child with its pool.
pub const MARK_VARIABLE: &str = "PENSTOCK_POOL";

/// How long a stopping scaler waits for its children; an importer's own limit is 110 s.
const CLOSE_LIMIT: Duration = Duration::from_secs(150);

/// Workers of one pool on this machine.
pub struct Processes {
    settings: Arc<Settings>,
    mark: String,
    host: String,
    /// What may block a thread: reading `/proc`, and starting from a file system that does not answer.
    looking: Blocking<anyhow::Result<Vec<Proc>>>,
    starting: Blocking<anyhow::Result<Child>>,
    /// Children this process started itself and has to reap.
    children: HashMap<ProcessId, Child>,
    /// The processes seen at the last look.
    known: BTreeSet<ProcessId>,
    /// Those that were ended.
    leaving: BTreeSet<ProcessId>,
}

/// What the children are.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables added to the scaler's own.
    pub env: BTreeMap<String, String>,
    /// Where they run.
    pub directory: Option<PathBuf>,
    /// Where their output goes.
    pub log_directory: Option<PathBuf>,
}

impl Processes {
    /// Prepares a pool; `mark` tells its children from all other processes of this machine. A look at them, or a start,
    /// may take this long.
    pub fn new(settings: Settings, mark: String, limit: Duration) -> Self {
        Self {
            settings: Arc::new(settings),
            mark,
            host: host(),
            looking: Blocking::new("this machine's /proc", limit),
            starting: Blocking::new("the start of a process", limit),
            children: HashMap::new(),
            known: BTreeSet::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// Returns the processes that carry the mark.
    ///
    /// A wrapper that did not replace itself by its program carries it too; the program is its child, and the worker.
    async fn look(&mut self) -> anyhow::Result<Vec<Proc>> {
        let mark = self.mark.clone();
        let marked = self.looking.run(move || proc::marked(MARK_VARIABLE, &mark)).await??;
        let parents: BTreeSet<i32> = marked.iter().map(|process| process.parent).collect();
        Ok(marked.into_iter().filter(|process| !parents.contains(&process.id.pid)).collect())
    }

    fn reap(&mut self) {
        let leaving = &self.leaving;
        self.children.retain(|id, child| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                if status.success() {
                    info!(worker.pid = id.pid, "worker process ended");
                } else if leaving.contains(id) {
                    warn!(worker.pid = id.pid, status = %status, "worker process did not exit cleanly");
                } else {
                    warn!(worker.pid = id.pid, status = %status, "worker process ended by itself");
                }
                false
            }
            Err(_) => false,
        });
    }

    async fn start(&mut self) -> anyhow::Result<ProcessId> {
        let (settings, mark) = (Arc::clone(&self.settings), self.mark.clone());
        let child = self.starting.run(move || spawn(&settings, &mark)).await??;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).context("the worker ended at once")?;
        let id = proc::id_of(pid).context("the worker ended at once")?;
        self.children.insert(id, child);
        self.known.insert(id);
        Ok(id)
    }

    /// Asks a process to finish what it has and go; once, since a second signal ends it at once.
    fn drain(&mut self, id: ProcessId) -> anyhow::Result<()> {
        if self.leaving.insert(id) {
            proc::signal(id, Signal::TERM)?;
        }
        Ok(())
    }

    async fn drain_all(&mut self) {
        let Ok(processes) = self.look().await else { return };
        for process in processes {
            if let Err(error) = self.drain(process.id) {
                warn!(worker.pid = process.id.pid, error = chain(&error), "could not drain a worker process");
            }
        }
    }
}

impl WorkerPool for Processes {
    async fn members(&mut self) -> anyhow::Result<Members> {
        self.reap();
        let seen = self.look().await?;
        let alive: BTreeSet<ProcessId> = seen.iter().map(|process| process.id).collect();
        self.leaving.retain(|id| alive.contains(id));
        self.known = alive;
        let member = |process: &Proc| Member {
            id: process.id.to_string(),
            key: Key::Process(self.host.clone(), process.id.pid),
            phase: if self.leaving.contains(&process.id) { Phase::Draining } else { Phase::Running },
            protected: false,
            since: process.started_at,
        };
        Ok(Members { members: seen.iter().map(member).collect(), ..Members::default() })
    }

    async fn carry_out(&mut self, plan: &Plan, applied: &mut Applied) {
        let known = |pool: &Self, text: &String| pool.known.iter().copied().find(|id| id.to_string() == *text);
        for text in &plan.replace {
            let Some(id) = known(self, text) else { continue };
            applied.note_ended(text, proc::signal(id, Signal::KILL));
        }
        for text in &plan.end {
            let Some(id) = known(self, text) else { continue };
            applied.note_ended(text, self.drain(id));
        }
        for _ in 0..plan.start {
            match self.start().await {
                Ok(id) => {
                    applied.started += 1;
                    applied.started_ids.push(id.to_string());
                }
                Err(error) => {
                    // The next one would fail alike.
                    applied.problems.push(chain(&error));
                    break;
                }
            }
        }
    }

    fn abilities(&self) -> Abilities {
        Abilities { drain_busy: true, end_silent: true }
    }

    async fn hand_over(&mut self) {
        self.reap();
        self.drain_all().await;
    }

    async fn close(&mut self) {
        self.drain_all().await;
        let deadline = tokio::time::Instant::now() + CLOSE_LIMIT;
        while tokio::time::Instant::now() < deadline && self.look().await.is_ok_and(|left| !left.is_empty()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.reap();
        }
        self.reap();
    }

    async fn check(&mut self) -> anyhow::Result<Vec<Remark>> {
        let settings = Arc::clone(&self.settings);
        let Some(program) = settings.command.first() else { bail!("`command` names no program") };
        let path = resolve(program);
        let found = if path.components().count() > 1 { path.is_file() } else { in_path(program).is_some() };
        if !found {
            bail!("the program {program} is neither in PATH nor beside the scaler; give `command` its path");
        }
        if let Some(directory) = settings.directory.as_ref().filter(|directory| !directory.is_dir()) {
            bail!("`directory` {} is no directory; create it", directory.display());
        }
        let running = self.look().await?.len();
        // Not its arguments, which may hold a password.
        let mut remarks = vec![Remark::Fine(format!("processes: {program} on {}, {running} running", self.host))];
        remarks.extend(trial::ask(&settings).await);
        Ok(remarks)
    }
}

/// Starts a worker. It may block: its file, its directory and its log may be on a file system that does not answer.
fn spawn(settings: &Settings, mark: &str) -> anyhow::Result<Child> {
    let Some((program, arguments)) = settings.command.split_first() else { bail!("`command` names no program") };
    let mut command = Command::new(resolve(program));
    command
        .args(arguments)
        .envs(&settings.env)
        .env(MARK_VARIABLE, mark)
        // A Ctrl-C is for the scaler, which ends its children in order.
        .process_group(0)
        .stdin(Stdio::null());
    if let Some(directory) = &settings.directory {
        command.current_dir(directory);
    }
    if let Some(directory) = &settings.log_directory {
        std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        let name = format!("worker-{}.log", chrono::Utc::now().format("%Y%m%dT%H%M%S%.3f"));
        let path = directory.join(name);
        let file = std::fs::File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        command.stdout(file.try_clone().context("share the log file")?).stderr(file);
    }
    command.spawn().with_context(|| format!("start {program}"))
}

/// Returns the program's path: as it is, from PATH, or beside the scaler's own binary.
fn resolve(program: &str) -> PathBuf {
    let given = PathBuf::from(program);
    if given.components().count() > 1 || in_path(program).is_some() {
        return given;
    }
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(program)));
    beside.filter(|path| path.is_file()).unwrap_or(given)
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| Path::is_file(path))
}
