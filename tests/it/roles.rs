//! The roles of `infra/postgres/`: each can do its part, and none can do another's.

use crate::desk::Desk;
use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::{Context as _, Result};
use penstock_tests::{
    aws::Options,
    postgres::{Postgres, installed},
    process::{self, Ended, Program},
    repository,
    scratch::Scratch,
    spawn,
};
use std::{os::unix::fs::PermissionsExt as _, process::Command, sync::Arc};

/// What everyone may do on a fresh database. Taken away, what is left is what the files grant.
const NOTHING_FOR_EVERYONE: &str =
    "REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC";

#[tokio::test(flavor = "multi_thread")]
async fn owner_migrates_worker_imports_and_scaler_decides_each_with_its_own_rights_only() -> Result<()> {
    let cast = Cast::new().await?;
    let refused = cast.importer("migrate", "penstock_worker").await?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stderr.contains("this role (penstock_worker) lacks the CREATE right on the database"),
        "{}",
        refused.stderr
    );
    let refused = cast.scaler("once", "penstock_scaler").await?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("(penstock_scaler) lacks the CREATE right on the database"), "{}", refused.stderr);

    let migrated = cast.importer("migrate", "penstock_owner").await?;
    assert_eq!(migrated.status.code(), Some(0), "{}", migrated.stderr);
    let refused = cast.importer("migrate", "penstock_worker").await?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stderr.contains("lacks the USAGE right on schema penstock: GRANT USAGE ON SCHEMA penstock TO"),
        "{}",
        refused.stderr
    );
    let refused = cast.scaler("once", "penstock_scaler").await?;
    assert!(refused.stderr.contains("(penstock_scaler) lacks the USAGE right"), "{}", refused.stderr);
    // Twice: what an upgrade runs again must not fail.
    for _ in 0..2 {
        cast.psql("penstock_owner", &["-f", "infra/postgres/grants.sql"])?;
    }
    cast.psql("penstock", &["-v", "schema=public", "-v", "table=pairs", "-f", "infra/postgres/table.sql"])?;
    let current = cast.importer("migrate", "penstock_worker").await?;
    assert_eq!((current.status.code(), current.stdout.as_str()), (Some(0), "schema penstock is up to date\n"));

    // Good rows, a row Postgres refuses, a new version of an object, a corrupt one, an import without a queue.
    let pipeline = &cast.world.pipeline;
    pipeline.put("pairs/a", pairs(&[(1, "x"), (2, "y")])).await?;
    pipeline.put("pairs/b", pairs(&[(3, "z")]) + "{\"id\":null,\"value\":\"w\"}\n").await?;
    pipeline.put("pairs/c.parquet", "PAR1 and nothing else").await?;
    pipeline.wait_for_visible(3, LIMIT).await?;
    cast.drain().await?;
    pipeline.put("pairs/a", pairs(&[(1, "x"), (2, "changed")])).await?;
    pipeline.wait_for_visible(1, LIMIT).await?;
    cast.drain().await?;
    assert_eq!(cast.world.pairs().await?, ["1=x", "2=changed", "3=z"]);
    let states = cast.world.states().await?;
    assert_eq!(
        states,
        ["pairs/a | imported | 2", "pairs/a | imported | 2", "pairs/b | imported | 1", "pairs/c.parquet | failed | 0"]
    );
    assert_eq!(cast.world.database.value("SELECT count(*) FROM penstock.rejects").await?, "1");
    for command in ["status", "rejects"] {
        let shown = cast.importer(command, "penstock_worker").await?;
        assert_eq!(shown.status.code(), Some(0), "{command}: {}", shown.stderr);
    }
    let ended = cast.program("rejects", "penstock_worker").arg("--replay").run(LIMIT).await?;
    assert!(!ended.stderr.contains("permission denied"), "{}", ended.stderr);

    let once = cast.scaler("once", "penstock_scaler").await?;
    assert_eq!(once.status.code(), Some(0), "{}", once.stderr);
    let history = cast.scaler("history", "penstock_scaler").await?;
    assert!(history.status.success() && !history.stdout.is_empty(), "{}", history.stderr);

    // The console reads all of it, and nothing else.
    let reader = cast.url("penstock_reader");
    let config = cast.world.config().with_file_name("console.toml");
    std::fs::write(&config, "[http]\nlisten = \"127.0.0.1:0\"\n")?;
    let console =
        |command| Program::new("console").arg(command).arg("--config").arg(&config).env("DATABASE_URL", &reader);
    let checked = console("check").run(LIMIT).await?;
    assert_eq!(checked.status.code(), Some(0), "{}{}", checked.stdout, checked.stderr);
    let console = console("run").arg("--log-format").arg("json").start()?;
    let line: serde_json::Value = serde_json::from_str(&console.wait_for_line("serving health", LIMIT).await?)?;
    let url = format!("http://{}", line["listen"].as_str().context("an address")?);
    for path in ["/.json", "/objects/1.json", "/objects/3.json", "/objects/4.json"] {
        let answer = penstock_tests::http::get(&format!("{url}{path}")).await?;
        assert!(answer.status == 200 && !answer.body.contains("\"failure\": \""), "{path}: {}", answer.body);
    }
    Ok(())
}

