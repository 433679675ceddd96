//! Datasets after others: each version that one has imported goes on to the next, by that one's queue.

use crate::{
    desk::Desk,
    world::{LIMIT, World, pairs},
};
use anyhow::Result;
use penstock_tests::{
    aws::{Depth, Options, Pipeline, Route},
    http,
    process::Program,
    wait,
};
use serde_json::{Value, json};
use std::fs;

const TABLES: &str = "CREATE TABLE pairs (id bigint PRIMARY KEY, value text, dt text);
    CREATE TABLE pair_length (id bigint PRIMARY KEY, value text, dt text, penstock_object bigint);
    CREATE TABLE pair_copy (id bigint PRIMARY KEY, value text);";

/// Two queues, and a chain of three datasets of which the second has the slow queue.
struct Chain {
    world: World,
    slow: Pipeline,
}

impl Chain {
    async fn new(options: Options, more: &str) -> Result<Self> {
        let world = World::new(options, TABLES, "").await?;
        let slow = world.pipeline.another_queue("slow", &Options::default()).await?;
        let config = format!(
            "[database]\nurl = \"{}\"\n[[queue]]\nname = \"live\"\nurl = \"{}\"\nwait_secs = 1\n\
             [[queue]]\nname = \"slow\"\nurl = \"{}\"\nwait_secs = 1\n[http]\nlisten = \"127.0.0.1:0\"\n\
             [[dataset]]\nname = \"pairs\"\nmatch = \"s3://*/pairs/dt={{dt}}/**\"\ntable = \"public.pairs\"\nkey = [\"id\"]\n\
             [[dataset]]\nname = \"length\"\nafter = \"pairs\"\nqueue = \"slow\"\ntable = \"public.pair_length\"\nkey = [\"id\"]\non_delete = \"remove\"\n\
             [[dataset]]\nname = \"copy\"\nafter = [\"length\"]\ntable = \"public.pair_copy\"\nkey = [\"id\"]\non_new_field = \"ignore\"\n{more}",
            world.database.url(),
            world.pipeline.queue_url,
            slow.queue_url,
        );
        fs::write(world.config(), config)?;
        Ok(Self { world, slow })
    }

    async fn put(&self, key: &str, rows: &[(i64, &str)]) -> Result<()> {
        self.world.pipeline.put(&format!("pairs/dt=7/{key}"), pairs(rows)).await?;
        Ok(())
    }

    async fn states(&self) -> Result<Vec<String>> {
        self.world
            .database
            .rows("SELECT dataset, state, coalesce(reason, '-'), attempts FROM penstock.object_status ORDER BY id")
            .await
    }

