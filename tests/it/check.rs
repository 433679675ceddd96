//! `importer check` finds each mistake it promises to find, and says what to do about it.

use anyhow::{Context as _, Result};
use aws_sdk_sqs::types::QueueAttributeName;
use penstock_tests::{
    aws::{Account, Options, Pipeline, Route},
    database::Database,
    pooler::Pooler,
    postgres::Postgres,
    process::{Ended, Program},
    proxy::{Action, Proxy, Rule},
    scratch::Scratch,
};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// What is said of the mistakes of tables and datasets.
const MISTAKES: &str = r#"wrong: dataset plain: upsert into "public"."plain" needs a unique index on exactly its key ("id") that is valid, not partial and not deferrable; CREATE UNIQUE INDEX ON "public"."plain" ("id")
    wrong: dataset partial: upsert into "public"."partial" needs a unique index on exactly its key ("id") that is valid, not partial and not deferrable; CREATE UNIQUE INDEX ON "public"."partial" ("id")
    wrong: dataset deferred: upsert into "public"."deferred" needs a unique index on exactly its key ("id") that is valid, not partial and not deferrable; CREATE UNIQUE INDEX ON "public"."deferred" ("id")
    wrong: dataset wider: upsert into "public"."wider" needs a unique index on exactly its key ("id") that is valid, not partial and not deferrable; CREATE UNIQUE INDEX ON "public"."wider" ("id")
    wrong: dataset expression: upsert into "public"."expression" needs a unique index on exactly its key ("id") that is valid, not partial and not deferrable; CREATE UNIQUE INDEX ON "public"."expression" ("id")
    wrong: dataset missing: table missing does not exist in this role's search_path ("$user", public); create it (`importer describe FILE` prints a CREATE TABLE for one of its files), or change the dataset's table
    wrong: dataset seen: seen is a view that Postgres does not put rows through by itself; name the table behind it
    wrong: dataset unfenced: mode = "replace" and on_delete = "remove" need a column penstock_object bigint in plain; ALTER TABLE … ADD COLUMN penstock_object bigint, with an index on it
    wrong: dataset renamed: rename of field "a" names "nowhere", which is no column to fill; change the dataset's rename, key or extras_column
    wrong: dataset keyless: key column nothing is not in "public"."sound"; change the dataset's table, key or newer to what the table has
    warning: dataset overlapping: its match overlaps with that of plain, which comes first and takes s3://BUCKET/plain/ and similar objects; narrow one of them if this is not intended
    warning: dataset columns: unmapped columns: no field of s3://BUCKET/columns/a.csv fills spare, so they get their default or stay NULL; rename a field to them if this is not intended
    warning: dataset columns: unmapped columns: no field of s3://BUCKET/columns/a.csv fills needed, NOT NULL without a default, so every row would be rejected; rename a field to it, give it a default, or drop NOT NULL
    warning: dataset lineage: no index on penstock_object, so finding an object's rows reads the whole table; CREATE INDEX ON "public"."lineage" (penstock_object)"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_setup_leaves_nothing_to_consider_and_shows_the_mapping() -> Result<()> {
    let setup = Setup::new().await?;
    setup.sql("CREATE TABLE events (id bigint PRIMARY KEY, user_id text, dt date, meta jsonb)").await?;
    setup.pipeline.put("events/dt=2026-01-01/a.ndjson", r#"{"id": 1, "userId": "u", "meta": {}, "more": 1}"#).await?;
    let dataset = format!(
        "[[dataset]]\nname = \"events\"\nmatch = \"s3://{}/events/dt={{dt}}/**\"\ntable = \"events\"\nkey = [\"id\"]\n\
         rename = {{ userId = \"user_id\" }}\n",
        setup.pipeline.bucket
    );
    let ended = setup.check(&dataset).await?;
    assert_eq!(ended.status.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    for line in [
        "dt dt date from the path",
        "id id bigint key",
        "userId user_id text",
        "meta meta jsonb",
        "more - - ignored, no such column",
        "0 wrong, 0 to consider",
    ] {
        assert!(squeezed(&ended.stdout).contains(&line.to_owned()), "{line}:\n{}", ended.stdout);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_fills_required_columns_is_sound_before_the_first_object() -> Result<()> {
    let setup = Setup::new().await?;
    setup.sql("CREATE TABLE shops (shop text, dt date NOT NULL, id bigint, PRIMARY KEY (shop, id))").await?;
    let dataset = format!(
        "[[dataset]]\nname = \"shops\"\nmatch = \"s3://{}/{{shop}}/{{dt}}/**\"\ntable = \"shops\"\n\
         key = [\"shop\", \"id\"]\n",
        setup.pipeline.bucket
    );
    let ended = setup.check(&dataset).await?;
    assert_eq!(ended.status.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    for line in ["shop shop text from the path", "dt dt date from the path", "id id bigint key"] {
        assert!(squeezed(&ended.stdout).contains(&line.to_owned()), "{line}:\n{}", ended.stdout);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_tables_and_datasets_are_found() -> Result<()> {
    let setup = Setup::new().await?;
    setup
        .sql(
            "CREATE TABLE plain (id bigint, x int);
             CREATE TABLE partial (id bigint); CREATE UNIQUE INDEX ON partial (id) WHERE id > 0;
             CREATE TABLE deferred (id bigint UNIQUE DEFERRABLE);
             CREATE TABLE wider (id bigint, x int, UNIQUE (id, x));
             CREATE TABLE expression (id bigint); CREATE UNIQUE INDEX ON expression ((id + 0));
             CREATE TABLE lineage (id bigint, penstock_object bigint);
             CREATE TABLE sound (id bigint, x int, PRIMARY KEY (x) INCLUDE (id), UNIQUE (id) INCLUDE (x));
             CREATE TABLE columns (id bigint PRIMARY KEY, spare text, needed text NOT NULL);
             CREATE VIEW seen AS SELECT 1 AS id",
        )
        .await?;
    setup.pipeline.put("columns/a.csv", "id\n1\n").await?;
    let upsert = |name: &str| setup.dataset(name, name, "key = [\"id\"]\n");
    let datasets = [
        upsert("plain"),
        upsert("partial"),
        upsert("deferred"),
        upsert("wider"),
        upsert("expression"),
        upsert("sound"),
        upsert("columns"),
        upsert("missing"),
        upsert("seen"),
        setup.dataset("lineage", "lineage", "mode = \"replace\"\n"),
        setup.dataset("unfenced", "plain", "mode = \"replace\"\n"),
        setup.dataset("renamed", "sound", "key = [\"id\"]\nrename = { a = \"nowhere\" }\n"),
        setup.dataset("keyless", "sound", "key = [\"nothing\"]\n"),
    ];
    // A second dataset over the first one's objects.
    let overlapping = setup.dataset("plain", "sound", "key = [\"id\"]\n").replace("\"plain\"", "\"overlapping\"");
    let ended = setup.check(&(datasets.concat() + &overlapping)).await?;
    assert_eq!(ended.status.code(), Some(2), "{}{}", ended.stdout, ended.stderr);
    for (level, name, text) in [
        ("wrong", "plain", "needs a unique index"),
        ("wrong", "partial", "needs a unique index"),
        ("wrong", "deferred", "needs a unique index"),
        ("wrong", "wider", "needs a unique index"),
        ("wrong", "expression", "needs a unique index"),
        ("warning", "lineage", "no index on penstock_object"),
        ("warning", "columns", "fills spare,"),
        ("warning", "columns", "fills needed, NOT NULL"),
        ("warning", "overlapping", "overlaps with that of plain"),
        ("wrong", "missing", "does not exist"),
        ("wrong", "seen", "is a view"),
        ("wrong", "unfenced", "need a column penstock_object"),
        ("wrong", "renamed", "nowhere"),
        ("wrong", "keyless", "nothing"),
    ] {
        let found = |line: &&str| line.starts_with(&format!("{level}: dataset {name}: ")) && line.contains(text);
        assert!(ended.stdout.lines().find(found).is_some(), "{level} {name} {text}:\n{}", ended.stdout);
    }
    let about_sound = ended.stdout.lines().filter(|line| line.contains(": dataset sound:"));
    assert_eq!(about_sound.collect::<Vec<_>>(), Vec::<&str>::new());
    // To the letter: each line says what is the matter and, after the last semicolon, what to do about it.
    let said = ended.stdout.replace(&setup.pipeline.bucket, "BUCKET");
    let said: Vec<&str> =
        said.lines().filter(|line| line.starts_with("wrong: ") || line.starts_with("warning: ")).collect();
    assert_eq!(said, MISTAKES.lines().map(str::trim).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_queues_are_found() -> Result<()> {
    const DAY: &str = "86400";
    let setup = Setup::new().await?;
    setup.sql("CREATE TABLE t (id bigint PRIMARY KEY)").await?;
    let dataset = setup.dataset("t", "t", "key = [\"id\"]\n");
    let dead_letters = setup.pipeline.dead_letter_url.clone().context("there is one")?;
    setup.set_queue(&dead_letters, QueueAttributeName::MessageRetentionPeriod, DAY).await?;
    setup.set_queue(&setup.pipeline.queue_url, QueueAttributeName::MessageRetentionPeriod, DAY).await?;
    let policy = setup.queue(&setup.pipeline.queue_url, QueueAttributeName::RedrivePolicy).await?;
    // By name: an account's number may have a ten in it, too.
    let mut policy: serde_json::Value = serde_json::from_str(&policy)?;
    policy["maxReceiveCount"] = "9".into();
    setup.set_queue(&setup.pipeline.queue_url, QueueAttributeName::RedrivePolicy, &policy.to_string()).await?;
    setup
        .finds(
            &dataset,
            0,
            &[
                "warning: dead-letter queue: its retention of 1 d is not longer than the queue's 1 d",
                "warning: queue: its maxReceiveCount is 9",
                "warning: queue: its retention is 1 d",
            ],
        )
        .await?;

    setup.set_queue(&setup.pipeline.queue_url, QueueAttributeName::RedrivePolicy, "").await?;
    setup.finds(&dataset, 0, &["warning: queue: has no dead-letter queue"]).await?;

    let fifo = setup.pipeline.account.sqs.create_queue().queue_name("q.fifo");
    let fifo = fifo.attributes(QueueAttributeName::FifoQueue, "true").send().await?;
    let url = fifo.queue_url.context("it has a URL")?;
    let ended = setup.check_with(&dataset, &setup.database.url(), &url, setup.pipeline.account.variables()).await?;
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("importer.toml:4: queue.url: FIFO queues are refused"), "{}", ended.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_the_server_and_the_role_are_found() -> Result<()> {
    let setup = Setup::new().await?;
    let name = setup.database.name();
    let role = format!("{name}_worker");
    setup
        .sql(&format!(
            "CREATE TABLE t (id bigint PRIMARY KEY);
             CREATE TABLE guarded (id bigint PRIMARY KEY); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
             ALTER DATABASE {name} SET synchronous_commit = off;
             REVOKE TEMPORARY ON DATABASE {name} FROM public;
             CREATE ROLE {role}; GRANT SELECT ON t, guarded TO {role}"
        ))
        .await?;
    let datasets =
        [setup.dataset("t", "t", "key = [\"id\"]\n"), setup.dataset("guarded", "guarded", "key = [\"id\"]\n")];
    let url = format!("{}?options=-c%20role%3D{role}", setup.database.url());
    let variables = setup.pipeline.account.variables();
    let ended = setup.check_with(&datasets.concat(), &url, &setup.pipeline.queue_url, variables).await?;
    setup.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await?;
    assert_eq!(ended.status.code(), Some(2), "{}{}", ended.stdout, ended.stderr);
    for line in [
        &format!(
            "warning: database: synchronous_commit = off: a crash of Postgres can lose commits whose messages are deleted already; set it to on for this role: ALTER ROLE \"{role}\" SET synchronous_commit = on"
        ),
        &format!(
            "wrong: database: role {role} may not create temporary tables; GRANT TEMPORARY ON DATABASE \"{name}\" TO \"{role}\""
        ),
        "wrong: schema penstock: is 24 migrations behind and this role may not apply them",
        r#"wrong: dataset t: this role lacks INSERT, UPDATE; GRANT INSERT, UPDATE ON "public"."t" TO it"#,
        "wrong: dataset guarded: table guarded is under row-level security",
    ] {
        assert!(ended.stdout.lines().any(|shown| shown.starts_with(line)), "{line}:\n{}", ended.stdout);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_look_for_names_by_the_writers_search_path_are_named() -> Result<()> {
    let setup = Setup::new().await?;
    setup
        .sql(
            "CREATE TABLE t (id bigint PRIMARY KEY);
             CREATE FUNCTION searching() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
             CREATE FUNCTION settled() RETURNS trigger LANGUAGE plpgsql SET search_path = public
                 AS $$ BEGIN RETURN new; END $$;
             CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION searching();
             CREATE TRIGGER b BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION settled()",
        )
        .await?;
    let ended = setup.check(&setup.dataset("t", "t", "key = [\"id\"]\n")).await?;
    assert_eq!(ended.status.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    let line = "warning: dataset t: what public.searching() names without a schema is not found: search_path is pg_catalog \
                while rows are written; unless all is named with its schema, ALTER FUNCTION public.searching() SET \
                search_path = …";
    assert!(ended.stdout.lines().any(|shown| shown == line), "{}", ended.stdout);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_pooler_is_recognised() -> Result<()> {
    let setup = Setup::new().await?;
    setup.sql("CREATE TABLE t (id bigint PRIMARY KEY)").await?;
    let dataset = setup.dataset("t", "t", "key = [\"id\"]\n");
    let pooler = Pooler::start(setup.database.postgres().host_and_port()).await?;
    let url = setup.database.url_through(pooler.address());
    let ended = setup.check_with(&dataset, &url, &setup.pipeline.queue_url, setup.pipeline.account.variables()).await?;
    assert_eq!(ended.status.code(), Some(2), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("wrong: database: a transaction pooler"), "{}", ended.stdout);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_may_not_be_listed_is_found() -> Result<()> {
    const DENIED: &str =
        "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    let setup = Setup::new().await?;
    setup.sql("CREATE TABLE t (id bigint PRIMARY KEY)").await?;
    let proxy = Proxy::start(penstock_tests::http::authority(setup.pipeline.account.emulator().endpoint())?).await?;
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{DENIED}",
        DENIED.len()
    );
    proxy.add(Rule::when_client_sends("list-type=2", Action::Answer(answer.into_bytes())).always());
    let mut variables = setup.pipeline.account.variables();
    variables.push(("AWS_ENDPOINT_URL_S3".into(), proxy.endpoint()));
    let dataset = setup.dataset("t", "t", "key = [\"id\"]\n");
    let ended = setup.check_with(&dataset, &setup.database.url(), &setup.pipeline.queue_url, variables).await?;
    assert_eq!(ended.status.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("warning: dataset t: no s3:ListBucket on"), "{}", ended.stdout);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_wrong() -> Result<()> {
    let setup = Setup::new().await?;
    setup.sql("CREATE TABLE t (id bigint PRIMARY KEY)").await?;
    let dataset = setup.dataset("t", "t", "key = [\"id\"]\n");
    let variables = setup.pipeline.account.variables();
    let nowhere = format!("{}-missing", setup.pipeline.queue_url);
    let ended = setup.check_with(&dataset, "postgres://u:hunter2@127.0.0.1:1/d", &nowhere, variables).await?;
    assert_eq!(ended.status.code(), Some(2));
    for line in ["wrong: database: connect to Postgres at 127.0.0.1:1: ", "wrong: queue: queue http"] {
        assert!(ended.stdout.lines().any(|shown| shown.starts_with(line)), "{line}:\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("hunter2") && !ended.stderr.contains("hunter2"));
    Ok(())
}

/// A bucket, a sound queue and a database whose schema is current.
struct Setup {
    pipeline: Pipeline,
    database: Database,
    scratch: Scratch,
}

impl Setup {
    async fn new() -> Result<Self> {
        let options = Options { route: Route::Nowhere, ..Options::default() };
        let pipeline = Account::new().await?.pipeline(options).await?;
        let database = Postgres::shared()?.create_database().await?;
        // Test servers have it off.
        database.execute(&format!("ALTER DATABASE {} SET synchronous_commit = on", database.name())).await?;
        let setup = Self { pipeline, database, scratch: Scratch::new("check")? };
        let dead_letters = setup.pipeline.dead_letter_url.clone().context("there is one")?;
        setup.set_queue(&dead_letters, QueueAttributeName::MessageRetentionPeriod, "1209600").await?;
        Ok(setup)
    }

    async fn sql(&self, statements: &str) -> Result<()> {
        self.database.execute(statements).await
    }

    /// Returns a `[[dataset]]` over the objects below its name.
    fn dataset(&self, name: &str, table: &str, lines: &str) -> String {
        let bucket = &self.pipeline.bucket;
        format!("[[dataset]]\nname = \"{name}\"\nmatch = \"s3://{bucket}/{name}/**\"\ntable = \"{table}\"\n{lines}")
    }

    /// Runs `check`, after `migrate`, so that the schema gives no finding.
    async fn check(&self, datasets: &str) -> Result<Ended> {
        let migrated = Program::new("importer")
            .arg("migrate")
            .env("DATABASE_URL", self.database.url())
            .in_directory(self.scratch.path());
        let migrated = migrated.run(LIMIT).await?;
        assert_eq!(migrated.status.code(), Some(0), "{}", migrated.stderr);
        let variables = self.pipeline.account.variables();
        self.check_with(datasets, &self.database.url(), &self.pipeline.queue_url, variables).await
    }

    async fn check_with(
        &self,
        datasets: &str,
        database_url: &str,
        queue_url: &str,
        variables: Vec<(String, String)>,
    ) -> Result<Ended> {
        let config = format!("[database]\nurl = \"{database_url}\"\n[queue]\nurl = \"{queue_url}\"\n{datasets}");
        self.scratch.write("importer.toml", config)?;
        let program = Program::new("importer").arg("check").envs(variables).in_directory(self.scratch.path());
        let ended = program.run(LIMIT).await?;
        for line in ended.stdout.lines().filter(|line| line.starts_with("wrong: ") || line.starts_with("warning: ")) {
            let next = line.rsplit("; ").next().filter(|next| next.len() < line.len());
            assert!(next.is_some_and(|next| next.len() > 10), "says not what to do: {line}");
        }
        Ok(ended)
    }

    /// Checks that `check` ends with a status and prints lines that start with these texts.
    async fn finds(&self, datasets: &str, status: i32, lines: &[&str]) -> Result<()> {
        let ended = self.check(datasets).await?;
        assert_eq!(ended.status.code(), Some(status), "{}{}", ended.stdout, ended.stderr);
        for line in lines {
            assert!(ended.stdout.lines().any(|shown| shown.starts_with(line)), "{line}:\n{}", ended.stdout);
        }
        Ok(())
    }

    async fn set_queue(&self, url: &str, name: QueueAttributeName, value: &str) -> Result<()> {
        self.pipeline.account.sqs.set_queue_attributes().queue_url(url).attributes(name, value).send().await?;
        Ok(())
    }

    async fn queue(&self, url: &str, name: QueueAttributeName) -> Result<String> {
        let answer = self.pipeline.account.sqs.get_queue_attributes().queue_url(url).attribute_names(name.clone());
        let found = answer.send().await?.attributes.unwrap_or_default();
        found.get(&name).cloned().with_context(|| format!("no {name}"))
    }
}

/// Returns the lines with every run of spaces made one.
fn squeezed(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}
