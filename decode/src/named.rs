//! Rows of formats with a schema: every row has the same fields.

use super::{
    Batch, FREE_ROW_BYTES, Limits, MAX_PAYLOAD_BYTES, Mapping, RowEncoder, Slot,
    budget::Reservation,
    row::{NULL, Planned, Short},
};
use crate::encode::{CellError, PgType, RejectClass, Value, usual::MAX_TEXT_BYTES, write_string};
use std::{borrow::Cow, cell::RefCell, sync::Arc};

/// How much of a field's name a message quotes.
pub const MAX_QUOTED_BYTES: usize = 80;

/// As many columns as have room in [`FREE_ROW_BYTES`], besides what is the same for all rows.
const MAX_FIRST_COLUMNS: usize = FREE_ROW_BYTES / (2 * MAX_TEXT_BYTES);

/// Returns as much of a field's name as a message quotes: there can be one for each row.
pub fn quoted(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_QUOTED_BYTES)]
}

/// The cells of one row, by field.
pub trait RowCells<'c> {
    /// Returns a cell.
    fn cell(&self, field: usize) -> Result<Value<'c>, CellError>;
    /// Appends the field of a column of this type, which takes the cell of `field`, where that is a usual one: as it would
    /// be encoded.
    #[inline]
    fn write_short(&self, _column: usize, _field: usize, _to: &PgType, _out: &mut Vec<u8>) -> Short {
        Short::No
    }
    /// Appends the fields of the first columns, as far as their cells are usual ones; returns how many.
    #[inline(always)]
    fn write_first(&self, columns: &[Planned], out: &mut Vec<u8>) -> usize {
        let mut write = |(index, column): (usize, &Planned)| match column {
            Planned::Constant(constant) => {
                out.extend_from_slice(constant);
                true
            }
            Planned::Field { field, pg_type, is_nullable } => match self.write_short(index, *field, pg_type, out) {
                Short::Null if *is_nullable => {
                    out.extend_from_slice(&NULL);
                    true
                }
                came => came == Short::Written,
            },
            Planned::Other => false,
        };
        columns.iter().enumerate().position(|column| !write(column)).unwrap_or(columns.len())
    }
    /// Appends a cell as JSON, until `out` is longer than `max_bytes`: then the error is `row_size`.
    fn write_json(&self, field: usize, max_bytes: usize, out: &mut Vec<u8>) -> Result<(), CellError>;
    /// Appends what stands for a cell that has no JSON form, of long ones only the beginning.
    fn write_instead(&self, _field: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"null");
    }
    /// Returns the row for its reject: as JSON of these fields, a long one no further than is kept of it.
    fn payload(&self, fields: &[(usize, Vec<u8>)]) -> Cow<'c, [u8]>
    where
        Self: Sized,
    {
        Cow::Owned(payload(self, fields))
    }
}

/// Hands rows to the encoder.
pub struct NamedRows {
    /// What numbers the rows.
    pub encoder: RowEncoder,
    /// The field, by column of the mapping.
    sources: Vec<Option<usize>>,
    /// The first columns, as many as have no more than a row may have without asking for memory.
    first: Vec<Planned>,
    /// The column that takes the extras object, and where in `fields` its members are.
    extras: Option<(usize, Vec<usize>)>,
    /// Set when every row is to be rejected: what says which field no column takes.
    refused: Option<String>,
    /// The fields that are read, and their names as JSON strings.
    fields: Vec<(usize, Vec<u8>)>,
    limits: Limits,
    /// For a long extras object.
    held: RefCell<Option<Reservation>>,
}

