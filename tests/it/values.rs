//! Row values stand in `penstock.rejects` and nowhere else, whatever Postgres says of them; and a row that Postgres
//! refuses is one reject, whatever its SQLSTATE.

use crate::{
    desk::Desk,
    world::{LIMIT, World},
};
use anyhow::{Context as _, Result};
use flate2::{Compression, write::GzEncoder};
use penstock_tests::{aws::Options, http, wait};
use std::io::Write as _;

const SECRET: &str = "SECRETVALUE";

/// A column, and a value of it that Postgres refuses in words that quote it. The trigger raises over texts.
const REFUSED: [(&str, &str); 17] = [
    ("inet", "SECRETVALUE"),
    ("int4range", "[SECRETVALUE,2)"),
    ("tsquery", "alice SECRETVALUE"),
    ("interval", "1 SECRETVALUE"),
    ("macaddr", "SECRETVALUE"),
    ("regclass", "SECRETVALUE"),
    ("regtype", "SECRETVALUE"),
    ("regconfig", "SECRETVALUE"),
    ("bit(3)", "SECRETVALUE"),
    ("xml", "<SECRETVALUE"),
    ("jsonpath", "$$SECRETVALUE"),
    ("point", "(SECRETVALUE)"),
    ("mood", "SECRETVALUE"),
    ("text CHECK (v NOT LIKE 'SECRET%')", "SECRETVALUE"),
    ("text UNIQUE", "SECRETVALUE"),
    ("text REFERENCES parent", "SECRETVALUE"),
    ("text[] CHECK (cardinality(v) < 2)", "{a,SECRETVALUE}"),
];

/// What a trigger raises with the value in its message.
const RAISED: [&str; 14] = [
    "P0001", "P0002", "P0004", "38000", "38003", "39004", "22P05", "23514", "44000", "45000", "54000", "XX000",
    "X0001", "21000",
];

/// The same, of codes by which the server speaks of itself.
const OF_SERVER: [&str; 5] = ["28000", "08001", "25006", "57P01", "53300"];

