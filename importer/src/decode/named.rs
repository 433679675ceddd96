//! Rows of formats with a schema: every row has the same fields.

use super::{Batch, Mapping, RowEncoder, Slot};
use crate::encode::{CellError, Value, write_string};
use std::{borrow::Cow, sync::Arc};

/// The cells of one row, by field.
pub trait RowCells<'c> {
    /// Returns a cell.
    fn cell(&self, field: usize) -> Result<Value<'c>, CellError>;
    /// Appends a cell as JSON.
    fn write_json(&self, field: usize, out: &mut Vec<u8>) -> Result<(), CellError>;
    /// Appends what stands for a cell that has no JSON form.
    fn write_instead(&self, field: usize, out: &mut Vec<u8>);
}

/// Hands rows to the encoder.
pub struct NamedRows {
    encoder: RowEncoder,
    /// The field, by column of the mapping.
    sources: Vec<Option<usize>>,
    /// The column that takes the extras object, and the fields in it.
    extras: Option<(usize, Vec<usize>)>,
    /// Set when every row is to be rejected: what says which field no column takes.
    refused: Option<String>,
    /// The fields that are read, and their names as JSON strings.
    fields: Vec<(usize, Vec<u8>)>,
}

impl NamedRows {
    /// Returns what brings rows with fields of these names to the mapping's columns.
    pub fn new<'a>(mapping: &Arc<Mapping>, names: impl Iterator<Item = &'a str>, max_depth: usize) -> Self {
        let mut sources = vec![None; mapping.columns().len()];
        let mut extras = Vec::new();
        let mut refused = None;
        let mut fields = Vec::new();
        for (field, name) in names.enumerate() {
            match mapping.slot(field) {
                Slot::Ignored => continue,
                Slot::Column(column) => sources[column] = Some(field),
                Slot::Extras => extras.push(field),
                Slot::Reject => refused = refused.or_else(|| Some(format!("no column takes field \"{name}\""))),
            }
            let mut json = Vec::new();
            write_string(name, &mut json);
            fields.push((field, json));
        }
        Self {
            encoder: RowEncoder::new(Arc::clone(mapping)).with_depth(max_depth),
            sources,
            extras: mapping.extras().map(|column| (column, extras)),
            refused,
            fields,
        }
    }

    /// Returns the number of columns of the mapping.
    pub fn n_columns(&self) -> usize {
        self.sources.len()
    }

    /// Adds a row to the batch: as a tuple or as a reject.
    #[inline]
    pub fn push<'c>(&mut self, row: &impl RowCells<'c>, batch: &mut Batch) {
        if let Some(message) = &self.refused {
            let refusal = CellError::new("new_field", message);
            return self.reject(refusal, row, None, batch);
        }
        let Self { encoder, sources, extras, fields, .. } = self;
        let cell = |column: usize| match (sources[column], &extras) {
            (Some(field), _) => row.cell(field),
            (None, Some((extras_column, members))) if *extras_column == column => object(row, fields, members),
            (None, _) => Ok(Value::Absent),
        };
        encoder.push_with(batch, cell, || Cow::Owned(payload(row, fields)));
    }

    /// Adds a row that is a reject whatever its cells; `length` is its true one where the payload's is not.
    #[cold]
    pub fn reject<'c>(&mut self, refusal: CellError, row: &impl RowCells<'c>, length: Option<u64>, batch: &mut Batch) {
        let payload = payload(row, &self.fields);
        let length = length.unwrap_or(0).max(payload.len() as u64);
        self.encoder.reject(refusal.class, refusal.message, &payload, length, batch);
    }
}

/// Returns the object of the extras; the names come with all fields that are read.
fn object<'c>(row: &impl RowCells<'c>, fields: &[(usize, Vec<u8>)], members: &[usize]) -> Result<Value<'c>, CellError> {
    let mut text = Vec::new();
    for (field, name) in fields.iter().filter(|(field, _)| members.contains(field)) {
        start_member(name, &mut text);
        row.write_json(*field, &mut text)?;
    }
    text.push(b'}');
    json(text)
}

/// Returns JSON text as a cell.
pub fn json<'c>(text: Vec<u8>) -> Result<Value<'c>, CellError> {
    let text = String::from_utf8(text).map_err(|_| CellError::new("text", "not valid UTF-8"))?;
    Ok(Value::Json(Cow::Owned(text)))
}

fn start_member(name: &[u8], out: &mut Vec<u8>) {
    out.push(if out.is_empty() { b'{' } else { b',' });
    out.extend_from_slice(name);
    out.push(b':');
}

/// Returns a row as JSON for its reject.
fn payload<'c>(row: &impl RowCells<'c>, fields: &[(usize, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (field, name) in fields {
        start_member(name, &mut out);
        let start = out.len();
        if row.write_json(*field, &mut out).is_err() {
            out.truncate(start);
            row.write_instead(*field, &mut out);
        }
    }
    if out.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
    out
}
