//! `make test-containers`: the image and the compose stack on this machine's Docker engine, run as the pages say, with
//! containers that are killed while they load.
//!
//! Every `docker compose` command in the first lines of `docker-compose.yml`, in the README and in the guides is run as it
//! stands, by a project with a name, images and ports of its own. Nothing is pulled: the images that the files name are
//! used as they are. What it starts is removed at the end, however it ends.

mod stack;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use penstock_tests::{
    repository,
    telemetry::{self, Event, Format, Load},
};
use stack::Stack;
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};

/// Builds the images and tries the stack.
#[derive(Debug, Parser)]
struct Arguments {
    /// The profile that the programs are built with; `dev` builds sooner
    #[arg(long, default_value = "dist")]
    profile: String,
    /// An image that is there, with NAME-aws beside it, instead of building both
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
}

/// What the image may have, in bytes.
const MOST_BYTES: u64 = 75_000_000;
/// Files and rows of what is loaded while something is killed.
const N_FILES: u64 = 40;
const N_ROWS: u64 = 200_000;
/// What the messages of a killed importer need to come back, and a loaded machine for everything else.
const LOAD_LIMIT: Duration = Duration::from_secs(900);
/// The first file's wait for a second look, then the start of an importer.
const FIRST_LIMIT: Duration = Duration::from_secs(180);
/// Proof that the queue is empty, and two minutes in which a pool remembers what it wanted.
const SLEEP_LIMIT: Duration = Duration::from_secs(420);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure_images()?;
    let begun = Instant::now();
    let stack = Arc::new(Stack::new(arguments.image.as_deref())?);
    remove_on_signals(Arc::clone(&stack))?;
    let tried = tried(&stack, &arguments);
    if tried.is_err() {
        eprintln!("{}", stack.last_words());
    }
    stack.remove();
    tried?;
    println!("test-containers: passed in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Leaves nothing behind after Ctrl-C either.
fn remove_on_signals(stack: Arc<Stack>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut terminate = runtime.block_on(async { signal(SignalKind::terminate()) })?;
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = tokio::signal::ctrl_c() => {} _ = terminate.recv() => {} }
        });
        stack.remove();
        process::exit(130);
    });
    Ok(())
}

/// Makes sure that nothing would have to be pulled.
fn ensure_images() -> Result<()> {
    let mut named = BTreeSet::new();
    for (file, word) in
        [("Dockerfile", "FROM "), ("infra/compose/emulator.Dockerfile", "FROM "), ("docker-compose.yml", "image: ")]
    {
        let text = fs::read_to_string(repository().join(file))?;
        let images = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix(word)?.split_whitespace().find(|name| !name.starts_with("--")));
        // Those with a variable are built.
        named.extend(images.filter(|image| !image.contains('$')).map(str::to_owned));
    }
    let is_there = |image: &String| {
        let mut inspect = Command::new("docker");
        inspect.args(["image", "inspect", image]).stdout(Stdio::null()).stderr(Stdio::null());
        Ok::<_, io::Error>(inspect.status()?.success())
    };
    let mut missing = String::new();
    for image in named {
        if !is_there(&image)? {
            missing += &format!("\n  docker pull {image}");
        }
    }
    ensure!(missing.is_empty(), "nothing is pulled here, and these are missing:{missing}");
    Ok(())
}

fn tried(stack: &Stack, arguments: &Arguments) -> Result<()> {
    if arguments.image.is_none() {
        step("the images are built", || stack.build(&arguments.profile))?;
    }
    step("the image is small, and runs as nobody without any right", || {
        image(stack, arguments.image.is_none() && arguments.profile == "dist")
    })?;
    step("docker compose up", || stack.up())?;
    step("each service was started once, after Postgres, by a policy, with its port on 127.0.0.1", || stack.is_well())?;
    let commands = commands()?;
    let command = |part: &str| commands.iter().find(|command| command.contains(part)).context(part.to_owned());
    step("nothing has arrived, and no importer is started; `status` changes nothing of that", || {
        stack.run(command("importer status")?)?;
        stack.ticks(4)?;
        ensure!(stack.wakes()? == 0.0, "{}", stack.decisions()?);
        nothing_arrived(stack)
    })?;
    let file = command("producer /files/telemetry.csv")?;
    let waited = step("the first file", || {
        stack.run(file)?;
        let begun = Instant::now();
        stack.wait_for("SELECT count(*) FROM public.telemetry", "200", FIRST_LIMIT)?;
        Ok(begun.elapsed())
    })?;
    println!("            it waited {:.0} s", waited.as_secs_f64());
    ensure!(stack.said("may be a phantom")?, "nobody was told why");
    for command in &commands {
        step(command, || stack.run(command))?;
    }
    stack.sql(NOTE_WRITES)?;
    stack.expect(&repository().join("infra/compose/files/telemetry.csv"))?;
    for (number, (what, disturb)) in DISTURBANCES.iter().enumerate() {
        step(what, || disturbed(stack, number as u64, *disturb))?;
    }
    step("docker compose down, and up again: nothing is lost", || {
        stack.stop()?;
        stack.none_was_killed()?;
        stack.run("docker compose down")?;
        stack.up()?;
        compare(stack)?;
        let n_objects = objects(DISTURBANCES.len());
        let n_imported = stack.sql("SELECT count(*) FROM penstock.object_status WHERE state = 'imported'")?;
        ensure!(n_imported == n_objects, "the ledger has {n_imported} objects");
        let reconcile = command("reconcile --prefix s3://landing/telemetry/")?;
        stack.run(&format!("{reconcile} 2>&1 | grep '^{n_objects} objects compared, 0 '"))?;
        stack.ticks(2)?;
        nothing_arrived(stack)
    })?;
    step("the console says what starts a lost database, and that does", || lost_database(stack))?;
    step("the pool goes, and the table is what it was", || {
        stack.sleeps(SLEEP_LIMIT)?;
        compare(stack)
    })?;
    stack.stop()
}

