//! Staged rows into the table, as the mode says.

use super::{
    Load, LoadError, awaits,
    refused::{self, Apart, is_refused},
    remove,
    sql::{self, ALL, LoadPlan, Meets, RANGE, Sampled},
    stage::Staged,
};
use crate::{
    config::Mode,
    database::{Lasts, savepoint},
    message::Anew,
};
use sqlx::{Executor, PgConnection};

/// Merges the staged rows; those Postgres refuses become rejects. Returns how many stand in the table now.
///
/// # Errors
/// [`LoadError::TooManyRefused`] or [`LoadError::Database`].
pub async fn merge_all(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    load: &Load<'_>,
    staged: &mut Staged,
) -> Result<u64, LoadError> {
    let merged = savepoint(connection, Lasts::Transaction, is_refused, async |connection| {
        look_and_merge(connection, plan, load, staged.n_staged).await
    });
    let written = match merged.await? {
        Ok(written) => written,
        Err(_) => {
            make_room(connection, load).await?;
            let allowed = match awaits::is_incomplete(connection, load).await? {
                true => staged.n_staged,
                false => load.target.config.max_rejects.allowed(staged.n_read).saturating_sub(staged.n_rejected),
            };
            let (apart, written) = merge_refused(connection, plan, load.recorded.object_id, allowed).await?;
            if !plan.newer_is_absent() {
                make_room_for_upsert(connection, load, plan).await?;
            }
            let n_lost = staged.n_staged.saturating_sub(apart.n_left);
            staged.n_rejected += apart.n_refused;
            // A row of the object takes along all that was made of it.
            staged.n_added = staged.n_added.saturating_sub(n_lost.saturating_sub(apart.n_refused));
            staged.n_staged -= n_lost;
            written
        }
    };
    staged.n_filtered += written.n_left_out;
    Ok(written.n_standing)
}

/// Merges in the way that suits what is in the table. Behind a savepoint: also a look casts texts, and may be refused.
async fn look_and_merge(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    load: &Load<'_>,
    n_staged: u64,
) -> Result<Written, LoadError> {
    // Before joins are chosen for a merge.
    make_room_for_upsert(connection, load, plan).await?;
    let meets = how_to_meet(connection, plan, n_staged).await?;
    make_room(connection, load).await?;
    match n_staged {
        0 => Ok(Written::default()),
        _ => write_staged(connection, &LoadPlan { meets, ..*plan }, load.recorded.object_id, n_staged).await,
    }
}

/// Rows of a sample; and with so few staged a sample costs more than it saves.
const SAMPLED_ROWS: u64 = 500;

/// Decides how the merge meets the rows that are in the table.
async fn how_to_meet(connection: &mut PgConnection, plan: &LoadPlan<'_>, n_staged: u64) -> Result<Meets, LoadError> {
    if plan.mode != Mode::Upsert || !plan.table.may_skip_equal {
        return Ok(Meets::Plainly);
    }
    // Staging was never analyzed. Row by row through the key's index is what is wanted, however large the table is
    // and whatever the planner makes of that.
    connection.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off").await?;
    if n_staged < 2 * SAMPLED_ROWS {
        return Ok(Meets::SkippingEqual);
    }
    let sample = plan.sample(SAMPLED_ROWS, n_staged);
    let sampled: Sampled = sqlx::query_as(&sample).fetch_one(connection).await?;
    Ok(sampled.meets())
}

/// What became of staged rows that were written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    /// How many stand in the target: inserted, updated or already equal.
    pub n_standing: u64,
    /// How many a trigger left out.
    pub n_left_out: u64,
}

/// Writes the staged rows that Postgres takes, one by one where it must, and turns the others into rejects. Returns how
/// many were refused, and what became of the others.
///
/// # Errors
/// [`LoadError::TooManyRefused`] or [`LoadError::Database`].
pub async fn merge_refused(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    object_id: i64,
    allowed: u64,
) -> Result<(Apart, Written), LoadError> {
    if plan.mode != Mode::Upsert {
        let apart =
            refused::merge_without_refused_rows(connection, plan, &plan.insert(RANGE), object_id, allowed).await?;
        let (n_standing, n_left) = (apart.n_written, apart.n_left);
        return Ok((apart, Written { n_standing, n_left_out: n_left.saturating_sub(n_standing) }));
    }
    // Where the file does not say how new its rows are, the default that a row of ours was inserted with must not
    // look like another's that is newer: who gives way is settled before any is inserted.
    let mut n_gave_way = 0;
    let mut plan = LoadPlan { meets: Meets::Plainly, n_distinct: None, ..*plan };
    if let (true, Some(sql)) = (plan.newer_is_absent(), plan.drop_given_way()) {
        n_gave_way = connection.execute(sql.as_str()).await?.rows_affected();
        plan.newer = None;
    }
    let apart = refused::merge_without_refused_rows(connection, &plan, &plan.upsert(RANGE), object_id, allowed).await?;
    // What is left went in by ranges; once more as a whole settles rows with the same key in different ranges.
    let written = match apart.n_left {
        0 => Written::default(),
        n_left => write_staged(connection, &plan, object_id, n_left).await?,
    };
    Ok((Apart { n_left: apart.n_left + n_gave_way, ..apart }, written))
}

