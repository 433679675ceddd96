//! Where an importer runs: SIGTERM, an EC2 instance in its Auto Scaling group, an ECS task.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::Result;
use penstock_tests::{
    aws::{Depth, Options},
    fake::{Agent, Ec2, INSTANCE},
    process::{Process, Program},
    proxy::{Action, Proxy, Rule, Trigger},
    wait,
};
use std::time::{Duration, Instant};

/// Of the queue: much longer than the stories, so what is visible before it was given back.
const VISIBILITY_SECS: u32 = 600;

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_runs_and_gives_the_rest_back_at_once() -> Result<()> {
    let scene = Scene::new("").await?;
    let worker = scene.start(scene.worker(), 3).await?;
    worker.signal("TERM")?;
    scene.world.pipeline.wait_for_visible(2, LIMIT).await?;
    assert!(worker.is_running()?, "what runs is finished first");
    scene.copying.release();
    worker.finish(LIMIT).await?;
    scene.check_one_imported_of_three().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_finished_in_time_is_given_back_and_imported_by_another() -> Result<()> {
    let scene = Scene::new("[worker]\ndrain_timeout_secs = 1\n").await?;
    let worker = scene.start(scene.worker().expect_line("drain timeout"), 2).await?;
    let begun = Instant::now();
    worker.terminate(LIMIT).await?;
    assert!(begun.elapsed() < Duration::from_secs(30), "it took {:?}", begun.elapsed());
    scene.world.pipeline.wait_for_visible(2, LIMIT).await?;
    scene.world.drain(1).await?;
    assert_eq!(scene.imported().await?, "2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_in_time_though_queue_store_and_database_are_silent() -> Result<()> {
    let options = Options { visibility_timeout_secs: VISIBILITY_SECS, ..Options::default() };
    let world = World::new(options, PAIRS_TABLE, &format!("[worker]\ndrain_timeout_secs = 4\n{PAIRS}")).await?;
    let (aws, postgres) = (world.aws_proxy().await?, world.postgres_proxy().await?);
    let copying = postgres.add(Rule::when_client_sends("PGCOPY\n", Action::HoldRequest));
    let program = ["S3", "SQS"].iter().fold(world.worker(), |program, name| world.through_aws(program, name, &aws));
    let program = ["drain timeout", "does not answer", "heartbeat failed", "could not", "receive failed"]
        .iter()
        .fold(program, |program, line| program.expect_line(line));
    let worker = world.through_postgres(program, &postgres).start()?;
    for id in 0..3 {
        world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, "x")])).await?;
    }
    copying.fired(1, LIMIT).await?;
    aws.hold();
    postgres.hold();
    let begun = Instant::now();
    worker.terminate(LIMIT).await?;
    assert!(begun.elapsed() < Duration::from_secs(6), "it took {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_protected_while_it_imports_and_not_afterwards() -> Result<()> {
    let scene = Scene::new("").await?;
    let ec2 = Ec2::start().await?;
    let worker = scene.start(scene.worker().envs(ec2.variables()), 1).await?;
    let told = ec2.calls();
    assert_eq!(told.last().map(String::as_str), Some("SetInstanceProtection true"), "{told:?}");
    assert_eq!(scene.instance_id().await?, INSTANCE);
    scene.copying.release();
    wait_for_call(&ec2, "SetInstanceProtection false", LIMIT).await?;
    assert_eq!(scene.imported().await?, "1");
    scene.world.pipeline.put("pairs/later", pairs(&[(9, "y")])).await?;
    wait_for_call(&ec2, "SetInstanceProtection true", LIMIT).await?;
    worker.terminate(LIMIT).await?;
    assert_eq!(ec2.calls().last().map(String::as_str), Some("SetInstanceProtection false"), "nobody else would");
    assert_eq!(ec2.n_without_token(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_ends_the_instance_waits_for_the_drain() -> Result<()> {
    let scene = Scene::new("").await?;
    let ec2 = Ec2::start().await?;
    ec2.set_hook_timeout_secs(3);
    let worker = scene.start(scene.worker().envs(ec2.variables()), 3).await?;
    ec2.set_lifecycle_state(Some("Terminated"));
    scene.world.pipeline.wait_for_visible(2, LIMIT).await?;
    // The import takes longer than the group would wait without a word.
    wait::until("heartbeats", LIMIT, || async {
        let beats = ec2.calls().iter().filter(|call| *call == "RecordLifecycleActionHeartbeat").count();
        Ok((beats >= 3).then_some(()))
    })
    .await?;
    assert!(worker.is_running()? && !ec2.calls().iter().any(|call| call.starts_with("Complete")), "{:?}", ec2.calls());
    scene.copying.release();
    worker.finish(LIMIT).await?;
    assert_eq!(ec2.calls().last().map(String::as_str), Some("CompleteLifecycleAction CONTINUE"));
    scene.check_one_imported_of_three().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_started_on_an_instance_that_goes_takes_no_message() -> Result<()> {
    let world = world(1, "").await?;
    let ec2 = Ec2::start().await?;
    ec2.set_lifecycle_state(Some("Terminated"));
    world.worker().envs(ec2.variables()).start()?.finish(LIMIT).await?;
    assert_eq!(ec2.calls(), ["CompleteLifecycleAction CONTINUE"]);
    assert_eq!(world.pipeline.depth().await?, Depth { visible: 1, ..Depth::default() });
    let received = world.pipeline.take_all().await?;
    assert_eq!(received[0].receive_count, 1, "by nobody before");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spot_notice_drains_within_the_time_it_leaves() -> Result<()> {
    let scene = Scene::new("").await?;
    let ec2 = Ec2::start().await?;
    ec2.set_lifecycle_state(None);
    let worker = scene.worker().envs(ec2.variables()).expect_line("drain timeout");
    let worker = scene.start(worker, 2).await?;
    // Ten seconds, of which five are kept to give back what is left.
    ec2.interrupt(&(chrono::Utc::now() + chrono::Duration::seconds(10)).to_rfc3339());
    let begun = Instant::now();
    worker.finish(LIMIT).await?;
    assert!(begun.elapsed() < Duration::from_secs(30), "it took {:?}", begun.elapsed());
    scene.world.pipeline.wait_for_visible(2, LIMIT).await?;
    assert_eq!(ec2.calls(), [""; 0], "there is no group to tell");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spot_notice_that_leaves_no_time_still_gives_everything_back() -> Result<()> {
    let scene = Scene::new("").await?;
    let ec2 = Ec2::start().await?;
    ec2.set_lifecycle_state(None);
    let worker = scene.start(scene.worker().envs(ec2.variables()).expect_line("drain timeout"), 3).await?;
    ec2.interrupt(&chrono::Utc::now().to_rfc3339());
    worker.finish(LIMIT).await?;
    assert_eq!(scene.world.pipeline.depth().await?, Depth { visible: 3, ..Depth::default() });
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_speak_to_its_group_an_instance_still_drains() -> Result<()> {
    let scene = Scene::new("").await?;
    let ec2 = Ec2::start().await?;
    ec2.deny();
    let worker = scene.worker().envs(ec2.variables()).expect_line("not permitted to call it");
    let worker = scene.start(worker, 1).await?;
    ec2.set_lifecycle_state(Some("Terminated"));
    worker.wait_for_line("draining", LIMIT).await?;
    scene.copying.release();
    worker.finish(LIMIT).await?;
    assert_eq!(scene.imported().await?, "1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_protected_while_it_imports_and_its_protection_renewed() -> Result<()> {
    let scene = Scene::new("").await?;
    let agent = Agent::start(3).await?;
    let worker = scene.start(scene.worker().envs(agent.variables()), 1).await?;
    let wishes = agent.wishes();
    assert_eq!(wishes.last(), Some(&serde_json::json!({"ProtectionEnabled": true, "ExpiresInMinutes": 30})));
    wait::until("renewals", LIMIT, || async { Ok((agent.wishes().len() >= wishes.len() + 3).then_some(())) }).await?;
    assert_eq!(scene.instance_id().await?, "0123456789abcdef0123456789abcdef");
    scene.copying.release();
    wait::until("the end of protection", LIMIT, || async {
        Ok(agent.wishes().last().filter(|wish| wish["ProtectionEnabled"] == false).map(|_| ()))
    })
    .await?;
    assert_eq!(scene.imported().await?, "1");
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_leads_nowhere_is_not_mentioned() -> Result<()> {
    let world = world(1, "").await?;
    // An address that answers nothing at all, as 169.254.169.254 on a laptop.
    let nowhere = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let worker = world
        .drainer()
        .env("AWS_EC2_METADATA_DISABLED", "false")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{}", nowhere.local_addr()?))
        .start()?;
    worker.finish(LIMIT).await?;
    assert_eq!(world.pairs().await?, ["0=x"]);
    Ok(())
}

/// Objects imported first, so that a worker knows them to be quick and takes some in hand beyond its slots.
const N_QUICK: i64 = 20;

/// A worker with one slot, held in the middle of an object's COPY, with other messages in hand.
struct Scene {
    world: World,
    proxy: Proxy,
    copying: Trigger,
}

impl Scene {
    async fn new(settings: &str) -> Result<Self> {
        let world = world(N_QUICK, settings).await?;
        let proxy = world.postgres_proxy().await?;
        let quick = usize::try_from(N_QUICK)?;
        let copying = proxy.add(Rule::when_client_sends("PGCOPY\n", Action::HoldRequest).after(quick).always());
        Ok(Self { world, proxy, copying })
    }

    fn worker(&self) -> Program {
        self.world.through_postgres(self.world.worker().args(["--concurrency", "1"]), &self.proxy)
    }

    /// Starts the worker and returns when it has so many objects in hand, one of them begun.
    async fn start(&self, worker: Program, n_objects: i64) -> Result<Process> {
        let worker = worker.start()?;
        self.world.pipeline.wait_until_empty(LIMIT).await?;
        for id in 0..n_objects {
            self.world.pipeline.put(&format!("pairs/held-{id}"), pairs(&[(1000 + id, "x")])).await?;
        }
        self.copying.fired(1, LIMIT).await?;
        let in_hand = Depth { in_flight: n_objects.unsigned_abs(), ..Depth::default() };
        wait::until("the objects to be in hand", LIMIT, || async {
            Ok((self.world.pipeline.depth().await? == in_hand).then_some(()))
        })
        .await?;
        Ok(worker)
    }

    /// Returns how many of the held objects are imported.
    async fn imported(&self) -> Result<String> {
        self.world.database.value("SELECT count(*) FROM pairs WHERE id >= 1000").await
    }

    async fn instance_id(&self) -> Result<String> {
        let asked = "SELECT coalesce(max(instance_id), '') FROM penstock.workers";
        wait::until("the heartbeat to name the instance", LIMIT, || async {
            Ok(Some(self.world.database.value(asked).await?).filter(|id| !id.is_empty()))
        })
        .await
    }

    async fn check_one_imported_of_three(&self) -> Result<()> {
        assert_eq!(self.imported().await?, "1");
        let depth = self.world.pipeline.depth().await?;
        assert_eq!(depth, Depth { visible: 2, ..Depth::default() }, "and the rest is for others");
        Ok(())
    }
}

async fn world(n_objects: i64, settings: &str) -> Result<World> {
    let options = Options { visibility_timeout_secs: VISIBILITY_SECS, ..Options::default() };
    // One COPY an object, for the scene counts them.
    let dataset = format!("{settings}{PAIRS}\ntechnique = \"staged\"\n");
    let world = World::new(options, PAIRS_TABLE, &dataset).await?;
    for id in 0..n_objects {
        world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, "x")])).await?;
    }
    world.pipeline.wait_for_visible(n_objects.unsigned_abs(), LIMIT).await?;
    Ok(world)
}

async fn wait_for_call(ec2: &Ec2, call: &str, limit: Duration) -> Result<()> {
    wait::until(call, limit, || async { Ok((ec2.calls().last().map(String::as_str) == Some(call)).then_some(())) })
        .await
}
