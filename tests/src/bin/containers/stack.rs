//! The compose stack, as a project of its own.

use anyhow::{Context as _, Result, bail, ensure};
use penstock_tests::{http, repository, scratch::Scratch, spawn, wait};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long the stack may take to start.
const START_LIMIT: Duration = Duration::from_secs(240);
/// How long it may take to stop: importers drain.
const STOP_LIMIT: Duration = Duration::from_secs(240);
/// How long the scaler may take for a few ticks, and the console to see what happened.
const TICK_LIMIT: Duration = Duration::from_secs(90);
/// Between two looks; each starts a process or two.
const LOOK_PAUSE: Duration = Duration::from_millis(300);
/// Longer than between two looks at Postgres's health, so that one falls into its first start.
const SLOW_FIRST_START: &str = "SELECT pg_sleep(5);";
/// penstock:penstock
const LOGIN: (&str, &str) = ("Authorization", "Basic cGVuc3RvY2s6cGVuc3RvY2s=");

/// The project: containers, volumes, networks and images of its own.
pub struct Stack {
    /// The programs' image.
    pub image: String,
    /// Whether it is built for this project alone.
    is_ours: bool,
    variables: Vec<(&'static str, String)>,
    scaler: String,
    console: String,
    /// Where its files are, which containers may read.
    pub directory: PathBuf,
    scratch: Mutex<Option<Scratch>>,
    log: PathBuf,
    up: Mutex<Option<Up>>,
    runtime: tokio::runtime::Runtime,
    is_ending: AtomicBool,
}

/// A `docker compose up` that runs.
struct Up(Child);

impl Stack {
    /// Names a project, of that image or one to be built; nothing is started.
    pub fn new(image: Option<&str>) -> Result<Self> {
        let scratch = Scratch::traversable("containers")?;
        let name = format!("penstock-test-{:08x}", fastrand::u32(..));
        let slow = scratch.write("slow.sql", SLOW_FIRST_START)?;
        let also = format!(
            "services: {{postgres: {{volumes: ['{}:/docker-entrypoint-initdb.d/0-slow.sql:ro']}}}}",
            slow.display()
        );
        let also = scratch.write("slow.yml", also)?;
        let (scaler, console) = (spawn::free_port()?, spawn::free_port()?);
        let is_ours = image.is_none();
        let image = image.map_or_else(|| name.clone(), str::to_owned);
        let variables = vec![
            ("COMPOSE_FILE", format!("docker-compose.yml:{}", also.display())),
            ("COMPOSE_PROJECT_NAME", name),
            ("PENSTOCK_IMAGE", image.clone()),
            ("POSTGRES_PORT", spawn::free_port()?.to_string()),
            ("AWS_PORT", spawn::free_port()?.to_string()),
            ("SCALER_PORT", scaler.to_string()),
            ("CONSOLE_PORT", console.to_string()),
        ];
        Ok(Self {
            image,
            is_ours,
            variables,
            scaler: format!("http://127.0.0.1:{scaler}"),
            console: format!("http://127.0.0.1:{console}"),
            log: scratch.path().join("up.log"),
            up: Mutex::new(None),
            runtime: tokio::runtime::Runtime::new()?,
            directory: scratch.path().to_owned(),
            scratch: Mutex::new(Some(scratch)),
            is_ending: AtomicBool::new(false),
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(repository()).envs(self.variables.iter().cloned());
        command
    }

    /// Nothing is started any more while all is removed, nor waited for once `docker compose up` has ended by itself.
    fn goes_on(&self) -> Result<()> {
        ensure!(!self.is_ending.load(Ordering::Relaxed), "interrupted");
        if let Some(Up(child)) = &mut *self.lock_up()
            && let Some(status) = child.try_wait()?
        {
            bail!("docker compose up ended by itself with {status}");
        }
        Ok(())
    }

    fn lock_up(&self) -> MutexGuard<'_, Option<Up>> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `docker` with these arguments; returns what it printed.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        self.goes_on()?;
        spawn::run(self.command("docker").args(arguments))
    }

    /// Runs a command as a shell takes it.
    pub fn run(&self, line: &str) -> Result<()> {
        self.goes_on()?;
        spawn::run(self.command("sh").args(["-c", line])).map(drop)
    }

    /// Runs a command in the scaler's container, where its importers are.
    pub fn in_scaler(&self, line: &str) -> Result<String> {
        self.docker(&["compose", "exec", "-T", "scaler", "sh", "-c", line])
    }

    /// Builds both images.
    pub fn build(&self, profile: &str) -> Result<()> {
        let argument = format!("PROFILE={profile}");
        let status = self.command("docker").args(["compose", "build", "--build-arg", &argument]).status()?;
        ensure!(status.success(), "docker compose build: {status}");
        Ok(())
    }

    /// Starts the stack as a reader does, and waits until all of it answers.
    pub fn up(&self) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.command("docker");
        command.args(["compose", "up"]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        *self.lock_up() = Some(Up(spawn::spawn(command)?));
        self.until("the scaler and the console", START_LIMIT, || {
            let is_ready = self.get(&format!("{}/readyz", self.scaler)).is_ok_and(|(status, _)| status == 200);
            // Who does not sign in is let in nowhere.
            let asks = self
                .runtime
                .block_on(http::get(&format!("{}/", self.console)))
                .is_ok_and(|answer| answer.status == 401);
            Ok((is_ready && asks).then_some(()))
        })
    }

    /// Returns whether a container has said that.
    pub fn said(&self, text: &str) -> Result<bool> {
        Ok(fs::read_to_string(&self.log)?.contains(text))
    }

    /// Stops what [`up`](Self::up) started as Ctrl-C does, and waits.
    pub fn stop(&self) -> Result<()> {
        self.goes_on()?;
        let mut up = self.lock_up().take().context("docker compose up does not run")?;
        spawn::signal(up.0.id(), "INT")?;
        let deadline = Instant::now() + STOP_LIMIT;
        while up.0.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "docker compose up does not end");
            thread::sleep(LOOK_PAUSE);
        }
        Ok(())
    }

