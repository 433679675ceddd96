//! Upsert needs an index that keeps the keys apart; without one no row is written.

use crate::{desk::Desk, world::LIMIT};
use anyhow::Result;
use penstock_tests::proxy::{Action, Rule};

const KEYED: &str = "table = \"t\"\nkey = [\"id\"]";
const ROWS: &str = "{\"id\": 1, \"v\": \"a\"}\n{\"id\": 2, \"v\": \"b\"}\n";

/// Indexes that do not keep `id` apart, on `t (id int, v text)`.
const USELESS: [(&str, &str); 9] = [
    ("none", "SELECT"),
    ("not unique", "CREATE INDEX ON t (id)"),
    ("partial", "CREATE UNIQUE INDEX ON t (id) WHERE id > 0"),
    ("of an expression", "CREATE UNIQUE INDEX ON t ((id + 0))"),
    ("of an expression beside it", "CREATE UNIQUE INDEX ON t (id, (v || 'x'))"),
    ("of more columns", "CREATE UNIQUE INDEX ON t (id, v)"),
    ("deferrable", "ALTER TABLE t ADD UNIQUE (id) DEFERRABLE"),
    ("an exclusion", "ALTER TABLE t ADD EXCLUDE (id WITH =)"),
    (
        "invalid",
        "CREATE UNIQUE INDEX u ON t (id); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'u'::regclass",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn upsert_is_refused_unless_an_index_keeps_exactly_the_key_apart() -> Result<()> {
    for technique in ["auto", "direct", "staged"] {
        let dataset = format!("{KEYED}\ntechnique = \"{technique}\"");
        for (name, index) in USELESS {
            let desk = Desk::new(&format!("CREATE TABLE t (id int, v text); {index}"), &dataset).await?;
            assert_eq!(desk.load("k.ndjson", ROWS).await?, 3, "{name}, {technique}");
            assert_eq!(desk.ledger().await?, ["failed(schema)"], "{name}, {technique}");
            assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "0", "{name}, {technique}");
            let error = desk.database.value("SELECT error FROM penstock.object_status").await?;
            assert!(error.contains("CREATE UNIQUE INDEX ON \"public\".\"t\" (\"id\")"), "{name}: {error}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_table_whose_unique_key_has_another_column_is_refused() -> Result<()> {
    let table = "CREATE TABLE t (id int, v text, PRIMARY KEY (id, v)) PARTITION BY LIST (v); \
                 CREATE TABLE t1 PARTITION OF t DEFAULT";
    let desk = Desk::new(table, KEYED).await?;
    assert_eq!(desk.load("k.ndjson", ROWS).await?, 3);
    assert_eq!(desk.ledger().await?, ["failed(schema)"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_from_which_others_inherit_is_refused_also_when_the_first_of_them_comes_meanwhile() -> Result<()> {
    let child = "CREATE TABLE child () INHERITS (t)";
    for technique in ["direct", "staged"] {
        let dataset = format!("{KEYED}\ntechnique = \"{technique}\"");
        let desk = Desk::new(&format!("CREATE TABLE t (id int PRIMARY KEY, v text); {child}"), &dataset).await?;
        assert_eq!(desk.load("k.ndjson", ROWS).await?, 3);
        assert_eq!(desk.ledger().await?, ["failed(schema)"]);
        let error = desk.database.value("SELECT error FROM penstock.object_status").await?;
        assert!(error.contains("other tables inherit from it"), "{error}");
        let checked = desk.run(&["check"]).await?;
        assert!(checked.stdout.contains("other tables inherit from it"), "{}", checked.stdout);
        // It goes, and comes back between the look at the catalog and the rows.
        desk.database.execute("DROP TABLE child").await?;
        let file = desk.write("l.ndjson", ROWS)?;
        let proxy = desk.proxy().await?;
        let fence = proxy.add(Rule::when_client_sends("FOR NO KEY UPDATE", Action::HoldRequest));
        let load = desk.importer_through(&proxy, &["load", &file]).start()?;
        fence.fired(1, LIMIT).await?;
        desk.database.execute(child).await?;
        fence.release();
        assert_eq!(load.wait_exit(LIMIT).await?.code(), Some(3));
        assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "0", "{technique}");
        assert_eq!(desk.ledger().await?, ["failed(schema)"; 2]);
    }
    let desk =
        Desk::new(&format!("CREATE TABLE t (id int, v text); {child}"), "table = \"t\"\nmode = \"append\"").await?;
    assert_eq!(desk.load("k.ndjson", ROWS).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_on_a_part_of_the_key_is_refused() -> Result<()> {
    let desk = Desk::new("CREATE TABLE t (id int UNIQUE, v text)", "table = \"t\"\nkey = [\"id\", \"v\"]").await?;
    assert_eq!(desk.load("k.ndjson", ROWS).await?, 3);
    let error = desk.database.value("SELECT error FROM penstock.object_status").await?;
    assert!(error.contains("CREATE UNIQUE INDEX ON \"public\".\"t\" (\"id\", \"v\")"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_takes_more_columns_along_or_another_order_will_do() -> Result<()> {
    for index in ["CREATE UNIQUE INDEX ON t (id) INCLUDE (v)", "CREATE UNIQUE INDEX ON t (id DESC NULLS LAST)"] {
        let desk = Desk::new(&format!("CREATE TABLE t (id int, v text); {index}"), KEYED).await?;
        assert_eq!(desk.load("k.ndjson", ROWS).await?, 0, "{index}");
        assert_eq!(desk.load("l.ndjson", ROWS).await?, 0, "{index}");
        assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "2", "{index}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upsert_without_an_index_is_refused_before_its_object_is_read() -> Result<()> {
    let desk = Desk::new("CREATE TABLE t (id int, v text)", KEYED).await?;
    assert_eq!(desk.load("k.parquet", "PAR1 and nothing else").await?, 3);
    assert_eq!(desk.ledger().await?, ["failed(schema)"], "and not corrupt");
    Ok(())
}

/// The index goes when the catalog was read and the head is about to be locked.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_goes_away_under_a_running_importer_stops_it_before_the_first_row() -> Result<()> {
    for technique in ["direct", "staged"] {
        let dataset = format!("{KEYED}\ntechnique = \"{technique}\"");
        let desk = Desk::new("CREATE TABLE t (id int PRIMARY KEY, v text)", &dataset).await?;
        desk.database.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')").await?;
        let file = desk.write("k.ndjson", ROWS)?;
        let proxy = desk.proxy().await?;
        let fence = proxy.add(Rule::when_client_sends("FOR NO KEY UPDATE", Action::HoldRequest));
        let load = desk.importer_through(&proxy, &["load", &file]).start()?;
        fence.fired(1, LIMIT).await?;
        desk.database.execute("ALTER TABLE t DROP CONSTRAINT t_pkey").await?;
        fence.release();
        let ended = load.wait_exit(LIMIT).await?;
        assert_eq!(ended.code(), Some(3), "{technique}");
        assert_eq!(desk.ledger().await?, ["failed(schema)"], "{technique}");
        assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "2", "{technique}");
    }
    Ok(())
}

/// The index is to go when it was looked for and no row was written yet.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_found_stays_until_the_rows_are_written() -> Result<()> {
    let desk =
        Desk::new("CREATE TABLE t (id int PRIMARY KEY, v text)", &format!("{KEYED}\ntechnique = \"staged\"")).await?;
    let file = desk.write("k.ndjson", ROWS)?;
    let proxy = desk.proxy().await?;
    let merge = proxy.add(Rule::when_client_sends("SAVEPOINT penstock", Action::HoldRequest));
    let load = desk.importer_through(&proxy, &["load", &file]).start()?;
    merge.fired(1, LIMIT).await?;
    let dropped = desk.database.execute("SET lock_timeout = '200ms'; ALTER TABLE t DROP CONSTRAINT t_pkey").await;
    assert!(dropped.is_err(), "it waits for who writes");
    merge.release();
    assert_eq!(load.wait_exit(LIMIT).await?.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_made_anew_under_a_running_importer_will_do() -> Result<()> {
    let desk = Desk::new("CREATE TABLE t (id int PRIMARY KEY, v text)", KEYED).await?;
    let file = desk.write("k.ndjson", ROWS)?;
    let proxy = desk.proxy().await?;
    let fence = proxy.add(Rule::when_client_sends("FOR NO KEY UPDATE", Action::HoldRequest));
    let load = desk.importer_through(&proxy, &["load", &file]).start()?;
    fence.fired(1, LIMIT).await?;
    desk.database.execute("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD UNIQUE (id)").await?;
    fence.release();
    assert_eq!(load.wait_exit(LIMIT).await?.code(), Some(0));
    assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_are_not_replayed_without_an_index() -> Result<()> {
    let dataset = format!("{KEYED}\nmax_rejects = 5");
    let desk = Desk::new("CREATE TABLE t (id int PRIMARY KEY, n smallint)", &dataset).await?;
    assert_eq!(desk.load("k.csv", "id,n\n1,1\n2,70000\n").await?, 0);
    desk.database.execute("ALTER TABLE t ALTER n TYPE int; ALTER TABLE t DROP CONSTRAINT t_pkey").await?;
    let ended = desk.run(&["rejects", "--replay"]).await?;
    let said = ended.stdout + &ended.stderr;
    assert!(said.contains("needs a unique index"), "{said}");
    assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "1");
    assert_eq!(desk.rejects().await?, ["2 range n"]);
    Ok(())
}