    async fn wait_for(&self, sql: &str, expected: &str) -> Result<()> {
        let what = format!("{sql} to be {expected}");
        wait::until(&what, LIMIT, || async { Ok((self.world.database.value(sql).await? == expected).then_some(())) })
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_goes_through_a_chain_of_queues_with_its_captures_and_only_once() -> Result<()> {
    let chain = Chain::new(Options::default(), "").await?;
    let (live, slow) = (chain.world.worker().start()?, chain.world.worker().args(["--queue", "slow"]).start()?);
    chain.put("a", &[(1, "x"), (2, "yy")]).await?;
    chain.wait_for("SELECT count(*) FROM pair_copy", "2").await?;
    chain.wait_for("SELECT count(*) FROM penstock.due", "0").await?;
    assert_eq!(
        chain.world.database.rows("SELECT id, value, dt FROM pair_length ORDER BY id").await?,
        ["1 | x | 7", "2 | yy | 7"]
    );
    let imported = ["pairs | imported | - | 1", "length | imported | - | 1", "copy | imported | - | 1"];
    assert_eq!(chain.states().await?, imported);
    // Each by a message of its own, sent when the step before it had committed.
    let by_own = "SELECT count(*) FROM (SELECT sent_at, date_trunc('milliseconds', lag(imported_at) OVER (ORDER BY id)) AS before \
                  FROM penstock.object_status) s WHERE sent_at >= before";
    assert_eq!(chain.world.database.value(by_own).await?, "2");

    // What has gone through already is left alone, also when the first step is forced to run again.
    let rows = chain.world.versions_of_rows("pair_length").await?;
    let replayed = chain.world.command("replay").args(["--dataset", "pairs", "--force"]).run(LIMIT).await?;
    assert!(replayed.status.success(), "{}", replayed.stderr);
    chain.wait_for("SELECT attempts FROM penstock.object_status WHERE dataset = 'pairs'", "2").await?;
    chain.wait_for("SELECT reason FROM penstock.object_status WHERE dataset = 'length'", "already_imported").await?;
    assert_eq!(chain.world.versions_of_rows("pair_length").await?, rows);

    // A removal goes on whatever the first step does about it.
    chain.world.pipeline.delete("pairs/dt=7/a").await?;
    chain.wait_for("SELECT count(*) FROM pair_length", "0").await?;
    assert_eq!(chain.world.database.value("SELECT count(*) FROM pairs").await?, "2");
    assert_eq!(chain.slow.dead_letter_depth().await?, Depth::default());
    live.terminate(LIMIT).await?;
    slow.terminate(LIMIT).await
}

/// The first step keeps its rows, and finds the bytes imported; the one after it was told of the removal.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_put_again_after_a_removal_go_on() -> Result<()> {
    let chain = Chain::new(Options::default(), "").await?;
    let (live, slow) = (chain.world.worker().start()?, chain.world.worker().args(["--queue", "slow"]).start()?);
    for _ in 0..2 {
        chain.put("a", &[(1, "x"), (2, "yy")]).await?;
        chain.wait_for("SELECT count(*) FROM pair_length", "2").await?;
        chain.world.pipeline.delete("pairs/dt=7/a").await?;
        chain.wait_for("SELECT count(*) FROM pair_length", "0").await?;
    }
    assert_eq!(chain.world.database.value("SELECT count(*) FROM pairs").await?, "2");
    live.terminate(LIMIT).await?;
    slow.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_go_out_once_in_a_window_and_the_rest_are_counted() -> Result<()> {
    let notices = "[[notify]]\nname = \"ops\"\nto = \"{queue}\"\non = [\"failed\", \"rejected\", \"unreadable_message\"]\nat_most = \"1 per 20s\"\n";
    let chain = Chain::new(Options { route: Route::Nowhere, ..Options::default() }, "").await?;
    let told = chain.world.pipeline.another_queue("notices", &Options::default()).await?;
    let config = fs::read_to_string(chain.world.config())? + &notices.replace("{queue}", &told.queue_url);
    fs::write(chain.world.config(), config)?;
    let worker = chain.world.worker().expect_line("object failed").expect_line("cannot be read").start()?;
    for key in ["1", "2", "3"] {
        let key = format!("pairs/dt=7/{key}.csv");
        chain.world.pipeline.put(&key, "id,value\nx,y\n").await?;
        chain.world.pipeline.send(json!({"bucket": chain.world.pipeline.bucket, "key": key}).to_string()).await?;
    }
    chain.world.pipeline.send("what?").await?;
    told.wait_for_visible(3, LIMIT).await?;
    chain.wait_for("SELECT count(*) FROM penstock.due", "0").await?;
    let bodies: Vec<Value> =
        told.take_all().await?.iter().map(|message| serde_json::from_str(&message.body)).collect::<Result<_, _>>()?;
    let of = |event: &str| bodies.iter().filter(|body| body["event"] == event).collect::<Vec<_>>();
    let (failed, held, unreadable) = (of("failed"), of("held_back"), of("unreadable_message"));
    assert_eq!((failed.len(), held.len(), unreadable.len()), (1, 1, 1), "{bodies:#?}");
    assert_eq!(failed[0]["penstock"], 1);
    assert_eq!(failed[0]["dataset"], "pairs");
    assert_eq!(failed[0]["reason"], "too_many_rejects");
    let key = failed[0]["key"].as_str().unwrap_or_default();
    let mends =
        format!("importer replay --state failed --dataset pairs --prefix s3://{}/{key}", chain.world.pipeline.bucket);
    assert_eq!(failed[0]["do"], mends);
    assert_eq!((&held[0]["of"], &held[0]["held_back"]), (&json!("failed"), &json!(2)));
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_holds_nothing_up_and_is_tried_again() -> Result<()> {
    let chain = Chain::new(Options::default(), "").await?;
    let config = fs::read_to_string(chain.world.config())?;
    let gone = chain.slow.queue_url.replace("slow", "none");
    let notify = format!("[[notify]]\nname = \"nobody\"\nto = \"{gone}\"\non = [\"imported\"]\n");
    fs::write(chain.world.config(), config + &notify)?;
    let worker = chain.world.worker().expect_line("what is due was not taken").start()?;
    let slow = chain.world.worker().args(["--queue", "slow"]).expect_line("what is due was not taken").start()?;
    chain.put("a", &[(1, "x")]).await?;
    chain.wait_for("SELECT count(*) FROM pair_copy", "1").await?;
    chain
        .wait_for("SELECT count(*) FROM penstock.due WHERE kind = 'notify' AND attempts > 1 AND error <> ''", "3")
        .await?;
    let due = chain.world.command("due").run(LIMIT).await?;
    assert!(due.status.success(), "{}", due.stderr);
    worker.terminate(LIMIT).await?;
    slow.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pointer_names_its_dataset_and_one_that_is_unknown_fails_by_name() -> Result<()> {
    let chain = Chain::new(Options { route: Route::Nowhere, ..Options::default() }, "").await?;
    let worker = chain.world.worker().expect_line("object failed").start()?;
    let bucket = &chain.world.pipeline.bucket;
    chain.world.pipeline.put("elsewhere", pairs(&[(1, "x")])).await?;
    chain.world.pipeline.send(json!({"bucket": bucket, "key": "elsewhere", "dataset": "copy"}).to_string()).await?;
    chain.world.pipeline.send(json!({"bucket": bucket, "key": "elsewhere", "dataset": "none"}).to_string()).await?;
    chain.wait_for("SELECT count(*) FROM pair_copy", "1").await?;
    chain.wait_for("SELECT reason FROM penstock.object_status WHERE state = 'failed'", "unrouted").await?;
    let error = chain.world.database.value("SELECT error FROM penstock.object_status WHERE state = 'failed'").await?;
    assert!(error.contains("\"none\""), "{error}");
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn load_runs_the_datasets_that_follow_itself() -> Result<()> {
    let tables =
        "CREATE TABLE t (id bigint PRIMARY KEY, value text); CREATE TABLE u (id bigint PRIMARY KEY, value text);
                  CREATE TABLE v (id bigint PRIMARY KEY, value text)";
    let more = "table = \"public.t\"\nkey = [\"id\"]\n\
                [[dataset]]\nname = \"u\"\nafter = \"d\"\ntable = \"public.u\"\nkey = [\"id\"]\n\
                [[dataset]]\nname = \"v\"\nafter = \"u\"\ntable = \"public.v\"\nkey = [\"id\"]";
    let desk = Desk::new(tables, more).await?;
    let file = desk.write("a.csv", "id,value\n1,x\n2,y\n")?;
    let said = desk.succeed(&["load", &file]).await?;
    assert!(said.contains("3 imported"), "{said}");
    assert_eq!(
        desk.database
            .rows("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM u), (SELECT count(*) FROM v)")
            .await?,
        ["2 | 2 | 2"]
    );
    assert_eq!(desk.database.value("SELECT count(*) FROM penstock.due").await?, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_comes_later_is_filled_by_replay_and_reconcile_says_what_it_lacks() -> Result<()> {
    let chain = Chain::new(Options { route: Route::Nowhere, ..Options::default() }, "").await?;
    let bucket = chain.world.pipeline.bucket.clone();
    let whole = fs::read_to_string(chain.world.config())?;
    let alone = whole.split("[[dataset]]\nname = \"length\"").next().unwrap_or_default();
    fs::write(chain.world.config(), alone)?;
    for key in ["a", "b"] {
        chain.put(key, &[(1, "x"), (2, "yy")]).await?;
        chain.world.pipeline.send(json!({"bucket": bucket, "key": format!("pairs/dt=7/{key}")}).to_string()).await?;
    }
    chain.world.drain(1).await?;
    fs::write(chain.world.config(), whole)?;
    let lacks = chain.world.command("reconcile").args(["--prefix", &format!("s3://{bucket}/")]).run(LIMIT).await?;
    assert_eq!(lacks.status.code(), Some(3), "{}", lacks.stderr);
    assert_eq!(
        lacks.stdout,
        format!("s3://{bucket}/pairs/dt=7/a (dataset length)\ns3://{bucket}/pairs/dt=7/b (dataset length)\n")
    );
    let replayed = chain.world.command("replay").args(["--dataset", "length"]).run(LIMIT).await?;
    assert!(replayed.stdout.contains("2 pointers sent"), "{}{}", replayed.stdout, replayed.stderr);
    chain.world.drainer().args(["--queue", "slow"]).start()?.finish(LIMIT).await?;
    assert_eq!(chain.world.database.value("SELECT count(*) || dt FROM pair_length GROUP BY dt").await?, "27");
    // Sent by the worker that made it due, before it ended.
    chain.wait_for("SELECT count(*) FROM penstock.due", "0").await?;
    chain.world.drain(1).await?;
    chain.wait_for("SELECT count(*) FROM pair_copy", "2").await?;
    let lacks = chain.world.command("reconcile").args(["--prefix", &format!("s3://{bucket}/")]).run(LIMIT).await?;
    assert_eq!((lacks.status.code(), lacks.stdout.as_str()), (Some(0), ""), "{}", lacks.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_is_sent_by_hand_and_by_the_scaler_where_no_importer_runs() -> Result<()> {
    let chain = Chain::new(Options { route: Route::Nowhere, ..Options::default() }, "").await?;
    let migrated = chain.world.command("migrate").run(LIMIT).await?;
    assert!(migrated.status.success(), "{}", migrated.stderr);
    let left = "SELECT penstock.send_on('pairs', NULL, '{\"bucket\": \"b\", \"key\": \"k\"}')";
    chain.world.database.execute(left).await?;
    let sent = chain.world.command("due").run(LIMIT).await?;
    assert_eq!(sent.stdout, "1 sent, 0 not taken\n", "{}", sent.stderr);
    chain.slow.wait_for_visible(1, LIMIT).await?;
    let body: Value = serde_json::from_str(&chain.slow.take_all().await?[0].body)?;
    assert_eq!(body, json!({"bucket": "b", "key": "k", "dataset": "length", "after": "pairs"}));

    chain.world.database.execute(left).await?;
    let scaler = chain.world.config().with_file_name("scaler.toml");
    let pool = format!(
        "[database]\nurl = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[[pool]]\nname = \"p\"\nqueue_urls = [\"{}\"]\n\
         min = 0\nmax = 1\nbacklog_per_worker = 50\ninterval_secs = 1\n[pool.workers]\nkind = \"dry_run\"\n",
        chain.world.database.url(),
        chain.world.pipeline.queue_url,
    );
    fs::write(&scaler, pool)?;
    let program = |command: &str| {
        let variables = chain.world.pipeline.account.variables();
        Program::new("scaler").arg(command).arg("--config").arg(&scaler).args(["--log-format", "json"]).envs(variables)
    };
    let once = program("once").run(LIMIT).await?;
    assert!(once.status.success(), "{}", once.stderr);
    chain.wait_for("SELECT count(*) FROM penstock.due", "0").await?;
    chain.world.database.execute(left).await?;
    let running = program("run").start()?;
    chain.wait_for("SELECT count(*) FROM penstock.due", "0").await?;
    chain.slow.wait_for_visible(2, LIMIT).await?;
    running.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_configuration_lacks_a_step_says_so_and_does_not_lose_it() -> Result<()> {
    let chain = Chain::new(Options { route: Route::Nowhere, ..Options::default() }, "").await?;
    let migrated = chain.world.command("migrate").run(LIMIT).await?;
    assert!(migrated.status.success(), "{}", migrated.stderr);
    let whole = fs::read_to_string(chain.world.config())?;
    let older = whole.split("[[dataset]]\nname = \"length\"").next().unwrap_or_default();
    fs::write(chain.world.config(), older)?;
    let worker = chain.world.worker().start()?;
    let line = worker.wait_for_line("serving health and metrics", LIMIT).await?;
    let line: Value = serde_json::from_str(&line)?;
    let url = format!("http://{}/readyz", line["listen"].as_str().unwrap_or_default());
    let readyz = async |text: &str| {
        wait::until(&format!("/readyz to say {text:?}"), LIMIT, || async {
            Ok(http::get(&url).await?.body.contains(text).then_some(()))
        })
        .await
    };
    readyz("dataset copy, dataset length").await?;
    chain.put("a", &[(1, "x")]).await?;
    let pointer = json!({"bucket": chain.world.pipeline.bucket, "key": "pairs/dt=7/a"});
    chain.world.pipeline.send(pointer.to_string()).await?;
    chain.slow.wait_for_visible(1, LIMIT).await?;

    let checked = chain.world.command("check").run(LIMIT).await?;
    assert!(checked.stdout.contains("importer migrate --forget length"), "{}", checked.stdout);
    let forgotten = chain.world.command("migrate").args(["--forget", "length", "--forget", "copy"]).run(LIMIT).await?;
    assert!(forgotten.stdout.contains("forgot length, and 0 that were due to it"), "{}", forgotten.stdout);
    readyz("ready").await?;
    fs::write(chain.world.config(), whole)?;
    let refused = chain.world.command("migrate").args(["--forget", "length"]).run(LIMIT).await?;
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stdout);
    worker.terminate(LIMIT).await
}

/// A worker with an older configuration may start after one with a newer one.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_only_adds_to_what_a_dataset_follows_and_migrate_says_it_all() -> Result<()> {
    let chain = Chain::new(Options { route: Route::Nowhere, ..Options::default() }, "").await?;
    let older = fs::read_to_string(chain.world.config())?;
    let newer = older.replace("after = [\"length\"]", "after = [\"length\", \"pairs\"]");
    fs::write(chain.world.config(), newer)?;
    let migrated = chain.world.command("migrate").run(LIMIT).await?;
    assert!(migrated.status.success(), "{}", migrated.stderr);
    fs::write(chain.world.config(), &older)?;
    let worker = chain.world.worker().start()?;
    let line = worker.wait_for_line("serving health and metrics", LIMIT).await?;
    let line: Value = serde_json::from_str(&line)?;
    let url = format!("http://{}/readyz", line["listen"].as_str().unwrap_or_default());
    let readyz = async |text: &str| {
        wait::until(&format!("/readyz to say {text:?}"), LIMIT, || async {
            Ok(http::get(&url).await?.body.contains(text).then_some(()))
        })
        .await
    };
    let differs = "dataset copy is registered after length and pairs, and configured after length";
    readyz(differs).await?;
    let checked = chain.world.command("check").run(LIMIT).await?;
    assert!(checked.stdout.contains(&format!("{differs}; `importer migrate`")), "{}", checked.stdout);
    chain.put("a", &[(1, "x")]).await?;
    let pointer = json!({"bucket": chain.world.pipeline.bucket, "key": "pairs/dt=7/a"}).to_string();
    chain.world.pipeline.send(pointer).await?;
    chain.wait_for("SELECT count(*) FROM pair_copy", "1").await?;

    // A deployment, in whichever direction, says which it is.
    let migrate = async || {
        let migrated = chain.world.command("migrate").run(LIMIT).await?;
        anyhow::ensure!(migrated.status.success(), "{}", migrated.stderr);
        chain.world.database.rows("SELECT dataset, after::text FROM penstock.step ORDER BY 1").await
    };
    assert_eq!(migrate().await?, ["copy | {length}", "length | {pairs}"]);
    readyz("ready").await?;
    let of_its_own = older.replace("after = [\"length\"]", "match = \"s3://*/copy/**\"");
    fs::write(chain.world.config(), of_its_own)?;
    let checked = chain.world.command("check").run(LIMIT).await?;
    let differs = "dataset copy is registered after length, and configured after none";
    assert!(checked.stdout.contains(differs), "{}", checked.stdout);
    assert_eq!(migrate().await?, ["copy | {}", "length | {pairs}"]);
    readyz("dataset copy is registered after none, and configured after length").await?;
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dataset_that_is_configured_no_more_left_behind_is_listed() -> Result<()> {
    let step = "[[dataset]]\nname = \"my step\"\nafter = \"pairs\"\ntable = \"public.pair_copy\"\nkey = [\"id\"]\n";
    let chain = Chain::new(Options { route: Route::Nowhere, ..Options::default() }, step).await?;
    let migrated = chain.world.command("migrate").run(LIMIT).await?;
    assert!(migrated.status.success(), "{}", migrated.stderr);
    let left = "INSERT INTO penstock.head (dataset, bucket, key) VALUES ('my step', 'b', 'k'), ('my step', 'b', 'l'); \
         INSERT INTO penstock.waiting_object (head_id, object_id, since, until, given_up, pointer) \
         SELECT id, id, now(), now(), '{}', '{}' FROM penstock.head WHERE key = 'k'; \
         SELECT penstock.send_on('pairs', NULL, '{\"bucket\": \"b\", \"key\": \"k\"}')";
    chain.world.database.execute(left).await?;
    let config = fs::read_to_string(chain.world.config())?;
    fs::write(chain.world.config(), config.replace(step, ""))?;
    let checked = chain.world.command("check").run(LIMIT).await?.stdout;
    let listed =
        "dataset my step: the ledger has 2 objects of it, of which 1 wait for keys, and 1 messages that are due to it";
    assert!(checked.contains(listed), "{checked}");
    assert_eq!(checked.matches("importer migrate --forget 'my step'").count(), 2, "{checked}");
    let forgotten = chain.world.command("migrate").args(["--forget", "my step"]).run(LIMIT).await?;
    assert!(forgotten.status.success(), "{}", forgotten.stderr);
    let checked = chain.world.command("check").run(LIMIT).await?.stdout;
    assert!(
        checked.contains("has 2 objects of it, and this configuration") && !checked.contains("--forget"),
        "{checked}"
    );
    Ok(())
}

/// Which of two datasets a third one's object came through shows in its captures.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_sent_again_by_the_dataset_that_it_came_through() -> Result<()> {
    let tables = "CREATE TABLE a (id bigint PRIMARY KEY, k text); CREATE TABLE b (LIKE a INCLUDING ALL); \
                  CREATE TABLE c (id bigint PRIMARY KEY, k text, penstock_object bigint)";
    let dataset = |name: &str, source: &str| {
        format!("[[dataset]]\nname = \"{name}\"\n{source}\ntable = \"public.{name}\"\nkey = [\"id\"]\n")
    };
    let datasets = [
        dataset("a", "match = \"s3://*/{k}/*\""),
        dataset("b", "match = \"s3://*/*/{k}\""),
        dataset("c", "after = [\"a\", \"b\"]\nwhere = \"input.id::int > 0\""),
    ];
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, tables, &datasets.concat()).await?;
    for (first, second, key) in [("b", "a", "x/y"), ("a", "b", "v/w")] {
        let id = if first == "a" { 1 } else { 2 };
        world.pipeline.put(key, format!("{{\"id\":{id}}}\n")).await?;
        for dataset in [first, second] {
            let pointer = json!({"bucket": world.pipeline.bucket, "key": key, "dataset": dataset});
            world.pipeline.send(pointer.to_string()).await?;
            // What is due is sent before it ends, and taken by the next.
            world.drain(1).await?;
            world.drain(1).await?;
        }
    }
    let rows = "SELECT id, k, (SELECT count(*) FROM a), (SELECT count(*) FROM b) FROM c ORDER BY id";
    let expected = ["1 | v | 2 | 2", "2 | y | 2 | 2"];
    assert_eq!(world.database.rows(rows).await?, expected);
    let say = async |subcommand: &str, arguments: &[&str]| {
        let ended = world.command(subcommand).args(arguments.iter().copied()).run(LIMIT).await?;
        anyhow::ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
        anyhow::Ok(ended.stdout)
    };
    let said = say("replay", &["--dataset", "c", "--force"]).await?;
    assert!(said.contains("2 pointers sent"), "{said}");
    world.drain(1).await?;
    assert_eq!(world.database.rows(rows).await?, expected);
    let config = fs::read_to_string(world.config())?;
    fs::write(world.config(), config.replace("input.id::int > 0", "input.id::int > -1"))?;
    say("replay", &["--outdated"]).await?;
    world.drain(1).await?;
    assert_eq!(world.database.rows(rows).await?, expected);
    assert_eq!(
        world
            .database
            .value("SELECT string_agg(attempts::text, ' ') FROM penstock.object_status WHERE dataset = 'c'")
            .await?,
        "3 3"
    );
    assert_eq!(say("replay", &["--outdated"]).await?, "nothing to replay\n");
    // Captures of what it follows shape its rows.
    let config = fs::read_to_string(world.config())?;
    fs::write(world.config(), config.replace("*/*/{k}", "*/*/{l}"))?;
    let checked = world.command("check").run(LIMIT).await?.stdout;
    assert!(
        checked.contains("2 of its objects stand by another recipe") && checked.contains("--dataset c"),
        "{checked}"
    );
    Ok(())
}
