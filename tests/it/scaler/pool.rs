//! From none to many and back, with real importers.

use super::stand::{LIMIT, Peak, Stand, http_address, timed, wait_for_ticks};
use anyhow::Result;
use penstock_tests::http;
use std::{sync::Arc, time::Duration};

/// Objects of one burst; the emulator's queue is slow beyond two thousand.
const BURST: u32 = 1000;
/// What the pool promises, as the configuration and the test say it.
const DRAIN_WITHIN: (&str, Duration) = ("4m", Duration::from_secs(240));

#[tokio::test(flavor = "multi_thread")]
async fn pool_comes_with_the_work_and_goes_with_it() -> Result<()> {
    let stand = Arc::new(Stand::new(&format!("max = 3\ndrain_within = \"{}\"", DRAIN_WITHIN.0)).await?);
    let scaler = stand.scaler("run").start()?;
    scaler.wait_for_line("pool started", LIMIT).await?;
    wait_for_ticks(&scaler).await?;
    assert_eq!(stand.importers()?.len(), 0, "an empty queue has no importer");

    let peak = Peak::watch(&stand);
    stand.send(0..BURST).await?;
    let sent = std::time::Instant::now();
    let ((), first) = timed(async {
        penstock_tests::wait::until("the first import", LIMIT, || async {
            Ok((stand.imported().await? > 0).then_some(()))
        })
        .await
    })
    .await?;
    assert!(first < Duration::from_secs(15), "the first import took {first:?}");
    stand.wait_for_imports(BURST, DRAIN_WITHIN.1).await?;
    println!("first import after {first:?}, all {BURST} after {:?}, {} importers at most", sent.elapsed(), peak.most());
    assert!(sent.elapsed() < DRAIN_WITHIN.1);
    assert!(peak.most() >= 1 && peak.most() <= 3, "{} importers at most", peak.most());

    stand.wait_for_importers(0, 3, LIMIT).await?;
    stand.check_nobody_was_ended_busy(BURST).await?;
    assert_eq!(stand.pipeline.dead_letter_depth().await?.visible, 0);

    let history = stand.history(&[]).await?;
    let desired: Vec<_> = history.iter().map(|decision| decision["desired"].as_u64().unwrap_or(99)).collect();
    assert_eq!((desired.first(), desired.last()), (Some(&0), Some(&0)));
    assert!(desired.iter().any(|desired| (1..=3).contains(desired)), "{desired:?}");
    assert!(history.iter().all(|decision| decision["explain"].as_str().is_some_and(|text| text.ends_with('.'))));
    scaler.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_pool_stays_at_its_size_and_goes_on_when_the_time_has_come() -> Result<()> {
    let stand = Stand::new("max = 3\nbacklog_per_worker = 50").await?;
    let scaler = stand.scaler("run").start()?;
    wait_for_ticks(&scaler).await?;
    stand.send(0..200).await?;
    stand.wait_for_importers(3, 3, LIMIT).await?;
    stand.wait_until_receiving().await?;
    let pause = async |at: &str, until: &str| {
        let ended = stand.scaler("pause").args(["--at", at, "--until", until]).run(LIMIT).await?;
        anyhow::ensure!(ended.status.success(), "{}", ended.stderr);
        anyhow::Ok(())
    };
    // Those who import finish what they have; the rest waits.
    pause("0", "10m").await?;
    stand.wait_for_importers(0, 3, LIMIT).await?;
    stand.check_nobody_was_ended_busy(stand.imported().await?).await?;
    stand.send(200..400).await?;
    let metrics = http::get(&format!("http://{}/metrics", http_address(&scaler).await?)).await?.body;
    assert!(metrics.contains("scaler_paused{pool=\"importers\"} 1"), "{metrics}");
    pause("1", "15s").await?;
    stand.wait_for_importers(1, 1, LIMIT).await?;
    // Nobody resumes it.
    stand.wait_for_imports(400, LIMIT).await?;
    stand.wait_for_importers(0, 3, LIMIT).await?;
    let metrics = http::get(&format!("http://{}/metrics", http_address(&scaler).await?)).await?.body;
    assert!(metrics.contains("scaler_paused{pool=\"importers\"} 0"), "{metrics}");
    let history = stand.history(&[]).await?;
    let paused = history.iter().filter(|decision| decision["reason"] == "paused").count();
    assert!(paused > 1 && history.last().is_some_and(|last| last["reason"] != "paused"), "{paused} paused");
    scaler.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_scaler_drains_the_workers_nobody_else_looks_after() -> Result<()> {
    let stand = Stand::new("min = 2\nmax = 3\nbacklog_per_worker = 50").await?;
    let scaler = stand.scaler("run").start()?;
    stand.wait_for_importers(2, 3, LIMIT).await?;
    stand.wait_until_receiving().await?;
    scaler.terminate(LIMIT).await?;
    assert_eq!(stand.importers()?.len(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_worker_is_replaced() -> Result<()> {
    let stand = Stand::new("min = 2\nmax = 3\nbacklog_per_worker = 50").await?;
    let scaler = stand.scaler("run").expect_line("worker process ended by itself").start()?;
    stand.wait_for_importers(2, 3, LIMIT).await?;
    let victim = stand.importers()?[0];
    penstock_tests::spawn::signal(u32::try_from(victim)?, "KILL")?;
    penstock_tests::wait::until("another worker", LIMIT, || async {
        let alive = stand.importers()?;
        Ok((alive.len() == 2 && !alive.contains(&victim)).then_some(()))
    })
    .await?;
    stand.wait_until_receiving().await?;
    scaler.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_never_come_up_are_started_less_and_less_often() -> Result<()> {
    let stand = Stand::new("max = 3\nbacklog_per_worker = 50").await?;
    let broken = format!(
        "[pool.workers]\nkind = \"processes\"\ncommand = [\"sh\", \"-c\", \"exit 7\"]\nlog_directory = \"{}\"\n",
        stand.path("logs").display()
    );
    stand.configure_with("max = 3\nbacklog_per_worker = 50", &broken)?;
    stand.send(0..200).await?;
    let scaler = stand.scaler("run").expect_line("worker process ended by itself").start()?;
    scaler
        .wait_for("a pause between starts", LIMIT, |line| {
            line.contains("\"reason\":\"dead_worker\"") && line.contains("starts in a row failed")
        })
        .await?;
    // It is kept after it is logged, and a tick ends at once when the scaler is stopped.
    penstock_tests::wait::until("the pause in the history", LIMIT, || async {
        let history = stand.history(&[]).await?;
        Ok(history.iter().any(|decision| decision["reason"] == "dead_worker").then_some(()))
    })
    .await?;
    scaler.terminate(LIMIT).await
}
