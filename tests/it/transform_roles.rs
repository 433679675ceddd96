//! SQL of a transform that runs as a role of its own: what it may not read stays unread, and it cannot become another.

use crate::{desk::Desk, world::LIMIT};
use anyhow::{Context as _, Result};
use penstock_tests::{postgres::Postgres, process::Ended};
use std::sync::Arc;

/// The role of the transforms, with a name that wants quotes.
const ROLE: &str = "the \"transform\"";
const QUOTED: &str = "\"the \"\"transform\"\"\"";

const TABLES: &str = "CREATE TABLE t (id bigint PRIMARY KEY, n text); \
     CREATE TABLE site (site_id bigint PRIMARY KEY, name text); INSERT INTO site VALUES (1, 'one'), (2, 'two'); \
     CREATE TABLE secret (word text); INSERT INTO secret VALUES ('sesame'); \
     CREATE SCHEMA apart; CREATE FUNCTION apart.loud(text) RETURNS text STRICT IMMUTABLE LANGUAGE plpgsql AS \
         'BEGIN RETURN upper($1); END'; \
     REVOKE ALL ON FUNCTION apart.loud FROM PUBLIC";

/// A desk whose importer is no superuser, on a server of its own: roles belong to the whole server.
struct Room {
    desk: Desk,
    url: String,
}

impl Room {
    /// Sets it up with the role beside the importer's and no more rights than anybody has by default.
    async fn new(tables: &str, dataset: &str) -> Result<Self> {
        let postgres = Arc::new(tokio::task::spawn_blocking(|| Postgres::start(Default::default())).await??);
        let desk = Desk::with(postgres.create_database_with_ledger().await?, tables, dataset).await?;
        let url = format!("postgres://loader:p@{}/{}", postgres.host_and_port(), desk.database.name());
        let room = Self { desk, url };
        room.execute(
            "CREATE ROLE loader LOGIN NOINHERIT PASSWORD 'p'; \
             GRANT USAGE ON SCHEMA penstock TO loader; GRANT ALL ON ALL TABLES IN SCHEMA penstock TO loader; \
             GRANT ALL ON ALL SEQUENCES IN SCHEMA penstock TO loader; GRANT ALL ON ALL TABLES IN SCHEMA public TO loader",
        )
        .await?;
        Ok(room)
    }

    /// Has the role made, and lets the importer use it.
    async fn with_role(tables: &str, dataset: &str) -> Result<Self> {
        let room = Self::new(tables, dataset).await?;
        room.execute(&format!("CREATE ROLE {QUOTED}; GRANT {QUOTED} TO loader")).await?;
        Ok(room)
    }

    async fn execute(&self, sql: &str) -> Result<()> {
        self.desk.database.execute(sql).await
    }

    async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        self.desk.importer(arguments).env("DATABASE_URL", &self.url).run(LIMIT).await
    }

    async fn load(&self, name: &str, content: &str) -> Result<i32> {
        let file = self.desk.write(name, content)?;
        self.run(&["load", &file]).await?.status.code().context("it was killed")
    }

    async fn rows(&self, sql: &str) -> Result<Vec<String>> {
        self.desk.database.rows(sql).await
    }
}

