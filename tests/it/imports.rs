//! Upload → SNS → SQS → worker → table.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, TELEMETRY, World, pairs};
use anyhow::Result;
use penstock_tests::{
    aws::{Depth, Options},
    telemetry::{self, Format, Load},
};

#[tokio::test(flavor = "multi_thread")]
async fn uploads_in_every_format_reach_the_table_as_they_were_written() -> Result<()> {
    let world = World::new(Options::default(), telemetry::TABLE, TELEMETRY).await?;
    let load = Load::new(5, 6000);
    for (part, format) in [Format::Parquet, Format::Ndjson, Format::Csv].into_iter().enumerate() {
        world.put_telemetry(&load, part as u64, 3, format).await?;
    }
    world.drain(1).await?;
    assert_eq!(
        world.ledger().await?,
        [
            "telemetry/part-00000.parquet | imported | - | 2000",
            "telemetry/part-00001.ndjson.gz | imported | - | 2000",
            "telemetry/part-00002.csv.gz | imported | - | 2000",
        ]
    );
    world.check_telemetry(load.events(0..6000)).await?;
    assert_eq!(world.pipeline.depth().await?, Depth::default());
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_updates_what_changed_and_leaves_the_rest_untouched() -> Result<()> {
    let world = World::new(Options::default(), telemetry::TABLE, TELEMETRY).await?;
    let load = Load::new(6, 1000);
    world.put_telemetry(&load, 0, 1, Format::Ndjson).await?;
    world.drain(1).await?;
    let before = world.versions_of_rows("telemetry").await?;

    let later = load.clone().changed(10);
    world.put_telemetry(&later, 0, 1, Format::Ndjson).await?;
    world.drain(1).await?;
    world.check_telemetry(later.events(0..1000)).await?;
    let after = world.versions_of_rows("telemetry").await?;
    let n_unchanged = before.iter().filter(|row| after.contains(row)).count();
    let n_equal = (0..1000).filter(|&position| load.event(position) == later.event(position)).count();
    assert_eq!(n_unchanged, n_equal);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn small_objects_that_wait_together_share_a_transaction() -> Result<()> {
    const OBJECTS: i64 = 150;
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    for id in 0..OBJECTS {
        // One that cannot be read, and one whose row another has, in the midst of the others.
        let body = match id {
            40 => "{\"id\": ".to_owned(),
            id => pairs(&[(id, "a"), (if id == 90 { 91 } else { 1000 + id }, "b")]),
        };
        world.pipeline.put(&format!("pairs/{id:03}"), body).await?;
    }
    world.drainer().args(["--concurrency", "1"]).expect_line("object failed").start()?.finish(LIMIT).await?;
    let states = "SELECT state, count(*) FROM penstock.object_status GROUP BY 1 ORDER BY 1";
    assert_eq!(world.database.rows(states).await?, ["failed | 1", "imported | 149"]);
    let n_rows = world.database.value("SELECT count(*) FROM pairs").await?;
    assert_eq!(n_rows, (2 * (OBJECTS - 1) - 1).to_string());
    let grouped = "SELECT count(*) FROM penstock.object WHERE technique = 'grouped'";
    let n_grouped: i64 = world.database.value(grouped).await?.parse()?;
    // How many wait together depends on how they arrive, and fifty go alone where one of them is refused.
    assert!(n_grouped > OBJECTS / 5, "{n_grouped} of {OBJECTS} shared a transaction");
    let transactions = "SELECT count(DISTINCT xmin::text) FROM pairs";
    let n_transactions: i64 = world.database.value(transactions).await?.parse()?;
    assert!(n_transactions < OBJECTS - OBJECTS / 6, "{n_transactions} transactions for {OBJECTS} objects");
    assert_eq!(world.pipeline.depth().await?, Depth::default());
    assert_eq!(world.pipeline.dead_letter_depth().await?.visible, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_imports_what_arrives_later_and_ends_when_told() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    let worker = world.worker().start()?;
    worker.wait_for_line("worker started", LIMIT).await?;
    world.pipeline.put("pairs/a", pairs(&[(1, "a"), (2, "b")])).await?;
    worker.wait_for_line("imported", LIMIT).await?;
    assert_eq!(world.pairs().await?, ["1=a", "2=b"]);
    world.pipeline.wait_until_empty(LIMIT).await?;
    worker.terminate(LIMIT).await?;
    assert_eq!(world.database.rows("SELECT id FROM penstock.workers").await?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_not_data_are_skipped_and_strangers_forwarded() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    world.pipeline.put("pairs/_SUCCESS", "").await?;
    world.pipeline.put("pairs/.part.crc", "x").await?;
    world.pipeline.put("pairs/empty", "").await?;
    world.pipeline.put("elsewhere/a", "x").await?;
    let worker = world.drainer().expect_line("unrouted").start()?;
    worker.finish(LIMIT).await?;
    assert_eq!(
        world.ledger().await?,
        [
            "elsewhere/a | failed | unrouted | 0",
            "pairs/.part.crc | skipped | name_rule | 0",
            "pairs/_SUCCESS | skipped | name_rule | 0",
            "pairs/empty | skipped | empty | 0",
        ]
    );
    let letters = world.pipeline.take_dead_letters().await?;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].attributes.get("penstock-reason").map(String::as_str), Some("unrouted"));
    assert!(letters[0].body.contains("elsewhere/a"));
    Ok(())
}
