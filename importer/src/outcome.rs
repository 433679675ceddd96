//! What becomes of an object, and which failure leads there. Pure: one table, tested whole.

use crate::{
    decode::DecodeError,
    ledger::Counts,
    load::{LoadError, RemoveError, catalog::TableError},
    object::StoreError,
};
use sqlx::postgres::PgDatabaseError;

/// The longest error that is kept of an object: it holds a longest key, and what is said of it.
const MAX_ERROR_BYTES: usize = 4096;

/// How an object ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its rows are committed.
    Imported(Counts),
    /// This very version stood already.
    AlreadyImported,
    /// A newer version stands.
    Superseded,
    /// Nothing to do, for the reason given.
    Skipped(&'static str),
    /// It is not there any more.
    Gone,
    /// It was removed and so many of its rows with it.
    Removed(u64),
    /// Trying again cannot mend it.
    Failed(Failure),
}

/// Why an object failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Short stable word for the ledger and the dead-letter queue.
    pub reason: &'static str,
    /// For people; holds no row values.
    pub error: String,
    /// Whose fault it may be.
    pub scope: Scope,
}

/// How far the cause of a failure may reach. What reaches beyond the object is braked (`worker/brake.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The object alone.
    Object,
    /// What lies beside it: a bucket's or prefix's rights, a key of KMS, a producer that writes something else.
    Prefix,
    /// All of its dataset: the table, and the rights on it.
    Dataset,
}

/// Reason of what nobody foresaw: it may pass, and is tried [`ODD_TRIES`] times before it is believed.
pub const ODD: &str = "internal";

/// Fewer take a passing oddity for lasting; more only keep an object waiting for its end.
pub const ODD_TRIES: u32 = 3;

/// What outside is broken when work has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outside {
    /// Postgres is out of reach or takes nobody's writes.
    Postgres,
    /// Postgres answers, but not to this: a full disk, a damaged index, no memory, a cancelled statement.
    Statement,
    /// The object store does not answer.
    Store,
    /// Nothing is broken: another transaction was in the way.
    Contention,
    /// Nothing is broken: the object is not there, and is looked for once more.
    Missing,
}

/// A failure sorted by what can be done about it.
#[derive(Debug)]
pub enum Sorted {
    /// Hold the message and try again.
    Hold(Outside, anyhow::Error),
    /// The object is not there; look again after a pause, then it is gone.
    Missing,
    /// The object has other bytes by now; import those under their own identity.
    Changed,
    /// Failed for good.
    Failed(Failure),
}

impl Failure {
    /// Returns a failure with this reason and text.
    #[must_use]
    pub fn new(reason: &'static str, error: impl Into<String>) -> Self {
        let scope = match reason {
            "access" | "schema" => Scope::Dataset,
            _ => Scope::Object,
        };
        Self { reason, error: bounded(error.into()), scope }
    }

    /// Says how far its cause may reach.
    #[must_use]
    pub fn of(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }
}

/// Cuts what goes into the ledger, the log and the dead-letter queue where a name in it has no end.
fn bounded(mut error: String) -> String {
    if error.len() > MAX_ERROR_BYTES {
        let length = error.len();
        error.truncate(error.floor_char_boundary(MAX_ERROR_BYTES));
        error.push_str(&format!("… ({length} bytes)"));
    }
    error
}

/// Sorts what a store said.
#[must_use]
pub fn sort_store_error(error: StoreError) -> Sorted {
    match error {
        StoreError::Missing => Sorted::Missing,
        StoreError::Changed => Sorted::Changed,
        StoreError::NoBucket => Sorted::Failed(Failure::new("no_bucket", error.to_string()).of(Scope::Prefix)),
        StoreError::AccessDenied(_) => Sorted::Failed(Failure::new("access", error.to_string()).of(Scope::Prefix)),
        StoreError::Archived => {
            Sorted::Failed(Failure::new("archived", "the object is archived; restore it, then redrive"))
        }
        StoreError::Refused { ref code, .. } => {
            let reason = if is_access(code) { "access" } else { "refused" };
            Sorted::Failed(Failure::new(reason, error.to_string()).of(Scope::Prefix))
        }
        StoreError::Transient(error) => Sorted::Hold(Outside::Store, error),
    }
}

