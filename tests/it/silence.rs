//! A peer that goes silent: no answer, and no end of the connection. It costs seconds on what waited for it and
//! a line that names it, and no message; the next connection answers.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::Result;
use penstock_tests::{
    aws::{Depth, Options, Route},
    http,
    process::Process,
    proxy::{Action, Rule},
    wait,
};
use serde_json::json;
use std::time::{Duration, Instant};

/// Within so long all is imported; the longest wait for an answer is that of a receive, 11 s here.
const SOON: Duration = Duration::from_secs(30);

/// The key that was settled last.
const LAST: &str = "SELECT h.key FROM penstock.object o JOIN penstock.head h ON h.id = o.head_id
                    ORDER BY o.finished_at DESC NULLS LAST LIMIT 1";

#[tokio::test(flavor = "multi_thread")]
async fn a_receive_without_an_answer_costs_no_message() -> Result<()> {
    check("SQS", "AmazonSQS.ReceiveMessage", "ReceiveMessage to 127.0.0.1", &["receive failed"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_without_an_answer_is_tried_again() -> Result<()> {
    check("SQS", "AmazonSQS.DeleteMessageBatch", "DeleteMessageBatch to 127.0.0.1", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_without_an_answer_is_tried_again_on_a_new_connection() -> Result<()> {
    check("S3", "/pairs/k", "/pairs/k to 127.0.0.1", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_an_answer_is_tried_again_on_a_new_connection_and_keeps_no_other_object_waiting() -> Result<()> {
    // Only a pointer that does not say which version it means is completed by HEAD.
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, PAIRS_TABLE, PAIRS).await?;
    let bucket = &world.pipeline.bucket;
    for id in 0..5 {
        world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, "a")])).await?;
    }
    let proxy = world.aws_proxy().await?;
    let silent = proxy.add(Rule::when_client_sends(format!("HEAD /{bucket}/pairs/0 "), Action::Silence));
    let worker = world.through_aws(world.worker(), "S3", &proxy).expect_line("a peer is silent").start()?;
    let send = |id: i64| world.pipeline.send(json!({"bucket": bucket, "key": format!("pairs/{id}")}).to_string());
    send(0).await?;
    silent.fired(1, LIMIT).await?;
    let (begun, n_connections) = (Instant::now(), proxy.connections());
    for id in 1..5 {
        send(id).await?;
    }
    let line = worker.wait_for_line("a peer is silent", SOON).await?;
    assert!(line.contains(&format!("HEAD /{bucket}/pairs/0 to 127.0.0.1")) && line.contains("no answer for"), "{line}");
    world.pipeline.wait_until_empty(SOON).await?;
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    assert_eq!(world.pairs().await?, ["0=a", "1=a", "2=a", "3=a", "4=a"]);
    assert!(proxy.connections() > n_connections, "no new connection");
    assert_eq!(world.database.value(LAST).await?, "pairs/0", "the others waited for it");
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_without_an_answer_is_sent_again_and_is_there_once() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    let proxy = world.aws_proxy().await?;
    let silent = proxy.add(Rule::when_client_sends("AmazonSQS.SendMessage", Action::Silence));
    let program = world.through_aws(world.worker(), "SQS", &proxy);
    let worker = ["a peer is silent", "object failed", "forward failed"]
        .iter()
        .fold(program, |program, line| program.expect_line(line))
        .start()?;
    world.pipeline.put("pairs/broken.parquet", "PAR1 and no more").await?;
    silent.fired(1, LIMIT).await?;
    let begun = Instant::now();
    for id in 0..5 {
        world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, "a")])).await?;
    }
    let line = worker.wait_for_line("a peer is silent", SOON).await?;
    assert!(line.contains("SendMessage to 127.0.0.1") && line.contains("no answer for"), "{line}");
    world.pipeline.wait_until_empty(SOON).await?;
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    assert_eq!(world.database.value("SELECT count(*) FROM pairs").await?, "5");
    let dead = world.pipeline.take_dead_letters().await?;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].attributes["penstock-reason"], "corrupt");
    assert_eq!(world.database.value(LAST).await?, "pairs/broken.parquet", "the others waited for it");
    worker.terminate(LIMIT).await
}

