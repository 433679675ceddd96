//! `once`, `history`, `check`, and what they refuse.

use super::stand::{LIMIT, POOL, Stand};
use anyhow::Result;
use penstock_tests::process::Program;
use std::{fs, time::Duration};

const DRY_RUN: &str = "[pool.workers]\nkind = \"dry_run\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn once_keeps_its_state_between_runs() -> Result<()> {
    let stand = Stand::new("max = 3\nbacklog_per_worker = 50").await?;
    stand.configure_with("max = 3\nbacklog_per_worker = 50", DRY_RUN)?;
    let once = || stand.scaler("once").run(LIMIT);
    let ended = once().await?;
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("importers: 0 (steady) "), "{}", ended.stdout);
    stand.pipeline.send("one").await?;
    let ended = once().await?;
    assert!(ended.stdout.starts_with("importers: 0 (wake_unconfirmed) "), "{}", ended.stdout);
    // The phantom's minute has passed, as the kept state believes.
    stand
        .database
        .execute(
            "UPDATE penstock.pool_state SET state = jsonb_set(state, '{policy,wake,since}', to_jsonb(now() - interval '2 minutes'))",
        )
        .await?;
    let ended = once().await?;
    assert!(ended.stdout.starts_with("importers: 1 (wake) "), "{}", ended.stdout);
    assert!(ended.stdout.contains("dry run: would start 1"), "{}", ended.stdout);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_later_than_promised_is_told_of_once() -> Result<()> {
    let pool = "max = 3\ndrain_within = \"5m\"";
    let stand = Stand::new(pool).await?;
    stand.configure_with(pool, DRY_RUN)?;
    let once = || stand.scaler("once").run(LIMIT);
    let ended = once().await?;
    assert!(ended.status.success(), "{}", ended.stderr);
    let told = "SELECT body ->> 'event', body ->> 'pool', (body -> 'oldest_secs')::int / 60, body ->> 'promised_secs', body ->> 'do' \
                FROM penstock.due_item WHERE kind = 'notify' ORDER BY id";
    stand
        .database
        .execute("INSERT INTO penstock.notification (name, target, events) VALUES ('ops', 'http://127.0.0.1:1/0/q', '{late}')")
        .await?;
    for (minutes, expected) in [(Some(4), 0), (Some(6), 1), (Some(7), 1), (None, 1), (Some(8), 2)] {
        stand.database.execute("DELETE FROM penstock.workers").await?;
        if let Some(minutes) = minutes {
            let beat = format!(
                "INSERT INTO penstock.workers (id, host, pid, version, state, slots, in_flight, heartbeat_at, queue_url, \
                 visibility_timeout_secs, started_at, first_receive_at, oldest_sent_at, oldest_receive_count) \
                 VALUES ('w', 'h', 1, '0', 'busy', 4, 1, now(), '{}', 30, now(), now(), now() - interval '{minutes} minutes', 1)",
                stand.pipeline.queue_url
            );
            stand.database.execute(&beat).await?;
        }
        let ended = once().await?;
        assert!(ended.status.success(), "{}", ended.stderr);
        assert_eq!(stand.database.rows(told).await?.len(), expected, "{minutes:?}: {}", ended.stdout);
    }
    let first = "importers | 6 | 300.0 | scaler history --pool importers";
    assert_eq!(stand.database.rows(told).await?[0], format!("late | {first}"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_the_pool_is_shown_and_ends() -> Result<()> {
    let pool = "min = 1\nmax = 5\nbacklog_per_worker = 50";
    let stand = Stand::new(pool).await?;
    stand.configure_with(pool, DRY_RUN)?;
    let once = || async { Ok::<_, anyhow::Error>(stand.scaler("once").run(LIMIT).await?.stdout) };
    // Said before any scaler has ever run.
    let ended =
        stand.scaler("pause").args(["--at", "3", "--until", "2126-01-01"]).env("USER", "ann").run(LIMIT).await?;
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(ended.stdout, "importers: paused at 3 until 2126-01-01 00:00:00 UTC\n");
    let said = once().await?;
    assert!(said.starts_with("importers: 3 (paused) Paused by hand at 3 until 2126-01-01"), "{said}");
    stand.send(0..500).await?;
    let found = once().await?;
    assert!(found.starts_with("importers: 3 (paused) "), "500 messages wait: {found}");

    // Another one replaces it, and the number may be below the minimum, not above the maximum.
    let replace = stand.scaler("pause").args(["--pool", POOL, "--at", "0", "--until", "1h"]).run(LIMIT).await?;
    assert!(replace.stdout.ends_with(", instead of at 3 until 2126-01-01 00:00:00 UTC\n"), "{}", replace.stdout);
    assert!(once().await?.starts_with("importers: 0 (paused) "));
    let newest = &stand.history(&[]).await?.pop().expect("a decision");
    assert_eq!((&newest["reason"], &newest["inputs"]["pause"]["at"]), (&"paused".into(), &0.into()), "{newest}");
    assert_eq!(newest["inputs"]["want"], 10, "{newest}");
    let checked = stand.scaler("check").run(LIMIT).await?.stdout;
    assert!(checked.contains("pool importers: paused at 0 until") && checked.contains("scaler resume"), "{checked}");
    let above = stand.scaler("pause").args(["--at", "6", "--until", "1h"]).run(LIMIT).await?;
    assert_eq!(above.status.code(), Some(2), "{}{}", above.stdout, above.stderr);
    assert!(above.stderr.contains("--at: pool \"importers\" has at most 5"), "{}", above.stderr);

    // It ends when it is told to, and by itself; what stood before it is not said of one that is over.
    let resumed = stand.scaler("resume").run(LIMIT).await?;
    assert!(resumed.stdout.starts_with("importers: resumed; it was paused at 0 until "), "{}", resumed.stdout);
    assert_eq!(stand.scaler("resume").run(LIMIT).await?.stdout, "importers: was not paused\n");
    assert!(once().await?.starts_with("importers: 5 (max) "));
    stand.scaler("pause").args(["--at", "2", "--until", "1h"]).run(LIMIT).await?;
    assert!(once().await?.starts_with("importers: 2 (paused) "));
    stand.database.execute("UPDATE penstock.pool_state SET pause_until = now()").await?;
    assert!(once().await?.starts_with("importers: 5 (max) "));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_the_last_three_days_is_learnt_from_old_decisions_and_foreseen() -> Result<()> {
    let pool = "max = 200\ninitial_proven = 200\ndrain_within = \"15m\"";
    let stand = Stand::new(pool).await?;
    stand.configure_with(pool, DRY_RUN)?;
    // Floods of 20,000 objects that workers were through with after eight minutes.
    let decisions = format!(
        "INSERT INTO penstock.decisions (pool, at, desired, reason, explain, inputs, applied) \
         SELECT '{POOL}', now() + interval '1 second' - day * interval '1 day' + tick * interval '10 seconds', 0, 'steady', '', \
           jsonb_build_object('queue', jsonb_build_object('visible', waiting, 'in_flight', 0), \
             'completed', done, 'completed_secs', done, 'job_secs', 1, 'start_up_secs', 45), true \
         FROM generate_series(1, 3) day, generate_series(-5, 110) tick, \
           LATERAL (SELECT CASE WHEN tick BETWEEN 0 AND 50 THEN 20000 - 400 * tick ELSE 0 END, \
             CASE WHEN tick BETWEEN 1 AND 50 THEN 400 ELSE 0 END) flood (waiting, done)"
    );
    let once = || async { Ok::<_, anyhow::Error>(stand.scaler("once").run(LIMIT).await?.stdout) };
    // The schema, and a state that has learnt nothing.
    once().await?;
    stand.database.execute("DELETE FROM penstock.pool_state").await?;
    stand.database.execute(&decisions).await?;
    let first = once().await?;
    assert!(first.starts_with("importers: 0 (steady) "), "{first}");
    let foreseen = once().await?;
    assert!(foreseen.starts_with("importers: 30 (foresight) "), "{foreseen}");
    assert!(foreseen.contains("a flood of about 20000 objects is foreseen for "), "{foreseen}");
    assert!(foreseen.contains("dry run: would start 30"), "{foreseen}");

    stand.configure_with(&format!("{pool}\nforesight = 0"), DRY_RUN)?;
    let without = once().await?;
    assert!(without.starts_with("importers: 0 (steady) "), "{without}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn history_answers_for_any_past_minute() -> Result<()> {
    let stand = Stand::new("max = 3\nbacklog_per_worker = 50").await?;
    stand.configure_with("max = 3\nbacklog_per_worker = 50", DRY_RUN)?;
    stand.send(0..120).await?;
    let ended = stand.scaler("once").run(LIMIT).await?;
    assert!(ended.status.success(), "{}", ended.stderr);
    let then = chrono::Utc::now() - chrono::Duration::days(2);
    stand.database.execute(&format!("UPDATE penstock.decisions SET at = '{}'", then.to_rfc3339())).await?;
    stand.scaler("once").run(LIMIT).await?;
    assert_eq!(stand.history(&[]).await?.len(), 2);
    let at = |secs: i64| (then + chrono::Duration::seconds(secs)).to_rfc3339();
    for (secs, n) in [(-30, 1), (30, 1), (-200, 0)] {
        let found = stand.history(&["--at", &at(secs)]).await?;
        assert_eq!(found.len(), n, "{secs} s from it");
    }
    let found = &stand.history(&["--at", &at(0), "--pool", POOL]).await?[0];
    assert_eq!((&found["desired"], &found["reason"], &found["pool"]), (&3.into(), &"backlog".into(), &POOL.into()));
    assert_eq!(found["inputs"]["queue"]["visible"], 120);
    let bounds = found["inputs"]["bounds"].as_array().into_iter().flatten();
    let guards: Vec<_> = bounds.filter_map(|bound| bound["guard"].as_str()).collect();
    assert_eq!(guards, ["growth_gate", "connections", "max", "min"]);
    assert!(found["outcome"].as_str().is_some_and(|text| text.contains("would start 3")), "{found}");

    let shown = stand.scaler("history").args(["--at", &at(0)]).run(LIMIT).await?.stdout;
    assert!(shown.contains("0 -> 3  backlog  (120 visible, 0 in flight)"), "{shown}");
    let shown = stand.scaler("history").args(["--guards", "--at", &at(0)]).run(LIMIT).await?.stdout;
    assert!(shown.contains("policy         wants 3") && shown.contains("max            at most 3"), "{shown}");

    // The history can be played again.
    let trace = stand.path("trace.jsonl");
    fs::write(&trace, stand.scaler("history").arg("--json").run(LIMIT).await?.stdout)?;
    let played = stand.scaler("simulate").arg("--trace").arg(&trace).run(LIMIT).await?;
    assert!(played.status.success() && played.stdout.contains("| trace "), "{}{}", played.stdout, played.stderr);
    assert!(played.stdout.contains("| promise 15m, max 3, start-up "), "{}", played.stdout);
    let cut = stand.scaler("simulate").args(["--trace", "-"]).run(LIMIT).await?;
    assert!(cut.stderr.contains("--trace: -: the trace has no lines"), "{}{}", cut.stdout, cut.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pointers_of_earlier_steps_are_counted_before_they_are_sent() -> Result<()> {
    let pool = "max = 3\nbacklog_per_worker = 50";
    let stand = Stand::new(pool).await?;
    stand.configure_with(pool, DRY_RUN)?;
    let slow = fs::read_to_string(stand.path("scaler.toml"))?.replace("start_up = \"2s\"", "start_up = \"60s\"");
    fs::write(stand.path("scaler.toml"), slow)?;
    // It makes the ledger.
    stand.scaler("once").run(LIMIT).await?;
    stand
        .database
        .execute(&format!(
            "INSERT INTO penstock.step (dataset, after, queue, queue_url) \
             VALUES ('next', '{{}}', 'next', '{}'), ('elsewhere', '{{}}', 'elsewhere', 'https://elsewhere'); \
             INSERT INTO penstock.due_item (kind, target, at, attempts, body) \
             SELECT 'step', target, now() + wait, attempts, '{{}}' FROM (VALUES \
                 ('next', interval '20 seconds', 0), ('next', '20 seconds', 2), ('next', '1 hour', 0), \
                 ('next', '20 seconds', 5), ('elsewhere', '20 seconds', 0)) item (target, wait, attempts)",
            stand.pipeline.queue_url
        ))
        .await?;
    let ended = stand.scaler("once").run(LIMIT).await?;
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    let newest = &stand.history(&[]).await?.pop().expect("a decision");
    assert_eq!(newest["inputs"]["queue"]["delayed_due"], 2, "{newest}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn once_refuses_what_it_cannot_do() -> Result<()> {
    let stand = Stand::new("max = 3\nbacklog_per_worker = 50").await?;
    let ended = stand.scaler("once").run(LIMIT).await?;
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("processes"), "{}", ended.stderr);

    let text = fs::read_to_string(stand.path("scaler.toml"))?;
    fs::write(stand.path("alone.toml"), text.replace("[database]", "").replacen("url =", "#", 1))?;
    for command in ["once", "history", "resume"] {
        let alone = Program::new("scaler").arg(command).arg("--config").arg(stand.path("alone.toml"));
        let ended = alone.envs(stand.pipeline.account.variables()).run(LIMIT).await?;
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn database_url_that_is_refused_is_refused_at_the_start_without_its_password() -> Result<()> {
    let stand = Stand::new("max = 3\nbacklog_per_worker = 50").await?;
    stand.configure_with("max = 3\nbacklog_per_worker = 50", DRY_RUN)?;
    for url in [
        "mysql://u:hunter2@h/d",
        "postgres://u:hunter2@h/d?passwrd=hunter2",
        "postgres://u:hunter2@h/d?channel_binding=require",
        "postgres://u:hun/ter2@h/d",
    ] {
        for command in ["run", "once", "check", "history"] {
            let ended = stand.scaler(command).env("DATABASE_URL", url).run(LIMIT).await?;
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert_eq!(ended.status.code(), Some(2), "{command}: {said}");
            assert!(said.contains("`database.url`") && !said.contains("ter2"), "{command}: {said}");
        }
        let importer = Program::new("importer").args(["status", "--config"]).arg(stand.path("importer.toml"));
        let ended = importer.env("DATABASE_URL", url).run(LIMIT).await?;
        assert_eq!(ended.status.code(), Some(2), "as the importer does: {}", ended.stderr);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_what_a_run_would_stumble_over() -> Result<()> {
    let stand = Stand::new("max = 3\ndrain_within = \"15m\"").await?;
    let ended = stand.scaler("check").run(LIMIT).await?;
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("24 migrations behind") && ended.stdout.contains("0 visible"), "{}", ended.stdout);

    // A worker was started to say who it is and what it would do.
    assert!(ended.stdout.contains("pool importers: the program is importer "), "{}", ended.stdout);
    assert!(ended.stdout.contains("it reads its configuration importer.toml: datasets pairs"), "{}", ended.stdout);

    let text = fs::read_to_string(stand.path("scaler.toml"))?;
    fs::write(stand.path("scaler.toml"), text.replace("/imports\"", "/exports\""))?;
    let ended = stand.scaler("check").run(LIMIT).await?;
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stdout.contains("wrong: pool importers: read the depth of queue"), "{}", ended.stdout);

    fs::write(stand.path("scaler.toml"), text)?;
    let worker = fs::read_to_string(stand.path("importer.toml"))?;
    fs::write(stand.path("importer.toml"), worker.replace("table =", "tabel ="))?;
    let ended = stand.scaler("check").run(LIMIT).await?;
    assert_eq!(ended.status.code(), Some(2));
    let wrong = "wrong: pool importers: a worker would end at once: ";
    assert!(ended.stdout.contains(wrong) && ended.stdout.contains("tabel"), "{}", ended.stdout);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_is_the_same_whoever_comes_first() -> Result<()> {
    let stand = Stand::new("max = 3\nbacklog_per_worker = 50").await?;
    stand.configure_with("max = 3\nbacklog_per_worker = 50", DRY_RUN)?;
    assert!(stand.scaler("once").run(LIMIT).await?.status.success());
    let migrate = || Program::new("importer").args(["migrate", "--config"]).arg(stand.path("importer.toml")).run(LIMIT);
    let ended = migrate().await?;
    assert!(ended.stdout.contains("up to date"), "{}{}", ended.stdout, ended.stderr);

    let other = Stand::new("max = 3\nbacklog_per_worker = 50").await?;
    other.configure_with("max = 3\nbacklog_per_worker = 50", DRY_RUN)?;
    let ended =
        Program::new("importer").args(["migrate", "--config"]).arg(other.path("importer.toml")).run(LIMIT).await?;
    assert!(ended.stdout.contains("applied"), "{}{}", ended.stdout, ended.stderr);
    assert!(other.scaler("once").run(LIMIT).await?.status.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_without_a_database_works_from_the_counters() -> Result<()> {
    let stand = Stand::new("max = 2\nbacklog_per_worker = 50").await?;
    let text = fs::read_to_string(stand.path("scaler.toml"))?;
    fs::write(stand.path("scaler.toml"), text.replace("[database]", "").replacen("url =", "#", 1))?;
    let scaler = stand.scaler("run").start()?;
    scaler.wait_for_line("no [database]", LIMIT).await?;
    stand.send(0..100).await?;
    stand.wait_for_importers(2, 2, LIMIT).await?;
    stand.wait_for_imports(100, LIMIT).await?;
    scaler.terminate(Duration::from_secs(60)).await?;
    assert_eq!(stand.importers()?.len(), 0);
    Ok(())
}
