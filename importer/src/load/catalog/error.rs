//! Why a table cannot be loaded into.

use super::{Table, quote};
use crate::database::TransactionError;

/// Why a table cannot be loaded into.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Wrong table or columns: nothing a retry mends.
    #[error("{problem}")]
    Unusable {
        /// What kind of problem it is.
        misfit: Misfit,
        /// A sentence naming what does not fit.
        problem: String,
    },
    /// An upsert needs an index.
    #[error(transparent)]
    NoUniqueIndex(#[from] NoUniqueIndex),
    /// The catalog could not be read.
    #[error("read catalog")]
    Database(#[from] sqlx::Error),
}

impl TableError {
    /// Returns that a table cannot be loaded into.
    #[must_use]
    pub fn unusable(misfit: Misfit, problem: impl Into<String>) -> Self {
        Self::Unusable { misfit, problem: problem.into() }
    }
}

/// No unique index is on exactly the key, or it does not keep apart all rows that the table shows.
#[derive(Debug, thiserror::Error)]
#[error("{problem}; {mended_by}")]
pub struct NoUniqueIndex {
    /// A sentence that says so.
    pub problem: String,
    /// The statement that makes one.
    pub mended_by: String,
}

impl NoUniqueIndex {
    /// Says so of this table and key.
    #[must_use]
    pub fn of(table: &Table, key: &[String]) -> Self {
        let columns: Vec<String> = key.iter().map(|name| quote(name)).collect();
        let (has_children, table, columns) = (table.has_children, &table.qualified, columns.join(", "));
        if has_children {
            return Self {
                problem: format!(
                    "upsert into {table} is not possible while other tables inherit from it: no unique index keeps their \
                     rows apart from its own"
                ),
                mended_by: "partition it, load into one of the children, or use append or replace".to_owned(),
            };
        }
        Self {
            problem: format!(
                "upsert into {table} needs a unique index on exactly its key ({columns}) that is valid, not partial and \
                 not deferrable"
            ),
            mended_by: format!("CREATE UNIQUE INDEX ON {table} ({columns})"),
        }
    }
}

/// What keeps a table from being loaded into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// There is no such table.
    Missing,
    /// It is a view or the like.
    NotATable,
    /// Row-level security is on for this role.
    RowSecurity,
    /// The mode needs a lineage column that it lacks.
    NoLineage,
    /// A lineage column has another type.
    LineageType,
    /// Postgres does not take the dataset's SQL, or it may not stand there.
    Transform,
    /// Its name, columns or indexes do not fit the dataset.
    Other,
}

impl TransactionError for TableError {
    fn loses_session(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}
