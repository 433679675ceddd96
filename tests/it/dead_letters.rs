//! What cannot be imported is forwarded before it is deleted.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World};
use anyhow::Result;
use penstock_tests::{
    aws::{Depth, Options},
    proxy::{Action, Rule},
};
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
