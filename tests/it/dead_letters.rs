//! What cannot be imported is forwarded before it is deleted.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World};
use anyhow::Result;
use penstock_tests::{
    aws::{Depth, Options, Route},
    proxy::{Action, Rule},
};
use serde_json::{Value, json};
use std::time::Duration;

/// Of the queue, so that a killed worker's message comes back soon.
const VISIBILITY_SECS: u32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_object_whose_worker_is_killed_before_forwarding_is_forwarded_by_the_next() -> Result<()> {
    let options = Options { visibility_timeout_secs: VISIBILITY_SECS, ..Options::default() };
    let world = World::new(options, PAIRS_TABLE, PAIRS).await?;
    // The start of a gzip member, and nothing more.
    world.pipeline.put("pairs/broken.gz", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b]).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    let proxy = world.aws_proxy().await?;
    let forward = proxy.add(Rule::when_client_sends("AmazonSQS.SendMessage", Action::HoldRequest));
    let worker = world.through_aws(world.worker(), "SQS", &proxy).start()?;
    forward.fired(1, LIMIT).await?;
    // Still ours, and not about to be deleted.
    let extend = proxy.add(Rule::when_client_sends("AmazonSQS.ChangeMessageVisibility", Action::Delay(Duration::ZERO)));
    extend.fired(1, Duration::from_secs(30)).await?;
    assert_eq!(world.pipeline.depth().await?, Depth { in_flight: 1, ..Depth::default() });
    worker.kill()?;
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());

    world.drainer().expect_line("object failed").start()?.finish(LIMIT).await?;
    let dead = world.pipeline.take_dead_letters().await?;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].attributes["penstock-reason"], "corrupt");
    assert_eq!(world.ledger().await?, ["pairs/broken.gz | failed | corrupt | 0"]);
    assert_eq!(world.pipeline.depth().await?, Depth::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_dead_letter_queue_refuses_is_sent_with_less_and_at_last_as_a_pointer_that_can_be_sent_back()
-> Result<()> {
    for (n_refused, n_attributes) in [(1, 1), (2, 0), (3, 7)] {
        let options = Options { route: Route::Nowhere, ..Options::default() };
        let world = World::new(options, PAIRS_TABLE, PAIRS).await?;
        let stored = world.pipeline.put("pairs/broken.gz", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b]).await?;
        let body = json!({"bucket": world.pipeline.bucket, "key": "pairs/broken.gz", "etag": stored.etag}).to_string();
        world.pipeline.send(body.clone()).await?;
        let proxy = world.aws_proxy().await?;
        let refusing =
            proxy.add(Rule::when_client_sends("AmazonSQS.SendMessage", Action::Answer(refusal())).times(n_refused));
        let worker = world.drainer().expect_line("object failed").expect_line("sending less of it");
        world.through_aws(worker, "SQS", &proxy).start()?.finish(LIMIT).await?;
        assert_eq!(refusing.count(), n_refused);
        let dead = world.pipeline.take_dead_letters().await?;
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].attributes.len(), n_attributes, "{:?}", dead[0].attributes);
        let sent: Value = serde_json::from_str(&dead[0].body)?;
        if n_refused < 3 {
            assert_eq!(dead[0].body, body);
        } else {
            let id = world.database.value("SELECT id FROM penstock.object_status").await?;
            assert_eq!(sent["dead_letter"]["object_id"].to_string(), id);
            assert_eq!(sent["dead_letter"]["reason"], "corrupt");
        }
        // Either way it can be tried afresh.
        world.pipeline.send(dead[0].body.clone()).await?;
        world.pipeline.put("pairs/broken.gz", crate::world::pairs(&[(1, "mended")])).await?;
        world.drain(1).await?;
        assert_eq!(world.pairs().await?, ["1=mended"]);
        assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    }
    Ok(())
}

/// What SQS says of a message whose body and attributes together are too long.
fn refusal() -> Vec<u8> {
    let body = "{\"__type\":\"com.amazonaws.sqs#InvalidParameterValueException\",\
                \"message\":\"One or more parameters are invalid. Reason: Message must be shorter than 262144 bytes.\"}";
    let length = body.len();
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.0\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}
