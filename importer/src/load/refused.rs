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
use sqlx::{Executor, PgConnection, postgres::PgDatabaseError};

/// SQLSTATE the halving raises when it has found more bad rows than the dataset allows.
const TOO_MANY: &str = "PN001";

/// Returns whether Postgres may have refused a statement for the sake of some row: data exception, integrity
/// constraint, WITH CHECK OPTION, a limit, an error inside a function, what a type's input cannot read, or a trigger's RAISE,
/// also one with a code of its own
/// ([PostgreSQL, Appendix A](https://www.postgresql.org/docs/current/errcodes-appendix.html)).
///
/// The halving finds out: where a statement fails without any row, too, it is not for a row's sake.
#[must_use]
pub fn is_refusal(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    let Some(error) = error.try_downcast_ref::<PgDatabaseError>() else { return false };
    blames_a_row(error.code()) || may_be_input(error.code()) && error.position().is_none() && error.r#where().is_none()
}

/// Returns whether a transform may have been refused for the sake of some row: as [`is_refusal`], but what is wrong with
/// its text, or with rights, is never a row's.
#[must_use]
pub fn is_of_a_row(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| blames_a_row(&code))
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

/// Returns why a search for refused rows failed.
#[must_use]
pub fn too_many(error: sqlx::Error) -> LoadError {
    let database = error.as_database_error();
    match database.filter(|error| error.code().is_some_and(|code| code == TOO_MANY)) {
        Some(error) => LoadError::TooManyRefused(error.message().to_owned()),
        None => LoadError::Database(error),
    }
}

/// Returns whether a load failed because Postgres may have refused a statement for the sake of some row.
#[must_use]
pub fn is_refused(error: &LoadError) -> bool {
    matches!(error, LoadError::Database(error) if is_refusal(error))
}

/// Codes of statements that are wrong, which the input of some types raises as well (tsquery, ltree, regclass): where the
/// error has neither a place in the statement nor came out of a function.
fn may_be_input(code: &str) -> bool {
    matches!(code.get(..2), Some("42" | "3F" | "0A")) && !matches!(code, "42501" | "42P10")
}

/// Classes that begin with 5 to 9 or I to Z are nobody's in the SQL standard; those Postgres uses are not the row's fault.
fn blames_a_row(code: &str) -> bool {
    match code.get(..2) {
        Some("09" | "20" | "21" | "22" | "23" | "27" | "2F" | "38" | "39" | "44" | "45" | "54" | "P0") => true,
        // Damage is what XX001 and XX002 say; types say «internal error» of values they do not understand.
        Some("XX") => code == "XX000",
        Some("53" | "55" | "57" | "58" | "72") | None => false,
        Some(class) => class.starts_with(|first: char| matches!(first, '5'..='9' | 'I'..='Z')),
    }
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
    let body = include_str!("refused.plpgsql.sql")
        .replace("{class}", &class())
        .replace("{row}", &row)
        .replace("{kept}", kept)
        .replace("{staging}", staging)
        .replace("{statement}", &literal(statement))
        .replace("{object_id}", &object_id.to_string())
        .replace("{allowed}", &allowed.to_string());
    let halving = format!("DO LANGUAGE plpgsql {}", literal(&body));
    connection.execute(halving.as_str()).await.map_err(too_many)?;
    connection.execute("DROP INDEX pg_temp.penstock_staged_row").await?;
    let counts = format!(
        "SELECT count(*), current_setting('penstock.n_written')::bigint, current_setting('penstock.n_found')::bigint \
         FROM {staging}"
    );
    let (n_left, n_written, n_refused): (i64, i64, i64) = sqlx::query_as(&counts).fetch_one(connection).await?;
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok(Apart { n_left: count(n_left), n_written: count(n_written), n_refused: count(n_refused) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_rows_are_told_from_codes_of_everything_else() {
        for code in [
            "22003", "23505", "23P01", "44000", "45000", "P0001", "X0001", "U1234", "99999", "54000", "38000", "38003",
            "39004", "P0002", "P0004", "21000", "22P05", "XX000",
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
