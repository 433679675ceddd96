//! The ledger after weeks: entries nobody works on, objects that are gone, and `prune`.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::{Context as _, Result};
use importer::load::Sessions;
use penstock_tests::{
    aws::{Options, Route},
    database::Database,
    postgres::Postgres,
    process::{Ended, Program},
    proxy::{Action, Rule, http_answer},
    scratch::Scratch,
    wait,
};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_beside_another_says_so() -> Result<()> {
    let setup = Setup::new().await?;
    setup.run(&["migrate"]).await?;
    setup.fill(100).await?;
    let mut other = setup.database.connect().await?;
    sqlx::raw_sql("SELECT pg_advisory_lock(8099000947049456491)").execute(&mut other).await?;
    let ended = setup.run(&["prune", "--older-than", "90d"]).await?;
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("another prune is running"), "{}", ended.stderr);
    drop(other);
    let ended = setup.run(&["prune", "--older-than", "90d"]).await?;
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(0), "100 entries deleted\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_takes_time_for_what_goes_and_not_for_what_stays() -> Result<()> {
    let setup = Setup::new().await?;
    setup.run(&["migrate"]).await?;
    setup.fill(30_000).await?;
    let begun = Instant::now();
    assert_eq!(setup.run(&["prune", "--older-than", "90d"]).await?.stdout, "30000 entries deleted\n");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let standing = "SELECT count(*) FROM penstock.head h JOIN penstock.object o ON o.id = h.object_id";
    assert_eq!(setup.database.value(standing).await?, "30000");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_keeps_the_staging_tables_it_used_last_and_no_more() -> Result<()> {
    let setup = Setup::new().await?;
    let options: PgConnectOptions = setup.database.url().parse()?;
    let mut session = Sessions::new(move || Ok(options.clone())).open().await?;
    let first = session.staging("(c0 int)").await?;
    let mut last = String::new();
    for n in 1..100 {
        last = session.staging(&format!("(c{n} int)")).await?;
        assert_eq!(session.staging("(c0 int)").await?, first, "it is used all the time");
    }
    let there = "SELECT 'pg_temp.' || relname FROM pg_class WHERE relname LIKE 'penstock_staging%' AND relkind = 'r'";
    let there = setup.database.rows(there).await?;
    assert!(there.len() <= 40 && there.contains(&first) && there.contains(&last), "{there:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_stand_keep_what_the_protocol_needs() -> Result<()> {
    let setup = Setup::new().await?;
    setup.database.execute("CREATE TABLE t (id bigint PRIMARY KEY, n int)").await?;
    let file = setup.scratch.write("a.csv", "id,n\n1,1\n2,2\n")?.display().to_string();
    assert_eq!(setup.run(&["load", &file]).await?.status.code(), Some(0));
    setup.database.execute("UPDATE penstock.object SET finished_at = now() - interval '100 days'").await?;
    let kept = "SELECT etag, size, sequencer, last_modified, state, rows_read, rows_written, imported_at, finished_at FROM penstock.object";
    let before = setup.database.rows(kept).await?;
    let prune = ["prune", "--older-than", "90d", "--standing"];
    assert_eq!(setup.run(&prune).await?.stdout, "0 entries deleted\n1 entries shortened\n");
    assert_eq!(setup.database.rows(kept).await?, before);
    assert_eq!(setup.database.value("SELECT worker IS NULL AND technique IS NULL FROM penstock.object").await?, "true");
    assert_eq!(setup.run(&prune).await?.stdout, "0 entries deleted\n0 entries shortened\n");
    // It is known to be imported.
    let rows = setup.database.rows("SELECT xmin, * FROM t").await?;
    assert_eq!(setup.run(&["load", &file]).await?.status.code(), Some(0));
    assert_eq!(setup.database.rows("SELECT xmin, * FROM t").await?, rows);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_takes_what_nobody_works_on_any_more() -> Result<()> {
    let setup = Setup::new().await?;
    setup.run(&["migrate"]).await?;
    setup.unfinished("'importing', now() - interval '100 days'").await?;
    setup.unfinished("'retrying', now() - interval '100 days'").await?;
    setup.unfinished("'importing', now()").await?;
    assert_eq!(setup.run(&["prune", "--older-than", "90d"]).await?.stdout, "2 entries deleted\n");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_whose_worker_is_gone_says_that_it_waits_and_later_that_it_failed() -> Result<()> {
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, PAIRS_TABLE, PAIRS).await?;
    world.drain(1).await?;
    for (key, age) in
        [("new", "1 minute"), ("old", "2 hours"), ("lost", "16 days"), ("known", "2 hours"), ("open", "2 hours")]
    {
        world.database.execute(&unfinished(key, &format!("'importing', now() - interval '{age}'"))).await?;
    }
    // A worker that has beaten, and one that has not for long and has a session, are still at it.
    let mut session = world.database.connect().await?;
    sqlx::raw_sql(
        "UPDATE penstock.object o SET worker = h.key FROM penstock.head h WHERE h.id = o.head_id AND h.key IN ('known', 'open');
         INSERT INTO penstock.workers (id, host, pid, version, state, slots, heartbeat_at, visibility_timeout_secs, started_at)
         VALUES ('known', 'h', 1, 'v', 'busy', 1, now(), 30, now());
         SET application_name = 'penstock importer open'",
    )
    .execute(&mut session)
    .await?;
    world.drain(1).await?;
    assert_eq!(
        world.ledger().await?,
        [
            "known | importing | - | 0",
            "lost | failed | abandoned | 0",
            "new | importing | - | 0",
            "old | retrying | abandoned | 0",
            "open | importing | - | 0",
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_before_it_is_identified_is_known_with_the_reason() -> Result<()> {
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, PAIRS_TABLE, PAIRS).await?;
    world.pipeline.put("pairs/a", pairs(&[(1, "a")])).await?;
    let bucket = &world.pipeline.bucket;
    world.pipeline.send(json!({"bucket": bucket, "key": "pairs/a"}).to_string()).await?;
    let proxy = world.aws_proxy().await?;
    let answer = Action::Answer(http_answer(503, "Slow Down"));
    let head = proxy.add(Rule::when_client_sends(format!("HEAD /{bucket}/pairs/a"), answer).always());
    let worker = world.through_aws(world.drainer(), "S3", &proxy).expect_line("held").start()?;
    let status = || world.command("status").arg(format!("s3://{bucket}/pairs/a")).run(LIMIT);
    let said = wait::until("the object to be known", LIMIT, || async {
        let ended = status().await?;
        Ok((ended.status.code() == Some(0) && ended.stdout.contains("error")).then_some(ended.stdout))
    })
    .await?;
    assert!(said.contains("retrying") && said.contains("503"), "{said}");
    drop(head);
    proxy.open();
    worker.kill()?;
    world.database.execute("UPDATE penstock.object SET attempts = 0").await?;
    world.pipeline.send(json!({"bucket": bucket, "key": "pairs/a"}).to_string()).await?;
    world.drain(1).await?;
    assert_eq!(world.ledger().await?.len(), 1, "its entry is the version's own from then on");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_gone_are_waited_for_without_a_slot() -> Result<()> {
    let datasets = format!("{PAIRS}\n[worker]\nconcurrency = 1\n");
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, PAIRS_TABLE, &datasets).await?;
    let bucket = &world.pipeline.bucket;
    let record = |n| {
        json!({"eventVersion": "2.1", "eventName": "ObjectCreated:Put",
               "s3": {"bucket": {"name": bucket}, "object": {"key": format!("pairs/{n}")}}})
    };
    let records: Vec<_> = (0..40).map(record).collect();
    world.pipeline.send(json!({"Records": records}).to_string()).await?;
    let begun = Instant::now();
    world.drain(1).await?;
    assert!(begun.elapsed() < Duration::from_secs(40), "one after the other, for {:?}", begun.elapsed());
    assert_eq!(world.database.value("SELECT count(*) FROM penstock.object WHERE state = 'gone'").await?, "40");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_with_u_0000_does_not_fail_its_object() -> Result<()> {
    let setup = Setup::new().await?;
    setup.database.execute("CREATE TABLE t (id bigint PRIMARY KEY, n int)").await?;
    let file = setup.scratch.write("a.csv", "id,n,x\0y\n1,1,a\n2,no,b\n")?.display().to_string();
    let ended = setup.run(&["load", &file]).await?;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(setup.database.rows("SELECT id FROM t").await?, ["1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_the_databases_encoding_lacks_fails_its_object() -> Result<()> {
    let setup = Setup::new().await?;
    let name = format!("{}_latin1", setup.database.name());
    let create = format!("CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
    setup.database.execute(&create).await?;
    let url = setup.database.url().replace(setup.database.name(), &name);
    let file = setup.scratch.write("€.csv", "id,n\n1,1\n")?.display().to_string();
    let ended = setup.run_with(&["load", &file], &url).await;
    setup.database.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await?;
    let ended = ended?;
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("encoding"), "{}", ended.stderr);
    Ok(())
}

fn unfinished(key: &str, state_and_start: &str) -> String {
    format!(
        "WITH head AS (INSERT INTO penstock.head (dataset, bucket, key) VALUES ('d', 'b', '{key}') RETURNING id)
         INSERT INTO penstock.object (head_id, etag, size, worker, state, started_at, first_seen_at)
         SELECT id, 'e', 1, 'gone', state, start, start FROM head, (SELECT {state_and_start}) x (state, start)"
    )
}

struct Setup {
    database: Database,
    scratch: Scratch,
}

impl Setup {
    async fn new() -> Result<Self> {
        let setup = Self { database: Postgres::shared()?.create_database().await?, scratch: Scratch::new("weeks")? };
        let config = format!(
            "[[dataset]]\nname = \"d\"\nmatch = \"{}/**\"\ntable = \"t\"\nkey = [\"id\"]\nmax_rejects = 1\n",
            setup.scratch.path().display()
        );
        setup.scratch.write("importer.toml", config)?;
        Ok(setup)
    }

    /// Makes entries of so many keys, of a version that stands and one that was imported long before.
    async fn fill(&self, n_keys: usize) -> Result<()> {
        let insert = |etag: &str, age: &str| {
            format!(
                "INSERT INTO penstock.object (head_id, etag, size, state, rows_read, rows_written, rows_merged, rows_filtered,
                     rows_rejected, imported_at, finished_at)
                 SELECT id, '{etag}', 1, 'imported', 1, 1, 0, 0, 0, now() - interval '{age}', now() - interval '{age}'
                 FROM penstock.head;"
            )
        };
        let (old, new) = (insert("old", "100 days"), insert("new", "1 hour"));
        self.database
            .execute(&format!(
                "INSERT INTO penstock.head (dataset, bucket, key) SELECT 'd', 'b', i FROM generate_series(1, {n_keys}) i;
                 {old} {new}
                 UPDATE penstock.head h SET object_id = o.id FROM penstock.object o
                 WHERE o.head_id = h.id AND o.etag = 'new';"
            ))
            .await?;
        self.database.execute("ANALYZE penstock.head, penstock.object").await
    }

    async fn unfinished(&self, state_and_start: &str) -> Result<()> {
        let key = self.database.value("SELECT count(*) FROM penstock.head").await?;
        self.database.execute(&unfinished(&key, state_and_start)).await
    }

    async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        self.run_with(arguments, &self.database.url()).await
    }

    async fn run_with(&self, arguments: &[&str], database_url: &str) -> Result<Ended> {
        let program = Program::new("importer").args(arguments).env("DATABASE_URL", database_url);
        program.in_directory(self.scratch.path()).run(LIMIT).await.context("run the importer")
    }
}