/// Makes sure that the wiring left no message of its own, which would wake the pool.
fn nothing_arrived(stack: &Stack) -> Result<()> {
    let n_messages = stack.messages()?;
    ensure!(n_messages == 0.0, "{n_messages} messages are in the queue");
    Ok(())
}

/// Does something, and says how long it took.
fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let done = work().with_context(|| what.to_owned());
    println!("{:8.1} s  {}{what}", begun.elapsed().as_secs_f64(), if done.is_ok() { "" } else { "failed: " });
    done
}

/// Returns each `docker compose run …` of the compose file's first lines, the README and the guides, once.
fn commands() -> Result<Vec<String>> {
    let mut pages = vec![repository().join("docker-compose.yml"), repository().join("README.md")];
    for entry in fs::read_dir(repository().join("docs/guides"))? {
        pages.push(entry?.path());
    }
    pages[2..].sort();
    let mut found: Vec<String> = Vec::new();
    for page in pages {
        for line in fs::read_to_string(&page)?.lines() {
            let line = line.trim_start_matches("# ").trim_start();
            let command = line.split("  #").next().unwrap_or_default().trim();
            // Files of the reader's own.
            let file = command.split_whitespace().find_map(|word| word.strip_prefix("/files/"));
            let is_there = file.is_none_or(|file| repository().join("infra/compose/files").join(file).exists());
            if command.starts_with("docker compose run ") && is_there && !found.iter().any(|known| known == command) {
                found.push(command.to_owned());
            }
        }
    }
    ensure!(found.len() > 8, "{found:?}");
    Ok(found)
}

fn image(stack: &Stack, is_dist: bool) -> Result<()> {
    let bytes: u64 = stack.docker(&["image", "inspect", "--format", "{{.Size}}", &stack.image])?.parse()?;
    println!("            {:.1} MB", bytes as f64 / 1e6);
    ensure!(!is_dist || bytes <= MOST_BYTES, "the image has {bytes} bytes, more than {MOST_BYTES}");
    let run = |words: &[&str]| {
        let locked = ["run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", &stack.image];
        stack.docker(&[&locked[..], words].concat())
    };
    for program in ["importer", "scaler", "console"] {
        let version = run(&[program, "--version"])?;
        ensure!(version.starts_with(&format!("{program} ")), "{program} says {version:?}");
        ensure!(run(&["penstock", program, "--version"])? == version, "{program}");
    }
    ensure!(run(&["id", "-u"])? == "10001", "it does not run as nobody");
    run(&["test", "-s", "/etc/ssl/certs/ca-certificates.crt"]).context("TLS has no roots")?;
    ensure!(run(&["ls", "/etc/penstock"])?.is_empty(), "the image has a configuration");
    Ok(())
}

/// Notes each row of a load that is written, also one that is written again, and makes a load long enough to be in the
/// middle of, however fast the machine is.
const NOTE_WRITES: &str = "CREATE TABLE public.written (event_id bigint NOT NULL);
    CREATE TABLE public.expected (LIKE public.telemetry);
    CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.written VALUES (NEW.event_id); RETURN NULL; END $$;
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON public.telemetry FOR EACH ROW
        WHEN (NEW.event_id > 1000000) EXECUTE FUNCTION public.note();
    CREATE FUNCTION public.linger() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$;
    CREATE TRIGGER linger AFTER INSERT OR UPDATE ON public.telemetry EXECUTE FUNCTION public.linger()";

/// Kills every importer of the scaler's and prints which; its container has few programs.
const KILL_IMPORTERS: &str = "for process in /proc/[0-9]*; do \
    if grep -q '^importer' $process/cmdline 2>/dev/null; then kill -9 ${process#/proc/} && echo $process; fi; done";

