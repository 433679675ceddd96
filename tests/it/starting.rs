//! Programs that start in bad weather, or with a configuration full of mistakes.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::Result;
use penstock_tests::{
    aws::Options,
    postgres::Postgres,
    process::Program,
    proxy::{Action, Rule},
    scratch::Scratch,
    wait,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_while_the_schema_is_read_is_waited_out() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    world.pipeline.put("pairs/a", pairs(&[(1, "x")])).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    let proxy = world.postgres_proxy().await?;
    let cut = proxy.add(Rule::when_client_sends("_sqlx_migrations", Action::CutAnswer(0)));
    let worker = world.through_postgres(world.drainer(), &proxy).expect_line("cannot reach postgres").start()?;
    worker.finish(LIMIT).await?;
    assert_eq!(cut.count(), 1);
    assert_eq!(world.pairs().await?, ["1=x"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_does_not_exist_ends_a_worker_and_one_that_does_not_answer_is_waited_for() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    let missing = format!("{}-missing", world.pipeline.queue_url);
    let ended = world.worker().env("QUEUE_URL", missing.clone()).run(LIMIT).await?;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("importer: queue {missing} does not exist")), "{}", ended.stderr);

    // Its name says nothing about it.
    let silent = "http://127.0.0.1:1/000000000000/FIFO-QueueDoesNotExist";
    let worker = world.worker().env("QUEUE_URL", silent).env("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1");
    let worker = worker.expect_line("cannot reach queue").start()?;
    worker.wait_for_line("cannot reach queue", LIMIT).await?;
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_another_one_creates_at_the_same_moment_will_do() -> Result<()> {
    let database = Postgres::shared()?.create_database().await?;
    let mut other = database.connect().await?;
    sqlx::raw_sql("BEGIN; CREATE SCHEMA penstock").execute(&mut other).await?;
    let importer = Program::new("importer").arg("migrate").env("DATABASE_URL", database.url()).start()?;
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait::until("the importer to come upon the other's schema", LIMIT, || async {
        Ok((database.value(waiting).await? == "1").then_some(()))
    })
    .await?;
    sqlx::raw_sql("COMMIT").execute(&mut other).await?;
    importer.finish(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_in_a_configuration_is_named_at_once_with_its_line() -> Result<()> {
    let scratch = Scratch::new("mistakes")?;
    let importer = "[queue]\nwait_sec = 1\n[worker]\nconcurrency = 0\nmemory = 1\n";
    let scaler = "[[pool]]\nname = \"a\"\nmins = 1\nmax = 0\nbacklog_per_worker = 1\n[https]\n";
    let console = "show_value = true\n[database]\nurl = \"mysql://u:hunter2@h/d\"\n[http]\nlisten = \"0.0.0.0:1\"\n";
    for (program, text, lines) in
        [("importer", importer, [2, 4, 5]), ("scaler", scaler, [3, 4, 6]), ("console", console, [1, 3, 5])]
    {
        let path = scratch.path().join(format!("{program}.toml"));
        std::fs::write(&path, text)?;
        let ended = Program::new(program).args(["check", "--config"]).arg(&path).run(LIMIT).await?;
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
        let named: Vec<&str> = ended.stderr.lines().collect();
        assert_eq!(named.len(), lines.len(), "{}", ended.stderr);
        for (named, line) in named.iter().zip(lines) {
            assert!(named.contains(&format!("{}:{line}: ", path.display())), "{named}");
        }
    }
    Ok(())
}
