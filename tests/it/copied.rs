//! A condition that COPY judges keeps what the staged one would, and nothing else is left to COPY.

use crate::{desk::Desk, world::LIMIT};
use anyhow::Result;

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, v text, land varchar(3), size int DEFAULT 7, at timestamptz, \
                     price numeric(9,2), flag boolean)";
const CSV: &str = "id,v,land,size,at,price,flag\n\
                   1,one,DE,2,2026-03-01T00:30:00+01:00,1.50,true\n\
                   2,Two,KN,3,2026-03-01T12:00:00Z,2.00,false\n\
                   3,three,FR,3,,3.25,\n\
                   4,FOUR,,,2026-02-28T23:00:00Z,,true\n\
                   5,,DE,0,2026-02-28T23:59:59Z,-1.00,false\n";
const COUNTS: &str = "SELECT o.technique, s.rows_read, s.rows_written, s.rows_merged, s.rows_filtered, s.rows_rejected \
                      FROM penstock.object_status s JOIN penstock.object o USING (id) ORDER BY id";

fn dataset(condition: &str) -> String {
    format!("table = \"t\"\nkey = [\"id\"]\nmax_rejects = 5\nwhere = \"\"\"{condition}\"\"\"\n")
}

/// What stands in the table, and what is counted, after a load by this technique.
async fn loaded(tables: &str, dataset: &str, technique: &str, content: &str) -> Result<(Vec<String>, String)> {
    let desk = Desk::new(tables, &format!("{dataset}technique = \"{technique}\"\n")).await?;
    assert_eq!(desk.load("a.csv", content).await?, 0, "{dataset}");
    let rows = desk.database.rows("SELECT t::text FROM t ORDER BY id, v").await?;
    Ok((rows, desk.database.rows(COUNTS).await?.join("\n")))
}

