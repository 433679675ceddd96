//! A dataset's objects fail for a cause that is not theirs: none is given up at once, one tells of it, and the
//! others go on when it is over.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::{Context as _, Result};
use penstock_tests::{
    aws::{Depth, Options, Route},
    http,
    postgres::Postgres,
    process::{Process, Program},
    proxy::{Action, Rule, http_answer},
    wait,
};
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A second dataset, whose table is not there.
const LATER: &str = r#"
[[dataset]]
name = "later"
match = "s3://*/later/**"
table = "public.later"
key = ["id"]
"#;
/// One whose bucket nobody may read.
const FORBIDDEN: &str = r#"
[[dataset]]
name = "forbidden"
match = "s3://forbidden/**"
table = "public.pairs"
key = ["id"]
"#;
const LATER_TABLE: &str = "CREATE TABLE public.later (id bigint PRIMARY KEY, value text)";

#[tokio::test(flavor = "multi_thread")]
async fn a_403_of_some_seconds_leaves_nothing_in_the_dead_letter_queue_and_is_told_of() -> Result<()> {
    let world = world(30, PAIRS).await?;
    let store = world.aws_proxy().await?;
    let path = format!("/{}/pairs/", world.pipeline.bucket);
    let denying: Vec<_> = ["GET ", "HEAD "]
        .map(|method| {
            let denied = Action::Answer(http_answer(403, "Forbidden"));
            store.add(Rule::when_client_sends(format!("{method}{path}"), denied).always())
        })
        .to_vec();
    put(&world, "pairs", 0..30).await?;
    let worker = world.through_aws(quiet(world.worker()), "S3", &store).start()?;
    let told = readyz_says(&worker, "dataset: pairs: access: access denied").await?;
    assert_eq!(told.lines().count(), 1, "{told}");
    let held = "SELECT key FROM penstock.object_status WHERE state = 'retrying' AND reason = 'access' LIMIT 1";
    let key = wait::until("a held object's status", LIMIT, || async { Ok(world.database.rows(held).await?.pop()) });
    let address = format!("s3://{}/{}", world.pipeline.bucket, key.await?);
    let status = world.command("status").arg(address).run(LIMIT).await?;
    assert!(status.stdout.contains("retrying") && status.stdout.contains("access denied"), "{}", status.stdout);
    // Samples go on being tried, the others are not.
    let n_asked = || denying.iter().map(|rule| rule.count()).sum::<usize>();
    let before = n_asked();
    wait::until("samples", LIMIT, || async { Ok((n_asked() >= before + 3).then_some(())) }).await?;
    let tried = "SELECT count(DISTINCT key) < 20 FROM penstock.object_status WHERE state = 'retrying'";
    assert_eq!(world.database.value(tried).await?, "true", "of 30 objects");
    let mended = Instant::now();
    denying.iter().for_each(|rule| rule.release());
    world.pipeline.wait_until_empty(LIMIT).await?;
    assert!(mended.elapsed() < Duration::from_secs(30), "they went on after {:?}", mended.elapsed());
    assert_eq!(world.database.value("SELECT count(*) FROM pairs").await?, "30");
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    readyz_is(&worker, 200).await?;
    assert_eq!(worker.stderr().matches("objects fail for a cause").count(), 1, "told once");
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_fails_as_a_sample_for_a_missing_table_and_the_rest_are_imported_when_it_is_there() -> Result<()> {
    let world = world(4, &format!("{PAIRS}{LATER}")).await?;
    put(&world, "later", 0..12).await?;
    let begun = Instant::now();
    let worker = quiet(world.worker()).expect_line("object failed").start()?;
    let one = Depth { visible: 1, ..Depth::default() };
    wait::until("the sample", LIMIT, || async { Ok((world.pipeline.dead_letter_depth().await? == one).then_some(())) })
        .await?;
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
    world.database.execute(LATER_TABLE).await?;
    world.pipeline.wait_until_empty(LIMIT).await?;
    assert_eq!(world.database.value("SELECT count(*) FROM public.later").await?, "11");
    let letters = world.pipeline.take_dead_letters().await?;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].attributes["penstock-reason"], "schema");
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_does_not_find_what_it_names_holds_the_objects_until_it_does() -> Result<()> {
    let world = world(60, PAIRS).await?;
    world.command("migrate").run(LIMIT).await?;
    let trigger = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log VALUES (NEW.id); \
                   RETURN NEW; END $$; CREATE TRIGGER g BEFORE INSERT ON pairs FOR EACH ROW EXECUTE FUNCTION f()";
    world.database.execute(trigger).await?;
    put(&world, "pairs", 0..3).await?;
    let worker = quiet(world.worker()).start()?;
    wait::until("the objects to be held", LIMIT, || async {
        let held = "SELECT count(*) FROM penstock.object_status WHERE state = 'retrying' AND reason = 'schema'";
        Ok((world.database.value(held).await? == "3").then_some(()))
    })
    .await?;
    world.database.execute("CREATE TABLE public.log (id bigint)").await?;
    world.pipeline.wait_until_empty(LIMIT).await?;
    assert_eq!(world.database.value("SELECT count(*) FROM pairs").await?, "3");
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_create_no_temporary_tables_loses_no_object_and_goes_on_once_it_may() -> Result<()> {
    // Roles belong to the whole server, so it is one of the story's own.
    let postgres = Arc::new(tokio::task::spawn_blocking(|| Postgres::start(Default::default())).await??);
    let options = Options { route: Route::Nowhere, ..Options::default() };
    let world = World::on(&postgres, options, PAIRS_TABLE, &format!("{PAIRS}technique = \"staged\"\n")).await?;
    let database = world.database.name();
    let role = "CREATE ROLE loader LOGIN PASSWORD 'p'; GRANT SELECT, INSERT, UPDATE ON pairs TO loader;
                REVOKE TEMP ON DATABASE name FROM PUBLIC; GRANT CREATE ON DATABASE name TO loader";
    world.database.execute(&role.replace("name", database)).await?;
    put(&world, "pairs", 0..6).await?;
    let url = format!("postgres://loader:p@{}/{database}", postgres.host_and_port());
    let worker = quiet(world.worker()).env("DATABASE_URL", url).start()?;
    let told = readyz_says(&worker, "dataset: pairs: access: ").await?;
    assert!(told.contains("permission denied to create temporary tables in database"), "{told}");
    world.database.execute(&format!("GRANT TEMP ON DATABASE {database} TO loader")).await?;
    world.pipeline.wait_until_empty(LIMIT).await?;
    assert_eq!(world.database.value("SELECT count(*) FROM pairs").await?, "6");
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    readyz_is(&worker, 200).await?;
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_denied_alone_fails_and_its_neighbours_do_not_wait_for_it() -> Result<()> {
    let world = world(3, PAIRS).await?;
    let store = world.aws_proxy().await?;
    let path = format!("/{}/pairs/secret", world.pipeline.bucket);
    let denied = Action::Answer(http_answer(403, "Forbidden"));
    let denying = store.add(Rule::when_client_sends(&path, denied).always());
    put_one(&world, "pairs/secret", 0).await?;
    let worker = world.through_aws(quiet(world.worker()), "S3", &store).expect_line("object failed").start()?;
    denying.fired(1, LIMIT).await?;
    put(&world, "pairs", 1..5).await?;
    wait::until("its neighbours' import", LIMIT, || async {
        Ok((world.database.value("SELECT count(*) FROM pairs").await? == "4").then_some(()))
    })
    .await?;
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default(), "it is still held");
    world.pipeline.wait_until_empty(LIMIT).await?;
    let letters = world.pipeline.take_dead_letters().await?;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].attributes["penstock-reason"], "access");
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_until_the_queue_is_empty_ends_though_nobody_mends_the_table() -> Result<()> {
    let world = world(2, LATER).await?;
    put(&world, "later", 0..6).await?;
    quiet(world.drainer()).expect_line("object failed").start()?.finish(LIMIT).await?;
    assert_eq!(world.pipeline.dead_letter_depth().await?.visible, 6);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn more_messages_than_are_held_leave_the_way_free_and_come_back_when_it_is_over() -> Result<()> {
    let world = world(300, &format!("{PAIRS}{LATER}")).await?;
    for id in 0..320 {
        world.pipeline.put(&format!("later/{id}"), pairs(&[(id, "x")])).await?;
    }
    let bodies: Vec<String> = (0..320).map(|id| pointer(&world, &format!("later/{id}"))).collect();
    world.pipeline.send_all(&bodies).await?;
    let worker = quiet(world.worker()).start()?;
    let all = Depth { in_flight: 320, ..Depth::default() };
    wait::until("all to be taken", LIMIT, || async { Ok((world.pipeline.depth().await? == all).then_some(())) })
        .await?;
    let begun = Instant::now();
    put(&world, "pairs", 0..10).await?;
    wait::until("the healthy dataset's imports", LIMIT, || async {
        Ok((world.database.value("SELECT count(*) FROM pairs").await? == "10").then_some(()))
    })
    .await?;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let metrics = http::get(&url(&worker, "metrics").await?).await?.body;
    assert!(metrics.contains("importer_dataset_braked{dataset=\"later\",reason=\"schema\"} 1"), "{metrics}");
    // Those given back are hidden for five minutes, and yet are back at once.
    world.database.execute(LATER_TABLE).await?;
    let mended = Instant::now();
    world.pipeline.wait_until_empty(LIMIT).await?;
    assert!(mended.elapsed() < Duration::from_secs(170), "{:?}", mended.elapsed());
    assert_eq!(world.database.value("SELECT count(*) FROM public.later").await?, "320");
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn fifteen_hundred_messages_of_a_forbidden_bucket_stop_no_other_bucket() -> Result<()> {
    let world = world(300, &format!("{PAIRS}{FORBIDDEN}")).await?;
    let store = world.aws_proxy().await?;
    let denied = Action::Answer(http_answer(403, "Forbidden"));
    let denying = store.add(Rule::when_client_sends(" /forbidden/", denied).always());
    // Of many directories, with and without what a HEAD would say.
    let body = |n: u32| match n % 2 {
        0 => json!({"bucket": "forbidden", "key": format!("{}/{n}", n % 7)}).to_string(),
        _ => json!({"bucket": "forbidden", "key": format!("{}/{n}", n % 7), "etag": "e", "size": 7}).to_string(),
    };
    world.pipeline.send_all(&(0..1500).map(body).collect::<Vec<_>>()).await?;
    let worker = world.through_aws(quiet(world.worker()), "S3", &store).start()?;
    denying.fired(4, LIMIT).await?;
    put(&world, "pairs", 0..50).await?;
    wait::until("the healthy bucket's imports", LIMIT, || async {
        Ok((world.database.value("SELECT count(*) FROM pairs").await? == "50").then_some(()))
    })
    .await?;
    readyz_says(&worker, "dataset: forbidden: access").await?;
    wait::until("the healthy bucket's deletes", LIMIT, || async {
        let depth = world.pipeline.depth().await?;
        Ok((depth.visible + depth.in_flight == 1500).then_some(()))
    })
    .await?;
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_gives_back_what_is_held_and_what_is_hidden() -> Result<()> {
    let world = world(300, LATER).await?;
    // The table is looked at before the objects, which need not be there.
    let bucket = &world.pipeline.bucket;
    let body = |id| json!({"bucket": bucket, "key": format!("later/{id}"), "etag": "e", "size": 7}).to_string();
    world.pipeline.send_all(&(0..230).map(body).collect::<Vec<_>>()).await?;
    let worker = quiet(world.worker()).start()?;
    let all = Depth { in_flight: 230, ..Depth::default() };
    wait::until("all to be taken", LIMIT, || async { Ok((world.pipeline.depth().await? == all).then_some(())) })
        .await?;
    worker.terminate(LIMIT).await?;
    assert_eq!(world.pipeline.depth().await?, Depth { visible: 230, ..Depth::default() });
    Ok(())
}

/// A world whose brake holds objects for so long, and whose messages are pointers.
async fn world(brake_secs: u32, datasets: &str) -> Result<World> {
    let options = Options { route: Route::Nowhere, visibility_timeout_secs: 30, ..Options::default() };
    World::new(options, PAIRS_TABLE, &format!("[worker]\nbrake_secs = {brake_secs}\n{datasets}")).await
}

fn quiet(program: Program) -> Program {
    program.expect_line("objects fail for a cause")
}

async fn put(world: &World, prefix: &str, ids: std::ops::Range<i64>) -> Result<()> {
    for id in ids {
        put_one(world, &format!("{prefix}/{id}"), id).await?;
    }
    Ok(())
}

async fn put_one(world: &World, key: &str, id: i64) -> Result<()> {
    world.pipeline.put(key, pairs(&[(id, "x")])).await?;
    world.pipeline.send(pointer(world, key)).await?;
    Ok(())
}

fn pointer(world: &World, key: &str) -> String {
    json!({"bucket": world.pipeline.bucket, "key": key}).to_string()
}

async fn readyz_says(worker: &Process, text: &str) -> Result<String> {
    wait::until(&format!("/readyz to say {text:?}"), LIMIT, || async {
        let ready = http::get(&url(worker, "readyz").await?).await?;
        Ok((ready.status == 503 && ready.body.contains(text)).then_some(ready.body))
    })
    .await
}

async fn readyz_is(worker: &Process, status: u16) -> Result<()> {
    wait::until(&format!("/readyz to answer {status}"), LIMIT, || async {
        Ok((http::get(&url(worker, "readyz").await?).await?.status == status).then_some(()))
    })
    .await
}

async fn url(worker: &Process, path: &str) -> Result<String> {
    let line = worker.wait_for_line("serving health and metrics", LIMIT).await?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    Ok(format!("http://{}/{path}", line["listen"].as_str().context("the line names no address")?))
}
