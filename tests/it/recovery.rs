//! The commands that put things right: each safe to interrupt, and to run twice.

use crate::{
    desk::Desk,
    world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs},
};
use anyhow::{Context as _, Result};
use penstock_tests::{
    aws::{Depth, Options, Route},
    process::{Ended, Program, binary},
    proxy::{Action, Rule, http_answer},
    wait,
};
use serde_json::Value;
use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Of the queues, so that what a killed command had received comes back soon.
const VISIBILITY_SECS: u32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn replay_selects_by_prefix_dataset_state_and_time() -> Result<()> {
    let world = quiet_world().await?;
    for (key, body) in
        [("a/1", "{\"id\":1}\n"), ("a/2", "{\"id\":2}\n"), ("b/1", "PAR1 is not what this is"), ("b/2", "{\"id\":4}\n")]
    {
        world.pipeline.put(&format!("pairs/{key}"), body).await?;
    }
    let bucket = world.pipeline.bucket.clone();
    run(world.command("load").arg(format!("s3://{bucket}/pairs")), 3).await?;
    world.database.execute("UPDATE penstock.object SET first_seen_at = now() - interval '3 h' WHERE id = (SELECT id FROM penstock.object_status WHERE key = 'pairs/a/2')").await?;
    let prefix = |prefix: &str| format!("--prefix=s3://{bucket}/{prefix}");
    for (options, keys) in [
        (vec![prefix("pairs/a/")], "pairs/a/1 pairs/a/2"),
        (vec![prefix("")], "pairs/a/1 pairs/a/2 pairs/b/1 pairs/b/2"),
        (vec!["--dataset=pairs".into()], "pairs/a/1 pairs/a/2 pairs/b/1 pairs/b/2"),
        (vec!["--dataset=other".into()], ""),
        (vec!["--state=failed".into()], "pairs/b/1"),
        (vec!["--state=imported".into(), prefix("pairs/b")], "pairs/b/2"),
        (vec!["--until=1h".into()], "pairs/a/2"),
        (vec!["--since=1h".into(), prefix("pairs/a")], "pairs/a/1"),
        (vec![prefix("nowhere/")], ""),
    ] {
        let ended = run(world.command("replay").args(&options), 0).await?;
        assert_eq!(sent_keys(&world).await?, keys, "{options:?}");
        let n_keys = keys.split_whitespace().count();
        let said = if n_keys == 0 { "nothing to replay\n".into() } else { format!("{n_keys} pointers sent, 0 not\n") };
        assert_eq!(ended.stdout, said, "{options:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_writes_again_only_when_forced_and_never_what_is_older() -> Result<()> {
    let world = quiet_world().await?;
    let prefix = format!("s3://{}/pairs/", world.pipeline.bucket);
    world.pipeline.put("pairs/1", pairs(&[(1, "a")])).await?;
    // Nobody knows it yet.
    run(world.command("replay").args(["--prefix", &prefix]), 0).await?;
    world.drain(1).await?;
    assert_eq!(world.pairs().await?, ["1=a"]);
    let before = world.versions_of_rows("pairs").await?;
    run(world.command("replay").args(["--dataset", "pairs"]), 0).await?;
    world.drain(1).await?;
    assert_eq!(world.versions_of_rows("pairs").await?, before);
    world.database.execute("UPDATE pairs SET value = 'spoilt'").await?;
    run(world.command("replay").args(["--dataset", "pairs", "--force"]), 0).await?;
    world.drain(1).await?;
    assert_eq!(world.pairs().await?, ["1=a"]);
    // The pointer of the first version waits in the queue while the second one arrives.
    run(world.command("replay").args(["--dataset", "pairs", "--force"]), 0).await?;
    let older: Vec<String> = world.pipeline.take_all().await?.into_iter().map(|message| message.body).collect();
    tokio::time::sleep(Duration::from_millis(1100)).await; // S3's Last-Modified has whole seconds.
    world.pipeline.put("pairs/1", pairs(&[(1, "b")])).await?;
    run(world.command("load").arg(&prefix), 0).await?;
    world.pipeline.send_all(&older).await?;
    world.drain(1).await?;
    assert_eq!(world.pairs().await?, ["1=b"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_keeps_its_rate_and_one_that_was_killed_is_simply_run_again() -> Result<()> {
    let world = quiet_world().await?;
    for id in 0..6 {
        world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, "x")])).await?;
    }
    let replay = || world.command("replay").arg(format!("--prefix=s3://{}/pairs/", world.pipeline.bucket));
    let started = Instant::now();
    let slow = replay().args(["--rate", "2/s"]).start()?;
    world.pipeline.wait_for_visible(3, LIMIT).await?;
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    slow.kill()?;
    let n_sent = world.pipeline.depth().await?.visible;
    assert!(n_sent < 6, "{n_sent}");
    run(replay(), 0).await?;
    world.pipeline.wait_for_visible(n_sent + 6, LIMIT).await?;
    world.drain(2).await?;
    assert_eq!(world.pairs().await?.len(), 6);
    assert!(world.states().await?.iter().all(|line| line.ends_with("| imported | 1")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_as_recorded_keeps_order_and_pauses() -> Result<()> {
    let world = quiet_world().await?;
    for id in 0..3 {
        world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, "x")])).await?;
    }
    run(world.command("load").arg(format!("s3://{}/pairs/", world.pipeline.bucket)), 0).await?;
    world
        .database
        .execute(
            "UPDATE penstock.object o SET event_time = timestamptz '2026-01-01' + \
             CASE h.key WHEN 'pairs/2' THEN 0 WHEN 'pairs/0' THEN 10 ELSE 30 END * interval '1 s' \
             FROM penstock.head h WHERE h.id = o.head_id",
        )
        .await?;
    let started = Instant::now();
    let replay = world.command("replay").args(["--as-recorded", "--speed", "10x"]).start()?;
    let mut keys = Vec::new();
    let mut arrived = Vec::new();
    while keys.len() < 3 {
        for message in world.pipeline.take_all().await? {
            keys.push(key_of(&message.body)?);
            arrived.push(started.elapsed());
        }
        anyhow::ensure!(started.elapsed() < LIMIT, "only {keys:?} came");
    }
    replay.finish(LIMIT).await?;
    assert_eq!(keys, ["pairs/2", "pairs/0", "pairs/1"]);
    // 30 recorded seconds take three, whenever the first one was sent.
    assert!(arrived[2] >= Duration::from_secs(3), "{arrived:?}");
    assert!(arrived[2] - arrived[1] >= Duration::from_millis(1000), "{arrived:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pointers_that_the_queue_does_not_take_are_counted_and_exit_3() -> Result<()> {
    let world = quiet_world().await?;
    for id in 0..3 {
        world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, "x")])).await?;
    }
    let proxy = world.aws_proxy().await?;
    let refused =
        proxy.add(Rule::when_client_sends("pairs/1", Action::Answer(http_answer(400, "Bad Request"))).always());
    let replay = world.command("replay").arg(format!("--prefix=s3://{}/pairs/", world.pipeline.bucket));
    let ended = run(world.through_aws(replay, "SQS", &proxy), 3).await?;
    // Once with its neighbours, and once alone.
    refused.fired(2, LIMIT).await?;
    assert_eq!(ended.stdout, "2 pointers sent, 1 not\n");
    assert!(ended.stderr.contains("pairs/1 not sent"), "{}", ended.stderr);
    assert_eq!(sent_keys(&world).await?, "pairs/0 pairs/2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redrive_sends_back_what_failed_for_one_reason_and_it_is_tried_afresh() -> Result<()> {
    let world = world_with_dead_letters().await?;
    let ended = run(world.command("redrive").args(["--reason", "corrupt"]), 0).await?;
    assert_eq!(ended.stdout, "1 messages sent back, 2 left\n");
    assert_eq!(world.pipeline.depth().await?.visible, 1);
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth { visible: 2, ..Depth::default() });
    // Mended since.
    world.pipeline.put("pairs/1.gz", "{\"id\":1}\n").await?;
    world.drain(1).await?;
    assert_eq!(world.pairs().await?, ["1=∅"]);
    assert_eq!(
        run(world.command("redrive").args(["--reason", "corrupt"]), 0).await?.stdout,
        "0 messages sent back, 2 left\n"
    );
    assert_eq!(run(world.command("redrive"), 0).await?.stdout, "2 messages sent back, 0 left\n");
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redrive_killed_before_or_after_sending_loses_nothing() -> Result<()> {
    for (call, action) in [
        ("AmazonSQS.SendMessage", Action::HoldRequest),
        ("AmazonSQS.SendMessage", Action::HoldAnswer),
        ("AmazonSQS.DeleteMessageBatch", Action::HoldRequest),
        ("AmazonSQS.DeleteMessageBatch", Action::HoldAnswer),
    ] {
        let world = world_with_dead_letters().await?;
        let proxy = world.aws_proxy().await?;
        let window = proxy.add(Rule::when_client_sends(call, action.clone()));
        let redrive = world.through_aws(world.command("redrive"), "SQS", &proxy).start()?;
        window.fired(1, LIMIT).await?;
        redrive.kill()?;
        world.database.execute("TRUNCATE penstock.object CASCADE").await?;
        // What the killed one had received is hidden for a while.
        wait::until("a redrive that finds the rest", LIMIT, || async {
            run(world.command("redrive"), 0).await?;
            Ok((world.pipeline.dead_letter_depth().await? == Depth::default()).then_some(()))
        })
        .await?;
        world.drainer().expect_line("object failed").expect_line("cannot be read").start()?.wait_exit(LIMIT).await?;
        let dead: std::collections::BTreeSet<String> =
            world.pipeline.take_dead_letters().await?.into_iter().map(|message| message.body).collect();
        assert_eq!(dead.len(), 3, "{call} {action:?}: {dead:?}");
        assert_eq!(world.pipeline.depth().await?, Depth::default());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redrive_ends_although_everything_it_sends_fails_again_at_once() -> Result<()> {
    let world = world_with_dead_letters().await?;
    let worker = world.worker().expect_line("object failed").expect_line("cannot be read").start()?;
    wait::until("the worker", LIMIT, || async {
        Ok((world.database.value("SELECT count(*) FROM penstock.workers").await? == "1").then_some(()))
    })
    .await?;
    let ended = run(world.command("redrive"), 0).await?;
    assert!(ended.stdout.starts_with("3 messages sent back"), "{}", ended.stdout);
    wait::until("all of them back in the dead-letter queue", LIMIT, || async {
        Ok((world.pipeline.dead_letter_depth().await?.visible == 3).then_some(()))
    })
    .await?;
    worker.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_finds_what_never_arrived_and_enqueues_it() -> Result<()> {
    let world = quiet_world().await?;
    for (key, body) in [
        ("pairs/1", pairs(&[(1, "a")])),
        ("pairs/2", pairs(&[(2, "a")])),
        ("pairs/_SUCCESS", String::new()),
        ("other/1", "x".into()),
        ("pairs/empty", String::new()),
    ] {
        world.pipeline.put(key, body).await?;
    }
    let bucket = world.pipeline.bucket.clone();
    run(world.command("load").arg(format!("s3://{bucket}/pairs/1")), 0).await?;
    let reconcile = || world.command("reconcile").args(["--prefix", &format!("s3://{bucket}/")]);
    let ended = run(reconcile(), 3).await?;
    assert_eq!(ended.stdout, format!("s3://{bucket}/pairs/2\n"));
    assert!(ended.stderr.contains("2 objects compared, 1 missing"), "{}", ended.stderr);
    assert_eq!(world.pipeline.depth().await?, Depth::default());
    run(reconcile().arg("--enqueue"), 3).await?;
    // Twice does no harm.
    run(reconcile().arg("--enqueue"), 3).await?;
    world.pipeline.wait_for_visible(2, LIMIT).await?;
    world.drain(2).await?;
    assert_eq!(world.pairs().await?, ["1=a", "2=a"]);
    assert_eq!(run(reconcile(), 0).await?.stdout, "");
    // Put back with an event that never came: the ledger knows the version, but another one stands.
    tokio::time::sleep(Duration::from_millis(1100)).await; // S3's Last-Modified has whole seconds.
    world.pipeline.put("pairs/1", pairs(&[(1, "b")])).await?;
    run(world.command("load").arg(format!("s3://{bucket}/pairs/1")), 0).await?;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.pipeline.put("pairs/1", pairs(&[(1, "a")])).await?;
    run(reconcile().arg("--enqueue"), 3).await?;
    world.drain(1).await?;
    assert_eq!(world.pairs().await?, ["1=a", "2=a"]);
    run(reconcile(), 0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_asks_for_the_dataset_that_takes_the_object_today() -> Result<()> {
    let world = quiet_world().await?;
    let bucket = world.pipeline.bucket.clone();
    world.pipeline.put("pairs/1", pairs(&[(1, "a")])).await?;
    run(world.command("load").arg(format!("s3://{bucket}/pairs")), 0).await?;
    world.database.execute("UPDATE penstock.head SET dataset = ''").await?;
    run(world.command("reconcile").args(["--prefix", &format!("s3://{bucket}/")]), 3).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pointers_are_sent_ten_a_request() -> Result<()> {
    let world = quiet_world().await?;
    for id in 0..23 {
        world.pipeline.put(&format!("pairs/{id:02}"), pairs(&[(id, "x")])).await?;
    }
    let prefix = format!("s3://{}/", world.pipeline.bucket);
    for (command, code) in
        [(["replay", "--prefix", &prefix, "--force"], 0), (["reconcile", "--enqueue", "--prefix", &prefix], 3)]
    {
        let proxy = world.aws_proxy().await?;
        let sent = proxy.add(Rule::when_client_sends("AmazonSQS.SendMessage", Action::Delay(Duration::ZERO)).always());
        let [subcommand, arguments @ ..] = command;
        run(world.through_aws(world.command(subcommand).args(arguments), "SQS", &proxy), code).await?;
        assert_eq!(sent.count(), 3, "{subcommand}");
        assert_eq!(world.pipeline.depth().await?.visible, 23, "{subcommand}");
        world.pipeline.purge().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_killed_while_it_enqueues_is_simply_run_again() -> Result<()> {
    let world = quiet_world().await?;
    for id in 0..4 {
        world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, "x")])).await?;
    }
    let reconcile =
        || world.command("reconcile").args(["--enqueue", "--prefix", &format!("s3://{}/", world.pipeline.bucket)]);
    let proxy = world.aws_proxy().await?;
    let sending = proxy.add(Rule::when_client_sends("AmazonSQS.SendMessage", Action::HoldAnswer));
    let killed = world.through_aws(reconcile(), "SQS", &proxy).start()?;
    sending.fired(1, LIMIT).await?;
    killed.kill()?;
    run(reconcile(), 3).await?;
    world.drain(2).await?;
    assert_eq!(world.pairs().await?.len(), 4);
    assert!(world.states().await?.iter().all(|line| line.ends_with("| imported | 1")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_leaves_what_stands_what_append_needs_and_what_is_young() -> Result<()> {
    let datasets = format!(
        "{PAIRS}\n[[dataset]]\nname = \"log\"\nmatch = \"s3://*/log/**\"\ntable = \"public.log\"\nmode = \"append\"\n"
    );
    let tables = format!("{PAIRS_TABLE}; CREATE TABLE log (id bigint, value text)");
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, &tables, &datasets).await?;
    let bucket = world.pipeline.bucket.clone();
    let load = || world.command("load").arg(format!("s3://{bucket}/"));
    for value in ["a", "b"] {
        for key in ["pairs/1", "log/1"] {
            world.pipeline.put(key, pairs(&[(1, value)])).await?;
        }
        run(load(), 0).await?;
        tokio::time::sleep(Duration::from_millis(1100)).await; // S3's Last-Modified has whole seconds.
    }
    world.pipeline.put("pairs/young", "").await?;
    run(load(), 0).await?;
    world
        .database
        .execute("UPDATE penstock.object SET finished_at = now() - interval '100 days' WHERE state = 'imported'")
        .await?;
    let entries = "SELECT key, state, etag = (SELECT s.etag FROM penstock.object s JOIN penstock.head h ON h.object_id = s.id WHERE h.key = o.key) \
                   FROM penstock.object_status o ORDER BY key, id";
    let before = world.database.rows(entries).await?;
    assert_eq!(before.len(), 5, "{before:?}");
    let prune = |age: &str| world.command("prune").args(["--older-than", age]);
    assert_eq!(run(prune("120d"), 0).await?.stdout, "0 entries deleted\n");
    // Killed when the first batch is gone, before it heard of it.
    let proxy = world.postgres_proxy().await?;
    let deleting = proxy.add(Rule::when_client_sends("DELETE FROM penstock.object", Action::HoldRequest));
    let killed = world.through_postgres(prune("90d"), &proxy).start()?;
    deleting.fired(1, LIMIT).await?;
    killed.kill()?;
    assert_eq!(world.database.rows(entries).await?, before);
    assert_eq!(run(prune("90d"), 0).await?.stdout, "1 entries deleted\n");
    assert_eq!(run(prune("90d"), 0).await?.stdout, "0 entries deleted\n");
    let expected = [
        "log/1 | imported | false",
        "log/1 | imported | true",
        "pairs/1 | imported | true",
        "pairs/young | skipped | ∅",
    ];
    assert_eq!(world.database.rows(entries).await?, expected);
    // The older version of the appended object is still known, and not appended again.
    let log = world.versions_of_rows("log").await?;
    world.pipeline.put("log/1", pairs(&[(1, "a")])).await?;
    run(load(), 0).await?;
    assert_eq!(world.versions_of_rows("log").await?, log);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_leaves_an_entry_alone_whose_import_has_begun_meanwhile() -> Result<()> {
    let world = quiet_world().await?;
    let bucket = world.pipeline.bucket.clone();
    for value in ["a", "b"] {
        world.pipeline.put("pairs/1", pairs(&[(1, value)])).await?;
        run(world.command("load").arg(format!("s3://{bucket}/pairs")), 0).await?;
        tokio::time::sleep(Duration::from_millis(1100)).await; // S3's Last-Modified has whole seconds.
    }
    world.database.execute("UPDATE penstock.object SET finished_at = now() - interval '100 days'").await?;
    let mut importing = world.database.connect().await?;
    sqlx::raw_sql(
        "BEGIN; UPDATE penstock.object SET state = 'importing' WHERE id = (SELECT min(id) FROM penstock.object)",
    )
    .execute(&mut importing)
    .await?;
    let prune = world.command("prune").args(["--older-than", "90d"]).start()?;
    let blocked =
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait::until("the prune to meet the entry", LIMIT, || async {
        Ok((world.database.value(blocked).await? == "true").then_some(()))
    })
    .await?;
    sqlx::raw_sql("COMMIT").execute(&mut importing).await?;
    prune.finish(LIMIT).await?;
    assert_eq!(world.database.value("SELECT count(*) FROM penstock.object").await?, "2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_whose_entry_is_pruned_meanwhile_begins_anew_at_once() -> Result<()> {
    // At its end, at its first reject (from then on the entry is locked), and between being found and being written at
    // its begin.
    for (at, bad) in [("csv_fields = $14", ""), ("INSERT INTO penstock.reject", "x,a\n"), ("", "")] {
        let desk = Desk::new(PAIRS_TABLE, "table = \"pairs\"\nkey = [\"id\"]\nmax_rejects = 1").await?;
        let file = desk.write("k.csv", format!("id,value\n1,a\n{bad}"))?;
        desk.succeed(&["load", &file]).await?;
        let entry = "FROM penstock.object WHERE id = (SELECT min(id) FROM penstock.object)";
        desk.database.execute("UPDATE penstock.head SET object_id = NULL").await?;
        let mut pruning = desk.database.connect().await?;
        let proxy = desk.proxy().await?;
        let load = desk.importer_through(&proxy, &["load", &file]);
        let load = if at.is_empty() {
            sqlx::raw_sql(&format!("BEGIN; DELETE {entry}")).execute(&mut pruning).await?;
            let load = load.start()?;
            desk.wait_for_a_blocked_session().await?;
            sqlx::raw_sql("COMMIT").execute(&mut pruning).await?;
            load
        } else {
            let held = proxy.add(Rule::when_client_sends(at, Action::HoldRequest));
            let load = load.start()?;
            held.fired(1, LIMIT).await?;
            sqlx::raw_sql(&format!("DELETE {entry}")).execute(&mut pruning).await?;
            held.release();
            load
        };
        let status = load.wait_exit(LIMIT).await?;
        assert!(status.success() && !load.stderr().contains("WARN"), "{at}: {}", load.stderr());
        let n_bad = usize::from(!bad.is_empty());
        assert_eq!(desk.ledger().await?, [format!("imported {} = 1 + 0 + {n_bad}", 1 + n_bad)], "{at}");
        assert_eq!(desk.rejects().await?.len(), n_bad, "{at}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_exit_2_and_name_the_flag() -> Result<()> {
    for (line, named) in [
        ("replay", "--prefix"),
        ("replay --force", "--prefix"),
        ("replay --prefix bucket/key", "--prefix"),
        ("replay --dataset d --state lost", "--state"),
        ("replay --dataset d --since yesterday", "--since"),
        ("replay --dataset d --rate fast", "--rate"),
        ("replay --dataset d --speed 2", "--as-recorded"),
        ("replay --as-recorded --speed 0", "--speed"),
        ("redrive --reason", "--reason"),
        ("reconcile", "--prefix"),
        ("reconcile --prefix x", "--prefix"),
        ("rejects --replay --json", "--json"),
        ("rejects s3://bucket --replay", "OBJECT"),
        ("prune", "--older-than"),
        ("prune --older-than 29d", "--older-than"),
        ("prune --older-than soon", "--older-than"),
    ] {
        let ended = Program::new("importer").args(line.split_whitespace()).run(LIMIT).await?;
        assert_eq!(ended.status.code(), Some(2), "{line}: {}", ended.stderr);
        assert!(ended.stderr.contains(named), "{line}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{line}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_shown_on_a_terminal_and_nowhere_else() -> Result<()> {
    let world = quiet_world().await?;
    for id in 0..3 {
        world.pipeline.put(&format!("pairs/{id}"), pairs(&[(id, "x")])).await?;
    }
    let prefix = format!("s3://{}/pairs/", world.pipeline.bucket);
    run(world.command("load").arg(&prefix), 0).await?;
    for (command, shown) in [
        (format!("replay --prefix {prefix} --rate 4/s"), "3 pointers sent"),
        ("redrive".to_owned(), "messages sent back"),
        (format!("reconcile --prefix {prefix}"), "objects compared"),
        ("rejects --replay".to_owned(), "0 rejects resolved"),
        ("prune --older-than 90d".to_owned(), "entries deleted"),
    ] {
        let plain = {
            let mut words = command.split_whitespace();
            world.command(words.next().unwrap_or_default()).args(words).run(LIMIT)
        }
        .await?;
        assert!(!plain.stderr.contains('\u{1b}') && !plain.stdout.contains('\u{1b}'), "{command}: {plain:?}");
        let line = format!("{} {command} --config {}", binary("importer")?.display(), world.config().display());
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).env("TERM", "xterm");
        terminal.envs(world.pipeline.account.variables());
        let seen = tokio::task::spawn_blocking(move || terminal.output()).await?.context("run script")?;
        let text = String::from_utf8_lossy(&seen.stdout).into_owned();
        assert!(seen.status.success(), "{command}: {text}");
        assert!(text.contains(shown), "{command}: {text:?}");
        // A bar is drawn over itself.
        assert!(text.contains("\u{1b}["), "{command}: {text:?}");
    }
    Ok(())
}

/// A world in which no upload becomes a message by itself.
async fn quiet_world() -> Result<World> {
    let options = Options { route: Route::Nowhere, visibility_timeout_secs: VISIBILITY_SECS, ..Options::default() };
    let world = World::new(options, PAIRS_TABLE, PAIRS).await?;
    run(world.command("migrate"), 0).await?;
    Ok(world)
}

/// A quiet world whose dead-letter queue holds a corrupt object, one that no dataset takes, and a message that is none.
async fn world_with_dead_letters() -> Result<World> {
    let world = quiet_world().await?;
    let bucket = world.pipeline.bucket.clone();
    world.pipeline.put("pairs/1.gz", b"\x1f\x8b\x08\x00broken").await?;
    world.pipeline.put("stray", "x").await?;
    for body in [format!("s3://{bucket}/pairs/1.gz"), format!("s3://{bucket}/stray"), "no message".into()] {
        world.pipeline.send(body).await?;
    }
    let worker = world.drainer().expect_line("object failed").expect_line("cannot be read").start()?;
    worker.finish(LIMIT).await?;
    assert_eq!(world.pipeline.dead_letter_depth().await?.visible, 3);
    Ok(world)
}

async fn run(program: Program, status: i32) -> Result<Ended> {
    let ended = program.run(LIMIT).await?;
    anyhow::ensure!(
        ended.status.code() == Some(status),
        "it ended with {}: {}{}",
        ended.status,
        ended.stdout,
        ended.stderr
    );
    Ok(ended)
}

/// Takes what was sent and returns the keys in order.
async fn sent_keys(world: &World) -> Result<String> {
    let mut keys = Vec::new();
    for message in world.pipeline.take_all().await? {
        keys.push(key_of(&message.body)?);
    }
    keys.sort();
    Ok(keys.join(" "))
}

fn key_of(body: &str) -> Result<String> {
    let pointer: Value = serde_json::from_str(body)?;
    Ok(pointer["key"].as_str().context("no key")?.to_owned())
}