impl NamedRows {
    /// Returns what brings rows with fields of these names to the mapping's columns.
    pub fn new<'a>(mapping: &Arc<Mapping>, names: impl Iterator<Item = &'a str>, limits: &Limits) -> Self {
        let mut sources = vec![None; mapping.all_columns().len()];
        let mut extras = Vec::new();
        let mut refused = None;
        let mut fields = Vec::new();
        for (field, name) in names.enumerate() {
            match mapping.slot(field) {
                Slot::Ignored => continue,
                Slot::Column(column) => sources[column] = Some(field),
                Slot::Extras => extras.push(fields.len()),
                Slot::Reject => {
                    refused = refused.or_else(|| Some(format!("no column takes field \"{}\"", quoted(name))));
                }
            }
            let mut json = Vec::new();
            write_string(name, &mut json);
            fields.push((field, json));
        }
        let encoder = RowEncoder::new(Arc::clone(mapping)).with_limits(limits);
        let mut first = encoder.planned(|column| sources[column]);
        first.truncate(MAX_FIRST_COLUMNS);
        Self {
            encoder,
            first,
            sources,
            extras: mapping.extras().map(|column| (column, extras)),
            refused,
            fields,
            limits: limits.clone(),
            held: RefCell::default(),
        }
    }

    /// Returns the field of each of the mapping's columns.
    pub fn sources(&self) -> &[Option<usize>] {
        &self.sources
    }

    /// Returns the number of columns of the mapping.
    pub fn n_columns(&self) -> usize {
        self.sources.len()
    }

    /// Adds a row to the batch: as a tuple or as a reject.
    #[inline]
    pub fn push<'c>(&mut self, row: &impl RowCells<'c>, batch: &mut Batch) {
        if let Some(message) = &self.refused {
            let refusal = CellError::new(RejectClass::NewField, message);
            return self.reject(refusal, row, None, batch);
        }
        let Self { encoder, sources, first, extras, fields, limits, held, .. } = self;
        held.take();
        let cell = |column: usize| match (sources[column], &extras) {
            (Some(field), _) => row.cell(field),
            (None, Some((extras_column, members))) if *extras_column == column => {
                let members = || members.iter().map(|member| &fields[*member]);
                nested(limits, held, |max_bytes, text| write_object(row, members(), max_bytes, text))
            }
            (None, _) => Ok(Value::Absent),
        };
        let short = |column: usize, to: &PgType, out: &mut Vec<u8>| match sources[column] {
            Some(field) => write_later(row, column, field, to, out),
            None => Short::No,
        };
        let first = |out: &mut Vec<u8>| row.write_first(first, out);
        encoder.push_shortly(batch, first, short, cell, || row.payload(fields));
    }

    /// Adds a row that is too long to be encoded, of this `length`: as a reject, unless a condition drops it.
    #[cold]
    pub fn push_too_long<'c>(&mut self, length: usize, row: &impl RowCells<'c>, batch: &mut Batch) {
        let refusal = || CellError::new(RejectClass::RowSize, format!("row of {length} bytes"));
        let Self { encoder, sources, extras, .. } = self;
        let mut cell = |column: usize| match (sources[column], &extras) {
            (Some(field), _) => row.cell(field),
            (None, Some((extras_column, _))) if *extras_column == column => Err(refusal()),
            (None, _) => Ok(Value::Absent),
        };
        match encoder.asked(batch, &mut cell) {
            Ok(false) => encoder.leave_out(1, batch),
            _ => self.reject(refusal(), row, Some(length as u64), batch),
        }
    }

    /// Adds a row that is a reject whatever its cells; `length` is its true one where the payload's is not.
    #[cold]
    pub fn reject<'c>(&mut self, refusal: CellError, row: &impl RowCells<'c>, length: Option<u64>, batch: &mut Batch) {
        let payload = row.payload(&self.fields);
        let length = length.unwrap_or(0).max(payload.len() as u64);
        self.encoder.reject(refusal, &payload, length, batch);
    }
}

/// Writes a cell that comes after one which went the long way: rarely, so that it need not be a part of the loop.
#[inline(never)]
fn write_later<'c>(row: &impl RowCells<'c>, column: usize, field: usize, to: &PgType, out: &mut Vec<u8>) -> Short {
    row.write_short(column, field, to, out)
}

