//! A group whose rows go through SQL: staged in one table, made by one statement, and inserted by another.

use super::{Member, Objects};
use crate::{
    config::Mode,
    database::{Begin, End},
    ledger::Counts,
    load::{
        LoadError, Session,
        copy::Copying,
        refused::is_refusal,
        run::{Run, renumbered},
        sql::{self, LoadPlan, NUMBER_BITS, Origin, Place, StagedColumn},
        step::Step,
        technique::Way,
        transform::Transform,
    },
};
use sqlx::PgConnection;
use std::sync::Arc;

/// Loads what can be loaded together, and returns it.
///
/// # Errors
/// [`LoadError`], as [`super::load_group`].
pub async fn load<'g>(
    session: &mut Session,
    objects: Objects<'g>,
    transform: &Arc<Transform>,
    (columns, run): (Vec<StagedColumn>, Run),
    way: Way,
) -> Result<Vec<(&'g Member, Counts)>, LoadError> {
    // What an object waits for is noted under its own head.
    if way == Way::Staged || !transform.awaits.is_empty() {
        return Ok(Vec::new());
    }
    let staging = session.staging(&sql::staging_shape(&columns, &[])).await?;
    session.record_types(&columns).await?;
    let Some(mut step) = Step::prepare(session, &objects.group.target, &columns, &staging).await? else {
        return Ok(Vec::new());
    };
    step.look_at(transform, &columns);
    let recent = objects.group.recent;
    let work =
        Work { transform, columns: &columns, staging: &staging, step: &step, run: &run, looks: way == Way::Probe };
    let written = session.transaction(Begin::ConstraintsImmediate, async |tx| work.write(tx, objects).await).await?;
    if !written.is_empty() {
        recent.went_direct();
    }
    Ok(written)
}

struct Work<'a> {
    transform: &'a Transform,
    columns: &'a [StagedColumn],
    staging: &'a str,
    step: &'a Step,
    run: &'a Run,
    /// Whether keys are to be looked for in the table.
    looks: bool,
}

impl Work<'_> {
    async fn write<'g>(
        &self,
        tx: &mut PgConnection,
        mut objects: Objects<'g>,
    ) -> Result<End<Vec<(&'g Member, Counts)>>, LoadError> {
        let group = objects.group;
        let input = LoadPlan::plain(&group.target, self.columns, self.staging);
        let made = LoadPlan::plain(&group.target, &self.step.columns, &self.step.staging);
        if !self.stage(tx, &objects).await? || !self.make(tx, &input, &made, &mut objects).await? {
            return Ok(End::RollBack(Vec::new()));
        }
        if self.looks && group.target.config.mode == Mode::Upsert {
            let any_is_known: bool = sqlx::query_scalar(&made.any_key_is_known()).fetch_one(&mut *tx).await?;
            if any_is_known {
                group.recent.keys_were_known();
                return Ok(End::RollBack(Vec::new()));
            }
        }
        objects.fence(tx).await?;
        if !objects.hold_unique_index(tx).await? {
            return Ok(End::RollBack(Vec::new()));
        }
        if !insert(tx, &made, &objects).await? {
            group.recent.was_refused();
            return Ok(End::RollBack(Vec::new()));
        }
        Ok(End::Commit(objects.record(tx).await?))
    }

    /// Stages all rows, each under its object's place and its own number; false when one is refused.
    async fn stage(&self, tx: &mut PgConnection, objects: &Objects<'_>) -> sqlx::Result<bool> {
        let mut copying = Copying::start(tx, &sql::copy_into(self.staging)).await?;
        let rows = 0..self.run.n_ordered();
        let mut places = rows.clone().map(|index| objects.slice_of(self.run.place(index)));
        let write = |out: &mut Vec<u8>, tuple: &[u8]| {
            let place = places.next().unwrap_or_default() as u64;
            renumbered(tuple, |row| place << NUMBER_BITS | row, out);
        };
        copying.add(rows.map(|index| self.run.row(index)), write).await?;
        copying.all_taken(self.run.n_ordered() as u64).await
    }

    /// Makes rows of the staged ones and counts them by object; false when one is refused, or there are more than may be.
    async fn make(
        &self,
        tx: &mut PgConnection,
        input: &LoadPlan<'_>,
        made: &LoadPlan<'_>,
        objects: &mut Objects<'_>,
    ) -> Result<bool, LoadError> {
        let target = &objects.group.target;
        let storable = |text: &str| target.table.storable(text);
        let named: Vec<_> = objects
            .slices
            .iter()
            .map(|slice| {
                let object = &slice.member.object;
                let last_modified = slice.member.candidate.stamp.last_modified.map(|time| time.to_rfc3339());
                (storable(&object.bucket), storable(&object.key), last_modified)
            })
            .collect();
        let places: Vec<Place<'_>> = named
            .iter()
            .map(|(bucket, key, last_modified)| Place { bucket, key, last_modified: last_modified.clone() })
            .collect();
        if self.transform.attempt(tx, input, made, &Origin::Objects(&places)).await?.is_err() {
            return Ok(false);
        }
        let counts = format!(
            "SELECT penstock_row >> {NUMBER_BITS}, count(*), count(DISTINCT penstock_row) FROM {} GROUP BY 1",
            made.staging
        );
        let counts: Vec<(i64, i64, i64)> = sqlx::query_as(&counts).fetch_all(tx).await?;
        for slice in &mut objects.slices {
            slice.counts.written = 0;
            slice.counts.filtered = slice.counts.read;
        }
        for (place, n_made, n_with_any) in counts {
            if n_made > n_with_any && !target.config.fan_out {
                return Ok(false);
            }
            let count = |n: i64| u64::try_from(n).unwrap_or(0);
            let slice = usize::try_from(place).ok().and_then(|place| objects.slices.get_mut(place));
            let Some(Counts { read, added, written, filtered, .. }) = slice.map(|slice| &mut slice.counts) else {
                return Ok(false);
            };
            (*written, *added) = (count(n_made), count(n_made - n_with_any));
            *filtered = read.saturating_sub(count(n_with_any));
        }
        Ok(true)
    }
}

/// Inserts the rows of the objects that are let through; false when Postgres refuses one, or a trigger left rows out.
async fn insert(tx: &mut PgConnection, made: &LoadPlan<'_>, objects: &Objects<'_>) -> sqlx::Result<bool> {
    let ids: Vec<i64> = objects.slices.iter().map(|slice| slice.member.recorded.object_id).collect();
    let writes = objects.slices.iter().enumerate().filter(|(_, slice)| slice.writes);
    let places: Vec<i64> = writes.filter_map(|(place, _)| i64::try_from(place).ok()).collect();
    let inserted = sqlx::query(&made.insert_of_objects()).bind(ids).bind(places).execute(tx).await;
    match inserted {
        Ok(done) => Ok(done.rows_affected() == objects.n_written()),
        Err(error) if is_refusal(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
