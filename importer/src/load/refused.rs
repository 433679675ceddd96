//! Rows only the server can refuse: CHECK, NOT NULL, foreign key, another unique index, exclusion,
//! domain, enum, trigger, a partition that is not there.
//!
//! The merge runs behind a savepoint. When Postgres refuses it for a row's sake, the staged rows are
//! merged again in halves, down to the single rows that are in the way; those go to the rejects, the
//! others load, all in the object's one transaction. The halving runs inside the server, so it takes
//! one round trip however many rows are bad.

use super::{
    LoadError,
    sql::{LoadPlan, literal},
};
use sqlx::{
    Executor, PgConnection,
    postgres::{PgDatabaseError, PgSeverity},
};

/// SQLSTATE the halving raises when it has found more bad rows than the dataset allows.
const TOO_MANY: &str = "PN001";

/// Codes, or their beginnings, of errors that are never a row's, even out of a function: serialization failure, deadlock,
/// lock timeout, a cancelled statement.
const NEVER: &[&str] = &["40001", "40P01", "55P03", "57014"];

/// Disk full, out of memory, I/O error, damaged data or index: also under a function, unless that raises the code itself.
const RESOURCES: &[&str] = &["53100", "53200", "58", "XX001", "XX002"];

/// Of the server's state, of rights, and of a missing index, where they do not come out of a function.
const OF_SERVER: &[&str] =
    &["08", "25", "28", "3D", "40", "53", "55006", "55P0", "57", "58", "72", "F0", "XX001", "XX002", "42501", "42P10"];

/// A table, function, column, schema or right that a function lacks which a transform calls, unless it says so itself.
const LACKS: &[&str] = &["42P01", "42883", "42703", "3F000", "42501"];

/// Returns whether Postgres may have refused a statement for the sake of some row: whatever comes out of a function, and
/// what is neither of the server's state nor has a place in the statement
/// ([PostgreSQL, Appendix A](https://www.postgresql.org/docs/current/errcodes-appendix.html)).
///
/// The halving finds out: where a statement fails without any row, too, it is not for a row's sake.
#[must_use]
pub fn is_refusal(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    let Some(error) = error.try_downcast_ref::<PgDatabaseError>() else { return false };
    refuses(error, is_of_function(error))
}

/// As [`is_refusal`], of the statement by which a function of ours inserts into `staging`. What a function that is called
/// there lacks is not the row's fault.
#[must_use]
pub fn may_be_of_a_row(error: &sqlx::Error, staging: &str) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    let Some(error) = error.try_downcast_ref::<PgDatabaseError>() else { return false };
    // The innermost context first, in any language: the statement, or what it called.
    let head = format!("\"INSERT INTO {staging} ");
    let innermost = |context: &str| context.lines().next().is_some_and(|line| line.contains(&head));
    let is_of_function = !error.r#where().is_none_or(innermost);
    let lacks = is_of_function && begins(error.code(), LACKS) && error.routine() != Some("exec_stmt_raise");
    !lacks && refuses(error, is_of_function)
}

fn refuses(error: &PgDatabaseError, of_function: bool) -> bool {
    let code = error.code();
    match of_function {
        true => !begins(code, NEVER) && (is_raised(error) || !begins(code, RESOURCES)),
        false => blames_a_row(code) || may_be_input(code) && error.position().is_none(),
    }
}

/// Returns whether an error came out of a function or of what it called, and left the session alive: then it says
/// nothing of the server.
#[must_use]
pub fn is_of_function(error: &PgDatabaseError) -> bool {
    // COPY names its line in any case, in any language.
    let has_context = error.r#where().is_some_and(|context| !context.starts_with("COPY "));
    matches!(error.severity(), PgSeverity::Error) && (has_context || is_raised(error))
}

/// Returns whether a procedural language raised an error itself (pl_exec.c and the like), so its code is what a function
/// says.
fn is_raised(error: &PgDatabaseError) -> bool {
    error.file().is_some_and(|file| file.starts_with("pl_") || file.starts_with("plp"))
}

fn begins(code: &str, with: &[&str]) -> bool {
    with.iter().any(|beginning| code.starts_with(beginning))
}

/// Returns whether a load failed because Postgres may have refused a statement for the sake of some row.
#[must_use]
pub fn is_refused(error: &LoadError) -> bool {
    matches!(error, LoadError::Database(error) if is_refusal(error))
}

/// Codes of statements that are wrong, which the input of some types raises as well (tsquery, ltree, regclass): where the
/// error has no place in the statement.
fn may_be_input(code: &str) -> bool {
    begins(code, &["42", "3F", "0A"]) && !begins(code, OF_SERVER)
}

/// Returns whether a code that does not come out of a function speaks of a row.
fn blames_a_row(code: &str) -> bool {
    !code.is_empty() && !begins(code, OF_SERVER) && !may_be_input(code)
}

