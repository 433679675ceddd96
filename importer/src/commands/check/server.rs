//! What `check` says about the Postgres server and the schema `penstock`.

use super::Findings;
use crate::{ledger::migrate, load::sql::quote};
use anyhow::Context;
use service::postgres::Server;
use sqlx::{PgConnection, Row};

/// Major versions Penstock is tested with.
const SUPPORTED: std::ops::RangeInclusive<i32> = 13..=18;

/// Looks at the server's settings and the role's rights; returns a description of the server.
///
/// # Errors
/// When Postgres fails.
pub async fn check(connection: &mut PgConnection, server: &Server, findings: &mut Findings) -> anyhow::Result<String> {
    let row =
        sqlx::query(include_str!("server.sql")).fetch_one(&mut *connection).await.context("read server settings")?;
    let version: i32 = row.try_get("version_num")?;
    let role: String = row.try_get("role")?;
    if !SUPPORTED.contains(&(version / 10_000)) {
        findings.warn("database", format!("is Postgres {}", version / 10_000), "use one of 13 to 18, which are tested");
    }
    if row.try_get::<String, _>("synchronous_commit")? == "off" {
        findings.warn(
            "database",
            "synchronous_commit = off: a crash of Postgres can lose commits whose messages are deleted already",
            format!("set it to on for this role: ALTER ROLE {} SET synchronous_commit = on", quote(&role)),
        );
    }
    if row.try_get::<bool, _>("read_only")? {
        findings.wrong("database", "takes no writes: it is a standby or set to read only", "connect to the primary");
    }
    if !row.try_get::<bool, _>("may_create_temp")? {
        findings.wrong(
            "database",
            format!("role {role} may not create temporary tables"),
            format!(
                "GRANT TEMPORARY ON DATABASE {} TO {}",
                quote(&row.try_get::<String, _>("database")?),
                quote(&role)
            ),
        );
    }
    check_schema(connection, findings).await?;
    Ok(format!(
        "{} on {} as {}, Postgres {}",
        row.try_get::<String, _>("database")?,
        server.place(),
        role,
        row.try_get::<String, _>("version")?
    ))
}

async fn check_schema(connection: &mut PgConnection, findings: &mut Findings) -> anyhow::Result<()> {
    let standing = migrate::standing(connection).await?;
    if standing.missing == 0 {
        return Ok(());
    }
    let text = match standing.missing {
        1 => "is 1 migration behind".to_owned(),
        n => format!("is {n} migrations behind"),
    };
    if standing.may_create {
        findings.warn(
            "schema penstock",
            text,
            "run `importer migrate`, or leave it to run and load, which do the same",
        );
    } else {
        let text = format!("{text} and this role may not apply them");
        findings.wrong("schema penstock", text, "run `importer migrate` as the owner");
    }
    Ok(())
}
