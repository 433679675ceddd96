//! Row values stand in `penstock.rejects` and nowhere else, whatever Postgres says of them; and a row that Postgres
//! refuses is one reject, whatever its SQLSTATE.

use crate::desk::Desk;
use anyhow::Result;

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
    for code in RAISED {
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
async fn what_a_trigger_raises_of_other_classes_is_not_repeated_either() -> Result<()> {
    for code in ["42703", "3F000", "55000", "28000", "0A000"] {
        let tables = format!(
            "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ \
             BEGIN IF NEW.id = 2 THEN RAISE EXCEPTION 'no %', NEW.v USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()"
        );
        let desk = Desk::new(&tables, "table = \"t\"\nkey = [\"id\"]").await?;
        let file = desk.write("k.csv", format!("id,v\n1,\n2,{SECRET}\n"))?;
        let importer = desk.importer(&["load", &file]).start()?;
        let said = "SELECT error FROM penstock.object_status WHERE error IS NOT NULL";
        let error = penstock_tests::wait::until("an error", crate::world::LIMIT, || async {
            Ok(desk.database.rows(said).await?.pop())
        })
        .await?;
        importer.kill()?;
        assert!(!error.contains(SECRET), "{code}: {error}");
    }
    Ok(())
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
