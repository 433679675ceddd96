//! A Postgres that goes silent: no answer, and no end of the connection. It costs seconds on what waited for it, a line
//! that names it, and no row; the next connection answers.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, at_commit_of_rows, pairs};
use anyhow::{Context as _, Result};
use futures_util::future::{BoxFuture, try_join_all};
use importer::load::{Sessions, liveness};
use penstock_tests::{
    aws::{Depth, Options, Route},
    http,
    pooler::Pooler,
    postgres::Postgres,
    process::Process,
    proxy::{Action, Proxy, Rule},
    wait,
};
use sqlx::{Executor as _, postgres::PgConnectOptions};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// From a silence to the end of what it held up: it is given up after 15 to 25 s.
const SOON: Duration = Duration::from_secs(30);
/// The same where several worlds and programs start at once, each of which takes seconds then.
const ON_A_BUSY_MACHINE: Duration = Duration::from_secs(40);
/// The end of a transaction, as it is sent.
const COMMIT: &str = "COMMIT\0";
/// What other slots may take meanwhile.
const MEANWHILE: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_slot_waits_for_silence_costs_seconds_and_no_row() -> Result<()> {
    // One statement of each kind that an import consists of.
    let fence = "FROM penstock.head WHERE id = $1 FOR NO KEY UPDATE";
    let calls = ["own.imported_at IS NOT NULL", "INSERT INTO penstock.head", "PGCOPY\n", fence, COMMIT];
    // A server of the story's own: a backend amid a COPY of which no more comes keeps all who drop a database waiting.
    let postgres = Arc::new(tokio::task::spawn_blocking(|| Postgres::start(Default::default())).await??);
    try_join_all(calls.map(|call| check(&postgres, call))).await?;
    Ok(())
}

