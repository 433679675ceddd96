//! `after_load = "tag"`: what was loaded gets a tag in S3 after its commit, that very version, beside the tags it has.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::Result;
use aws_sdk_s3::types::{Tag, Tagging};
use penstock_tests::{
    aws::{Options, Route, Stored},
    proxy::{Action, Rule, http_answer},
    wait,
};
use serde_json::json;
use std::fs;

const TAGGED: &str = "after_load = \"tag\"\n";
const N_DUE: &str = "SELECT count(*) FROM penstock.due";

async fn world(versioned: bool, more: &str) -> Result<World> {
    let options = Options { route: Route::Nowhere, versioned, ..Options::default() };
    World::new(options, PAIRS_TABLE, &format!("{PAIRS}{TAGGED}{more}")).await
}

async fn put(world: &World, key: &str, body: &str, tags: &[(&str, &str)]) -> Result<Stored> {
    let stored = world.pipeline.put(key, body).await?;
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build());
    let tags = Tagging::builder().set_tag_set(Some(tags.collect::<Result<_, _>>()?)).build()?;
    world.pipeline.account.s3.put_object_tagging().bucket(&world.pipeline.bucket).key(key).tagging(tags).send().await?;
    Ok(stored)
}

/// Names the very version of an object.
async fn announce(world: &World, key: &str, stored: &Stored) -> Result<()> {
    let (bucket, version, etag) = (&world.pipeline.bucket, &stored.version_id, &stored.etag);
    let pointer = json!({"bucket": bucket, "key": key, "version_id": version, "etag": etag});
    world.pipeline.send(pointer.to_string()).await?;
    Ok(())
}

/// Returns a version's tags in their order, of the current one where none is named.
async fn tags(world: &World, key: &str, version: Option<&String>) -> Result<Vec<String>> {
    let asked = world.pipeline.account.s3.get_object_tagging().bucket(&world.pipeline.bucket).key(key);
    let answer = asked.set_version_id(version.cloned()).send().await?;
    let mut tags: Vec<_> = answer.tag_set.iter().map(|tag| format!("{}={}", tag.key, tag.value)).collect();
    tags.sort();
    Ok(tags)
}

