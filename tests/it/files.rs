//! Files as people have them: each is read as its dataset says, exactly, and what does not fit is a reject.

use crate::desk::Desk;
use anyhow::Result;

/// Loads a file into a table `t` with the key `id`, with these settings; returns the table's rows, then the rejects.
async fn loaded(columns: &str, settings: &str, name: &str, content: impl AsRef<[u8]>) -> Result<Vec<String>> {
    let dataset = format!("table = \"public.t\"\nkey = [\"id\"]\nmax_rejects = \"100%\"\n{settings}");
    let desk = Desk::new(&format!("CREATE TABLE t (id int PRIMARY KEY, {columns})"), &dataset).await?;
    let file = desk.write(name, content)?;
    let ended = desk.run(&["load", &file]).await?;
    anyhow::ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    let mut rows = desk.database.rows("SELECT * FROM t ORDER BY id").await?;
    rows.extend(desk.rejects().await?);
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_dialect_is_read_as_it_is_configured() -> Result<()> {
    let settings = "[dataset.csv]\nescape = \"\\\\\"\ncomment = \"#\"\nskip_lines = 1\nshort_rows = \"null\"\n\
                    trailing_delimiter = true\ndelimiter = \";\"\ndecimal = \",\"\nnull = [\"NA\"]\n\
                    null_by_column = { note = [\"-\"] }\nnull_quoted = true\n";
    let file =
        "report;\"x\n#\nid;amount;note;\n1;1.234,50;\"say \\\"hi\\\"; ok\";\n#2;1;x;\n3;NA;\"-\"\n4;7\n5;1.5;NA\n";
    let rows = loaded("amount numeric, note text", settings, "k.csv", file).await?;
    assert_eq!(rows, ["1 | 1234.50 | say \"hi\"; ok", "3 | ∅ | ∅", "4 | 7 | ∅", "4 type amount"]);
    let off = "[dataset.csv]\nquote = \"\"\n";
    assert_eq!(loaded("note text", off, "k.csv", "id,note\n1,\"5\" pipe\n").await?, ["1 | \"5\" pipe"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_of_a_dialect_have_their_second_chance_in_it() -> Result<()> {
    let dialect = "[dataset.csv]\nskip_lines = 1\ncomment = \"#\"\nquote = \"\"\nescape = \"\\\\\"\n";
    let dataset = format!("table = \"public.t\"\nkey = [\"id\"]\nmax_rejects = \"100%\"\n{dialect}");
    let desk = Desk::new("CREATE TABLE t (id int PRIMARY KEY, \"a,b\" varchar(2))", &dataset).await?;
    assert_eq!(desk.load("k.csv", "x\nid,a\\,b\n1,\\#\\,y\n2,ok\n").await?, 0);
    assert_eq!(desk.rejects().await?, ["1 length a,b"]);
    desk.database.execute("ALTER TABLE t ALTER \"a,b\" TYPE text").await?;
    desk.succeed(&["rejects", "--replay"]).await?;
    assert_eq!(desk.database.rows("SELECT * FROM t ORDER BY id").await?, ["1 | #,y", "2 | ok"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn null_texts_of_no_column_are_refused() -> Result<()> {
    let settings = "[dataset.csv]\nnull_by_column = { nota = [\"-\"] }\n";
    let error = loaded("note text", settings, "k.csv", "id,note\n1,x\n").await.expect_err("no such column");
    assert!(error.to_string().contains("csv.null_by_column names \"nota\""), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_fields_are_taken_from_within_json() -> Result<()> {
    let settings = "rows = \"/Records\"\nfields = { user_name = \"/user/name\" }\n[dataset.types]\nat = \"epoch_ms\"\n";
    let file = "{\"v\":1,\"Records\":[{\"id\":1,\"user\":{\"name\":\"ada\"},\"at\":1767225600123},\
                {\"id\":2,\"at\":\"soon\"},{\"id\":3,\"at\":null}]}\n{\"Records\":[{\"id\":4}]}";
    let rows = loaded("user_name text, at timestamptz", settings, "k.json", file).await?;
    assert_eq!(rows, ["1 | ada | 2026-01-01T00:00:00.123+00:00", "3 | ∅ | ∅", "4 | ∅ | ∅", "2 type at"]);
    let error = loaded("v text", settings, "k.json", file).await.expect_err("no such column").to_string();
    assert!(error.contains("fields names \"user_name\", which is no column"), "{error}");
    let error = loaded("v text", "rename = { \"/user/name\" = \"v\" }", "k.json", file).await.expect_err("a path");
    assert!(error.to_string().contains("fields = { name = \"/user/name\" } reads it"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_columns_values_are_read_as_they_are_written() -> Result<()> {
    let settings = "[dataset.types]\nday = \"%d.%m.%Y\"\nat = \"%d/%b/%Y:%H:%M:%S %z\"\n";
    let file = "id,day,at\n1,02.01.2026,06/Feb/2019:00:00:38 +0200\n2,31.02.2026,\n3,,soon\n";
    let rows = loaded("day date, at timestamptz", settings, "k.csv", file).await?;
    assert_eq!(rows, ["1 | 2026-01-02 | 2019-02-05T22:00:38+00:00", "2 range day", "3 type at"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_loaded_member_by_member() -> Result<()> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in [("one.csv", "id,v\n1,a\nx,b\n"), ("two.csv", "id,v\n2,c\n")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content.as_bytes())?;
    }
    let rows = loaded("v text, archive_member text, penstock_row bigint", "", "k.tar", builder.into_inner()?).await?;
    assert_eq!(rows, ["1 | a | one.csv | 1", "2 | c | two.csv | 3", "2 type id"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_text_are_taken_apart_and_have_their_second_chance() -> Result<()> {
    let settings = "format = \"text\"\n[dataset.text]\npattern = '(?P<id>\\d+) (?P<v>.*)'\n";
    let dataset = format!("table = \"public.t\"\nkey = [\"id\"]\nmax_rejects = \"100%\"\n{settings}");
    let desk = Desk::new("CREATE TABLE t (id int PRIMARY KEY, v varchar(2))", &dataset).await?;
    assert_eq!(desk.load("k.log", "1 ab\nno number\n\n2 abc\n").await?, 0);
    assert_eq!(desk.rejects().await?, ["2 syntax", "3 length v"]);
    desk.database.execute("ALTER TABLE t ALTER v TYPE text").await?;
    desk.run(&["rejects", "--replay"]).await?;
    assert_eq!(desk.database.rows("SELECT * FROM t ORDER BY id").await?, ["1 | ab", "2 | abc"]);
    assert_eq!(desk.rejects().await?, ["2 syntax"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_read_by_their_names() -> Result<()> {
    let preset = |name: &str| {
        format!("format = \"text\"\nrename = {{ status = \"id\" }}\n[dataset.text]\npreset = \"{name}\"\n")
    };
    let line = "10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET /a HTTP/1.0\" 200 -\n";
    let columns = "remote_host inet, time timestamptz, request_method text, bytes bigint";
    let rows = loaded(columns, &preset("clf"), "k.log", line).await?;
    assert_eq!(rows, ["200 | 10.0.0.1 | 2000-10-10T20:55:36+00:00 | GET | ∅"]);
    let flow = "srcaddr start log-status status\n10.0.0.1 1431280876 OK 7\nx - OK 8\n";
    let rows = loaded("srcaddr inet, start timestamptz, log_status text", &preset("vpc_flow"), "k.log", flow).await?;
    assert_eq!(rows, ["7 | 10.0.0.1 | 2015-05-10T18:01:16+00:00 | OK", "2 type"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_appended_through_a_view_into_the_table_behind_it() -> Result<()> {
    const TABLES: &str = "CREATE TABLE base (id int PRIMARY KEY, amount numeric NOT NULL DEFAULT 7, region text, \
                          hidden text DEFAULT 'h', penstock_object bigint);
         CREATE VIEW t AS SELECT id, amount, upper(region) AS loud, region AS area, penstock_object FROM base \
         WHERE region = 'eu' WITH CHECK OPTION;
         ALTER VIEW t ALTER amount SET DEFAULT 8";
    let desk = Desk::new(TABLES, "table = \"public.t\"\nmode = \"append\"\nmax_rejects = 9").await?;
    let rows = "{\"id\":1,\"amount\":1.5,\"area\":\"eu\",\"loud\":\"x\"}\n{\"id\":2,\"area\":\"us\"}\n\
                {\"id\":3,\"amount\":null,\"area\":\"eu\"}\n{\"id\":4,\"area\":\"eu\"}\n";
    assert_eq!(desk.load("k.ndjson", rows).await?, 0);
    // What the view would not show is refused, and what the table does not take; a default is the view's.
    assert_eq!(desk.rejects().await?.len(), 2);
    let stand = "SELECT id, amount, region, hidden, penstock_object IS NOT NULL FROM base ORDER BY id";
    let expected = ["1 | 1.5 | eu | h | true", "4 | 8 | eu | h | true"];
    assert_eq!(desk.database.rows(stand).await?, expected);
    assert_eq!(desk.ledger().await?, ["imported 4 = 2 + 0 + 2"]);
    // Once; and anew where that is asked for.
    assert_eq!(desk.load("k.ndjson", rows).await?, 0);
    let file = desk.write("k.ndjson", rows)?;
    desk.succeed(&["load", "--force", &file]).await?;
    assert_eq!(desk.database.rows(stand).await?, expected);
    let said = desk.succeed(&["check"]).await?;
    assert!(said.contains("amount") && !said.contains("wrong:"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_trigger_behind_a_view_leaves_out_are_counted_as_left_out() -> Result<()> {
    const TABLES: &str = "CREATE TABLE base (id int PRIMARY KEY); CREATE VIEW t AS SELECT id FROM base;
         CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN CASE WHEN new.id > 1 THEN new END; END';
         CREATE TRIGGER leave BEFORE INSERT ON base FOR EACH ROW EXECUTE FUNCTION leave()";
    let desk = Desk::new(TABLES, "table = \"public.t\"\nmode = \"append\"").await?;
    assert_eq!(desk.load("k.csv", "id\n1\n2\n3\n").await?, 0);
    let counts = "SELECT rows_read, rows_written, rows_filtered FROM penstock.object_status";
    assert_eq!(desk.database.rows(counts).await?, ["3 | 2 | 1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_rows_cannot_go_through_is_refused_with_the_reason() -> Result<()> {
    let by_itself = "t is a view that Postgres does not put rows through by itself";
    let hides = "t is a view that may hide a row it took";
    let append = "mode = \"append\"";
    let plain = "CREATE TABLE base (id int PRIMARY KEY); CREATE VIEW t AS SELECT id FROM base";
    let triggered = "CREATE FUNCTION put() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
                     CREATE TRIGGER put INSTEAD OF INSERT ON t FOR EACH ROW EXECUTE FUNCTION put()";
    for (tables, settings, problem) in [
        ("CREATE VIEW t AS SELECT 1 AS id", append, by_itself),
        (format!("{plain} GROUP BY id").as_str(), append, by_itself),
        (format!("{plain} WHERE id > 0").as_str(), append, hides),
        (format!("{plain} WHERE id > 0 WITH LOCAL CHECK OPTION").as_str(), append, hides),
        (
            "CREATE TABLE base (id int); CREATE VIEW few AS SELECT id FROM base WHERE id > 0; CREATE VIEW t AS SELECT id FROM few",
            append,
            hides,
        ),
        (format!("{plain}; {triggered}").as_str(), append, by_itself),
        (format!("{plain}; CREATE RULE put AS ON INSERT TO t DO INSTEAD NOTHING").as_str(), append, by_itself),
        (plain, "key = [\"id\"]", "t is a view, which takes mode = \"append\" alone"),
        (
            plain,
            "mode = \"append\"\non_new_field = \"add_column\"",
            "t is a view, which gets no columns by on_new_field",
        ),
        ("CREATE MATERIALIZED VIEW t AS SELECT 1 AS id", append, "t is not a table (relkind m)"),
    ] {
        let desk = Desk::new(tables, &format!("table = \"public.t\"\n{settings}")).await?;
        let file = desk.write("k.csv", "id\n1\n")?;
        for command in [&["load", &file][..], &["check"]] {
            let ended = desk.run(command).await?;
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert!(!ended.status.success() && said.contains(problem), "{tables} {command:?}: {said}");
        }
    }
    Ok(())
}
