//! Why a load failed, and what that means for its session.

use super::catalog::NoUniqueIndex;
use crate::{database::TransactionError, object::StoreError};
use decode::{DecodeError, RejectClass};

/// Why a load failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object cannot be read.
    #[error("decode")]
    Decode(#[source] DecodeError),
    /// The object's fields and the table cannot be brought together.
    #[error("{0}")]
    Schema(String),
    /// No unique index keeps the keys of an upsert apart any more; the catalog may tell more.
    #[error(transparent)]
    NoUniqueIndex(#[from] NoUniqueIndex),
    /// More rows were refused than the dataset allows.
    #[error("{rejected} of {read} rows rejected, {why}; the first is row {first_row} ({first_class}{first_column})")]
    TooManyRejects {
        /// Rows refused.
        rejected: u64,
        /// Rows read.
        read: u64,
        /// What that is too many for.
        why: String,
        /// Number of the first refused row.
        first_row: u64,
        /// Its class.
        first_class: RejectClass,
        /// Its column, as `, column x`, or empty.
        first_column: String,
    },
    /// Postgres itself refuses more rows than the dataset allows.
    #[error("{text}")]
    TooManyRefused {
        /// Which row and why.
        text: String,
        /// The SQLSTATE of a function that did not find what it names, or may not use it: that may be so for every row.
        of_function: Option<String>,
    },
    /// A transform made several rows of one, which the dataset does not allow.
    #[error("the join makes several rows of one, which needs fan_out = true")]
    FanOut,
    /// A transform took longer than it may.
    #[error("the transform took longer than timeout = {0}s")]
    TransformTimeout(i32),
    /// Append cannot replace what it cannot find.
    #[error("a forced replay in append mode needs the column penstock_object")]
    ForceNeedsLineage,
    /// The store could not say which version is current.
    #[error("look for the current version")]
    Store(#[source] StoreError),
    /// A row that only the staging table found to be one the database cannot hold.
    #[error("stage rows")]
    Unstaged(#[source] sqlx::Error),
    /// Postgres refused or was out of reach; `outcome::sort_database_error` says which.
    #[error("write to Postgres")]
    Database(#[from] sqlx::Error),
}

impl TransactionError for LoadError {
    fn loses_session(&self) -> bool {
        matches!(self, Self::Database(_) | Self::Store(_))
    }
}
