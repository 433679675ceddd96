//! Which objects `replay` sends pointers of.

use crate::{
    cli::Replay,
    commands::{on_session, rehearse::resolve, s3_store},
    config::{Config, Dataset, Queue},
    load::{Session, catalog::TableError, liveness},
    message::{Anew, ObjectPointer, Record},
    object::ObjectStore,
    route::Router,
};
use anyhow::Context;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use service::words::chain;
use sqlx::{
    Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

/// A pointer to be sent.
pub struct Selected<'c> {
    pub record: Record,
    /// When its event happened.
    pub at: Option<DateTime<Utc>>,
    pub queue: &'c Queue,
}

/// Returns the versions the ledger knows, in the order they were first seen. Of a dataset that follows others these are
/// the ones that stand in theirs, unless a state is asked for.
///
/// # Errors
/// When the ledger is out of reach.
pub async fn known<'c>(config: &'c Config, options: &Replay) -> anyhow::Result<Vec<Selected<'c>>> {
    let named = options.dataset.as_deref().and_then(|name| config.dataset(name));
    let step = named.filter(|dataset| !dataset.after.is_empty() && options.state.is_none());
    let (steps, followed) = follows(config);
    let query = match step {
        Some(step) => {
            narrowed(sqlx::query(include_str!("held_before.sql")).bind(&step.name).bind(&step.after), options)
        }
        None => {
            let state = options.state.map(<&str>::from);
            let query = sqlx::query(include_str!("known.sql")).bind(&options.dataset).bind(state);
            narrowed(query, options).bind(&steps).bind(&followed).bind(None::<&str>)
        }
    };
    let read = async |session: &mut Session| {
        let rows = query.fetch(&mut session.connection);
        let selected = rows.and_then(async |row| {
            liveness::heard();
            selected(config, &row)
        });
        selected.try_collect().await.context("read the ledger")
    };
    on_session(config, "replay", read).await
}

/// What is sent, and what is not.
#[derive(Default)]
pub struct Selection<'c> {
    /// What is sent.
    pub selected: Vec<Selected<'c>>,
    /// What cannot be made anew, and why.
    pub left: Vec<String>,
}

impl<'c> From<Vec<Selected<'c>>> for Selection<'c> {
    fn from(selected: Vec<Selected<'c>>) -> Self {
        Self { selected, left: Vec::new() }
    }
}

/// Returns the versions that stand by another recipe than their dataset's now, or by one that was not recorded.
///
/// # Errors
/// When the ledger or the catalog is out of reach.
pub async fn outdated<'c>(config: &'c Config, options: &Replay) -> anyhow::Result<Selection<'c>> {
    let is_named = |dataset: &&Dataset| options.dataset.as_ref().is_none_or(|name| *name == dataset.name);
    let datasets: Vec<&Dataset> = config.datasets.iter().filter(is_named).collect();
    on_session(config, "replay", async |session| {
        let mut all = Selection::default();
        for dataset in datasets {
            let target = match resolve(config, session, dataset).await {
                Err(error) if is_of_table(&error) => {
                    all.left.push(format!("dataset {}: {}", dataset.name, chain(&error)));
                    continue;
                }
                target => target?,
            };
            let (mut selected, left) = of_dataset(config, session, options, (dataset, &target.recipe)).await?;
            all.left.extend(left);
            if !selected.is_empty() && !target.table.lineage_object {
                all.left.push(format!(
                    "dataset {}: replay --outdated needs a column penstock_object bigint in {}, or rows that the new \
                     recipe does not make any more would stay; {} objects are left as they are",
                    dataset.name,
                    dataset.table,
                    selected.len()
                ));
                selected.clear();
            }
            all.selected.append(&mut selected);
        }
        Ok(all)
    })
    .await
}

