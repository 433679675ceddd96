//! Which column the fields of a row belong to, remembered from row to row.
//!
//! Rows of one object nearly always have the same fields in the same order, so each known field
//! remembers which one came after it last time: comparing one name replaces hashing it.

use super::{
    row::text,
    scan::{Token, skip_one, starts_with, usual_value},
};
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

/// What was read of a row's members.
pub struct Usual {
    /// Where what is read ends.
    pub end: usize,
    /// Something was read.
    pub any: bool,
    /// A column took some of it.
    pub any_taken: bool,
}

struct Known {
    /// The name as it is written, escapes, quotes and all, and the colon.
    spelled: Box<[u8]>,
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

    /// Reads members from `at` in a row on, as long as each is the field that came next in the row before, a scalar, and
    /// left out or a column's; notes those for columns in `tokens`. Returns where what is not read begins: what is behind
    /// a value, or `at` where nothing is read.
    ///
    /// A row is nearly always read to its end by this. All else in it is for the scanner, which also says what is wrong.
    #[inline(never)]
    pub fn take_usual(&mut self, row: &[u8], mut at: usize, tokens: &mut [Token]) -> Usual {
        let mut usual = Usual { end: at, any: false, any_taken: false };
        let mut expected = self.previous.map_or(self.first, |previous| self.known[previous].next);
        while let Some(Known { spelled, slot, next, .. }) = self.known.get(expected)
            && starts_with(&row[at..], spelled)
            && let Some(value) = usual_value(row, skip_one(row, at + spelled.len()))
        {
            match slot {
                Slot::Column(column) => {
                    tokens[*column] = value;
                    usual.any_taken = true;
                }
                Slot::Ignored => {}
                Slot::Extras | Slot::Reject => break,
            }
            usual.end = value.end;
            usual.any = true;
            self.previous = Some(expected);
            expected = *next;
            if row.get(value.end) != Some(&b',') {
                break;
            }
            at = skip_one(row, value.end + 1);
        }
        usual
    }

    /// Returns what becomes of the field whose name is spelled `raw`; `nested` is whether its value is.
    ///
    /// # Errors
    /// Why the name is not text.
    pub fn slot(&mut self, raw: &[u8], nested: bool, mapping: &Mapping) -> Result<Slot, CellError> {
        let index = match self.find(raw, mapping)? {
            Ok(index) => index,
            Err(slot) => return Ok(slot),
        };
        match self.previous {
            Some(previous) => self.known[previous].next = index,
            None => self.first = index,
        }
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
        let spelled = [b"\"", raw, b"\":"].concat().into();
        self.known.push(Known { spelled, name: name.into_owned(), slot, next: index + 1, nested: false });
        self.by_name.insert(raw.into(), index);
        Ok(Ok(index))
    }
}
