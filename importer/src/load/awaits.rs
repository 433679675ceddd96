//! Keys of other tables that an object's rows name and that are not there yet.
//!
//! They are looked for before the rows are made, so that what arrives in between is waited for in vain rather than
//! missed; and they are written down under the head's lock, in the transaction of the rows
//! (`migrations/…_await_keys.sql` says why no key is missed).

use super::{
    Load, LoadError,
    catalog::TableColumn,
    sql::{ALL, LoadPlan, OF_ROWS, Origin, Place, quote, quote_pair},
    transform::Transform,
};
use crate::{
    config::{Awaits, Dataset, fragment::Fragment},
    message::{Anew, ObjectPointer, Record, pointer_body},
};
use serde_json::json;
use sqlx::PgConnection;

/// With more keys than this an object waits for the time alone.
const MAX_KEYS: i32 = 10_000;

/// Longer keys are waited for by time: no index entry of Postgres is longer (a third of a page, less its header).
const MAX_KEY_BYTES: usize = 2704;

/// A field of `input` and the column that it is awaited in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// As it is configured.
    pub config: Awaits,
    /// The `search_path` that values are compared under: that of a later look, too.
    names: String,
    /// The table, quoted.
    relation: String,
    /// Its column, quoted.
    column: String,
    /// The type that the field is read as.
    value_type: String,
}

impl Awaited {
    /// Brings what is configured and the columns of `input` together; a checked configuration has no other.
    #[must_use]
    pub fn all(dataset: &Dataset, columns: &[TableColumn]) -> Vec<Self> {
        let awaited = dataset.awaits.iter().filter_map(|config| {
            let (schema, table, column) = config.place()?;
            let field = columns.iter().find(|column| column.column.name == config.field)?;
            Some(Self {
                config: config.clone(),
                names: format!("pg_catalog, {}, pg_temp", quote(schema)),
                relation: quote_pair(schema, table),
                column: quote(column),
                value_type: field.cast_sql.clone(),
            })
        });
        awaited.collect()
    }

    /// Returns the condition under which `value` has not arrived.
    #[must_use]
    pub fn is_missing(&self, value: &str) -> String {
        let Self { relation, column, .. } = self;
        format!("NOT EXISTS (SELECT FROM {relation} AS looked_up WHERE looked_up.{column} = {value})")
    }

    /// Returns the INSERT of the values of `input` that are missing.
    fn look(&self, number: usize, input: &str) -> String {
        let missing = self.is_missing("named.value");
        format!(
            "INSERT INTO pg_temp.penstock_missing (number, value) SELECT {number}, CASE WHEN octet_length(value::text) <= {MAX_KEY_BYTES} THEN value::text END \
             FROM (SELECT DISTINCT input.{} AS value FROM ({input}) AS input) AS named \
             WHERE value IS NOT NULL AND {missing} LIMIT {}",
            quote(&self.config.field),
            MAX_KEYS + 1
        )
    }
}

/// Returns whether a later run could leave out a row that an earlier one made, as far as that can be told: then the table
/// has to say which rows are whose. `sets_key`: an expression fills a column of the key.
///
/// # Errors
/// Of the database.
pub async fn may_leave_out(connection: &mut PgConnection, dataset: &Dataset, sets_key: bool) -> sqlx::Result<bool> {
    let joins = dataset.join.as_deref();
    let only_left = joins.is_none_or(Fragment::has_only_left_joins);
    if !dataset.command.is_empty() || dataset.fan_out || !only_left || sets_key {
        return Ok(true);
    }
    let Some(condition) = dataset.condition.as_deref() else { return Ok(false) };
    // What a condition compares may be another value then.
    if joins.is_some() || Fragment::has_query(condition) {
        return Ok(true);
    }
    // A function of one's own may ask a table.
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_proc WHERE proname::text = ANY ($1) AND provolatile <> 'i' \
         AND pronamespace <> 'pg_catalog'::regnamespace)",
    )
    .bind(Fragment::called(condition))
    .fetch_one(connection)
    .await
}

/// Looks for keys that staged rows name and that are not there.
///
/// # Errors
/// [`LoadError`].
pub async fn look(
    connection: &mut PgConnection,
    transform: &Transform,
    input: &LoadPlan<'_>,
    place: &Place<'_>,
) -> Result<(), LoadError> {
    for (number, awaited) in transform.awaits.iter().enumerate() {
        let whole = awaited.look(number, &input.input_rows(transform, &Origin::Object(place), ALL));
        let by_rows = awaited.look(number, &input.input_rows(transform, &Origin::Object(place), OF_ROWS));
        transform.look(connection, input.staging, (&whole, &by_rows), &awaited.names).await?;
    }
    Ok(())
}

/// Returns whether keys were found missing. Rows may be refused for want of them, and are taken once they are there:
/// such an object waits with whatever it has, and does not fail.
///
/// # Errors
/// Of the database.
pub async fn is_incomplete(connection: &mut PgConnection, load: &Load<'_>) -> sqlx::Result<bool> {
    if load.target.transform.as_deref().is_none_or(|transform| transform.awaits.is_empty()) {
        return Ok(false);
    }
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_temp.penstock_missing)").fetch_one(connection).await
}

/// Writes down what was found missing, or that nothing is waited for any more. Under the head's lock.
///
/// # Errors
/// Of the database.
pub async fn record(connection: &mut PgConnection, load: &Load<'_>) -> sqlx::Result<()> {
    let Some(transform) = load.target.transform.as_deref().filter(|transform| !transform.awaits.is_empty()) else {
        return Ok(());
    };
    let dataset = &load.target.config;
    let lookups = transform.awaits.iter().enumerate().map(|(number, awaited)| {
        let Awaits { field, column, again, give_up } = &awaited.config;
        json!({
            "number": number, "field": field, "lookup": column, "value_type": awaited.value_type,
            "again": again.0, "give_up": give_up.0,
        })
    });
    let (identity, object) = (&load.candidate.identity, load.object);
    let pointer = ObjectPointer {
        version_id: identity.version_id.clone(),
        etag: identity.etag.clone(),
        size: identity.size,
        sequencer: load.candidate.stamp.sequencer.clone(),
        ..ObjectPointer::new(&object.bucket, &object.key)
    };
    let (name, after) = (Some(dataset.name.clone()), load.after.map(str::to_owned));
    let record = Record { dataset: name, after, anew: Some(Anew::Refresh), ..Record::created(pointer) };
    sqlx::query("SELECT penstock.record_waits($1, $2, $3, $4::jsonb, $5::jsonb, $6)")
        .bind(load.recorded.head_id)
        .bind(load.recorded.object_id)
        .bind(&dataset.name)
        .bind(pointer_body(&record))
        .bind(serde_json::Value::Array(lookups.collect()).to_string())
        .bind(MAX_KEYS)
        .execute(connection)
        .await?;
    Ok(())
}
