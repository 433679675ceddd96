//! A dataset resolved against the catalog: everything a load needs to know about where rows go.

use super::catalog::Table;
use crate::decode::{OnNewField, ReadOptions};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// How an object's rows meet those already in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Insert, or update the row with the same key.
    Upsert,
    /// The rows belong to the object: a new version takes away those of the older ones.
    Replace,
    /// Each version once.
    Append,
}

/// How many rows of an object may be refused before the object fails as a whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxRejects {
    /// So many rows.
    Rows(u64),
    /// So many in a hundred; one row is always allowed.
    Percent(f64),
}

impl MaxRejects {
    /// Returns whether an object of `n_read` rows may have `n_rejected` rejects.
    #[must_use]
    pub fn allows(&self, n_rejected: u64, n_read: u64) -> bool {
        match *self {
            Self::Rows(rows) => n_rejected <= rows,
            #[expect(clippy::cast_precision_loss, reason = "a share of more than 2^53 rows needs no last digit")]
            Self::Percent(percent) => n_rejected <= 1 || n_rejected as f64 * 100.0 <= percent * n_read as f64,
        }
    }

    /// Returns whether so many rejects are too many however many rows follow.
    #[must_use]
    pub fn surely_exceeded(&self, n_rejected: u64) -> bool {
        matches!(*self, Self::Rows(rows) if n_rejected > rows)
    }
}

impl fmt::Display for MaxRejects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// A dataset and its table.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name of the dataset.
    pub dataset: String,
    /// How rows meet.
    pub mode: Mode,
    /// The table, as the catalog described it.
    pub table: Arc<Table>,
    /// Key columns by their catalog names.
    pub key: Vec<String>,
    /// The column that says which of two rows is newer, by its catalog name.
    pub newer: Option<String>,
    /// Field → column.
    pub rename: BTreeMap<String, String>,
    /// What to do with fields no column takes.
    pub on_new_field: OnNewField,
    /// Where extras go.
    pub extras_column: Option<String>,
    /// When bad rows fail the object.
    pub max_rejects: MaxRejects,
    /// How to read the objects.
    pub read: ReadOptions,
    /// Whether a removed object takes its rows along.
    pub remove_on_delete: bool,
}

impl Target {
    /// Returns whether no column takes this field and one may be added for it.
    #[must_use]
    pub fn lacks(&self, field: &str) -> bool {
        !self.rename.contains_key(field)
            && self.table.column(field).is_none()
            && !matches!(field, "penstock_object" | "penstock_row" | "penstock_loaded_at")
            && addable(field)
    }
}

/// Returns whether a stranger's field may become a column: at most 63 bytes (NAMEDATALEN - 1), no control characters.
#[must_use]
pub fn addable(field: &str) -> bool {
    !field.is_empty() && field.len() <= 63 && !field.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_row_is_always_allowed_with_a_percentage_and_never_with_zero_rows() {
        for (limit, rejected, read, expected) in [
            (MaxRejects::Percent(1.0), 1, 3, true),
            (MaxRejects::Percent(1.0), 2, 3, false),
            (MaxRejects::Percent(1.0), 2, 200, true),
            (MaxRejects::Percent(1.0), 3, 200, false),
            (MaxRejects::Percent(0.0), 1, 3, true),
            (MaxRejects::Rows(0), 1, 1_000_000, false),
            (MaxRejects::Rows(3), 3, 3, true),
        ] {
            assert_eq!(limit.allows(rejected, read), expected, "{limit} {rejected}/{read}");
        }
    }
}
