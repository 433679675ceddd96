//! `importer status`: what the ledger knows.

use super::{
    EXIT_UNKNOWN_OBJECT, on_session,
    output::{self, Table, shown},
};
use crate::{
    cli::Status,
    config::Config,
    load::{Session, liveness},
    message::ObjectPointer,
};
use anyhow::Context;
use futures_util::TryStreamExt;
use serde_json::Value;
use sqlx::{PgConnection, QueryBuilder};
use std::{io::Write, process::ExitCode};

/// The view's columns in its order; a JSON value has lost it.
const NAMES: [&str; 28] = [
    "id",
    "dataset",
    "bucket",
    "key",
    "version_id",
    "etag",
    "size",
    "sequencer",
    "state",
    "reason",
    "attempts",
    "worker",
    "rows_read",
    "rows_written",
    "rows_merged",
    "rows_filtered",
    "rows_rejected",
    "bytes",
    "event_time",
    "first_seen_at",
    "started_at",
    "imported_at",
    "duration_seconds",
    "error",
    "rows_added",
    "recipe",
    "sent_at",
    "first_received_at",
];

/// Objects a table shows; `--json` shows all.
const MAX_TABLE_ROWS: i64 = 1000;

/// Prints one object's versions, the objects of a state or dataset, or how many there are of each.
///
/// # Errors
/// When Postgres is out of reach or the schema is not there.
pub async fn run(config: &Config, status: &Status) -> anyhow::Result<ExitCode> {
    output::print(async |out| {
        let print = async |session: &mut Session| {
            // The heads of a million entries are joined in memory.
            let setting = sqlx::raw_sql("SET work_mem = '64MB'");
            setting.execute(&mut session.connection).await.context("set up the session")?;
            print(&mut session.connection, status, out).await
        };
        on_session(config, "status", print).await
    })
    .await
}

async fn print(connection: &mut PgConnection, status: &Status, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    if status.json {
        let n_rows = print_json(connection, status, out).await?;
        return Ok(exit_of(status.object.as_ref(), n_rows));
    }
    if let Some(object) = &status.object {
        let n_rows = print_versions(connection, status, out).await?;
        return Ok(exit_of(Some(object), n_rows));
    }
    if status.state.is_none() && status.dataset.is_none() {
        print_summary(connection, out).await?;
    } else {
        print_objects(connection, status, out).await?;
    }
    Ok(ExitCode::SUCCESS)
}

fn exit_of(object: Option<&ObjectPointer>, n_rows: u64) -> ExitCode {
    match object {
        Some(object) if n_rows == 0 => {
            output::complain(format!("the ledger does not know {object}"));
            ExitCode::from(EXIT_UNKNOWN_OBJECT)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Returns `SELECT columns FROM (entries that were asked for) s`, of the newest ones where there is a limit.
fn query<'q>(columns: &str, status: &'q Status, newest: Option<i64>) -> QueryBuilder<'q, sqlx::Postgres> {
    let mut query = QueryBuilder::new(format!("SELECT {columns} FROM ({}", include_str!("status_entries.sql")));
    if let Some(object) = &status.object {
        query.push(" AND h.bucket = ").push_bind(&object.bucket).push(" AND h.key = ").push_bind(&object.key);
    }
    if let Some(state) = status.state {
        query.push(" AND o.state = ").push_bind(<&str>::from(state));
    }
    if let Some(dataset) = &status.dataset {
        query.push(" AND h.dataset = ").push_bind(dataset);
    }
    if let Some(newest) = newest {
        query.push(" ORDER BY o.id DESC LIMIT ").push_bind(newest);
    }
    query.push(") s");
    query
}

/// Rows come one by one: a ledger has more than fits in memory.
async fn print_json(connection: &mut PgConnection, status: &Status, out: &mut impl Write) -> anyhow::Result<u64> {
    let mut query = query("row_to_json(s)::text", status, None);
    query.push(" ORDER BY id");
    let mut rows = query.build_query_scalar::<String>().fetch(connection);
    let mut n_rows = 0;
    while let Some(row) = rows.try_next().await.context("read penstock.object_status")? {
        liveness::heard();
        output::json(out, &row)?;
        n_rows += 1;
    }
    Ok(n_rows)
}

/// One block a version, with all that is known.
async fn print_versions(connection: &mut PgConnection, status: &Status, out: &mut impl Write) -> anyhow::Result<u64> {
    let mut query = query("row_to_json(s)", status, None);
    query.push(" ORDER BY id");
    let rows: Vec<Value> =
        query.build_query_scalar().fetch_all(connection).await.context("read penstock.object_status")?;
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            output::line(out, "")?;
        }
        for (name, value) in NAMES.map(|name| (name, &row[name])).iter().filter(|(_, value)| !value.is_null()) {
            output::line(out, &format!("{name:<16}  {}", shown(value)))?;
        }
    }
    Ok(rows.len() as u64)
}