/// Asserts which technique a load takes by itself, and that what comes of it is what staging makes.
async fn assert_goes(by: &str, tables: &str, dataset: &str, content: &str) -> Result<Vec<String>> {
    let (staged, counts) = loaded(tables, dataset, "staged", content).await?;
    assert!(counts.starts_with("staged | "), "{counts}");
    let found = loaded(tables, dataset, "auto", content).await?;
    let expected = counts.replacen("staged", by, 1);
    assert_eq!(found, (staged, expected), "{dataset}");
    Ok(found.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_of_what_is_built_in_keep_the_direct_way() -> Result<()> {
    for condition in [
        "length(input.v) < 5",
        "lower(input.v) = 'two' OR input.\"size\" > 2",
        "input.land <> 'KN' AND Input.v ~* '^t'",
        "input.size >= 2 AND coalesce(input.flag, input.price > 3)",
        "input.id % 2 = 1",
        "size < id",
        "input.at::date = '2026-02-28'",
        "CASE WHEN input.land IS NULL THEN true ELSE input.price::int IN (1, 2) END",
        "input.v LIKE '%e' -- ends so",
        "NOT input.flag IS DISTINCT FROM (input.v IS NOT NULL)",
        "num_nulls(input.v, input.land, input.flag) = 0",
    ] {
        let kept = assert_goes("direct", TABLE, &dataset(condition), CSV).await?;
        assert!(!kept.is_empty() && kept.len() < 5, "{condition}: {kept:?}");
    }
    Ok(())
}

/// `timeout` is the condition's: what is written behind the COPY may take longer.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_copy_is_not_cut_short_by_the_conditions_limit() -> Result<()> {
    let desk = Desk::new(TABLE, &format!("{}timeout = \"1s\"\n", dataset("length(input.v) < 5"))).await?;
    desk.succeed(&["migrate"]).await?;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.2); RETURN new; END'; \
                CREATE TRIGGER slow BEFORE INSERT ON penstock.reject FOR EACH ROW EXECUTE FUNCTION slow()";
    desk.database.execute(slow).await?;
    assert_eq!(desk.load("a.csv", &CSV.replace("2026-02-28T23:59:59Z", "yesterday")).await?, 0);
    assert_eq!(desk.database.rows(COUNTS).await?, ["direct | 5 | 3 | 0 | 1 | 1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_copy_cannot_judge_as_a_transform_would_is_staged() -> Result<()> {
    let own = "CREATE FUNCTION short(text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT length($1) < 5'";
    let operator = "CREATE FUNCTION less(varchar, varchar) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT $1 > $2'; \
                    CREATE OPERATOR < (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = less)";
    let hidden = "CREATE FUNCTION length(varchar) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 2'";
    let trigger = "CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN CASE WHEN new.id <> 1 THEN new END; END'; \
                   CREATE TRIGGER leave BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION leave()";
    let mut direct = Vec::new();
    let enumeration = "CREATE TYPE mood AS ENUM ('one', 'three')";
    for (tables, condition) in [
        (own, "short(input.v)"),
        (own, "public.short(input.v)"),
        (operator, "input.land < 'K'::varchar"),
        (hidden, "length(input.land) > 2"),
        (trigger, "length(input.v) < 5"),
        (enumeration, "input.id IN (1, 3) AND input.v::mood > 'one'"),
        ("", "input.id IN (SELECT 1 UNION SELECT 2)"),
        ("", "input.penstock_row > 2"),
        ("", "input.penstock_key LIKE '%.csv' AND length(input.v) < 4"),
        ("", "input IS NOT NULL"),
        ("", "input.other IS NULL AND length(input.v) > 3"),
    ] {
        let tables = format!("{TABLE}; {tables}");
        if loaded(&tables, &dataset(condition), "auto", CSV).await?.1.starts_with("direct") {
            direct.push(condition);
        }
    }
    assert_eq!(direct, [""; 0]);
    let typed = dataset("input.size % 2 = 1") + "input = { size = \"bigint\" }\n";
    assert_goes("staged", TABLE, &typed, CSV).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_no_row_has_is_null_to_the_condition_and_takes_its_default() -> Result<()> {
    let without = "id,v\n1,a\n2,bb\n";
    let kept = assert_goes("staged", TABLE, &dataset("coalesce(input.size, 0) = 0"), without).await?;
    assert_eq!(kept, ["(1,a,,7,,,)", "(2,bb,,7,,,)"]);
    let kept = assert_goes("direct", TABLE, &dataset("length(input.v) = 1"), without).await?;
    assert_eq!(kept, ["(1,a,,7,,,)"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_of_two_rows_may_be_the_one_that_is_dropped() -> Result<()> {
    let twice = "id,v\n1,a\n1,bb\n2,c\n";
    assert_eq!(assert_goes("staged", TABLE, &dataset("length(input.v) = 1"), twice).await?.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_condition_or_the_table_refuses_are_rejects_as_ever() -> Result<()> {
    let divides = dataset("10 / input.size > 3");
    let desk = Desk::new(TABLE, &divides).await?;
    assert_eq!(desk.load("a.csv", CSV).await?, 0);
    assert_eq!(desk.rejects().await?, ["5 type"]);
    assert_eq!(desk.database.rows(COUNTS).await?, ["staged | 5 | 1 | 0 | 3 | 1"]);

    let checked = format!("{TABLE}; ALTER TABLE t ADD CHECK (size <> 3)");
    let desk = Desk::new(&checked, &dataset("length(input.v) <> 3")).await?;
    assert_eq!(desk.load("a.csv", CSV).await?, 0);
    assert_eq!(desk.rejects().await?, ["3 check"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_takes_too_long_ends_where_a_transform_does() -> Result<()> {
    let slow = "length(repeat(md5(input.v), 30000000)) + length(repeat(md5(input.land), 30000000)) > 0";
    let desk = Desk::new(TABLE, &(dataset(slow) + "timeout = \"1s\"\n")).await?;
    let rows: String = (10..60).map(|id| format!("{id},x,DE\n")).collect();
    let file = desk.write("a.csv", format!("id,v,land\n{rows}"))?;
    let ended = desk.run(&["load", &file]).await?;
    assert!(!ended.status.success(), "{}", ended.stderr);
    assert_eq!(desk.ledger().await?, ["failed(transform_timeout)"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn several_runs_of_one_object_and_each_mode_count_what_copy_leaves_out() -> Result<()> {
    let lineage =
        format!("{TABLE}; ALTER TABLE t DROP CONSTRAINT t_pkey, ADD penstock_object bigint, ADD penstock_row bigint");
    let rows: String = (0..30_000).map(|id| format!("{id},{}\n", "x".repeat(id % 300 + 1))).collect();
    for (mode, tables) in [("append", lineage.as_str()), ("replace", &lineage), ("upsert", TABLE)] {
        let mut dataset = format!("table = \"t\"\nmode = \"{mode}\"\nwhere = \"length(input.v) <= 30\"\n");
        if mode == "upsert" {
            dataset += "key = [\"id\"]\n";
        }
        let desk = Desk::new(tables, &dataset).await?;
        assert_eq!(desk.load("a.csv", format!("id,v\n{rows}")).await?, 0);
        assert_eq!(desk.database.rows(COUNTS).await?, ["direct | 30000 | 3000 | 0 | 27000 | 0"], "{mode}");
        let stands = "SELECT count(*), max(length(v)), sum(id) = (SELECT sum(id) FROM generate_series(0, 29999) id WHERE id % 300 < 30) FROM t";
        assert_eq!(desk.database.rows(stands).await?, ["3000 | 30 | true"], "{mode}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_read_the_table_stages() -> Result<()> {
    let append = "table = \"t\"\nmode = \"append\"\nwhere = \"length(input.v) < 5\"\n";
    let desk = Desk::new(TABLE, append).await?;
    let role = format!("{}_writer", desk.database.name());
    let grants = format!(
        "CREATE ROLE {role}; GRANT INSERT ON t TO {role}; GRANT USAGE ON SCHEMA penstock TO {role}; \
         GRANT ALL ON ALL TABLES IN SCHEMA penstock TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA penstock TO {role}"
    );
    desk.database.execute(&grants).await?;
    let url = format!("{}?options=-c%20role%3D{role}", desk.database.url());
    let file = desk.write("a.csv", CSV)?;
    let ended = desk.importer(&["load", &file]).env("DATABASE_URL", url).run(LIMIT).await;
    desk.database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await?;
    let ended = ended?;
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(desk.database.rows(COUNTS).await?, ["staged | 5 | 3 | 0 | 2 | 0"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_where_a_condition_is_judged() -> Result<()> {
    for (condition, by) in [
        ("length(input.v) < 9", "by Postgres, while rows are copied or once they are staged"),
        ("length(input.v) < (SELECT 9)", "by Postgres, to rows that are staged"),
    ] {
        let desk = Desk::new(TABLE, &dataset(condition)).await?;
        let said = desk.run(&["check"]).await?.stdout;
        assert!(said.contains(&format!("  where {condition}: {by}\n")), "{said}");
    }
    Ok(())
}