/// Returns what stands in a dataset by another recipe than this one, and of what could not be made by it, why.
async fn of_dataset<'c>(
    config: &'c Config,
    session: &mut Session,
    options: &Replay,
    (dataset, recipe): (&Dataset, &str),
) -> anyhow::Result<(Vec<Selected<'c>>, Vec<String>)> {
    let (steps, followed) = follows(config);
    let query = sqlx::query(include_str!("known.sql")).bind(&dataset.name).bind("imported");
    let query = narrowed(query, options).bind(&steps).bind(&followed).bind(recipe);
    let mut rows = query.fetch(&mut session.connection);
    let (mut found, mut left) = (Vec::new(), Vec::new());
    while let Some(row) = rows.try_next().await.context("read the ledger")? {
        liveness::heard();
        let Selected { mut record, at, queue } = selected(config, &row)?;
        if row.try_get("is_tried")? {
            let reason = row.try_get::<Option<&str>, _>("reason")?.unwrap_or("unknown");
            let pointer = &record.pointer;
            left.push(format!("{pointer} (dataset {}): not made anew by this recipe: {reason}", dataset.name));
            continue;
        }
        record.anew = Some(Anew::Recipe(recipe.to_owned()));
        found.push(Selected { record, at, queue });
    }
    Ok((found, left))
}

/// Returns whether an error is of the table, and not of the database.
fn is_of_table(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(TableError::Unusable { .. } | TableError::NoUniqueIndex(_)))
}

/// Returns each dataset that follows others with each of those, in their order.
fn follows(config: &Config) -> (Vec<&str>, Vec<&str>) {
    let pairs = config
        .datasets
        .iter()
        .flat_map(|dataset| dataset.after.iter().map(move |followed| (dataset.name.as_str(), followed.as_str())));
    pairs.unzip()
}

/// Adds what the options say of where objects lie and when they were seen.
fn narrowed<'q>(query: Query<'q, Postgres, PgArguments>, options: &'q Replay) -> Query<'q, Postgres, PgArguments> {
    let now = Utc::now();
    let prefix = options.prefix.as_ref();
    query
        .bind(prefix.map(|prefix| &prefix.bucket))
        .bind(prefix.map(|prefix| &prefix.prefix))
        .bind(options.since.as_ref().map(|since| since.at(now)))
        .bind(options.until.as_ref().map(|until| until.at(now)))
}

/// Reads a version. Its pointer names its dataset, whatever that matches by now; only where there is no such dataset any
/// more is it routed as an event is.
fn selected<'c>(config: &'c Config, row: &PgRow) -> sqlx::Result<Selected<'c>> {
    let size: Option<i64> = row.try_get("size")?;
    let pointer = ObjectPointer {
        bucket: row.try_get("bucket")?,
        key: row.try_get("key")?,
        version_id: row.try_get("version_id")?,
        etag: row.try_get("etag")?,
        size: size.and_then(|size| u64::try_from(size).ok()),
        sequencer: row.try_get("sequencer")?,
    };
    let name: Option<&str> = row.try_get("dataset")?;
    let dataset = name.and_then(|name| config.dataset(name));
    let mut record = Record::created(pointer);
    if let Some(dataset) = dataset {
        record.dataset = Some(dataset.name.clone());
        record.after = row.try_get("after")?;
    }
    let queue = dataset.map_or(&config.queue, |dataset| config.queue_of(dataset));
    Ok(Selected { record, at: row.try_get("at")?, queue })
}

/// Returns the objects that lie under the prefix now, for each queue whose datasets take them.
///
/// # Errors
/// When the bucket cannot be listed.
pub async fn existing<'c>(config: &'c Config, options: &Replay) -> anyhow::Result<Vec<Selected<'c>>> {
    let Some(prefix) = &options.prefix else { return Ok(Vec::new()) };
    let store = s3_store(&service::aws::config().await?, &config.buckets);
    let router = Router::new(config)?;
    let mut listed = store.list(&prefix.bucket, &prefix.prefix);
    let mut selected = Vec::new();
    while let Some(object) =
        listed.try_next().await.with_context(|| format!("list s3://{}/{}", prefix.bucket, prefix.prefix))?
    {
        let at = object.last_modified;
        let taken_by = router.destinations(&prefix.bucket, &object.key);
        let record = Record::created(object.pointer(&prefix.bucket));
        if taken_by.is_empty() {
            selected.push(Selected { record, at, queue: &config.queue });
            continue;
        }
        selected.extend(taken_by.iter().map(|to| {
            let name = &to.dataset.name;
            let record = Record { dataset: Some(name.to_string()), ..record.clone() };
            Selected { record, at, queue: config.queue_of_name(name) }
        }));
    }
    Ok(selected)
}
