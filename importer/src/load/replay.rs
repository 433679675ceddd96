//! The second chance of an object's rejects: what fits by now loads beside the object's other rows.

mod stage;

use super::{
    LoadError, Session, Target, awaits,
    fence::hold_unique_index,
    mapping::{filtered, staged_columns},
    merge::{merge_refused, write_staged},
    refused,
    sql::{self, LoadPlan, Origin, Place, StagedColumn},
    step::Step,
};
use crate::{
    config::{InputFormat, Mode},
    database::{Begin, End, Lasts, savepoint},
    ledger::{
        self,
        rejects::{self, Second, Waiting},
    },
    order::Identity,
};
use decode::{CONTROL_FIELDS, EXTRAS_COLUMN, Fields, KeptRows, Mapping, MappingSpec, OnNewField, PayloadForm};
use sqlx::{Executor, PgConnection};
use stage::{Way, stage};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// Rejects read at once: with payloads of 64 KiB they take 8 MiB at most.
const PAGE: i64 = 128;

/// An object's rejects to load again.
pub struct ReplayRejects<'a> {
    /// The object.
    pub waiting: &'a Waiting,
    /// The dataset and its table, as they are now.
    pub target: &'a Target,
    /// Captured path segments.
    pub captures: &'a [(String, Option<String>)],
}

/// What became of an object's rejects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// What fits is in the table.
    Done {
        /// Rows resolved, and those that still do not fit.
        second: Second,
        /// Numbers of rows that were kept only in part.
        cut: Vec<u64>,
    },
    /// Another version stands by now; nothing was written.
    NotHead,
}

/// One form's way into staging, made ready before the transaction.
struct Lane {
    form: PayloadForm,
    way: Way,
    columns: Vec<StagedColumn>,
    staging: String,
    step: Option<Step>,
}

/// Loads the rejects of one object that fit by now, and marks them resolved, in one transaction under the head's lock.
///
/// # Errors
/// [`LoadError::Schema`] when the rows and the table cannot be brought together; [`LoadError::Database`].
pub async fn replay_rejects(session: &mut Session, replay: &ReplayRejects<'_>) -> Result<Replayed, LoadError> {
    let mut lanes = Vec::new();
    for form in &replay.waiting.forms {
        lanes.push(lane(session, replay, *form).await?);
    }
    session.transaction(Begin::ConstraintsImmediate, async |tx| load_lanes(tx, replay, lanes).await).await
}

async fn load_lanes(
    tx: &mut PgConnection,
    replay: &ReplayRejects<'_>,
    lanes: Vec<Lane>,
) -> Result<End<Replayed>, LoadError> {
    // The fence: an importer of another version of this key waits, or has been here before.
    let fenced = ledger::lock_head(tx, replay.waiting.head_id, &Identity::default()).await?;
    if fenced.standing.is_none_or(|standing| standing.object_id != replay.waiting.object_id) {
        return Ok(End::RollBack(Replayed::NotHead));
    }
    hold_unique_index(tx, replay.target).await?;
    let (mut second, mut cut) = (Second::default(), Vec::new());
    // Where nothing can be staged, nothing was made ready to look for keys either.
    let looks = !lanes.is_empty();
    for mut lane in lanes {
        run(tx, replay, &mut lane, &mut second, &mut cut).await?;
    }
    if looks {
        awaits::record_more(tx, replay.target, replay.waiting).await?;
    }
    for refused in &mut second.refused {
        refused.why.message = replay.target.table.storable(&refused.why.message);
    }
    rejects::settle(tx, replay.waiting.object_id, &second).await?;
    Ok(End::Commit(Replayed::Done { second, cut }))
}

async fn lane(session: &mut Session, replay: &ReplayRejects<'_>, form: PayloadForm) -> Result<Lane, LoadError> {
    let ReplayRejects { waiting, target, captures } = *replay;
    let mut rows = KeptRows::new(form, &waiting.key, &waiting.csv_fields, &target.read);
    let unchanged = BTreeMap::new();
    let columns = target.decoder_columns();
    // A row kept by column has been through renames, captures and extras already. Columns are not added here:
    // the table has those that the object's other rows asked for.
    let by_column = form == PayloadForm::Columns;
    let ignores = by_column || target.config.on_new_field == OnNewField::AddColumn;
    let as_they_are = BTreeMap::new();
    let spec = MappingSpec {
        rename: if by_column { &unchanged } else { &target.config.rename },
        // A row by column was read before.
        types: if by_column { &as_they_are } else { &target.types },
        on_new_field: if ignores { OnNewField::Ignore } else { target.config.on_new_field },
        ..target.mapping_spec(&columns, if by_column { &[] } else { captures })
    };
    // What a program is given, rather than what it answered.
    let is_asked = !by_column && !target.config.command.is_empty() && target.config.input_format == InputFormat::Rows;
    let fields = if is_asked { &Fields::Open } else { rows.fields() };
    let mapping = Mapping::new(fields, &spec).map_err(LoadError::Schema)?.ignoring(&CONTROL_FIELDS);
    let mapping = filtered(mapping, target, by_column);
    let columns = staged_columns(target, mapping.columns(), mapping.absent_flags())?;
    let mapping = Arc::new(mapping);
    let way = if is_asked {
        Way::Asked { seen: vec![false; columns.len()], mapping }
    } else {
        rows.set_mapping(mapping);
        Way::Read(Box::new(rows))
    };
    let staging = session.staging(&sql::staging_shape(&columns, &[])).await?;
    session.record_types(&columns).await?;
    let step = Step::prepare(session, target, &columns, &staging).await?;
    Ok(Lane { form, way, columns, staging, step })
}

