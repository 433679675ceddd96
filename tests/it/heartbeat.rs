//! A message in hand stays ours for as long as its import takes.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::Result;
use penstock_tests::{
    aws::{Depth, Options, Route},
    proxy::{Action, Rule},
};
use std::time::{Duration, Instant};

/// Of the queue.
const VISIBILITY_SECS: u32 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn an_import_four_times_longer_than_the_visibility_timeout_is_delivered_once_and_so_are_nine_behind_it()
-> Result<()> {
    // One receive is all a message has: a second one would make it a dead letter.
    let options =
        Options { visibility_timeout_secs: VISIBILITY_SECS, max_receive_count: Some(1), ..Options::default() };
    let world = World::new(options, PAIRS_TABLE, PAIRS).await?;
    for id in 0..10 {
        world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, "x")])).await?;
    }
    world.pipeline.wait_for_visible(10, LIMIT).await?;
    let proxy = world.aws_proxy().await?;
    let pause = Duration::from_secs((4 * VISIBILITY_SECS).into());
    let get = format!("GET /{}/pairs/", world.pipeline.bucket);
    let slow = proxy.add(Rule::when_client_sends(get, Action::Delay(pause)));
    let worker = world.through_aws(world.drainer().args(["--concurrency", "1"]), "S3", &proxy).start()?;
    slow.fired(1, LIMIT).await?;
    worker.finish(LIMIT).await?;
    let imported: Vec<_> = (0..10).map(|id| format!("{id}=x")).collect();
    assert_eq!(world.pairs().await?, imported);
    assert_eq!(world.database.value("SELECT max(attempts) FROM penstock.object_status").await?, "1");
    assert_eq!(world.pipeline.depth().await?, Depth::default());
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    let slowest = world.database.value("SELECT max(duration_seconds) >= 8 FROM penstock.object_status").await?;
    assert_eq!(slowest, "true");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_wait_for_a_slot_stay_ours() -> Result<()> {
    let options = Options {
        route: Route::Nowhere,
        visibility_timeout_secs: VISIBILITY_SECS,
        max_receive_count: Some(1),
        ..Options::default()
    };
    let world = World::new(options, PAIRS_TABLE, PAIRS).await?;
    let mut messages = Vec::new();
    for id in 0..30 {
        world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, "x")])).await?;
        messages.push(format!("s3://{}/pairs/{id}", world.pipeline.bucket));
    }
    let proxy = world.aws_proxy().await?;
    let worker = world.through_aws(world.drainer().args(["--concurrency", "1"]), "S3", &proxy).start()?;
    // Quick ones first: a worker receives no more than it expects to start soon.
    let (quick, behind_a_slow_one) = messages.split_at(20);
    world.pipeline.send_all(quick).await?;
    world.pipeline.wait_until_empty(LIMIT).await?;

    let pause = Duration::from_secs((4 * VISIBILITY_SECS).into());
    let get = format!("GET /{}/pairs/", world.pipeline.bucket);
    let slow = proxy.add(Rule::when_client_sends(get, Action::Delay(pause)));
    world.pipeline.send_all(behind_a_slow_one).await?;
    slow.fired(1, LIMIT).await?;
    // A stranger takes what the worker left, and then finds nothing for as long as the slow one takes.
    let left = world.pipeline.take_all().await?;
    let held = Depth { in_flight: (messages.len() - quick.len() - left.len()) as u64, ..Depth::default() };
    assert!(held.in_flight > 2, "too few wait behind the slow one");
    let watched_until = Instant::now() + pause / 2;
    while Instant::now() < watched_until {
        assert_eq!(world.pipeline.depth().await?, held);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    worker.finish(LIMIT).await?;
    let imported = messages.len() - left.len();
    assert_eq!(world.database.value("SELECT count(*) FROM pairs").await?, imported.to_string());
    assert_eq!(world.pipeline.depth().await?, Depth::default());
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    Ok(())
}