/// Returns whether a store's code speaks of what we may reach rather than of the object: a bucket elsewhere, a
/// key of KMS, an account.
fn is_access(code: &str) -> bool {
    code.starts_with("KMS.")
        || matches!(
            code,
            "AllAccessDisabled"
                | "AccountProblem"
                | "AuthorizationHeaderMalformed"
                | "PermanentRedirect"
                | "InvalidPayer"
        )
}

/// Sorts why a load failed.
#[must_use]
pub fn sort_load_error(error: LoadError) -> Sorted {
    match error {
        LoadError::Decode(error) => sort_decode_error(error),
        LoadError::Schema(text) | LoadError::NoUniqueIndex(text) => Sorted::Failed(Failure::new("schema", text)),
        LoadError::TooManyRejects { .. } | LoadError::TooManyRefused(_) => {
            Sorted::Failed(Failure::new("too_many_rejects", error.to_string()))
        }
        LoadError::Store(error) => sort_store_error(error),
        LoadError::ForceNeedsLineage => Sorted::Failed(Failure::new("force_refused", error.to_string())),
        LoadError::Database(error) | LoadError::Unstaged(error) => sort_database_error(error),
    }
}

/// Sorts why a table could not be described.
#[must_use]
pub fn sort_table_error(error: TableError) -> Sorted {
    match error {
        TableError::Unusable(text) => Sorted::Failed(Failure::new("schema", text)),
        TableError::Database(error) => sort_database_error(error),
    }
}

/// Sorts why a removal failed.
#[must_use]
pub fn sort_remove_error(error: RemoveError) -> Sorted {
    match error {
        RemoveError::Store(error) => sort_store_error(error),
        RemoveError::Database(error) => sort_database_error(error),
    }
}

fn sort_decode_error(error: DecodeError) -> Sorted {
    match error {
        DecodeError::Source(error) => sort_source_error(error),
        DecodeError::Corrupt(text) => Sorted::Failed(Failure::new("corrupt", text)),
        DecodeError::Limits(text) => Sorted::Failed(Failure::new("limits", text)),
        DecodeError::Schema(text) => Sorted::Failed(Failure::new("schema", text).of(Scope::Prefix)),
        DecodeError::Busy(text) => Sorted::Hold(Outside::Contention, anyhow::anyhow!(text)),
    }
}

/// Sorts a read error that came up through a decoder, where the store's own error is somewhere in the chain.
fn sort_source_error(error: anyhow::Error) -> Sorted {
    match error.chain().find_map(|cause| cause.downcast_ref::<StoreError>()) {
        Some(StoreError::Missing) => Sorted::Missing,
        Some(StoreError::Changed) => Sorted::Changed,
        Some(StoreError::NoBucket) => sort_store_error(StoreError::NoBucket),
        Some(StoreError::AccessDenied(text)) => sort_store_error(StoreError::AccessDenied(text.clone())),
        Some(StoreError::Archived) => sort_store_error(StoreError::Archived),
        Some(StoreError::Refused { code, message }) => {
            sort_store_error(StoreError::Refused { code: code.clone(), message: message.clone() })
        }
        Some(StoreError::Transient(_)) => Sorted::Hold(Outside::Store, error),
        None if error.chain().any(is_cut) => Sorted::Hold(Outside::Store, error),
        None => Sorted::Failed(Failure::new(ODD, format!("{error:#}"))),
    }
}

/// Returns whether an error says that a connection was lost.
fn is_cut(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, NotConnected, TimedOut,
    };
    let kinds =
        [BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, NotConnected, TimedOut];
    error.downcast_ref::<std::io::Error>().is_some_and(|error| kinds.contains(&error.kind()))
}

