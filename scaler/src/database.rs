//! Connecting to Postgres as the configuration says, and the schema's migrations.

use std::time::Duration;

use anyhow::{Context, bail};
use service::postgres::{NAMES_ARE_THE_CATALOGS, connect_options, place};
use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions, Executor, PgConnection};

use crate::config::Database;

/// How long the server may take to take a connection, or to answer.
const PATIENCE: Duration = Duration::from_secs(10);

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Opens a connection that gives up on statements that take too long.
pub async fn connect(database: &Database, application_name: &str) -> anyhow::Result<PgConnection> {
    let options = connect_options(&database.url()?).context("`database.url`")?.application_name(application_name);
    let place = place(&options);
    let connected = tokio::time::timeout(PATIENCE, options.connect()).await;
    let mut connection = connected
        .with_context(|| format!("connect to Postgres at {place}: no answer in {} s", PATIENCE.as_secs()))?
        .with_context(|| format!("connect to Postgres at {place}"))?;
    connection.execute(NAMES_ARE_THE_CATALOGS).await.context("set search_path")?;
    connection.execute("SET statement_timeout = '10s'").await.context("set statement_timeout")?;
    Ok(connection)
}

/// Applies what is missing of `migrations/`, as the importer does, so it does not matter who comes first.
///
/// A role that may not create is let through when the schema is current.
pub async fn migrate(connection: &mut PgConnection) -> anyhow::Result<()> {
    let missing = missing_migrations(connection).await?;
    if missing == 0 {
        return Ok(());
    }
    let (role, exists, may_create_schemas, may_create_tables): (String, bool, bool, bool) = sqlx::query_as(
        "SELECT current_user::text, to_regnamespace('penstock') IS NOT NULL, \
         has_database_privilege(current_database(), 'CREATE'), \
         coalesce(has_schema_privilege(to_regnamespace('penstock')::oid, 'CREATE'), false)",
    )
    .fetch_one(&mut *connection)
    .await
    .context("read this role's rights")?;
    let lacks = match (exists, may_create_schemas, may_create_tables) {
        (true, _, false) => Some("on schema penstock"),
        (false, false, _) => Some("on the database"),
        _ => None,
    };
    if let Some(lacks) = lacks {
        bail!(
            "schema penstock is {missing} migrations behind and this role ({role}) lacks the CREATE right {lacks}; \
             run `importer migrate` once as the owner"
        );
    }
    if !exists {
        create_schema(connection).await?;
    }
    // sqlx keeps its own table unqualified: with this search_path it lands in our schema.
    connection
        .execute("SET search_path = penstock; SET statement_timeout = 0")
        .await
        .context("prepare to apply migrations")?;
    let applied = MIGRATIONS.run(&mut *connection).await;
    let back = format!("{NAMES_ARE_THE_CATALOGS}; SET statement_timeout = '10s'");
    let back = connection.execute(back.as_str()).await.context("set search_path back");
    applied.context("apply migrations")?;
    back.map(|_| ())
}

/// Creates the schema. Asked only where it is missing: IF NOT EXISTS takes the right to create schemas even where
/// there is nothing to create, and does not keep two that start at once from each other's way.
async fn create_schema(connection: &mut PgConnection) -> anyhow::Result<()> {
    let created = connection.execute("CREATE SCHEMA penstock").await;
    let code = created.as_ref().err().and_then(|error| error.as_database_error()?.code());
    // duplicate_schema, or unique_violation when the other one's is not committed at our look.
    if code.is_some_and(|code| code == "42P06" || code == "23505") {
        return Ok(());
    }
    created.map(|_| ()).context("create schema penstock")
}

/// Returns how many migrations have yet to be applied; changes nothing.
pub async fn missing_migrations(connection: &mut PgConnection) -> anyhow::Result<usize> {
    // Not to_regclass: it fails where the schema is there and may not be used.
    let (role, exists, may_read): (String, bool, bool) = sqlx::query_as(
        "SELECT current_user::text, count(c.oid) > 0, \
         coalesce(bool_and(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')), false) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'penstock' AND c.relname = '_sqlx_migrations'",
    )
    .fetch_one(&mut *connection)
    .await
    .context("look for schema penstock")?;
    if exists && !may_read {
        bail!(
            "this role ({role}) lacks the USAGE right on schema penstock or the SELECT right on its tables; \
             run infra/postgres/grants.sql as the owner"
        );
    }
    let mut applied: Vec<i64> = Vec::new();
    if exists {
        applied = sqlx::query_scalar("SELECT version FROM penstock._sqlx_migrations WHERE success")
            .fetch_all(connection)
            .await
            .context("read applied migrations")?;
    }
    Ok(MIGRATIONS.iter().filter(|migration| !applied.contains(&migration.version)).count())
}