/// Leaves one call unanswered and expects the object to be imported once and soon, and a line that names the call.
async fn check(service: &str, pattern: &str, named: &str, expected: &[&str]) -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    let proxy = world.aws_proxy().await?;
    let silent = proxy.add(Rule::when_client_sends(pattern, Action::HoldRequest));
    world.pipeline.put("pairs/k", pairs(&[(1, "a")])).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    let program = world.through_aws(world.drainer(), service, &proxy).expect_line("a peer is silent");
    let worker = expected.iter().fold(program, |program, line| program.expect_line(line)).start()?;
    silent.fired(1, LIMIT).await?;
    let begun = Instant::now();
    let line = worker.wait_for_line("a peer is silent", SOON).await?;
    assert!(line.contains(named) && line.contains("no answer for"), "{line}");
    wait::until("the import and its delete", SOON, || async {
        let is_there = world.pairs().await? == ["1=a"];
        Ok((is_there && world.pipeline.depth().await? == Depth::default()).then_some(()))
    })
    .await?;
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    worker.finish(LIMIT).await?;
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_without_an_answer_are_tried_again_before_the_message_lapses() -> Result<()> {
    let options = Options { visibility_timeout_secs: 8, ..Options::default() };
    let world = World::new(options, PAIRS_TABLE, PAIRS).await?;
    let (queue, store) = (world.aws_proxy().await?, world.aws_proxy().await?);
    let reading = store.add(Rule::when_client_sends("/pairs/k", Action::HoldRequest));
    // A whole round, and the try after it.
    let silent = queue.add(Rule::when_client_sends("ChangeMessageVisibilityBatch", Action::HoldRequest).times(2));
    world.pipeline.put("pairs/k", pairs(&[(1, "a")])).await?;
    let program = world.through_aws(world.drainer(), "SQS", &queue);
    let worker =
        world.through_aws(program, "S3", &store).expect_line("silent").expect_line("could not extend").start()?;
    reading.fired(1, LIMIT).await?;
    silent.fired(2, LIMIT).await?;
    let begun = Instant::now();
    // Past the visibility timeout the message is still the worker's.
    while begun.elapsed() < Duration::from_secs(6) {
        assert_eq!(world.pipeline.depth().await?.visible, 0, "it lapsed");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    reading.release();
    worker.finish(LIMIT).await?;
    assert_eq!(world.pairs().await?, ["1=a"]);
    let receives = world.database.value("SELECT sum(receives) FROM penstock.workers").await?;
    assert!(["1", "∅"].contains(&receives.as_str()), "received {receives} times");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_in_time_although_the_queue_is_silent_and_readyz_says_that_it_is() -> Result<()> {
    let datasets = format!("[worker]\ndrain_timeout_secs = 12\n{PAIRS}");
    let world = World::new(Options::default(), PAIRS_TABLE, &datasets).await?;
    let (queue, store) = (world.aws_proxy().await?, world.aws_proxy().await?);
    let reading = store.add(Rule::when_client_sends("/pairs/", Action::HoldRequest).always());
    for i in 0..30 {
        world.pipeline.put(&format!("pairs/{i}"), pairs(&[(i, "a")])).await?;
    }
    let program = world.through_aws(world.worker(), "SQS", &queue);
    let worker = ["silent", "could not", "does not answer", "receive failed", "held", "drain timeout", "not answering"]
        .iter()
        .fold(world.through_aws(program, "S3", &store), |program, line| program.expect_line(line))
        .start()?;
    reading.fired(4, LIMIT).await?;
    queue.hold();
    worker.wait_for_line("receive failed", LIMIT).await?;
    let ready = http::get(&address(&worker, "readyz").await?).await?;
    let text = format!("{ready:?}");
    assert!(text.contains("503") && text.contains("ReceiveMessage to 127.0.0.1"), "{text}");
    let begun = Instant::now();
    worker.signal("TERM")?;
    worker.wait_exit(LIMIT).await?;
    assert!(begun.elapsed() < Duration::from_secs(14), "the stop took {:?}", begun.elapsed());
    Ok(())
}

async fn address(worker: &Process, path: &str) -> Result<String> {
    let line = worker.wait_for_line("serving health and metrics", LIMIT).await?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    Ok(format!("http://{}/{path}", line["listen"].as_str().unwrap_or_default()))
}