/// Sorts an error of Postgres or of the way to it, by SQLSTATE
/// ([PostgreSQL, Appendix A](https://www.postgresql.org/docs/current/errcodes-appendix.html)).
#[must_use]
pub fn sort_database_error(error: sqlx::Error) -> Sorted {
    let database = match &error {
        sqlx::Error::Database(database) => database,
        // The way to it, or nobody can tell whether it is: the session is given up, and the next one starts clean.
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
            return Sorted::Hold(Outside::Postgres, anyhow::Error::new(error).context("talk to Postgres"));
        }
        sqlx::Error::RowNotFound => {
            return Sorted::Hold(Outside::Contention, anyhow::anyhow!("an entry of the ledger was pruned meanwhile"));
        }
        // Values that cannot be sent or understood, and whatever else: only what is known to pass is waited for.
        _ => return Sorted::Failed(Failure::new(ODD, format!("talk to Postgres: {}", kind_of(&error)))),
    };
    let code = database.code().unwrap_or_default().into_owned();
    let text = match database.try_downcast_ref::<PgDatabaseError>() {
        Some(error) => without_values(&Said::of(error)),
        None => condition(&code).to_owned(),
    };
    match (code.get(..2).unwrap_or_default(), code.as_str()) {
        _ if is_pruned(&error) => {
            Sorted::Hold(Outside::Contention, anyhow::anyhow!("an entry of the ledger was pruned meanwhile"))
        }
        // Two sightings of one version recorded at the same moment; the next try finds the other's row.
        (_, "23505") if database.constraint() == Some("object_identity") => {
            Sorted::Hold(Outside::Contention, anyhow::anyhow!("{text} (SQLSTATE {code})"))
        }
        // Lock timeout, deadlock, serialization failure, object in use.
        (_, "55P03" | "55006") | ("40", _) => {
            Sorted::Hold(Outside::Contention, anyhow::anyhow!("{text} (SQLSTATE {code})"))
        }
        // What types and extensions say of what they did not expect.
        (_, "XX000") => Sorted::Failed(Failure::new(ODD, format!("{text} (SQLSTATE {code})"))),
        // Disk full, out of memory, query cancelled, I/O error, damaged data or index:
        // of this statement, and perhaps of no other.
        (_, "53100" | "53200" | "53000" | "57014") | ("58" | "XX", _) => {
            Sorted::Hold(Outside::Statement, anyhow::anyhow!("{text} (SQLSTATE {code})"))
        }
        // Connection, too many connections, operator intervention, authorization, read-only transaction,
        // no such database, idle timeouts.
        ("08" | "53" | "57" | "28" | "F0" | "25", _) | (_, "3D000") => {
            Sorted::Hold(Outside::Postgres, anyhow::anyhow!("{text} (SQLSTATE {code})"))
        }
        (_, "42501") => Sorted::Failed(Failure::new("access", format!("{text} (SQLSTATE {code})"))),
        ("22" | "23" | "44" | "P0", _) => {
            Sorted::Failed(Failure::new("constraint", format!("{text} (SQLSTATE {code})")))
        }
        ("54", _) => Sorted::Failed(Failure::new("limits", format!("{text} (SQLSTATE {code})"))),
        _ => Sorted::Failed(Failure::new("schema", format!("{text} (SQLSTATE {code})"))),
    }
}

/// Returns whether an entry of the ledger was pruned between two statements: the next attempt makes it anew.
#[must_use]
pub fn is_pruned(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::RowNotFound => true,
        // A reject of it.
        sqlx::Error::Database(said) => {
            said.constraint() == Some("reject_object_id_fkey") && said.code().as_deref() == Some("23503")
        }
        _ => false,
    }
}

/// Returns what kind of error the driver has, without what it holds: that may be a value.
fn kind_of(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::Protocol(_) => "a message that was not expected, or cannot be sent",
        sqlx::Error::Encode(_) => "a value that cannot be sent",
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => "an answer that cannot be read",
        sqlx::Error::ColumnNotFound(_) | sqlx::Error::ColumnIndexOutOfBounds { .. } => "an answer without a column",
        sqlx::Error::TypeNotFound { .. } => "a type that is not known",
        _ => "an error of the driver",
    }
}

