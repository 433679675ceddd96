//! Peers that go silent, and queues that are not there: ticks go on, it is said, and a stop is prompt.

use super::stand::{LIMIT, POOL, Stand, wait_until_leading};
use anyhow::{Context as _, Result};
use penstock_tests::{
    http,
    process::{Process, Program},
    proxy::{Action, Proxy, Rule},
    wait,
};
use serde_json::Value;
use std::time::{Duration, Instant};

/// What is promised for a peer that answers again.
const RECOVERY: Duration = Duration::from_secs(30);
/// What a stop may take beyond what draining needs.
const PROMPT: Duration = Duration::from_secs(3);

const PLAIN: &str = "max = 3\nbacklog_per_worker = 50";
const DRY_RUN: &str = "[pool.workers]\nkind = \"dry_run\"\n";

/// A stand whose pool is only watched, with proxies before Postgres and SQS.
async fn watched() -> Result<(Stand, Proxy, Proxy)> {
    let stand = Stand::new(PLAIN).await?;
    stand.configure_with(PLAIN, DRY_RUN)?;
    let postgres = Proxy::start(stand.database.postgres().host_and_port()).await?;
    let queue = Proxy::start(http::authority(stand.pipeline.account.emulator().endpoint())?).await?;
    Ok((stand, postgres, queue))
}

fn through(stand: &Stand, postgres: &Proxy, queue: &Proxy) -> Program {
    ["a peer is silent", "part of a tick failed", "no longer leading", "leader unknown", "cannot reach"].iter().fold(
        stand
            .scaler("run")
            .env("DATABASE_URL", stand.database.url_through(postgres.address()))
            .env("AWS_ENDPOINT_URL_SQS", queue.endpoint()),
        |program, line| program.expect_line(line),
    )
}

async fn get(scaler: &Process, path: &str) -> Result<String> {
    let line = scaler.wait_for_line("serving health and metrics", LIMIT).await?;
    let line: Value = serde_json::from_str(&line)?;
    let answer = http::get(&format!("http://{}/{path}", line["listen"].as_str().unwrap_or_default())).await?;
    Ok(format!("{} {}", answer.status, answer.body))
}

/// Waits for a decision that `is_right`.
async fn decision(stand: &Stand, limit: Duration, is_right: impl Fn(&Value) -> bool) -> Result<Value> {
    wait::until("a decision", limit, || async {
        Ok(stand.history(&[]).await?.into_iter().rev().find(|decision| is_right(decision)))
    })
    .await
}

