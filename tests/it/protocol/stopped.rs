//! A worker that stopped while it held locks.

use super::bench::{Bench, event, settle};
use anyhow::Result;
use importer::{database::application_name, outcome::Outside};
use sqlx::{ConnectOptions as _, Executor as _, PgConnection, postgres::PgConnectOptions};
use std::time::Duration;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
const DATASET: &str = "table = \"public.t\"\nkey = [\"id\"]";
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);

/// Opens the transaction of a worker with this visibility timeout, whose last heartbeat was so long ago, and has it
/// run `statements`.
async fn holding(bench: &Bench, beat_secs_ago: u32, visibility_secs: u32, statements: &str) -> Result<PgConnection> {
    let options: PgConnectOptions = bench.database.url().parse()?;
    let mut connection = options.application_name(&application_name("frozen")).connect().await?;
    let row = format!(
        "INSERT INTO penstock.workers (id, host, pid, version, state, slots, heartbeat_at, visibility_timeout_secs, started_at) \
         VALUES ('frozen', 'h', 1, '0', 'busy', 1, now() - {beat_secs_ago} * interval '1 second', {visibility_secs}, now())"
    );
    connection.execute(row.as_str()).await?;
    connection.execute("BEGIN").await?;
    connection.execute(statements).await?;
    Ok(connection)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_does_not_block_a_key_for_ever() -> Result<()> {
    // Where its transaction may be: at the fence, at the ledger's row before its commit, in the rows.
    for statements in [
        "SELECT 1 FROM penstock.head FOR NO KEY UPDATE",
        "UPDATE penstock.object SET state = 'imported', rows_read = 0, rows_written = 0, rows_merged = 0, \
         rows_filtered = 0, rows_rejected = 0",
        "INSERT INTO public.t VALUES (1, 'frozen')",
    ] {
        let bench = Bench::new(TABLE, DATASET).await?;
        let put = bench.shelf.put("k", "{\"id\": 1, \"v\": \"a\"}\n");
        // The version was begun once, so its rows are there to be locked.
        bench.put("other", "{\"id\": 2}\n", "01").await?;
        bench.database.execute("INSERT INTO penstock.head (dataset, bucket, key) VALUES ('d', 'b', 'k')").await?;
        bench
            .database
            .execute(&format!(
                "INSERT INTO penstock.object (head_id, etag, size, state) \
                 SELECT id, '{}', {}, 'importing' FROM penstock.head WHERE key = 'k'",
                put.etag.clone().unwrap_or_default(),
                put.size.unwrap_or_default()
            ))
            .await?;
        let mut frozen = holding(&bench, 121, 1, statements).await?;
        let worker = bench.worker("claimant", LOCK_TIMEOUT)?;
        assert_eq!(settle(&worker, &event(&put, "01")).await?, "imported 1 = 1 + 0 + 0", "{statements}");
        assert!(frozen.execute("COMMIT").await.is_err(), "{statements}");
        assert_eq!(bench.rows("SELECT id, v FROM t ORDER BY id").await?, ["1 | a", "2 | ∅"], "{statements}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_waited_for_while_it_beats_or_its_sessions_speak() -> Result<()> {
    // The last heartbeat: within two visibility periods, or long before the session said something, which is just now.
    for beat_secs_ago in [100, 3600] {
        let bench = Bench::new(TABLE, DATASET).await?;
        bench.put("k", "{\"id\": 1, \"v\": \"a\"}\n", "01").await?;
        let mut busy = holding(&bench, beat_secs_ago, 60, "SELECT 1 FROM penstock.head FOR NO KEY UPDATE").await?;
        let record = event(&bench.shelf.put("k", "{\"id\": 1, \"v\": \"b\"}\n"), "02");
        let worker = bench.worker("claimant", LOCK_TIMEOUT)?;
        let routed = worker.router.route(record.clone());
        for _ in 0..2 {
            let held = worker.import(&routed, None).await.expect_err("the head is locked");
            assert_eq!(held.outside, Outside::Contention, "{beat_secs_ago} s");
        }
        busy.execute("COMMIT").await?;
        assert_eq!(settle(&worker, &record).await?, "imported 1 = 1 + 0 + 0", "{beat_secs_ago} s");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_is_recorded_while_another_import_holds_the_head() -> Result<()> {
    let bench = Bench::new(TABLE, DATASET).await?;
    bench.put("k", "{\"id\": 1, \"v\": \"a\"}\n", "01").await?;
    let mut busy = holding(&bench, 0, 60, "SELECT 1 FROM penstock.head FOR NO KEY UPDATE").await?;
    let put = bench.shelf.put("k", "{\"id\": 1, \"v\": \"b\"}\n");
    let gate = bench.shelf.gate(&put);
    let worker = bench.worker("next", Duration::from_secs(30))?;
    let next = tokio::spawn(async move { settle(&worker, &event(&put, "02")).await });
    gate.reached().await;
    assert_eq!(bench.rows("SELECT state FROM penstock.object_status ORDER BY id").await?, ["imported", "importing"]);
    gate.open();
    busy.execute("COMMIT").await?;
    assert_eq!(next.await??, "imported 1 = 1 + 0 + 0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fence_does_not_depend_on_the_roles_default_isolation() -> Result<()> {
    let bench = Bench::new(TABLE, DATASET).await?;
    let name = bench.database.name();
    let strict = format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'");
    bench.database.execute(&strict).await?;
    let body = |v: &str| format!("{{\"id\": 1, \"v\": \"{v}\"}}\n");
    bench.put("k", &body("a"), "01").await?;
    let b = bench.shelf.put("k", &body("b"));
    let gate = bench.shelf.gate(&b);
    let worker = bench.worker("late", Duration::from_secs(10))?;
    let late = tokio::spawn(async move { settle(&worker, &event(&b, "02")).await });
    gate.reached().await;
    assert_eq!(bench.put("k", &body("a"), "03").await?, "already imported");
    gate.open();
    assert_eq!(late.await??, "superseded");
    Ok(())
}
