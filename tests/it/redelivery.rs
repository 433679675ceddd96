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

/// The queue's own clock says when each came, whoever received it first.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_has_when_the_message_was_sent_and_first_received() -> Result<()> {
    let world = World::new(Options::default(), telemetry::TABLE, TELEMETRY).await?;
    let load = Load::new(11, 400);
    let object = world.put_telemetry(&load, 0, 1, Format::Ndjson).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    let receive = world.pipeline.account.sqs.receive_message().queue_url(&world.pipeline.queue_url);
    let received = receive.visibility_timeout(2).send().await?;
    let body = received.messages().first().and_then(|message| message.body.clone()).unwrap_or_default();
    world.drain(1).await?;
    let times = "SELECT sent_at, first_received_at FROM penstock.object_status";
    let in_order = "SELECT sent_at <= first_received_at AND first_received_at + interval '1 second' < started_at \
                    AND started_at < imported_at FROM penstock.object_status";
    assert_eq!(world.database.value(in_order).await?, "true", "{:?}", world.database.rows(times).await?);

    let first = world.database.rows(times).await?;
    world.pipeline.send(body).await?;
    world.drain(1).await?;
    assert_eq!(world.database.rows(times).await?, first, "a duplicate");

    let object = format!("s3://{}/{}", world.pipeline.bucket, object);
    let replayed = world.command("replay").args(["--force", "--prefix", &object]).run(LIMIT).await?;
    assert!(replayed.status.success(), "{}", replayed.stderr);
    world.drain(1).await?;
    let again = "SELECT sent_at <= first_received_at AND first_received_at <= started_at AND sent_at > first_seen_at \
                 FROM penstock.object_status";
    assert_eq!(world.database.value(again).await?, "true", "the replay's own message");
    let shown = world.command("status").arg(&object).run(LIMIT).await?.stdout;
    assert!(["sent_at ", "first_received_at "].iter().all(|name| shown.contains(name)), "{shown}");

    // Loaded by hand before its message comes.
    let object = world.put_telemetry(&load, 1, 2, Format::Csv).await?;
    let object = format!("s3://{}/{object}", world.pipeline.bucket);
    let loaded = world.command("load").arg(&object).run(LIMIT).await?;
    assert!(loaded.status.success(), "{}", loaded.stderr);
    world.drain(1).await?;
    let by_hand = format!("{times} WHERE key LIKE '%part-00001%'");
    assert_eq!(world.database.rows(&by_hand).await?, ["∅ | ∅"], "no message");
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