/// Takes away the rows that a new version, or a forced replay, replaces.
///
/// # Errors
/// Of the database.
pub async fn make_room(connection: &mut PgConnection, load: &Load<'_>) -> Result<(), LoadError> {
    match load.target.config.mode {
        Mode::Replace => remove::delete_rows_of_key(connection, load.target, load.recorded.head_id).await?,
        Mode::Append if load.candidate.anew.is_some() => {
            remove::delete_rows_of_version(connection, load.target, load.recorded.object_id).await?
        }
        Mode::Append | Mode::Upsert => 0,
    };
    Ok(())
}

/// Takes away the rows of an object that is written anew and that are not among those staged, where a table that is
/// upserted into says which they are.
async fn make_room_for_upsert(
    connection: &mut PgConnection,
    load: &Load<'_>,
    plan: &LoadPlan<'_>,
) -> Result<(), LoadError> {
    let leaves_rows = plan.mode == Mode::Upsert && plan.table.lineage_object;
    // A forced replay asks for no right to delete that the dataset has not needed before.
    let is_changed = match load.candidate.anew {
        Some(Anew::Recipe(_) | Anew::Refresh) => true,
        Some(Anew::Forced) => !load.target.config.awaits.is_empty(),
        None => false,
    };
    if is_changed && leaves_rows {
        connection.execute(plan.delete_left_out(load.recorded.head_id).as_str()).await?;
    }
    Ok(())
}

/// Writes the staged rows, of which there are `n_staged`, and returns what became of them.
///
/// # Errors
/// Of the database.
pub async fn write_staged(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    object_id: i64,
    n_staged: u64,
) -> Result<Written, LoadError> {
    if plan.mode != Mode::Upsert {
        let sql = plan.insert(ALL);
        let query = sqlx::query(&sql);
        let query = if plan.table.lineage_object { query.bind(object_id) } else { query };
        let n_standing = query.execute(connection).await?.rows_affected();
        return Ok(Written { n_standing, n_left_out: n_staged.saturating_sub(n_standing) });
    }
    let gave_way_before = if plan.newer_is_absent() { count_gave_way(connection, plan).await? } else { 0 };
    let mut n_keys = None;
    if let (Meets::Updating, Some(sql)) = (plan.meets, plan.update()) {
        let (n_found, n_updated) = merge_counts(connection, plan, &sql, object_id).await?;
        n_keys = (n_found == n_updated).then_some(n_found);
    }
    if plan.counts_left_alone() {
        connection.execute(sql::RESET_LEFT_ALONE).await?;
    }
    let (n_keys, n_written) = match n_keys {
        // All were there and changed: nothing is left to insert.
        Some(n_keys) => (n_keys, n_keys),
        None => merge_counts(connection, plan, &plan.upsert(ALL), object_id).await?,
    };
    let gave_way =
        if plan.newer_is_absent() { gave_way_before } else { count_gave_way(&mut *connection, plan).await? };
    let left_out = match plan.table.may_drop_rows {
        // What was neither written nor left as it is a trigger has left out, of new rows and of changes.
        true if plan.counts_left_alone() => {
            let n_left_alone: i64 = sqlx::query_scalar(sql::LEFT_ALONE).fetch_one(connection).await?;
            n_keys - (n_written + n_left_alone).min(n_keys)
        }
        true => {
            let n_present: i64 = sqlx::query_scalar(&plan.count_present()).fetch_one(connection).await?;
            n_keys - n_present.max(n_written).min(n_keys)
        }
        false => 0,
    };
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok(Written { n_standing: count(n_keys - gave_way - left_out), n_left_out: count(left_out) })
}

/// Returns how many distinct keys a merge found staged, and how many rows it wrote.
async fn merge_counts(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    sql: &str,
    object_id: i64,
) -> Result<(i64, i64), LoadError> {
    let query = sqlx::query_as(sql);
    let query = if plan.table.lineage_object { query.bind(object_id) } else { query };
    Ok(query.fetch_one(connection).await?)
}

async fn count_gave_way(connection: &mut PgConnection, plan: &LoadPlan<'_>) -> Result<i64, LoadError> {
    match plan.count_gave_way() {
        Some(sql) => Ok(sqlx::query_scalar(&sql).fetch_one(connection).await?),
        None => Ok(0),
    }
}