/// On managed servers the administrator is no superuser, and from Postgres 16 on it may not grant what others own.
#[tokio::test(flavor = "multi_thread")]
async fn owner_migrates_worker_imports_where_the_administrator_cannot_let_them_see_statistics() -> Result<()> {
    let postgres = Arc::new(tokio::task::spawn_blocking(|| Postgres::start(Default::default())).await??);
    let database = postgres.create_database().await?;
    database.execute("CREATE ROLE administrator LOGIN CREATEROLE PASSWORD 'p'").await?;
    database.execute("CREATE ROLE provider SUPERUSER").await?;
    database.execute(&format!("ALTER DATABASE {} OWNER TO administrator", database.name())).await?;
    let scratch = Scratch::new("roles")?;
    let files = scratch.path().join("postgres");
    crate::guides::copy(&repository().join("infra/postgres"), &files)?;
    // Postgres 15 lets it; what only a superuser may grant stands for what a newer one refuses.
    let roles = std::fs::read_to_string(files.join("roles.sql"))?;
    let grant = "GRANT pg_read_all_stats TO penstock_scaler, penstock_reader;\nEXCEPTION";
    assert!(roles.contains(grant), "{roles}");
    let refused = grant.replace("pg_read_all_stats", "provider");
    std::fs::write(files.join("roles.sql"), roles.replace(grant, &refused))?;
    let prepare = || {
        let mut prepare = Command::new(files.join("prepare.sh"));
        let programs = process::binary("importer")?;
        let own = [programs.parent().context("a directory")?.to_path_buf(), installed()?];
        let path = std::env::var_os("PATH").unwrap_or_default();
        prepare.env("PATH", std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)))?);
        let place = format!("{}/{}", postgres.host_and_port(), database.name());
        prepare.env("DATABASE_URL", format!("postgres://administrator@{place}")).env("PGPASSWORD", "p");
        let output = prepare.arg(scratch.path().join("out")).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::ensure!(output.status.success(), "{said}");
        anyhow::ensure!(said.contains("pg_read_all_stats is not yours to grant"), "{said}");
        anyhow::Ok(())
    };
    prepare()?;
    let url = |role: &str| std::fs::read_to_string(scratch.path().join(format!("out/{role}.database-url")));
    let first = url("worker")?;
    // Again, as before an upgrade: nobody's password changes.
    prepare()?;
    assert_eq!(url("worker")?, first);
    for (role, statement, allowed) in [
        ("owner", "CREATE TABLE penstock.t (id int)", true),
        ("worker", "DELETE FROM penstock.workers", true),
        ("scaler", "SELECT FROM penstock.workers", true),
        ("reader", "SELECT FROM penstock.problem", true),
        ("reader", "SELECT FROM penstock.due", false),
    ] {
        let file = scratch.path().join(format!("out/{role}.database-url"));
        assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o077, 0, "{role}: others may read it");
        let psql = Command::new(installed()?.join("psql"))
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement, "-d", url(role)?.trim()])
            .output()?;
        assert_eq!(psql.status.success(), allowed, "{role}: {}", String::from_utf8_lossy(&psql.stderr));
    }
    assert!(!scratch.path().join("out/owner.pgpass").exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn later_migrations_need_the_owner_and_nobody_else_can_remove_what_is_known() -> Result<()> {
    let cast = Cast::new().await?;
    let migrated = cast.importer("migrate", "penstock_owner").await?;
    assert_eq!(migrated.status.code(), Some(0), "{}", migrated.stderr);
    cast.psql("penstock_owner", &["-f", "infra/postgres/grants.sql"])?;

    // As it stands after an upgrade of the programs, before the new release's migration.
    let newest =
        "DELETE FROM penstock._sqlx_migrations WHERE version = (SELECT max(version) FROM penstock._sqlx_migrations)";
    cast.world.database.execute(newest).await?;
    let refused = cast.importer("migrate", "penstock_worker").await?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stderr.contains(
            "is 1 migrations behind and this role (penstock_worker) lacks the CREATE right on schema penstock"
        ),
        "{}",
        refused.stderr
    );
    let refused = cast.program("run", "penstock_worker").run(LIMIT).await?;
    assert_eq!(refused.status.code(), Some(1), "a worker must not start on an older schema");
    assert!(refused.stderr.contains("lacks the CREATE right on schema penstock"), "{}", refused.stderr);

    // A role that may create tables and owns none is told so, too.
    cast.world.database.execute("GRANT CREATE ON SCHEMA penstock TO penstock_worker").await?;
    let refused = cast.importer("migrate", "penstock_worker").await?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("lacks ownership of penstock._sqlx_migrations, "), "{}", refused.stderr);

    for (role, statement) in [
        ("penstock_worker", "DELETE FROM penstock.object"),
        ("penstock_worker", "DELETE FROM penstock.head"),
        ("penstock_worker", "INSERT INTO penstock.decisions SELECT"),
        ("penstock_worker", "DELETE FROM penstock._sqlx_migrations"),
        ("penstock_scaler", "DELETE FROM penstock._sqlx_migrations"),
        ("penstock_scaler", "UPDATE penstock.object SET state = 'imported'"),
        ("penstock_scaler", "DELETE FROM penstock.workers"),
        ("penstock_scaler", "SELECT * FROM penstock.reject"),
        ("penstock_scaler", "SELECT * FROM public.pairs"),
        ("penstock_owner", "SELECT * FROM public.pairs"),
        ("penstock_reader", "SELECT * FROM public.pairs"),
        ("penstock_reader", "SELECT payload FROM penstock.reject"),
        ("penstock_reader", "SELECT body FROM penstock.due_item"),
        ("penstock_reader", "SELECT value FROM penstock.waiting_key"),
        ("penstock_reader", "DELETE FROM penstock.problem"),
        ("penstock_reader", "UPDATE penstock.object SET state = 'imported'"),
    ] {
        let said = cast.psql(role, &["-c", statement]).expect_err(statement);
        assert!(format!("{said:#}").contains("permission denied"), "{role}: {statement}: {said:#}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_runs_on_the_schema_of_a_later_one_so_it_can_be_put_back() -> Result<()> {
    let cast = Cast::new().await?;
    let migrated = cast.importer("migrate", "penstock_owner").await?;
    assert_eq!(migrated.status.code(), Some(0), "{}", migrated.stderr);
    cast.psql("penstock_owner", &["-f", "infra/postgres/grants.sql"])?;
    cast.psql("penstock", &["-v", "schema=public", "-v", "table=pairs", "-f", "infra/postgres/table.sql"])?;
    // What a later release may do: add a column and a table, and note the migration.
    let later = "ALTER TABLE penstock.object ADD COLUMN later text; CREATE TABLE penstock.later (id bigint); \
        INSERT INTO penstock._sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (29990101000000, 'later', true, '', 0)";
    cast.psql("penstock_owner", &["-c", later])?;
    cast.world.pipeline.put("pairs/a", pairs(&[(1, "x")])).await?;
    cast.world.pipeline.wait_for_visible(1, LIMIT).await?;
    cast.drain().await?;
    assert_eq!(cast.world.pairs().await?, ["1=x"]);
    let once = cast.scaler("once", "penstock_scaler").await?;
    assert_eq!(once.status.code(), Some(0), "{}", once.stderr);
    for role in ["penstock_owner", "penstock_worker"] {
        let migrated = cast.importer("migrate", role).await?;
        assert_eq!((migrated.status.code(), migrated.stdout.as_str()), (Some(0), "schema penstock is up to date\n"));
    }
    // And until somebody runs the grants again, the new table is usable.
    for role in ["penstock_worker", "penstock_scaler"] {
        cast.psql(role, &["-c", "INSERT INTO penstock.later VALUES (1)"])?;
    }
    Ok(())
}

/// Looks at awaited columns take SELECT on them; who lacks it leaves the look to who has it.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_arrived_are_found_by_whoever_may_see_them() -> Result<()> {
    let cast = Cast::new().await?;
    let database = &cast.world.database;
    let config = std::fs::read_to_string(cast.world.config())?;
    let awaits = "awaits = { field = \"value\", column = \"public.site.name\" }\n";
    std::fs::write(cast.world.config(), config + awaits)?;
    database.execute("CREATE TABLE site (name text PRIMARY KEY)").await?;
    database.execute("GRANT SELECT ON site TO penstock_owner, penstock_worker").await?;
    let migrated = cast.importer("migrate", "penstock_owner").await?;
    assert_eq!(migrated.status.code(), Some(0), "{}", migrated.stderr);
    cast.psql("penstock_owner", &["-f", "infra/postgres/grants.sql"])?;
    cast.psql("penstock", &["-v", "schema=public", "-v", "table=pairs", "-f", "infra/postgres/table.sql"])?;
    cast.world.pipeline.put("pairs/a", pairs(&[(1, "x")])).await?;
    cast.world.pipeline.wait_for_visible(1, LIMIT).await?;
    cast.drain().await?;
    assert_eq!(database.value("SELECT value FROM penstock.waiting").await?, "x");

    let ask = "INSERT INTO site VALUES ('x'); INSERT INTO penstock.recheck_item (lookup) VALUES ('public.site.name')";
    database.execute(ask).await?;
    let arrived = "SELECT count(*) FROM penstock.refreshed";
    let once = cast.scaler("once", "penstock_scaler").await?;
    assert_eq!(once.status.code(), Some(0), "{}", once.stderr);
    assert_eq!(database.value(arrived).await?, "0");
    let due = "SELECT kind, target, error FROM penstock.due WHERE kind = 'recheck'";
    assert_eq!(database.rows(due).await?, ["recheck | public.site.name | permission denied for schema public"]);
    let sent = cast.importer("due", "penstock_worker").await?;
    assert_eq!(sent.status.code(), Some(0), "{}", sent.stderr);
    assert_eq!(database.value(arrived).await?, "1");

    // With the right the scaler does it.
    database.execute("DELETE FROM penstock.refreshed; GRANT USAGE ON SCHEMA public TO penstock_scaler; GRANT SELECT ON site TO penstock_scaler").await?;
    database.execute("INSERT INTO penstock.recheck_item (lookup) VALUES ('public.site.name')").await?;
    let once = cast.scaler("once", "penstock_scaler").await?;
    assert!(once.status.success(), "{}", once.stderr);
    assert_eq!(database.value(arrived).await?, "1");
    assert!(database.rows(due).await?.is_empty());
    Ok(())
}

