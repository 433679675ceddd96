//! What becomes of an object, and which failure leads there. Pure: one table, tested whole.

mod reason;
mod words;

pub use reason::Reason;

use crate::{
    ledger::Counts,
    load::{CommandError, LoadError, catalog::TableError, refused::is_of_function},
    object::StoreError,
};
use decode::DecodeError;
use service::words::chain;
use sqlx::postgres::PgDatabaseError;
use words::{Said, condition, not_found_in_function, without_values};

/// The longest error that is kept of an object: it holds a longest key, and what is said of it.
const MAX_ERROR_BYTES: usize = 4096;

/// How an object ended; metrics call it by this word.
#[derive(Debug, Clone, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// Its rows are committed.
    Imported(Counts),
    /// This very version stood already.
    AlreadyImported,
    /// A newer version stands.
    Superseded,
    /// Nothing to do, for the reason given.
    Skipped(Skip),
    /// It is not there any more.
    Gone,
    /// It was removed and this many of its rows with it.
    #[strum(serialize = "gone")]
    Removed(u64),
    /// A retry cannot succeed.
    Failed(Failure),
}

/// Why there was nothing to do; the ledger and metrics call it by this word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Skip {
    /// The event is not one that changes a table: a test event, a removal that is not followed.
    Event,
    /// The object has no byte.
    Empty,
    /// A pattern of `worker.skip` matches.
    NameRule,
    /// No dataset takes it.
    Unrouted,
}

/// Why an object failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For the ledger and the dead-letter queue.
    pub reason: Reason,
    /// For people; holds no row values.
    pub error: String,
    /// What else the ledger says, and nothing else does; may hold row values.
    pub detail: String,
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

/// Times that [`Reason::Internal`] is tried before it is believed. Fewer take a passing oddity for lasting; more only keep an object waiting for its end.
pub const ODD_TRIES: u32 = 3;

/// What outside is broken when work has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outside {
    /// Postgres is out of reach or accepts no writes.
    Postgres,
    /// Postgres answers, but not to this: a full disk, a damaged index, no memory, a cancelled statement.
    Statement,
    /// The object store does not answer.
    Store,
    /// Nothing is broken: another transaction was in the way.
    Contention,
    /// Nothing is broken: the object is not there, and is looked for once more.
    Missing,
    /// Nothing is broken: the message is for workers with another configuration.
    Elsewhere,
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
    pub fn new(reason: Reason, error: impl Into<String>) -> Self {
        let scope = match reason {
            Reason::Access | Reason::Schema => Scope::Dataset,
            _ => Scope::Object,
        };
        Self { reason, error: bounded(error.into()), detail: String::new(), scope }
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

impl Sorted {
    fn failed(reason: Reason, error: impl Into<String>) -> Self {
        Self::Failed(Failure::new(reason, error))
    }
}

/// Sorts what a store said.
#[must_use]
pub fn sort_store_error(error: StoreError) -> Sorted {
    match error {
        StoreError::Transient(error) => Sorted::Hold(Outside::Store, error),
        lasting => sort_lasting_store_error(&lasting),
    }
}

fn sort_lasting_store_error(error: &StoreError) -> Sorted {
    let reason = match error {
        StoreError::Missing => return Sorted::Missing,
        StoreError::Changed => return Sorted::Changed,
        StoreError::Archived => {
            return Sorted::failed(Reason::Archived, "the object is archived; restore it, then redrive");
        }
        StoreError::NoBucket => Reason::NoBucket,
        StoreError::AccessDenied(_) => Reason::Access,
        StoreError::Refused { code, .. } if is_access(code) => Reason::Access,
        StoreError::Refused { .. } | StoreError::Transient(_) => Reason::Refused,
    };
    Sorted::Failed(Failure::new(reason, error.to_string()).of(Scope::Prefix))
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
        LoadError::Schema(text) => Sorted::failed(Reason::Schema, text),
        LoadError::NoUniqueIndex(lacks) => Sorted::failed(Reason::Schema, lacks.to_string()),
        LoadError::TooManyRefused { text, of_function: Some(code) } => {
            let reason = if code == "42501" { Reason::Access } else { Reason::Schema };
            let hint = not_found_in_function(&code).unwrap_or(" in a function");
            Sorted::failed(reason, format!("{}{hint}; {text}", condition(&code)))
        }
        LoadError::TooManyRejects { .. } | LoadError::TooManyRefused { .. } => {
            Sorted::failed(Reason::TooManyRejects, error.to_string())
        }
        LoadError::FanOut => Sorted::failed(Reason::FanOut, error.to_string()),
        LoadError::TransformTimeout(_) => Sorted::failed(Reason::TransformTimeout, error.to_string()),
        LoadError::Store(error) => sort_store_error(error),
        LoadError::ForceNeedsLineage => Sorted::failed(Reason::ForceRefused, error.to_string()),
        LoadError::Database(error) | LoadError::Unstaged(error) => sort_database_error(error),
    }
}

/// Sorts why a table could not be described.
#[must_use]
pub fn sort_table_error(error: TableError) -> Sorted {
    match error {
        TableError::NoUniqueIndex(lacks) => Sorted::failed(Reason::Schema, lacks.to_string()),
        TableError::Unusable { problem, .. } => Sorted::failed(Reason::Schema, problem),
        TableError::Database(error) => sort_database_error(error),
    }
}

