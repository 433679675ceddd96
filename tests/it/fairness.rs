//! What one dataset suffers, another does not feel.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::Result;
use penstock_tests::{
    aws::{Depth, Options},
    wait,
};
use sqlx::Connection as _;

/// A second dataset, whose table the stories lock.
const LOCKED: &str = r#"
[[dataset]]
name = "locked"
match = "s3://*/locked/**"
table = "public.locked"
key = ["id"]
"#;

const TABLES: &str = "CREATE TABLE pairs (id bigint PRIMARY KEY, value text);
                      CREATE TABLE locked (id bigint PRIMARY KEY, value text)";

#[tokio::test(flavor = "multi_thread")]
async fn messages_held_for_one_dataset_take_no_slot_from_another() -> Result<()> {
    for concurrency in ["1", "4"] {
        let world = World::new(Options::default(), TABLES, &format!("{PAIRS}{LOCKED}")).await?;
        let mut other = world.database.connect().await?;
        let mut transaction = other.begin().await?;
        sqlx::query("LOCK TABLE locked IN SHARE MODE").execute(&mut *transaction).await?;
        // Many more than slots, and all of them in hand before the other dataset's come.
        for id in 0..20 {
            world.pipeline.put(&format!("locked/{id}"), pairs(&[(id, "x")])).await?;
        }
        let worker = world.worker().args(["--concurrency", concurrency]).start()?;
        let in_hand = Depth { in_flight: 20, ..Depth::default() };
        wait::until("all to be in hand", LIMIT, || async {
            Ok((world.pipeline.depth().await? == in_hand).then_some(()))
        })
        .await?;
        for id in 0..20 {
            world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, "x")])).await?;
        }
        wait::until("the other dataset's imports", LIMIT, || async {
            Ok((world.database.value("SELECT count(*) FROM pairs").await? == "20").then_some(()))
        })
        .await?;
        assert_eq!(world.database.value("SELECT count(*) FROM locked").await?, "0");
        assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());

        transaction.rollback().await?;
        world.pipeline.wait_until_empty(LIMIT).await?;
        assert_eq!(world.database.value("SELECT count(*) FROM locked").await?, "20");
        worker.terminate(LIMIT).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_dead_letter_queue_a_failed_message_is_hidden_and_kept() -> Result<()> {
    let options = Options { visibility_timeout_secs: 2, max_receive_count: None, ..Options::default() };
    let world = World::new(options, PAIRS_TABLE, PAIRS).await?;
    world.pipeline.put("pairs/bad.parquet", "PAR1 and no more").await?;
    world.pipeline.put("pairs/good", pairs(&[(1, "x")])).await?;
    let worker = world.worker().expect_line("hiding the failed message").expect_line("object failed").start()?;
    worker.wait_for_line("hiding the failed message", LIMIT).await?;
    let hidden = Depth { in_flight: 1, ..Depth::default() };
    wait::until("the good one's import", LIMIT, || async {
        Ok((world.pipeline.depth().await? == hidden).then_some(()))
    })
    .await?;
    worker.terminate(LIMIT).await?;
    // A stop does not bring it back, nor does the queue's visibility timeout: it is hidden for half a minute.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(world.pipeline.depth().await?, hidden);
    assert_eq!(world.ledger().await?, ["pairs/bad.parquet | failed | corrupt | 0", "pairs/good | imported | - | 1"]);
    Ok(())
}