fn dataset(settings: &str) -> String {
    format!("table = \"public.t\"\nkey = [\"id\"]\nmax_rejects = 9\nrole = '{ROLE}'\n{settings}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_lacks_is_refused_with_what_to_do() -> Result<()> {
    let settings = "join = \"LEFT JOIN public.site ON site.site_id = input.site_id\"\n\
                    set = { n = \"concat(site.name, ' ', apart.loud(input.a), ' ', current_user)\" }\n\
                    input = { site_id = \"bigint\" }\nawaits = { field = \"site_id\", column = \"public.site.site_id\" }\n\n\
                    [worker]\nbrake_secs = 0";
    let room = Room::new(TABLES, &dataset(settings)).await?;
    let database = room.desk.database.name().to_owned();
    room.execute(&format!(
        "REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC; GRANT TEMPORARY ON DATABASE {database} TO loader; \
         REVOKE ALL ON site FROM loader; GRANT USAGE ON SCHEMA apart TO loader"
    ))
    .await?;
    for (said, mended) in [
        (
            "awaits, field site_id, which the importer's role looks for, too: permission denied for table site to the importer's role: GRANT it SELECT",
            "GRANT SELECT ON site TO loader".to_owned(),
        ),
        (
            "role: there is no such role: CREATE ROLE \"the \"\"transform\"\"\" NOLOGIN",
            format!("CREATE ROLE {QUOTED} NOLOGIN"),
        ),
        (
            "role: loader is not a member of role \"the \"\"transform\"\"\": GRANT \"the \"\"transform\"\"\" TO \"loader\"",
            format!("GRANT {QUOTED} TO loader"),
        ),
        (
            "role: role \"the \"\"transform\"\"\" may not own functions of a session: GRANT TEMPORARY ON DATABASE",
            format!("GRANT TEMPORARY ON DATABASE {database} TO {QUOTED}"),
        ),
        (
            "join: permission denied for table site to role \"the \"\"transform\"\"\": GRANT it SELECT",
            format!("GRANT SELECT ON site TO {QUOTED}"),
        ),
        (
            "set, column n: permission denied for schema apart to role",
            format!("GRANT USAGE ON SCHEMA apart TO {QUOTED}"),
        ),
        (
            "set, column n: permission denied for function loud to role",
            format!("GRANT EXECUTE ON FUNCTION apart.loud TO {QUOTED}"),
        ),
    ] {
        let checked = room.run(&["check"]).await?;
        assert!(checked.stdout.contains(&format!("wrong: dataset d: {said}")), "{said}: {}", checked.stdout);
        assert_eq!(room.load("a.csv", "id,site_id,a\n1,1,x\n").await?, 3, "{said}");
        room.execute(&mended).await?;
    }
    let reasons = "SELECT DISTINCT state, reason FROM penstock.object_status";
    assert_eq!(room.rows(reasons).await?, ["failed | schema"]);
    let checked = room.run(&["check"]).await?;
    assert!(!checked.stdout.contains("wrong: dataset"), "{}", checked.stdout);
    assert_eq!(room.load("b.csv", "id,site_id,a\n1,1,x\n2,2,b\n3,,c\n").await?, 0);
    let made = [format!("1 | one X {ROLE}"), format!("2 | two B {ROLE}"), format!("3 |  C {ROLE}")];
    assert_eq!(room.rows("SELECT * FROM t ORDER BY id").await?, made);
    // Neither the ledger nor the table is the role's.
    let rights = "SELECT bool_or(has_table_privilege('the \"transform\"', oid, 'SELECT, INSERT, UPDATE, DELETE')) FROM pg_class \
                  WHERE relnamespace = 'penstock'::regnamespace AND relkind = 'r' OR oid = 't'::regclass";
    assert_eq!(room.rows(rights).await?, ["false"]);
    Ok(())
}

/// Functions that try what they can: a STABLE one calls one that need not be.
const REACHING: &str = "
    CREATE FUNCTION reads() RETURNS text STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT word FROM public.secret); END $$;
    CREATE FUNCTION tries(sql text) RETURNS text VOLATILE LANGUAGE plpgsql AS $$ BEGIN EXECUTE sql; RETURN 'done'; END $$;
    CREATE FUNCTION run(sql text) RETURNS text STABLE LANGUAGE sql AS 'SELECT public.tries(sql)';
    CREATE FUNCTION run_and_read(sql text) RETURNS text STABLE LANGUAGE plpgsql AS
        $$ BEGIN RETURN public.tries(sql) || public.reads(); END $$;
    CREATE FUNCTION evil() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN public.reads(); END $$;";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_fragment_calls_reads_nothing_more_and_becomes_nobody_else() -> Result<()> {
    let tables = format!("{TABLES};{REACHING}");
    let settings = |call: &str| format!("set = {{ n = \"{call}\" }}\n\n[worker]\nbrake_secs = 0");
    let room = Room::with_role(&tables, &dataset(&settings("reads()"))).await?;
    // The importer itself may, so there is something to keep from the role.
    let own = dataset(&settings("run_and_read('SELECT 1')")).replace("role =", "# role =");
    room.desk.configure("**", &own)?;
    assert_eq!(room.load("own.csv", "id\n1\n").await?, 0);
    assert_eq!(room.rows("SELECT n FROM t").await?, ["donesesame"]);
    room.execute("TRUNCATE t, penstock.head, penstock.object CASCADE").await?;

    for (call, reason) in [
        ("reads()", "access"),
        ("run_and_read('RESET ROLE')", "access"),
        ("run_and_read('SET ROLE loader')", "access"),
        ("run_and_read('SET LOCAL ROLE NONE')", "access"),
        ("run_and_read('SELECT set_config(''role'', ''none'', true)')", "access"),
        ("run_and_read('SET SESSION AUTHORIZATION DEFAULT')", "access"),
        // What the importer's own statements would run into.
        ("run('DECLARE c CURSOR WITH HOLD FOR SELECT public.evil()')", "schema"),
        ("run('PREPARE p AS SELECT public.evil()')", "schema"),
        ("run('SET standard_conforming_strings = off')", "schema"),
        ("run('SET LOCAL timezone = ''Asia/Kathmandu''')", "schema"),
    ] {
        room.desk.configure("**", &dataset(&settings(call)))?;
        assert_eq!(room.load("a.csv", "id\n1\n2\n").await?, 3, "{call}");
        let told = "SELECT state, reason FROM penstock.object_status";
        assert_eq!(room.rows(told).await?, [format!("failed | {reason}")], "{call}");
        assert_eq!(room.rows("SELECT * FROM t").await?, [""; 0], "{call}");
        room.execute("TRUNCATE penstock.head, penstock.object CASCADE").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_apart_is_found_as_the_role() -> Result<()> {
    let tables = "CREATE TABLE host (address inet PRIMARY KEY); INSERT INTO host VALUES ('10.0.0.4'); \
                  CREATE TABLE factor (f int); INSERT INTO factor VALUES (0); \
                  CREATE TABLE t (id bigint PRIMARY KEY, address inet, n text)";
    let settings = "join = \"LEFT JOIN public.factor ON true\"\nset = { n = \"CASE WHEN input.a = 'x' THEN 10 / factor.f ELSE input.a::int END || current_user\" }\n\
                    awaits = { field = \"address\", column = \"public.host.address\" }";
    let room = Room::with_role(tables, &dataset(settings)).await?;
    room.execute(&format!("GRANT SELECT ON factor, host TO {QUOTED}")).await?;
    let file = "id,address,a\n1,10.0.0.2,1\n2,nowhere,2\n3,10.0.0.4,3\n4,,x\n5,10.0.0.2,y\n6,10.0.0.3,6\n";
    assert_eq!(room.load("a.csv", file).await?, 0);
    assert_eq!(room.desk.rejects().await?, ["2 type", "4 type", "5 type"]);
    let rows = "SELECT id, n FROM t ORDER BY id";
    let made = |rows: &[&str]| rows.iter().map(|row| format!("{row}{ROLE}")).collect::<Vec<_>>();
    assert_eq!(room.rows(rows).await?, made(&["1 | 1", "3 | 3", "6 | 6"]));
    assert_eq!(room.rows("SELECT value FROM penstock.waiting ORDER BY 1").await?, ["10.0.0.2/32", "10.0.0.3/32"]);
    let path = room.desk.write("b.csv", "id,address,a\n7,,7\n8,,y\n")?;
    let tried = room.run(&["try", "d", &path]).await?;
    assert!(tried.stdout.contains(&format!("7{}", ROLE.replace('"', "\\\""))), "{}{}", tried.stdout, tried.stderr);
    assert!(tried.stdout.contains("row 2: rejected, class type"), "{}", tried.stdout);
    room.execute("UPDATE factor SET f = 5").await?;
    assert_eq!(room.run(&["rejects", "--replay"]).await?.status.code(), Some(0));
    assert_eq!(room.rows(rows).await?, made(&["1 | 1", "3 | 3", "4 | 2", "6 | 6"]));

    // A function that isolates is as shut in: one row is refused before another reaches out.
    room.execute(&format!(
        "SET search_path = public; CREATE TABLE secret (word text); GRANT SELECT ON secret TO loader;{REACHING}"
    ))
    .await?;
    let settings = "set = { n = \"CASE WHEN input.a = 'x' THEN input.b::int::text ELSE run(input.b) END\" }\n\n[worker]\nbrake_secs = 0";
    room.desk.configure("**", &dataset(settings))?;
    let told = "SELECT state, reason FROM penstock.object_status ORDER BY id DESC LIMIT 1";
    for (reach, fate) in [
        ("SELECT * FROM public.secret", "failed | access"),
        ("RESET ROLE", "failed | access"),
        ("PREPARE p AS SELECT 1", "failed | schema"),
        ("SELECT 1", "imported | ∅"),
    ] {
        room.load("c.csv", &format!("id,a,b\n10,x,bad\n11,y,{reach}\n12,x,1\n")).await?;
        assert_eq!(room.rows(told).await?, [fate], "{reach}");
    }
    assert_eq!(room.desk.rejects().await?.last().map(String::as_str), Some("5 type"));
    assert_eq!(room.rows("SELECT id, n FROM t WHERE id > 9 ORDER BY id").await?, ["11 | done", "12 | 1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_of_one_session_cannot_use_each_other() -> Result<()> {
    let tables = "CREATE TABLE t (id bigint PRIMARY KEY, n text); CREATE TABLE u (id bigint PRIMARY KEY, n text); \
        CREATE FUNCTION borrow() RETURNS text STABLE LANGUAGE plpgsql AS $$ \
        DECLARE other text; BEGIN \
            SELECT oid::regproc INTO other FROM pg_proc \
            WHERE proname LIKE 'penstock\\_transform\\_%' AND prosecdef AND pronargs = 2 AND proowner <> current_user::regrole \
                  AND pronamespace = pg_my_temp_schema(); \
            IF other IS NOT NULL THEN EXECUTE format('SELECT %s(''SELECT 1'', '''')', other); END IF; \
            RETURN coalesce(other, 'nothing'); \
        END $$";
    let test =
        |n: &str| format!("[[dataset.test]]\nname = \"whose\"\ninput = {{ id = 1 }}\nexpect = {{ n = '{n}' }}\n");
    let matched = |name: &str| format!("match = \"**/*{name}.csv\"\n");
    let other = format!(
        "[[dataset]]\nname = \"u\"\n{}table = \"public.u\"\nkey = [\"id\"]\nrole = \"other\"\nset = {{ n = \"borrow()\" }}\n{}",
        matched("u"),
        test("nothing")
    );
    let config = format!(
        "table = \"public.t\"\nkey = [\"id\"]\nrole = '{ROLE}'\nset = {{ n = \"current_user\" }}\n{}\n{other}",
        test(ROLE)
    );
    let room = Room::with_role(tables, &config).await?;
    room.execute("CREATE ROLE other; GRANT other TO loader").await?;
    room.desk.configure("*t.csv", &config)?;
    let alone = room.desk.write("u.csv", "id\n1\n")?;
    let alone = room.run(&["load", &alone]).await?;
    assert_eq!(alone.status.code(), Some(0), "{}", alone.stderr);
    assert_eq!(room.rows("SELECT n FROM u").await?, ["nothing"]);
    // One session has both.
    let both = room.run(&["test"]).await?;
    assert_ne!(both.status.code(), Some(0), "{}", both.stdout);
    let said = both.stdout + &both.stderr;
    assert!(said.contains("permission denied for function penstock_transform_"), "{said}");
    Ok(())
}
