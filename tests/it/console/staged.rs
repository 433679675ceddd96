//! Problems that real programs have: the first screen names each, since when and how many, and the command it shows is run
//! as it stands there and mends it.

use super::stand::{LIMIT as SOON, console, seen};
use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::{Context as _, Result};
use penstock_tests::{
    aws::{Depth, Options},
    database::Database,
    http,
    postgres::Postgres,
    process::{self, Process, Program},
    spawn, wait,
};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    process::{Command, Output},
    sync::Arc,
};

/// A world, and the console that shows it.
struct Stage {
    world: World,
    console: Process,
    url: String,
}

impl Stage {
    async fn new(options: Options, datasets: &str) -> Result<Self> {
        Self::of(World::new(options, PAIRS_TABLE, datasets).await?, "").await
    }

    async fn of(world: World, settings: &str) -> Result<Self> {
        let directory = world.config().parent().context("a directory")?;
        let (console, url) = console(directory, &world.database.url(), settings, "").await?;
        Ok(Self { world, console, url })
    }

    /// Puts so many objects that each have one row.
    async fn put(&self, prefix: &str, n: i64) -> Result<()> {
        for id in 0..n {
            self.world.pipeline.put(&format!("{prefix}/{id}.json"), pairs(&[(id, "x")])).await?;
        }
        Ok(())
    }