/// A server with the three roles, and a world on it that knows nobody else.
struct Cast {
    postgres: Arc<Postgres>,
    world: World,
}

impl Cast {
    async fn new() -> Result<Self> {
        // Roles belong to the whole server, so it is one of the story's own.
        let postgres = tokio::task::spawn_blocking(|| Postgres::start(Default::default())).await??;
        let postgres = Arc::new(postgres);
        let world = World::on(&postgres, Options::default(), PAIRS_TABLE, PAIRS).await?;
        world.database.execute(&NOTHING_FOR_EVERYONE.replace("{name}", world.database.name())).await?;
        let cast = Self { postgres, world };
        for _ in 0..2 {
            cast.psql("penstock", &["-f", "infra/postgres/roles.sql"])?;
        }
        for role in ["penstock_owner", "penstock_worker", "penstock_scaler", "penstock_reader"] {
            cast.world.database.execute(&format!("ALTER ROLE {role} PASSWORD 'p'")).await?;
        }
        Ok(cast)
    }

    /// Returns the database's URL for a role; `penstock` is the administrator.
    fn url(&self, role: &str) -> String {
        match role {
            "penstock" => self.world.database.url(),
            role => format!("postgres://{role}:p@{}/{}", self.postgres.host_and_port(), self.world.database.name()),
        }
    }

