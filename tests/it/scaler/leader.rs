//! Two scalers: one leads, and the other takes over.

use super::stand::{LIMIT, Peak, Stand, timed, wait_for_ticks, wait_until_leading};
use anyhow::Result;
use penstock_tests::pooler::Pooler;
use std::{sync::Arc, time::Duration};

/// What is promised for a takeover.
const TAKEOVER: Duration = Duration::from_secs(30);

const CONFIG: &str = "min = 2\nmax = 3\nbacklog_per_worker = 50";

#[tokio::test(flavor = "multi_thread")]
async fn killed_leader_is_followed_and_its_workers_are_adopted() -> Result<()> {
    let stand = Arc::new(Stand::new(CONFIG).await?);
    let first = stand.scaler("run").start()?;
    wait_until_leading(&first, LIMIT).await?;
    let second = stand.scaler("run").start()?;
    second.wait_for_line("another scaler leads", LIMIT).await?;
    let peak = Peak::watch(&stand);
    stand.send(0..300).await?;
    stand.wait_for_importers(3, 3, LIMIT).await?;
    let workers = stand.importers()?;

    first.kill()?;
    let ((), took) = timed(wait_until_leading(&second, LIMIT)).await?;
    assert!(took < TAKEOVER, "the takeover took {took:?}");
    stand.wait_for_imports(300, LIMIT).await?;
    assert_eq!(stand.importers()?, workers, "the workers are the same");
    assert_eq!(peak.most(), 3, "the pool never doubled");
    stand.wait_for_importers(2, 3, LIMIT).await?;
    stand.check_nobody_was_ended_busy(300).await?;
    second.terminate(LIMIT).await?;
    assert_eq!(stand.importers()?.len(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_leader_leaves_its_workers_to_the_next() -> Result<()> {
    let stand = Stand::new(CONFIG).await?;
    let first = stand.scaler("run").start()?;
    stand.wait_for_importers(2, 3, LIMIT).await?;
    let workers = stand.importers()?;
    let second = stand.scaler("run").start()?;
    second.wait_for_line("another scaler leads", LIMIT).await?;
    first.terminate(LIMIT).await?;
    wait_until_leading(&second, TAKEOVER).await?;
    assert_eq!(stand.importers()?, workers);
    second.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_leader_loses_the_pool_and_does_nothing_when_it_wakes() -> Result<()> {
    let stand = Arc::new(Stand::new(CONFIG).await?);
    let first = stand.scaler("run").expect_line("no longer leading").start()?;
    stand.wait_for_importers(2, 3, LIMIT).await?;
    let second = stand.scaler("run").start()?;
    second.wait_for_line("another scaler leads", LIMIT).await?;
    first.freeze()?;
    let ((), took) = timed(wait_until_leading(&second, LIMIT)).await?;
    assert!(took < TAKEOVER, "the takeover took {took:?}");
    let peak = Peak::watch(&stand);
    first.thaw()?;
    first.wait_for_line("another scaler leads the pool", LIMIT).await?;
    wait_for_ticks(&first).await?;
    assert_eq!((stand.importers()?.len(), peak.most()), (2, 2));
    first.terminate(LIMIT).await?;
    assert_eq!(stand.importers()?.len(), 2, "who does not lead ends nobody");
    second.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_leads_through_a_transaction_pooler_which_keeps_no_locks() -> Result<()> {
    let stand = Stand::new(CONFIG).await?;
    let pooler = Pooler::start(stand.database.postgres().host_and_port()).await?;
    for command in ["run", "check"] {
        let scaler = stand.scaler(command).env("DATABASE_URL", stand.database.url_through(pooler.address()));
        let ended = scaler.run(LIMIT).await?;
        assert_eq!(ended.status.code(), Some(2), "{command}: {}", ended.stderr);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains("connect to Postgres itself or use session pooling"), "{command}: {said}");
    }
    Ok(())
}
