//! Which field of an object fills which column.

mod build;

use super::{
    Column, Fields, MappingSpec, Notation, RejectClass,
    condition::{Condition, Test},
    encode::{Value, encode},
};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// The jsonb column, at the end of a batch's columns, that carries fields for columns yet to be added.
pub const EXTRAS_COLUMN: &str = "penstock_extras";

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Slot {
    /// Index into [`Mapping::columns`].
    Column(usize),
    /// Goes into the extras object.
    Extras,
    /// Left out.
    #[default]
    Ignored,
    /// The row is rejected (`new_field`).
    Reject,
}

impl Slot {
    /// Returns the column that takes the field.
    pub(super) fn column(self) -> Option<usize> {
        match self {
            Self::Column(column) => Some(column),
            _ => None,
        }
    }
}

/// Which field goes to which COPY column, and the columns in COPY order.
///
/// A COPY tuple of a batch is: `penstock_row` (int8, the 1-based row number), then one field for
/// each entry of `columns()`, then one boolean for each index in `absent_flags()` (true where the
/// row did not have that column's field).
///
/// With `OnNewField::AddColumn` and [`Fields::Open`] a jsonb column named `penstock_extras`
/// is the last of `columns()`: the loader takes new columns' values from it.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    columns: Vec<Column>,
    absent_flags: Vec<usize>,
    by_index: Vec<Slot>,
    by_name: HashMap<String, Slot, BuildHasherDefault<NameHasher>>,
    by_folded_name: HashMap<String, Slot, BuildHasherDefault<NameHasher>>,
    unknown: Slot,
    extras: Option<usize>,
    constants: Vec<Option<Vec<u8>>>,
    /// How each column's values are written; empty where all types say so.
    notations: Vec<Option<Notation>>,
    required: Vec<Requirement>,
    unstaged: BTreeMap<u64, Unstaged>,
    /// How many columns, at the end, are only asked about.
    n_unsent: usize,
    conditions: Vec<Asked>,
    /// How many rows come before the first.
    n_rows_before: u64,
    /// The archive's member they are from.
    member: Option<Arc<str>>,
}

/// A condition of the rows that are sent.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The column; None where no field fills it, so that it is NULL.
    pub column: Option<usize>,
    /// Which values pass.
    pub test: Test,
    /// Rows that do not have the field pass.
    pub passes_absent: bool,
}

/// Why a row that can be encoded is a reject all the same: the database will not take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unstaged {
    /// Class of the reject.
    pub class: RejectClass,
    /// The column, where the server named it.
    pub column: Option<String>,
    /// What the server said.
    pub message: String,
}

/// Whether a column may be NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Requirement {
    Nullable,
    /// NOT NULL: a default may stand in where the field is absent.
    NotNull,
    /// A key: nothing may stand in.
    Key,
}

impl Mapping {
    /// Brings fields and columns together: rename first, then the exact name, then without regard to case where that is unique.
    ///
    /// Columns come in table order: those some field, capture or the extras fill; for [`Fields::Open`] all.
    ///
    /// # Errors
    /// A sentence naming the field or column: two fields for one column, a `rename` to no column, key columns the file lacks.
    pub fn new(fields: &Fields, spec: &MappingSpec<'_>) -> Result<Self, String> {
        build::build(fields, spec)
    }

    /// Makes rejects of these rows, by their numbers, whatever they hold.
    #[must_use]
    pub fn without(self, unstaged: BTreeMap<u64, Unstaged>) -> Self {
        Self { unstaged, ..self }
    }

    /// Drops rows that do not fulfil all `conditions`. Of the last columns, those with `unsent` names are only asked about;
    /// if they are `kept` rows, which conditions on those were asked of already, rows may be without them.
    #[must_use]
    pub fn filtered(mut self, conditions: &[Condition], unsent: &[String], kept: bool) -> Self {
        self.n_unsent = self.columns.iter().rev().take_while(|column| unsent.contains(&column.name)).count();
        let asked = conditions.iter().map(|Condition { column, test }| Asked {
            column: self.columns.iter().position(|other| other.name == *column),
            test: test.clone(),
            passes_absent: kept && unsent.contains(column),
        });
        self.conditions = asked.collect();
        self
    }

