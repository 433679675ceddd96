//! What is registered in the ledger: which datasets follow which, what is awaited, whom to notify, and whose objects get a
//! tag. The ledger's
//! triggers make messages due by it, whatever the configuration of the worker that commits.
//!
//! While workers of two configurations run, either may start last. So a start only adds: no send or wake-up of the other
//! configuration is lost, and one too many is told by the ledger. `importer migrate`, the step of a deployment, leaves of
//! its datasets what its configuration says and nothing else.

use crate::{
    config::{Config, Dataset},
    load::catalog::{Table, TableError},
};
use sqlx::{PgConnection, Row, postgres::PgRow};
use std::collections::BTreeSet;

/// What becomes of what was registered of the same datasets before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It stays.
    Stays,
    /// It goes, unless this configuration says it, too.
    Goes,
}

/// Registers a configuration's steps, awaited columns, notifications and tags. What others registered of other datasets stays.
/// Must be called outside a transaction.
///
/// # Errors
/// Of the database.
pub async fn register(connection: &mut PgConnection, config: &Config, before: Before) -> sqlx::Result<()> {
    let is_all = before == Before::Goes;
    for dataset in config.datasets.iter().filter(|dataset| !dataset.after.is_empty() || !dataset.awaits.is_empty()) {
        let queue = config.queue_of(dataset);
        sqlx::query(include_str!("register_step.sql"))
            .bind(&dataset.name)
            .bind(&dataset.after)
            .bind(&queue.name)
            .bind(&queue.url)
            .bind(is_all)
            .execute(&mut *connection)
            .await?;
    }
    for awaited in awaited(connection, config).await? {
        sqlx::query(include_str!("register_awaited.sql"))
            .bind(awaited.dataset)
            .bind(awaited.field)
            .bind(awaited.lookup)
            .bind(awaited.schema)
            .bind(awaited.table)
            .bind(awaited.column)
            .bind(&awaited.fillers)
            .bind(is_all)
            .execute(&mut *connection)
            .await?;
    }
    // A role that may not is let through, and `check` says what differs.
    let may_narrow = "SELECT has_table_privilege('penstock.step', 'UPDATE')";
    if is_all && sqlx::query_scalar::<_, bool>(may_narrow).fetch_one(&mut *connection).await? {
        let all = || config.datasets.iter();
        let awaits = || all().flat_map(|dataset| dataset.awaits.iter().map(move |awaits| (&dataset.name, awaits)));
        sqlx::query(include_str!("narrow_registry.sql"))
            .bind(names(all().filter(|dataset| dataset.after.is_empty())))
            .bind(awaits().map(|(dataset, _)| dataset.as_str()).collect::<Vec<_>>())
            .bind(awaits().map(|(_, awaits)| awaits.field.as_str()).collect::<Vec<_>>())
            .bind(awaits().map(|(_, awaits)| awaits.column.as_str()).collect::<Vec<_>>())
            .bind(names(all()))
            .bind(names(all().filter(|dataset| dataset.loaded_tag().is_none())))
            .execute(&mut *connection)
            .await?;
    }
    for dataset in &config.datasets {
        let Some(tag) = dataset.loaded_tag() else { continue };
        sqlx::query(include_str!("register_tag.sql"))
            .bind(&dataset.name)
            .bind(tag.key)
            .bind(tag.value)
            .execute(&mut *connection)
            .await?;
    }
    for notify in &config.notify {
        sqlx::query(include_str!("register_notification.sql"))
            .bind(&notify.name)
            .bind(&notify.to)
            .bind(notify.on.iter().map(<&str>::from).collect::<Vec<_>>())
            .bind(&notify.datasets)
            .bind(notify.at_most.map(|at_most| at_most.n))
            .bind(notify.at_most.map(|at_most| at_most.secs))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

fn names<'c>(datasets: impl Iterator<Item = &'c Dataset>) -> Vec<&'c str> {
    datasets.map(|dataset| dataset.name.as_str()).collect()
}

/// A column that a dataset awaits keys in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited<'c> {
    /// The dataset.
    pub dataset: &'c str,
    /// Its field with the key.
    pub field: &'c str,
    /// The column, as it is configured.
    pub lookup: &'c str,
    schema: &'c str,
    table: &'c str,
    column: &'c str,
    /// The datasets that fill its table, as far as the database tells.
    pub fillers: Vec<String>,
}

/// Returns what a configuration awaits. Must be called outside a transaction.
///
/// # Errors
/// Of the database.
pub async fn awaited<'c>(connection: &mut PgConnection, config: &'c Config) -> sqlx::Result<Vec<Awaited<'c>>> {
    let mut all = Vec::new();
    if config.datasets.iter().all(|dataset| dataset.awaits.is_empty()) {
        return Ok(all);
    }
    let tables = tables(connection, config).await?;
    for dataset in &config.datasets {
        for awaits in &dataset.awaits {
            let Some((schema, table, column)) = awaits.place() else { continue };
            let fillers = sqlx::query_scalar(include_str!("fillers.sql"))
                .bind(schema)
                .bind(table)
                .bind(names(config.datasets.iter()))
                .bind(&tables)
                .fetch_one(&mut *connection)
                .await?;
            let (dataset, field, lookup) = (&dataset.name, &awaits.field, &awaits.column);
            all.push(Awaited { dataset, field, lookup, schema, table, column, fillers });
        }
    }
    Ok(all)
}

