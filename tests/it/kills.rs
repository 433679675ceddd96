//! Killed at the worst instructions: nothing is lost, nothing is written twice.

use crate::world::{LIMIT, TELEMETRY, World, at_commit_of_rows};
use anyhow::Result;
use penstock_tests::{
    aws::{Depth, Options},
    proxy::{Action, Rule},
    telemetry::{self, Format, Load},
    wait,
};

/// Of the queue, so that a killed worker's message comes back soon.
const VISIBILITY_SECS: u32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_copy() -> Result<()> {
    let load = Load::new(20, 20_000);
    let world = world(&load).await?;
    let proxy = world.postgres_proxy().await?;
    // The rows of the object's first half have been sent, in file order or sorted.
    let event = load.event(10_000);
    let middle = report_id(&event.meta);
    let copying = proxy.add(Rule::when_client_sends(middle, Action::HoldRequest));
    let worker = world.through_postgres(world.worker(), &proxy).start()?;
    copying.fired(1, LIMIT).await?;
    worker.kill()?;
    // A killed process's connection ends with it; the proxy would keep it open.
    drop(proxy);
    assert_eq!(world.database.value("SELECT count(*) FROM telemetry").await?, "0");
    drain_and_check(&world, &load).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_commit_and_its_answer() -> Result<()> {
    let load = Load::new(21, 1000);
    let world = world(&load).await?;
    let proxy = world.postgres_proxy().await?;
    let held = at_commit_of_rows(&proxy, Action::HoldAnswer);
    let worker = world.through_postgres(world.worker(), &proxy).start()?;
    held.await?;
    wait::until("the commit", LIMIT, || async {
        Ok((world.database.value("SELECT count(*) FROM telemetry").await? == "1000").then_some(()))
    })
    .await?;
    worker.kill()?;
    let before = world.versions_of_rows("telemetry").await?;
    drain_and_check(&world, &load).await?;
    assert!(world.versions_of_rows("telemetry").await? == before, "a row was written again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_commit_and_delete() -> Result<()> {
    let load = Load::new(22, 1000);
    let world = world(&load).await?;
    let proxy = world.aws_proxy().await?;
    let delete = proxy.add(Rule::when_client_sends("AmazonSQS.DeleteMessage", Action::HoldRequest));
    let worker = world.through_aws(world.worker(), "SQS", &proxy).start()?;
    delete.fired(1, LIMIT).await?;
    worker.kill()?;
    let before = world.versions_of_rows("telemetry").await?;
    assert_eq!(before.len(), 1000);
    assert_ne!(world.pipeline.depth().await?, Depth::default());
    drain_and_check(&world, &load).await?;
    assert!(world.versions_of_rows("telemetry").await? == before, "a row was written again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_and_after_each_commit_there_is() -> Result<()> {
    for action in [Action::HoldRequest, Action::HoldAnswer] {
        for n_commits_before in 0.. {
            let load = Load::new(23, 200);
            let world = world(&load).await?;
            let proxy = world.postgres_proxy().await?;
            let commit = proxy.add(Rule::when_client_sends("COMMIT\0", action.clone()).after(n_commits_before));
            let worker = world.through_postgres(world.worker(), &proxy).start()?;
            let acked = world.pipeline.wait_until_empty(LIMIT);
            let killed = tokio::select! {
                fired = commit.fired(1, LIMIT) => fired.map(|()| true)?,
                acked = acked => acked.map(|()| false)?,
            };
            worker.kill()?;
            drain_and_check(&world, &load).await?;
            if !killed {
                assert!(n_commits_before > 0, "no commit was seen");
                break;
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_never_comes_is_resolved_from_the_head() -> Result<()> {
    let load = Load::new(24, 1000);
    let world = world(&load).await?;
    let proxy = world.postgres_proxy().await?;
    let cut = at_commit_of_rows(&proxy, Action::CutAnswer(0));
    let worker = world.through_postgres(world.drainer(), &proxy).expect_line("held").start()?;
    cut.await?;
    worker.finish(LIMIT).await?;
    world.check_telemetry(load.events(0..1000)).await?;
    let writers = world.database.value("SELECT count(DISTINCT xmin::text) FROM telemetry").await?;
    assert_eq!(writers, "1");
    assert_eq!(world.states().await?, ["telemetry/part-00000.ndjson.gz | imported | 1000"]);
    Ok(())
}

async fn world(load: &Load) -> Result<World> {
    let options = Options { visibility_timeout_secs: VISIBILITY_SECS, ..Options::default() };
    let world = World::new(options, telemetry::TABLE, TELEMETRY).await?;
    world.put_telemetry(load, 0, 1, Format::Ndjson).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    Ok(world)
}

async fn drain_and_check(world: &World, load: &Load) -> Result<()> {
    world.drain(1).await?;
    world.check_telemetry(load.events(0..load.n_rows())).await?;
    let imported = format!("telemetry/part-00000.ndjson.gz | imported | {}", load.n_rows());
    assert_eq!(world.states().await?, [imported]);
    assert_eq!(world.pipeline.depth().await?, Depth::default());
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    Ok(())
}

/// The part of an event's JSON that no other event has.
fn report_id(meta: &str) -> &str {
    meta.split('"').nth(3).unwrap_or(meta)
}
