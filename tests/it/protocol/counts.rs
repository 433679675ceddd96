//! Row counts, the `newer` column, duplicates by the server's own equality, rejects.

use super::bench::{Bench, event, forced};
use anyhow::Result;

const NEWER: &str = "table = \"public.t\"\nkey = [\"id\"]\nnewer = \"at\"";
const KEYED: &str = "table = \"public.t\"\nkey = [\"id\"]";

fn line(id: u32, at: &str, v: &str) -> String {
    format!("{{\"id\": {id}, \"at\": {at}, \"v\": \"{v}\"}}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_only_gives_way_to_one_that_is_not_older() -> Result<()> {
    let bench = Bench::new("CREATE TABLE t (id int PRIMARY KEY, at int, v text)", NEWER).await?;
    let first = [line(1, "5", "a"), line(2, "5", "a"), line(3, "5", "a"), line(4, "null", "a"), line(5, "5", "a")];
    assert_eq!(bench.put("first", &first.concat(), "01").await?, "imported 5 = 5 + 0 + 0");
    let second = [
        line(1, "4", "older"),
        line(2, "5", "tie"),
        line(3, "null", "unknown"),
        line(4, "null", "nulls tie"),
        line(5, "5", "a"),
        line(6, "1", "new"),
    ];
    assert_eq!(bench.put("second", &second.concat(), "01").await?, "imported 6 = 4 + 2 + 0");
    let expected = ["1 | 5 | a", "2 | 5 | tie", "3 | 5 | a", "4 | ∅ | nulls tie", "5 | 5 | a", "6 | 1 | new"];
    assert_eq!(bench.rows("SELECT * FROM t ORDER BY id").await?, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn within_an_object_the_newest_row_wins_and_the_last_of_equals() -> Result<()> {
    let bench = Bench::new("CREATE TABLE t (id int PRIMARY KEY, at int, v text)", NEWER).await?;
    let lines =
        [line(1, "2", "x"), line(1, "null", "n"), line(1, "3", "first"), line(1, "3", "last"), line(1, "1", "o")];
    assert_eq!(bench.put("k", &lines.concat(), "01").await?, "imported 5 = 1 + 4 + 0");
    assert_eq!(bench.rows("SELECT * FROM t").await?, ["1 | 3 | last"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_say_how_new_they_are_give_way() -> Result<()> {
    let bench = Bench::new("CREATE TABLE t (id int PRIMARY KEY, at int DEFAULT 7, v text)", NEWER).await?;
    bench.put("first", &line(1, "5", "a"), "01").await?;
    bench.database.execute("INSERT INTO public.t VALUES (3, NULL, 'a')").await?;
    // NDJSON without the field anywhere: as a file without the column.
    let lines = "{\"id\": 1, \"v\": \"b\"}\n{\"id\": 2, \"v\": \"b\"}\n{\"id\": 3, \"v\": \"b\"}\n";
    assert_eq!(bench.put("second", lines, "01").await?, "imported 3 = 2 + 1 + 0");
    assert_eq!(bench.rows("SELECT * FROM t ORDER BY id").await?, ["1 | 5 | a", "2 | 7 | b", "3 | ∅ | b"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_equal_are_not_even_locked() -> Result<()> {
    for dataset in [KEYED, NEWER] {
        let bench = Bench::new("CREATE TABLE t (id int PRIMARY KEY, at int, v text)", dataset).await?;
        bench.put("k", &[line(1, "5", "a"), line(2, "5", "a"), line(3, "5", "a")].concat(), "01").await?;
        let second = [line(1, "5", "a"), line(2, "6", "b"), line(3, "5", "a"), line(4, "5", "a")].concat();
        assert_eq!(bench.put("k", &second, "02").await?, "imported 4 = 4 + 0 + 0");
        // ON CONFLICT leaves its mark on rows it meets, also where its WHERE then leaves them alone.
        let touched = "SELECT id FROM t WHERE xmax <> 0 OR xmin <> (SELECT xmin FROM t WHERE id = 1) ORDER BY id";
        assert_eq!(bench.rows(touched).await?, ["2", "4"], "{dataset}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_sees_rows_that_are_equal() -> Result<()> {
    let tables = "CREATE TABLE t (id int PRIMARY KEY, at int, v text); CREATE TABLE seen (id int);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO public.seen VALUES (NEW.id); RETURN NEW; END $$;
        CREATE TRIGGER note BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()";
    let bench = Bench::new(tables, KEYED).await?;
    bench.put("k", &line(1, "5", "a"), "01").await?;
    let second = [line(1, "5", "a"), line(2, "5", "a")].concat();
    assert_eq!(bench.put("k", &second, "02").await?, "imported 2 = 2 + 0 + 0");
    assert_eq!(bench.rows("SELECT id FROM seen ORDER BY id").await?, ["1", "1", "2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn numerics_that_are_equal_are_one_key() -> Result<()> {
    let bench = Bench::new("CREATE TABLE t (id numeric PRIMARY KEY, v text)", KEYED).await?;
    let lines = "{\"id\": 1.0, \"v\": \"a\"}\n{\"id\": 1.00, \"v\": \"b\"}\n";
    assert_eq!(bench.put("k", lines, "01").await?, "imported 2 = 1 + 1 + 0");
    assert_eq!(bench.put("l", "{\"id\": 1.000, \"v\": \"c\"}\n", "01").await?, "imported 1 = 1 + 0 + 0");
    assert_eq!(bench.rows("SELECT v FROM t").await?, ["c"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_their_collation_holds_equal_are_one_key() -> Result<()> {
    let tables = "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
                  CREATE TABLE t (id text COLLATE blind PRIMARY KEY, v text)";
    let bench = Bench::new(tables, KEYED).await?;
    let lines = "{\"id\": \"Key\", \"v\": \"a\"}\n{\"id\": \"kEY\", \"v\": \"b\"}\n";
    assert_eq!(bench.put("k", lines, "01").await?, "imported 2 = 1 + 1 + 0");
    assert_eq!(bench.put("l", "{\"id\": \"KEY\", \"v\": \"c\"}\n", "01").await?, "imported 1 = 1 + 0 + 0");
    assert_eq!(bench.rows("SELECT v FROM t").await?, ["c"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn citext_keys_are_settled_by_citext() -> Result<()> {
    let bench = Bench::new("CREATE TABLE t (id int)", KEYED).await?;
    let available = "SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'";
    if bench.database.value(available).await? == "0" {
        return Ok(());
    }
    let tables = "DROP TABLE public.t; CREATE EXTENSION citext SCHEMA public; \
                  CREATE TABLE public.t (id public.citext PRIMARY KEY, v text)";
    bench.database.execute(tables).await?;
    let lines = "{\"id\": \"Key\", \"v\": \"a\"}\n{\"id\": \"kEY\", \"v\": \"b\"}\n";
    assert_eq!(bench.put("k", lines, "01").await?, "imported 2 = 1 + 1 + 0");
    assert_eq!(bench.rows("SELECT v FROM t").await?, ["b"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_is_one_bad_row_up_to_the_limit() -> Result<()> {
    let dataset = format!("{KEYED}\nmax_rejects = 2");
    let bench = Bench::new("CREATE TABLE t (id int PRIMARY KEY, v text)", &dataset).await?;
    let two = "{\"id\": 1}\n{\"id\": \"x\"}\n{\"id\": null}\n{\"id\": 2}\n";
    assert_eq!(bench.put("k", two, "01").await?, "imported 4 = 2 + 0 + 2");
    let rejects = "SELECT row_number FROM penstock.rejects ORDER BY row_number";
    assert_eq!(bench.rows(rejects).await?, ["2", "3"]);
    let put = bench.shelf.put("k", two);
    assert_eq!(bench.settle(&forced(event(&put, "01"))).await?, "imported 4 = 2 + 0 + 2");
    assert_eq!(bench.rows(rejects).await?, ["2", "3"], "those of the import before are gone");
    let said = bench.put("l", &format!("{two}{{\"id\": \"y\"}}\n"), "01").await?;
    assert!(said.starts_with("failed(too_many_rejects)"), "{said}");
    assert_eq!(bench.rows(rejects).await?, ["2", "3"], "a failed object leaves nothing");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_of_the_server_are_those_of_the_last_import() -> Result<()> {
    let dataset = format!("{KEYED}\nmax_rejects = 5");
    let bench = Bench::new("CREATE TABLE t (id int PRIMARY KEY, v int CHECK (v > 0))", &dataset).await?;
    let lines = |ok: i32| format!("{{\"id\": 1, \"v\": {ok}}}\n{{\"id\": 2, \"v\": -1}}\n{{\"id\": 1, \"v\": 9}}\n");
    let put = bench.shelf.put("k", &lines(3));
    assert_eq!(bench.settle(&event(&put, "01")).await?, "imported 3 = 1 + 1 + 1");
    assert_eq!(bench.rows("SELECT * FROM t").await?, ["1 | 9"]);
    assert_eq!(bench.settle(&event(&put, "01")).await?, "already imported");
    assert_eq!(bench.settle(&forced(event(&put, "01"))).await?, "imported 3 = 1 + 1 + 1");
    assert_eq!(bench.rows("SELECT row_number, class FROM penstock.rejects").await?, ["2 | check"]);
    Ok(())
}