async fn wait_for(world: &World, sql: &str, expected: &str) -> Result<()> {
    let what = format!("{sql} to be {expected}");
    wait::until(&what, LIMIT, || async { Ok((world.database.value(sql).await? == expected).then_some(())) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_that_was_loaded_gets_its_tag_beside_those_it_has_and_no_other_version_does() -> Result<()> {
    let world = world(true, "[dataset.tag]\nkey = \"state\"\nvalue = \"in the warehouse\"\n").await?;
    let before = put(&world, "pairs/1", &pairs(&[(1, "x")]), &[("team", "a b"), ("state", "new")]).await?;
    let after = put(&world, "pairs/1", &pairs(&[(1, "y")]), &[("state", "new")]).await?;
    announce(&world, "pairs/1", &before).await?;
    world.drain(1).await?;
    wait_for(&world, N_DUE, "0").await?;
    let expected = ["state=in the warehouse", "team=a b"];
    assert_eq!(tags(&world, "pairs/1", before.version_id.as_ref()).await?, expected);
    assert_eq!(tags(&world, "pairs/1", after.version_id.as_ref()).await?, ["state=new"]);
    // Told of again, it is written no second time, which a person who took the tag off would notice.
    announce(&world, "pairs/1", &after).await?;
    world.drain(1).await?;
    let off = world.pipeline.account.s3.delete_object_tagging().bucket(&world.pipeline.bucket).key("pairs/1");
    off.send().await?;
    announce(&world, "pairs/1", &after).await?;
    world.drain(1).await?;
    assert_eq!(tags(&world, "pairs/1", after.version_id.as_ref()).await?, [""; 0]);
    assert_eq!(tags(&world, "pairs/1", before.version_id.as_ref()).await?, expected);
    Ok(())
}

/// Without versions a tag is the key's, whatever its content: what was not loaded must not look as if it were.
#[tokio::test(flavor = "multi_thread")]
async fn content_that_was_put_before_the_tag_or_meanwhile_goes_without_it() -> Result<()> {
    let world = world(false, "").await?;
    let store = world.aws_proxy().await?;
    for (key, request) in [("pairs/read", "GET"), ("pairs/written", "PUT")] {
        let path = format!("{request} /{}/{key}?tagging", world.pipeline.bucket);
        let held = store.add(Rule::when_client_sends(path, Action::HoldRequest));
        let worker = world.through_aws(world.worker(), "S3", &store).start()?;
        let stored = put(&world, key, &pairs(&[(1, key)]), &[]).await?;
        announce(&world, key, &stored).await?;
        held.fired(1, LIMIT).await?;
        put(&world, key, &pairs(&[(1, "another")]), &[]).await?;
        held.release();
        wait_for(&world, N_DUE, "0").await?;
        worker.terminate(LIMIT).await?;
        assert_eq!(tags(&world, key, None).await?, [""; 0], "{key}");
    }
    let key = "pairs/before";
    put(&world, key, &pairs(&[(1, "x")]), &[]).await?;
    let loaded = world.command("load").arg(format!("s3://{}/{key}", world.pipeline.bucket)).run(LIMIT).await?;
    assert!(loaded.status.success(), "{}", loaded.stderr);
    let stored = put(&world, key, &pairs(&[(1, "another")]), &[("x", "1")]).await?;
    assert_eq!(world.command("due").run(LIMIT).await?.stdout, "1 sent, 0 not taken\n");
    assert_eq!(tags(&world, key, None).await?, ["x=1"]);
    // The new content is loaded, and then it has it.
    announce(&world, key, &stored).await?;
    world.drain(1).await?;
    wait_for(&world, N_DUE, "0").await?;
    assert_eq!(tags(&world, key, None).await?, ["penstock=loaded", "x=1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_refused_is_kept_and_shown_and_one_for_what_is_gone_is_not() -> Result<()> {
    let world = world(true, "").await?;
    let store = world.aws_proxy().await?;
    let denied = |key: &str| {
        let path = format!("PUT /{}/pairs/{key}?tagging", world.pipeline.bucket);
        store.add(Rule::when_client_sends(path, Action::Answer(http_answer(403, "Forbidden"))).always())
    };
    let (denied, held) =
        (denied("denied"), store.add(Rule::when_client_sends("?tagging", Action::HoldRequest).always()));
    let worker = world.through_aws(world.worker(), "S3", &store).expect_line("what is due was not taken").start()?;
    let ten: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let ten: Vec<(&str, &str)> = ten.iter().map(|n| (n.as_str(), n.as_str())).collect();
    for (key, tags) in [("denied", &[][..]), ("full", &ten), ("gone", &[]), ("full-but-there", &ten[1..])] {
        let key = format!("pairs/{key}");
        let stored = put(&world, &key, &pairs(&[(1, &key)]), tags).await?;
        announce(&world, &key, &stored).await?;
    }
    wait_for(&world, "SELECT count(*) FROM penstock.object_status WHERE state = 'imported'", "4").await?;
    let versions = world.pipeline.account.s3.list_object_versions().bucket(&world.pipeline.bucket);
    let versions = versions.prefix("pairs/gone").send().await?;
    for version in versions.versions() {
        let delete = world.pipeline.account.s3.delete_object().bucket(&world.pipeline.bucket).key("pairs/gone");
        delete.set_version_id(version.version_id.clone()).send().await?;
    }
    held.release();
    wait_for(&world, "SELECT count(*) FROM penstock.due WHERE error <> ''", "2").await?;
    wait_for(&world, N_DUE, "2").await?;
    let left = "SELECT kind, target, body ->> 'key', error FROM penstock.due ORDER BY body ->> 'key'";
    let bucket = &world.pipeline.bucket;
    let rows = world.database.rows(left).await?;
    let expected = format!("tag | s3://{bucket} | pairs/denied | tag s3://{bucket}/pairs/denied: access denied: ");
    assert!(rows[0].starts_with(&expected), "{rows:?}");
    assert!(rows[1].contains("pairs/full | ") && rows[1].contains("the object has 10 tags"), "{rows:?}");
    assert_eq!(tags(&world, "pairs/full-but-there", None).await?.len(), 10);
    worker.terminate(LIMIT).await?;

    let checked = world.command("check").run(LIMIT).await?.stdout;
    assert!(checked.contains(&format!("due to s3://{bucket}: 2 could not be delivered")), "{checked}");
    // What is left alone for a while is due when that is over.
    let now = "UPDATE penstock.due_item SET at = now()";
    world.database.execute(now).await?;
    let due = || world.through_aws(world.command("due"), "S3", &store).expect_line("what is due was not taken");
    let refused = due().run(LIMIT).await?;
    assert_eq!(
        (refused.status.code(), refused.stdout.as_str()),
        (Some(3), "0 sent, 2 not taken\n"),
        "{}",
        refused.stderr
    );
    denied.release();
    world.database.execute(now).await?;
    assert_eq!(due().run(LIMIT).await?.stdout, "1 sent, 1 not taken\n");
    assert_eq!(tags(&world, "pairs/denied", None).await?, ["penstock=loaded"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_between_commit_and_tag_leaves_it_to_the_next() -> Result<()> {
    let world = world(true, "").await?;
    let store = world.aws_proxy().await?;
    let held = store.add(Rule::when_client_sends("?tagging", Action::HoldRequest));
    let worker = world.through_aws(world.worker(), "S3", &store).start()?;
    let stored = put(&world, "pairs/1", &pairs(&[(1, "x")]), &[("team", "a")]).await?;
    announce(&world, "pairs/1", &stored).await?;
    held.fired(1, LIMIT).await?;
    worker.kill()?;
    drop(store);
    assert_eq!(tags(&world, "pairs/1", None).await?, ["team=a"]);
    let due = async || anyhow::Ok(world.command("due").run(LIMIT).await?.stdout);
    // It may still be at work, for all that others know.
    assert_eq!(due().await?, "0 sent, 0 not taken\n");
    world.database.execute("UPDATE penstock.due_item SET at = now()").await?;
    assert_eq!(due().await?, "1 sent, 0 not taken\n");
    assert_eq!(tags(&world, "pairs/1", None).await?, ["penstock=loaded", "team=a"]);
    Ok(())
}

/// Reading and writing an object's tags are two calls: two at once would lose one of the tags.
#[tokio::test(flavor = "multi_thread")]
async fn two_datasets_that_tag_the_same_objects_lose_none_of_the_tags() -> Result<()> {
    let copy = "[[dataset]]\nname = \"copy\"\nafter = \"pairs\"\ntable = \"public.copy\"\nkey = [\"id\"]\n\
                after_load = \"tag\"\ntag = { key = \"copy\", value = \"there\" }\n";
    let world = world(true, copy).await?;
    world.database.execute("CREATE TABLE copy (id bigint PRIMARY KEY, value text)").await?;
    let migrated = world.command("migrate").run(LIMIT).await?;
    anyhow::ensure!(migrated.status.success(), "{}", migrated.stderr);
    // Each is claimed as soon as it is due, by whoever of three is first.
    let held = world.aws_proxy().await?;
    let slow =
        held.add(Rule::when_client_sends("?tagging", Action::Delay(std::time::Duration::from_millis(200))).always());
    let workers = (0..3).map(|_| world.through_aws(world.worker(), "S3", &held).start()).collect::<Result<Vec<_>>>()?;
    for n in 0..10 {
        let key = format!("pairs/{n}");
        let stored = put(&world, &key, &pairs(&[(n, "x")]), &[]).await?;
        announce(&world, &key, &stored).await?;
    }
    wait_for(&world, "SELECT count(*) FROM penstock.object_status WHERE state = 'imported'", "20").await?;
    wait_for(&world, N_DUE, "0").await?;
    assert!(slow.count() >= 40, "{} calls", slow.count());
    for n in 0..10 {
        assert_eq!(tags(&world, &format!("pairs/{n}"), None).await?, ["copy=there", "penstock=loaded"], "{n}");
    }
    for worker in workers {
        worker.terminate(LIMIT).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_registered_holds_until_a_deployment_says_otherwise() -> Result<()> {
    let world = world(true, "").await?;
    let migrate = async |arguments: &[&str]| {
        anyhow::Ok(world.command("migrate").args(arguments.iter().copied()).run(LIMIT).await?)
    };
    anyhow::ensure!(migrate(&[]).await?.status.success());
    let registered = "SELECT dataset, key, value FROM penstock.tagging";
    assert_eq!(world.database.rows(registered).await?, ["pairs | penstock | loaded"]);
    let forgotten = migrate(&["--forget", "pairs"]).await?;
    assert!(forgotten.stderr.contains("it is still configured"), "{}", forgotten.stderr);

    // A worker of an older configuration loses no tag, and says that it knows nothing of it.
    fs::write(world.config(), fs::read_to_string(world.config())?.replace(TAGGED, ""))?;
    let stored = put(&world, "pairs/1", &pairs(&[(1, "x")]), &[]).await?;
    announce(&world, "pairs/1", &stored).await?;
    world.drain(1).await?;
    wait_for(&world, N_DUE, "0").await?;
    assert_eq!(tags(&world, "pairs/1", None).await?, ["penstock=loaded"]);
    let checked = world.command("check").run(LIMIT).await?.stdout;
    let difference = "dataset pairs is registered with penstock=loaded for loaded objects, and configured with no tag";
    assert!(checked.contains(difference), "{checked}");
    anyhow::ensure!(migrate(&[]).await?.status.success());
    assert_eq!(world.database.rows(registered).await?, [""; 0]);
    let stored = put(&world, "pairs/2", &pairs(&[(2, "x")]), &[]).await?;
    announce(&world, "pairs/2", &stored).await?;
    world.drain(1).await?;
    assert_eq!(world.database.value(N_DUE).await?, "0");
    assert_eq!(tags(&world, "pairs/2", None).await?, [""; 0]);
    Ok(())
}
