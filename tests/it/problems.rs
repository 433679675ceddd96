//! What is gathered beside the ledger: problems until they are mended, and minutes once they are over.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::Result;
use penstock_tests::aws::Options;

const PROBLEMS: &str = "SELECT kind, dataset, reason, column_name, n FROM penstock.problem ORDER BY 1, 2, 3, 4";

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_a_problem_until_it_is_imported_or_another_version_is() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    for key in ["pairs/a.parquet", "pairs/b.parquet"] {
        world.pipeline.put(key, "PAR1 and nothing else").await?;
    }
    let drain = async || world.drainer().expect_line("object failed").start()?.finish(LIMIT).await;
    world.pipeline.wait_for_visible(2, LIMIT).await?;
    drain().await?;
    let expected = "failed | pairs | corrupt |  | 1";
    assert_eq!(world.database.rows(PROBLEMS).await?, [expected, expected]);
    // Another version of the key is imported, under the same name.
    world.pipeline.put("pairs/a.parquet", pairs(&[(1, "x")])).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    drain().await?;
    world.database.execute("SELECT penstock.forget_mended()").await?;
    assert_eq!(world.database.rows(PROBLEMS).await?, [expected]);
    world.database.execute("UPDATE penstock.object SET state = 'imported', rows_read = 0, rows_written = 0, rows_merged = 0, \
        rows_filtered = 0, rows_rejected = 0, error = NULL, imported_at = now(), finished_at = now() WHERE state = 'failed'").await?;
    assert_eq!(world.database.rows(PROBLEMS).await?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_load_mends_is_forgotten_though_no_worker_runs() -> Result<()> {
    let desk = crate::desk::Desk::new("CREATE TABLE t (id int PRIMARY KEY)", "table = \"t\"\nkey = [\"id\"]").await?;
    assert_eq!(desk.load("k.csv", "id\nx\n").await?, 3);
    assert_eq!(desk.database.rows(PROBLEMS).await?.len(), 1);
    assert_eq!(desk.load("k.csv", "id\n17\n").await?, 0);
    assert_eq!(desk.database.rows(PROBLEMS).await?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_are_counted_by_what_is_wrong_until_their_second_chance() -> Result<()> {
    let desk = crate::desk::Desk::new(
        "CREATE TABLE t (id int PRIMARY KEY, n smallint CHECK (n < 100))",
        "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 10",
    )
    .await?;
    desk.load("k.csv", "id,n\n1,70000\n2,80000\n3,x\n4,4\n").await?;
    let problems = || {
        desk.database.rows(
            "SELECT kind, dataset, reason, column_name, sum(n) FROM penstock.problem GROUP BY 1, 2, 3, 4 ORDER BY 3",
        )
    };
    let found = problems().await?;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.contains(&"rejected | d | range | n | 2".to_owned()), "{found:?}");
    desk.database.execute("ALTER TABLE t ALTER n TYPE int, DROP CONSTRAINT t_n_check").await?;
    desk.run(&["rejects", "--replay"]).await?;
    assert_eq!(problems().await?.len(), 1, "what fits by now is none any more");
    desk.database.execute("UPDATE penstock.head SET object_id = NULL; DELETE FROM penstock.object").await?;
    assert_eq!(problems().await?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn minutes_that_are_over_are_written_once() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    for id in 0..3 {
        world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, "x"), (10 + id, "y")])).await?;
    }
    world.pipeline.wait_for_visible(3, LIMIT).await?;
    world.drain(1).await?;
    // As if they had been imported a while ago, over two minutes.
    world
        .database
        .execute(
            "UPDATE penstock.rolled_up SET up_to = date_trunc('minute', now()) - interval '9 minutes'; \
             UPDATE penstock.object SET event_time = event_time - interval '5 minutes', imported_at = imported_at - interval '5 minutes', \
                 finished_at = date_trunc('minute', now()) - interval '5 minutes' - id % 2 * interval '1 minute' + interval '10 seconds'; \
             UPDATE penstock.object SET imported_at = finished_at; DELETE FROM penstock.finished; \
             INSERT INTO penstock.finished SELECT id, finished_at FROM penstock.object",
        )
        .await?;
    for _ in 0..3 {
        world.database.execute("SELECT penstock.roll_up()").await?;
    }
    let minutes = "SELECT dataset, n_imported, rows_written, n_failed, newest_event IS NOT NULL, lag_p95 IS NOT NULL \
                   FROM penstock.dataset_minute ORDER BY n_imported";
    assert_eq!(
        world.database.rows(minutes).await?,
        ["pairs | 1 | 2 | 0 | true | true", "pairs | 2 | 4 | 0 | true | true"]
    );
    let up_to = "SELECT up_to >= date_trunc('minute', now() - interval '75 seconds') FROM penstock.rolled_up";
    assert_eq!(world.database.value(up_to).await?, "true");
    Ok(())
}
