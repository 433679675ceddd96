//! What is said of a server's error where a row's value must not be.

use sqlx::postgres::PgDatabaseError;

/// What of a server's error is looked at, for a text that may leave the database.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said<'a> {
    code: &'a str,
    message: &'a str,
    /// It points into the statement, which holds names and no values of rows.
    has_position: bool,
    /// It came out of a function, a trigger's above all, or out of a COPY.
    has_context: bool,
    /// A procedural language raised it (pl_exec.c and the like): then its names are whatever a function says.
    is_raised: bool,
    constraint: Option<&'a str>,
    table: Option<&'a str>,
    column: Option<&'a str>,
    data_type: Option<&'a str>,
}

impl<'a> Said<'a> {
    /// Looks at an error.
    #[must_use]
    pub fn of(error: &'a PgDatabaseError) -> Self {
        Self {
            code: error.code(),
            message: error.message(),
            has_position: error.position().is_some(),
            has_context: error.r#where().is_some(),
            is_raised: error.file().is_none_or(|file| file.starts_with("pl")),
            constraint: error.constraint(),
            table: error.table(),
            column: error.column(),
            data_type: error.data_type(),
        }
    }
}

/// Returns the text of a server's error that goes into logs, ledger and dead letters: never a row's value.
///
/// The server's own words are taken only where they can hold none: of the server's state, and of statements, as long as
/// they did not come out of a function, which may say anything. All else is the condition's name, and the names of what
/// was hurt. DETAIL, HINT and CONTEXT are never taken.
#[must_use]
pub fn without_values(said: &Said<'_>) -> String {
    let of_the_server =
        matches!(said.code.get(..2), Some("08" | "25" | "28" | "3D" | "40" | "53" | "55" | "57" | "58"));
    let of_the_statement = said.has_position && matches!(said.code.get(..2), Some("42" | "3F"));
    let of_rights_or_index = matches!(said.code, "42501" | "42P10");
    // «unsafe use of new value» quotes the value.
    let of_the_server = of_the_server && said.code != "55P04";
    let is_safe = (of_the_server || of_the_statement || of_rights_or_index) && !said.has_context;
    let mut text = if is_safe { said.message.to_owned() } else { condition(said.code).to_owned() };
    let named =
        [("constraint", said.constraint), ("table", said.table), ("column", said.column), ("type", said.data_type)];
    let named: Vec<String> = named.iter().filter_map(|(kind, name)| Some(format!("{kind} {}", (*name)?))).collect();
    // Constraints that are broken have a table.
    if !named.is_empty() && !said.is_raised && (said.constraint.is_none() || said.table.is_some()) {
        text = format!("{text} ({})", named.join(", "));
    }
    if said.has_context {
        text.push_str(not_found_in_function(said.code).unwrap_or_default());
    }
    text
}

/// Returns what to add to an error of this code that came out of a function, where that does not find a name.
#[must_use]
pub fn not_found_in_function(code: &str) -> Option<&'static str> {
    matches!(code, "42P01" | "42883" | "42704").then_some(
        " in a function: what it names without a schema is not found while search_path is pg_catalog, unless \
         ALTER FUNCTION … SET search_path",
    )
}

/// Returns the name of a SQLSTATE's condition, or of its class
/// ([PostgreSQL, Appendix A](https://www.postgresql.org/docs/current/errcodes-appendix.html)).
#[must_use]
pub fn condition(code: &str) -> &'static str {
    match code {
        "21000" => "cardinality violation",
        "22001" => "string data right truncation",
        "22003" => "numeric value out of range",
        "22007" => "invalid datetime format",
        "22008" => "datetime field overflow",
        "22012" => "division by zero",
        "22021" => "character not in repertoire",
        "22023" => "invalid parameter value",
        "22026" => "string data length mismatch",
        "22P02" => "invalid text representation",
        "22P03" => "invalid binary representation",
        "22P05" => "untranslatable character",
        "23502" => "not null violation",
        "23503" => "foreign key violation",
        "23505" => "unique violation",
        "23514" => "check violation",
        "23P01" => "exclusion violation",
        "42501" => "insufficient privilege",
        "42601" => "syntax error",
        "42622" => "name too long",
        "42703" => "undefined column",
        "42704" => "undefined object",
        "42804" => "datatype mismatch",
        "42883" => "undefined function",
        "42P01" => "undefined table",
        "42P10" => "invalid column reference",
        "54000" => "program limit exceeded",
        "54001" => "statement too complex",
        "P0001" => "raise exception",
        "P0002" => "no data found",
        "P0003" => "too many rows",
        "P0004" => "assert failure",
        "XX000" => "internal error",
        "XX001" => "data corrupted",
        "XX002" => "index corrupted",
        _ => match code.get(..2) {
            Some("08") => "connection exception",
            Some("0A") => "feature not supported",
            Some("22") => "data exception",
            Some("23") => "integrity constraint violation",
            Some("25") => "invalid transaction state",
            Some("28") => "invalid authorization",
            Some("38") => "external routine exception",
            Some("39") => "external routine invocation exception",
            Some("3F") => "invalid schema name",
            Some("40") => "transaction rollback",
            Some("42") => "syntax error or access rule violation",
            Some("44") => "with check option violation",
            Some("53") => "insufficient resources",
            Some("54") => "program limit exceeded",
            Some("55") => "object not in prerequisite state",
            Some("57") => "operator intervention",
            Some("58") => "system error",
            Some("P0") => "PL/pgSQL error",
            Some("XX") => "internal error",
            _ => "error of the database",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_rows_is_not_repeated_and_what_it_says_of_statements_is() {
        let secret = "the word SECRET";
        let said = |code| Said { code, message: secret, ..Said::default() };
        for code in
            ["22P02", "22007", "22001", "23514", "42601", "42P01", "P0001", "38000", "XX000", "54000", "X0001", "44000"]
        {
            assert!(!without_values(&said(code)).contains("SECRET"), "{code}");
        }
        for code in ["40001", "55000", "57014", "42703"] {
            let raised = Said { has_context: true, has_position: true, ..said(code) };
            assert!(!without_values(&raised).contains("SECRET"), "{code} out of a function");
        }
        assert!(!without_values(&said("55P04")).contains("SECRET"));
        assert_eq!(without_values(&said("53100")), secret);
        assert_eq!(without_values(&Said { has_position: true, ..said("42703") }), secret);
        assert_eq!(without_values(&said("42501")), secret);
    }

    #[test]
    fn names_that_a_function_does_not_find_come_with_what_to_do() {
        let missing = Said { code: "42P01", has_context: true, ..Said::default() };
        assert!(without_values(&missing).contains("ALTER FUNCTION … SET search_path"));
        assert!(!without_values(&Said { has_context: false, ..missing }).contains("ALTER"));
    }

    #[test]
    fn constraints_are_named_where_they_are_constraints() {
        let broken = Said { code: "23514", constraint: Some("small"), table: Some("t"), ..Said::default() };
        assert_eq!(without_values(&broken), "check violation (constraint small, table t)");
        assert_eq!(without_values(&Said { table: None, ..broken }), "check violation");
        assert_eq!(without_values(&Said { is_raised: true, ..broken }), "check violation");
    }
}
