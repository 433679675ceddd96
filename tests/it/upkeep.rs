//! What the ledger costs Postgres: updates that stay on their pages, and what is kept beside it.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::{Context as _, Result};
use penstock_tests::{aws::Options, postgres::Postgres, repository, wait};
use sqlx::Executor as _;
use tokio::time::timeout;

const UPDATES: &str = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables \
                       WHERE schemaname = 'penstock' AND relname = ";

#[tokio::test(flavor = "multi_thread")]
async fn updates_of_the_ledger_stay_on_their_pages() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    const KEYS: i64 = 300;
    // New objects, in groups and alone; then the same keys with other rows, and all of it once more.
    for version in ["a", "b"] {
        for id in 0..KEYS {
            world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, version)])).await?;
        }
        world.drain(2).await?;
    }
    for id in 0..KEYS {
        let message = serde_json::json!({"bucket": world.pipeline.bucket, "key": format!("pairs/{id}")});
        world.pipeline.send(message.to_string()).await?;
    }
    world.drain(2).await?;
    for (table, at_least) in [("object", 3 * KEYS), ("head", 2 * KEYS)] {
        let (n_updates, n_hot) = updates(&world, table, at_least).await?;
        println!("{table}: {n_hot} of {n_updates} updates are HOT");
        assert!(n_hot * 100 >= n_updates * 98, "{table}: {n_hot} of {n_updates}");
    }
    Ok(())
}

/// Returns how many updates a table has seen and how many of them were HOT, once the statistics are there.
async fn updates(world: &World, table: &str, at_least: i64) -> Result<(i64, i64)> {
    wait::until("the statistics of the updates", LIMIT, || async {
        let counted = world.database.rows(&format!("{UPDATES}'{table}'")).await?;
        let (updates, hot) = counted[0].split_once(" | ").context("two numbers")?;
        let (updates, hot): (i64, i64) = (updates.parse()?, hot.parse()?);
        Ok((updates >= at_least).then_some((updates, hot)))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unfinished_and_was_finished_is_kept_beside_the_ledger_whoever_writes_it() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    world.pipeline.put("pairs/1", pairs(&[(1, "a")])).await?;
    world.drain(1).await?;
    let beside = "SELECT (SELECT count(*) FROM penstock.unfinished), (SELECT count(*) FROM penstock.finished)";
    assert_eq!(world.database.rows(beside).await?, ["0 | 1"]);
    // By hand, as a release that knows nothing of these tables writes.
    for (change, expected) in [
        ("UPDATE penstock.object SET state = 'retrying'", "1 | 1"),
        ("UPDATE penstock.object SET state = 'importing'", "1 | 1"),
        ("UPDATE penstock.object SET state = 'failed', finished_at = clock_timestamp()", "0 | 2"),
        ("UPDATE penstock.object SET state = 'importing'", "1 | 2"),
        ("UPDATE penstock.head SET object_id = NULL; DELETE FROM penstock.object", "0 | 2"),
    ] {
        world.database.execute(change).await?;
        assert_eq!(world.database.rows(beside).await?, [expected], "{change}");
    }
    world.database.execute("UPDATE penstock.finished SET at = at - interval '3 hours'").await?;
    world.drain(1).await?;
    assert_eq!(world.database.rows(beside).await?, ["0 | 0"], "heartbeats forget");
    Ok(())
}

/// As the release before left it, while its importers have read the ledger in transactions that last.
#[tokio::test(flavor = "multi_thread")]
async fn a_filled_ledger_is_migrated_beside_those_who_are_at_work_on_it() -> Result<()> {
    let database = Postgres::shared()?.create_database().await?;
    let mut files: Vec<_> =
        std::fs::read_dir(repository().join("migrations"))?.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    files.sort();
    let texts: Vec<String> = files.iter().map(std::fs::read_to_string).collect::<Result<_, _>>()?;
    let role = format!("{}_worker", database.name());
    let before = format!(
        "CREATE ROLE {role}; GRANT SELECT, INSERT, UPDATE ON penstock.object TO {role};
         INSERT INTO penstock.head (dataset, bucket, key) SELECT 'd', 'b', i FROM generate_series(1, 20000) i;
         INSERT INTO penstock.object (head_id, etag, size, state, started_at, finished_at)
         SELECT id, 'e', 1, (ARRAY['importing', 'retrying', 'failed', 'skipped'])[CASE WHEN id <= 60 THEN id % 3 + 1 ELSE 4 END],
                now(), now()
         FROM penstock.head"
    );
    let mut connection = database.connect().await?;
    for text in texts[..3].iter().chain([&before]) {
        connection.execute(text.as_str()).await?;
    }
    let mut importing = database.connect().await?;
    importing.execute("BEGIN; SELECT count(*) FROM penstock.object").await?;
    let migrating = format!("BEGIN; {}; COMMIT", texts[3]);
    timeout(LIMIT / 3, connection.execute(migrating.as_str())).await.context("it waits for a reader")??;
    assert_eq!(database.value("SELECT count(*) FROM penstock.unfinished").await?, "40");
    let rights = format!("SELECT has_table_privilege('{role}', 'penstock.finished', 'INSERT')");
    let granted = database.value(&rights).await;
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await?;
    assert_eq!(granted?, "true");
    importing.execute("COMMIT").await?;
    for text in &texts[4..] {
        connection.execute(text.as_str()).await?;
    }
    let indexes = "SELECT indexname FROM pg_indexes WHERE schemaname = 'penstock' AND tablename = 'object' ORDER BY 1";
    assert_eq!(database.rows(indexes).await?, ["object_identity", "object_pkey"]);
    Ok(())
}
