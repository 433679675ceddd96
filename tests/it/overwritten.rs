//! An object that is overwritten while it is read.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World};
use anyhow::Result;
use penstock_tests::{
    aws::{Depth, Options, Route},
    proxy::{Action, Rule},
};
use serde_json::json;

const N_ROWS: usize = 5000;

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_broke_off_is_not_continued_with_another_versions_bytes() -> Result<()> {
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, PAIRS_TABLE, PAIRS).await?;
    // Of the same length, so that only the version tells them apart.
    let body =
        |value: &str| -> String { (0..N_ROWS).map(|id| format!("{{\"id\":{id},\"value\":\"{value}\"}}\n")).collect() };
    let old = world.pipeline.put("pairs/a", body("old")).await?;
    let message = json!({"bucket": world.pipeline.bucket, "key": "pairs/a", "etag": old.etag});
    world.pipeline.send(message.to_string()).await?;

    let proxy = world.aws_proxy().await?;
    let get = format!("GET /{}/pairs/a", world.pipeline.bucket);
    proxy.add(Rule::when_client_sends(&get, Action::CutAnswer(50_000)));
    let resumed = proxy.add(Rule::when_client_sends(&get, Action::HoldRequest).after(1));
    let worker = world.through_aws(world.drainer(), "S3", &proxy).start()?;
    resumed.fired(1, LIMIT).await?;
    world.pipeline.put("pairs/a", body("new")).await?;
    resumed.release();
    worker.finish(LIMIT).await?;

    assert_eq!(world.database.rows("SELECT value, count(*) FROM pairs GROUP BY value").await?, ["new | 5000"]);
    assert_eq!(
        world.ledger().await?,
        ["pairs/a | superseded | overwritten | 0", &format!("pairs/a | imported | - | {N_ROWS}")]
    );
    assert_eq!(world.pipeline.depth().await?, Depth::default());
    Ok(())
}