/// What is done in the middle of a load, and how it is called.
type Disturbance = (&'static str, fn(&Stack) -> Result<()>);

static DISTURBANCES: [Disturbance; 5] = [
    ("every importer is killed", |stack| {
        let killed = stack.in_scaler(KILL_IMPORTERS)?;
        println!("            {} of them", killed.lines().count());
        ensure!(!killed.is_empty(), "there was none");
        Ok(())
    }),
    ("the emulated AWS is restarted", |stack| stack.run("docker compose restart aws")),
    ("Postgres is restarted", |stack| stack.run("docker compose restart postgres")),
    ("Postgres ends without a word, and is started by its policy", |stack| {
        stack.run("docker compose exec -T postgres sh -c 'kill -QUIT 1'")?;
        let count = "docker inspect --format '{{.RestartCount}}' $(docker compose ps --all --quiet postgres)";
        stack.run(&format!("for look in $(seq 60); do test $({count}) = 1 && exit; sleep 1; done; exit 1"))
    }),
    ("the scaler is killed with all its importers, and started", |stack| {
        stack.run("docker compose kill scaler")?;
        stack.run("docker compose start scaler")
    }),
];

/// Loads files, and disturbs that in the middle.
fn disturbed(stack: &Stack, number: u64, disturb: fn(&Stack) -> Result<()>) -> Result<()> {
    // All is there before the first importer is, so the middle is not over before it is seen.
    stack.run("docker compose stop scaler")?;
    let files = files(&stack.directory, number)?;
    let names: Vec<String> =
        files.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy().into()).collect();
    let loaded: Vec<String> = names.iter().map(|name| format!("/load/{name}")).collect();
    stack.run(&format!(
        "docker compose run --rm -v '{}:/load:ro' producer {}",
        stack.directory.display(),
        loaded.join(" ")
    ))?;
    let events = stack.directory.join(format!("expected-{number}.csv.gz"));
    let load = Load::new(number, N_ROWS);
    telemetry::write(Format::Csv, load.events(0..N_ROWS).map(|event| own(event, number)), fs::File::create(&events)?)?;
    stack.expect(&events)?;
    stack.run("docker compose start scaler")?;

    let imported = format!(
        "SELECT count(*) FROM penstock.object_status WHERE state = 'imported' AND key LIKE 'telemetry/{number}-%'"
    );
    let begun = Instant::now();
    let n_before = loop {
        let n_imported: u64 = stack.sql(&imported)?.parse()?;
        if n_imported > 2 {
            break n_imported;
        }
        ensure!(begun.elapsed() < LOAD_LIMIT, "no load began: {}", stack.decisions()?);
    };
    ensure!(n_before < N_FILES, "the load was over before it could be disturbed");
    disturb(stack)?;
    println!("            with {n_before} of {N_FILES} objects imported");
    stack.wait_for(&imported, &N_FILES.to_string(), LOAD_LIMIT)?;
    compare(stack)
}

/// Writes a load's files, in three formats.
fn files(directory: &Path, number: u64) -> Result<Vec<PathBuf>> {
    let load = Load::new(number, N_ROWS);
    let mut files = Vec::new();
    for index in 0..N_FILES {
        let format = [Format::Csv, Format::Ndjson, Format::Parquet][index as usize % 3];
        let path = directory.join(format!("{number}-{index:02}.{}", format.extension()));
        let events = load.events(load.object(index, N_FILES)).map(|event| own(event, number));
        telemetry::write(format, events, fs::File::create(&path)?)?;
        files.push(path);
    }
    Ok(files)
}

/// Gives each load keys of its own.
fn own(mut event: Event, number: u64) -> Event {
    event.event_id += 1_000_000 * (1 + i64::try_from(number).unwrap_or(0));
    event
}

/// Returns how many objects there are after so many loads.
fn objects(n_loads: usize) -> String {
    (1 + n_loads as u64 * N_FILES).to_string()
}

/// Compares the table with the files, and makes sure that no row was written twice.
fn compare(stack: &Stack) -> Result<()> {
    let digest = |table: &str| {
        let columns = telemetry::COLUMNS.join(", ");
        stack.sql(&format!("SELECT count(*), sum(hashtextextended(ROW({columns})::text, 0)) FROM public.{table}"))
    };
    let (loaded, expected) = (digest("telemetry")?, digest("expected")?);
    ensure!(loaded == expected, "the table's rows are {loaded} by number and digest, the files' {expected}");
    let written = stack.sql("SELECT count(*) - count(DISTINCT event_id) FROM public.written")?;
    ensure!(written == "0", "{written} rows were written more than once");
    Ok(())
}

fn lost_database(stack: &Stack) -> Result<()> {
    stack.run("docker compose stop postgres")?;
    let command = "docker compose start postgres";
    stack.wait_for_page(command, true)?;
    stack.run(command)?;
    stack.wait_for_page(command, false)
}