    /// Returns the mapping of the rows of an archive's member, which follow this many others; a column may have its name.
    ///
    /// # Errors
    /// When the column does not take it.
    pub(super) fn of_member(&self, n_rows_before: u64, name: &str, column: Option<usize>) -> Result<Self, String> {
        let mut mapping = Self { n_rows_before, member: Some(name.into()), ..self.clone() };
        if let Some(column) = column {
            let mut constant = Vec::new();
            let encoded = encode(&Value::Text(name.into()), &self.columns[column].pg_type, &mut constant);
            encoded.map_err(|error| format!("column \"{}\": {}", self.columns[column].name, error.message))?;
            mapping.constants[column] = Some(constant);
        }
        Ok(mapping)
    }

    /// Returns the archive's member that the rows are from.
    pub(super) fn member(&self) -> Option<&Arc<str>> {
        self.member.as_ref()
    }

    /// Returns how many rows come before the first.
    pub(super) fn n_rows_before(&self) -> u64 {
        self.n_rows_before
    }

    /// Returns the conditions of the rows that are sent.
    pub(super) fn conditions(&self) -> &[Asked] {
        &self.conditions
    }

    /// Returns the columns that fields fill: those of [`Mapping::columns`], then those that are only asked about.
    pub(super) fn all_columns(&self) -> &[Column] {
        &self.columns
    }

    /// Leaves fields of an open format with these names out.
    #[must_use]
    pub fn ignoring(mut self, names: &[&str]) -> Self {
        self.by_name.extend(names.iter().map(|name| ((*name).to_owned(), Slot::Ignored)));
        self
    }

    /// Returns whether no row is a reject although it can be encoded.
    #[inline]
    pub(super) fn has_all_staged(&self) -> bool {
        self.unstaged.is_empty()
    }

    /// Returns why this row is a reject although it can be encoded.
    pub(super) fn unstaged(&self, row_number: u64) -> Option<&Unstaged> {
        self.unstaged.get(&row_number)
    }

    /// Returns the columns in COPY order (after `penstock_row`).
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns[..self.columns.len() - self.n_unsent]
    }

    /// Returns the indexes into `columns()` that are followed by an absent flag: columns with a default, JSON only.
    #[must_use]
    pub fn absent_flags(&self) -> &[usize] {
        &self.absent_flags
    }

    /// Returns what becomes of the `index`th named field.
    #[must_use]
    pub fn slot(&self, index: usize) -> Slot {
        self.by_index.get(index).copied().unwrap_or(self.unknown)
    }

    /// Returns what becomes of a field of an open format, by its name.
    #[must_use]
    pub fn slot_of(&self, name: &str) -> Slot {
        if let Some(slot) = self.by_name.get(name) {
            return *slot;
        }
        let mut folded = [0u8; 64];
        let known = match folded.get_mut(..name.len()) {
            // Names are short and plain nearly always; those need no memory.
            Some(folded) if name.is_ascii() => {
                folded.copy_from_slice(name.as_bytes());
                folded.make_ascii_lowercase();
                std::str::from_utf8(folded).ok().and_then(|folded| self.by_folded_name.get(folded))
            }
            _ => self.by_folded_name.get(&name.to_lowercase()),
        };
        known.copied().unwrap_or(self.unknown)
    }

    /// Returns the index into `columns()` of the column that takes the object of extra fields.
    #[must_use]
    pub fn extras(&self) -> Option<usize> {
        self.extras
    }

    /// Returns whether a capture of the path fills the column, whatever the row has.
    #[must_use]
    pub fn is_captured(&self, column: usize) -> bool {
        self.constants.get(column).is_some_and(Option::is_some)
    }

    /// Returns how a column's values are written, where its type does not say.
    #[inline]
    pub(super) fn notation(&self, column: usize) -> Option<&Notation> {
        self.notations.get(column)?.as_ref()
    }

    /// Returns the encoded field of a captured column.
    pub(super) fn constant(&self, column: usize) -> Option<&[u8]> {
        self.constants[column].as_deref()
    }

    pub(super) fn requirement(&self, column: usize) -> Requirement {
        self.required[column]
    }
}

/// FNV-1a over words. The maps hold the table's own names only, so untrusted names cannot fill a bucket.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        const PRIME: u64 = 0x0000_0100_0000_01B3;
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().expect("chunks of eight bytes"));
            self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        for byte in words.remainder() {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }

    fn finish(&self) -> u64 {
        // The table takes its buckets from the low bits and its tags from the high ones.
        self.0 ^ (self.0 >> 29)
    }
}

#[cfg(test)]
mod tests;
