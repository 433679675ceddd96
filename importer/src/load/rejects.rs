//! Rows that were refused before the merge: how many are too many.

use super::{Load, LoadError, stage::Staged};

/// Bytes of rejects kept in memory before COPY is interrupted to write them down.
pub const REJECTS_BYTES: usize = 1024 * 1024;

/// Fails an object with too many rejects: at once where that is sure, else at its end.
///
/// # Errors
/// [`LoadError::TooManyRejects`].
pub fn check_rejects(load: &Load<'_>, staged: &Staged, more: bool) -> Result<(), LoadError> {
    let limit = &load.target.config.max_rejects;
    let too_many = if more {
        limit.surely_exceeded(staged.n_rejected, staged.n_read)
    } else {
        !limit.allows(staged.n_rejected, staged.n_read)
    };
    let why = match limit {
        _ if staged.n_rejected == staged.n_read => "not one is good".to_owned(),
        limit => format!("more than max_rejects = {limit} allows"),
    };
    match &staged.first_reject {
        Some((first_row, class, column)) if too_many => Err(LoadError::TooManyRejects {
            rejected: staged.n_rejected,
            read: staged.n_read,
            why,
            first_row: *first_row,
            first_class: *class,
            first_column: column.as_ref().map(|c| format!(", column {c}")).unwrap_or_default(),
        }),
        _ => Ok(()),
    }
}
