//! Values get into columns as an INSERT assigns them: what it refuses is a reject, and nothing is cut on the way.

use crate::desk::Desk;
use anyhow::Result;

const TYPES: &str = "CREATE DOMAIN d3 AS varchar(3); CREATE DOMAIN c3 AS char(3); CREATE DOMAIN dd3 AS d3; \
    CREATE DOMAIN b3 AS bit(3); CREATE DOMAIN n52 AS numeric(5,2); CREATE DOMAIN dn AS name; \
    CREATE DOMAIN t0 AS time(0); CREATE TYPE pair AS (a varchar(3), b int); \
    CREATE TYPE named AS (n name, c \"char\", i int); CREATE TYPE nested AS (i int, ns named[]); CREATE DOMAIN dna AS name[];";

/// A column's type, a text that an INSERT takes as it is, and one that it refuses or cuts.
const MATRIX: [(&str, &str, &str); 29] = [
    ("d3", "abc", "abcdef"),
    ("dd3", "abc", "abcdef"),
    ("c3", "abc", "abcdef"),
    ("varchar(3)", "abc", "abcdef"),
    ("char(3)", "abc", "abcdef"),
    ("bit(3)", "101", "10101"),
    ("bit(3)", "101", "1"),
    ("b3", "101", "10101"),
    ("varbit(3)", "10", "10101"),
    ("n52", "123.45", "1234567.8"),
    ("name", "short", "a_name_that_is_longer_than_the_sixty_three_bytes_that_a_name_holds_here"),
    ("dn", "short", "a_name_that_is_longer_than_the_sixty_three_bytes_that_a_name_holds_here"),
    ("name[]", "{short}", "{a_name_that_is_longer_than_the_sixty_three_bytes_that_a_name_holds_here}"),
    ("\"char\"", "x", "xy"),
    ("\"char\"[]", "{x,y}", "{x,yz}"),
    ("d3[]", "{abc}", "{abc,abcdef}"),
    ("varchar(3)[]", "{abc}", "{abc,abcdef}"),
    ("char(3)[]", "{abc}", "{abc,abcdef}"),
    ("bit(3)[]", "{101}", "{101,10101}"),
    ("pair", "(abc,1)", "(abcdef,1)"),
    ("named", "(short,x,1)", "(a_name_that_is_longer_than_the_sixty_three_bytes_that_a_name_holds_here,x,1)"),
    ("named", "(short,x,1)", "(short,xy,1)"),
    ("named[]", "{\"(short,x,1)\"}", "{\"(short,x,1)\",\"(short,xy,2)\"}"),
    (
        "nested",
        "(1,\"{\"\"(short,x,1)\"\"}\")",
        "(1,\"{\"\"(a_name_that_is_longer_than_the_sixty_three_bytes_that_a_name_holds_here,x,1)\"\"}\")",
    ),
    ("dna", "{short,NULL}", "{short,a_name_that_is_longer_than_the_sixty_three_bytes_that_a_name_holds_here}"),
    ("named", "(,,)", "(,yz,)"),
    ("named", "(\"a b\",x,1)", "(\"a_name_that_is_longer_than_the_sixty_three_bytes_that_a_name_holds_here\",x,1)"),
    ("interval day to second", "1 day", "one"),
    ("t0", "12:00:00", "25:00:00"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_an_insert_refuses_or_would_cut_is_a_reject_of_any_type() -> Result<()> {
    for technique in ["staged", "direct"] {
        let dataset = format!("table = \"t\"\nkey = [\"id\"]\nmax_rejects = 5\ntechnique = \"{technique}\"");
        let desk = Desk::new(TYPES, &dataset).await?;
        for (place, (pg_type, good, bad)) in MATRIX.iter().enumerate() {
            desk.database
                .execute(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, v {pg_type})"))
                .await?;
            let (good_field, bad_field) = (good.replace('"', "\"\""), bad.replace('"', "\"\""));
            let file = format!("id,v\n1,\"{good_field}\"\n2,\"{bad_field}\"\n");
            assert_eq!(desk.load(&format!("{place}.csv"), &file).await?, 0, "{pg_type}, {technique}");
            let rows = desk.database.rows("SELECT id, v::text FROM t ORDER BY id").await?;
            assert_eq!(rows, [format!("1 | {good}")], "{pg_type}, {technique}");
            let counted = "SELECT rows_written, rows_rejected FROM penstock.object_status ORDER BY id DESC LIMIT 1";
            assert_eq!(desk.database.rows(counted).await?, ["1 | 1"], "{pg_type}, {technique}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_insert_rounds_is_rounded_and_equal_when_it_comes_again() -> Result<()> {
    let table = format!("{TYPES} CREATE TABLE t (id n52 PRIMARY KEY, i interval(0), c c3, v d3)");
    let desk = Desk::new(&table, "table = \"t\"\nkey = [\"id\"]\ntechnique = \"staged\"").await?;
    let file = "id,i,c,v\n1.004,1.4 seconds,a,abc   \n1.001,2.4 seconds,b,x\n";
    assert_eq!(desk.load("k.csv", file).await?, 0);
    assert_eq!(desk.database.rows("SELECT id, i::text, c, v FROM t").await?, ["1.00 | 00:00:02 | b   | x"]);
    let before = desk.database.rows("SELECT xmin FROM t").await?;
    assert_eq!(desk.load("l.csv", file).await?, 0);
    assert_eq!(desk.database.rows("SELECT xmin FROM t").await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn types_without_an_order_are_compared_as_texts() -> Result<()> {
    let table = "CREATE TYPE odd AS (p point, j json); CREATE DOMAIN way AS jsonpath; \
        CREATE TABLE t (id int PRIMARY KEY, a jsonpath, b pg_snapshot, c xml, d json, e point, f box, g xid, h odd, \
                        i point[], j way, k circle, l refcursor)";
    let (old, new) = (
        "1,$.a,10:20:,<a/>,{},\"(1,2)\",\"(1,2),(0,0)\",5,\"(\"\"(1,2)\"\",{})\",\"{\"\"(1,2)\"\"}\",$.b,\"<(1,2),3>\",r\n",
        "1,$.b,10:20:,<a/>,{},\"(1,2)\",\"(2,1),(0,0)\",5,\"(\"\"(1,2)\"\",{})\",\"{\"\"(1,2)\"\"}\",$.b,\"<(1,2),3>\",r\n",
    );
    let header = "id,a,b,c,d,e,f,g,h,i,j,k,l\n";
    let desk = Desk::new(table, "table = \"t\"\nkey = [\"id\"]").await?;
    let status = desk.load("k.csv", format!("{header}{old}")).await?;
    let error = desk.database.rows("SELECT error FROM penstock.object_status").await?;
    assert_eq!(status, 0, "{error:?}");
    let written = desk.database.rows("SELECT xmin FROM t").await?;
    assert_eq!(desk.load("l.csv", format!("{header}{old}")).await?, 0);
    assert_eq!(desk.database.rows("SELECT xmin FROM t").await?, written, "equal, so not rewritten");
    assert_eq!(desk.load("m.csv", format!("{header}{new}")).await?, 0);
    assert_eq!(desk.database.rows("SELECT a::text, f::text FROM t").await?, ["$.\"b\" | (2,1),(0,0)"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_trigger_leaves_out_are_counted_as_filtered() -> Result<()> {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ \
         BEGIN IF NEW.id = 2 THEN RETURN NULL; END IF; NEW.v := upper(NEW.v); RETURN NEW; END $$; \
         CREATE TRIGGER g BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()";
    let counts = "SELECT rows_read, rows_written, rows_merged, rows_filtered, rows_rejected \
                  FROM penstock.object_status ORDER BY id DESC LIMIT 1";
    for dataset in ["key = [\"id\"]", "key = [\"id\"]\ntechnique = \"staged\"", "mode = \"append\""] {
        let desk = Desk::new(table, &format!("table = \"t\"\n{dataset}\nmax_rejects = 5")).await?;
        assert_eq!(desk.load("k.csv", "id,v\n1,a\n2,b\n3,c\n").await?, 0);
        assert_eq!(desk.database.rows(counts).await?, ["3 | 2 | 0 | 1 | 0"], "{dataset}");
        assert_eq!(desk.database.rows("SELECT id, v FROM t ORDER BY id").await?, ["1 | A", "3 | C"], "{dataset}");
        if dataset.contains("append") {
            continue;
        }
        // One equal, one left out, one changed, one new and twice, one that is no number.
        assert_eq!(desk.load("l.csv", "id,v\n1,A\n2,b\n3,d\n4,e\n4,f\nx,x\n").await?, 0);
        assert_eq!(desk.database.rows(counts).await?, ["6 | 3 | 1 | 1 | 1"], "{dataset}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_fails_leaves_no_column_behind() -> Result<()> {
    let table = "CREATE TABLE t (id int PRIMARY KEY, n int CHECK (n < 5))";
    let desk =
        Desk::new(table, "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 0\non_new_field = \"add_column\"").await?;
    let columns = "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute \
                   WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped";
    for (file, rows) in [
        ("a.ndjson", "{\"id\": 1, \"n\": 1, \"more\": 1}\n{\"id\": 2, \"n\": 9}\n"),
        ("b.ndjson", "{\"id\": 1, \"n\": 1, \"more\": 1}\n{\"id\": \"x\"}\n"),
        ("c.csv", "id,n,more\n1,1,x\n2,9,y\n"),
    ] {
        assert_eq!(desk.load(file, rows).await?, 3, "{file}");
        assert_eq!(desk.database.value(columns).await?, "id n", "{file}");
    }
    assert_eq!(desk.load("d.csv", "id,n,more\n1,1,x\n2,2,y\n").await?, 0);
    assert_eq!(desk.load("e.ndjson", "{\"id\": 3, \"other\": [1]}\n").await?, 0);
    assert_eq!(desk.database.value(columns).await?, "id n more other");
    let rows = desk.database.rows("SELECT id, more, other::text FROM t ORDER BY id").await?;
    assert_eq!(rows, ["1 | x | ∅", "2 | y | ∅", "3 | ∅ | [1]"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_taken_get_no_column() -> Result<()> {
    let desk = Desk::new(
        "CREATE TABLE t (id int PRIMARY KEY, created timestamptz DEFAULT now())",
        "table = \"t\"\nkey = [\"id\"]\non_new_field = \"add_column\"",
    )
    .await?;
    let row = "{\"id\": 1, \"penstock_absent_1\": \"x\", \"penstock_row\": 1, \"Penstock_x\": 1, \"penstock_extras\": 1, \
               \"ctid\": 1, \"xmin\": 1, \"tableoid\": 1, \"bell\\u0007\": 1, \"\": 1, \"LONG\": 1}\n";
    // Postgres would cut it to the 63 bytes it takes.
    let row = row.replace("LONG", &"x".repeat(64));
    assert_eq!(desk.load("k.ndjson", row).await?, 0);
    assert_eq!(desk.load("l.ndjson", "{\"id\": 2}\n").await?, 0);
    let columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0";
    assert_eq!(desk.database.value(columns).await?, "2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_column_is_called_as_staging_calls_its_own_is_refused() -> Result<()> {
    for name in ["penstock_extras", "penstock_absent_1"] {
        let table = format!("CREATE TABLE t (id int PRIMARY KEY, {name} jsonb)");
        let desk = Desk::new(&table, "table = \"t\"\nkey = [\"id\"]").await?;
        assert_eq!(desk.load("k.ndjson", "{\"id\": 1}\n").await?, 3, "{name}");
        let error = desk.database.value("SELECT error FROM penstock.object_status").await?;
        assert!(error.contains(&format!("column {name} of t has a name that staging needs")), "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_one_good_row_fails_whatever_its_limit() -> Result<()> {
    for limit in ["\"1%\"", "\"100%\"", "7"] {
        let dataset = format!("table = \"t\"\nkey = [\"id\"]\nmax_rejects = {limit}");
        let desk = Desk::new("CREATE TABLE t (id int PRIMARY KEY, n int CHECK (n < 5))", &dataset).await?;
        for (file, rows) in [("a.csv", "id,n\nx,1\n"), ("b.csv", "id,n\n1,9\n"), ("c.csv", "id,n\n1,9\nx,1\n")] {
            assert_eq!(desk.load(file, rows).await?, 3, "{limit}, {file}");
        }
        assert_eq!(desk.ledger().await?, ["failed(too_many_rejects)"; 3], "{limit}");
        assert_eq!(desk.load("d.csv", "id,n\n").await?, 0, "{limit}: nothing is bad of nothing");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_bad_rows_ends_long_before_its_end() -> Result<()> {
    let desk = Desk::new("CREATE TABLE t (id int PRIMARY KEY)", "table = \"t\"\nkey = [\"id\"]").await?;
    assert_eq!(desk.load("k.csv", format!("id\n{}", "x\n".repeat(1_000_000))).await?, 3);
    let error = desk.database.value("SELECT error FROM penstock.object_status").await?;
    let n_rejected: u64 = error.split(' ').next().unwrap_or_default().parse()?;
    assert!((10_000..100_000).contains(&n_rejected), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_a_trigger_leaves_out_are_counted_as_filtered() -> Result<()> {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text, at int); \
         INSERT INTO t VALUES (1, 'old', 1), (2, 'old', 1), (3, 'same', 1), (4, 'old', 9), (5, 'LOUD', 1); \
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ \
         BEGIN IF TG_OP = 'UPDATE' AND OLD.id = 1 OR TG_OP = 'INSERT' AND NEW.id IN (2, 7) THEN RETURN NULL; END IF; \
         IF NEW.id = 5 THEN NEW.v := upper(NEW.v); END IF; RETURN NEW; END $$; \
         CREATE TRIGGER g BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()";
    for technique in ["direct", "staged"] {
        let dataset = format!("table = \"t\"\nkey = [\"id\"]\nnewer = \"at\"\ntechnique = \"{technique}\"");
        let desk = Desk::new(table, &dataset).await?;
        // The update of 1 and the rows 2 and 7 are left out; 3 is as it was, 4 gives way, 5 becomes what it was; 6 is new.
        let file = "id,v,at\n1,new,1\n2,new,1\n3,same,1\n4,new,2\n5,loud,1\n6,new,1\n7,new,1\n";
        assert_eq!(desk.load("k.csv", file).await?, 0, "{technique}");
        let counts = "SELECT rows_read, rows_written, rows_merged, rows_filtered FROM penstock.object_status";
        assert_eq!(desk.database.rows(counts).await?, ["7 | 3 | 1 | 3"], "{technique}");
        let rows = desk.database.rows("SELECT id, v FROM t ORDER BY id").await?;
        assert_eq!(rows, ["1 | old", "2 | old", "3 | same", "4 | old", "5 | LOUD", "6 | new"], "{technique}");
    }
    Ok(())
}
