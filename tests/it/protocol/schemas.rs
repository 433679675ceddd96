//! Names: nothing that stands in `public` is taken for what a statement means, and what stands elsewhere is met by its own
//! operators, in whatever schema.

use super::bench::Bench;
use anyhow::Result;
use importer::{database::Server, ledger::migrate::migrate};
use penstock_tests::postgres::Postgres;
use std::fmt::Write as _;

/// Objects that fit what our statements say better than those of `pg_catalog` do, wherever `public` is looked into.
const PLANTED: &str = "
    CREATE FUNCTION trap(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
    CREATE OPERATOR = (LEFTARG = varchar, RIGHTARG = varchar, PROCEDURE = trap);
    CREATE OPERATOR >= (LEFTARG = varchar, RIGHTARG = varchar, PROCEDURE = trap);
    CREATE OPERATOR < (LEFTARG = varchar, RIGHTARG = varchar, PROCEDURE = trap);
    CREATE FUNCTION trap(jsonb, jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
    CREATE OPERATOR - (LEFTARG = jsonb, RIGHTARG = jsonb, PROCEDURE = trap);
    CREATE TABLE head (trap int);
    CREATE TABLE object (trap int);
    CREATE TABLE paths (path text);
    CREATE FUNCTION note_path() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO public.paths VALUES (current_setting('search_path')); RETURN NULL; END $$;";

#[tokio::test(flavor = "multi_thread")]
async fn what_others_put_into_public_is_never_called() -> Result<()> {
    let table = format!(
        "{PLANTED} CREATE TABLE t (id varchar PRIMARY KEY, at varchar, v varchar CHECK (v <> 'bad'::text));
         CREATE TRIGGER paths AFTER INSERT OR UPDATE ON t EXECUTE FUNCTION note_path()"
    );
    for technique in ["staged", "auto"] {
        let dataset = format!(
            "table = \"public.t\"\nkey = [\"id\"]\nnewer = \"at\"\nmax_rejects = 5\ntechnique = \"{technique}\""
        );
        let bench = Bench::new(&table, &dataset).await?;
        let first = "{\"id\": \"a\", \"at\": \"1\", \"v\": \"x\"}\n{\"id\": \"b\", \"at\": \"1\", \"v\": \"x\"}\n";
        assert_eq!(bench.put("k", first, "01").await?, "imported 2 = 2 + 0 + 0");
        let second = "{\"id\": \"a\", \"at\": \"2\", \"v\": \"y\"}\n{\"id\": \"b\", \"at\": \"0\", \"v\": \"y\"}\n\
                      {\"id\": \"c\", \"at\": \"0\", \"v\": \"bad\"}\n";
        assert_eq!(bench.put("k", second, "02").await?, "imported 3 = 1 + 1 + 1", "{technique}");
        assert_eq!(bench.rows("SELECT id COLLATE \"C\", v FROM t ORDER BY 1").await?, ["a | y", "b | x"]);
        assert_eq!(bench.rows("SELECT DISTINCT path FROM paths").await?, ["pg_catalog"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_are_kept_in_our_schema_whatever_public_has() -> Result<()> {
    let database = Postgres::shared()?.create_database().await?;
    database.execute("SET search_path = public; CREATE TABLE _sqlx_migrations (another int)").await?;
    let mut connection = Server::read(&database.url())?.connect().await?;
    assert!(migrate(&mut connection).await? > 0);
    let path: String = sqlx::query_scalar("SHOW search_path").fetch_one(&mut connection).await?;
    assert_eq!(path, "pg_catalog");
    assert_eq!(migrate(&mut connection).await?, 0);
    assert_eq!(database.value("SELECT count(*) > 0 FROM penstock._sqlx_migrations").await?, "true");
    Ok(())
}

/// A schema whose name has to be quoted, with types of its own: below domains, in arrays, of extensions.
const ELSEWHERE: &str = r#"
    CREATE SCHEMA "od d""s";
    CREATE EXTENSION citext SCHEMA "od d""s";
    CREATE EXTENSION ltree SCHEMA "od d""s";
    CREATE EXTENSION hstore SCHEMA "od d""s";
    CREATE TYPE "od d""s"."mo od" AS ENUM ('low', 'high');
    CREATE DOMAIN "od d""s"."na me" AS "od d""s".citext CHECK (VALUE IS NOT NULL);
    CREATE TYPE "od d""s".pair AS (a int, b text);
    CREATE TABLE "od d""s"."t b" (
        id "od d""s"."na me" PRIMARY KEY,
        at "od d""s".ltree,
        name "od d""s".citext,
        mood "od d""s"."mo od" DEFAULT 'low',
        tags "od d""s".citext[],
        more "od d""s".hstore,
        pair "od d""s".pair,
        v text);"#;

fn one(id: &str, at: &str, name: &str) -> String {
    format!(
        "{{\"id\": \"{id}\", \"at\": \"{at}\", \"name\": \"{name}\", \"mood\": \"high\", \"tags\": \"{{A}}\", \
         \"more\": \"a=>1\", \"pair\": \"(1,x)\", \"v\": \"{at}\"}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn types_of_other_schemas_are_met_by_their_own_order() -> Result<()> {
    let dataset = "table = \"od d\\\"s.t b\"\nkey = [\"id\"]\nnewer = \"at\"";
    let bench = Bench::new(ELSEWHERE, dataset).await?;
    assert_eq!(bench.put("k", &one("Key", "a.b", "N"), "01").await?, "imported 1 = 1 + 0 + 0");
    // The older one gives way, whatever the case of its key.
    let older = format!("{}{}", one("KEY", "a", "M"), one("other", "a", "n"));
    assert_eq!(bench.put("k", &older, "02").await?, "imported 2 = 1 + 1 + 0");
    let newer = format!("{}{}", one("key", "b", "O"), one("KEY", "a.c", "P"));
    assert_eq!(bench.put("k", &newer, "03").await?, "imported 2 = 1 + 1 + 0");
    let rows =
        "SELECT id, at, name, mood, tags::text, more::text, pair::text, v FROM \"od d\"\"s\".\"t b\" ORDER BY id";
    assert_eq!(
        bench.rows(rows).await?,
        [
            "Key | b | O | high | {A} | \"a\"=>\"1\" | (1,x) | b",
            "other | a | n | high | {A} | \"a\"=>\"1\" | (1,x) | a"
        ]
    );
    // Only in another case: the same name to its type, so the row is not written again.
    let at = "SELECT xmin, ctid FROM \"od d\"\"s\".\"t b\" WHERE id OPERATOR(\"od d\"\"s\".=) 'key'";
    let before = bench.rows(at).await?;
    assert_eq!(bench.put("k", &one("key", "b", "o"), "04").await?, "imported 1 = 1 + 0 + 0");
    assert_eq!(bench.rows(at).await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_is_found_by_the_order_of_its_type() -> Result<()> {
    let dataset = "table = \"od d\\\"s.t b\"\nkey = [\"id\"]\nnewer = \"name\"\ntechnique = \"staged\"";
    let bench = Bench::new(ELSEWHERE, dataset).await?;
    bench.put("k", &one("a", "x", "b"), "01").await?;
    // As texts "C" comes before "b".
    let twice = format!("{}{}", one("a", "y", "C"), one("a", "z", "a"));
    assert_eq!(bench.put("k", &twice, "02").await?, "imported 2 = 1 + 1 + 0");
    assert_eq!(bench.put("k", &one("a", "w", "B"), "03").await?, "imported 1 = 0 + 1 + 0");
    assert_eq!(bench.rows("SELECT v FROM \"od d\"\"s\".\"t b\"").await?, ["y"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_rows_change_foreign_keys_are_found() -> Result<()> {
    let dataset = "table = \"od d\\\"s.t b\"\nkey = [\"id\"]\ntechnique = \"staged\"";
    let bench = Bench::new(ELSEWHERE, dataset).await?;
    let rows = |prefix: &str, changed: usize| {
        (0..1500).fold(String::new(), |mut rows, i| {
            let name = if i % 100 < changed { "new" } else { "old" };
            let _ = writeln!(rows, "{{\"id\": \"{prefix}{i}\", \"name\": \"{name}{changed}\"}}");
            rows
        })
    };
    bench.put("k", &rows("k", 0), "01").await?;
    for (sequencer, changed) in [("02", 100), ("03", 10), ("04", 0)] {
        assert_eq!(bench.put("k", &rows("K", changed), sequencer).await?, "imported 1500 = 1500 + 0 + 0");
        let new =
            format!("SELECT count(*), min(id::text) FROM \"od d\"\"s\".\"t b\" WHERE name::text = 'new{changed}'");
        assert_eq!(bench.rows(&new).await?[0].split(" | ").next(), Some((changed * 15).to_string().as_str()));
    }
    assert_eq!(bench.rows("SELECT count(*) FROM \"od d\"\"s\".\"t b\"").await?, ["1500"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_table_name_is_read_by_the_roles_own_search_path() -> Result<()> {
    let bench = Bench::new(
        "CREATE SCHEMA \"Own\"; CREATE TABLE \"Own\".t (id int PRIMARY KEY); CREATE TABLE public.t (id int PRIMARY KEY)",
        "table = \"t\"\nkey = [\"id\"]",
    )
    .await?;
    bench
        .database
        .execute(&format!("ALTER DATABASE {} SET search_path = \"Own\", public", bench.database.name()))
        .await?;
    assert_eq!(bench.put("k", "{\"id\": 1}\n", "01").await?, "imported 1 = 1 + 0 + 0");
    assert_eq!(bench.rows("SELECT count(*) FROM \"Own\".t").await?, ["1"]);

    let bench = Bench::new("", "table = \"nowhere\"\nkey = [\"id\"]").await?;
    bench
        .database
        .execute(&format!("ALTER DATABASE {} SET search_path = \"Own\", public", bench.database.name()))
        .await?;
    let said = bench.put("k", "{\"id\": 1}\n", "01").await?;
    let expected = "failed(schema): table nowhere does not exist in this role's search_path (\"Own\", public)";
    assert_eq!(said, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_relies_on_a_search_path_says_what_to_do() -> Result<()> {
    let tables = "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE audit (id int);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO audit VALUES (new.id); RETURN new; END $$;
        CREATE TRIGGER note BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()";
    let bench = Bench::new(tables, "table = \"public.t\"\nkey = [\"id\"]").await?;
    let said = bench.put("k", "{\"id\": 1}\n", "01").await?;
    assert!(said.starts_with("failed(schema): undefined table in a function"), "{said}");
    assert!(said.contains("ALTER FUNCTION … SET search_path"), "{said}");
    bench.database.execute("ALTER FUNCTION public.note() SET search_path = public").await?;
    assert_eq!(bench.put("l", "{\"id\": 1}\n", "01").await?, "imported 1 = 1 + 0 + 0");
    assert_eq!(bench.rows("SELECT id FROM public.audit").await?, ["1"]);
    Ok(())
}