async fn stops_promptly(scaler: &Process, what: &str) -> Result<()> {
    let begun = Instant::now();
    scaler.signal("TERM")?;
    scaler.finish(LIMIT).await.with_context(|| what.to_owned())?;
    assert!(begun.elapsed() < PROMPT, "{what}: the stop took {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_queue_is_unknown_and_said_and_the_ticks_go_on() -> Result<()> {
    let (stand, postgres, queue) = watched().await?;
    stand.pipeline.send_all(&(0..120).map(|n| format!("message {n}")).collect::<Vec<_>>()).await?;
    let scaler = through(&stand, &postgres, &queue).start()?;
    wait_until_leading(&scaler, LIMIT).await?;
    decision(&stand, LIMIT, |decision| decision["reason"] == "backlog" && decision["desired"] == 3).await?;
    queue.hold();
    let is_blind = |decision: &Value| decision["reason"] == "stale_metrics";
    let first = decision(&stand, LIMIT, is_blind).await?;
    let later = decision(&stand, LIMIT, |decision| is_blind(decision) && decision["at"] != first["at"]).await?;
    let error = later["inputs"]["queue_error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains(&format!("read the depth of queue {}", stand.pipeline.queue_url)), "{error}");
    assert!(later["inputs"]["queue"].is_null() && later["desired"] == 0, "nobody is started blindly: {later}");
    let line = scaler.wait_for_line("part of a tick failed", LIMIT).await?;
    assert!(line.contains("read the depth of queue"), "{line}");
    let ready = get(&scaler, "readyz").await?;
    assert!(ready.starts_with("503") && ready.contains("queue of importers: read the depth of"), "{ready}");
    queue.open();
    let begun = Instant::now();
    let end = later["at"].as_str().unwrap_or_default();
    let is_well = |decision: &Value| decision["reason"] == "backlog" && decision["at"].as_str() > Some(end);
    decision(&stand, LIMIT, is_well).await?;
    assert!(begun.elapsed() < RECOVERY, "after {:?}", begun.elapsed());
    assert!(get(&scaler, "readyz").await?.starts_with("200"));
    queue.hold();
    postgres.hold();
    stops_promptly(&scaler, "with a tick under way").await
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_that_is_missing_takes_only_its_own_part_out() -> Result<()> {
    let (stand, postgres, queue) = watched().await?;
    let url = &stand.pipeline.queue_url;
    let text = std::fs::read_to_string(stand.path("scaler.toml"))?;
    let (all, pool) = text.split_once("[[pool]]").context("a pool")?;
    let partial = pool.replace(&format!("[\"{url}\"]"), &format!("[\"{url}\", \"{url}-none\"]"));
    let other = pool.replace(&format!("name = \"{POOL}\""), "name = \"other\"");
    std::fs::write(stand.path("scaler.toml"), format!("{all}[[pool]]{partial}\n[[pool]]{other}"))?;
    stand.pipeline.send_all(&(0..120).map(|n| format!("message {n}")).collect::<Vec<_>>()).await?;
    let scaler = through(&stand, &postgres, &queue).start()?;
    wait_until_leading(&scaler, LIMIT).await?;
    let of = |name: &'static str| move |decision: &Value| decision["pool"] == name && decision["desired"] == 3;
    let found = decision(&stand, LIMIT, of(POOL)).await?;
    assert_eq!((&found["reason"], &found["inputs"]["queue"]["visible"]), (&"backlog".into(), &120.into()));
    let error = found["inputs"]["queue_error"].as_str().unwrap_or_default();
    assert!(error.starts_with("1 of 2 queues: ") && error.contains(&format!("{url}-none")), "{error}");
    let beside = decision(&stand, LIMIT, of("other")).await?;
    assert!(beside["inputs"]["queue_error"].is_null(), "{beside}");
    let ready = get(&scaler, "readyz").await?;
    assert!(ready.starts_with("503") && ready.contains(&format!("{url}-none")), "{ready}");
    assert_eq!(ready.lines().count(), 1, "{ready}");
    let metrics = get(&scaler, "metrics").await?;
    for (queue, counted) in [(url.clone(), 1), (format!("{url}-none"), 0)] {
        let line = format!("scaler_queue_counted{{pool=\"{POOL}\",queue=\"{queue}\"}} {counted}");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    scaler.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_is_prompt_while_postgres_is_silent_from_the_start_or_migrates() -> Result<()> {
    let (stand, postgres, queue) = watched().await?;
    postgres.hold();
    let scaler = through(&stand, &postgres, &queue).start()?;
    scaler.wait_for_line("serving health and metrics", LIMIT).await?;
    wait::until("it to connect", LIMIT, || async { Ok((postgres.connections() > 0).then_some(())) }).await?;
    stops_promptly(&scaler, "waiting for the database").await?;
    postgres.open();
    let silent = postgres.add(Rule::when_client_sends("CREATE TABLE", Action::Silence));
    let scaler = through(&stand, &postgres, &queue).start()?;
    silent.fired(1, LIMIT).await?;
    stops_promptly(&scaler, "migrating").await
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_that_goes_silent_is_led_through_again_within_half_a_minute() -> Result<()> {
    let (stand, postgres, queue) = watched().await?;
    let scaler = through(&stand, &postgres, &queue).start()?;
    wait_until_leading(&scaler, LIMIT).await?;
    decision(&stand, LIMIT, |_| true).await?;
    // The server keeps these sessions, and their locks, as long as it does not miss their client.
    postgres.silence_all();
    let begun = Instant::now();
    let line = scaler.wait_for_line("no longer leading the pool", LIMIT).await?;
    assert!(line.contains(&format!("Postgres at {} did not answer within", postgres.address())), "{line}");
    wait::until("leading again", LIMIT, || async {
        Ok((scaler.stderr().matches("leading the pool\"").count() >= 3).then_some(()))
    })
    .await?;
    assert!(begun.elapsed() < RECOVERY, "after {:?}", begun.elapsed());
    let again = chrono::Utc::now().to_rfc3339();
    decision(&stand, LIMIT, |decision| decision["at"].as_str() > Some(again.as_str())).await?;
    postgres.hold();
    wait::until("it to be said", LIMIT, || async {
        let ready = get(&scaler, "readyz").await?;
        Ok((ready.starts_with("503") && ready.contains("did not answer within")).then_some(()))
    })
    .await?;
    stops_promptly(&scaler, "with a silent database").await
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_pools_take_three_connections_and_so_does_a_standby() -> Result<()> {
    let (stand, _, _) = watched().await?;
    let text = std::fs::read_to_string(stand.path("scaler.toml"))?;
    let (all, pool) = text.split_once("[[pool]]").context("a pool")?;
    let name = format!("name = \"{POOL}\"");
    let pools: String =
        (0..20).map(|n| format!("[[pool]]{}\n", pool.replace(&name, &format!("name = \"p{n}\"")))).collect();
    std::fs::write(stand.path("scaler.toml"), format!("{all}{pools}"))?;
    let leader = stand.scaler("run").start()?;
    let decided = async |more_than: u32| {
        wait::until("decisions for all pools", LIMIT, || async {
            let n = stand.database.value("SELECT count(DISTINCT pool) FROM penstock.decisions").await;
            let of_last = stand.database.value("SELECT count(*) FROM penstock.decisions WHERE pool = 'p19'").await;
            let of_last: u32 = of_last.unwrap_or_default().parse().unwrap_or(0);
            let most = connections(&stand).await?;
            anyhow::ensure!(most <= 6, "{most} connections");
            Ok((n.is_ok_and(|n| n == "20") && of_last > more_than).then_some(most))
        })
        .await
    };
    assert!(decided(0).await? <= 3);
    let standby = stand.scaler("run").start()?;
    standby.wait_for_line("another scaler leads the pool", LIMIT).await?;
    let before = stand.database.value("SELECT count(*) FROM penstock.decisions WHERE pool = 'p19'").await?.parse()?;
    stand.pipeline.send_all(&(0..120).map(|n| format!("message {n}")).collect::<Vec<_>>()).await?;
    decided(before).await?;
    assert!(connections(&stand).await? <= 6);
    leader.terminate(LIMIT).await?;
    standby.terminate(LIMIT).await
}

async fn connections(stand: &Stand) -> Result<u32> {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'penstock scaler' \
                 AND datname = current_database()";
    Ok(stand.database.value(query).await?.parse()?)
}