#[tokio::test(flavor = "multi_thread")]
async fn one_row_that_a_type_or_a_constraint_refuses_is_one_reject_and_its_value_stands_nowhere_else() -> Result<()> {
    for (column, value) in REFUSED {
        let tables = format!(
            "CREATE TYPE mood AS ENUM ('low'); CREATE TABLE parent (id text PRIMARY KEY); \
             CREATE TABLE t (id int PRIMARY KEY, v {column}); \
             DO $$ BEGIN INSERT INTO t VALUES (9, 'SECRETVALUE'); EXCEPTION WHEN OTHERS THEN NULL; END $$"
        );
        check(&tables, value, column).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_that_a_trigger_raises_over_is_one_reject_whatever_its_code() -> Result<()> {
    raise(&RAISED).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_that_a_trigger_raises_over_with_a_code_of_the_server_is_one_reject() -> Result<()> {
    raise(&OF_SERVER).await
}

async fn raise(codes: &[&str]) -> Result<()> {
    for code in codes {
        let tables = format!(
            "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ \
             BEGIN IF NEW.id = 2 THEN RAISE EXCEPTION 'no %', NEW.v USING ERRCODE = '{code}', CONSTRAINT = NEW.v; END IF; \
             RETURN NEW; END $$; CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()"
        );
        check(&tables, SECRET, code).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_function_and_what_it_calls_refuse_are_rejects_each_and_the_others_load() -> Result<()> {
    let tables = "CREATE TABLE known (id int); CREATE SEQUENCE s; CREATE TABLE t (id int PRIMARY KEY, v text); \
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        CASE NEW.id WHEN 2 THEN EXECUTE format('INSERT INTO public.%I VALUES (1)', NEW.v); WHEN 3 THEN PERFORM currval('public.s'); \
        WHEN 4 THEN RAISE 'no' USING ERRCODE = '53100'; WHEN 5 THEN RAISE 'no' USING ERRCODE = '58030'; ELSE NULL; END CASE; \
        RETURN NEW; END $$; CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()";
    let desk = Desk::new(tables, "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 4").await?;
    let path = desk.write("k.csv", "id,v\n1,known\n2,unknown\n3,\n4,\n5,\n6,known\n")?;
    let ended = desk.run(&["load", &path]).await?;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(desk.ledger().await?, ["imported 6 = 2 + 0 + 4"]);
    let classes = "SELECT row_number || ' ' || class FROM penstock.rejects ORDER BY row_number";
    assert_eq!(desk.database.rows(classes).await?, ["2 trigger", "3 trigger", "4 trigger", "5 trigger"]);
    Ok(())
}

/// What a dataset does with fields that no column takes, and which of the trigger's errors its rows meet.
const DATASETS: [(&str, &str); 6] = [
    ("plain", "max_rejects = 0"),
    ("rejecting", "on_new_field = \"reject\"\nmax_rejects = 0"),
    ("adding", "on_new_field = \"add_column\"\nmax_rejects = 0"),
    ("keeping", "on_new_field = \"extras\"\nextras_column = \"extra\"\nmax_rejects = 0"),
    ("P0001", "max_rejects = 0"),
    ("0A000", "max_rejects = 0"),
];

#[tokio::test(flavor = "multi_thread")]
async fn no_failure_of_any_class_repeats_a_value_anywhere_but_in_the_rejects() -> Result<()> {
    let mut datasets = String::from("\n[worker]\nbrake_secs = 0\n");
    let mut tables = String::from(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE EXCEPTION 'no %', NEW.v USING ERRCODE = TG_TABLE_NAME, HINT = NEW.v, COLUMN = NEW.v; END $$;",
    );
    for (name, settings) in DATASETS {
        datasets.push_str(&format!(
            "[[dataset]]\nname = \"{name}\"\nmatch = \"s3://*/{name}/**\"\ntable = 'public.\"{name}\"'\nkey = [\"id\"]\n{settings}\n"
        ));
        tables.push_str(&format!("CREATE TABLE \"{name}\" (id int PRIMARY KEY, v text, extra jsonb);"));
        if name.starts_with(|c: char| c.is_ascii_digit() || c == 'P') {
            let trigger = "BEFORE INSERT ON public.{name} FOR EACH ROW EXECUTE FUNCTION f()";
            let trigger = trigger.replace("{name}", &format!("\"{name}\""));
            tables.push_str(&format!("CREATE TRIGGER g {trigger};"));
        }
    }
    let world = World::new(Options::default(), &tables, &datasets).await?;
    let mut n_objects = 0;
    for (name, _) in DATASETS {
        for (file, body) in failing_objects(name)? {
            world.pipeline.put(&format!("{name}/{file}"), body).await?;
            n_objects += 1;
        }
    }
    // Asking for the state of objects while the worker makes the schema may end in a deadlock.
    world.command("migrate").run(LIMIT).await?;
    let worker = world.worker().expect_line("object failed").start()?;
    let failed = "SELECT count(*) FROM penstock.object_status WHERE state = 'failed'";
    let all = n_objects.to_string();
    wait::until("every object has failed", LIMIT, || async {
        Ok(world.database.value(failed).await.is_ok_and(|n| n == all).then_some(()))
    })
    .await?;
    let line: serde_json::Value =
        serde_json::from_str(&worker.wait_for_line("serving health and metrics", LIMIT).await?)?;
    let address = line["listen"].as_str().context("an address")?.to_owned();
    world.pipeline.wait_until_empty(LIMIT).await?;
    let mut said = vec![
        ("/readyz", http::get(&format!("http://{address}/readyz")).await?.body),
        ("/metrics", http::get(&format!("http://{address}/metrics")).await?.body),
    ];
    worker.terminate(LIMIT).await?;
    said.push(("the log", worker.stderr()));
    for arguments in [&["--state", "failed"][..], &["--json"], &[]] {
        let shown = world.command("status").args(arguments.iter().copied()).run(LIMIT).await?;
        said.push(("status", shown.stdout + &shown.stderr));
    }
    let dead = world.pipeline.take_dead_letters().await?;
    assert_eq!(dead.len(), n_objects);
    said.extend(dead.iter().map(|letter| ("a dead letter", format!("{} {:?}", letter.body, letter.attributes))));
    let of_ledger = "SELECT relname FROM pg_class WHERE relnamespace = 'penstock'::regnamespace \
                     AND relkind IN ('r', 'p', 'v') AND relname NOT LIKE 'reject%'";
    for table in world.database.rows(of_ledger).await? {
        let rows = world.database.rows(&format!("SELECT t::text FROM penstock.{table} t")).await?;
        said.push(("the ledger", format!("{table}: {}", rows.join("\n"))));
    }
    for (place, text) in said {
        let leaked = text.lines().find(|line| line.contains(SECRET));
        assert_eq!(leaked, None, "{place}");
    }
    Ok(())
}

/// Returns objects that fail, each in a way of its own, with a value in reach of whatever complains.
fn failing_objects(dataset: &str) -> Result<Vec<(&'static str, Vec<u8>)>> {
    if !dataset.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Ok(vec![("raised.csv", format!("id,v\n1,{SECRET}\n").into())]);
    }
    let rows = format!("id,v\n{}", format!("1,{SECRET}\n").repeat(1000));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(rows.as_bytes())?;
    let mut cut = gzip.finish()?;
    cut.truncate(200);
    let mut zstd = zstd::encode_all(rows.as_bytes(), 1)?;
    zstd.truncate(zstd.len() - 5);
    let text = |text: &str| text.replace("SECRET", SECRET).into_bytes();
    let bytes = |before: &str, after: &[u8]| [before.replace("SECRET", SECRET).as_bytes(), after].concat();
    Ok(vec![
        ("headerless.csv", text("4711,SECRET,90000\n4712,x,1\n")),
        ("wide.csv", text("4711,SECRET,a,b,c,d,e,f,SECRET\n1,2,3,4,5,6,7,8,9\n")),
        ("twice.csv", text("v,SECRET,SECRET\n1,x,y\n")),
        ("type.csv", text("id,v\nSECRET,x\n")),
        ("null.csv", text("id,v\n,SECRET\n")),
        ("width.csv", text("id,v\n1,x,SECRET\n")),
        ("unclosed.csv", text("id,v\n1,\"SECRET\n2,y\n")),
        ("torn.csv", text("id,v\n1,\"a\"SECRET,\"\n2,\"SECRET\n")),
        ("not-utf8.csv", bytes("id,v\n1,SECRET", b"\xff\n")),
        ("header-not-utf8.csv", bytes("id,SECRET", b"\xff\n1,x\n")),
        ("cut.json", text("[{\"id\":1,\"v\":\"SECRET")),
        ("bare.json", text("{\"id\":SECRET}")),
        ("scalar.json", text("\"SECRET\"")),
        ("types.json", text("{\"id\":\"SECRET\",\"v\":{\"SECRET\":1}}")),
        ("stranger.json", text("{\"SECRET\":\"SECRET\"}")),
        ("twice.json", text("{\"id\":1,\"id\":\"SECRET\"}")),
        ("deep.json", text(&format!("{{\"id\":{}\"SECRET\"", "[".repeat(2000)))),
        ("lines.ndjson", text("{\"id\":SECRET\nSECRET\n")),
        ("lines.parquet", text("PAR1SECRETSECRETSECRETPAR1")),
        ("block.avro", bytes("Obj\u{1}", text("\u{4}\u{16}avro.schemaSECRETSECRET").as_slice())),
        ("cut.csv.gz", cut),
        ("cut.csv.zst", zstd),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_entry_that_is_too_long_is_one_reject() -> Result<()> {
    let tables = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE INDEX ON t (v)";
    let long: String = (0..20_000u64).map(|n| char::from(b'a' + (n * n * 7919 % 8191 % 26) as u8)).collect();
    check(tables, &format!("{SECRET}{long}"), "54000").await
}

/// Loads three rows of which the second is refused; then with `max_rejects = 0`, which fails the object.
async fn check(tables: &str, value: &str, what: &str) -> Result<()> {
    let file = format!("id,v\n1,\n2,\"{value}\"\n3,\n");
    for technique in ["auto", "staged"] {
        let dataset = format!("table = \"t\"\nkey = [\"id\"]\ntechnique = \"{technique}\"\nmax_rejects");
        let desk = Desk::new(tables, &format!("{dataset} = 1")).await?;
        let path = desk.write("k.csv", &file)?;
        let ended = desk.run(&["load", &path]).await?;
        let error = desk.database.rows("SELECT error FROM penstock.object_status").await?;
        assert_eq!(ended.status.code(), Some(0), "{what}: {error:?} {}", ended.stderr);
        assert_eq!(desk.ledger().await?, ["imported 3 = 2 + 0 + 1"], "{what}");
        assert!(!ended.stderr.contains(SECRET) && !ended.stdout.contains(SECRET), "{what}: {}", ended.stderr);
        let kept = "SELECT convert_from(payload, 'UTF8') LIKE '%SECRETVALUE%' FROM penstock.rejects";
        assert_eq!(desk.database.rows(kept).await?, ["true"], "{what}");

        let desk = Desk::new(tables, &format!("{dataset} = 0")).await?;
        let path = desk.write("k.csv", &file)?;
        let ended = desk.run(&["load", &path]).await?;
        assert_eq!(ended.status.code(), Some(3), "{what}");
        let error = desk.database.value("SELECT error FROM penstock.object_status").await?;
        for text in [&error, &ended.stdout, &ended.stderr] {
            assert!(!text.contains(SECRET), "{what}: {text}");
        }
    }
    Ok(())
}
