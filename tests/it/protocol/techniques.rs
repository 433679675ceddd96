//! Whichever way rows take, the table and the ledger end the same.

use super::bench::{Bench, event, forced};
use anyhow::Result;

const TABLE: &str = "CREATE TABLE t (
    a text COLLATE \"C\", b int, v int CHECK (v <> 13), at timestamptz, note text DEFAULT 'none',
    penstock_object bigint, penstock_row bigint, penstock_loaded_at timestamptz, PRIMARY KEY (a, b))";

/// Loads the same objects by one technique; returns what each said, the rows, and the rejects.
async fn load_all(technique: &str, dataset: &str) -> Result<(Vec<String>, Vec<String>, Vec<String>)> {
    let bench =
        Bench::new(TABLE, &format!("{dataset}\ntable = \"public.t\"\nmax_rejects = 3\ntechnique = \"{technique}\""))
            .await?;
    let row = |a: &str, b: i32, v: i32, at: &str| {
        format!("{{\"a\": \"{a}\", \"b\": {b}, \"v\": {v}, \"at\": \"2026-01-{at}T00:00:00Z\"}}\n")
    };
    let noted = "{\"a\": \"n\", \"b\": 1, \"note\": \"mine\"}\n{\"a\": \"n\", \"b\": 0}\n{\"a\": \"n\", \"b\": 2, \"note\": null}\n";
    let bodies = [
        ("plain", row("x", 2, 1, "05") + &row("x", 1, 1, "05") + &row("w", 7, 1, "05")),
        ("bare", "{\"a\": \"y\", \"b\": 1}\n{\"a\": \"y\", \"b\": 0}\n".to_owned()),
        ("noted", noted.to_owned()),
        ("overlaps", row("x", 2, 2, "04") + &row("z", 1, 2, "06") + &row("w", 7, 2, "06")),
        ("twice", row("d", 1, 1, "09") + &row("d", 2, 1, "01") + &row("d", 1, 2, "08") + &row("d", 1, 3, "09")),
        ("refused", row("r", 1, 13, "01") + &row("r", 2, 1, "01") + "{\"a\": \"r\", \"b\": \"x\"}\n"),
        ("plain", row("x", 2, 9, "07") + &row("x", 1, 1, "05")),
    ];
    let mut said = Vec::new();
    for (place, (key, body)) in bodies.iter().enumerate() {
        let record = event(&bench.shelf.put(key, body), &format!("{place:02}"));
        said.push(bench.settle(&record).await?);
        said.push(bench.settle(&record).await?);
        said.push(bench.settle(&forced(record)).await?);
    }
    let rows = "SELECT a, b, v, at, note, penstock_row, s.key, penstock_loaded_at IS NOT NULL
        FROM t JOIN penstock.object_status s ON s.id = penstock_object ORDER BY a, b, v, penstock_row";
    let rejects = "SELECT key, row_number, class, column_name FROM penstock.rejects ORDER BY key, row_number";
    Ok((said, bench.rows(rows).await?, bench.rows(rejects).await?))
}

async fn check(dataset: &str) -> Result<()> {
    let staged = load_all("staged", dataset).await?;
    assert!(staged.1.len() > 10 && staged.2.len() == 2, "{staged:?}");
    for technique in ["direct", "auto"] {
        assert_eq!(load_all(technique, dataset).await?, staged, "{technique}");
    }
    Ok(())
}

#[tokio::test]
async fn every_technique_upserts_the_same() -> Result<()> {
    check("key = [\"a\", \"b\"]").await
}

#[tokio::test]
async fn every_technique_upserts_by_newer_the_same() -> Result<()> {
    check("key = [\"a\", \"b\"]\nnewer = \"at\"").await
}

#[tokio::test]
async fn direct_loads_say_so_and_fall_back_when_a_key_is_there() -> Result<()> {
    let bench =
        Bench::new("CREATE TABLE t (id bigint PRIMARY KEY, v int)", "table = \"public.t\"\nkey = [\"id\"]").await?;
    bench.put("one", "{\"id\": 2, \"v\": 1}\n{\"id\": 1, \"v\": 1}\n", "01").await?;
    bench.put("two", "{\"id\": 3, \"v\": 1}\n{\"id\": 2, \"v\": 2}\n", "01").await?;
    let techniques =
        "SELECT h.key, o.technique FROM penstock.object o JOIN penstock.head h ON h.id = o.head_id ORDER BY 1";
    assert_eq!(bench.rows(techniques).await?, ["one | direct", "two | staged"]);
    assert_eq!(bench.rows("SELECT id, v FROM t ORDER BY id").await?, ["1 | 1", "2 | 2", "3 | 1"]);
    Ok(())
}

#[tokio::test]
async fn rules_are_followed() -> Result<()> {
    let tables = "CREATE TABLE t (id bigint, v int); CREATE TABLE other (id bigint, v int);
        CREATE RULE away AS ON INSERT TO t DO INSTEAD INSERT INTO other VALUES (NEW.id, NEW.v)";
    let bench = Bench::new(tables, "table = \"public.t\"\nmode = \"append\"\ntechnique = \"direct\"").await?;
    bench.put("one", "{\"id\": 2, \"v\": 1}\n", "01").await?;
    assert_eq!(bench.rows("SELECT (SELECT count(*) FROM t), id FROM other").await?, ["0 | 2"]);
    Ok(())
}
