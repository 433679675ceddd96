//! What is due after a commit: sent at least once, by whoever comes first, to every kind of target.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::Result;
use penstock_tests::{
    aws::{Options, Pipeline, Route},
    proxy::{Action, Rule, http_answer},
    wait,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs};

/// The same pairs again, in a queue of their own.
const COPY: &str = "CREATE TABLE copy (id bigint PRIMARY KEY, value text, penstock_object bigint)";

/// A world whose objects' messages the story sends, of two datasets of which the second follows the first.
async fn followed() -> Result<(World, Pipeline)> {
    let options = Options { route: Route::Nowhere, ..Options::default() };
    let world = World::new(options, &format!("{PAIRS_TABLE}; {COPY}"), PAIRS).await?;
    let slow = world.pipeline.another_queue("slow", &Options::default()).await?;
    let config = fs::read_to_string(world.config())?.replace("[queue]", "[[queue]]\nname = \"live\"");
    let slow_queue = format!(
        "[[queue]]\nname = \"slow\"\nurl = \"{}\"\nwait_secs = 1\nvisibility_timeout_secs = 30\n",
        slow.queue_url
    );
    let copy = "[[dataset]]\nname = \"copy\"\nafter = \"pairs\"\nqueue = \"slow\"\ntable = \"public.copy\"\nkey = [\"id\"]\non_delete = \"remove\"\n";
    fs::write(world.config(), format!("{config}\n{slow_queue}{copy}"))?;
    let migrated = world.command("migrate").run(LIMIT).await?;
    anyhow::ensure!(migrated.status.success(), "{}", migrated.stderr);
    Ok((world, slow))
}

async fn put(world: &World, key: &str, body: impl Into<Vec<u8>>) -> Result<()> {
    world.pipeline.put(key, body).await?;
    world.pipeline.send(json!({"bucket": world.pipeline.bucket, "key": key}).to_string()).await?;
    Ok(())
}

async fn wait_for(world: &World, sql: &str, expected: &str) -> Result<()> {
    let what = format!("{sql} to be {expected}");
    wait::until(&what, LIMIT, || async { Ok((world.database.value(sql).await? == expected).then_some(())) }).await
}

