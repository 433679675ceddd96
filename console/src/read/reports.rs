//! A report's result: what one query returns, as a login of its own, in a transaction that only reads and is rolled back.

use super::{Failure, Reader, Terms};
use crate::{
    config::Database,
    report::{Column, Kind, Report, Table, Value},
};
use futures_util::TryStreamExt as _;
use sqlx::{
    Arguments as _, Column as _, Either, Encode, Executor as _, PgConnection, Postgres, Row as _, Statement as _, Type,
    TypeInfo as _, ValueRef as _,
    postgres::{PgArguments, PgDatabaseError, PgErrorPosition, PgRow, PgTypeInfo},
};
use std::time::Duration;

/// Rows that are kept and exported at most.
pub const MOST_ROWS: usize = 2000;

/// What a result takes in memory at most, beside its last row: so many results are kept.
const MOST_BYTES: usize = 1_000_000;

/// One connection at a time, so that reports wait for each other and for nothing else, and a new one for each, so that
/// none leaves anything to the next. Names mean what they mean to the login.
const REPORTS: Terms = Terms {
    name: "penstock reports",
    connections: 1,
    is_kept: false,
    statement: Duration::from_secs(5),
    patience: Duration::from_secs(8),
    settings: "RESET search_path; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET bytea_output = 'hex'; \
        SET cursor_tuple_fraction = 1",
};

/// What stands before a report's SQL: nothing but a query can follow it.
const DECLARE: &str = "DECLARE penstock_report NO SCROLL CURSOR FOR\n";

/// Names the database of reports; nothing is connected yet.
#[must_use]
pub fn reader(database: Database) -> Reader {
    Reader::on(&REPORTS, database, true)
}

/// Returns what a report returns.
///
/// # Errors
/// As [`Reader::read`], and [`Failure::Report`] with file and line.
pub async fn run(reader: &Reader, report: &Report, values: &[Value]) -> Result<Table, Failure> {
    ask(reader, report, values, MOST_ROWS).await
}

/// Returns what columns a report has, without running it.
///
/// # Errors
/// As [`run`].
pub async fn prepare(reader: &Reader, report: &Report, values: &[Value]) -> Result<Vec<Column>, Failure> {
    ask(reader, report, values, 0).await.map(|table| table.columns)
}

async fn ask(reader: &Reader, report: &Report, values: &[Value], most: usize) -> Result<Table, Failure> {
    let query = async |connection: &mut PgConnection| {
        connection.execute("BEGIN READ ONLY").await?;
        let table = match table(connection, report, values, most).await {
            Err(Trouble::Report(why)) => Err(why),
            Err(Trouble::Connection(error)) => return Err(error),
            Ok(table) => Ok(table),
        };
        connection.execute("ROLLBACK").await?;
        Ok(table)
    };
    match reader.read(query).await {
        Ok(table) => table.map_err(Failure::Report),
        Err(Failure::Slow) => {
            let secs = REPORTS.patience.as_secs();
            let why = "Postgres is slow, or other reports are before this one";
            Err(Failure::Report(format!("{}: no answer within {secs} s: {why}", report.file)))
        }
        Err(failure) => Err(failure),
    }
}

/// Why there is no result.
enum Trouble {
    /// The report is to blame, or what it was asked.
    Report(String),
    /// There is no connection any more.
    Connection(sqlx::Error),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self::Connection(error)
    }
}

async fn table(
    connection: &mut PgConnection,
    report: &Report,
    values: &[Value],
    most: usize,
) -> Result<Table, Trouble> {
    let refused = |error, before| of(report, error, before);
    let no_query =
        || Trouble::Report(format!("{}:{}: a report is one query: SELECT, VALUES or WITH", report.file, report.begins));
    let (types, arguments) = bound(values).map_err(sqlx::Error::Encode)?;
    // Alone first: the cursor tells neither its columns nor where in the text it goes wrong.
    let statement = (&mut *connection).prepare_with(&report.sql, &types).await.map_err(|error| refused(error, 0))?;
    if let Some(Either::Left(wanted)) = statement.parameters()
        && wanted.len() > values.len()
    {
        let (file, line, n, last) = (&report.file, report.begins, values.len(), wanted.len());
        return Err(Trouble::Report(format!("{file}:{line}: the SQL has ${last}, and the header {n} parameters")));
    }
    let column = |column: &sqlx::postgres::PgColumn| Column {
        name: column.name().to_owned(),
        kind: Kind::of(column.type_info().name()),
    };
    let columns: Vec<Column> = statement.columns().iter().map(column).collect();
    drop(statement);
    if columns.is_empty() {
        return Err(no_query());
    }
    let declare = format!("{DECLARE}{}", report.sql);
    let declared = sqlx::query_with(&declare, arguments).persistent(false).execute(&mut *connection).await;
    declared.map_err(|error| {
        let code = error.as_database_error().and_then(|said| said.code());
        if code.is_some_and(|code| code == "42601") { no_query() } else { refused(error, DECLARE.len()) }
    })?;
    let (mut rows, mut bytes, mut is_cut) = (Vec::new(), 0, false);
    if most > 0 {
        // Asked in the simple way, Postgres answers in texts, whatever the types are.
        let fetch = format!("FETCH {} FROM penstock_report", most + 1);
        let mut fetched = sqlx::raw_sql(&fetch).fetch(&mut *connection);
        while let Some(row) = fetched.try_next().await.map_err(|error| refused(error, usize::MAX))? {
            is_cut |= rows.len() == most || bytes > MOST_BYTES;
            if !is_cut {
                let row = texts(&row, &columns)?;
                bytes +=
                    row.iter().map(|value| size_of_val(value) + value.as_ref().map_or(0, String::len)).sum::<usize>();
                rows.push(row);
            }
        }
    }
    Ok(Table { columns, rows, is_cut })
}