/// Stages the rejects of one form and writes what goes through.
async fn run(
    connection: &mut PgConnection,
    replay: &ReplayRejects<'_>,
    lane: &mut Lane,
    second: &mut Second,
    cut: &mut Vec<u64>,
) -> Result<(), LoadError> {
    let object_id = replay.waiting.object_id;
    // Two forms may have one shape, and so one table.
    for staging in lane.step.iter().map(|step| &step.staging).chain([&lane.staging]) {
        connection.execute(format!("DELETE FROM {staging}").as_str()).await?;
    }
    let mut tried = stage(connection, replay, lane, cut).await?;
    let mut made = Vec::new();
    if !row_numbers(connection, &lane.staging).await?.is_empty() {
        for (column, seen) in lane.columns.iter_mut().zip(lane.way.seen_columns()) {
            column.seen = *seen && column.target.column.name != EXTRAS_COLUMN;
        }
        let input = LoadPlan::plain(replay.target, &lane.columns, &lane.staging);
        let plan = match &mut lane.step {
            Some(step) => {
                transform_rejects(connection, replay, &input, step).await?;
                LoadPlan { made_of: Some(&input), ..LoadPlan::plain(replay.target, &step.columns, &step.staging) }
            }
            None => LoadPlan { ..input },
        };
        let (n_written, rows) = write(connection, &plan, object_id).await?;
        second.n_written += n_written;
        made = rows;
        for (row, why) in rejects::take_new(connection, object_id).await? {
            tried.refuse(row, why);
        }
    }
    let (resolved, n_filtered, refused) = tried.settled(&made);
    second.n_made += made.len() as u64;
    second.n_filtered += n_filtered;
    second.resolved.extend(resolved);
    second.refused.extend(refused);
    Ok(())
}

/// Makes of the staged rows what the target's transform says now.
async fn transform_rejects(
    connection: &mut PgConnection,
    replay: &ReplayRejects<'_>,
    input: &LoadPlan<'_>,
    step: &mut Step,
) -> Result<(), LoadError> {
    let ReplayRejects { waiting, target, .. } = replay;
    let Some(transform) = &target.transform else { return Ok(()) };
    step.look_at(transform, input.columns);
    let last_modified = "SELECT last_modified::text FROM penstock.object WHERE id = $1";
    let last_modified = sqlx::query_scalar(last_modified).bind(waiting.object_id).fetch_one(&mut *connection).await?;
    let place = Place { bucket: &waiting.bucket, key: &waiting.key, last_modified };
    let plan = LoadPlan::plain(target, &step.columns, &step.staging);
    let (origin, rejects_of) = (Origin::Object(&place), (waiting.object_id, i64::MAX as u64));
    let transform = transform.started();
    awaits::look(connection, &transform, input, &place).await?;
    transform.run(connection, input, &plan, &origin, rejects_of).await?;
    Ok(())
}

/// Writes the staged rows as the mode says; those Postgres refuses become rejects. Returns how many stand, and the
/// row numbers of those that it does not refuse.
async fn write(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    object_id: i64,
) -> Result<(u64, Vec<i64>), LoadError> {
    let before = row_numbers(connection, plan.staging).await?;
    if let (Mode::Upsert, Some(sql)) = (plan.mode, plan.drop_older_of_object()) {
        sqlx::query(&sql).bind(object_id).execute(&mut *connection).await?;
    }
    let n_staged = row_numbers(connection, plan.staging).await?.len() as u64;
    let n_written = match n_staged {
        0 => 0,
        _ => {
            let written = savepoint(connection, Lasts::Transaction, refused::is_refused, async |connection| {
                write_staged(connection, plan, object_id, n_staged).await
            });
            let written = match written.await? {
                Ok(written) => written,
                Err(_) => merge_refused(connection, plan, object_id, i64::MAX as u64).await?.1,
            };
            written.n_standing
        }
    };
    let refused: HashSet<i64> = rejects::new(connection, object_id).await?.into_iter().collect();
    Ok((n_written, before.into_iter().filter(|row| !refused.contains(row)).collect()))
}

async fn row_numbers(connection: &mut PgConnection, staging: &str) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar(&format!("SELECT penstock_row FROM {staging} ORDER BY 1")).fetch_all(connection).await
}