/// Writes the object of the extras.
fn write_object<'c, 'm>(
    row: &impl RowCells<'c>,
    members: impl Iterator<Item = &'m (usize, Vec<u8>)>,
    max_bytes: usize,
    text: &mut Vec<u8>,
) -> Result<(), CellError> {
    for (field, name) in members {
        start_member(name, text);
        row.write_json(*field, max_bytes, text)?;
    }
    text.push(b'}');
    Ok(())
}

/// Returns a nested value as a cell, written by `write` up to the given length. Memory for a long one is reserved in `held`,
/// until the row is done.
///
/// # Errors
/// Those of `write`, and where there is no such memory.
pub fn nested<'c>(
    limits: &Limits,
    held: &RefCell<Option<Reservation>>,
    write: impl Fn(usize, &mut Vec<u8>) -> Result<(), CellError>,
) -> Result<Value<'c>, CellError> {
    let mut text = Vec::new();
    match write(limits.row_bytes.min(FREE_ROW_BYTES), &mut text) {
        Err(error) if error.class == RejectClass::RowSize && limits.row_bytes > FREE_ROW_BYTES => {
            let reserved = limits.budget.reserve("a nested value", limits.row_bytes)?;
            // Another one may be as long, and is there at the same time only as part of the encoded row.
            held.replace(Some(reserved));
            text.clear();
            write(limits.row_bytes, &mut text)?;
        }
        written => written?,
    }
    json(text)
}

/// Returns JSON text as a cell.
pub fn json<'c>(text: Vec<u8>) -> Result<Value<'c>, CellError> {
    let text = String::from_utf8(text).map_err(|_| not_utf8())?;
    Ok(Value::Json(Cow::Owned(text)))
}

/// Returns bytes as text.
#[inline]
pub fn utf8(bytes: &[u8]) -> Result<&str, CellError> {
    std::str::from_utf8(bytes).map_err(|_| not_utf8())
}

#[cold]
fn not_utf8() -> CellError {
    CellError::new(RejectClass::Text, "not valid UTF-8")
}

fn start_member(name: &[u8], out: &mut Vec<u8>) {
    out.push(if out.is_empty() { b'{' } else { b',' });
    out.extend_from_slice(name);
    out.push(b':');
}

fn payload<'c>(row: &impl RowCells<'c>, fields: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (field, name) in fields {
        start_member(name, &mut out);
        let start = out.len();
        if row.write_json(*field, MAX_PAYLOAD_BYTES, &mut out).is_err() && out.len() <= MAX_PAYLOAD_BYTES {
            out.truncate(start);
            row.write_instead(*field, &mut out);
        }
        if out.len() > MAX_PAYLOAD_BYTES {
            return out;
        }
    }
    if out.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::{Budget, Pool},
        trial::options,
    };

    #[test]
    fn memory_is_reserved_for_a_long_nested_value_and_held_until_the_row_is_done() {
        let (budget, held) = (Budget::new(1 << 20, Pool::new(0, 1)), RefCell::default());
        let limits = Limits { row_bytes: 1 << 20, budget: budget.clone(), ..options().limits };
        let write = |length: usize| {
            move |max_bytes: usize, out: &mut Vec<u8>| {
                out.resize(length.min(max_bytes), b'1');
                if length > max_bytes { Err(CellError::new(RejectClass::RowSize, "too long")) } else { Ok(()) }
            }
        };
        nested(&limits, &held, write(FREE_ROW_BYTES)).expect("short");
        budget.reserve("another", 1 << 20).expect("nothing is held for a short one");
        nested(&limits, &held, write(FREE_ROW_BYTES + 1)).expect("long");
        budget.reserve("another", 1).expect_err("the long one takes it");
        assert!(nested(&limits, &RefCell::default(), write(FREE_ROW_BYTES + 1)).is_err(), "there is no room for two");
        held.take();
        budget.reserve("another", 1 << 20).expect("the row is done");
    }
}
