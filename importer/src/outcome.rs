//! What becomes of an object, and which failure leads there. Pure: one table, tested whole.

use crate::{
    decode::DecodeError,
    ledger::Counts,
    load::{LoadError, RemoveError, catalog::TableError},
    object::StoreError,
};

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
        Self { reason, error: error.into(), scope }
    }

    /// Says how far its cause may reach.
    #[must_use]
    pub fn of(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }
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
        LoadError::Schema(text) => Sorted::Failed(Failure::new("schema", text)),
        LoadError::TooManyRejects { .. } | LoadError::TooManyRefused(_) => {
            Sorted::Failed(Failure::new("too_many_rejects", error.to_string()))
        }
        LoadError::Store(error) => sort_store_error(error),
        LoadError::ForceNeedsLineage => Sorted::Failed(Failure::new("force_refused", error.to_string())),
        LoadError::Database(error) => sort_database_error(error),
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
        Some(StoreError::Transient(_)) | None => Sorted::Hold(Outside::Store, error),
    }
}

/// Sorts an error of Postgres or of the way to it, by SQLSTATE
/// ([PostgreSQL, Appendix A](https://www.postgresql.org/docs/current/errcodes-appendix.html)).
#[must_use]
pub fn sort_database_error(error: sqlx::Error) -> Sorted {
    let sqlx::Error::Database(database) = &error else {
        return Sorted::Hold(Outside::Postgres, anyhow::Error::new(error).context("talk to Postgres"));
    };
    let code = database.code().unwrap_or_default().into_owned();
    // Never the DETAIL: it quotes row values.
    let mut text = database.message().to_owned();
    if code.starts_with("22") {
        // «invalid input syntax for type uuid: "…"»: what follows the colon is a value.
        text.truncate(text.find(':').unwrap_or(text.len()));
    }
    if let Some(constraint) = database.constraint() {
        text = format!("{text} (constraint {constraint})");
    }
    match (code.get(..2).unwrap_or_default(), code.as_str()) {
        // Two sightings of one version recorded at the same moment; the next try finds the other's row.
        (_, "23505") if database.constraint() == Some("object_identity") => {
            Sorted::Hold(Outside::Contention, anyhow::anyhow!("{text} (SQLSTATE {code})"))
        }
        // Lock timeout, deadlock, serialization failure, object in use.
        (_, "55P03" | "55006") | ("40", _) => {
            Sorted::Hold(Outside::Contention, anyhow::anyhow!("{text} (SQLSTATE {code})"))
        }
        // Disk full, out of memory, query cancelled, I/O error, internal error, damaged data or index:
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
