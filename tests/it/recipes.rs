//! What shaped an object's rows, and objects that are made anew after it changed.

use crate::{
    desk::Desk,
    world::{LIMIT, World},
};
use anyhow::Result;
use penstock_tests::{
    aws::{Options, Route},
    wait,
};
use serde_json::json;
use std::{collections::BTreeMap, fs};

const TABLE: &str =
    "CREATE TABLE t (id bigint, body text, penstock_object bigint, UNIQUE (id)); CREATE TABLE u (LIKE t);";
const OUTDATED: &str = "stand by another recipe, or one that was not recorded";

/// Changes what the configuration says.
fn change(world: &World, from: &str, to: &str) -> Result<()> {
    let config = fs::read_to_string(world.config())?;
    anyhow::ensure!(config.contains(from), "{from} is not in the configuration");
    fs::write(world.config(), config.replace(from, to))?;
    Ok(())
}

/// Runs a subcommand that has to succeed, and returns what it printed.
async fn say(world: &World, subcommand: &str, arguments: &[&str]) -> Result<String> {
    let ended = world.command(subcommand).args(arguments.iter().copied()).run(LIMIT).await?;
    anyhow::ensure!(ended.status.success(), "{subcommand} ended with {}: {}", ended.status, ended.stderr);
    Ok(ended.stdout)
}

