//! A bad night: Postgres, S3 or the credentials are gone for many visibility timeouts, and a message may
//! be received twice only. Nothing goes to the dead-letter queue, and everything is imported afterwards.
//!
//! `PENSTOCK_TEST_OUTAGE_SECS` sets how long the night is (20 s by default); the visibility timeout is a fifth
//! of it. The first three were run by hand with 120, and passed.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::{Context as _, Result};
use penstock_tests::{
    aws::{Depth, Options},
    http,
    process::Process,
    proxy::{Action, Proxy, Rule, Trigger, http_answer},
    wait,
};
use std::time::{Duration, Instant};

/// Objects put before the outage, and as many again during it.
const N_OBJECTS: i64 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn postgres_gone_for_many_visibility_timeouts_costs_no_message() -> Result<()> {
    let night = Night::new().await?;
    night
        .outage(&["postgres"], |night| {
            night.postgres.shut();
            Vec::new()
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_answering_503_for_many_visibility_timeouts_costs_no_message() -> Result<()> {
    let night = Night::new().await?;
    night.outage(&["object store"], |night| night.refuse_objects(&http_answer(503, "Slow Down"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_credentials_for_many_visibility_timeouts_cost_no_message() -> Result<()> {
    let night = Night::new().await?;
    night
        .outage(&["object store", "queue"], |night| {
            let mut rules = night.refuse_objects(&expired("application/xml", EXPIRED_XML));
            let queue = expired("application/x-amz-json-1.0", EXPIRED_JSON);
            rules.push(night.queue.add(Rule::when_client_sends("AmazonSQS.", Action::Answer(queue)).always()));
            rules
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_s3_refuses_twenty_times_is_imported_and_its_neighbour_before_it() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    let store = world.aws_proxy().await?;
    let unlucky = format!("/{}/pairs/unlucky", world.pipeline.bucket);
    let refusing = store.add(Rule::when_client_sends(unlucky, Action::Answer(http_answer(503, "Slow Down"))).times(20));
    world.pipeline.put("pairs/unlucky", pairs(&[(1, "unlucky")])).await?;
    world.pipeline.wait_for_visible(1, LIMIT).await?;
    let worker = world.through_aws(world.drainer(), "S3", &store).expect_line("held").start()?;
    refusing.fired(1, LIMIT).await?;
    world.pipeline.put("pairs/lucky", pairs(&[(2, "lucky")])).await?;
    wait::until("the neighbour's import", LIMIT, || async {
        Ok((world.database.value("SELECT count(*) FROM pairs WHERE id = 2").await? == "1").then_some(()))
    })
    .await?;
    assert!(refusing.count() < 20, "the neighbour waited for the unlucky one");
    worker.finish(LIMIT).await?;
    assert_eq!(refusing.count(), 20);
    assert_eq!(world.pairs().await?, ["1=unlucky", "2=lucky"]);
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    Ok(())
}

pub const EXPIRED_XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>ExpiredToken</Code>\
                           <Message>The provided token has expired.</Message></Error>";
pub const EXPIRED_JSON: &str = "{\"__type\":\"com.amazon.coral.service#ExpiredTokenException\",\
                            \"message\":\"The security token included in the request is expired\"}";

pub fn expired(content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Two workers that reach everything through proxies.
struct Night {
    world: World,
    postgres: Proxy,
    store: Proxy,
    queue: Proxy,
    secs: u64,
}

impl Night {
    async fn new() -> Result<Self> {
        let secs = match std::env::var("PENSTOCK_TEST_OUTAGE_SECS") {
            Ok(text) => text.parse().context("PENSTOCK_TEST_OUTAGE_SECS is no number")?,
            Err(_) => 20,
        };
        let visibility_timeout_secs = u32::try_from(secs / 5)?.max(2);
        let options = Options { visibility_timeout_secs, max_receive_count: Some(2), ..Options::default() };
        let world = World::new(options, PAIRS_TABLE, PAIRS).await?;
        let (postgres, store, queue) =
            (world.postgres_proxy().await?, world.aws_proxy().await?, world.aws_proxy().await?);
        Ok(Self { world, postgres, store, queue, secs })
    }

    /// Breaks something in the middle of the work and mends it when the night is over.
    async fn outage(self, missing: &[&str], break_it: impl FnOnce(&Self) -> Vec<Trigger>) -> Result<()> {
        self.put(0..N_OBJECTS).await?;
        let workers = [self.worker()?, self.worker()?];
        wait::until("the first import", LIMIT, || async {
            Ok((self.world.database.value("SELECT count(*) FROM pairs").await? != "0").then_some(()))
        })
        .await?;
        let broken = break_it(&self);
        let begun = Instant::now();
        self.put(N_OBJECTS..2 * N_OBJECTS).await?;
        for worker in &workers {
            check_health(worker, missing).await?;
        }
        let imported = self.world.database.value("SELECT count(*) FROM pairs").await?;
        assert_ne!(imported, (2 * N_OBJECTS).to_string(), "nothing was broken");
        // The night itself, whose length is the point.
        tokio::time::sleep(Duration::from_secs(self.secs).saturating_sub(begun.elapsed())).await;
        for worker in &workers {
            check_health(worker, missing).await?;
        }
        self.postgres.open();
        broken.iter().for_each(Trigger::release);
        self.world.pipeline.wait_until_empty(LIMIT).await?;
        assert_eq!(self.world.database.value("SELECT count(*) FROM pairs").await?, (2 * N_OBJECTS).to_string());
        assert_eq!(self.world.pipeline.take_dead_letters().await?, []);
        for worker in &workers {
            wait::until("readiness", LIMIT, || async {
                Ok((http::get(&url(worker, "readyz").await?).await?.status == 200).then_some(()))
            })
            .await?;
            worker.terminate(LIMIT).await?;
        }
        Ok(())
    }

    fn worker(&self) -> Result<Process> {
        let program = self.world.through_postgres(self.world.worker().args(["--concurrency", "2"]), &self.postgres);
        let program = self.world.through_aws(program, "S3", &self.store);
        let program = self.world.through_aws(program, "SQS", &self.queue);
        [
            "held: external dependency failing",
            "receive failed",
            "could not extend",
            "could not delete",
            "heartbeat failed",
        ]
        .into_iter()
        .fold(program, |program, line| program.expect_line(line))
        .start()
    }

    /// Answers every request for an object so.
    fn refuse_objects(&self, answer: &[u8]) -> Vec<Trigger> {
        let path = format!("/{}/pairs/", self.world.pipeline.bucket);
        ["GET ", "HEAD "]
            .map(|method| {
                let rule = Rule::when_client_sends(format!("{method}{path}"), Action::Answer(answer.to_vec()));
                self.store.add(rule.always())
            })
            .to_vec()
    }

    async fn put(&self, ids: std::ops::Range<i64>) -> Result<()> {
        for id in ids {
            self.world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, "x")])).await?;
        }
        Ok(())
    }
}

/// Waits until the worker says what is missing, of which it may not have needed all; it is healthy all the while.
async fn check_health(worker: &Process, missing: &[&str]) -> Result<()> {
    wait::until(&format!("/readyz to name one of {missing:?}"), LIMIT, || async {
        anyhow::ensure!(http::get(&url(worker, "healthz").await?).await?.status == 200, "not healthy");
        let ready = http::get(&url(worker, "readyz").await?).await?;
        let named = missing.iter().any(|name| ready.body.contains(name));
        Ok((ready.status == 503 && named).then_some(()))
    })
    .await
}

async fn url(worker: &Process, path: &str) -> Result<String> {
    let line = worker.wait_for_line("serving health and metrics", LIMIT).await?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    Ok(format!("http://{}/{path}", line["listen"].as_str().context("the line names no address")?))
}
