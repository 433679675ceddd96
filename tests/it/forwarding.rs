//! Killed around the forwarding of a failed message: no failed object without an entry in the dead-letter queue.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::Result;
use penstock_tests::{
    aws::{Depth, Options, Route},
    proxy::{Action, Proxy, Rule, Trigger},
    wait,
};
use serde_json::json;

/// Of the queue, so that a killed worker's message comes back soon.
const VISIBILITY_SECS: u32 = 3;
const FORWARDING: &[u8] = b"AmazonSQS.SendMessage";
/// The state as a statement's parameter: where the ledger records the failure.
const RECORDING: &[u8] = b"\0\0\0\x06failed";
const DELETING: &[u8] = b"AmazonSQS.DeleteMessage";

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_forwarding_it_is_forwarded_by_the_next() -> Result<()> {
    let world = failing().await?;
    kill_at(&world, FORWARDING, Action::HoldRequest).await?;
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    settle(&world).await?;
    assert_eq!(dead_letters(&world).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_forwarding_and_recording_it_is_forwarded_again_rather_than_not_at_all() -> Result<()> {
    for (window, action) in [(FORWARDING, Action::HoldAnswer), (RECORDING, Action::HoldRequest)] {
        let world = failing().await?;
        kill_at(&world, window, action).await?;
        assert_eq!(world.pipeline.dead_letter_depth().await?.visible, 1, "{}", window.escape_ascii());
        assert_eq!(world.states().await?, ["pairs/1.gz | importing | 0"], "{}", window.escape_ascii());
        settle(&world).await?;
        assert_eq!(dead_letters(&world).await?, 2, "{}", window.escape_ascii());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_recording_and_deleting_the_same_message_is_only_deleted() -> Result<()> {
    for (window, action) in [(RECORDING, Action::HoldAnswer), (DELETING, Action::HoldRequest)] {
        let world = failing().await?;
        kill_at(&world, window, action).await?;
        wait::until("the record of the failure", LIMIT, || async {
            Ok((world.states().await? == ["pairs/1.gz | failed | 0"]).then_some(()))
        })
        .await?;
        // Mended since, which the old message must not find out: it was given up.
        world.pipeline.put("pairs/1.gz", pairs(&[(1, "mended")])).await?;
        world.drainer().expect_line("object failed").start()?.finish(LIMIT).await?;
        assert_eq!(world.pipeline.depth().await?, Depth::default(), "{}", window.escape_ascii());
        assert_eq!(world.pairs().await?, [""; 0], "{}", window.escape_ascii());
        assert_eq!(attempts(&world).await?, "1", "{}", window.escape_ascii());
        assert_eq!(dead_letters(&world).await?, 1, "{}", window.escape_ascii());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redriven_message_is_tried_afresh_and_may_fail_afresh() -> Result<()> {
    let world = failing().await?;
    settle(&world).await?;
    assert_eq!(world.command("redrive").run(LIMIT).await?.stdout, "1 messages sent back, 0 left\n");
    settle(&world).await?;
    assert_eq!(attempts(&world).await?, "2");
    assert_eq!(world.pipeline.dead_letter_depth().await?.visible, 1);
    assert_eq!(world.command("redrive").run(LIMIT).await?.stdout, "1 messages sent back, 0 left\n");
    world.pipeline.put("pairs/1.gz", pairs(&[(1, "mended")])).await?;
    world.drain(1).await?;
    assert_eq!(world.pairs().await?, ["1=mended"]);
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_dataset_takes_is_forwarded_with_its_record_or_again() -> Result<()> {
    for (window, action) in [(RECORDING, Action::HoldRequest), (RECORDING, Action::HoldAnswer)] {
        let recorded = action == Action::HoldAnswer;
        let world = quiet_world().await?;
        world.pipeline.put("stray", "x").await?;
        world.pipeline.send(format!("s3://{}/stray", world.pipeline.bucket)).await?;
        kill_at(&world, window, action).await?;
        settle(&world).await?;
        assert_eq!(world.ledger().await?, ["stray | failed | unrouted | 0"]);
        assert_eq!(dead_letters(&world).await?, if recorded { 1 } else { 2 }, "recorded: {recorded}");
    }
    Ok(())
}

/// A world with a message about a corrupt object.
async fn failing() -> Result<World> {
    let world = quiet_world().await?;
    let stored = world.pipeline.put("pairs/1.gz", b"\x1f\x8b\x08\x00broken").await?;
    // It names the version, as events do.
    let event = json!({"bucket": world.pipeline.bucket, "key": "pairs/1.gz", "etag": stored.etag, "size": 10});
    world.pipeline.send(event.to_string()).await?;
    Ok(world)
}

async fn quiet_world() -> Result<World> {
    let options = Options { route: Route::Nowhere, visibility_timeout_secs: VISIBILITY_SECS, ..Options::default() };
    World::new(options, PAIRS_TABLE, PAIRS).await
}

/// Runs a worker with a window held open, before SQS and Postgres alike, and kills it there.
async fn kill_at(world: &World, window: &[u8], action: Action) -> Result<()> {
    let (sqs, postgres) = (world.aws_proxy().await?, world.postgres_proxy().await?);
    let add = |proxy: &Proxy| -> Trigger { proxy.add(Rule::when_client_sends(window, action.clone())) };
    let triggers = (add(&sqs), add(&postgres));
    let worker = world.through_postgres(world.through_aws(world.worker(), "SQS", &sqs), &postgres).start()?;
    tokio::select! {
        fired = triggers.0.fired(1, LIMIT) => fired?,
        fired = triggers.1.fired(1, LIMIT) => fired?,
    }
    if action == Action::HoldAnswer {
        // What was asked for happens; only the answer is not heard of.
        wait::until("the server to have acted", LIMIT, || async {
            let forwarded = world.pipeline.dead_letter_depth().await?.visible > 0;
            let recorded = world.states().await?.iter().any(|line| line.contains("| failed |"));
            Ok((if window == RECORDING { recorded } else { forwarded }).then_some(()))
        })
        .await?;
    }
    worker.kill()
}

/// Lets another worker do the rest.
async fn settle(world: &World) -> Result<()> {
    world.drainer().expect_line("object failed").start()?.finish(LIMIT).await?;
    assert_eq!(world.pipeline.depth().await?, Depth::default());
    assert!(world.states().await?.iter().all(|line| line.contains("| failed |")), "{:?}", world.states().await?);
    Ok(())
}

/// Takes the dead letters, which are all the same message, and counts them.
async fn dead_letters(world: &World) -> Result<usize> {
    let taken = world.pipeline.take_dead_letters().await?;
    assert!(
        taken.iter().all(|message| message.body == taken[0].body && message.attributes.contains_key("penstock-reason"))
    );
    Ok(taken.len())
}

async fn attempts(world: &World) -> Result<String> {
    world.database.value("SELECT max(attempts) FROM penstock.object_status").await
}