/// Returns the object ids of the datasets' tables, in their order; None where there is no such table.
async fn tables(connection: &mut PgConnection, config: &Config) -> sqlx::Result<Vec<Option<i64>>> {
    let exact = "SELECT c.oid::bigint FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t (schema_name, name, place) \
                 LEFT JOIN pg_namespace n ON n.nspname = t.schema_name \
                 LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name ORDER BY t.place";
    let named = config.datasets.iter().map(|dataset| match dataset.table.split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, dataset.table.as_str()),
    });
    let (schemas, names): (Vec<_>, Vec<_>) = named.unzip();
    // Workers ask often, and most names are found as they are written.
    let mut tables: Vec<Option<i64>> =
        sqlx::query_scalar(exact).bind(schemas).bind(names).fetch_all(&mut *connection).await?;
    for (table, dataset) in tables.iter_mut().zip(&config.datasets).filter(|(table, _)| table.is_none()) {
        *table = match Table::find(connection, &dataset.table).await {
            Ok(oid) => Some(oid),
            Err(TableError::Database(error)) => return Err(error),
            Err(TableError::Unusable { .. } | TableError::NoUniqueIndex(_)) => None,
        };
    }
    Ok(tables)
}

/// Returns the steps, tags and notifications that are registered and not in a configuration, as people are told of them.
///
/// # Errors
/// Of the database.
pub async fn unknown(connection: &mut PgConnection, config: &Config) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "SELECT 'dataset ' || dataset FROM penstock.step WHERE dataset <> ALL($1) \
         UNION SELECT 'dataset ' || dataset FROM penstock.tagging WHERE dataset <> ALL($1) \
         UNION ALL SELECT 'notify ' || name FROM penstock.notification WHERE name <> ALL($2) ORDER BY 1",
    )
    .bind(names(config.datasets.iter()))
    .bind(config.notify.iter().map(|notify| notify.name.as_str()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
}

/// Returns where what is registered of a configuration's datasets is not what it says, a sentence each. Must be called
/// outside a transaction.
///
/// # Errors
/// Of the database.
pub async fn differences(connection: &mut PgConnection, config: &Config) -> sqlx::Result<Vec<String>> {
    let mut found = Vec::new();
    let steps = "SELECT dataset, after, queue FROM penstock.step WHERE dataset = ANY($1) ORDER BY dataset";
    let steps = sqlx::query(steps).bind(names(config.datasets.iter())).fetch_all(&mut *connection).await?;
    for dataset in &config.datasets {
        let is_it = |row: &&PgRow| row.try_get::<&str, _>("dataset").is_ok_and(|name| name == dataset.name);
        let row = steps.iter().find(is_it);
        let registered: Vec<String> = row.map_or(Ok(Vec::new()), |row| row.try_get("after"))?;
        let (is, says): (BTreeSet<&String>, BTreeSet<&String>) =
            (registered.iter().collect(), dataset.after.iter().collect());
        if is != says {
            let (is, says) = (listed(&is), listed(&says));
            found.push(format!("dataset {} is registered after {is}, and configured after {says}", dataset.name));
        }
        let queue: Option<&str> = row.map(|row| row.try_get("queue")).transpose()?;
        let own = &config.queue_of(dataset).name;
        if let Some(queue) = queue.filter(|queue| *queue != own && !says.is_empty()) {
            found.push(format!("dataset {} is registered with queue {queue}, and configured with {own}", dataset.name));
        }
    }
    let tags = "SELECT dataset, key, value FROM penstock.tagging WHERE dataset = ANY($1)";
    let tags = sqlx::query_as(tags).bind(names(config.datasets.iter())).fetch_all(&mut *connection).await?;
    for dataset in &config.datasets {
        let is = tags.iter().find(|(name, ..): &&(String, String, String)| *name == dataset.name);
        let is = is.map_or("no tag".to_owned(), |(_, key, value)| format!("{key}={value}"));
        let says = dataset.loaded_tag().map_or("no tag".to_owned(), |tag| format!("{}={}", tag.key, tag.value));
        if is != says {
            found.push(format!(
                "dataset {} is registered with {is} for loaded objects, and configured with {says}",
                dataset.name
            ));
        }
    }
    let says = awaited(connection, config).await?;
    let known = "SELECT dataset, field, lookup, fillers FROM penstock.awaited WHERE dataset = ANY($1) ORDER BY id";
    let known = sqlx::query(known).bind(names(config.datasets.iter())).fetch_all(&mut *connection).await?;
    let mut registered = Vec::new();
    for row in &known {
        let (dataset, field, lookup): (&str, &str, &str) =
            (row.try_get("dataset")?, row.try_get("field")?, row.try_get("lookup")?);
        let fillers: Vec<String> = row.try_get("fillers")?;
        let is_said = says.iter().any(|one| (one.dataset, one.field, one.lookup) == (dataset, field, lookup));
        if !is_said && !fillers.is_empty() {
            found.push(format!("dataset {dataset} is registered to await {field} in {lookup}, and not configured to"));
        }
        registered.push((dataset, field, lookup, fillers));
    }
    for Awaited { dataset, field, lookup, fillers, .. } in &says {
        let known = registered.iter().find(|known| (known.0, known.1, known.2) == (*dataset, *field, *lookup));
        let Some((.., known)) = known else {
            found.push(format!("dataset {dataset} is configured to await {field} in {lookup}, and not registered to"));
            continue;
        };
        // One too many does no harm.
        let lacks: BTreeSet<&String> = fillers.iter().filter(|filler| !known.contains(filler)).collect();
        if !lacks.is_empty() {
            found.push(format!("{lookup}: that {} fills its table is not registered", listed(&lacks)));
        }
    }
    Ok(found)
}

fn listed(names: &BTreeSet<&String>) -> String {
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    if names.is_empty() { "none".into() } else { names.join(" and ") }
}
