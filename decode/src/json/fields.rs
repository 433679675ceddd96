//! Which column the fields of a row belong to, remembered from row to row.
//!
//! Rows of one object nearly always have the same fields in the same order, so each known field
//! remembers which one came after it last time: comparing one name replaces hashing it.

use super::row::text;
use crate::{Field, Mapping, Slot, encode::CellError};
use std::collections::HashMap;

/// Names beyond this many are looked up again each time, so that random names take no memory.
const MAX_KNOWN: usize = 4096;
/// Longer names are not remembered: no column's name is that long.
const MAX_NAME_BYTES: usize = 256;
/// What `new_fields` promises to stay within.
pub const MAX_NEW_FIELDS: usize = 50;

/// What became of the names seen so far.
#[derive(Default)]
pub struct FieldTable {
    known: Vec<Known>,
    by_name: HashMap<Box<[u8]>, usize>,
    /// The field that came first in the last row.
    first: usize,
    /// The field read last in this row.
    previous: Option<usize>,
}

struct Known {
    /// The name's bytes between the quotes, escapes and all.
    raw: Box<[u8]>,
    name: String,
    slot: Slot,
    /// The field that came after this one last time.
    next: usize,
    nested: bool,
}

impl FieldTable {
    /// Prepares for the next row.
    pub fn start_row(&mut self) {
        self.previous = None;
    }

    /// Returns what becomes of the field whose name is spelled `raw`; `nested` is whether its value is.
    ///
    /// # Errors
    /// Why the name is not text.
    pub fn slot(&mut self, raw: &[u8], nested: bool, mapping: &Mapping) -> Result<Slot, CellError> {
        let expected = self.previous.map_or(self.first, |previous| self.known[previous].next);
        let index = match self.known.get(expected) {
            Some(known) if *known.raw == *raw => expected,
            _ => match self.find(raw, mapping)? {
                Ok(index) => {
                    match self.previous {
                        Some(previous) => self.known[previous].next = index,
                        None => self.first = index,
                    }
                    index
                }
                Err(slot) => return Ok(slot),
            },
        };
        self.previous = Some(index);
        let known = &mut self.known[index];
        known.nested |= nested;
        Ok(known.slot)
    }

    /// Returns the first fields that no column took.
    pub fn new_fields(&self) -> Vec<Field> {
        let untaken = self.known.iter().filter(|known| !matches!(known.slot, Slot::Column(_)));
        let mut fields: Vec<Field> = Vec::new();
        for known in untaken {
            // One name can be spelled with and without escapes.
            if let Some(field) = fields.iter_mut().find(|field| field.name == known.name) {
                field.nested |= known.nested;
            } else if fields.len() < MAX_NEW_FIELDS {
                fields.push(Field { name: known.name.clone(), nested: known.nested });
            }
        }
        fields
    }

    /// Returns the name's index, or its slot when it is not to be remembered.
    fn find(&mut self, raw: &[u8], mapping: &Mapping) -> Result<Result<usize, Slot>, CellError> {
        if let Some(&index) = self.by_name.get(raw) {
            return Ok(Ok(index));
        }
        let name = text(raw)?;
        let slot = mapping.slot_of(&name);
        if self.known.len() == MAX_KNOWN || raw.len() > MAX_NAME_BYTES {
            return Ok(Err(slot));
        }
        let index = self.known.len();
        self.known.push(Known { raw: raw.into(), name: name.into_owned(), slot, next: index + 1, nested: false });
        self.by_name.insert(raw.into(), index);
        Ok(Ok(index))
    }
}