    /// Runs psql as the guides do.
    fn psql(&self, role: &str, arguments: &[&str]) -> Result<String> {
        let mut psql = Command::new(installed()?.join("psql"));
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.url(role)]).args(arguments);
        spawn::run(psql.current_dir(repository())).with_context(|| format!("psql as {role}"))
    }

    fn program(&self, subcommand: &str, role: &str) -> Program {
        self.world.command(subcommand).env("DATABASE_URL", self.url(role))
    }

    async fn importer(&self, subcommand: &str, role: &str) -> Result<Ended> {
        self.program(subcommand, role).run(LIMIT).await
    }

    /// Imports what is in the queue, as the worker.
    async fn drain(&self) -> Result<()> {
        let worker = self.world.drainer().env("DATABASE_URL", self.url("penstock_worker"));
        worker.expect_line("object failed").start()?.finish(LIMIT).await
    }

    async fn scaler(&self, subcommand: &str, role: &str) -> Result<Ended> {
        let config = format!(
            "[http]\nlisten = \"\"\n[[pool]]\nname = \"importers\"\nqueue_urls = [\"{}\"]\nbacklog_per_worker = 10\n\
             [pool.workers]\nkind = \"dry_run\"\n",
            self.world.pipeline.queue_url
        );
        let path = self.world.config().with_file_name("scaler.toml");
        std::fs::write(&path, config)?;
        let scaler = Program::new("scaler").arg(subcommand).arg("--config").arg(path);
        let scaler = scaler.envs(self.world.pipeline.account.variables()).env("DATABASE_URL", self.url(role));
        scaler.run(LIMIT).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_role_change_nothing_of_what_is_loaded() -> Result<()> {
    let table = "CREATE TABLE t (id int PRIMARY KEY, f float8, p point, b bytea, a text[], i interval, at timestamptz, \
                 n int CHECK (n < 5))";
    let dataset = "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 5\ntechnique = \"staged\"";
    let row = |id: u32, f: &str, n: u32| {
        let values = r#""b":"\\x5c00ff","a":["c\\d",null],"i":"-1 day 02:00","at":"2026-03-04 05:06:07""#;
        format!("{{\"id\":{id},\"f\":{f},\"p\":\"({f},1)\",{values},\"n\":{n}}}\n")
    };
    let file = row(1, "0.1234567890123456", 1) + &row(2, "0.1234567890123457", 9);
    // A point is compared as a text, so what changes in its last digit shows only when that is written.
    let changed = row(1, "0.1234567890123457", 1);
    let mut loaded = Vec::new();
    for settings in [
        "",
        "bytea_output = 'escape'; extra_float_digits = -15; standard_conforming_strings = off; array_nulls = off; \
         intervalstyle = 'sql_standard'; datestyle = 'German, DMY'; timezone = 'Asia/Kathmandu'; \
         statement_timeout = '60s'; lock_timeout = '5s'; transform_null_equals = on; synchronous_commit = off; \
         plpgsql.variable_conflict = 'use_column'; backslash_quote = off; client_encoding = 'LATIN1'; xmloption = document",
    ] {
        let desk = Desk::new(table, dataset).await?;
        let database = desk.database.name();
        for setting in settings.split("; ").filter(|setting| !setting.is_empty()) {
            desk.database.execute(&format!("ALTER DATABASE {database} SET {setting}")).await?;
        }
        for content in [&file, &changed] {
            assert_eq!(desk.load("k.ndjson", content).await?, 0);
        }
        desk.database.execute(&format!("ALTER DATABASE {database} RESET ALL")).await?;
        let rows = desk.database.rows("SELECT id, f, p::text, encode(b, 'hex'), a, i, at, n FROM t").await?;
        let rejects =
            desk.database.rows("SELECT row_number, class, convert_from(payload, 'UTF8') FROM penstock.rejects");
        loaded.push((rows, rejects.await?, desk.ledger().await?));
    }
    assert!(loaded[0].0[0].contains("0.1234567890123457") && loaded[0].1[0].contains("5c00ff"), "{loaded:?}");
    assert_eq!(loaded[0], loaded[1]);
    Ok(())
}
