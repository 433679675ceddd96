//! Keys of other tables that an object's rows name and that are not there yet.
//!
//! They are looked for before the rows are made, so that what arrives in between is waited for in vain rather than
//! missed; and they are written down under the head's lock, in the transaction of the rows
//! (`migrations/…_await_keys.sql` says why no key is missed).

use super::{
    Load, LoadError, Target,
    catalog::TableColumn,
    sql::{ALL, LoadPlan, OF_ROWS, Origin, Place, quote, quote_pair},
    transform::Transform,
};
use crate::{
    config::{Awaits, Dataset, fragment::Fragment},
    ledger::rejects::Waiting,
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
    let (identity, object) = (&load.candidate.identity, load.object);
    let pointer = ObjectPointer {
        version_id: identity.version_id.clone(),
        etag: identity.etag.clone(),
        size: identity.size,
        sequencer: load.candidate.stamp.sequencer.clone(),
        ..ObjectPointer::new(&object.bucket, &object.key)
    };
    let (head_id, object_id) = (load.recorded.head_id, load.recorded.object_id);
    let waiter = Waiter { head_id, object_id, pointer, after: load.after.map(str::to_owned) };
    waiter.record(connection, load.target).await
}

/// Writes down what was found missing of rows that come to an object's others, beside what it waits for already. Under the
/// head's lock.
///
/// # Errors
/// Of the database.
pub async fn record_more(connection: &mut PgConnection, target: &Target, of: &Waiting) -> sqlx::Result<()> {
    if target.transform.as_deref().is_none_or(|transform| transform.awaits.is_empty()) {
        return Ok(());
    }
    let known = "INSERT INTO pg_temp.penstock_missing (number, value) \
                 SELECT l.number - 1, k.value FROM penstock.waiting_key k JOIN penstock.awaited a ON a.id = k.awaited_id \
                 JOIN unnest($2::text[], $3::text[]) WITH ORDINALITY l (field, lookup, number) USING (field, lookup) \
                 WHERE k.head_id = $1";
    let awaits = &target.config.awaits;
    sqlx::query(known)
        .bind(of.head_id)
        .bind(awaits.iter().map(|awaits| awaits.field.as_str()).collect::<Vec<_>>())
        .bind(awaits.iter().map(|awaits| awaits.column.as_str()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    let entry = "SELECT etag, size, sequencer, after FROM penstock.object WHERE id = $1";
    let (etag, size, sequencer, after): (_, Option<i64>, _, _) =
        sqlx::query_as(entry).bind(of.object_id).fetch_one(&mut *connection).await?;
    let pointer = ObjectPointer {
        version_id: of.version_id.clone(),
        etag,
        size: size.and_then(|size| size.try_into().ok()),
        sequencer,
        ..ObjectPointer::new(&of.bucket, &of.key)
    };
    Waiter { head_id: of.head_id, object_id: of.object_id, pointer, after }.record(connection, target).await
}

/// Who waits, and what runs it again.
struct Waiter {
    head_id: i64,
    object_id: i64,
    pointer: ObjectPointer,
    after: Option<String>,
}

impl Waiter {
    async fn record(self, connection: &mut PgConnection, target: &Target) -> sqlx::Result<()> {
        let Some(transform) = target.transform.as_deref().filter(|transform| !transform.awaits.is_empty()) else {
            return Ok(());
        };
        let lookups = transform.awaits.iter().enumerate().map(|(number, awaited)| {
            let Awaits { field, column, again, give_up } = &awaited.config;
            json!({
                "number": number, "field": field, "lookup": column, "value_type": awaited.value_type,
                "again": again.0, "give_up": give_up.0,
            })
        });
        let name = &target.config.name;
        let (dataset, anew) = (Some(name.clone()), Some(Anew::Refresh));
        let record = Record { dataset, after: self.after, anew, ..Record::created(self.pointer) };
        sqlx::query("SELECT penstock.record_waits($1, $2, $3, $4::jsonb, $5::jsonb, $6)")
            .bind(self.head_id)
            .bind(self.object_id)
            .bind(name)
            .bind(pointer_body(&record))
            .bind(serde_json::Value::Array(lookups.collect()).to_string())
            .bind(MAX_KEYS)
            .execute(connection)
            .await?;
        Ok(())
    }
}
