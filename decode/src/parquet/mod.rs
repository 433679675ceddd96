//! Parquet: the needed columns by range reads, a page at a time.

mod column;
mod declared;
mod delta;
mod footer;
mod groups;
mod object;
mod old;
mod pages;
mod read_ahead;
mod rows;
mod schema;
mod statistics;
mod thrift;
mod usual;

use super::{
    Batch, Declared, DecodeError, Fields, Limits, Mapping, ReadOptions, RowReader, Slot, Source,
    budget::Reservation,
    calendar::Calendars,
    named::{NamedRows, quoted},
};
use arrow_array::RecordBatch;
use bytes::Bytes;
use footer::Footer;
use groups::{Next, RowGroups};
use object::Object;
use parquet::file::metadata::ParquetMetaData;
use rows::Rows;
use schema::Schema;
use std::{collections::BTreeSet, sync::Arc};

/// A list takes three levels of a schema, and its items more.
const SCHEMA_LEVELS_PER_DEPTH: usize = 3;

/// What a row counts at least against the file's length: rows of next to no bytes take time, too.
const ROW_BYTES: u64 = 32;

/// Opens a Parquet file.
///
/// # Errors
/// [`DecodeError::Corrupt`] when its footer is broken, [`DecodeError::Limits`] when that is too large.
pub fn open(source: Arc<dyn Source>, options: &ReadOptions) -> Result<Box<dyn RowReader>, DecodeError> {
    let limits = options.limits.clone();
    let object = Arc::new(Object::open(source, &limits.budget)?);
    let max_depth = limits.depth.saturating_mul(SCHEMA_LEVELS_PER_DEPTH).saturating_add(1);
    let Footer { metadata, bytes, encrypted, reserved } = footer::read(&object, max_depth, &limits.budget)?;
    let (schema, fields) = Schema::new(metadata.file_metadata().schema_descr(), &calendars(&metadata))?;
    Ok(Box::new(ParquetReader {
        fields: Fields::Named(fields),
        object,
        metadata: Arc::new(metadata),
        footer: bytes,
        encrypted,
        schema,
        limits,
        _metadata_bytes: reserved,
        state: None,
        output_bytes: 0,
    }))
}

/// Returns the calendars that the footer's key-value metadata tells.
fn calendars(metadata: &ParquetMetaData) -> Calendars {
    let entries = metadata.file_metadata().key_value_metadata();
    Calendars::of_metadata(|key| {
        let entry = entries?.iter().find(|entry| entry.key == key)?;
        Some(entry.value.as_deref().unwrap_or_default())
    })
}

struct ParquetReader {
    fields: Fields,
    object: Arc<Object>,
    metadata: Arc<ParquetMetaData>,
    footer: Bytes,
    encrypted: BTreeSet<usize>,
    schema: Schema,
    limits: Limits,
    _metadata_bytes: Reservation,
    state: Option<Result<State, DecodeError>>,
    output_bytes: u64,
}

/// What there is once the mapping is set.
struct State {
    groups: RowGroups,
    rows: Rows,
    /// The record batch in hand, and its next row.
    current: Option<(RecordBatch, usize)>,
}

impl RowReader for ParquetReader {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn declared(&self) -> Option<Vec<Declared>> {
        declared::declared(self.metadata.file_metadata().schema_descr()).ok()
    }

    fn set_mapping(&mut self, mapping: Arc<Mapping>) {
        self.state = Some(self.start(mapping));
    }

    fn fill(&mut self, batch: &mut Batch, batch_bytes: usize) -> Result<bool, DecodeError> {
        let state = match &mut self.state {
            Some(Ok(state)) => state,
            Some(Err(_)) => return Err(self.state.take().and_then(Result::err).unwrap_or_else(no_mapping)),
            None => return Err(no_mapping()),
        };
        let (start, rows_before) = (batch.size(), batch.n_read);
        let (rejects_before, nested_before) = (batch.rejects.len(), state.groups.nested_values());
        let more = state.fill(batch, batch_bytes)?;
        // Values take time, too, although a row's may come to nothing but its reject.
        let nested_values = state.groups.nested_values() - nested_before;
        self.output_bytes += (batch.size() - start) as u64
            + (batch.n_read - rows_before) * ROW_BYTES
            + nested_values
            + batch.too_long(rejects_before) * self.limits.row_bytes as u64;
        if self.output_bytes > self.limits.allowed_bytes(self.object.size()) {
            let problem = format!("{} bytes of rows in a file of {}", self.output_bytes, self.object.size());
            return Err(DecodeError::Limits(problem));
        }
        Ok(more)
    }

    fn seen_columns(&self) -> Vec<bool> {
        let n_columns =
            self.state.as_ref().and_then(|state| state.as_ref().ok()).map_or(0, |state| state.rows.n_columns());
        vec![true; n_columns]
    }
}

impl ParquetReader {
    fn start(&mut self, mapping: Arc<Mapping>) -> Result<State, DecodeError> {
        let Fields::Named(fields) = &self.fields else { return Err(no_mapping()) };
        let wanted: Vec<bool> = (0..fields.len()).map(|field| mapping.slot(field) != Slot::Ignored).collect();
        if let Some(field) = self.schema.first_of(&self.encrypted, &wanted) {
            let name = quoted(&fields[field].name);
            return Err(DecodeError::Corrupt(format!("field \"{name}\" is encrypted, which is not supported")));
        }
        let (object, metadata) = (Arc::clone(&self.object), Arc::clone(&self.metadata));
        let footer = std::mem::take(&mut self.footer);
        let without = statistics::without_matches(&footer, &metadata, &self.schema, &mapping);
        let groups = RowGroups::new(object, metadata, &self.schema, wanted, self.limits.buffer_bytes)?.without(without);
        let rows = NamedRows::new(&mapping, fields.iter().map(|field| field.name.as_str()), &self.limits);
        let types = mapping.all_columns().iter().map(|column| column.pg_type.clone()).collect();
        let rows = Rows::new(rows, fields.len(), types, groups.projection(), self.limits.clone());
        Ok(State { groups, rows, current: None })
    }
}

fn no_mapping() -> DecodeError {
    DecodeError::Schema("no mapping was set".into())
}

impl State {
    fn fill(&mut self, batch: &mut Batch, batch_bytes: usize) -> Result<bool, DecodeError> {
        while batch.size() < batch_bytes {
            if self.current.is_none() {
                self.current = match self.groups.next()? {
                    Next::Records(records) => Some((records, 0)),
                    Next::LeftOut(n_rows) => {
                        self.rows.leave_out(n_rows, batch);
                        continue;
                    }
                    Next::End => None,
                };
            }
            let Some((records, next)) = &mut self.current else { return Ok(false) };
            *next = self.rows.push(records, *next, batch, batch_bytes)?;
            if *next == records.num_rows() {
                self.current = None;
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