/// Returns the codes of the server's state, or their beginnings, with | between.
#[must_use]
pub fn of_server() -> String {
    OF_SERVER.join("|")
}

/// Returns the codes of what a function lacks, with | between.
#[must_use]
pub fn lacks() -> String {
    LACKS.join("|")
}

/// Returns the SQL of the word by which an error is called in a reject, in one line.
///
/// A missing partition names the table; a trigger that raises its code names nothing.
#[must_use]
pub fn class() -> String {
    include_str!("refused_class.sql").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What [`merge_without_refused_rows`] did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Apart {
    /// Rows that stay in staging.
    pub n_left: u64,
    /// Rows that were written of them.
    pub n_written: u64,
    /// Rows of the object that became rejects.
    pub n_refused: u64,
}

/// Merges what can be merged and turns the rest, at most `allowed` rows, into rejects of the object.
///
/// # Errors
/// [`LoadError::TooManyRefused`], or of the database; the transaction is void then.
pub async fn merge_without_refused_rows(
    connection: &mut PgConnection,
    plan: &LoadPlan<'_>,
    statement: &str,
    object_id: i64,
    allowed: u64,
) -> Result<Apart, LoadError> {
    let staging = plan.staging;
    let (kept, row) = match plan.made_of {
        Some(input) => (input.staging, input.kept_row()),
        None => (staging, plan.kept_row()),
    };
    let index = format!("CREATE INDEX penstock_staged_row ON {staging} (penstock_row)");
    connection.execute(index.as_str()).await?;
    search(connection, |never| {
        let body = include_str!("refused.plpgsql.sql")
            .replace("{never}", never)
            .replace("{class}", &class())
            .replace("{of_server}", &of_server())
            .replace("{row}", &row)
            .replace("{kept}", kept)
            .replace("{staging}", staging)
            .replace("{statement}", &literal(statement))
            .replace("{object_id}", &object_id.to_string())
            .replace("{allowed}", &allowed.to_string());
        format!("DO LANGUAGE plpgsql {}", literal(&body))
    })
    .await?;
    connection.execute("DROP INDEX pg_temp.penstock_staged_row").await?;
    let counts = format!(
        "SELECT count(*), current_setting('penstock.n_written')::bigint, current_setting('penstock.n_found')::bigint \
         FROM {staging}"
    );
    let (n_left, n_written, n_refused): (i64, i64, i64) = sqlx::query_as(&counts).fetch_one(connection).await?;
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok(Apart { n_left: count(n_left), n_written: count(n_written), n_refused: count(n_refused) })
}

/// Searches for refused rows by SQL that is composed for the codes, or their beginnings, with | between, that are never a
/// row's.
///
/// # Errors
/// [`LoadError::TooManyRefused`], or of the database; the transaction is void then.
pub async fn search(connection: &mut PgConnection, compose: impl Fn(&str) -> String) -> Result<(), LoadError> {
    // But for those of resources that turn out to be a function's.
    let mut never: Vec<_> = NEVER.iter().chain(RESOURCES).copied().collect();
    loop {
        // Both in one round trip.
        let searching = format!("SAVEPOINT penstock_search; {}", compose(&never.join("|")));
        let Err(error) = connection.execute(searching.as_str()).await else { return Ok(()) };
        match raised_resource(&error).filter(|code| never.contains(code)) {
            Some(code) => never.retain(|other| *other != code),
            None => return Err(too_many(error)),
        }
        connection.execute("ROLLBACK TO SAVEPOINT penstock_search").await?;
    }
}

/// Returns which of [`RESOURCES`] a function raised.
fn raised_resource(error: &sqlx::Error) -> Option<&'static str> {
    let error = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    RESOURCES.iter().copied().find(|code| is_raised(error) && error.code().starts_with(code))
}

/// Returns why a search for refused rows failed.
fn too_many(error: sqlx::Error) -> LoadError {
    let said = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    match said.filter(|error| error.code() == TOO_MANY) {
        Some(error) => {
            // The halving says the code only where it came out of a function.
            let code = error.detail().filter(|code| begins(code, &["42", "3F", "0A"]));
            LoadError::TooManyRefused { text: error.message().to_owned(), of_function: code.map(str::to_owned) }
        }
        None => LoadError::Database(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_rows_are_told_from_codes_of_everything_else() {
        for code in [
            "22003", "23505", "23P01", "44000", "45000", "P0001", "X0001", "U1234", "99999", "54000", "38000", "38003",
            "39004", "55000", "HV00N", "02000", "P0002", "P0004", "21000", "22P05", "XX000",
        ] {
            assert!(blames_a_row(code), "{code}");
        }
        for code in ["", "40P01", "42703", "53100", "55P03", "57014", "58030", "72000", "XX001", "XX002", "F0001"] {
            assert!(!blames_a_row(code), "{code}");
        }
    }

    #[test]
    fn literals_close_where_they_should() {
        assert_eq!(literal("a'b\\"), "'a''b\\'");
    }
}