/// What of a server's error is looked at, for a text that may leave the database.
#[derive(Debug, Clone, Copy, Default)]
struct Said<'a> {
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
    fn of(error: &'a PgDatabaseError) -> Self {
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
fn without_values(said: &Said<'_>) -> String {
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
    if said.has_context && matches!(said.code, "42P01" | "42883" | "42704") {
        text.push_str(
            " in a function: what it names without a schema is not found while search_path is pg_catalog, unless \
             ALTER FUNCTION … SET search_path",
        );
    }
    text
}

/// Returns the name of a SQLSTATE's condition, or of its class
/// ([PostgreSQL, Appendix A](https://www.postgresql.org/docs/current/errcodes-appendix.html)).
fn condition(code: &str) -> &'static str {
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
    fn what_the_driver_says_of_values_is_not_repeated() {
        for error in [
            sqlx::Error::Protocol("SECRET".into()),
            sqlx::Error::Encode("SECRET".into()),
            sqlx::Error::Decode("SECRET".into()),
            sqlx::Error::ColumnDecode { index: "a".into(), source: "SECRET".into() },
        ] {
            let Sorted::Failed(failure) = sort_database_error(error) else { panic!("nothing that passes") };
            assert!(!failure.error.contains("SECRET"), "{}", failure.error);
        }
    }

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
    fn only_what_is_known_to_pass_is_held() {
        use std::io::{Error as Io, ErrorKind};
        let held = |sorted| match sorted {
            Sorted::Hold(outside, _) => Some(outside),
            _ => None,
        };
        let reset = || Io::from(ErrorKind::ConnectionReset);
        assert_eq!(held(sort_database_error(sqlx::Error::Io(reset()))), Some(Outside::Postgres));
        assert_eq!(held(sort_database_error(sqlx::Error::RowNotFound)), Some(Outside::Contention));
        for odd in [
            sqlx::Error::Protocol("unexpected".into()),
            sqlx::Error::Encode("value too large".into()),
            sqlx::Error::ColumnNotFound("n".into()),
            sqlx::Error::WorkerCrashed,
        ] {
            let sorted = sort_database_error(odd);
            assert!(matches!(&sorted, Sorted::Failed(failure) if failure.reason == ODD), "{sorted:?}");
        }
        let read = |error: anyhow::Error| sort_decode_error(DecodeError::Source(error));
        assert_eq!(held(read(StoreError::Transient(anyhow::anyhow!("503")).into())), Some(Outside::Store));
        assert_eq!(held(read(anyhow::Error::new(reset()).context("read object"))), Some(Outside::Store));
        for odd in [anyhow::anyhow!("5 bytes came for 7"), Io::from(ErrorKind::InvalidInput).into()] {
            let sorted = read(odd);
            assert!(matches!(&sorted, Sorted::Failed(failure) if failure.reason == ODD), "{sorted:?}");
        }
    }

    #[test]
    fn names_that_a_function_does_not_find_come_with_what_to_do() {
        let missing = Said { code: "42P01", has_context: true, ..Said::default() };
        assert!(without_values(&missing).contains("ALTER FUNCTION … SET search_path"));
        assert!(!without_values(&Said { has_context: false, ..missing }).contains("ALTER"));
    }

    #[test]
    fn an_error_has_an_end() {
        let long = Failure::new("schema", "é".repeat(1 << 20)).error;
        assert!(long.len() < MAX_ERROR_BYTES + 100 && long.ends_with("… (2097152 bytes)"), "{}", long.len());
    }

    #[test]
    fn constraints_are_named_where_they_are_constraints() {
        let broken = Said { code: "23514", constraint: Some("small"), table: Some("t"), ..Said::default() };
        assert_eq!(without_values(&broken), "check violation (constraint small, table t)");
        assert_eq!(without_values(&Said { table: None, ..broken }), "check violation");
        assert_eq!(without_values(&Said { is_raised: true, ..broken }), "check violation");
    }
}
