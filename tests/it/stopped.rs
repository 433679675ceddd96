//! A worker that stands still (SIGSTOP) while its messages go to others, and then runs on.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, TELEMETRY, World, at_commit_of_rows, pairs};
use anyhow::Result;
use importer::ledger::{migrate::migrate, workers::end_stopped_backends};
use penstock_tests::{
    aws::{Depth, Options},
    postgres::Postgres,
    proxy::{Action, Rule},
    telemetry::{self, Format, Load},
    wait,
};
use sqlx::{ConnectOptions as _, Executor as _, postgres::PgConnectOptions};

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

#[tokio::test(flavor = "multi_thread")]
async fn of_a_stopped_worker_backends_at_work_are_left_alone() -> Result<()> {
    let database = Postgres::shared()?.create_database().await?;
    let mut other = database.connect().await?;
    migrate(&mut other).await?;
    other
        .execute(
            "INSERT INTO penstock.workers \
                 (id, host, pid, version, state, slots, heartbeat_at, visibility_timeout_secs, started_at) \
             VALUES ('w', 'h', 1, 'v', 'busy', 2, now() - interval '1 minute', 0, now()); \
             SELECT pg_advisory_lock(1)",
        )
        .await?;
    let of_worker = database.url().parse::<PgConnectOptions>()?.application_name("penstock importer w");
    let mut waiting = of_worker.connect().await?;
    waiting.execute("BEGIN").await?;
    let mut working = of_worker.connect().await?;
    let work = tokio::spawn(async move { working.execute("SELECT pg_advisory_lock(1)").await });
    wait::until("the backend at work", LIMIT, || async {
        let at_work = "SELECT count(*) FROM pg_stat_activity \
                       WHERE application_name = 'penstock importer w' AND wait_event_type = 'Lock'";
        Ok((database.value(at_work).await? == "1").then_some(()))
    })
    .await?;
    assert_eq!(end_stopped_backends(&mut other).await?, 1);
    other.execute("SELECT pg_advisory_unlock(1)").await?;
    work.await??;
    waiting.execute("COMMIT").await.expect_err("its backend was ended");
    Ok(())
}
