//! What Postgres makes of a transform's SQL, before there is any row: whether it takes it, and what it would call.

use super::{
    catalog::{Misfit, Table, TableError},
    copied::Copied,
    runs_as::RunsAs,
    sql::Piece,
    transform::Transform,
};
use crate::database::{Begin, End, Lasts, savepoint, transaction};
use sqlx::{Executor, PgConnection};

/// SQLSTATE of a missing right.
pub const RIGHTS: &str = "42501";

/// Looks at each piece of a transform's SQL, and returns what COPY may judge. Must be called outside a transaction; nothing
/// is left behind.
///
/// # Errors
/// [`TableError::Unusable`] with the piece and what is wrong with it, or of the database.
pub async fn inspect(
    connection: &mut PgConnection,
    transform: &Transform,
    table: &Table,
    keep: &[String],
) -> Result<Option<Copied>, TableError> {
    let whole = ("SQL".to_owned(), transform.select(table));
    transaction(connection, Begin::Plainly, async |connection| {
        connection.execute(format!("SET LOCAL search_path = {}", transform.names).as_str()).await?;
        let pieces = transform.pieces(table);
        for piece in &pieces {
            let is_kept = piece.column.as_ref().is_some_and(|column| keep.contains(column));
            look(connection, piece, is_kept).await?;
        }
        let own = RunsAs::new(None);
        for piece in pieces.iter().filter(|piece| piece.is_asked_anew && transform.runs_as != own) {
            let name = format!("{}, which {} looks for, too", piece.name, own.described());
            plan(connection, (&own, &transform.names), (&name, &piece.select)).await?;
        }
        transform.runs_as.check(connection).await?;
        for (name, select) in pieces.into_iter().map(|piece| (piece.name, piece.select)).chain([whole]) {
            plan(connection, (&transform.runs_as, &transform.names), (&name, &select)).await?;
        }
        Ok(End::RollBack(Copied::find(connection, transform, table).await?))
    })
    .await
}

async fn look(connection: &mut PgConnection, piece: &Piece, is_kept: bool) -> Result<(), TableError> {
    // Prepared, which no second statement can be.
    let prepared = async {
        if let Some(assigns) = &piece.assigns {
            (&mut *connection).prepare(assigns).await?;
        }
        let create = format!("CREATE TEMP VIEW penstock_inspected AS {}", piece.select);
        sqlx::query(&create).persistent(false).execute(&mut *connection).await
    };
    prepared.await.map_err(|error| refused(&piece.name, error))?;
    let (aggregates, sets, locks, unsteady): (bool, bool, bool, Vec<String>) =
        sqlx::query_as(include_str!("inspect.sql"))
            .bind("pg_temp.penstock_inspected")
            .fetch_one(&mut *connection)
            .await?;
    let problem = if aggregates {
        "has an aggregate or a window function, which is of many rows; only a subquery may have one".to_owned()
    } else if sets {
        "returns a set; one value is expected, or CROSS JOIN LATERAL in join with fan_out = true".to_owned()
    } else if locks {
        "locks rows (FOR UPDATE or FOR SHARE), which is a write".to_owned()
    } else if !unsteady.is_empty() && !is_kept {
        let only =
            if piece.column.is_some() { "set it for a column under keep only" } else { "only set may, under keep" };
        format!(
            "calls {}, which need not give the same value again when an object is loaded again; {only}, or declare a \
             function that does IMMUTABLE or STABLE",
            unsteady.join(", ")
        )
    } else {
        connection.execute("DROP VIEW pg_temp.penstock_inspected").await?;
        return Ok(());
    };
    Err(TableError::unusable(Misfit::Transform, format!("{}: {problem}", piece.name)))
}

/// Has a piece planned as it will run, and so started: that is when rights are asked for, and when functions may be
/// called. What planning itself stumbles over, rows will show.
async fn plan(
    connection: &mut PgConnection,
    (runs_as, names): (&RunsAs, &str),
    (name, select): (&str, &str),
) -> Result<(), TableError> {
    let explain = format!("EXPLAIN {select}");
    let is_for_rows = |error: &sqlx::Error| code(error) != RIGHTS && is_about_the_text(error);
    let planned = savepoint(connection, Lasts::Work, is_for_rows, async |connection| match runs_as.role() {
        Some(_) => {
            let run = format!("SELECT {}($1, $2)", runs_as.function("penstock_transform"));
            sqlx::query(&run).persistent(false).bind(&explain).bind(names).execute(connection).await
        }
        None => sqlx::query(&explain).persistent(false).execute(connection).await,
    });
    match planned.await {
        Err(error) if code(&error) == RIGHTS => {
            let said = error.as_database_error().map_or_else(String::new, |error| error.message().to_owned());
            let mended = "GRANT it SELECT of what is read, EXECUTE of functions, or USAGE of their schema";
            let problem = format!("{name}: {said} to {}: {mended}", runs_as.described());
            Err(TableError::unusable(Misfit::Transform, problem))
        }
        Err(error) => Err(refused(name, error)),
        Ok(_) => Ok(()),
    }
}

/// Tells what is wrong with a piece from what is wrong with the database.
pub fn refused(name: &str, error: sqlx::Error) -> TableError {
    match error.as_database_error() {
        Some(said) if is_about_the_text(&error) => {
            TableError::unusable(Misfit::Transform, format!("{name}: {}", said.message()))
        }
        _ => error.into(),
    }
}

fn code(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned()
}

fn is_about_the_text(error: &sqlx::Error) -> bool {
    matches!(code(error).get(..2), Some("0A" | "21" | "22" | "23" | "26" | "2B" | "3F" | "42" | "54" | "P0"))
}
