//! Rows that name keys of other tables before those are there.

use crate::{
    desk::Desk,
    world::{World, at_commit_of_rows},
};
use anyhow::Result;
use penstock_tests::{aws::Options, process::Process, proxy::Action, wait};
use sqlx::Executor as _;
use std::{fs, time::Duration};

const LIMIT: Duration = Duration::from_secs(60);

const TABLES: &str = "CREATE TABLE site (site_id bigint PRIMARY KEY, name text); \
     CREATE TABLE post (post_id bigint PRIMARY KEY, site_name text, penstock_object bigint); \
     CREATE TABLE copy (post_id bigint PRIMARY KEY)";
const DATASETS: &str = r#"
[[dataset]]
name = "posts"
match = "s3://*/posts/**"
table = "public.post"
key = ["post_id"]
join = "LEFT JOIN public.site ON site.site_id = input.site_id"
set = { site_name = "site.name" }
input = { site_id = "bigint" }
awaits = { field = "site_id", column = "public.site.site_id" }
on_delete = "remove"
[[dataset]]
name = "sites"
match = "s3://*/sites/**"
table = "site"
key = ["site_id"]
[[dataset]]
name = "copies"
after = "posts"
table = "public.copy"
key = ["post_id"]
on_new_field = "ignore"
"#;
const POSTS: &str =
    "SELECT coalesce(string_agg(concat(post_id, ' ', site_name), ', ' ORDER BY post_id), '-') FROM post";
const WAITING: &str = "SELECT dataset, key, lookup, value, since < again_at FROM penstock.waiting ORDER BY key, value";

struct Stand(World);

impl Stand {
    async fn new() -> Result<Self> {
        Self::with(TABLES, DATASETS).await
    }

    async fn with(tables: &str, datasets: &str) -> Result<Self> {
        let world = World::new(Options::default(), tables, datasets).await?;
        let migrated = world.command("migrate").run(LIMIT).await?;
        anyhow::ensure!(migrated.status.success(), "migrate: {}", migrated.stderr);
        Ok(Self(world))
    }

    async fn put_posts(&self, key: &str, posts: &[(i64, i64)]) -> Result<()> {
        let rows = posts.iter().map(|(post, site)| format!("{{\"post_id\":{post},\"site_id\":{site}}}\n"));
        self.0.pipeline.put(&format!("posts/{key}"), rows.collect::<String>()).await?;
        Ok(())
    }

    async fn put_sites(&self, key: &str, sites: &[i64]) -> Result<()> {
        let rows = sites.iter().map(|site| format!("{{\"site_id\":{site},\"name\":\"s{site}\"}}\n"));
        self.0.pipeline.put(&format!("sites/{key}"), rows.collect::<String>()).await?;
        Ok(())
    }

    async fn wait_for(&self, sql: &str, expected: &str) -> Result<()> {
        wait::until(&format!("{sql} to be {expected}"), LIMIT, || async {
            Ok((self.0.database.value(sql).await? == expected).then_some(()))
        })
        .await
    }

