//! Which field of an object fills which column.

use super::{Column, Fields, MappingSpec};

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Index into [`Mapping::columns`].
    Column(usize),
    /// Goes into the extras object.
    Extras,
    /// Left out.
    Ignored,
    /// The row is rejected (`new_field`).
    Reject,
}

/// Which field goes to which COPY column, and the columns in COPY order.
///
/// A COPY tuple of a batch is: `penstock_row` (int8, the 1-based row number), then one field for
/// each entry of `columns()`, then one boolean for each index in `absent_flags()` (true where the
/// row did not have that column's field).
///
/// With `OnNewField::AddColumn` and [`Fields::Open`] a jsonb column named `penstock_extras`
/// is the last of `columns()`: the loader takes new columns' values from it.
#[derive(Debug, Default)]
pub struct Mapping {
    columns: Vec<Column>,
    absent_flags: Vec<usize>,
    by_index: Vec<Slot>,
}

impl Mapping {
    /// Brings fields and columns together: rename first, then the exact name, then without regard to case where that is unique.
    ///
    /// # Errors
    /// A sentence naming the field or column: two fields for one column, a `rename` to no column, key columns the file lacks.
    pub fn new(_fields: &Fields, _spec: &MappingSpec<'_>) -> Result<Self, String> {
        Ok(Self::default())
    }

    /// Returns the columns in COPY order (after `penstock_row`).
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Returns the indexes into `columns()` that are followed by an absent flag: columns with a default, JSON only.
    #[must_use]
    pub fn absent_flags(&self) -> &[usize] {
        &self.absent_flags
    }

    /// Returns what becomes of the `index`th named field.
    #[must_use]
    pub fn slot(&self, index: usize) -> Slot {
        self.by_index[index]
    }

    /// Returns what becomes of a field of an open format, by its name.
    #[must_use]
    pub fn slot_of(&self, _name: &str) -> Slot {
        Slot::Ignored
    }
}
