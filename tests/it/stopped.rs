//! A worker that stands still (SIGSTOP) while its messages go to others, and then runs on.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, TELEMETRY, World, at_commit_of_rows, pairs};
use anyhow::Result;
use penstock_tests::{
    aws::{Depth, Options},
    proxy::{Action, Rule},
    telemetry::{self, Format, Load},
};

/// Of the queue; a stopped worker's backends may be ended after two of them without a heartbeat.
const VISIBILITY_SECS: u32 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn stopped_with_the_head_locked_blocks_nobody_for_ever_and_changes_nothing_later() -> Result<()> {
    let options = Options { visibility_timeout_secs: VISIBILITY_SECS, ..Options::default() };
    let world = World::new(options, telemetry::TABLE, TELEMETRY).await?;
    let load = Load::new(30, 1000);
    world.put_telemetry(&load, 0, 1, Format::Ndjson).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    let proxy = world.postgres_proxy().await?;
    let held = at_commit_of_rows(&proxy, Action::HoldRequest);
    let stopped = world.through_postgres(world.drainer(), &proxy).start()?;
    let commit = held.await?;
    stopped.freeze()?;

    let other = world.drainer().expect_line("held").expect_line("ended backends").start()?;
    other.finish(LIMIT).await?;
    world.check_telemetry(load.events(0..1000)).await?;
    let before = world.versions_of_rows("telemetry").await?;

    commit.release();
    stopped.thaw()?;
    stopped.wait_exit(LIMIT).await?;
    assert!(world.versions_of_rows("telemetry").await? == before, "a row was written again");
    assert_eq!(world.states().await?, ["telemetry/part-00000.ndjson.gz | imported | 1000"]);
    assert_eq!(world.pipeline.depth().await?, Depth::default());
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_while_it_copies_an_old_version_it_loses_to_the_newer_one() -> Result<()> {
    let options = Options { visibility_timeout_secs: VISIBILITY_SECS, ..Options::default() };
    let world = World::new(options, PAIRS_TABLE, PAIRS).await?;
    world.pipeline.put("pairs/a", pairs(&[(1, "old"), (2, "old")])).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    let proxy = world.postgres_proxy().await?;
    let copying = proxy.add(Rule::when_client_sends("PGCOPY\n", Action::HoldRequest));
    let stopped = world.through_postgres(world.drainer(), &proxy).start()?;
    copying.fired(1, LIMIT).await?;
    stopped.freeze()?;

    world.pipeline.put("pairs/a", pairs(&[(1, "new"), (2, "new")])).await?;
    let other = world.drainer().start()?;
    other.finish(LIMIT).await?;
    let before = world.versions_of_rows("pairs").await?;

    copying.release();
    stopped.thaw()?;
    stopped.wait_exit(LIMIT).await?;
    assert_eq!(world.pairs().await?, ["1=new", "2=new"]);
    assert_eq!(world.versions_of_rows("pairs").await?, before);
    assert_eq!(world.pipeline.depth().await?, Depth::default());
    Ok(())
}