fn bound(values: &[Value]) -> Result<(Vec<PgTypeInfo>, PgArguments), sqlx::error::BoxDynError> {
    let (mut types, mut arguments) = (Vec::new(), PgArguments::default());
    let (into, all) = (&mut types, &mut arguments);
    for value in values {
        match value {
            Value::Integer(n) => add(into, all, *n),
            Value::Bigint(n) => add(into, all, *n),
            Value::Number(n) => add(into, all, *n),
            Value::Text(text) => add(into, all, text.clone()),
            Value::Boolean(is) => add(into, all, *is),
            Value::Date(date) => add(into, all, *date),
            Value::Time(at) => add(into, all, *at),
        }?;
    }
    Ok((types, arguments))
}

fn add<'v, T: Encode<'v, Postgres> + Type<Postgres> + 'v>(
    types: &mut Vec<PgTypeInfo>,
    arguments: &mut PgArguments,
    value: T,
) -> Result<(), sqlx::error::BoxDynError> {
    types.push(T::type_info());
    arguments.add(value)
}

fn texts(row: &PgRow, columns: &[Column]) -> sqlx::Result<Vec<Option<String>>> {
    let text = |(place, column): (usize, &Column)| {
        let value = row.try_get_raw(place)?;
        if value.is_null() {
            return Ok(None);
        }
        let text = value.as_str().map_err(sqlx::Error::Decode)?;
        Ok(Some(match (column.kind, text) {
            (Kind::Boolean, "t") => "true".to_owned(),
            (Kind::Boolean, _) => "false".to_owned(),
            _ => text.to_owned(),
        }))
    };
    columns.iter().enumerate().map(text).collect()
}

/// Says of an error where in the report it is; `before` characters stand before the report's own.
fn of(report: &Report, error: sqlx::Error, before: usize) -> Trouble {
    let said = error.as_database_error().and_then(|said| said.try_downcast_ref::<PgDatabaseError>());
    let Some(said) = said.filter(|said| !said.code().starts_with("08") && !said.code().starts_with("57P")) else {
        return Trouble::Connection(error);
    };
    let line = match said.position() {
        Some(PgErrorPosition::Original(place)) if place > before => {
            1 + report.sql.chars().take(place - before - 1).filter(|c| *c == '\n').count()
        }
        _ => report.begins,
    };
    let why = match said.code() {
        "57014" => format!("took longer than {} s and was stopped", REPORTS.statement.as_secs()),
        "42601" if said.message().contains("multiple commands") => {
            "a report is one query, and this has several".to_owned()
        }
        _ => said.hint().map_or_else(|| said.message().to_owned(), |hint| format!("{} ({hint})", said.message())),
    };
    Trouble::Report(format!("{}:{line}: {why}", report.file))
}

/// Whose rights reports have.
#[derive(Debug, Clone)]
pub struct Login {
    /// Its name.
    pub name: String,
    /// Whether no right is missing to it.
    pub is_superuser: bool,
    /// A table that it may write to.
    pub writable: Option<String>,
}
service::from_row!(Login { name, is_superuser, writable });

/// Returns whose rights reports have.
///
/// # Errors
/// As [`Reader::read`].
pub async fn login(reader: &Reader) -> Result<Login, Failure> {
    let query =
        async |connection: &mut _| sqlx::query_as(include_str!("reports/login.sql")).fetch_one(connection).await;
    reader.read(query).await
}