    /// Makes sure that of each service one container runs, started once and no sooner than it can work, with one port
    /// on 127.0.0.1, and is started again after whatever happens.
    pub fn is_well(&self) -> Result<()> {
        let is_said = "{{.State.Status}} {{.RestartCount}} {{.HostConfig.RestartPolicy.Name}}";
        let ports = "{{range .HostConfig.PortBindings}}{{range .}} {{.HostIp}}:{{.HostPort}}{{end}}{{end}}";
        let found = self.inspect(&format!("{is_said}{ports}"))?;
        let services = self.variables.iter().filter_map(|(name, value)| Some((name.strip_suffix("_PORT")?, value)));
        let expected: BTreeSet<String> = services
            .map(|(name, port)| format!("{} running 0 unless-stopped 127.0.0.1:{port}", name.to_lowercase()))
            .collect();
        ensure!(found == expected, "the containers are {found:#?}, not {expected:#?}");
        for line in self.inspect("{{.State.StartedAt}}")? {
            let Some((service @ ("scaler" | "console"), at)) = line.split_once(' ') else { continue };
            let is_later = self.sql(&format!("SELECT pg_postmaster_start_time() < '{at}'"))?;
            ensure!(is_later == "t", "the {service} was started before Postgres let anyone in");
        }
        Ok(())
    }

    /// Makes sure that every container ended by itself when it was told to.
    pub fn none_was_killed(&self) -> Result<()> {
        let found = self.inspect("{{.State.Status}} {{.State.ExitCode}}")?;
        ensure!(!found.is_empty() && found.iter().all(|service| service.contains(" exited ")), "{found:#?}");
        ensure!(!found.iter().any(|service| service.ends_with(" 137")), "killed at the end of its time: {found:#?}");
        Ok(())
    }

    /// Returns something of each container, with its service's name before it.
    fn inspect(&self, format: &str) -> Result<BTreeSet<String>> {
        let containers = self.docker(&["compose", "ps", "--all", "--quiet"])?;
        let format = format!("{{{{index .Config.Labels \"com.docker.compose.service\"}}}} {format}");
        let inspect: Vec<&str> = ["inspect", "--format", &format].into_iter().chain(containers.lines()).collect();
        Ok(self.docker(&inspect)?.lines().map(str::to_owned).collect())
    }

    /// Asks Postgres.
    pub fn sql(&self, query: &str) -> Result<String> {
        let psql =
            ["compose", "exec", "-T", "postgres", "psql", "-U", "penstock", "-d", "warehouse", "-v", "ON_ERROR_STOP=1"];
        self.docker(&[&psql[..], &["-Atqc", query]].concat())
    }

    /// Waits until Postgres answers so; it may be away meanwhile.
    pub fn wait_for(&self, query: &str, expected: &str, limit: Duration) -> Result<()> {
        let mut last = String::new();
        let waited = self.until(query, limit, || {
            last = self.sql(query).unwrap_or_else(|error| format!("{error:#}"));
            Ok((last == expected).then_some(()))
        });
        waited.with_context(|| format!("it is {last}, not {expected}; {}", self.decisions().unwrap_or_default()))
    }