async fn print_objects(connection: &mut PgConnection, status: &Status, out: &mut impl Write) -> anyhow::Result<()> {
    let mut newest = query("row_to_json(s)", status, Some(MAX_TABLE_ROWS + 1));
    newest.push(" ORDER BY id DESC");
    let mut rows: Vec<Value> =
        newest.build_query_scalar().fetch_all(&mut *connection).await.context("read penstock.object_status")?;
    let more = rows.len() as i64 > MAX_TABLE_ROWS;
    rows.truncate(MAX_TABLE_ROWS as usize);
    let mut table = Table::new(&[
        "dataset", "object", "state", "reason", "attempts", "read", "written", "rejected", "seen", "error",
    ]);
    for row in &rows {
        let field = |name: &str| shown(&row[name]);
        let pointer = ObjectPointer::new(field("bucket"), field("key"));
        table.push([
            field("dataset"),
            pointer.to_string(),
            field("state"),
            field("reason"),
            field("attempts"),
            field("rows_read"),
            field("rows_written"),
            field("rows_rejected"),
            to_the_second(&field("first_seen_at")),
            field("error"),
        ]);
    }
    if !table.is_empty() {
        table.write(out, "")?;
    }
    if more {
        let n_all: i64 = query("count(*)", status, None)
            .build_query_scalar()
            .fetch_one(connection)
            .await
            .context("count objects")?;
        output::line(out, &format!("the newest {MAX_TABLE_ROWS} of {n_all}; --json prints all"))?;
    }
    Ok(())
}

/// A line of the summary.
struct Group {
    dataset: Option<String>,
    state: String,
    reason: Option<String>,
    n_objects: i64,
    n_rows: i64,
    last_seen: Option<String>,
}
service::from_row!(Group { dataset, state, reason, n_objects, n_rows, last_seen });

async fn print_summary(connection: &mut PgConnection, out: &mut impl Write) -> anyhow::Result<()> {
    let groups: Vec<Group> = sqlx::query_as(include_str!("status_summary.sql"))
        .fetch_all(connection)
        .await
        .context("read penstock.object_status")?;
    let mut table = Table::new(&["dataset", "state", "reason", "objects", "rows written", "last seen"]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    for group in groups {
        table.push([
            or_dash(group.dataset),
            group.state,
            or_dash(group.reason),
            group.n_objects.to_string(),
            group.n_rows.to_string(),
            to_the_second(&or_dash(group.last_seen)),
        ]);
    }
    if table.is_empty() {
        output::line(out, "the ledger is empty")?;
        return Ok(());
    }
    table.write(out, "")?;
    Ok(())
}

/// Cuts an ISO time after its seconds.
fn to_the_second(time: &str) -> String {
    time.get(..19).filter(|text| text.as_bytes()[10] == b'T').unwrap_or(time).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::State;

    #[test]
    fn only_what_was_asked_for_restricts_the_query() {
        let mut status = Status { object: None, state: None, dataset: None, json: false };
        let asked = |status: &Status| {
            let sql = query("*", status, None).sql().to_owned();
            sql.split_once("WHERE true").map(|(_, asked)| asked.trim().to_owned()).unwrap_or_default()
        };
        assert_eq!(asked(&status), ") s");
        status.state = Some(State::Failed);
        status.dataset = Some("d".into());
        assert_eq!(asked(&status), "AND o.state = $1 AND h.dataset = $2) s");
        let object = ObjectPointer::new("b", "k");
        let status = Status { object: Some(object), state: None, dataset: None, json: false };
        assert_eq!(asked(&status), "AND h.bucket = $1 AND h.key = $2) s");
    }

    #[test]
    fn only_an_unknown_object_exits_4() {
        let object = ObjectPointer::new("b", "k");
        assert_eq!(exit_of(Some(&object), 0), ExitCode::from(EXIT_UNKNOWN_OBJECT));
        assert_eq!(exit_of(Some(&object), 1), ExitCode::SUCCESS);
        assert_eq!(exit_of(None, 0), ExitCode::SUCCESS);
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(to_the_second("2026-01-01T00:00:00.123456+00:00"), "2026-01-01T00:00:00");
        assert_eq!(to_the_second("-"), "-");
    }
}
