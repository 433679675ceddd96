//! The emulators' processes.

use super::venv;
use crate::{http, scratch::Scratch, spawn, wait};
use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

/// A URL in this variable names a running emulator to share.
pub const ENDPOINT_VARIABLE: &str = "PENSTOCK_TEST_AWS_ENDPOINT";

/// How long an emulator may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Which emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// S3, SNS, SQS, EventBridge (`ministack`).
    Queues,
    /// Auto Scaling with instances that can be ended and protected (`moto`).
    AutoScaling,
}

/// A running emulator. Accounts on it do not see each other.
#[derive(Debug)]
pub struct Emulator {
    endpoint: String,
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    process: Child,
    _scratch: Scratch,
}

impl Emulator {
    /// Returns the emulator of queues that tests of this process share; starts one unless [`ENDPOINT_VARIABLE`] names it.
    ///
    /// # Errors
    /// When none can be started.
    pub async fn shared() -> Result<Arc<Self>> {
        tokio::task::spawn_blocking(Self::shared_blocking).await?
    }

    fn shared_blocking() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Emulator>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(emulator) = shared.upgrade() {
            return Ok(emulator);
        }
        let emulator = Arc::new(match std::env::var(ENDPOINT_VARIABLE) {
            Ok(endpoint) => Self { endpoint, server: None },
            Err(_) => Self::start(Kind::Queues)?,
        });
        *shared = Arc::downgrade(&emulator);
        Ok(emulator)
    }

    /// Starts an emulator; blocks until it answers.
    ///
    /// # Errors
    /// When Python or the emulator's package cannot be had, or it does not start; with the end of its log.
    pub fn start(kind: Kind) -> Result<Self> {
        let mut attempt = 1;
        loop {
            // Another program may take the port between our look and its bind.
            match Self::start_on(kind, spawn::free_port()?) {
                Ok(emulator) => return Ok(emulator),
                Err(error) if attempt == 3 => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    fn start_on(kind: Kind, port: u16) -> Result<Self> {
        let port = port.to_string();
        let python = venv::python(kind.requirements())?;
        let scratch = Scratch::new("aws")?;
        let log_path = scratch.path().join("log");
        let log = fs::File::create(&log_path)?;
        let mut command = spawn::tied(python, "KILL", None)?;
        match kind {
            Kind::Queues => {
                command.args(["-m", "ministack"]);
                command.env("BIND_HOST", "127.0.0.1").env("MINISTACK_HOST", "127.0.0.1").env("GATEWAY_PORT", &port);
                command.env("MINISTACK_REGION", super::REGION).env("LOG_LEVEL", "WARNING");
                command.env("S3_DATA_DIR", scratch.path().join("s3")).env("STATE_DIR", scratch.path().join("state"));
            }
            Kind::AutoScaling => {
                command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port]);
            }
        }
        command.current_dir(scratch.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = spawn::spawn(command).context("start the emulator")?;
        let mut server = Server { process, _scratch: scratch };
        let endpoint = format!("http://127.0.0.1:{port}");
        wait_until_it_answers(&mut server.process, &format!("{endpoint}{}", kind.health()), &log_path)?;
        Ok(Self { endpoint, server: Some(server) })
    }

    /// Returns the URL at which all its services answer.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the process id, when it is ours.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(|server| server.process.id())
    }
}

impl Kind {
    fn requirements(self) -> &'static str {
        match self {
            Self::Queues => "queues",
            Self::AutoScaling => "autoscaling",
        }
    }

    fn health(self) -> &'static str {
        match self {
            Self::Queues => "/_ministack/health",
            Self::AutoScaling => "/moto-api/data.json",
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of it is kept, so it need not end in order.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wait_until_it_answers(process: &mut Child, url: &str, log: &Path) -> Result<()> {
    // A thread of its own, because the caller's may already drive a runtime.
    let url = url.to_owned();
    wait::until_blocking("the emulator to answer", START_LIMIT, || {
        if let Some(status) = process.try_wait()? {
            bail!("the emulator ended with {status}:\n{}", spawn::tail(log));
        }
        Ok(answers(&url).then_some(()))
    })
}

fn answers(url: &str) -> bool {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(http::get(url)).ok().filter(|answer| answer.status == 200)
        });
        asked.join().is_ok_and(|answer| answer.is_some())
    })
}