    async fn problems(&self) -> Result<Vec<Value>> {
        let answer = http::get(&format!("{}/now.json", self.url)).await?;
        let json: Value = serde_json::from_str(&answer.body)?;
        Ok(json["problems"]["value"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until the first screen has a problem of this kind with so many, and says so to who reads it.
    async fn shown(&self, kind: &str, n: u64) -> Result<Value> {
        let problem = wait::until(&format!("{n} of {kind}"), LIMIT, || async {
            Ok(self.problems().await?.into_iter().find(|problem| problem["kind"] == kind && problem["n"] == n))
        })
        .await?;
        assert!(problem["since"].is_string(), "since when: {problem}");
        let page = seen(&http::get(&self.url).await?.body);
        for part in ["command", "advice"] {
            let words = problem[part].as_str().context("words")?.replace('`', "");
            let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            // What a screen reader is told of a command's parts is the same with gaps between them.
            assert!(squeezed(&page).contains(&squeezed(&words)), "{words}: {page}");
        }
        Ok(problem)
    }

    /// Runs the command of a problem as it is shown, where the configuration is.
    async fn run_shown(&self, problem: &Value) -> Result<Output> {
        let command = problem["command"].as_str().context("a command")?.to_owned();
        let programs = process::binary("importer")?.parent().context("a directory")?.to_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).current_dir(self.world.config().parent().context("a directory")?);
        shell.env(
            "PATH",
            format!("{}:{}:{path}", programs.display(), self.world.database.postgres().binaries()?.display()),
        );
        shell.env("DATABASE_URL", self.world.database.url()).envs(self.world.pipeline.account.variables());
        let done = tokio::task::spawn_blocking(move || shell.output()).await??;
        anyhow::ensure!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(done)
    }

    /// Waits until no problem of this kind is shown.
    async fn mended(&self, kind: &str) -> Result<()> {
        wait::until(&format!("no {kind}"), LIMIT, || async {
            Ok((!self.problems().await?.iter().any(|problem| problem["kind"] == kind)).then_some(()))
        })
        .await
    }

    async fn has_rows(&self, n: i64) -> Result<()> {
        has_rows(&self.world.database, n).await
    }
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

async fn has_rows(database: &Database, n: i64) -> Result<()> {
    wait::until(&format!("{n} rows"), LIMIT, || async {
        Ok((database.value("SELECT count(*) FROM pairs").await? == n.to_string()).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_dataset_is_replayed_once_its_table_takes_the_rows() -> Result<()> {
    let stage = Stage::new(Options::default(), &format!("{PAIRS}max_rejects = 0\n")).await?;
    stage.world.database.execute("ALTER TABLE pairs ADD CHECK (value <> 'x')").await?;
    stage.put("pairs", 7).await?;
    let worker = stage.world.worker().expect_line("object failed").start()?;
    let problem = stage.shown("failed", 7).await?;
    assert_eq!((&problem["of"], &problem["reason"]), (&"pairs".into(), &"too_many_rejects".into()), "{problem}");
    assert_eq!(problem["command"], "importer replay --state failed --dataset pairs");
    assert_eq!(stage.world.database.value("SELECT count(*) FROM pairs").await?, "0");
    // What it says to do first.
    stage.world.database.execute("ALTER TABLE pairs DROP CONSTRAINT pairs_value_check").await?;
    stage.run_shown(&problem).await?;
    stage.has_rows(7).await?;
    stage.mended("failed").await?;
    worker.terminate(LIMIT).await?;
    stage.console.terminate(SOON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_is_freed_by_ending_who_holds_it() -> Result<()> {
    let stage = Stage::new(Options::default(), PAIRS).await?;
    let mut holder = stage.world.database.connect().await?;
    sqlx::raw_sql("SET application_name = 'a report'; BEGIN; LOCK TABLE pairs").execute(&mut holder).await?;
    stage.put("pairs", 3).await?;
    let worker = stage.world.worker().args(["--concurrency", "1"]).start()?;
    let problem = stage.shown("locked", 1).await?;
    assert_eq!(problem["of"], "public.pairs", "{problem}");
    assert!(problem["said"].as_str().is_some_and(|said| said.contains("a report, idle in transaction")), "{problem}");
    stage.run_shown(&problem).await?;
    stage.has_rows(3).await?;
    stage.mended("locked").await?;
    worker.terminate(LIMIT).await?;
    stage.console.terminate(SOON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_dead_letters_goes_back_once_a_dataset_takes_them() -> Result<()> {
    let stage = Stage::new(Options::default(), PAIRS).await?;
    stage.put("renamed", 40).await?;
    let worker = stage.world.worker().expect_line("object failed").start()?;
    let problem = stage.shown("failed", 40).await?;
    assert_eq!(
        (&problem["reason"], &problem["command"]),
        (&"unrouted".into(), &"importer redrive --reason unrouted".into())
    );
    worker.terminate(LIMIT).await?;
    assert_eq!(stage.world.pipeline.dead_letter_depth().await?, Depth { visible: 40, ..Depth::default() });
    let config = fs::read_to_string(stage.world.config())?;
    fs::write(stage.world.config(), config.replace("s3://*/pairs/**", "s3://*/renamed/**"))?;
    let worker = stage.world.worker().start()?;
    stage.run_shown(&problem).await?;
    stage.has_rows(40).await?;
    stage.mended("failed").await?;
    assert_eq!(stage.world.pipeline.dead_letter_depth().await?, Depth::default());
    worker.terminate(LIMIT).await?;
    stage.console.terminate(SOON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_late_at_its_maximum_is_helped_by_one_more_worker() -> Result<()> {
    let stage = Stage::new(Options::default(), PAIRS).await?;
    let scaler = stage.world.config().with_file_name("scaler.toml");
    let pool = format!(
        "[database]\nurl = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[[pool]]\nname = \"importers\"\nqueue_urls = [\"{}\"]\n\
         min = 0\nmax = 1\ninterval_secs = 1\ndrain_within = \"2s\"\n[pool.workers]\nkind = \"dry_run\"\n",
        stage.world.database.url(),
        stage.world.pipeline.queue_url,
    );
    fs::write(&scaler, pool)?;
    stage.put("pairs", 12).await?;
    let variables = stage.world.pipeline.account.variables();
    let scaler = Program::new("scaler").args(["run", "--config"]).arg(&scaler).args(["--log-format", "json"]);
    let scaler = scaler.envs(variables).start()?;
    let problem = stage.shown("at_max", 1).await?;
    assert_eq!((&problem["of"], &problem["command"]), (&"importers".into(), &"importer run --until-empty".into()));
    let page = seen(&http::get(&stage.url).await?.body);
    assert!(page.contains("Data is late by"), "{page}");
    stage.run_shown(&problem).await?;
    stage.has_rows(12).await?;
    stage.mended("at_max").await?;
    wait::until("nothing to be late", LIMIT, || async {
        Ok(seen(&http::get(&stage.url).await?.body).contains("Nothing is late").then_some(()))
    })
    .await?;
    scaler.terminate(LIMIT).await?;
    stage.console.terminate(SOON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_is_started_by_the_command_that_the_configuration_has() -> Result<()> {
    let postgres = Arc::new(tokio::task::spawn_blocking(|| Postgres::start(Default::default())).await??);
    let world = World::on(&postgres, Options::default(), PAIRS_TABLE, PAIRS).await?;
    let data = PathBuf::from(world.database.value("SELECT current_setting('data_directory')").await?);
    let server = Server::new(&postgres, data)?;
    let start = format!("start_database = '''{}'''", server.control("start"));
    let stage = Stage::of(world, &start).await?;
    let worker = stage.world.worker().expect_line("Postgres").expect_line("heartbeat").expect_line("held").start()?;
    stage.put("pairs", 1).await?;
    stage.has_rows(1).await?;
    // Somebody looks.
    stage.mended("no_database").await?;
    postgres.stop()?;
    stage.world.pipeline.put("pairs/after.json", pairs(&[(77, "x")])).await?;
    let problem = stage.shown("no_database", 1).await?;
    assert!(stage.problems().await?[0]["kind"] == "no_database", "it is the first");
    stage.run_shown(&problem).await?;
    stage.mended("no_database").await?;
    stage.has_rows(2).await?;
    worker.terminate(LIMIT).await?;
    stage.console.terminate(SOON).await
}

/// A server that `pg_ctl` starts, and that is ended with the story.
struct Server {
    control: PathBuf,
    data: PathBuf,
    port: String,
}

impl Server {
    fn new(postgres: &Postgres, data: PathBuf) -> Result<Self> {
        let port = postgres.host_and_port().rsplit(':').next().context("a port")?.to_owned();
        Ok(Self { control: postgres.binaries()?.join("pg_ctl"), data, port })
    }

    /// Returns what is typed to start or stop it.
    fn control(&self, what: &str) -> String {
        let Self { control, data, port } = self;
        let log = data.join("again.log");
        // Postgres refuses to run as root.
        let user = if fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            "setpriv --reuid=postgres --regid=postgres --init-groups "
        } else {
            ""
        };
        format!(
            "cd / && {user}{} -D {} -w -m immediate -l {} -o '-p {port} -c unix_socket_directories=' {what}",
            control.display(),
            data.display(),
            log.display()
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that was never started by it is ended by its owner.
        let _ = spawn::run(Command::new("sh").args(["-c", &self.control("stop")]));
    }
}