    /// Waits until nothing more was asked for than there is.
    async fn rechecked(&self) -> Result<()> {
        self.wait_for("SELECT count(*) FROM penstock.recheck_item", "0").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_loaded_at_once_and_again_when_what_it_names_has_arrived() -> Result<()> {
    let stand = Stand::new().await?;
    let world = &stand.0;
    let worker = world.worker().start()?;
    stand.put_sites("a.json", &[1]).await?;
    stand.wait_for("SELECT count(*) FROM site", "1").await?;
    stand.put_posts("a.json", &[(1, 1), (2, 2), (3, 3), (4, 2)]).await?;
    stand.wait_for(POSTS, "1 s1, 2 , 3 , 4 ").await?;
    assert_eq!(
        world.database.rows(WAITING).await?,
        [
            "posts | posts/a.json | public.site.site_id | 2 | true",
            "posts | posts/a.json | public.site.site_id | 3 | true"
        ]
    );
    // Nobody names it.
    stand.put_sites("b.json", &[4]).await?;
    stand.wait_for("SELECT count(*) FROM site", "2").await?;
    stand.rechecked().await?;
    stand.put_sites("c.json", &[2]).await?;
    stand.wait_for(POSTS, "1 s1, 2 s2, 3 , 4 s2").await?;
    let waiting = "SELECT string_agg(value, ' ') FROM penstock.waiting";
    stand.wait_for(waiting, "3").await?;
    // Within five minutes of the last time: deferred.
    stand.put_sites("d.json", &[3]).await?;
    let deferred =
        "SELECT count(*) FROM penstock.due_item WHERE event = 'arrived' AND at > now() + interval '4 minutes'";
    stand.wait_for(deferred, "1").await?;
    world.database.execute("UPDATE penstock.due_item SET at = now() WHERE event = 'arrived'").await?;
    stand.wait_for(POSTS, "1 s1, 2 s2, 3 s3, 4 s2").await?;
    stand.wait_for("SELECT count(*) FROM penstock.waiting_object", "0").await?;
    assert_eq!(world.database.value("SELECT count(*) FROM penstock.refreshed").await?, "0");
    // The steps after it were told once.
    world.pipeline.wait_until_empty(LIMIT).await?;
    worker.terminate(LIMIT).await?;
    let attempts = "SELECT dataset, state, attempts FROM penstock.object_status WHERE dataset <> 'sites' ORDER BY 1";
    assert_eq!(world.database.rows(attempts).await?, ["copies | imported | 1", "posts | imported | 3"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_run_again_leaves_alone_what_a_later_one_wrote() -> Result<()> {
    let tables = TABLES.replace("site_name text,", "site_name text, v text,");
    let stand = Stand::with(&tables, DATASETS).await?;
    let world = &stand.0;
    let worker = world.worker().start()?;
    world
        .pipeline
        .put("posts/a.json", r#"{"post_id":1,"v":"old","site_id":5}{"post_id":2,"v":"own","site_id":5}"#)
        .await?;
    stand.wait_for("SELECT count(*) FROM post", "2").await?;
    world.pipeline.put("posts/b.json", r#"{"post_id":1,"v":"new"}"#).await?;
    stand.wait_for("SELECT v FROM post WHERE post_id = 1", "new").await?;
    stand.put_sites("a.json", &[5]).await?;
    stand.wait_for("SELECT count(*) FROM penstock.waiting_object", "0").await?;
    assert_eq!(
        world.database.rows("SELECT post_id, v, site_name FROM post ORDER BY 1").await?,
        ["1 | new | ∅", "2 | own | s5"]
    );
    worker.terminate(LIMIT).await
}

/// Whoever commits second sees the other: the object or what it waits for is held at its COMMIT while the other commits
/// and is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn no_order_of_commits_loses_a_wake_up() -> Result<()> {
    for posts_commit_last in [true, false] {
        let stand = Stand::new().await?;
        let world = &stand.0;
        // The tables of the ledger are made, and both datasets are known.
        stand.put_sites("z.json", &[9]).await?;
        stand.put_posts("z.json", &[(9, 9)]).await?;
        world.drain(1).await?;
        let proxy = world.postgres_proxy().await?;
        let held = world.through_postgres(world.drainer(), &proxy).start()?;
        let trigger = at_commit_of_rows(&proxy, Action::HoldRequest);
        if posts_commit_last {
            stand.put_posts("a.json", &[(1, 1)]).await?;
        } else {
            stand.put_sites("a.json", &[1]).await?;
        }
        let trigger = trigger.await?;
        trigger.fired(1, LIMIT).await?;
        let other: Process = world.worker().start()?;
        if posts_commit_last {
            stand.put_sites("a.json", &[1]).await?;
            stand.wait_for("SELECT count(*) FROM site", "2").await?;
        } else {
            stand.put_posts("a.json", &[(1, 1)]).await?;
            stand.wait_for(POSTS, "1 , 9 s9").await?;
        }
        stand.rechecked().await?;
        let incomplete = world.database.value(POSTS).await?;
        assert_eq!(incomplete, if posts_commit_last { "9 s9" } else { "1 , 9 s9" });
        trigger.release();
        stand.wait_for(POSTS, "1 s1, 9 s9").await?;
        stand.wait_for("SELECT count(*) FROM penstock.waiting", "0").await?;
        held.finish(LIMIT).await?;
        other.terminate(LIMIT).await?;
    }
    Ok(())
}

/// Whoever is killed at its COMMIT, before or after it counted, leaves no wait behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_at_its_commit_loses_no_wake_up() -> Result<()> {
    for (is_post, action) in [
        (true, Action::HoldRequest),
        (true, Action::HoldAnswer),
        (false, Action::HoldRequest),
        (false, Action::HoldAnswer),
    ] {
        let options = Options { visibility_timeout_secs: 3, ..Options::default() };
        let world = World::new(options, TABLES, DATASETS).await?;
        let migrated = world.command("migrate").run(LIMIT).await?;
        anyhow::ensure!(migrated.status.success(), "migrate: {}", migrated.stderr);
        let stand = Stand(world);
        let world = &stand.0;
        // What commits first.
        if is_post {
            stand.put_sites("a.json", &[1]).await?;
        } else {
            stand.put_posts("a.json", &[(1, 1)]).await?;
        }
        world.drain(1).await?;
        let proxy = world.postgres_proxy().await?;
        let committing = at_commit_of_rows(&proxy, action.clone());
        let killed = world.through_postgres(world.worker(), &proxy).start()?;
        if is_post {
            stand.put_posts("a.json", &[(1, 1)]).await?;
        } else {
            stand.put_sites("a.json", &[1]).await?;
        }
        committing.await?;
        killed.kill()?;
        // Its connections end with it.
        drop(proxy);
        let worker = world.worker().start()?;
        worker.wait_for_line("worker started", LIMIT).await?;
        stand.wait_for(POSTS, "1 s1").await?;
        stand.wait_for("SELECT count(*) FROM penstock.waiting_object", "0").await?;
        worker.terminate(LIMIT).await?;
    }
    Ok(())
}

/// A desk whose dataset is that of the posts.
async fn desk_of_posts() -> Result<Desk> {
    let datasets = DATASETS
        .replace("[[dataset]]\nname = \"posts\"\nmatch = \"s3://*/posts/**\"\n", "")
        .replace("[[dataset]]\nname = \"copies\"\nafter = \"posts\"", "[[dataset]]\nname = \"copies\"\nafter = \"d\"");
    Desk::new(TABLES, &datasets).await
}

/// A look waits for the import of a new version, and then writes down that the old one is to be run again.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_sees_an_old_version_keeps_nothing_from_the_new_one() -> Result<()> {
    let desk = desk_of_posts().await?;
    let database = &desk.database;
    let run = |object: u32, sites: &str| {
        format!(
            "CREATE TEMP TABLE penstock_missing AS SELECT 0 AS number, value FROM unnest('{sites}'::text[]) value; \
             SELECT penstock.record_waits(1, {object}, 'd', '{{}}', '[{{\"number\": 0, \"field\": \"site_id\", \
                 \"lookup\": \"public.site.site_id\", \"value_type\": \"bigint\", \"again\": 3600, \"give_up\": 86400}}]', 10)"
        )
    };
    let arrives = |site: u32| {
        format!(
            "INSERT INTO site VALUES ({site}); INSERT INTO penstock.recheck_item (lookup) VALUES ('public.site.site_id')"
        )
    };
    let look = "SELECT penstock.recheck()";
    database.execute("INSERT INTO penstock.head (dataset, bucket, key) VALUES ('d', 'b', 'k')").await?;
    database.execute(&run(1, "{1,2}")).await?;
    database.execute(&arrives(1)).await?;
    database.execute(look).await?;
    database.execute(&run(1, "{2}")).await?;
    database.execute(&arrives(2)).await?;
    let mut of_new_version = database.connect().await?;
    of_new_version.execute(format!("BEGIN; {}", run(2, "{3}")).as_str()).await?;
    let looking = {
        let mut connection = database.connect().await?;
        tokio::spawn(async move { connection.execute(look).await.map(|_| ()) })
    };
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    wait::until("the look to wait", LIMIT, || async { Ok((database.value(waits).await? == "1").then_some(())) })
        .await?;
    of_new_version.execute("COMMIT").await?;
    looking.await??;
    database.execute(&arrives(3)).await?;
    database.execute(look).await?;
    let due = "SELECT count(*) FROM penstock.due_item WHERE event = 'arrived' AND object_id = 2 AND at <= now()";
    assert_eq!(database.value(due).await?, "1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_that_wait_for_one_key_are_run_again_once_each() -> Result<()> {
    const OBJECTS: u32 = 5000;
    let desk = desk_of_posts().await?;
    let waits = format!(
        "INSERT INTO penstock.head (dataset, bucket, key) SELECT 'd', 'b', n::text FROM generate_series(1, {OBJECTS}) n; \
         INSERT INTO penstock.waiting_object (head_id, object_id, since, until, given_up, pointer) SELECT id, id, now(), now() + interval '1 day', '{{}}', '{{}}' FROM penstock.head; \
         INSERT INTO penstock.waiting_key SELECT h.id, a.id, 'bigint', n::text, now() + interval '1 hour' \
         FROM penstock.head h CROSS JOIN penstock.awaited a CROSS JOIN generate_series(1, 3) n; \
         INSERT INTO penstock.recheck_item (lookup) SELECT 'public.site.site_id' FROM generate_series(1, 50); \
         INSERT INTO site VALUES (1, 'one')"
    );
    desk.database.execute(&waits).await?;
    let due = "SELECT count(*), count(DISTINCT object_id), count(*) FILTER (WHERE at > now() + interval '4 minutes') \
               FROM penstock.due_item WHERE event = 'arrived'";
    desk.database.execute("SELECT penstock.recheck()").await?;
    assert_eq!(desk.database.rows(due).await?, [format!("{OBJECTS} | {OBJECTS} | 0")]);
    let look = "INSERT INTO penstock.recheck_item (lookup) VALUES ('public.site.site_id'); SELECT penstock.recheck()";
    // Two more keys while the runs are yet to come, which will see them.
    desk.database.execute("INSERT INTO site VALUES (2, 'two'), (3, 'three')").await?;
    desk.database.execute(look).await?;
    assert_eq!(desk.database.rows(due).await?, [format!("{OBJECTS} | {OBJECTS} | 0")]);
    // After the runs, looked for by two at once: one more time each, later.
    desk.database.execute("UPDATE penstock.refreshed SET has_run = true").await?;
    let (one, two) = tokio::join!(desk.database.execute(look), desk.database.execute(look));
    one?;
    two?;
    desk.database.execute(look).await?;
    assert_eq!(desk.database.rows(due).await?, [format!("{} | {OBJECTS} | {OBJECTS}", 2 * OBJECTS)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_waits_for_itself_and_a_removal_for_nothing() -> Result<()> {
    let stand = Stand::new().await?;
    let world = &stand.0;
    let worker = world.worker().start()?;
    stand.put_posts("a.json", &[(1, 1), (2, 2)]).await?;
    stand.wait_for("SELECT count(*) FROM penstock.waiting", "2").await?;
    stand.put_sites("a.json", &[1]).await?;
    stand.wait_for(POSTS, "1 s1, 2 ").await?;
    stand.wait_for("SELECT count(*) FROM penstock.refreshed WHERE has_run", "1").await?;
    // The old version's next run is put off; the new one's is not.
    stand.put_sites("b.json", &[2]).await?;
    stand.wait_for("SELECT count(*) FROM penstock.due_item WHERE event = 'arrived' AND at > now()", "1").await?;
    stand.put_posts("a.json", &[(1, 1), (2, 2), (3, 3)]).await?;
    stand.wait_for(POSTS, "1 s1, 2 s2, 3 ").await?;
    stand.wait_for("SELECT string_agg(value, ' ') FROM penstock.waiting", "3").await?;
    stand.put_sites("c.json", &[3]).await?;
    stand.wait_for(POSTS, "1 s1, 2 s2, 3 s3").await?;
    stand.put_posts("b.json", &[(9, 9)]).await?;
    stand.wait_for("SELECT count(*) FROM penstock.waiting_object", "1").await?;
    world.pipeline.delete("posts/b.json").await?;
    stand.wait_for("SELECT count(*) FROM penstock.waiting_object", "0").await?;
    worker.terminate(LIMIT).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_looked_at_again_by_time_and_gives_up() -> Result<()> {
    let stand = Stand::new().await?;
    let world = &stand.0;
    let config = fs::read_to_string(world.config())?;
    let config = config.replace("public.site.site_id\" }", "public.site.site_id\", again = \"2s\", give_up = \"9s\" }");
    let notify = "[[notify]]\nname = \"ops\"\nto = \"http://127.0.0.1:1/000000000000/nowhere\"\non = [\"gave_up\"]\n";
    fs::write(world.config(), format!("{config}{notify}"))?;
    let worker = world.worker().expect_line("what is due was not taken").start()?;
    stand.put_sites("a.json", &[1]).await?;
    stand.wait_for("SELECT count(*) FROM site", "1").await?;
    stand.put_posts("a.json", &[(1, 1), (2, 2)]).await?;
    stand.wait_for(POSTS, "1 s1, 2 ").await?;
    // No load of a dataset: only time tells.
    world.database.execute("UPDATE site SET name = 'renamed'").await?;
    stand.wait_for(POSTS, "1 renamed, 2 ").await?;
    stand.wait_for("SELECT count(*) FROM penstock.waiting", "0").await?;
    let notice = "SELECT body ->> 'event', body ->> 'dataset', body -> 'lookups' ->> 0, body ->> 'do' LIKE 'importer replay --force%' \
                  FROM penstock.due_item WHERE kind = 'notify'";
    assert_eq!(world.database.rows(notice).await?, ["gave_up | posts | public.site.site_id | true"]);
    assert_eq!(world.database.value("SELECT count(*) FROM penstock.due_item WHERE kind = 'step'").await?, "0");
    worker.terminate(LIMIT).await?;
    Ok(())
}

/// Its runs end in no import: it is gone, or fails.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_never_run_to_its_end_gives_up_a_day_later() -> Result<()> {
    let stand = Stand::new().await?;
    let world = &stand.0;
    stand.put_posts("a.json", &[(1, 1)]).await?;
    world.drain(1).await?;
    let notify = "INSERT INTO penstock.notification (name, target, events) VALUES ('ops', 'http://127.0.0.1:1/0/q', '{gave_up}')";
    world.database.execute(notify).await?;
    let told = "SELECT count(*) FROM penstock.due_item WHERE kind = 'notify' AND body -> 'lookups' ->> 0 = 'public.site.site_id'";
    for (age, n_waiting, n_told) in [("23 hours", "1", "0"), ("25 hours", "0", "1")] {
        let over = format!(
            "UPDATE penstock.waiting_object SET until = now() - interval '{age}'; SELECT penstock.give_up_waits()"
        );
        world.database.execute(&over).await?;
        assert_eq!(world.database.value("SELECT count(*) FROM penstock.waiting").await?, n_waiting, "{age}");
        assert_eq!(world.database.value(told).await?, n_told, "{age}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_whose_parents_arrive_later_are_taken_then_also_where_none_has_one() -> Result<()> {
    let tables = "CREATE TABLE parent (id bigint PRIMARY KEY); \
                  CREATE TABLE child (id bigint PRIMARY KEY, parent_id bigint REFERENCES parent)";
    let datasets = "[[dataset]]\nname = \"child\"\nmatch = \"s3://*/child/**\"\ntable = \"child\"\nkey = [\"id\"]\nmax_rejects = 0\n\
                    awaits = [{ field = \"parent_id\", column = \"public.parent.id\" }]\n\
                    [[dataset]]\nname = \"parent\"\nmatch = \"s3://*/parent/**\"\ntable = \"public.parent\"\nkey = [\"id\"]\n";
    let stand = Stand::with(tables, datasets).await?;
    let world = &stand.0;
    let worker = world.worker().start()?;
    world.pipeline.put("child/a.csv", "id,parent_id\n1,7\n2,\n3,8\n").await?;
    stand.wait_for("SELECT string_agg(value, ' ' ORDER BY value) FROM penstock.waiting", "7 8").await?;
    assert_eq!(world.database.value("SELECT count(*) FROM child").await?, "1");
    world.pipeline.put("child/b.csv", "id,parent_id\n4,9\n5,9\n").await?;
    stand.wait_for("SELECT string_agg(value, ' ' ORDER BY value) FROM penstock.waiting", "7 8 9").await?;
    world.pipeline.put("parent/a.csv", "id\n7\n8\n9\n").await?;
    stand.wait_for("SELECT count(*) FROM child", "5").await?;
    stand.wait_for("SELECT count(*) FROM penstock.waiting", "0").await?;
    assert_eq!(world.database.value("SELECT count(*) FROM penstock.rejects WHERE resolved_at IS NULL").await?, "0");
    worker.terminate(LIMIT).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_gets_its_second_chance_waits_beside_the_others() -> Result<()> {
    let tables = TABLES.replace("site_name text,", "site_name text, n int CHECK (n < 10),");
    let datasets = DATASETS.replacen("on_delete", "max_rejects = 5\non_delete", 1);
    let stand = Stand::with(&tables, &datasets).await?;
    let world = &stand.0;
    let posts =
        [r#"{"post_id":1,"site_id":1,"n":1}"#, r#"{"post_id":2,"site_id":2,"n":20}"#, r#"{"post_id":3,"n":30}"#];
    world.pipeline.put("posts/a.json", posts.join("\n")).await?;
    world.drain(1).await?;
    let rejects = async || -> Result<String> {
        let ended = world.command("rejects").arg("--replay").run(LIMIT).await?;
        anyhow::ensure!(ended.status.success(), "{}", ended.stderr);
        Ok(ended.stdout)
    };
    let waiting = "SELECT string_agg(value, ' ' ORDER BY value) FROM penstock.waiting";
    assert_eq!(world.database.value(waiting).await?, "1 2");
    // As if the object had been loaded when the second row did not name a site.
    world.database.execute("DELETE FROM penstock.waiting_key WHERE value = '2'").await?;
    let since = "SELECT since::text || head_id FROM penstock.waiting_object";
    let before = world.database.value(since).await?;
    world.database.execute("ALTER TABLE post DROP CONSTRAINT post_n_check").await?;
    assert!(rejects().await?.contains("2 rejects resolved, 0 left"));
    assert_eq!(world.database.value(POSTS).await?, "1 , 2 , 3 ");
    assert_eq!(world.database.value(waiting).await?, "1 2");
    assert_eq!(world.database.value(since).await?, before, "it waits as long as the others");
    let worker = world.worker().start()?;
    stand.put_sites("a.json", &[1, 2]).await?;
    stand.wait_for(POSTS, "1 s1, 2 s2, 3 ").await?;
    stand.wait_for("SELECT count(*) FROM penstock.waiting_object", "0").await?;
    worker.terminate(LIMIT).await?;

    // Nothing else waits: its pointer is that of the object.
    world.pipeline.put("posts/b.json", r#"{"post_id":8,"site_id":8,"n":1}{"post_id":9,"site_id":9,"n":"x"}"#).await?;
    world.drain(1).await?;
    world.database.execute("DELETE FROM penstock.waiting_object; DELETE FROM penstock.waiting_key").await?;
    let mend = "UPDATE penstock.reject SET payload = convert_to('{\"post_id\":9,\"site_id\":9}', 'UTF8'), payload_length = 25 \
                WHERE resolved_at IS NULL";
    world.database.execute(mend).await?;
    let said = rejects().await?;
    assert!(said.contains("1 rejects resolved, 0 left"), "{said}");
    let pointer = "SELECT w.pointer ->> 'etag' = o.etag, w.pointer ->> 'dataset', w.pointer ->> 'refresh', i.event, k.value \
                   FROM penstock.waiting_object w JOIN penstock.object o ON o.id = w.object_id \
                   JOIN penstock.due_item i ON i.object_id = o.id JOIN penstock.waiting_key k ON k.head_id = w.head_id";
    assert_eq!(world.database.rows(pointer).await?, ["true | posts | true | again | 9"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_object_does_not_wait_for_by_key() -> Result<()> {
    let tables = "CREATE TABLE host (address inet PRIMARY KEY); CREATE TABLE t (id bigint PRIMARY KEY, address inet)";
    let dataset = "table = \"t\"\nkey = [\"id\"]\nmax_rejects = \"50%\"\n\
                   awaits = { field = \"address\", column = \"public.host.address\" }\n";
    let desk = Desk::new(tables, dataset).await?;
    desk.database.execute("INSERT INTO host VALUES ('10.0.0.4')").await?;
    // Neither NULL, nor what is there, nor what is no value of the type.
    assert_eq!(desk.load("a.csv", "id,address\n1,10.0.0.2\n2,nowhere\n3,10.0.0.4\n4,\n5,10.0.0.2\n").await?, 0);
    let waiting = "SELECT lookup, value FROM penstock.waiting";
    assert_eq!(desk.database.rows(waiting).await?, ["public.host.address | 10.0.0.2/32"]);
    let rows = (1..=10_001).map(|row| format!("{row},10.1.{}.{}\n", row / 256, row % 256)).collect::<String>();
    assert_eq!(desk.load("b.csv", format!("id,address\n{rows}")).await?, 0);
    assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "10001");
    assert_eq!(desk.database.rows(&format!("{waiting} WHERE key LIKE '%b.csv'")).await?, ["public.host.address | ∅"]);
    // What no index can hold is waited for by time.
    let long = "x".repeat(3000);
    let desk_of_names = Desk::new(
        "CREATE TABLE host (name text); CREATE TABLE t (id bigint PRIMARY KEY, name text)",
        "table = \"t\"\nkey = [\"id\"]\nawaits = { field = \"name\", column = \"public.host.name\" }\n",
    )
    .await?;
    assert_eq!(desk_of_names.load("a.csv", format!("id,name\n1,{long}\n2,short\n")).await?, 0);
    let waiting = "SELECT lookup, value FROM penstock.waiting ORDER BY value";
    let expected = ["public.host.name | short", "public.host.name | ∅"];
    assert_eq!(desk_of_names.database.rows(waiting).await?, expected);
    // A file of one machine is nobody else's to read.
    assert_eq!(desk.database.value("SELECT count(*) FROM penstock.due").await?, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_awaited_is_refused() -> Result<()> {
    let tables =
        "CREATE TABLE site (site_id bigint PRIMARY KEY); CREATE TABLE t (id bigint PRIMARY KEY, site_id bigint)";
    for (settings, expected) in [
        ("awaits = { field = \"site_id\", column = \"site.site_id\" }", "must be like public.site.site_id"),
        (
            "awaits = { field = \"site_id\", column = \"public.site.nothing\" }",
            "awaits, field site_id: column looked_up.nothing does not exist",
        ),
        (
            "awaits = { field = \"other\", column = \"public.site.site_id\" }",
            "awaits, field other: operator does not exist: bigint = text",
        ),
        (
            "awaits = { field = \"site_id\", column = \"public.site.site_id\", again = \"2d\", give_up = \"1d\" }",
            "again is later than give_up",
        ),
        (
            "join = \"JOIN public.site ON site.site_id = input.site_id\"\nawaits = { field = \"site_id\", column = \"public.site.site_id\" }",
            "awaits needs a column penstock_object bigint in t",
        ),
        (
            "mode = \"append\"\nawaits = { field = \"site_id\", column = \"public.site.site_id\" }",
            "awaits needs a column penstock_object bigint in t",
        ),
    ] {
        let desk = Desk::new(tables, &format!("table = \"t\"\nkey = [\"id\"]\n{settings}")).await;
        let said = match desk {
            Ok(desk) => {
                let file = desk.write("a.csv", "id,site_id\n1,1\n")?;
                let ended = desk.run(&["load", &file]).await?;
                assert_ne!(ended.status.code(), Some(0), "{settings}");
                ended.stdout + &ended.stderr
            }
            Err(error) => format!("{error:#}"),
        };
        assert!(said.contains(expected), "{settings}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_fills_what_its_table_is_however_that_is_written() -> Result<()> {
    let tables = "CREATE SCHEMA \"App S\"; \
         CREATE TABLE \"App S\".\"Site\" (id bigint PRIMARY KEY) PARTITION BY RANGE (id); \
         CREATE TABLE part PARTITION OF \"App S\".\"Site\" FOR VALUES FROM (0) TO (100); \
         CREATE TABLE other PARTITION OF \"App S\".\"Site\" FOR VALUES FROM (100) TO (200); \
         CREATE VIEW inner_view AS SELECT * FROM (SELECT id FROM \"App S\".\"Site\") s; \
         CREATE VIEW outer_view AS SELECT id FROM inner_view WHERE id > 0; \
         CREATE MATERIALIZED VIEW kept AS SELECT id FROM outer_view; \
         CREATE TABLE t (id bigint PRIMARY KEY, site_id bigint)";
    let awaits = ["App S.Site", "public.part", "public.outer_view", "public.kept"]
        .map(|table| format!("{{ field = \"site_id\", column = \"{table}.id\" }}"));
    let datasets = [
        ("quoted", "\"App S\".\"Site\""),
        ("exact", "App S.Site"),
        ("part", "part"),
        ("other", "PUBLIC.Other"),
        ("none", "public.t"),
    ]
    .map(|(name, table)| {
        format!("[[dataset]]\nname = \"{name}\"\nmatch = \"s3://*/{name}/**\"\ntable = '{table}'\nkey = [\"id\"]\n")
    });
    let settings = format!("table = \"t\"\nkey = [\"id\"]\nawaits = [{}]\n{}", awaits.join(", "), datasets.concat());
    let desk = Desk::new(tables, &settings).await?;
    let fillers = "SELECT lookup || ': ' || array_to_string(fillers, ' ') FROM penstock.awaited ORDER BY id";
    assert_eq!(
        desk.database.rows(fillers).await?,
        [
            "App S.Site.id: quoted exact part other",
            "public.part.id: quoted exact part",
            "public.outer_view.id: quoted exact part other",
            "public.kept.id: ",
        ]
    );
    let checked = desk.run(&["check"]).await?.stdout;
    assert!(checked.contains("no dataset fills the table of public.kept.id"), "{checked}");
    assert_eq!(checked.matches("no dataset fills the table").count(), 1, "{checked}");
    Ok(())
}

/// A worker with an older configuration may start after one with a newer one.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_only_adds_to_what_is_awaited_and_migrate_says_it_all() -> Result<()> {
    let tables =
        "CREATE TABLE site (site_id bigint PRIMARY KEY); CREATE TABLE t (id bigint PRIMARY KEY, site_id bigint)";
    let fills = |name: &str| {
        format!("[[dataset]]\nname = \"{name}\"\nmatch = \"s3://*/{name}/**\"\ntable = \"site\"\nkey = [\"site_id\"]\n")
    };
    let plain = "table = \"t\"\nkey = [\"id\"]\n";
    let awaits = format!("{plain}awaits = {{ field = \"site_id\", column = \"public.site.site_id\" }}\n");
    let newer = format!("{awaits}{}{}", fills("one"), fills("two"));
    let older = format!("{awaits}{}", fills("two"));
    let desk = Desk::new(tables, &newer).await?;
    let fillers = "SELECT array_to_string(fillers, ' ') FROM penstock.awaited";
    assert_eq!(desk.database.rows(fillers).await?, ["one two"]);
    desk.configure("**", &older)?;
    assert_eq!(desk.load("a.csv", "id,site_id\n1,1\n").await?, 0);
    assert_eq!(desk.database.rows(fillers).await?, ["one two"]);
    desk.succeed(&["migrate"]).await?;
    assert_eq!(desk.database.rows(fillers).await?, ["two"]);
    desk.configure("**", &newer)?;
    let checked = desk.run(&["check"]).await?.stdout;
    let differs = "public.site.site_id: that one fills its table is not registered; `importer migrate`";
    assert!(checked.contains(differs), "{checked}");
    assert_eq!(desk.load("b.csv", "id,site_id\n2,2\n").await?, 0);
    assert_eq!(desk.database.rows(fillers).await?, ["two one"]);
    // What is awaited no more ends with the object's next run.
    desk.configure("**", plain)?;
    let checked = desk.run(&["check"]).await?.stdout;
    assert!(
        checked.contains("is registered to await site_id in public.site.site_id, and not configured to"),
        "{checked}"
    );
    desk.succeed(&["migrate"]).await?;
    assert_eq!(desk.database.rows(fillers).await?, [""]);
    assert!(!desk.run(&["check"]).await?.stdout.contains("registered:"));
    assert_eq!(desk.load("a.csv", "id,site_id\n1,1\n3,3\n").await?, 0);
    let waiting = "SELECT key LIKE '%b.csv' FROM penstock.waiting_object JOIN penstock.head h ON h.id = head_id";
    assert_eq!(desk.database.rows(waiting).await?, ["true"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_takes_too_long_puts_off_only_itself() -> Result<()> {
    let tables = "CREATE TABLE site (site_id bigint PRIMARY KEY); CREATE TABLE t (id bigint PRIMARY KEY, site_id bigint); \
                  CREATE VIEW slow AS SELECT site_id FROM site WHERE pg_sleep(7) IS NOT NULL";
    let awaits =
        ["slow", "site"].map(|table| format!("{{ field = \"site_id\", column = \"public.{table}.site_id\" }}"));
    let dataset = format!(
        "[[dataset]]\nname = \"d\"\nmatch = \"s3://*/**\"\ntable = \"t\"\nkey = [\"id\"]\nawaits = [{}]\n",
        awaits.join(", ")
    );
    let stand = Stand::with(tables, &dataset).await?;
    let database = &stand.0.database;
    let waits = "INSERT INTO penstock.head (dataset, bucket, key) VALUES ('d', 'b', '1'), ('d', 'b', '2'); \
         INSERT INTO penstock.waiting_object (head_id, object_id, since, until, given_up, pointer) \
         SELECT id, id, now(), now() + interval '1 day', '{}', '{}' FROM penstock.head; \
         INSERT INTO penstock.waiting_key SELECT h.id, a.id, 'bigint', '1', now() + interval '1 hour' \
         FROM penstock.head h JOIN penstock.awaited a ON (a.lookup = 'public.slow.site_id') = (h.key = '1'); \
         INSERT INTO site VALUES (1)";
    database.execute(waits).await?;
    let ask = "INSERT INTO penstock.recheck_item (lookup, at) VALUES ('public.slow.site_id', now() - interval '1 minute'), \
               ('public.site.site_id', now())";
    database.execute(ask).await?;
    let sent = stand.0.command("due").run(LIMIT).await?;
    assert!(sent.stderr.contains("took too long"), "{}", sent.stderr);
    let asked = "SELECT lookup, attempts, at > now() FROM penstock.recheck_item ORDER BY id";
    assert_eq!(database.rows(asked).await?, ["public.slow.site_id | 1 | true"]);
    let run_again = "SELECT h.key FROM penstock.refreshed JOIN penstock.head h ON h.id = head_id";
    assert_eq!(database.rows(run_again).await?, ["2"]);
    // Nor is it begun at once because it is asked for again.
    database.execute(ask).await?;
    stand.0.command("due").run(LIMIT).await?;
    let left = ["public.slow.site_id | 1 | true", "public.slow.site_id | 0 | false"];
    assert_eq!(database.rows(asked).await?, left);
    Ok(())
}
