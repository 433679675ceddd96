//! Bringing the schema `penstock` up to date.

use super::NAMES_ARE_THE_CATALOGS;
use anyhow::{Context, bail};
use sqlx::{
    Executor, PgConnection, Row,
    migrate::{Migration, MigrationType, Migrator},
};
use std::sync::LazyLock;

/// `migrations/`, oldest first. Each was applied somewhere as it is: none may change.
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| Migrator {
    migrations: FILES.iter().map(|(name, sql)| migration(name, sql)).collect(),
    ..Migrator::DEFAULT
});

macro_rules! files {
    ($($name:literal)+) => { &[$(($name, include_str!(concat!("../../../migrations/", $name, ".sql")))),+] };
}

/// Names and contents. Listed here, since sqlx's macro that embeds a directory compiles all of sqlx for the compiler.
const FILES: &[(&str, &str)] = files![
    "20260101000000_create_ledger"
    "20260201000000_keep_how_rejects_are_written"
    "20260301000000_let_entries_go_quickly"
    "20260401000000_follow_what_is_unfinished_and_finished"
    "20260401000001_drop_the_index_on_states"
    "20260401000002_drop_the_index_on_times"
    "20260501000000_follow_what_is_done"
    "20260601000000_count_added_rows"
    "20260701000000_name_recipes"
    "20260801000000_await_keys"
    "20260802000000_compare_stamps"
    "20260802000001_follow_what_stands"
    "20260803000000_know_what_was_tried"
    "20260901000000_keep_when_messages_came"
    "20261001000000_gather_problems"
    "20261001000001_gather_problems_there_are"
    "20261001000002_gather_rejects_there_are"
    "20261001000003_find_keys_by_prefix"
    "20261101000000_forget_what_was_routed_later"
    "20261101000001_keep_lines_of_text"
    "20261201000000_pause_pools"
    "20261201000001_tag_loaded_objects"
    "20261201000100_keep_members_of_archives"
    "20261201000200_find_due_tags"
];

/// Returns what sqlx makes of a file: a name is `VERSION_DESCRIPTION`, and a first line may ask for no transaction.
fn migration(name: &str, sql: &'static str) -> Migration {
    let (version, description) = name.split_once('_').expect("a name has both parts");
    let no_tx = sql.starts_with("-- no-transaction");
    let version = version.parse().expect("a version is a number");
    Migration::new(version, description.replace('_', " ").into(), MigrationType::Simple, sql.into(), no_tx)
}

/// Applies what is missing of `migrations/`, one process at a time (sqlx holds an advisory lock).
///
/// A role that may not create is let through when the schema is current already.
/// Returns how many migrations were applied.
///
/// # Errors
/// When the schema is behind and this role may not change it, or a migration fails.
pub async fn migrate(connection: &mut PgConnection) -> anyhow::Result<usize> {
    let Standing { exists, missing, lacks, .. } = standing(connection).await?;
    if missing == 0 {
        return Ok(0);
    }
    if let Some(lacks) = lacks {
        bail!(
            "schema penstock is {missing} migrations behind and this role {lacks}; \
             run `importer migrate` once as the owner"
        );
    }
    if !exists {
        create_schema(connection).await?;
    }
    // sqlx keeps its own table unqualified: with this search_path it lands beside ours.
    connection.execute("SET search_path = penstock").await.context("set search_path")?;
    let result = MIGRATIONS.run(&mut *connection).await.context("apply migrations");
    let back = connection.execute(NAMES_ARE_THE_CATALOGS).await.context("set search_path back");
    result?;
    back?;
    Ok(missing)
}

/// Creates the schema. Asked only where it is missing: IF NOT EXISTS takes the right to create schemas even where
/// there is nothing to create, and does not keep two that start at once from each other's way.
async fn create_schema(connection: &mut PgConnection) -> anyhow::Result<()> {
    match connection.execute("CREATE SCHEMA penstock").await {
        // duplicate_schema, or unique_violation when the other one's is not committed at our look.
        Err(error)
            if error
                .as_database_error()
                .and_then(|said| said.code())
                .is_some_and(|code| code == "42P06" || code == "23505") =>
        {
            Ok(())
        }
        created => created.map(|_| ()).context("create schema penstock"),
    }
}

/// How far the schema is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The schema `penstock` is there.
    pub exists: bool,
    /// Migrations yet to be applied.
    pub missing: usize,
    /// This role may apply them.
    pub may_create: bool,
    /// Which right it lacks where it may not: "(penstock_worker) lacks the CREATE right on schema penstock".
    pub lacks: Option<String>,
}

/// Returns how far the schema is and whether this role may bring it further. Changes nothing.
///
/// # Errors
/// Of the database, or when this role may not even look; the text then names the right and how to give it.
pub async fn standing(connection: &mut PgConnection) -> anyhow::Result<Standing> {
    let rights = sqlx::query(include_str!("rights.sql")).fetch_one(&mut *connection).await;
    let rights = rights.context("read this role's rights")?;
    let role: String = rights.try_get("role")?;
    let exists: bool = rights.try_get("schema_exists")?;
    let mut applied: Vec<i64> = Vec::new();
    if rights.try_get("ledger_exists")? {
        for (may, right, grant) in [
            ("may_use", "the USAGE right on schema penstock", "USAGE ON SCHEMA penstock"),
            ("may_read", "the SELECT right on table penstock._sqlx_migrations", "SELECT ON penstock._sqlx_migrations"),
        ] {
            if !rights.try_get::<bool, _>(may)? {
                bail!("this role ({role}) lacks {right}: GRANT {grant} TO {role}, or run infra/postgres/grants.sql");
            }
        }
        applied = sqlx::query_scalar("SELECT version FROM penstock._sqlx_migrations WHERE success")
            .fetch_all(connection)
            .await
            .context("read applied migrations")?;
    }
    let missing = MIGRATIONS.iter().filter(|m| !applied.contains(&m.version)).count();
    // The first migration says CREATE SCHEMA IF NOT EXISTS, which takes the database's right in any case.
    let right = if applied.is_empty() && !rights.try_get::<bool, _>("may_create_schemas")? {
        Some("the CREATE right on the database".to_owned())
    } else if exists && !rights.try_get::<bool, _>("may_create_tables")? {
        Some("the CREATE right on schema penstock".to_owned())
    } else {
        let foreign: Option<String> = rights.try_get("foreign_tables")?;
        foreign.map(|tables| format!("ownership of {tables}"))
    };
    let lacks = right.map(|right| format!("({role}) lacks {right}"));
    Ok(Standing { exists, missing, may_create: lacks.is_none(), lacks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    #[test]
    fn every_file_is_a_migration_in_order() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
        let names = fs::read_dir(directory)
            .expect("migrations/")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
        let mut names: Vec<String> = names.collect();
        names.sort();
        let listed: Vec<String> = FILES.iter().map(|(name, _)| format!("{name}.sql")).collect();
        assert_eq!(listed, names);
        assert!(MIGRATIONS.iter().map(|m| m.version).is_sorted());
    }
}