    /// Adds a file's rows, CSV or gzipped CSV, to those that are expected.
    pub fn expect(&self, file: &Path) -> Result<()> {
        let unpack = if file.extension().is_some_and(|extension| extension == "gz") { "gzip -dc" } else { "cat" };
        let copy = "COPY public.expected FROM STDIN (FORMAT csv, HEADER)";
        let line = format!("{unpack} | psql -U penstock -d warehouse -v ON_ERROR_STOP=1 -qc '{copy}'");
        let mut command = self.command("docker");
        command.args(["compose", "exec", "-T", "postgres", "sh", "-c", &line]).stdin(fs::File::open(file)?);
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Waits for so many ticks of the scaler.
    pub fn ticks(&self, n_ticks: u32) -> Result<()> {
        // Not there before the first.
        let counted = || self.metric("scaler_tick_duration_seconds_count").unwrap_or_default();
        let before = counted();
        self.until("ticks of the scaler", TICK_LIMIT, || Ok((counted() >= before + f64::from(n_ticks)).then_some(())))
    }

    /// Returns how many decisions were to start a first importer.
    pub fn wakes(&self) -> Result<f64> {
        self.metric("scaler_decisions_total{pool=\"importers\",reason=\"wake\"}")
    }

    /// Returns how many messages the scaler saw last.
    pub fn messages(&self) -> Result<f64> {
        let seen = |state| self.metric(&format!("scaler_queue_messages{{pool=\"importers\",state=\"{state}\"}}"));
        Ok(seen("visible")? + seen("in_flight")?)
    }

    /// Waits until there is no importer and no message.
    pub fn sleeps(&self, limit: Duration) -> Result<()> {
        self.until("the pool to sleep", limit, || {
            // Those that were killed are among `penstock.workers` for another hour.
            let is_gone = self.in_scaler("pidof importer || true")?.is_empty();
            Ok((is_gone && self.messages()? == 0.0).then_some(()))
        })
        .with_context(|| self.decisions().unwrap_or_default())
    }

    /// Returns the scaler's last decisions, for an error.
    pub fn decisions(&self) -> Result<String> {
        self.sql("SELECT at, desired, reason, explain FROM penstock.decisions ORDER BY at DESC LIMIT 12")
    }

    /// Waits until the console's first page has a text, or has it no more.
    pub fn wait_for_page(&self, text: &str, has_it: bool) -> Result<()> {
        self.until("the console's page", TICK_LIMIT, || {
            let Ok((200, page)) = self.get(&format!("{}/", self.console)) else { return Ok(None) };
            let shown: String = page.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text).collect();
            Ok((shown.contains(text) == has_it).then_some(()))
        })
    }

    /// Returns the end of what the containers said.
    pub fn last_words(&self) -> String {
        spawn::tail(&self.log)
    }

    /// Removes containers, volumes, networks, images and files.
    pub fn remove(&self) {
        let down = ["compose", "--profile", "tools", "down", "--volumes", "--remove-orphans", "--timeout", "5"];
        let emulator = format!("{}-aws", self.image);
        let images = ["image", "rm", "--force", &self.image, &emulator];
        self.is_ending.store(true, Ordering::Relaxed);
        drop(self.lock_up().take());
        // Twice, for what a command may start that is under way when we are interrupted.
        for arguments in [&down[..], &down, &images].into_iter().take(if self.is_ours { 3 } else { 2 }) {
            if let Err(error) = spawn::run(self.command("docker").args(arguments)) {
                eprintln!("{error:#}");
            }
        }
        drop(self.scratch.lock().map(|mut scratch| scratch.take()));
    }

    fn get(&self, url: &str) -> Result<(u16, String)> {
        let answer = self.runtime.block_on(http::request("GET", url, &[LOGIN], ""))?;
        Ok((answer.status, answer.body))
    }

    /// Returns the sum of the scaler's figures whose lines begin so.
    fn metric(&self, begins: &str) -> Result<f64> {
        let (_, text) = self.get(&format!("{}/metrics", self.scaler))?;
        let values: Vec<f64> = text
            .lines()
            .filter(|line| line.starts_with(begins))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        ensure!(!values.is_empty(), "{begins} is not in\n{text}");
        Ok(values.iter().sum())
    }

    fn until<T>(&self, what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        wait::until_blocking(what, limit, || {
            thread::sleep(LOOK_PAUSE);
            self.goes_on()?;
            look()
        })
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
