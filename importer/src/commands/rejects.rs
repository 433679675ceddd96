//! `importer rejects`: bad rows. (Their second chance, `--replay`, is a command of its own inside.)

use super::{
    on_session,
    output::{self, shown},
};
use crate::{
    cli::Rejects,
    config::Config,
    load::{Session, liveness},
    message::ObjectPointer,
};
use anyhow::Context;
use futures_util::TryStreamExt;
use serde_json::Value;
use service::terminal::cell;
use sqlx::{PgConnection, QueryBuilder};
use std::{io::Write, process::ExitCode};

/// Prints the rows that did not load, of one object or of all.
///
/// # Errors
/// When Postgres is out of reach or the schema is not there.
pub async fn run(config: &Config, rejects: &Rejects) -> anyhow::Result<ExitCode> {
    output::print(async |out| {
        let print = async |session: &mut Session| print(&mut session.connection, rejects, out).await;
        on_session(config, "rejects", print).await?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}

async fn print(connection: &mut PgConnection, rejects: &Rejects, out: &mut impl Write) -> anyhow::Result<()> {
    if rejects.json {
        let mut query = query("row_to_json(r)::text", rejects);
        let mut rows = query.build_query_scalar::<String>().fetch(connection);
        while let Some(row) = rows.try_next().await.context("read penstock.rejects")? {
            liveness::heard();
            output::json(out, &row)?;
        }
        return Ok(());
    }
    let mut query = query("row_to_json(r), payload", rejects);
    let mut rows = query.build_query_as::<(Value, Option<Vec<u8>>)>().fetch(connection);
    let mut last_object = None;
    while let Some((row, payload)) = rows.try_next().await.context("read penstock.rejects")? {
        liveness::heard();
        let object = (row["dataset"].clone(), row["bucket"].clone(), row["key"].clone(), row["version_id"].clone());
        if last_object.as_ref() != Some(&object) {
            output::line(out, &heading(&row))?;
            last_object = Some(object);
        }
        text(&row, payload.as_deref()).lines().try_for_each(|line| output::line(out, line))?;
    }
    Ok(())
}

fn query<'q>(columns: &str, rejects: &'q Rejects) -> QueryBuilder<'q, sqlx::Postgres> {
    let mut query = QueryBuilder::new(format!("SELECT {columns} FROM penstock.rejects r WHERE true"));
    if let Some(object) = &rejects.object {
        query.push(" AND bucket = ").push_bind(&object.bucket).push(" AND key = ").push_bind(&object.key);
    }
    query.push(" ORDER BY dataset, bucket, key, version_id, row_number, created_at");
    query
}

/// `s3://bucket/key  dataset d  version v`
fn heading(row: &Value) -> String {
    let pointer = ObjectPointer::new(shown(&row["bucket"]), shown(&row["key"]));
    let mut text = format!("{}  dataset {}", cell(&pointer.to_string()), cell(&shown(&row["dataset"])));
    if let Value::String(version) = &row["version_id"] {
        text.push_str("  version ");
        text.push_str(&cell(version));
    }
    text
}

/// `  row 7  range  column n: 70000 is out of range for smallint` and the row itself below.
fn text(row: &Value, payload: Option<&[u8]>) -> String {
    let mut text = format!("  row {}  {}", shown(&row["row_number"]), shown(&row["class"]));
    if let Value::String(column) = &row["column_name"] {
        text.push_str(&format!("  column {}", cell(column)));
    }
    if let Value::String(member) = &row["archive_member"] {
        text.push_str(&format!("  member {}", cell(member)));
    }
    text.push_str(&format!(": {}", cell(&shown(&row["message"]))));
    if let Value::String(time) = &row["resolved_at"] {
        text.push_str(&format!("  (resolved {time})"));
    }
    if let Some(payload) = payload {
        let length = row["payload_length"].as_u64().filter(|length| *length > payload.len() as u64);
        let cut = length.map(|length| format!(" (of {length} bytes)")).unwrap_or_default();
        text.push_str(&format!("\n    {}{cut}", cell(String::from_utf8_lossy(payload).trim_end_matches(['\r', '\n']))));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reject_says_where_why_and_what() {
        let row = json!({"bucket": "b", "key": "k", "dataset": "d", "version_id": null, "row_number": 7, "class": "range",
                         "column_name": "n", "message": "70000 is out of range", "payload_length": 8, "resolved_at": null});
        assert_eq!(heading(&row), "s3://b/k  dataset d");
        assert_eq!(
            text(&row, Some(b"{\"n\":\xff}\n")),
            "  row 7  range  column n: 70000 is out of range\n    {\"n\":\u{fffd}}"
        );
        assert!(text(&row, Some(b"{\"n\"")).ends_with("\n    {\"n\" (of 8 bytes)"));
        assert_eq!(text(&row, None), "  row 7  range  column n: 70000 is out of range");
    }
}
