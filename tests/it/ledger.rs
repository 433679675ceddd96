//! `migrate`, `status` and `rejects`: the ledger as people and scripts see it.

use anyhow::Result;
use penstock_tests::{
    database::Database,
    postgres::Postgres,
    process::{Ended, Program},
    scratch::Scratch,
};
use serde_json::Value;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// The documented names, in the views' order.
const STATUS_NAMES: &str = "id dataset bucket key version_id etag size sequencer state reason attempts worker rows_read \
    rows_written rows_merged rows_filtered rows_rejected bytes event_time first_seen_at started_at imported_at \
    duration_seconds error rows_added recipe sent_at first_received_at";
const REJECT_NAMES: &str = "dataset bucket key version_id row_number class column_name message payload payload_length created_at resolved_at \
     archive_member";

#[tokio::test(flavor = "multi_thread")]
async fn an_object_and_its_bad_rows_are_shown() -> Result<()> {
    let setup = Setup::new().await?;
    setup.database.execute("CREATE TABLE t (id bigint PRIMARY KEY, n smallint)").await?;
    let file = setup.scratch.write("a b.csv", "id,n\n1,1\n2,70000\n3,3\n")?.display().to_string();
    assert_eq!(setup.run(&["load", &file]).await?.status.code(), Some(0));

    let json = setup.run(&["status", "--json"]).await?.stdout;
    let row: Value = serde_json::from_str(json.trim_end())?;
    assert_eq!(names(&json), STATUS_NAMES.split_whitespace().collect::<Vec<_>>());
    for (name, expected) in [
        ("bucket", Value::from("file")),
        ("key", Value::from(file.as_str())),
        ("state", Value::from("imported")),
        ("rows_read", Value::from(3)),
        ("rows_written", Value::from(2)),
        ("rows_rejected", Value::from(1)),
    ] {
        assert_eq!(row[name], expected, "{name}: {json}");
    }
    assert_eq!(setup.run(&["status", &file, "--json"]).await?.stdout, json);
    assert!(
        setup
            .run(&["status", &file])
            .await?
            .stdout
            .lines()
            .any(|line| line.starts_with("state ") && line.ends_with(" imported"))
    );
    assert!(setup.run(&["status", "--state", "imported"]).await?.stdout.contains(&file));
    assert!(!setup.run(&["status", "--state", "failed"]).await?.stdout.contains(&file));
    let summary = setup.run(&["status"]).await?.stdout;
    assert!(summary.lines().any(|line| line.starts_with("d ") && line.contains("imported")), "{summary}");

    let json = setup.run(&["rejects", "--json"]).await?.stdout;
    let row: Value = serde_json::from_str(json.trim_end())?;
    assert_eq!(names(&json), REJECT_NAMES.split_whitespace().collect::<Vec<_>>());
    assert_eq!((&row["row_number"], &row["class"], &row["column_name"]), (&2.into(), &"range".into(), &"n".into()));
    let text = setup.run(&["rejects", &file]).await?.stdout;
    assert!(text.contains("row 2  range  column n: ") && text.contains("\n    2,70000"), "{text}");
    assert_eq!(setup.run(&["rejects", "/other.csv"]).await?.stdout, "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_object_exits_4() -> Result<()> {
    let setup = Setup::new().await?;
    setup.run(&["migrate"]).await?;
    for arguments in [&["status", "s3://b/k"][..], &["status", "s3://b/k", "--json"]] {
        let ended = setup.run(arguments).await?;
        assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(4), ""));
        assert!(ended.stderr.contains("s3://b/k"), "{}", ended.stderr);
    }
    assert_eq!(setup.run(&["status"]).await?.status.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_again_changes_nothing_and_a_lesser_role_is_told_what_it_lacks() -> Result<()> {
    let setup = Setup::new().await?;
    let role = format!("{}_worker", setup.database.name());
    setup.database.execute(&format!("CREATE ROLE {role}")).await?;
    let lesser = format!("{}?options=-c%20role%3D{role}", setup.database.url());
    let refused = setup.run_with(&["migrate"], &lesser).await?;
    assert_eq!(setup.run(&["migrate"]).await?.stdout, "applied 24 migrations\n");
    assert_eq!(setup.run(&["migrate"]).await?.stdout, "schema penstock is up to date\n");
    setup
        .database
        .execute(&format!(
            "GRANT USAGE ON SCHEMA penstock TO {role}; GRANT SELECT ON penstock._sqlx_migrations TO {role}"
        ))
        .await?;
    let current = setup.run_with(&["migrate"], &lesser).await?;
    setup.database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await?;
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("lacks the CREATE right on the database"), "{}", refused.stderr);
    assert_eq!((current.status.code(), current.stdout.as_str()), (Some(0), "schema penstock is up to date\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_configurations_exit_2_and_name_the_line() -> Result<()> {
    let setup = Setup::new().await?;
    for (config, expected) in [
        ("[queue]\nwait_secs = 21\n", "importer.toml:2: queue.wait_secs: 21 is not between 0 and 20"),
        ("\n[queue]\nwait = 21\n", "importer.toml:3: queue.wait: unknown field `wait`"),
        ("[queue\n", "importer.toml:1: "),
        (
            "[[dataset]]\nname = \"d\"\nmatch = \"s3://b/{\"\ntable = \"t\"\nkey = [\"id\"]\n",
            "importer.toml:3: dataset \"d\": match: ",
        ),
    ] {
        setup.scratch.write("importer.toml", config)?;
        let ended = setup.run_with(&["status"], &setup.database.url()).await?;
        assert_eq!(ended.status.code(), Some(2), "{config}");
        assert!(ended.stderr.contains(expected), "{config}: {}", ended.stderr);
    }
    let missing = Program::new("importer").args(["status", "--config", "/nowhere/importer.toml"]).run(LIMIT).await?;
    assert_eq!(missing.status.code(), Some(2));
    for said in ["/nowhere/importer.toml", "--config", "importer describe FILE --dataset"] {
        assert!(missing.stderr.contains(said), "{}", missing.stderr);
    }
    Ok(())
}

struct Setup {
    database: Database,
    scratch: Scratch,
}

impl Setup {
    /// A database and a configuration whose one dataset takes the scratch directory's files.
    async fn new() -> Result<Self> {
        let setup = Self { database: Postgres::shared()?.create_database().await?, scratch: Scratch::new("ledger")? };
        let pattern = setup.scratch.path().join("**");
        let config = format!(
            "[[dataset]]\nname = \"d\"\nmatch = \"{}\"\ntable = \"t\"\nkey = [\"id\"]\nmax_rejects = 1\n",
            pattern.display()
        );
        setup.scratch.write("importer.toml", config)?;
        Ok(setup)
    }

    async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        self.run_with(arguments, &self.database.url()).await
    }

    async fn run_with(&self, arguments: &[&str], database_url: &str) -> Result<Ended> {
        let program = Program::new("importer").args(arguments).env("DATABASE_URL", database_url);
        program.in_directory(self.scratch.path()).run(LIMIT).await
    }
}

/// Returns the names of a JSON object's members in the order in which they are written.
fn names(json: &str) -> Vec<&str> {
    let members = json.trim_end().trim_start_matches('{').split(",\"");
    members.map(|member| member.trim_start_matches('"').split('"').next().unwrap_or_default()).collect()
}
