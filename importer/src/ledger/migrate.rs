//! Bringing the schema `penstock` up to date.

use anyhow::{Context, bail};
use sqlx::{Executor, PgConnection, migrate::Migrator};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Applies what is missing of `migrations/`, one process at a time (sqlx holds an advisory lock).
///
/// A role that may not create is let through when the schema is current already.
/// Returns how many migrations were applied.
///
/// # Errors
/// When the schema is behind and this role may not change it, or a migration fails.
pub async fn migrate(connection: &mut PgConnection) -> anyhow::Result<usize> {
    let Standing { missing, may_create, exists } = standing(connection).await?;
    if missing == 0 {
        return Ok(0);
    }
    if !may_create {
        bail!(
            "schema penstock is {missing} migrations behind and this role lacks the CREATE right {}; \
             run `importer migrate` once as the owner",
            if exists { "on schema penstock" } else { "on the database" }
        );
    }
    // sqlx keeps its own table unqualified: with this search_path it lands beside ours.
    connection
        .execute("CREATE SCHEMA IF NOT EXISTS penstock; SET search_path = penstock")
        .await
        .context("create schema penstock")?;
    let result = MIGRATIONS.run(&mut *connection).await.context("apply migrations");
    connection.execute("RESET search_path").await.context("reset search_path")?;
    result?;
    Ok(missing)
}

/// Returns whether an error is one of reaching Postgres, or of a state it will leave, rather than its answer.
#[must_use]
pub fn is_outage(error: &anyhow::Error) -> bool {
    match error.chain().find_map(|cause| cause.downcast_ref::<sqlx::Error>()) {
        // Connection, read-only, resources, lock timeout, rollback for contention, shutdown, system.
        Some(sqlx::Error::Database(said)) => said
            .code()
            .is_some_and(|code| matches!(code.get(..2), Some("08" | "25" | "40" | "53" | "55" | "57" | "58"))),
        Some(sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_)) => true,
        _ => false,
    }
}

/// How far the schema is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The schema `penstock` is there.
    pub exists: bool,
    /// Migrations yet to be applied.
    pub missing: usize,
    /// This role may apply them.
    pub may_create: bool,
}

/// Returns how far the schema is and whether this role may bring it further. Changes nothing.
///
/// # Errors
/// Of the database.
pub async fn standing(connection: &mut PgConnection) -> anyhow::Result<Standing> {
    let applied = applied_versions(connection).await?;
    let missing = MIGRATIONS.iter().filter(|m| !applied.contains(&m.version)).count();
    let (exists, may_create) = sqlx::query_as(
        "SELECT to_regnamespace('penstock') IS NOT NULL, \
         CASE WHEN to_regnamespace('penstock') IS NULL \
         THEN has_database_privilege(current_database(), 'CREATE') \
         ELSE has_schema_privilege('penstock', 'CREATE') END",
    )
    .fetch_one(connection)
    .await
    .context("read this role's rights")?;
    Ok(Standing { exists, missing, may_create })
}

async fn applied_versions(connection: &mut PgConnection) -> anyhow::Result<Vec<i64>> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('penstock._sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .context("look for schema penstock")?;
    if !exists {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("SELECT version FROM penstock._sqlx_migrations WHERE success")
        .fetch_all(connection)
        .await
        .context("read applied migrations")
}
