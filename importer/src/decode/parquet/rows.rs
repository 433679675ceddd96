//! From record batches to rows: the columns are typed once a batch, the cells made one by one.

use super::{
    column::Column,
    schema::{Meaning, Projection},
};
use crate::{
    decode::{Batch, DecodeError, Mapping, RowEncoder, Slot},
    encode::{CellError, Value, write_string},
};
use arrow_array::RecordBatch;
use std::borrow::Cow;

/// Hands the rows of record batches to the encoder.
pub struct Rows {
    encoder: RowEncoder,
    /// The record batch's column, by column of the mapping.
    sources: Vec<Option<usize>>,
    /// The record batch's columns that become extras, and the mapping's column that takes them.
    extras: Option<(usize, Vec<usize>)>,
    /// Set when every row is to be rejected: the field that no column takes.
    refused: Option<String>,
    /// Names of the record batch's columns, as JSON strings.
    names: Vec<Vec<u8>>,
    meanings: Vec<Meaning>,
    max_bytes: usize,
}

impl Rows {
    /// Returns what brings record batches of `projection` to rows; `slots` and `names` are those of the root fields.
    pub fn new<'a>(
        encoder: RowEncoder,
        mapping: &Mapping,
        names: impl Iterator<Item = &'a str>,
        slots: &[Slot],
        projection: &Projection,
        max_bytes: usize,
    ) -> Self {
        let names: Vec<&str> = names.collect();
        let mut sources = vec![None; mapping.columns().len()];
        let mut extras = Vec::new();
        for (index, &root) in projection.roots.iter().enumerate() {
            match slots[root] {
                Slot::Column(column) => sources[column] = Some(index),
                Slot::Extras => extras.push(index),
                Slot::Ignored | Slot::Reject => {}
            }
        }
        let json_name = |&root: &usize| {
            let mut name = Vec::new();
            write_string(names[root], &mut name);
            name
        };
        let refused = slots.iter().position(|slot| *slot == Slot::Reject);
        Self {
            encoder,
            sources,
            extras: mapping.extras().map(|column| (column, extras)),
            refused: refused.map(|root| format!("no column takes field \"{}\"", names[root])),
            names: projection.roots.iter().map(json_name).collect(),
            meanings: projection.meanings.clone(),
            max_bytes,
        }
    }

    /// Adds rows of `records` from `row` on until the batch is full; returns the next row.
    pub fn push(
        &mut self,
        records: &RecordBatch,
        mut row: usize,
        batch: &mut Batch,
        batch_bytes: usize,
    ) -> Result<usize, DecodeError> {
        let mut meanings = self.meanings.iter().copied();
        let columns: Option<Vec<Column<'_>>> =
            records.columns().iter().map(|array| Column::new(array, &mut meanings)).collect();
        let Some(columns) = columns.filter(|columns| columns.len() == self.names.len()) else {
            return Err(DecodeError::Corrupt("columns are not of the types the schema says".into()));
        };
        let Self { encoder, sources, extras, refused, names, max_bytes, .. } = self;
        let max_bytes = *max_bytes;
        let byte_columns: Vec<&Column<'_>> = columns.iter().filter(|column| column.is_bytes()).collect();
        while row < records.num_rows() && batch.size() < batch_bytes {
            let payload = || payload(&columns, names, row, max_bytes);
            if let Some(message) = refused {
                let payload = payload();
                encoder.reject("new_field", message.clone(), &payload, payload.len() as u64, batch);
                row += 1;
                continue;
            }
            let n_bytes: usize = byte_columns.iter().map(|column| column.length(row)).sum();
            if n_bytes > max_bytes {
                let payload = payload();
                encoder.reject("row_size", format!("row of {n_bytes} bytes"), &payload, n_bytes as u64, batch);
                row += 1;
                continue;
            }
            let cell = |target: usize| match sources[target] {
                Some(source) if columns[source].is_nested() => nested(&columns[source], row, max_bytes),
                Some(source) => columns[source].value(row),
                None => match extras {
                    Some((column, members)) if *column == target => object(&columns, names, members, row, max_bytes),
                    _ => Ok(Value::Absent),
                },
            };
            encoder.push_with(batch, cell, || Cow::Owned(payload()));
            row += 1;
        }
        Ok(row)
    }
}

fn nested<'v>(column: &Column<'_>, row: usize, max_bytes: usize) -> Result<Value<'v>, CellError> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    let mut text = Vec::new();
    column.write_json(row, max_bytes, &mut text)?;
    json(text)
}

/// Returns the object of the given columns' cells.
fn object<'v>(
    columns: &[Column<'_>],
    names: &[Vec<u8>],
    members: &[usize],
    row: usize,
    max_bytes: usize,
) -> Result<Value<'v>, CellError> {
    let mut text = Vec::new();
    for &member in members {
        start_member(&names[member], &mut text);
        columns[member].write_json(row, max_bytes, &mut text)?;
    }
    text.push(b'}');
    json(text)
}

fn json<'v>(text: Vec<u8>) -> Result<Value<'v>, CellError> {
    let text = String::from_utf8(text).map_err(|_| CellError::new("text", "not valid UTF-8"))?;
    Ok(Value::Json(Cow::Owned(text)))
}

fn start_member(name: &[u8], out: &mut Vec<u8>) {
    out.push(if out.is_empty() { b'{' } else { b',' });
    out.extend_from_slice(name);
    out.push(b':');
}

/// Returns a row as JSON for its reject; cells without a JSON form become the bytes they are.
fn payload(columns: &[Column<'_>], names: &[Vec<u8>], row: usize, max_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (column, name) in columns.iter().zip(names) {
        start_member(name, &mut out);
        let start = out.len();
        if column.write_json(row, max_bytes, &mut out).is_err() {
            out.truncate(start);
            column.write_bytes(row, &mut out);
        }
    }
    out.push(b'}');
    out
}