fn sort_decode_error(error: DecodeError) -> Sorted {
    match error {
        DecodeError::Source(error) => sort_source_error(error),
        DecodeError::Corrupt(text) => Sorted::failed(Reason::Corrupt, text),
        DecodeError::Limits(text) => Sorted::failed(Reason::Limits, text),
        DecodeError::Schema(text) => Sorted::Failed(Failure::new(Reason::Schema, text).of(Scope::Prefix)),
        DecodeError::Busy(text) => Sorted::Hold(Outside::Contention, anyhow::anyhow!(text)),
    }
}

/// Sorts a read error that came up through a decoder, where the store's own error is somewhere in the chain.
fn sort_source_error(error: anyhow::Error) -> Sorted {
    if let Some(failed) = error.chain().find_map(|cause| cause.downcast_ref::<CommandError>()) {
        let failure = Failure::new(Reason::Command, failed.to_string());
        return match failed {
            CommandError::NotStarted(_) => Sorted::Failed(failure.of(Scope::Dataset)),
            CommandError::Later => Sorted::Hold(Outside::Contention, error),
            CommandError::Failed { stderr, .. } => Sorted::Failed(Failure { detail: stderr.clone(), ..failure }),
        };
    }
    match error.chain().find_map(|cause| cause.downcast_ref::<StoreError>()) {
        Some(StoreError::Transient(_)) => Sorted::Hold(Outside::Store, error),
        Some(lasting) => sort_lasting_store_error(lasting),
        None if error.chain().any(is_cut) => Sorted::Hold(Outside::Store, error),
        None => Sorted::failed(Reason::Internal, chain(&error)),
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
    if is_pruned(&error) {
        return Sorted::Hold(Outside::Contention, anyhow::anyhow!("an entry of the ledger was pruned meanwhile"));
    }
    let database = match &error {
        sqlx::Error::Database(database) => database,
        // The connection failed, or may have: the session is given up, and the next one starts clean.
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
            return Sorted::Hold(Outside::Postgres, anyhow::Error::new(error).context("talk to Postgres"));
        }
        // Values that cannot be sent or understood, and whatever else: only what is known to pass is waited for.
        _ => return Sorted::failed(Reason::Internal, format!("talk to Postgres: {}", kind_of(&error))),
    };
    let code = database.code().unwrap_or_default();
    let said = database.try_downcast_ref::<PgDatabaseError>();
    let text = match said {
        Some(error) => without_values(&Said::of(error)),
        None => condition(&code).to_owned(),
    };
    let text = format!("{text} (SQLSTATE {code})");
    let outside = match (code.get(..2).unwrap_or_default(), &*code) {
        // Two sightings of one version recorded at the same moment; the next try finds the other's row.
        (_, "23505") if database.constraint() == Some("object_identity") => Outside::Contention,
        // Lock timeout, deadlock, serialization failure, object in use.
        (_, "55P03" | "55006") | ("40", _) => Outside::Contention,
        // What types and extensions say of what they did not expect.
        (_, "XX000") => return Sorted::failed(Reason::Internal, text),
        // Disk full, out of memory, query cancelled, I/O error, damaged data or index:
        // of this statement, and perhaps of no other.
        (_, "53100" | "53200" | "53000" | "57014") | ("58" | "XX", _) => Outside::Statement,
        // A limit that the server's owner set to one session: temp_file_limit.
        (_, "53400") => return Sorted::failed(Reason::Limits, text),
        // Connection, too many connections, operator intervention, authorization, read-only transaction,
        // no such database, idle timeouts.
        ("08" | "53" | "57" | "28" | "F0" | "25", _) | (_, "3D000") => match said.is_some_and(is_of_function) {
            // What a function says is no news of the server.
            true => Outside::Statement,
            false => Outside::Postgres,
        },
        (_, "42501") => return Sorted::failed(Reason::Access, text),
        ("22" | "23" | "44" | "P0", _) => return Sorted::failed(Reason::Constraint, text),
        ("54", _) => return Sorted::failed(Reason::Limits, text),
        _ => return Sorted::failed(Reason::Schema, text),
    };
    Sorted::Hold(outside, anyhow::anyhow!(text))
}

/// Returns whether an entry of the ledger was pruned between two statements: the next attempt makes it again.
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
            assert!(matches!(&sorted, Sorted::Failed(failure) if failure.reason == Reason::Internal), "{sorted:?}");
        }
        let read = |error: anyhow::Error| sort_decode_error(DecodeError::Source(error));
        assert_eq!(held(read(StoreError::Transient(anyhow::anyhow!("503")).into())), Some(Outside::Store));
        assert_eq!(held(read(anyhow::Error::new(reset()).context("read object"))), Some(Outside::Store));
        for odd in [anyhow::anyhow!("5 bytes came for 7"), Io::from(ErrorKind::InvalidInput).into()] {
            let sorted = read(odd);
            assert!(matches!(&sorted, Sorted::Failed(failure) if failure.reason == Reason::Internal), "{sorted:?}");
        }
    }

    #[test]
    fn an_error_has_an_end() {
        let long = Failure::new(Reason::Schema, "é".repeat(1 << 20)).error;
        assert!(long.len() < MAX_ERROR_BYTES + 100 && long.ends_with("… (2097152 bytes)"), "{}", long.len());
    }
}