async fn world(mode: &str) -> Result<World> {
    let dataset = format!(
        "[[dataset]]\nname = \"t\"\nmatch = \"s3://*/**\"\ntable = \"public.t\"\n{mode}\nwhere = \"input.id::int > 0\"\n"
    );
    let world = World::new(Options::default(), TABLE, &dataset).await?;
    for object in 0..3 {
        let rows = (1..=4).map(|row| format!("{{\"id\":{},\"body\":\"b{row}\"}}\n", object * 10 + row));
        world.pipeline.put(&format!("{object}.json"), rows.collect::<String>()).await?;
    }
    world.drain(1).await?;
    Ok(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_stand_by_another_recipe_are_made_anew() -> Result<()> {
    for mode in ["key = [\"id\"]", "mode = \"append\"", "mode = \"replace\""] {
        let world = world(mode).await?;
        let recipes = "SELECT count(DISTINCT recipe), count(recipe), bool_and(recipe ~ '^[0-9a-f]{16}$') \
                       FROM penstock.object_status";
        assert_eq!(world.database.rows(recipes).await?, ["1 | 3 | true"], "{mode}");
        assert!(!say(&world, "check", &[]).await?.contains(OUTDATED), "{mode}");
        assert_eq!(say(&world, "replay", &["--outdated"]).await?, "nothing to replay\n", "{mode}");
        let untouched = "SELECT string_agg(ctid || ' ' || xmin, ',' ORDER BY id) FROM t WHERE id % 10 IN (1, 2)";
        let before = world.database.value(untouched).await?;

        change(&world, "where = \"input.id::int > 0\"", "where = \"input.id::int % 10 < 3\"")?;
        let checked = say(&world, "check", &[]).await?;
        assert!(checked.contains(&format!("3 of its objects {OUTDATED}")), "{mode}: {checked}");
        // One of them is made anew, and the others are taken up where that was left.
        let prefix = format!("s3://{}/0", world.pipeline.bucket);
        say(&world, "replay", &["--outdated", "--prefix", &prefix]).await?;
        world.drain(1).await?;
        let left = "SELECT count(*) FROM t";
        assert_eq!(world.database.value(left).await?, "10", "{mode}");
        assert!(say(&world, "check", &[]).await?.contains(&format!("2 of its objects {OUTDATED}")), "{mode}");
        say(&world, "replay", &["--outdated", "--dataset", "t"]).await?;
        world.drain(2).await?;
        assert_eq!(world.database.value(left).await?, "6", "{mode}");
        let rows = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM t";
        assert_eq!(world.database.value(rows).await?, "1 2 11 12 21 22", "{mode}");
        let counts =
            "SELECT string_agg(concat_ws(' ', state, rows_read, rows_filtered), ', ') FROM penstock.object_status";
        assert_eq!(world.database.value(counts).await?, "imported 4 2, imported 4 2, imported 4 2", "{mode}");
        if mode.starts_with("key") {
            assert_eq!(world.database.value(untouched).await?, before, "equal rows are left alone");
        }
        assert!(!say(&world, "check", &[]).await?.contains(OUTDATED), "{mode}");
        assert_eq!(say(&world, "replay", &["--outdated"]).await?, "nothing to replay\n", "{mode}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_an_earlier_version_wrote_are_left_out_too_and_those_of_other_objects_stay() -> Result<()> {
    let dataset = "[[dataset]]\nname = \"t\"\nmatch = \"s3://*/**\"\ntable = \"public.t\"\nkey = [\"id\"]\n\
                   where = \"input.id::int > 0\"\n";
    let world = World::new(Options::default(), TABLE, dataset).await?;
    let line = |id: i64, body: &str| format!("{{\"id\":{id},\"body\":\"{body}\"}}\n");
    for (key, rows) in [
        ("a.json", line(1, "old") + &line(2, "equal") + &line(3, "gone")),
        ("b.json", line(1, "of b")),
        ("a.json", line(1, "old") + &line(2, "equal") + &line(3, "gone") + &line(4, "new")),
        ("b.json", line(1, "of b")),
        ("c.json", line(1, "newest")),
    ] {
        world.pipeline.put(key, rows).await?;
        world.drain(1).await?;
    }
    change(&world, "where = \"input.id::int > 0\"", "where = \"input.id::int < 3\"")?;
    say(&world, "replay", &["--outdated"]).await?;
    world.drain(1).await?;
    let rows = "SELECT string_agg(id || ' ' || body, ', ' ORDER BY id) FROM t";
    assert_eq!(world.database.value(rows).await?, "1 newest, 2 equal");
    // A forced replay is asked for by hand: its rows are written whoever wrote them since.
    let prefix = format!("s3://{}/a", world.pipeline.bucket);
    say(&world, "replay", &["--force", "--prefix", &prefix]).await?;
    world.drain(1).await?;
    assert_eq!(world.database.value(rows).await?, "1 old, 2 equal");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_another_recipe_leaves_the_message_to_those_that_have_it() -> Result<()> {
    let world = world("key = [\"id\"]").await?;
    let before = fs::read_to_string(world.config())?;
    change(&world, "where = \"input.id::int > 0\"", "where = \"input.id::int % 10 < 3\"")?;
    let now = fs::read_to_string(world.config())?;
    say(&world, "replay", &["--outdated"]).await?;
    fs::write(world.config(), before)?;
    let worker = world.worker().expect_line("waiting for another configuration").start()?;
    worker.wait_for_line("the message is for recipe", LIMIT).await?;
    worker.terminate(LIMIT).await?;
    assert_eq!(world.database.value("SELECT count(*) FROM t").await?, "12");
    fs::write(world.config(), now)?;
    // What was held comes again when the pause that the worker asked for is over.
    let worker = world.worker().start()?;
    wait::until("all rows by the new recipe", LIMIT, || async {
        Ok((world.database.value("SELECT count(*) FROM t").await? == "6").then_some(()))
    })
    .await?;
    worker.terminate(LIMIT).await?;
    let states = "SELECT string_agg(DISTINCT state, ', ') FROM penstock.object_status";
    assert_eq!(world.database.value(states).await?, "imported");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_is_of_what_shapes_rows_and_of_nothing_else() -> Result<()> {
    let tables = "CREATE TABLE t (id bigint PRIMARY KEY, body text, rest jsonb, at timestamptz); CREATE TABLE u (LIKE t); \
                  CREATE UNIQUE INDEX ON u (id); CREATE UNIQUE INDEX ON t (body)";
    let plain = "table = \"t\"\nkey = [\"id\"]";
    let desk = Desk::new(tables, plain).await?;
    let of_nothing = [
        "max_rejects = 7\nformat = \"auto\"",
        "timeout = \"9s\"",
        "idle_timeout = \"9s\"",
        "keep = [\"at\"]",
        "[[dataset.test]]\nname = \"x\"\ninput = { id = 1 }\nexpect = { id = 1 }",
    ];
    let of_all = [
        "rename = { title = \"body\" }",
        "on_new_field = \"reject\"",
        "on_new_field = \"extras\"\nextras_column = \"rest\"",
        "newer = \"at\"",
        "format = \"csv\"",
        "compression = \"none\"",
        "set = { body = \"'x'\" }",
        "set = { body = \"'y'\" }",
        "set = { at = \"input.penstock_last_modified\" }",
        "where = \"input.id >= 0\"",
        "where = \"input.id >= 0 AND true\"",
        "where = \"input.id >= 0\"\ninput = { body = \"varchar\" }",
        "join = \"LEFT JOIN public.u ON u.id = input.id\"",
        "command = [\"cat\"]",
        "command = [\"cat\", \"-\"]",
        "command = [\"cat\"]\nversion = \"2\"",
        "input_format = \"bytes\"\ncommand = [\"sh\", \"-c\", \"sed 1d | sed 's/.*/{\\\"id\\\": &}/'\"]",
        "[dataset.csv]\nquote = \"|\"",
        "[dataset.csv]\ndelimiter = \";\"",
        "[dataset.csv]\nnull = [\"~\"]",
        "[dataset.csv]\nencoding = \"latin1\"",
        "\n[defaults.set]\nbody = \"'z'\"",
    ];
    let others = ["table = \"u\"\nkey = [\"id\"]", "table = \"t\"\nkey = [\"body\"]\nset = { body = \"input.id\" }"];
    let beside = |settings: &[&str]| settings.iter().map(|setting| format!("{plain}\n{setting}")).collect::<Vec<_>>();
    let settings = [beside(&[""]), beside(&of_nothing), beside(&of_all), others.map(str::to_owned).to_vec()].concat();
    for (n, setting) in settings.iter().enumerate() {
        desk.configure("**", setting)?;
        assert_eq!(desk.load(&format!("{n}.csv"), format!("id\n{n}\n")).await?, 0, "{setting}");
    }
    let recipes = desk.database.rows("SELECT recipe FROM penstock.object_status ORDER BY id").await?;
    for (setting, recipe) in settings.iter().zip(&recipes).skip(1).take(of_nothing.len()) {
        assert_eq!(*recipe, recipes[0], "{setting}");
    }
    let mut known = BTreeMap::from([(&recipes[0], &settings[0])]);
    for (setting, recipe) in settings.iter().zip(&recipes).skip(1 + of_nothing.len()) {
        assert_eq!(known.insert(recipe, setting), None, "{setting}");
    }
    assert_eq!(recipes.len(), settings.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_does_not_say_which_rows_are_whose_refuses_it() -> Result<()> {
    let world = World::new(
        Options::default(),
        "CREATE TABLE t (id bigint PRIMARY KEY, body text)",
        "[[dataset]]\nname = \"t\"\nmatch = \"s3://*/**\"\ntable = \"public.t\"\nkey = [\"id\"]\n",
    )
    .await?;
    world.pipeline.put("a.json", "{\"id\":1,\"body\":\"b\"}").await?;
    world.drain(1).await?;
    change(&world, "key = [\"id\"]", "key = [\"id\"]\nset = { body = \"upper(input.body)\" }")?;
    let refused = world.command("replay").arg("--outdated").run(LIMIT).await?;
    assert_eq!(refused.status.code(), Some(3));
    assert!(refused.stderr.contains("needs a column penstock_object bigint in public.t"), "{}", refused.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_anew_is_named_with_the_reason_and_holds_nothing_up() -> Result<()> {
    let dataset = |name: &str| {
        format!(
            "[[dataset]]\nname = \"{name}\"\nmatch = \"s3://*/{name}/**\"\ntable = \"public.{name}\"\nkey = [\"id\"]\n\
             set = {{ body = \"input.body\" }}\n"
        )
    };
    let tables = "CREATE TABLE p (id bigint PRIMARY KEY, body text); CREATE TABLE t (id bigint PRIMARY KEY, body text, penstock_object bigint)";
    let options = Options { route: Route::Nowhere, ..Options::default() };
    let world = World::new(options, tables, &(dataset("p") + &dataset("t"))).await?;
    for (key, id) in [("p/1", 1), ("t/1", 1), ("t/2", 2), ("t/3", 3)] {
        world.pipeline.put(key, format!("{{\"id\":{id},\"body\":\"b\"}}")).await?;
        world.pipeline.send(json!({"bucket": world.pipeline.bucket, "key": key}).to_string()).await?;
    }
    world.drain(1).await?;
    change(
        &world,
        "set = { body = \"input.body\" }",
        "set = { body = \"(1 / (input.id - 3))::text\" }\ninput = { id = \"int\" }",
    )?;
    world.pipeline.delete("t/2").await?;
    let replay = async |expected: &str| {
        let ended = world.command("replay").arg("--outdated").run(LIMIT).await?;
        assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(3), expected), "{}", ended.stderr);
        anyhow::Ok(ended.stderr)
    };
    let said = replay("3 pointers sent, 0 not\n").await?;
    assert!(said.contains("dataset p: replay --outdated needs a column penstock_object bigint in public.p"), "{said}");
    world.drainer().expect_line("object failed").start()?.finish(LIMIT).await?;
    let ledger = "SELECT key, state, reason FROM penstock.object_status WHERE dataset = 't' ORDER BY key";
    let stand = ["t/1 | imported | ∅", "t/2 | imported | gone", "t/3 | imported | too_many_rejects"];
    assert_eq!(world.database.rows(ledger).await?, stand);
    let checked = say(&world, "check", &[]).await?;
    let bucket = &world.pipeline.bucket;
    for line in [
        "1 of its objects stand by another recipe".to_owned(),
        "2 of its objects could not be made anew by this recipe".to_owned(),
        format!("s3://{bucket}/t/2: gone"),
        format!("s3://{bucket}/t/3: too_many_rejects"),
    ] {
        assert!(checked.contains(&line), "{line}: {checked}");
    }
    let said = replay("nothing to replay\n").await?;
    assert!(said.contains(&format!("s3://{bucket}/t/2 (dataset t): not made anew by this recipe: gone")), "{said}");
    // By yet another recipe they are tried again.
    change(&world, "input.id - 3", "input.id + 3")?;
    replay("3 pointers sent, 0 not\n").await?;
    world.drain(1).await?;
    let stand = ["t/1 | imported | ∅", "t/2 | imported | gone", "t/3 | imported | ∅"];
    assert_eq!(world.database.rows(ledger).await?, stand);
    Ok(())
}

/// What a dataset's match says now may lead elsewhere, or nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_pointer_comes_to_the_dataset_that_it_is_of() -> Result<()> {
    let table = |name: &str| format!("CREATE TABLE {name} (id bigint PRIMARY KEY, body text, penstock_object bigint);");
    let dataset = |name: &str| {
        format!(
            "[[dataset]]\nname = \"{name}\"\nmatch = \"s3://*/{name}/**\"\ntable = \"public.{name}\"\nkey = [\"id\"]\n\
             where = \"input.id::int > 0\"\n"
        )
    };
    let options = Options { route: Route::Nowhere, ..Options::default() };
    let world = World::new(options, &(table("a") + &table("b")), &(dataset("a") + &dataset("b"))).await?;
    for key in ["a/1", "none/2"] {
        world.pipeline.put(key, format!("{{\"id\":{},\"body\":\"b\"}}", &key[key.len() - 1..])).await?;
        let pointer = json!({"bucket": world.pipeline.bucket, "key": key, "dataset": "b"});
        world.pipeline.send(pointer.to_string()).await?;
    }
    world.drain(1).await?;
    let attempts = "SELECT string_agg(concat_ws(' ', dataset, key, state, attempts), ', ' ORDER BY key) FROM penstock.object_status";
    assert_eq!(world.database.value(attempts).await?, "b a/1 imported 1, b none/2 imported 1");
    say(&world, "replay", &["--dataset", "b", "--force"]).await?;
    world.drain(1).await?;
    assert_eq!(world.database.value(attempts).await?, "b a/1 imported 2, b none/2 imported 2");
    change(&world, "where = \"input.id::int > 0\"", "where = \"input.id::int > -1\"")?;
    say(&world, "replay", &["--outdated", "--dataset", "b"]).await?;
    world.drain(1).await?;
    assert_eq!(world.database.value(attempts).await?, "b a/1 imported 3, b none/2 imported 3");
    assert_eq!(say(&world, "replay", &["--outdated"]).await?, "nothing to replay\n");
    Ok(())
}
