//! Rows that only the server can refuse: their neighbours load, in the same transaction.

use crate::{
    desk::Desk,
    world::{LIMIT, at_commit_of_rows},
};
use anyhow::Result;
use penstock_tests::proxy::{Action, Rule};

/// The most an object with a handful of refused rows may cost, from the first look at the ledger to its commit, and two
/// to forget what it mends.
const MAX_ROUND_TRIPS: usize = 62;

const CHECKED: &str = "CREATE TABLE t (id bigint PRIMARY KEY, n int CONSTRAINT n_is_small CHECK (n < 1000000))";
const KEYED: &str = "table = \"t\"\nkey = [\"id\"]";
const APPENDED: &str = "table = \"t\"\nmode = \"append\"\nmax_rejects = 5";

#[tokio::test(flavor = "multi_thread")]
async fn three_of_ten_thousand_rows_breaking_a_check_are_rejects_of_one_commit() -> Result<()> {
    for dataset in [KEYED, "table = \"t\"\nmode = \"append\""] {
        let desk = Desk::new(CHECKED, dataset).await?;
        let file = desk.write("k.csv", ten_thousand_rows(&[7, 5000, 10_000]))?;
        let proxy = desk.proxy().await?;
        let look_up = proxy.add(Rule::when_client_sends("LEFT JOIN LATERAL", Action::HoldRequest));
        let load = desk.importer_through(&proxy, &["load", &file]).start()?;
        look_up.fired(1, LIMIT).await?;
        let n_connecting = proxy.round_trips() - 1;
        let committing = at_commit_of_rows(&proxy, Action::HoldRequest);
        look_up.release();
        let commit = committing.await?;
        let seen = "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM penstock.rejects), \
                    (SELECT state FROM penstock.object_status)";
        assert_eq!(desk.database.rows(seen).await?, ["0 | 0 | importing"], "{dataset}");
        commit.release();
        load.wait_exit(LIMIT).await?;
        assert_eq!(desk.database.rows(seen).await?, ["9997 | 3 | imported"], "{dataset}");
        assert_eq!(desk.ledger().await?, ["imported 10000 = 9997 + 0 + 3"], "{dataset}");
        let named = "SELECT row_number, class, message LIKE '%\"n_is_small\"%', convert_from(payload, 'UTF8') \
                     FROM penstock.rejects ORDER BY 1";
        let expected = [
            "7 | check | true | {\"n\": 1000000, \"id\": 7}",
            "5000 | check | true | {\"n\": 1000000, \"id\": 5000}",
            "10000 | check | true | {\"n\": 1000000, \"id\": 10000}",
        ];
        assert_eq!(desk.database.rows(named).await?, expected, "{dataset}");
        let n_round_trips = proxy.round_trips() - n_connecting;
        println!("{n_round_trips} round trips after {n_connecting} to connect and to look at the schema");
        assert!(n_round_trips <= MAX_ROUND_TRIPS, "{n_round_trips} round trips");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn more_refused_rows_than_allowed_fail_the_object_whole() -> Result<()> {
    let desk = Desk::new(CHECKED, "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 2").await?;
    assert_eq!(desk.load("k.csv", ten_thousand_rows(&[7, 5000, 10_000])).await?, 3);
    assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "0");
    assert_eq!(desk.ledger().await?, ["failed(too_many_rejects)"]);
    assert_eq!(desk.rejects().await?, [""; 0]);
    let error = desk.database.value("SELECT error FROM penstock.object_status").await?;
    assert!(error.contains("constraint n_is_small") && !error.contains("1000000"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_merge_needs_more_temporary_files_than_the_role_may_have_fails_alone() -> Result<()> {
    let desk =
        Desk::new("CREATE TABLE t (id text PRIMARY KEY)", "table = \"t\"\nkey = [\"id\"]\ntechnique = \"staged\"")
            .await?;
    desk.database
        .execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET temp_file_limit = 64', current_database()); END $$")
        .await?;
    // More than a session sorts in memory.
    let keys = (0..200_000u64).map(|n| format!("{}{:0>200}\n", n * 7919 % 200_000, n));
    assert_eq!(desk.load("k.csv", format!("id\n{}", keys.collect::<String>())).await?, 3);
    assert_eq!(desk.ledger().await?, ["failed(limits)"]);
    let error = desk.database.value("SELECT error FROM penstock.object_status").await?;
    assert!(error.contains("SQLSTATE 53400"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_refused_by_decoding_and_by_the_server_count_together() -> Result<()> {
    let file = "id,n\n1,1\n2,x\n3,1000000\n4,4\n";
    let desk = Desk::new(CHECKED, "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 1").await?;
    assert_eq!(desk.load("k.csv", file).await?, 3);
    assert_eq!(desk.ledger().await?, ["failed(too_many_rejects)"]);
    let desk = Desk::new(CHECKED, "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 2").await?;
    assert_eq!(desk.load("k.csv", file).await?, 0);
    assert_eq!(desk.ledger().await?, ["imported 4 = 2 + 0 + 2"]);
    assert_eq!(desk.rejects().await?, ["2 type n", "3 check"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_two_rows_with_one_key_stands_although_a_neighbour_is_refused() -> Result<()> {
    let desk = Desk::new(CHECKED, "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 2").await?;
    assert_eq!(desk.load("k.csv", "id,n\n1,1\n2,1000000\n3,3\n1,9\n3,1000000\n").await?, 0);
    assert_eq!(desk.ledger().await?, ["imported 5 = 2 + 1 + 2"]);
    assert_eq!(desk.database.rows("SELECT * FROM t ORDER BY id").await?, ["1 | 9", "3 | 3"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_of_the_newer_column_is_no_newer_row_although_a_neighbour_is_refused() -> Result<()> {
    let table =
        format!("{CHECKED}; ALTER TABLE t ADD at int DEFAULT 5; INSERT INTO t VALUES (4, 44, 1), (5, 55, NULL)");
    let desk = Desk::new(&table, "table = \"t\"\nkey = [\"id\"]\nnewer = \"at\"\nmax_rejects = 1").await?;
    assert_eq!(desk.load("k.csv", "id,n\n1,1\n2,1000000\n1,9\n3,3\n4,4\n5,5\n").await?, 0);
    assert_eq!(desk.ledger().await?, ["imported 6 = 3 + 2 + 1"]);
    let rows = desk.database.rows("SELECT * FROM t ORDER BY id").await?;
    assert_eq!(rows, ["1 | 9 | 5", "3 | 3 | 5", "4 | 44 | 1", "5 | 5 | ∅"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_replaces_the_rows_although_some_of_its_own_are_refused() -> Result<()> {
    let table = format!("{CHECKED}; ALTER TABLE t ADD penstock_object bigint");
    let desk = Desk::new(&table, "table = \"t\"\nmode = \"replace\"\nmax_rejects = 2").await?;
    assert_eq!(desk.load("k.csv", "id,n\n1,1\n2,2\n").await?, 0);
    assert_eq!(desk.load("k.csv", "id,n\n2,20\n3,1000000\n4,4\n").await?, 0);
    assert_eq!(desk.database.rows("SELECT id, n FROM t ORDER BY id").await?, ["2 | 20", "4 | 4"]);
    assert_eq!(desk.ledger().await?, ["imported 2 = 2 + 0 + 0", "imported 3 = 2 + 0 + 1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn not_null_is_refused_by_decoding_or_by_the_server() -> Result<()> {
    check("CREATE TABLE t (id int, v text NOT NULL)", "id,v\n1,a\n2,\n3,c\n", "2 not_null v", "1 | a;3 | c").await?;
    let domain = "CREATE DOMAIN filled AS text NOT NULL; CREATE TABLE t (id int, v filled)";
    check(domain, "id,v\n1,a\n2,\n3,c\n", "2 not_null", "1 | a;3 | c").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_key_without_its_row_is_refused() -> Result<()> {
    for deferred in ["", "DEFERRABLE INITIALLY DEFERRED"] {
        let tables = format!(
            "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1), (3); \
             CREATE TABLE t (id int, parent int REFERENCES parent {deferred})"
        );
        check(&tables, "id,parent\n1,1\n2,2\n3,3\n", "2 foreign_key", "1 | 1;3 | 3").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_unique_index_is_refused_and_the_first_of_two_rows_stands() -> Result<()> {
    let table = "CREATE TABLE t (id int PRIMARY KEY, mail text UNIQUE); INSERT INTO t VALUES (9, 'z')";
    let desk = Desk::new(table, "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 5").await?;
    assert_eq!(desk.load("k.csv", "id,mail\n1,a\n2,b\n3,a\n4,z\n5,c\n").await?, 0);
    assert_eq!(desk.rejects().await?, ["3 unique", "4 unique"]);
    assert_eq!(desk.database.rows("SELECT * FROM t ORDER BY id").await?, ["1 | a", "2 | b", "5 | c", "9 | z"]);
    assert_eq!(desk.ledger().await?, ["imported 5 = 3 + 0 + 2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusion_is_refused() -> Result<()> {
    let table = "CREATE TABLE t (id int, during int4range, EXCLUDE USING gist (during WITH &&))";
    let file = "id,during\n1,\"[1,5)\"\n2,\"[4,6)\"\n3,\"[5,9)\"\n";
    check(table, file, "2 exclusion", "1 | [1,5);3 | [5,9)").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_outside_its_domain_is_refused() -> Result<()> {
    let table = "CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0); CREATE TABLE t (id int, n even)";
    check(table, "id,n\n1,2\n2,3\n3,4\n", "2 check", "1 | 2;3 | 4").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_is_none_of_its_enum_is_refused() -> Result<()> {
    let table = "CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TABLE t (id int, m mood)";
    check(table, "id,m\n1,glad\n2,grey\n3,sad\n", "2 type", "1 | glad;3 | sad").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_trigger_raises_over_is_refused() -> Result<()> {
    for raised in ["'no'", "'no' USING ERRCODE = 'check_violation'", "'no' USING ERRCODE = 'X0001'"] {
        let table = format!(
            "CREATE TABLE t (id int, n int); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ \
             BEGIN IF NEW.n = 2 THEN RAISE EXCEPTION {raised}; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()"
        );
        let class = if raised.contains("check_violation") { "2 check" } else { "2 trigger" };
        check(&table, "id,n\n1,1\n2,2\n3,3\n", class, "1 | 1;3 | 3").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_is_broken_fails_the_object_rather_than_its_rows() -> Result<()> {
    let table = "CREATE TABLE t (id int, n int); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ \
         BEGIN PERFORM nowhere.f(); RETURN NULL; END $$; \
         CREATE TRIGGER g BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION f()";
    let desk = Desk::new(table, APPENDED).await?;
    assert_eq!(desk.load("k.csv", "id,n\n1,1\n2,2\n3,3\n").await?, 3);
    assert_eq!(desk.ledger().await?, ["failed(schema)"]);
    assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_partition_is_refused() -> Result<()> {
    let table = "CREATE TABLE t (id int, n int) PARTITION BY RANGE (n); \
                 CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)";
    check(table, "id,n\n1,1\n2,20\n3,3\n", "2 partition", "1 | 1;3 | 3").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_generated_column_cannot_be_computed_is_refused() -> Result<()> {
    let table = "CREATE TABLE t (id int, n int, share int GENERATED ALWAYS AS (100 / n) STORED)";
    check(table, "id,n\n1,1\n2,0\n3,4\n", "2 type", "1 | 1 | 100;3 | 4 | 25").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_postgres_cannot_cast_is_refused() -> Result<()> {
    let file = "id,r\n1,\"[1,5)\"\n2,\"[9,6)\"\n3,x\n4,empty\n";
    let desk = Desk::new("CREATE TABLE t (id int, r int4range)", APPENDED).await?;
    assert_eq!(desk.load("k.csv", file).await?, 0);
    assert_eq!(desk.rejects().await?, ["2 type", "3 type"]);
    assert_eq!(desk.database.rows("SELECT * FROM t ORDER BY id").await?, ["1 | [1,5)", "4 | empty"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_type_calls_an_internal_error_is_refused() -> Result<()> {
    let table = "CREATE FUNCTION odd(n int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF n = 2 THEN \
                 RAISE EXCEPTION 'n is odd' USING ERRCODE = 'XX000'; END IF; RETURN true; END $$; \
                 CREATE DOMAIN even AS int CHECK (odd(VALUE)); CREATE TABLE t (id int, n even)";
    check(table, "id,n\n1,1\n2,2\n3,3\n", "2 type", "1 | 1;3 | 3").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_error_of_the_statement_fails_its_object_after_three_tries_and_may_pass_before() -> Result<()> {
    let table = "CREATE TABLE t (id int, n int); CREATE SEQUENCE calls; CREATE TABLE fails (until bigint); \
         INSERT INTO fails VALUES (8); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('public.calls') < (SELECT until FROM public.fails) THEN \
         RAISE EXCEPTION 'lost' USING ERRCODE = 'XX000'; END IF; RETURN NULL; END $$; \
         CREATE TRIGGER g BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION f()";
    let desk = Desk::new(table, "table = \"t\"\nmode = \"append\"\nmax_rejects = 5\ntechnique = \"staged\"").await?;
    let file = "id,n\n1,1\n2,2\n3,3\n";
    assert_eq!(desk.load("k.csv", file).await?, 0);
    desk.database.execute("UPDATE fails SET until = 1000000; ALTER SEQUENCE calls RESTART").await?;
    assert_eq!(desk.load("l.csv", file).await?, 3);
    // All rows, all again in halves, the first half, the first row, and none: each of these is one try's.
    assert_eq!(desk.database.value("SELECT last_value FROM calls").await?, (3 * 5).to_string());
    assert_eq!(desk.ledger().await?, ["imported 3 = 3 + 0 + 0", "failed(internal)"]);
    assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "3");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_may_be_called_as_anything_is_called_while_rows_are_halved() -> Result<()> {
    let table = "CREATE TABLE t (id int, lo int, hi int, word text, said text, code text, \
                 n_rows int CHECK (n_rows < 5), middle int, context text, in_table text)";
    let row = |id: u32, n_rows: u32| format!("{id},1,2,w,s,c,{n_rows},3,x,y\n");
    let file =
        ["id,lo,hi,word,said,code,n_rows,middle,context,in_table\n", &row(1, 1), &row(2, 9), &row(3, 3)].concat();
    check(table, &file, "2 check", "1 | 1 | 2 | w | s | c | 1 | 3 | x | y;3 | 1 | 2 | w | s | c | 3 | 3 | x | y").await
}

/// Appends a file of three rows of which the second is refused.
async fn check(tables: &str, file: &str, reject: &str, rows: &str) -> Result<()> {
    let desk = Desk::new(tables, APPENDED).await?;
    let status = desk.load("k.csv", file).await?;
    let error = desk.database.rows("SELECT error FROM penstock.object_status").await?;
    assert_eq!(status, 0, "{tables}: {error:?}");
    assert_eq!(desk.rejects().await?, [reject], "{tables}");
    assert_eq!(desk.database.rows("SELECT * FROM t ORDER BY id").await?.join(";"), rows, "{tables}");
    assert_eq!(desk.ledger().await?, ["imported 3 = 2 + 0 + 1"], "{tables}");
    Ok(())
}

fn ten_thousand_rows(refused: &[u32]) -> String {
    let row = |id: u32| format!("{id},{}\n", if refused.contains(&id) { 1_000_000 } else { id });
    format!("id,n\n{}", (1..=10_000).map(row).collect::<String>())
}