async fn due(world: &World) -> Result<String> {
    let sent = world.command("due").run(LIMIT).await?;
    anyhow::ensure!(sent.status.success(), "{}", sent.stderr);
    Ok(sent.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_between_commit_and_send_leaves_it_to_whoever_comes_next_and_one_of_two_sends_it() -> Result<()>
{
    let (world, slow) = followed().await?;
    let proxy = world.aws_proxy().await?;
    let send = proxy.add(Rule::when_client_sends("AmazonSQS.SendMessage", Action::HoldRequest));
    let worker = world.through_aws(world.worker(), "SQS", &proxy).start()?;
    put(&world, "pairs/1", pairs(&[(1, "x")])).await?;
    send.fired(1, LIMIT).await?;
    worker.kill()?;
    drop(proxy);
    let left = "SELECT id > 0, kind, target = '{slow}', body ->> 'dataset', body ->> 'key', attempts, coalesce(error, '-'), \
                at > created_at FROM penstock.due";
    let left = left.replace("{slow}", &slow.queue_url);
    assert_eq!(world.database.rows(&left).await?, ["true | step | true | copy | pairs/1 | 1 | - | true"]);
    // Nobody takes it from one who may still be at work; when that time is over, two do not both.
    assert_eq!(due(&world).await?, "0 sent, 0 not taken\n");
    world.database.execute("UPDATE penstock.due_item SET at = now()").await?;
    let (first, second) = tokio::join!(due(&world), due(&world));
    let mut sent = [first?, second?];
    sent.sort();
    assert_eq!(sent, ["0 sent, 0 not taken\n", "1 sent, 0 not taken\n"]);
    world.drainer().args(["--queue", "slow"]).start()?.finish(LIMIT).await?;
    assert_eq!(world.database.rows("SELECT id, value FROM copy").await?, ["1 | x"]);
    assert_eq!(world.database.value("SELECT count(*) FROM penstock.due").await?, "0");
    Ok(())
}

/// A send whose answer is lost is sent a second time, and the ledger makes that harmless.
#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_may_have_arrived_is_sent_again_and_written_once() -> Result<()> {
    let (world, slow) = followed().await?;
    put(&world, "pairs/1", pairs(&[(1, "x")])).await?;
    let proxy = world.aws_proxy().await?;
    let cut = Rule::when_client_sends("AmazonSQS.SendMessage", Action::CutAnswer(0)).times(20);
    let cut = proxy.add(cut);
    let worker = world.through_aws(world.worker(), "SQS", &proxy).expect_line("what is due was not taken").start()?;
    cut.fired(1, LIMIT).await?;
    slow.wait_for_visible(1, LIMIT).await?;
    wait_for(&world, "SELECT count(*) FROM penstock.due WHERE error <> ''", "1").await?;
    cut.release();
    wait_for(&world, "SELECT count(*) FROM penstock.due", "0").await?;
    worker.terminate(LIMIT).await?;
    assert!(slow.depth().await?.visible > 1);
    world.drainer().args(["--queue", "slow"]).start()?.finish(LIMIT).await?;
    assert_eq!(world.database.rows("SELECT id, value FROM copy").await?, ["1 | x"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_buses_and_queues_get_the_same_notice() -> Result<()> {
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, PAIRS_TABLE, PAIRS).await?;
    let mut queues = BTreeMap::new();
    for name in ["by-queue", "by-topic", "by-bus"] {
        queues.insert(name, world.pipeline.another_queue(name, &Options::default()).await?);
    }
    let targets = [
        ("by-queue", queues["by-queue"].queue_url.clone()),
        ("by-topic", queues["by-topic"].topic("told", true).await?),
        ("by-bus", queues["by-bus"].bus("told", "penstock").await?),
    ];
    let notify: String = targets
        .iter()
        .map(|(name, to)| format!("[[notify]]\nname = \"{name}\"\nto = \"{to}\"\non = [\"imported\"]\n"))
        .collect();
    fs::write(world.config(), fs::read_to_string(world.config())? + &notify)?;
    put(&world, "pairs/1", pairs(&[(1, "x")])).await?;
    world.drain(1).await?;
    wait_for(&world, "SELECT count(*) FROM penstock.due", "0").await?;
    let mut bodies = Vec::new();
    for (name, queue) in &queues {
        queue.wait_for_visible(1, LIMIT).await?;
        let taken = queue.take_all().await?;
        assert_eq!(taken.len(), 1, "{name}");
        let body: Value = serde_json::from_str(&taken[0].body)?;
        bodies.push(if *name == "by-bus" {
            assert_eq!((&body["source"], &body["detail-type"]), (&json!("penstock"), &json!("imported")), "{body}");
            body["detail"].clone()
        } else {
            body
        });
    }
    assert_eq!((&bodies[0]["event"], &bodies[0]["key"]), (&json!("imported"), &json!("pairs/1")));
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(bodies[1], bodies[2]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_an_object_is_told_field_by_field() -> Result<()> {
    let table = "CREATE TABLE pairs (id bigint PRIMARY KEY, value text, penstock_object bigint)";
    let removing = format!("{PAIRS}on_delete = \"remove\"\nmax_rejects = 1\n");
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, table, &removing).await?;
    let told = world.pipeline.another_queue("told", &Options::default()).await?;
    let notify = format!(
        "[[notify]]\nname = \"all\"\nto = \"{}\"\non = [\"imported\", \"rejected\", \"superseded\", \"removed\", \"failed\", \"held\"]\n",
        told.queue_url
    );
    fs::write(world.config(), fs::read_to_string(world.config())? + &notify)?;
    let bucket = world.pipeline.bucket.clone();
    let denied = format!("GET /{bucket}/pairs/denied");
    let store = world.aws_proxy().await?;
    let denied = store.add(Rule::when_client_sends(denied, Action::Answer(http_answer(403, "Forbidden"))).always());
    let worker = ["object failed", "objects fail for a cause", "held"]
        .iter()
        .fold(world.through_aws(world.worker(), "S3", &store), |worker, line| worker.expect_line(line))
        .start()?;
    let body = pairs(&[(1, "x"), (2, "y")]) + "{\"id\": \"z\"}\n";
    let stored = world.pipeline.put("pairs/a", body.as_str()).await?;
    let send = async |pointer: Value| world.pipeline.send(pointer.to_string()).await;
    let state_of = |key: &str| format!("SELECT count(*) FROM penstock.object_status WHERE key = '{key}' AND state = ");
    send(json!({"bucket": bucket, "key": "pairs/a", "sequencer": "02", "etag": stored.etag, "size": body.len()}))
        .await?;
    wait_for(&world, &(state_of("pairs/a") + "'imported'"), "1").await?;
    send(json!({"bucket": bucket, "key": "pairs/a", "sequencer": "01", "etag": "0".repeat(32), "size": 7})).await?;
    wait_for(&world, &(state_of("pairs/a") + "'superseded'"), "1").await?;
    world.pipeline.delete("pairs/a").await?;
    send(json!({"bucket": bucket, "key": "pairs/a", "sequencer": "03", "removed": true})).await?;
    wait_for(&world, &(state_of("pairs/a") + "'gone' AND sequencer = '03'"), "1").await?;
    put(&world, "pairs/bad", "{\"id\": \"p\"}\n{\"id\": \"q\"}\n{\"id\": 3}\n").await?;
    wait_for(&world, &(state_of("pairs/bad") + "'failed'"), "1").await?;
    put(&world, "pairs/denied", pairs(&[(9, "z")])).await?;
    told.wait_for_visible(6, LIMIT).await?;
    denied.release();
    wait_for(&world, "SELECT count(*) FROM penstock.due", "0").await?;
    worker.terminate(LIMIT).await?;

    let mut bodies: Vec<Value> =
        told.take_all().await?.iter().map(|message| serde_json::from_str(&message.body)).collect::<Result<_, _>>()?;
    bodies.retain(|body| body["key"] != "pairs/denied");
    bodies.sort_by_key(|body| {
        body["object_id"].as_i64().map_or((i64::MAX, String::new()), |id| (id, body["event"].to_string()))
    });
    for body in &mut bodies {
        for time in ["event", "first_seen", "started", "finished"] {
            if let Some(at) = body["times"].get(time).filter(|at| !at.is_null()) {
                let at = at.as_str().unwrap_or_default();
                assert!(chrono::DateTime::parse_from_rfc3339(at).is_ok(), "{time} {at:?} of {body}");
                body["times"][time] = json!("a time");
            }
        }
    }
    let counts = |counts: [Option<u64>; 5]| {
        let [read, written, merged, filtered, rejected] = counts;
        json!({"read": read, "added": 0, "written": written, "merged": merged, "filtered": filtered, "rejected": rejected})
    };
    let (loaded, none) = (counts([Some(3), Some(2), Some(0), Some(0), Some(1)]), counts([None; 5]));
    let times = json!({"event": null, "first_seen": "a time", "started": "a time", "finished": "a time"});
    let notice = |event: &str, of_object: Value| {
        let mut said = json!({"penstock": 1, "event": event, "dataset": "pairs", "bucket": bucket, "key": "pairs/a",
            "version_id": null, "etag": null, "size": null, "reason": null, "error": null, "counts": none, "times": times,
            "do": format!("importer status s3://{bucket}/pairs/a")});
        if let (Value::Object(said), Value::Object(of_object)) = (&mut said, of_object) {
            said.extend(of_object);
        }
        said
    };
    let imported =
        json!({"object_id": 1, "state": "imported", "etag": stored.etag, "size": body.len(), "counts": loaded});
    let mut rejected = imported.clone();
    rejected["do"] = json!(format!("importer rejects --replay s3://{bucket}/pairs/a"));
    let superseded = json!({"object_id": 2, "state": "superseded", "etag": "0".repeat(32), "size": 7});
    let removed = json!({"object_id": 3, "state": "gone", "reason": "removed", "error": "2 rows removed"});
    let failed = json!({"object_id": 4, "key": "pairs/bad", "state": "failed", "reason": "too_many_rejects", "size": 34,
        "etag": bodies[4]["etag"],
        "error": "2 of 3 rows rejected, more than max_rejects = 1 allows; the first is row 1 (type, column id)",
        "do": format!("importer replay --state failed --dataset pairs --prefix s3://{bucket}/pairs/bad")});
    let held = json!({"penstock": 1, "event": "held", "dataset": "pairs", "reason": "access",
        "error": "access denied: no reason given", "ended": false, "do": "importer check"});
    let expected = [
        notice("imported", imported),
        notice("rejected", rejected),
        notice("superseded", superseded),
        notice("removed", removed),
        notice("failed", failed),
        held,
    ];
    for (body, expected) in bodies.iter().zip(&expected) {
        assert_eq!(body, expected);
    }
    assert_eq!(bodies.len(), expected.len(), "{bodies:#?}");
    Ok(())
}

/// The very first message about a key may be of its removal; what was put before that comes too late. The first dataset
/// keeps what is deleted, the second does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_comes_first_keeps_out_what_was_put_before_it_and_goes_on() -> Result<()> {
    let (world, slow) = followed().await?;
    let bucket = world.pipeline.bucket.clone();
    world
        .pipeline
        .send(json!({"bucket": bucket, "key": "pairs/1", "removed": true, "sequencer": "0B"}).to_string())
        .await?;
    world.drain(1).await?;
    slow.wait_for_visible(1, LIMIT).await?;
    world.drainer().args(["--queue", "slow"]).start()?.finish(LIMIT).await?;
    let body = pairs(&[(1, "x")]);
    let etag = world.pipeline.put("pairs/1", body.as_str()).await?.etag;
    for (dataset, queue) in [("pairs", &world.pipeline), ("copy", &slow)] {
        let put = json!({"bucket": bucket, "key": "pairs/1", "dataset": dataset, "sequencer": "0A", "etag": etag, "size": body.len()});
        queue.send(put.to_string()).await?;
    }
    world.drain(1).await?;
    world.drainer().args(["--queue", "slow"]).start()?.finish(LIMIT).await?;
    let states = "SELECT dataset, state FROM penstock.object_status ORDER BY dataset, id";
    let expected = ["copy | gone", "copy | superseded", "pairs | skipped", "pairs | imported"];
    assert_eq!(world.database.rows(states).await?, expected);
    assert_eq!(world.database.value("SELECT count(*) FROM copy").await?, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_its_own_has_dead_letters_and_checks_of_its_own() -> Result<()> {
    let (world, slow) = followed().await?;
    put(&world, "pairs/1", pairs(&[(1, "x")])).await?;
    world.drain(1).await?;
    world.database.execute("ALTER TABLE copy ADD CHECK (value <> 'x')").await?;
    let failing = world.drainer().args(["--queue", "slow"]).expect_line("object failed").start()?;
    failing.finish(LIMIT).await?;
    assert_eq!(slow.dead_letter_depth().await?.visible, 1);
    world.database.execute("ALTER TABLE copy DROP CONSTRAINT copy_value_check").await?;
    let redrive = async |arguments: &[&str]| {
        let ended = world.command("redrive").args(arguments.iter().copied()).run(LIMIT).await?;
        anyhow::ensure!(ended.status.success(), "{}", ended.stderr);
        anyhow::Ok(ended.stdout)
    };
    assert_eq!(redrive(&[]).await?, "0 messages sent back, 0 left\n");
    assert_eq!(redrive(&["--queue", "slow"]).await?, "1 messages sent back, 0 left\n");
    world.drainer().args(["--queue", "slow"]).start()?.finish(LIMIT).await?;
    assert_eq!(world.database.rows("SELECT id, value FROM copy").await?, ["1 | x"]);

    let checked = async |arguments: &[&str]| {
        anyhow::Ok(world.command("check").args(arguments.iter().copied()).run(LIMIT).await?.stdout)
    };
    let (live, other) = (checked(&[]).await?, checked(&["--queue", "slow"]).await?);
    assert!(live.contains(&world.pipeline.queue_url) && !live.contains(&slow.queue_url), "{live}");
    assert!(other.contains(&slow.queue_url) && !other.contains(&world.pipeline.queue_url), "{other}");
    Ok(())
}
