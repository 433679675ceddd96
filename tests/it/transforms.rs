//! Rows through SQL on their way into the table.

use crate::{
    desk::Desk,
    world::{LIMIT, World},
};
use anyhow::Result;
use penstock_tests::aws::{Options, Route};

const TABLES: &str = "CREATE TABLE site (site_id bigint PRIMARY KEY, name text NOT NULL, blocked boolean); \
     INSERT INTO site VALUES (1, 'one', false), (2, 'two', true), (3, 'three', NULL); \
     CREATE TABLE t (id bigint PRIMARY KEY, body text, site_name text, card text, source text, n int DEFAULT 7)";
const DATASET: &str = r#"table = "public.t"
key = ["id"]
max_rejects = 5
join = "LEFT JOIN public.site ON site.site_id = input.site_id -- whoever is not known stays"
where = "input.country <> 'KN' AND site.blocked IS NOT TRUE"
set = { site_name = "upper(site.name)", card = "substring(input.body from '[0-9]{13,16}')", source = "input.penstock_key || ':' || input.penstock_row" }
input = { site_id = "bigint" }"#;

/// The counts of every object.
const COUNTS: &str = "SELECT rows_read, rows_added, rows_written, rows_merged, rows_filtered, rows_rejected \
                      FROM penstock.object_status ORDER BY id";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_joined_filtered_and_filled_whatever_the_format() -> Result<()> {
    let json = "{\"id\":1,\"site_id\":1,\"country\":\"DE\",\"body\":\"pay 4111111111111111 now\",\"n\":1}\n\
                {\"id\":2,\"site_id\":2,\"country\":\"DE\",\"body\":\"b\"}\n\
                {\"id\":3,\"site_id\":3,\"country\":\"KN\",\"body\":\"c\"}\n\
                {\"id\":4,\"site_id\":9,\"country\":\"FR\",\"body\":\"d\"}\n\
                {\"id\":5,\"site_id\":1,\"body\":\"nobody's country\"}\n";
    let csv =
        "id,site_id,country,body,n\n1,1,DE,pay 4111111111111111 now,1\n2,2,DE,b,2\n3,3,KN,c,3\n4,9,FR,d,7\n5,1,,e,7\n";
    for (name, content) in [("a.json", json), ("a.csv", csv)] {
        let desk = Desk::new(TABLES, DATASET).await?;
        assert_eq!(desk.load(name, content).await?, 0);
        let rows =
            desk.database.rows("SELECT id, body, site_name, card, source ~ '/a[.].*:[14]$', n FROM t ORDER BY id");
        let expected = ["1 | pay 4111111111111111 now | ONE | 4111111111111111 | true | 1", "4 | d | ∅ | ∅ | true | 7"];
        assert_eq!(rows.await?, expected, "{name}");
        assert_eq!(desk.database.rows(COUNTS).await?, ["5 | 0 | 2 | 0 | 3 | 0"], "{name}");
        let technique = "SELECT technique FROM penstock.object";
        assert_eq!(desk.database.value(technique).await?, "staged", "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_transforms_what_its_queue_brings() -> Result<()> {
    let dataset = format!("[[dataset]]\nname = \"t\"\nmatch = \"s3://{{bucket}}/**\"\n{DATASET}");
    let world = World::new(Options::default(), TABLES, &dataset.replace("{bucket}", "*")).await?;
    for object in 0..20 {
        let row = |id: u32| {
            let country = if id.is_multiple_of(4) { "KN" } else { "DE" };
            format!("{{\"id\":{id},\"site_id\":{},\"country\":\"{country}\",\"body\":\"b\"}}\n", id % 3 + 1)
        };
        world
            .pipeline
            .put(&format!("{object}.json"), (object * 10..object * 10 + 10).map(row).collect::<String>())
            .await?;
    }
    world.drain(2).await?;
    let model = "SELECT count(*), count(site_name), bool_and(site_name = CASE id % 3 WHEN 0 THEN 'ONE' ELSE 'THREE' END) FROM t";
    let expected = (0..200).filter(|id| id % 4 != 0 && id % 3 != 1).count();
    assert_eq!(world.database.rows(model).await?, [format!("{expected} | {expected} | true")]);
    let sums = "SELECT sum(rows_read), sum(rows_written), sum(rows_filtered) FROM penstock.object_status";
    assert_eq!(world.database.rows(sums).await?, [format!("200 | {expected} | {}", 200 - expected)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_values_an_expression_does_not_take_is_a_reject_with_a_second_chance() -> Result<()> {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, n int CHECK (n < 100)); \
                 CREATE TABLE factor (f int); INSERT INTO factor VALUES (0)";
    let dataset = "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 5\njoin = \"CROSS JOIN public.factor\"\n\
                   set = { n = \"CASE WHEN input.a = 'x' THEN 10 / factor.f ELSE input.a::int END\" }";
    let desk = Desk::new(table, dataset).await?;
    assert_eq!(desk.load("k.csv", "id,a\n1,1\n2,x\n3,three\n4,400\n5,5\n").await?, 0);
    assert_eq!(desk.rejects().await?, ["2 type", "3 type", "4 check"]);
    assert_eq!(desk.database.rows(COUNTS).await?, ["5 | 0 | 2 | 0 | 0 | 3"]);
    let kept = "SELECT convert_from(payload, 'UTF8') FROM penstock.rejects ORDER BY row_number";
    let kept = desk.database.rows(kept).await?;
    assert_eq!(kept[0], "{\"a\": \"x\", \"id\": 2}");
    assert_eq!(kept[2], "{\"a\": \"400\", \"id\": 4}");
    desk.database.execute("UPDATE factor SET f = 5").await?;
    desk.succeed(&["rejects", "--replay"]).await?;
    assert_eq!(desk.rejects().await?, ["3 type", "4 check"]);
    assert_eq!(desk.database.rows("SELECT * FROM t ORDER BY id").await?, ["1 | 1", "2 | 2", "5 | 5"]);
    assert_eq!(desk.database.rows(COUNTS).await?, ["5 | 0 | 3 | 0 | 0 | 2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_in_a_hundred_is_found_among_many() -> Result<()> {
    const ROWS: u32 = 50_000;
    let dataset = "table = \"t\"\nkey = [\"id\"]\nmax_rejects = \"2%\"\nset = { n = \"input.a::int\" }";
    let desk = Desk::new("CREATE TABLE t (id bigint PRIMARY KEY, n int)", dataset).await?;
    let row = |id: u32| if id % 100 == 7 { format!("{id},bad\n") } else { format!("{id},{id}\n") };
    let file = |rows: &dyn Fn(u32) -> String| format!("id,a\n{}", (0..ROWS).map(rows).collect::<String>());
    assert_eq!(desk.load("bad.csv", file(&row)).await?, 0);
    assert_eq!(desk.database.rows(COUNTS).await?, ["50000 | 0 | 49500 | 0 | 0 | 500"]);
    assert_eq!(desk.database.value("SELECT count(*) FROM t WHERE n = id AND id % 100 <> 7").await?, "49500");
    let desk = Desk::new("CREATE TABLE t (id bigint PRIMARY KEY, n int)", &dataset.replace("2%", "0.5%")).await?;
    assert_eq!(desk.load("bad.csv", file(&row)).await?, 3);
    assert_eq!(desk.ledger().await?, ["failed(too_many_rejects)"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_refused_are_found_wherever_they_are() -> Result<()> {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, n int, name text); \
                 CREATE TABLE site (id bigint PRIMARY KEY, name text); \
                 INSERT INTO site SELECT g, 'site ' || g FROM generate_series(1, 20000) g";
    let dataset = "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 100\njoin = \"LEFT JOIN public.site ON site.id = input.id\"\n\
                   set = { n = \"input.a::int\", name = \"site.name\" }";
    let bad = |id: u32| matches!(id, 1 | 2 | 3 | 4096 | 4097 | 9000..9040 | 19_999 | 20_000);
    let row = |id: u32| format!("{id},{}\n", if bad(id) { "bad".to_owned() } else { id.to_string() });
    let desk = Desk::new(table, dataset).await?;
    assert_eq!(desk.load("k.csv", format!("id,a\n{}", (1..20_001).map(row).collect::<String>())).await?, 0);
    assert_eq!(desk.database.rows(COUNTS).await?, ["20000 | 0 | 19953 | 0 | 0 | 47"]);
    let right = "SELECT count(*) FROM t WHERE n = id AND name = 'site ' || id";
    assert_eq!(desk.database.value(right).await?, "19953");
    let found = "SELECT string_agg(row_number::text, ' ' ORDER BY row_number) FROM penstock.rejects";
    let expected: Vec<String> = (1..20_001).filter(|id| bad(*id)).map(|id| id.to_string()).collect();
    assert_eq!(desk.database.value(found).await?, expected.join(" "));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_becomes_several_only_where_that_is_allowed() -> Result<()> {
    let table = "CREATE TABLE t (order_id bigint, line int CHECK (line < 9), UNIQUE (order_id, line))";
    let dataset = "table = \"t\"\nkey = [\"order_id\", \"line\"]\nmax_rejects = 5\nfan_out = true\n\
                   join = \"CROSS JOIN LATERAL jsonb_array_elements_text(input.lines::jsonb) AS each (line)\"\n\
                   set = { line = \"each.line::int\" }\n\n\
                   [[notify]]\nname = \"n\"\nto = \"arn:aws:sns:eu-west-1:123456789012:n\"\non = [\"imported\"]";
    let file = "{\"order_id\":1,\"lines\":[1,2,3]}\n{\"order_id\":2,\"lines\":[]}\n\
                {\"order_id\":3,\"lines\":[4,9,5]}\n{\"order_id\":4,\"lines\":[7]}\n";
    let desk = Desk::new(table, dataset).await?;
    assert_eq!(desk.load("k.json", file).await?, 0);
    assert_eq!(desk.database.rows("SELECT * FROM t ORDER BY 1, 2").await?, ["1 | 1", "1 | 2", "1 | 3", "4 | 7"]);
    // One refused row takes along all that was made of its row.
    assert_eq!(desk.rejects().await?, ["3 check"]);
    assert_eq!(desk.database.rows(COUNTS).await?, ["4 | 2 | 4 | 0 | 1 | 1"]);
    assert!(desk.succeed(&["status", "--json"]).await?.contains("\"rows_added\":2"));
    let told = "SELECT body #> '{counts,added}' FROM penstock.due_item";
    assert_eq!(desk.database.rows(told).await?, ["2"]);
    desk.database.execute("ALTER TABLE t DROP CONSTRAINT t_line_check").await?;
    desk.succeed(&["rejects", "--replay"]).await?;
    assert_eq!(desk.database.rows(COUNTS).await?, ["4 | 4 | 7 | 0 | 1 | 0"]);
    let desk = Desk::new(table, &dataset.replace("fan_out = true", "")).await?;
    assert_eq!(desk.load("k.json", file).await?, 3);
    assert_eq!(desk.ledger().await?, ["failed(fan_out)"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_a_fragment_calls_can_write() -> Result<()> {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, n int); CREATE TABLE seen (id bigint); \
                 CREATE FUNCTION note(id bigint) RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS \
                 $$ BEGIN PERFORM set_config('transaction_read_only', 'off', true); INSERT INTO seen VALUES (id); RETURN 1; END $$; \
                 CREATE FUNCTION plain(id bigint) RETURNS int LANGUAGE sql AS $$ INSERT INTO public.seen VALUES (id) RETURNING 1 $$";
    for call in ["note(input.id)", "plain(input.id)"] {
        let desk = Desk::new(
            table,
            &format!(
                "table = \"t\"\nkey = [\"id\"]\nkeep = [\"n\"]\nset = {{ n = \"{call}\" }}\n\n[worker]\nbrake_secs = 0"
            ),
        )
        .await?;
        assert_eq!(desk.load("k.csv", "id\n1\n2\n").await?, 3, "{call}");
        assert_eq!(desk.database.value("SELECT count(*) FROM seen").await?, "0", "{call}");
        assert_eq!(desk.ledger().await?, ["failed(schema)"], "{call}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_fails_its_object() -> Result<()> {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, n text)";
    let dataset =
        "table = \"t\"\nkey = [\"id\"]\ntimeout = \"1s\"\nkeep = [\"n\"]\nset = { n = \"pg_sleep(30)::text\" }";
    let desk = Desk::new(table, dataset).await?;
    let file = desk.write("k.csv", "id\n1\n")?;
    let ended = desk.importer(&["load", &file]).run(LIMIT).await?;
    assert!(!ended.status.success(), "{}", ended.stderr);
    assert_eq!(desk.ledger().await?, ["failed(transform_timeout)"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn common_fields_are_filled_and_kept_columns_are_not_updated() -> Result<()> {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, v text, first_seen text, size int)";
    let dataset = "table = \"t\"\nkey = [\"id\"]\nkeep = [\"first_seen\"]\nset = { first_seen = \"input.v\" }\n\n\
                   [defaults.set]\nsize = \"length(input.v)\"\nelsewhere = \"input.nothing\"";
    let desk = Desk::new(table, dataset).await?;
    for v in ["a", "bb"] {
        assert_eq!(desk.load("k.csv", format!("id,v\n1,{v}\n")).await?, 0);
    }
    assert_eq!(desk.database.rows("SELECT * FROM t").await?, ["1 | bb | a | 2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_comes_out_empty_is_a_reject() -> Result<()> {
    let table = "CREATE TABLE t (id bigint UNIQUE, v text)";
    let dataset = "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 5\nset = { id = \"nullif(input.number::bigint, 2)\" }";
    let desk = Desk::new(table, dataset).await?;
    assert_eq!(desk.load("k.csv", "number,v\n1,a\n2,b\n3,c\n").await?, 0);
    assert_eq!(desk.rejects().await?, ["2 not_null id"]);
    assert_eq!(desk.database.rows("SELECT * FROM t ORDER BY id").await?, ["1 | a", "3 | c"]);
    Ok(())
}

/// Tables, functions and views for SQL that is refused.
const CALLED: &str = "CREATE TABLE t (id bigint PRIMARY KEY, n int, at timestamptz); CREATE TABLE other (id bigint, v int); \
     CREATE VIEW dice AS SELECT id, random() AS r FROM other; \
     CREATE FUNCTION own(int) RETURNS int LANGUAGE sql AS 'SELECT $1'; \
     CREATE FUNCTION plus(int, int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1 + $2'; \
     CREATE OPERATOR +# (LEFTARG = int, RIGHTARG = int, FUNCTION = plus)";

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_stand_in_a_transform_is_refused_before_any_row() -> Result<()> {
    for (settings, said) in [
        ("set = { n = \"max(input.id)\" }", "set, column n: has an aggregate"),
        ("set = { n = \"row_number() OVER ()\" }", "set, column n: has an aggregate or a window function"),
        ("set = { n = \"generate_series(1, 2)\" }", "set, column n: returns a set"),
        ("where = \"count(*) > 1\"", "where: aggregate functions are not allowed in WHERE"),
        ("where = \"random() < 0.5\"", "where: calls random()"),
        ("where = \"input.id IN (SELECT id FROM public.other FOR UPDATE)\"", "where: locks rows"),
        ("set = { at = \"now()\" }", "set, column at: calls now()"),
        ("set = { at = \"current_timestamp\" }", "set, column at: calls the current date or time"),
        ("set = { n = \"own(1)\" }", "set, column n: calls own(integer)"),
        ("set = { n = \"1 OPERATOR(public.+#) 2\" }", "set, column n: calls plus(integer,integer)"),
        ("join = \"LEFT JOIN dice ON dice.id = input.id\"", "join: calls random()"),
        ("set = { n = \"txid_current()::int\" }", "set, column n: calls txid_current()"),
        ("set = { n = \"pg_backend_pid()\" }", "set, column n: calls pg_backend_pid()"),
        (
            "join = \"LEFT JOIN public.other TABLESAMPLE bernoulli (50) ON other.id = input.id\"",
            "join: calls TABLESAMPLE",
        ),
        ("join = \"LEFT JOIN nowhere ON true\"", "join: relation \"nowhere\" does not exist"),
        ("where = \"input.id = 1 GROUP BY 1\"", "where: syntax error"),
        ("set = { n = \"'a'::text\" }", "column \"n\" is of type integer but expression is of type text"),
        (
            "set = { n = \"input.id\", at = \"input.when\" }\ninput = { when = \"nothing\" }",
            "input: type \"nothing\" does not exist",
        ),
        ("on_new_field = \"add_column\"\n\n[defaults.set]\nn = \"1\"", "add_column"),
    ] {
        let dataset = format!("table = \"t\"\nkey = [\"id\"]\n{settings}\n\n[worker]\nbrake_secs = 0");
        let desk = Desk::new(CALLED, &dataset).await?;
        let checked = desk.run(&["check"]).await?;
        assert!(
            checked.stdout.contains(&format!("wrong: dataset d: {said}")) || checked.stdout.contains(said),
            "{settings}: {}",
            checked.stdout
        );
        assert_eq!(checked.status.code(), Some(2), "{settings}");
        assert_eq!(desk.load("k.csv", "id\n1\n").await?, 3, "{settings}");
        assert_eq!(desk.ledger().await?, ["failed(schema)"], "{settings}");
        assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "0", "{settings}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_like_it_may_stand_there() -> Result<()> {
    for settings in [
        "set = { n = \"(SELECT max(v) FROM public.other)\" }",
        "keep = [\"at\"]\nset = { at = \"now()\" }",
        "keep = [\"n\"]\nset = { n = \"(random() * 10)::int\" }",
        "join = \"CROSS JOIN LATERAL generate_series(1, 1) AS each (n)\"\nset = { n = \"each.n\" }",
        "set = { at = \"coalesce(input.at, input.penstock_last_modified)\" }",
    ] {
        let dataset = format!("table = \"t\"\nkey = [\"id\"]\n{settings}");
        let desk = Desk::new(CALLED, &dataset).await?;
        let checked = desk.run(&["check"]).await?;
        assert!(!checked.stdout.contains("wrong: dataset"), "{settings}: {}", checked.stdout);
        assert_eq!(desk.load("k.csv", "id\n1\n").await?, 0, "{settings}");
        assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "1", "{settings}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_become_of_each_row_is_shown_and_nothing_is_left_behind() -> Result<()> {
    let table = "CREATE TABLE site (site_id bigint PRIMARY KEY, name text); INSERT INTO site VALUES (1, 'one'); \
                 CREATE TABLE t (id bigint PRIMARY KEY, name text, n int CHECK (n < 100))";
    let dataset = "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 9\njoin = \"JOIN public.site ON site.site_id = input.site\"\n\
                   where = \"input.country <> 'KN'\"\nset = { name = \"site.name\", n = \"input.a::int\" }\ninput = { site = \"bigint\" }";
    let desk = Desk::new(table, dataset).await?;
    let file = desk.write(
        "k.csv",
        "id,site,country,a\n1,1,DE,5\n2,1,KN,5\n3,9,DE,5\n4,1,DE,x\n5,1,DE,100\nfive,1,DE,1\n7,1,DE,7\n",
    )?;
    let shown = desk.succeed(&["try", "d", &file, "--rows", "6"]).await?;
    let expected = [
        "row 1: {\"id\":1,\"n\":5,\"name\":\"one\"}",
        "row 2: filtered by where",
        "row 3: filtered by join",
        "row 4: rejected, class type: invalid input syntax for type integer: \"x\"",
        "row 5: rejected, class check: new row for relation \"t\" violates check constraint \"t_n_check\"",
    ];
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[..5], expected, "{shown}");
    assert!(lines[5].starts_with("row 6: rejected, class type, column id: "), "{shown}");
    assert_eq!(lines[6..], ["6 rows: 1 written, 2 filtered, 3 rejected; rolled back"]);
    assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "0");
    assert_eq!(desk.database.value("SELECT count(*) FROM penstock.object").await?, "0");
    assert_eq!(desk.run(&["try", "other", &file]).await?.status.code(), Some(2));

    // Beside what stands: a row of the same key, one that is equal, one that is new.
    desk.database.execute("INSERT INTO t VALUES (1, 'before', 5), (7, 'one', 7)").await?;
    let file = desk.write("l.csv", "id,site,country,a\n1,1,DE,5\n7,1,DE,7\n8,1,DE,8\n9,1,KN,9\n")?;
    let shown = desk.succeed(&["try", "--diff", "d", &file]).await?;
    let expected = [
        "row 1: {\"id\":1}: name \"before\" -> \"one\"",
        "row 2: {\"id\":7}: as it stands",
        "row 3: new: {\"id\":8,\"n\":8,\"name\":\"one\"}",
        "row 4: filtered by where",
        "4 rows: 3 written, 1 filtered, 0 rejected; rolled back",
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_in_a_bucket_is_tried_as_a_file_is() -> Result<()> {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, key text)";
    let dataset = "[[dataset]]\nname = \"d\"\nmatch = \"s3://*/**\"\ntable = \"t\"\nkey = [\"id\"]\n\
                   where = \"input.id <> 2\"\nset = { key = \"input.penstock_key\" }\n";
    let world = World::new(Options { route: Route::Nowhere, ..Options::default() }, table, dataset).await?;
    world.pipeline.put("in/a b.csv", "id\n1\n2\nx\n").await?;
    let object = format!("s3://{}/in/a b.csv", world.pipeline.bucket);
    let tried = world.command("try").args(["d", &object]).run(LIMIT).await?;
    let lines: Vec<&str> = tried.stdout.lines().collect();
    assert_eq!(
        lines[..2],
        ["row 1: {\"id\":1,\"key\":\"in/a b.csv\"}", "row 2: filtered by where"],
        "{}",
        tried.stderr
    );
    assert!(lines[2].starts_with("row 3: rejected, class type, column id: "), "{}", tried.stdout);
    assert_eq!(lines[3..], ["3 rows: 1 written, 1 filtered, 1 rejected; rolled back"]);
    assert_eq!(world.database.value("SELECT count(*) FROM t").await?, "0");
    let tried = world.command("try").args(["d", &object.replace("a b", "c")]).run(LIMIT).await?;
    assert!(tried.status.code() == Some(1) && tried.stderr.contains("in/c.csv"), "{}", tried.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_object_that_replaces_its_own_are_tried_as_if_it_was_not_there() -> Result<()> {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, v text, penstock_object bigint)";
    let desk = Desk::new(table, "table = \"t\"\nmode = \"replace\"\nkey = [\"id\"]").await?;
    let file = desk.write("k.csv", "id,v\n1,a\n2,b\n")?;
    desk.succeed(&["load", &file]).await?;
    desk.write("k.csv", "id,v\n1,a\n2,c\n")?;
    let shown = desk.succeed(&["try", "--diff", "d", &file]).await?;
    assert!(
        shown.contains("row 1: {\"id\":1}: as it stands\nrow 2: {\"id\":2}: v \"b\" -> \"c\"\n2 rows: 2 written"),
        "{shown}"
    );
    assert_eq!(desk.database.value("SELECT string_agg(v, ',' ORDER BY id) FROM t").await?, "a,b");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_is_tested_with_rows_of_its_configuration() -> Result<()> {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, price numeric(10,2), at timestamptz, n int); \
                 INSERT INTO t VALUES (1, 7, NULL, 7)";
    let dataset = r#"table = "t"
key = ["id"]
fan_out = true
join = "CROSS JOIN LATERAL jsonb_array_elements_text(coalesce(input.ns, '[1]')::jsonb) AS each (n)"
where = "input.country <> 'KN'"
set = { n = "each.n::int", price = "input.price * 2" }

[[dataset.test]]
name = "prices are doubled"
input = { id = 1, price = 1.25, country = "DE", at = 2026-01-02T03:04:05Z }
expect = [{ id = 1, price = 2.5, at = "2026-01-02T03:04:05+00:00", n = 1 }]

[[dataset.test]]
name = "lines become rows"
input = [{ id = 1, ns = [1], country = "DE" }, { id = 2, ns = [2], country = "DE" }, { id = 3, country = "KN" }]
expect = [{ n = 1 }, { n = 2 }]

[[dataset.test]]
name = "KN is not for us"
input = [{ id = 1, country = "KN" }]
expect = "filtered"

[[dataset.test]]
name = "numbers are numbers"
input = [{ id = 1, ns = ["x"], country = "DE" }]
expect = "reject""#;
    let desk = Desk::new(table, dataset).await?;
    let shown = desk.succeed(&["test"]).await?;
    assert_eq!(shown.lines().last(), Some("4 tests, 0 failed"), "{shown}");
    assert_eq!(desk.succeed(&["test", "d"]).await?, shown);
    desk.configure(
        "**",
        &dataset.replace("* 2", "* 3").replace("1, country = \"KN\"", "1, country = \"DE\"").replace("[\"x\"]", "[3]"),
    )?;
    let ended = desk.run(&["test"]).await?;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    for line in [
        "FAILED d: prices are doubled",
        "       row 1, column price: expected 2.5, got 3.75",
        "ok     d: lines become rows",
        "FAILED d: KN is not for us",
        "FAILED d: numbers are numbers",
        "4 tests, 3 failed",
    ] {
        assert!(ended.stdout.lines().any(|shown| shown == line), "{line}: {}", ended.stdout);
    }
    assert_eq!(desk.database.rows("SELECT * FROM t").await?, ["1 | 7.00 | ∅ | 7"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_filtered_is_no_reject_of_a_neighbour() -> Result<()> {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, n int CHECK (n > 0))";
    let dataset = "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 5\nwhere = \"input.id NOT BETWEEN 2 AND 9\"\n\
                   set = { n = \"input.a::int\" }";
    let desk = Desk::new(table, dataset).await?;
    let mut file = "id,a\n1,-1\n".to_owned();
    (2..13).for_each(|id| file.push_str(&format!("{id},{}\n", if id == 11 { "bad" } else { "5" })));
    assert_eq!(desk.load("k.csv", file).await?, 0);
    assert_eq!(desk.rejects().await?, ["1 check", "11 type"]);
    assert_eq!(desk.database.rows(COUNTS).await?, ["12 | 0 | 2 | 0 | 8 | 2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_type_or_a_function_does_not_take_is_the_row_s() -> Result<()> {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, q tsquery, r regclass); \
                 CREATE FUNCTION strict_length(a text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS \
                 $$ BEGIN IF length(a) > 3 THEN RAISE 'too long' USING ERRCODE = '28000'; END IF; RETURN a; END $$";
    let dataset = "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 5\nwhere = \"strict_length(input.a) IS NOT NULL\"\n\
                   set = { q = \"input.b::tsquery\" }\ninput = { r = \"regclass\" }";
    let desk = Desk::new(table, dataset).await?;
    let file = "id,a,b,r\n1,abc,x & y,t\n2,abcd,x,t\n3,abc,x & & y,t\n4,abc,x,nowhere\n";
    assert_eq!(desk.load("k.csv", file).await?, 0);
    assert_eq!(desk.rejects().await?, ["2 trigger", "3 type", "4 type"]);
    assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "1");
    // What is wrong for every row is no row's.
    let missing = dataset.replace("strict_length(input.a)", "strict_length(input.a, 1)");
    let desk = Desk::new(table, &format!("{missing}\n\n[worker]\nbrake_secs = 0")).await?;
    assert_eq!(desk.load("k.csv", file).await?, 3);
    assert_eq!(desk.ledger().await?, ["failed(schema)"]);
    assert!(desk.rejects().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_called_function_lacks_is_no_row_s_unless_it_says_so_itself() -> Result<()> {
    let function = |body: &str| {
        format!(
            "CREATE TABLE t (id bigint PRIMARY KEY, v text); CREATE TABLE other (x int); \
             CREATE FUNCTION called(b bigint) RETURNS text STABLE LANGUAGE plpgsql AS \
             $$ BEGIN IF b = 2 THEN {body}; END IF; RETURN b; END $$; \
             CREATE FUNCTION caller(b bigint) RETURNS text STABLE LANGUAGE plpgsql AS \
             $$ BEGIN RETURN public.called(b); END $$"
        )
    };
    let dataset = "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 5\nset = { v = \"caller(input.id)\" }\n\n[worker]\nbrake_secs = 0";
    for (body, reason) in [
        ("RETURN (SELECT x FROM public.nowhere)", "schema"),
        ("RETURN (SELECT y FROM public.other)", "schema"),
        ("RETURN public.nothing(b)", "schema"),
        ("RETURN (SELECT x FROM nowhere.other)", "schema"),
        ("RETURN (SELECT x FROM public.other)", "access"),
    ] {
        // A role that has no right to the tables of others.
        let owner =
            "; ALTER FUNCTION called (bigint) SECURITY DEFINER; ALTER FUNCTION called (bigint) OWNER TO pg_monitor";
        let owner = if reason == "access" { owner } else { "" };
        let desk = Desk::new(&format!("{}{owner}", function(body)), dataset).await?;
        assert_eq!(desk.load("k.csv", "id\n1\n2\n3\n").await?, 3, "{body}");
        assert_eq!(desk.ledger().await?, [format!("failed({reason})")], "{body}");
        assert!(desk.rejects().await?.is_empty(), "{body}");
    }
    for code in ["42P01", "42501", "undefined_function"] {
        let desk = Desk::new(&function(&format!("RAISE 'not this one' USING ERRCODE = '{code}'")), dataset).await?;
        assert_eq!(desk.load("k.csv", "id\n1\n2\n3\n").await?, 0, "{code}");
        assert_eq!(desk.rejects().await?, ["2 trigger"], "{code}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_type_is_held_to_as_it_is_declared() -> Result<()> {
    let table = "CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE DOMAIN two AS varchar(2); \
                 CREATE DOMAIN given AS text NOT NULL; CREATE DOMAIN label AS name CHECK (VALUE <> 'none'); \
                 CREATE DOMAIN pair AS int[] CHECK (cardinality(VALUE) = 2); \
                 CREATE TABLE t (id bigint PRIMARY KEY, v text)";
    let dataset = "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 20\n\
                   set = { v = \"concat_ws('|', input.p, input.w, input.g, input.l, input.a[2])\" }\n\
                   input = { p = \"positive\", w = \"two\", g = \"given\", l = \"label\", a = \"pair\" }";
    let desk = Desk::new(table, dataset).await?;
    let file = "{\"id\":1,\"p\":3,\"w\":\"a\\\"\",\"g\":\"g, {h}\",\"l\":\"some\",\"a\":\"{7,8}\"}\n\
                {\"id\":2,\"g\":\"g\"}\n{\"id\":3,\"g\":\"g\",\"p\":-1}\n{\"id\":4,\"g\":\"g\",\"w\":\"abc\"}\n{\"id\":5}\n\
                {\"id\":6,\"g\":\"g\",\"l\":\"none\"}\n{\"id\":7,\"g\":\"g\",\"a\":\"{7}\"}\n";
    assert_eq!(desk.load("k.json", file).await?, 0);
    assert_eq!(desk.rejects().await?, ["3 check", "4 length", "5 not_null", "6 check", "7 check"]);
    let rows = ["1 | 3|a\"|g, {h}|some|8", "2 | g"];
    assert_eq!(desk.database.rows("SELECT * FROM t ORDER BY id").await?, rows);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_and_statements_of_one_object_share_the_timeout() -> Result<()> {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, v text); CREATE TABLE site (id bigint); INSERT INTO site VALUES (1); \
                 CREATE FUNCTION slow(b bigint) RETURNS bigint STABLE LANGUAGE plpgsql AS \
                 $$ BEGIN PERFORM pg_sleep(0.6); RETURN b; END $$; \
                 CREATE VIEW sites AS SELECT slow(id) AS id FROM site";
    let dataset = "table = \"t\"\nkey = [\"id\"]\ntimeout = \"2s\"\n\
                   awaits = [{ field = \"id\", column = \"public.sites.id\" }, { field = \"other\", column = \"public.sites.id\" }]\n\
                   input = { other = \"bigint\" }";
    let desk = Desk::new(table, dataset).await?;
    let file = desk.write("k.csv", "id,other\n1,1\n")?;
    assert!(!desk.importer(&["load", &file]).run(LIMIT).await?.status.success());
    assert_eq!(desk.ledger().await?, ["failed(transform_timeout)"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dataset_and_its_table_cannot_have_together_is_refused() -> Result<()> {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, n int, penstock_key text)";
    let plain = "CREATE TABLE t (id bigint PRIMARY KEY, n int)";
    for (table, settings, said) in [
        (table, "set = { n = \"1\" }", "column penstock_key has the name of a field"),
        (plain, "newer = \"n\"\nkeep = [\"N\"]", "keep has \"n\", which newer compares"),
        (plain, "set = { n = \"input.a\" }\ninput = { a = \"int NOT NULL\" }", "input: syntax error"),
        (plain, "set = { n = \"input.a\" }\ninput = { a = \"bigserial\" }", "input: type \"bigserial\" does not exist"),
    ] {
        let desk = Desk::new(table, &format!("table = \"t\"\nkey = [\"id\"]\n{settings}")).await?;
        let checked = desk.run(&["check"]).await?;
        assert!(checked.stdout.contains(said), "{settings}: {}", checked.stdout);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_refused_at_first_and_then_taken_are_loaded() -> Result<()> {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, v text); \
                 CREATE FUNCTION second_time(v text) RETURNS text STABLE LANGUAGE plpgsql AS $$ BEGIN \
                     IF NOT EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'penstock_ranged') THEN \
                         RAISE 'not yet'; \
                     END IF; \
                     RETURN v; \
                 END $$";
    let dataset = "table = \"t\"\nkey = [\"id\"]\nset = { v = \"second_time(input.v)\" }";
    let desk = Desk::new(table, dataset).await?;
    assert_eq!(desk.load("k.csv", "id,v\n1,a\n2,b\n").await?, 0);
    assert_eq!(desk.database.rows(COUNTS).await?, ["2 | 0 | 2 | 0 | 0 | 0"]);
    assert_eq!(desk.database.rows("SELECT v FROM t ORDER BY id").await?, ["a", "b"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_fields_that_only_sql_uses_are_rows_of_defaults() -> Result<()> {
    let dataset = "table = \"t\"\nmode = \"append\"\nwhere = \"input.country = 'DE'\"";
    let desk = Desk::new("CREATE TABLE t (n int DEFAULT 7)", dataset).await?;
    assert_eq!(desk.load("k.json", "{\"country\":\"DE\"}\n{\"country\":\"FR\"}\n").await?, 0);
    assert_eq!(desk.database.rows("SELECT n FROM t").await?, ["7"]);
    Ok(())
}
