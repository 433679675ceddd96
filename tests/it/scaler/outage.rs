//! The counters or the database are out of reach: nothing shrinks, and history says why.

use super::stand::{LIMIT, POOL, Stand, http_address, wait_for_ticks};
use anyhow::Result;
use penstock_tests::{http, postgres::Postgres, proxy::Proxy};
use std::{sync::Arc, time::Duration};

/// How long the counters are gone, in seconds: longer than the window after which a pool shrinks. `PENSTOCK_BLACKOUT_SECS`
/// makes it longer.
const BLACKOUT_SECS: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn lost_counters_never_shrink_the_pool() -> Result<()> {
    let stand = Stand::new("max = 3\nbacklog_per_worker = 50").await?;
    let proxy = Proxy::start(http::authority(stand.pipeline.account.emulator().endpoint())?).await?;
    let scaler = stand
        .scaler("run")
        .env("AWS_ENDPOINT_URL_SQS", proxy.endpoint())
        .expect_line("part of a tick failed")
        .start()?;
    stand.send(0..200).await?;
    stand.wait_for_importers(3, 3, LIMIT).await?;
    proxy.shut();
    scaler.wait_for_line("part of a tick failed", LIMIT).await?;
    stand.wait_for_imports(200, LIMIT).await?;
    // By its counters the pool would be gone after ten seconds; without them it stays.
    let blackout_secs = std::env::var("PENSTOCK_BLACKOUT_SECS").ok().and_then(|secs| secs.parse().ok());
    for _ in 0..blackout_secs.unwrap_or(BLACKOUT_SECS) {
        assert_eq!(stand.importers()?.len(), 3);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let history = stand.history(&["--pool", POOL]).await?;
    let blind: Vec<_> = history.iter().filter(|decision| decision["reason"] == "stale_metrics").collect();
    assert!(blind.len() > 3, "{} decisions without counters", blind.len());
    assert!(blind.iter().all(|decision| decision["desired"] == 3 && decision["inputs"]["queue"].is_null()));
    proxy.open();
    scaler.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn database_that_is_down_at_the_start_is_waited_for() -> Result<()> {
    let stand = Stand::new("min = 1\nmax = 3\nbacklog_per_worker = 50").await?;
    let proxy = Proxy::start(stand.database.postgres().host_and_port()).await?;
    proxy.shut();
    let scaler = stand
        .scaler("run")
        .env("DATABASE_URL", stand.database.url_through(proxy.address()))
        .expect_line("cannot reach database")
        .start()?;
    scaler.wait_for_line("cannot reach database; retrying", LIMIT).await?;
    let listen = http_address(&scaler).await?;
    assert_eq!(http::get(&format!("http://{listen}/healthz")).await?.status, 200);
    let ready = http::get(&format!("http://{listen}/readyz")).await?;
    assert!(ready.status == 503 && ready.body.contains("database"), "{ready:?}");
    proxy.open();
    stand.wait_for_importers(1, 3, LIMIT).await?;
    assert_eq!(http::get(&format!("http://{listen}/readyz")).await?.status, 200);
    let metrics = http::get(&format!("http://{listen}/metrics")).await?.body;
    assert!(metrics.contains("scaler_decisions_total{pool=\"importers\",reason="), "{metrics}");
    stand.wait_until_receiving().await?;
    scaler.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn database_that_restarts_costs_no_worker() -> Result<()> {
    let postgres = Arc::new(Postgres::start(Default::default())?);
    let stand = Stand::on(&postgres, "min = 2\nmax = 3\nbacklog_per_worker = 50").await?;
    let scaler = stand
        .scaler("run")
        .expect_line("no longer leading")
        .expect_line("part of a tick failed")
        // Where the server ends while what is due is looked for.
        .expect_line("could not look for keys that have arrived")
        .expect_line("could not send pending messages")
        .start()?;
    penstock_tests::wait::until("two idle workers", LIMIT, || async {
        let idle = stand.database.value("SELECT count(*) FROM penstock.workers WHERE state = 'idle'").await;
        Ok((idle.is_ok_and(|n| n == "2")).then_some(()))
    })
    .await?;
    let workers = stand.importers()?;
    tokio::task::block_in_place(|| postgres.stop())?;
    scaler.wait_for_line("no longer leading", LIMIT).await?;
    wait_for_ticks(&scaler).await?;
    assert_eq!(stand.importers()?, workers, "nobody is ended or started while nobody leads\n{}", stand.worker_logs());
    tokio::task::block_in_place(|| postgres.start_again())?;
    stand.send(0..20).await?;
    stand.wait_for_imports(20, LIMIT).await?;
    let leading = || scaler.stderr().matches("leading the pool\"").count();
    penstock_tests::wait::until("leading again", LIMIT, || async { Ok((leading() >= 2).then_some(())) }).await?;
    assert_eq!(stand.importers()?, workers);
    scaler.terminate(LIMIT).await
}
