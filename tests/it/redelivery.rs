//! The same message again, at any time, changes nothing.

use crate::world::{LIMIT, TELEMETRY, World, at_commit_of_rows};
use anyhow::Result;
use penstock_tests::{
    aws::{Depth, Options},
    proxy::Action,
    telemetry::{self, Format, Load},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_message_three_times_with_four_importers_moves_no_row() -> Result<()> {
    let world = World::new(Options::default(), telemetry::TABLE, TELEMETRY).await?;
    let load = Load::new(8, 8000);
    for part in 0..8 {
        world.put_telemetry(&load, part, 8, [Format::Parquet, Format::Ndjson, Format::Csv][part as usize % 3]).await?;
    }
    world.pipeline.wait_for_visible(8, LIMIT).await?;
    let messages: Vec<String> = world.pipeline.take_all().await?.into_iter().map(|message| message.body).collect();
    world.pipeline.send_all(&messages).await?;
    world.drain(1).await?;
    world.check_telemetry(load.events(0..8000)).await?;
    let before = world.versions_of_rows("telemetry").await?;
    assert!(world.ledger().await?.iter().all(|line| line.ends_with("| imported | - | 1000")));

    for _ in 0..3 {
        world.pipeline.send_all(&messages).await?;
    }
    world.drain(4).await?;
    assert!(world.versions_of_rows("telemetry").await? == before, "a row's xmin or ctid has changed");
    let ledger = world.ledger().await?;
    assert_eq!(ledger.len(), 8);
    assert!(ledger.iter().all(|line| line.ends_with("| imported | already_imported | 1000")), "{ledger:?}");
    assert_eq!(world.pipeline.depth().await?, Depth::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn first_deliveries_raced_by_four_importers_import_each_object_once() -> Result<()> {
    let world = World::new(Options::default(), telemetry::TABLE, TELEMETRY).await?;
    let load = Load::new(9, 4000);
    for part in 0..4 {
        world.put_telemetry(&load, part, 4, Format::Ndjson).await?;
    }
    world.pipeline.wait_for_visible(4, LIMIT).await?;
    let messages: Vec<String> = world.pipeline.take_all().await?.into_iter().map(|message| message.body).collect();
    for _ in 0..4 {
        world.pipeline.send_all(&messages).await?;
    }
    world.drain(4).await?;
    world.check_telemetry(load.events(0..4000)).await?;
    // A row that was written twice has another writer than its object's others, or left a dead row behind.
    let writers = world.database.value("SELECT count(DISTINCT xmin::text) FROM telemetry").await?;
    assert_eq!(writers, "4");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_not_acked_before_its_commit() -> Result<()> {
    let world = World::new(Options::default(), telemetry::TABLE, TELEMETRY).await?;
    let load = Load::new(10, 500);
    world.put_telemetry(&load, 0, 1, Format::Ndjson).await?;
    let proxy = world.postgres_proxy().await?;
    let held = at_commit_of_rows(&proxy, Action::HoldRequest);
    let worker = world.through_postgres(world.drainer(), &proxy).start()?;
    let commit = held.await?;
    assert_eq!(world.pipeline.depth().await?, Depth { in_flight: 1, ..Depth::default() });
    assert_eq!(world.database.value("SELECT count(*) FROM telemetry").await?, "0");
    commit.release();
    worker.finish(LIMIT).await?;
    world.check_telemetry(load.events(0..500)).await?;
    assert_eq!(world.pipeline.depth().await?, Depth::default());
    Ok(())
}