/// Silences the connection on which a statement of the first import is asked; another object is imported meanwhile.
async fn check(postgres: &Arc<Postgres>, call: &str) -> Result<()> {
    let world = World::on(postgres, Options::default(), PAIRS_TABLE, PAIRS).await?;
    let proxy = world.postgres_proxy().await?;
    let silent = silence(&proxy, call);
    let worker = world.through_postgres(world.worker(), &proxy).expect_line("answer").start()?;
    worker.wait_for_line("serving health", LIMIT).await?;
    world.pipeline.put("pairs/a", pairs(&[(1, "a")])).await?;
    silent.await?;
    let begun = Instant::now();
    world.pipeline.put("pairs/b", pairs(&[(2, "b")])).await?;
    wait::until("the other object", MEANWHILE, || async {
        Ok(world.pairs().await?.contains(&"2=b".to_owned()).then_some(()))
    })
    .await
    .with_context(|| format!("silent at {call:?}"))?;
    let line = worker.wait_for_line("for an answer from Postgres", ON_A_BUSY_MACHINE).await?;
    let place = proxy.address().to_string();
    assert!(line.contains("waited") && line.contains(&place) && line.contains("its backend"), "{call:?}: {line}");
    wait::until("both objects and their deletes", ON_A_BUSY_MACHINE, || async {
        let is_there = world.pairs().await? == ["1=a", "2=b"];
        Ok((is_there && world.pipeline.depth().await? == Depth::default()).then_some(()))
    })
    .await
    .with_context(|| format!("silent at {call:?}"))?;
    assert!(begun.elapsed() < ON_A_BUSY_MACHINE, "{call:?} took {:?}", begun.elapsed());
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_of_all_connections_ends_as_soon_while_another_slot_is_in_a_long_statement() -> Result<()> {
    let table = format!(
        "{PAIRS_TABLE}; CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NEW.id = 1 THEN PERFORM pg_sleep(300); END IF; RETURN NEW; END $$; \
         CREATE TRIGGER wait BEFORE INSERT ON pairs FOR EACH ROW EXECUTE FUNCTION wait()"
    );
    let world = World::new(Options::default(), &table, PAIRS).await?;
    let proxy = world.postgres_proxy().await?;
    let worker = world.through_postgres(world.worker(), &proxy);
    let worker =
        ["answer", "held", "heartbeat failed"].iter().fold(worker, |worker, line| worker.expect_line(line)).start()?;
    worker.wait_for_line("serving health", LIMIT).await?;
    world.pipeline.put("pairs/a", pairs(&[(1, "a")])).await?;
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    wait::until("the long statement", LIMIT, || async {
        Ok((world.database.value(asleep).await? == "1").then_some(()))
    })
    .await?;
    // Longer than it takes until somebody asks about its backend.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let copying = proxy.add(Rule::when_client_sends("PGCOPY\n", Action::HoldRequest));
    world.pipeline.put("pairs/b", pairs(&[(2, "b")])).await?;
    copying.fired(1, LIMIT).await?;
    proxy.silence_all();
    copying.release();
    let begun = Instant::now();
    wait::until("the other object", SOON, || async {
        Ok(world.pairs().await?.contains(&"2=b".to_owned()).then_some(()))
    })
    .await?;
    println!("{:?} from the silence to the rows", begun.elapsed());
    worker.kill()
}

/// Silences the connection on which `call` is asked first; of commits, that of the rows.
fn silence<'a>(proxy: &'a Proxy, call: &str) -> BoxFuture<'a, Result<()>> {
    if call == COMMIT {
        let commit = at_commit_of_rows(proxy, Action::Silence);
        return Box::pin(async move { commit.await.map(drop) });
    }
    let silent = proxy.add(Rule::when_client_sends(call, Action::Silence));
    Box::pin(async move { silent.fired(1, LIMIT).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_without_an_answer_is_written_on_another_connection() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    let proxy = world.postgres_proxy().await?;
    let silent = proxy.add(Rule::when_client_sends("INSERT INTO penstock.workers", Action::Silence));
    // Where it is the first, there is no other connection yet.
    let worker = world.through_postgres(world.worker(), &proxy).expect_line("did not answer within 5 s").start()?;
    silent.fired(1, LIMIT).await?;
    wait::until("the heartbeat on a new connection", MEANWHILE, || async {
        let fresh =
            "SELECT count(*) FROM penstock.workers WHERE heartbeat_at > clock_timestamp() - interval '5 seconds'";
        Ok((world.database.value(fresh).await? == "1").then_some(()))
    })
    .await?;
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_goes_on_with_another_session_is_not_judged_by_the_backend_of_the_first() -> Result<()> {
    let database = Postgres::shared()?.create_database().await?;
    let options: PgConnectOptions = database.url().parse()?;
    let sessions = Sessions::new(move || Ok(options.clone()));
    let first = sessions.open().await?;
    let whereabouts = first.whereabouts();
    let work = async {
        drop(first);
        let mut other = sessions.open().await?;
        liveness::goes_on_with(&other);
        // Longer than it takes until a backend that waits is asked about.
        other.connection.execute("SELECT pg_sleep(13)").await.context("sleep")
    };
    tokio::select! {
        done = sessions.watched("a test", whereabouts, work) => done??,
        () = sessions.keep_watch() => unreachable!("it never ends"),
    };
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_heard_of_before_it_is_ended_is_left_alone() -> Result<()> {
    let database = Postgres::shared()?.create_database().await?;
    let proxy = Proxy::start(database.postgres().host_and_port()).await?;
    let options: PgConnectOptions = database.url_through(proxy.address()).parse()?;
    let sessions = Sessions::new(move || Ok(options.clone()));
    let mut session = sessions.open().await?;
    session.connection.execute("BEGIN").await?;
    let ending = proxy.add(Rule::when_client_sends("pg_terminate_backend", Action::HoldRequest));
    let watching = tokio::spawn({
        let sessions = sessions.clone();
        async move { sessions.keep_watch().await }
    });
    let given_up = sessions.watched("a test", session.whereabouts(), std::future::pending::<()>()).await;
    assert!(given_up.is_err_and(|error| error.to_string().contains("its backend is waiting for the client")));
    ending.fired(1, LIMIT).await?;
    session.connection.execute("SELECT 1").await?;
    ending.release();
    wait::until("the end of the statement", LIMIT, || async {
        let done = "SELECT count(*) FROM pg_stat_activity \
                    WHERE query LIKE 'SELECT count(pg_terminate_backend%' AND state = 'idle'";
        Ok((database.value(done).await? == "1").then_some(()))
    })
    .await?;
    session.connection.execute("COMMIT").await?;
    watching.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_goes_on_with_another_connection_when_its_statements_are_not_answered() -> Result<()> {
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, PAIRS_TABLE, PAIRS).await?;
    world.pipeline.put("pairs/a", pairs(&[(1, "a")])).await?;
    let proxy = world.postgres_proxy().await?;
    // The first is of the migration.
    let silent = ["AS schema_exists", "PGCOPY\n"].map(|call| proxy.add(Rule::when_client_sends(call, Action::Silence)));
    let load = world.command("load").arg(format!("s3://{}/pairs/a", world.pipeline.bucket));
    let ended = world.through_postgres(load, &proxy).run(LIMIT).await?;
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    assert_eq!(silent.map(|silent| silent.count()), [1, 1]);
    assert!(ended.stderr.contains("for an answer from Postgres"), "{}", ended.stderr);
    assert_eq!(world.pairs().await?, ["1=a"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_in_time_although_all_of_postgres_is_silent_and_readyz_says_that_it_is() -> Result<()> {
    let datasets = format!("[worker]\ndrain_timeout_secs = 12\n{PAIRS}");
    let world = World::new(Options::default(), PAIRS_TABLE, &datasets).await?;
    let proxy = world.postgres_proxy().await?;
    let held = at_commit_of_rows(&proxy, Action::HoldRequest);
    let program = world.through_postgres(world.worker(), &proxy);
    let worker = ["answer", "held", "drain timeout", "heartbeat failed"]
        .iter()
        .fold(program, |program, line| program.expect_line(line))
        .start()?;
    world.pipeline.put("pairs/a", pairs(&[(1, "a")])).await?;
    held.await?;
    proxy.hold();
    let line = worker.wait_for_line("for an answer from Postgres", ON_A_BUSY_MACHINE).await?;
    assert!(line.contains("no other connection is answered") && line.contains(&proxy.address().to_string()), "{line}");
    let ready = http::get(&address(&worker, "readyz").await?).await?;
    let text = format!("{ready:?}");
    assert!(text.contains("503") && text.contains("for an answer from Postgres"), "{text}");
    let begun = Instant::now();
    worker.signal("TERM")?;
    worker.wait_exit(LIMIT).await?;
    assert!(begun.elapsed() < Duration::from_secs(14), "the stop took {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_ends_in_half_a_minute_when_its_statement_is_not_answered() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    let migrated = world.command("migrate").run(LIMIT).await?;
    anyhow::ensure!(migrated.status.success(), "{}", migrated.stderr);
    let prefix = format!("s3://{}/", world.pipeline.bucket);
    let commands = [
        ("status", vec![], "FROM penstock.object_status"),
        ("rejects", vec![], "FROM penstock.rejects"),
        ("rejects", vec!["--replay"], "WHERE r.resolved_at IS NULL"),
        ("prune", vec!["--older-than", "30d"], "pg_try_advisory_lock"),
        ("reconcile", vec!["--prefix", prefix.as_str()], "JOIN penstock.head h"),
        ("replay", vec!["--dataset", "pairs"], "LEFT JOIN penstock.object held"),
        ("migrate", vec![], "AS schema_exists"),
        ("check", vec![], "server_version"),
    ];
    try_join_all(commands.map(|(command, arguments, statement)| silent_command(&world, command, arguments, statement)))
        .await?;
    Ok(())
}

async fn silent_command(world: &World, command: &str, arguments: Vec<&str>, statement: &str) -> Result<()> {
    let proxy = world.postgres_proxy().await?;
    // The watch of a command asks on a connection of its own, which is answered.
    let silent = proxy.add(Rule::when_client_sends(statement, Action::Silence));
    let begun = Instant::now();
    let ended = world.through_postgres(world.command(command).args(arguments), &proxy).run(LIMIT).await?;
    silent.fired(1, Duration::ZERO).await.with_context(|| format!("{command}: {}{}", ended.stdout, ended.stderr))?;
    assert!(begun.elapsed() < ON_A_BUSY_MACHINE, "{command} took {:?}", begun.elapsed());
    assert!(!ended.status.success(), "{command}: {}", ended.stdout);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains("answer") && said.contains(&proxy.address().to_string()), "{command}: {said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_in_half_a_minute_when_all_of_postgres_is_silent() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    let migrated = world.command("migrate").run(LIMIT).await?;
    anyhow::ensure!(migrated.status.success(), "{}", migrated.stderr);
    let proxy = world.postgres_proxy().await?;
    let silent = proxy.add(Rule::when_client_sends("FROM penstock.object_status", Action::Silence));
    let status = world.through_postgres(world.command("status"), &proxy);
    let ended = tokio::spawn(status.run(LIMIT));
    silent.fired(1, LIMIT).await?;
    let begun = Instant::now();
    proxy.hold();
    let ended = ended.await??;
    assert!(begun.elapsed() < ON_A_BUSY_MACHINE, "status took {:?}", begun.elapsed());
    assert!(!ended.status.success() && ended.stderr.contains("no other connection is answered"), "{}", ended.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_works_through_a_transaction_pooler_or_leaves_a_setting_there() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    world.pipeline.put("pairs/a", pairs(&[(1, "a")])).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    let pooler = Pooler::start(world.database.postgres().host_and_port()).await?;
    let url = world.database.url_through(pooler.address());
    for command in ["run", "status", "rejects", "migrate", "check"] {
        let ended = world.command(command).env("DATABASE_URL", url.clone()).run(LIMIT).await?;
        assert!(!ended.status.success(), "{command}: {}", ended.stdout);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains("connect to Postgres itself or use session pooling"), "{command}: {said}");
    }
    assert_eq!(world.pipeline.depth().await?, Depth { visible: 1, ..Depth::default() });
    // Whoever comes next gets the sessions of those that were refused.
    let options = importer::database::connect_options(&url)?;
    for _ in 0..4 {
        let mut next = <sqlx::PgConnection as sqlx::Connection>::connect_with(&options).await?;
        let settings =
            sqlx::raw_sql("SELECT current_setting('search_path') AS path, current_setting('lock_timeout') AS lock");
        let row = sqlx::Executor::fetch_one(&mut next, settings).await?;
        let settings: (String, String) = (sqlx::Row::try_get(&row, 0)?, sqlx::Row::try_get(&row, 1)?);
        assert_eq!(settings, ("\"$user\", public".to_owned(), "0".to_owned()));
    }
    Ok(())
}

async fn address(worker: &Process, path: &str) -> Result<String> {
    let line = worker.wait_for_line("serving health and metrics", LIMIT).await?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    Ok(format!("http://{}/{path}", line["listen"].as_str().unwrap_or_default()))
}
