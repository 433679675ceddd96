//! Avro object container files.

mod container;
mod datum;
mod declared;
mod schema;

use super::{
    Batch, Declared, DecodeError, Field, Fields, Limits, Mapping, ReadOptions, RowReader,
    budget::Reservation,
    calendar::Calendar,
    named::{NamedRows, RowCells, nested},
};
use crate::encode::{CellError, RejectClass, Value};
use container::Container;
use datum::{Input, Reader, StepError, Stepper};
use schema::{MAX_NAME_BYTES, Schema, SchemaError, Type};
use std::{cell::RefCell, io, sync::Arc};

/// Memory for the schema's text while it is brought into form: JSON's objects take many times their text.
const SCHEMA_FACTOR: usize = 96;
/// Memory for a schema's text afterwards, and for each of its fields in the mapping and around it.
const KEPT_SCHEMA_FACTOR: usize = 8;
const FIELD_BYTES: usize = 2048;
/// Rows that may take no bytes at all before they are counted against the file's length.
const FREE_ROWS: u64 = 1_000_000;

/// Opens an Avro file.
///
/// # Errors
/// [`DecodeError::Corrupt`] when its header is broken, [`DecodeError::Schema`] when it is not of records.
pub fn open(input: Box<dyn io::BufRead + Send>, options: &ReadOptions) -> Result<Box<dyn RowReader>, DecodeError> {
    let (container, schema, calendar) = Container::open(input, &options.limits.budget)?;
    let text_bytes = schema.len();
    let mut reserved = options.limits.budget.reserve("the Avro schema", text_bytes * SCHEMA_FACTOR)?;
    let schema = Schema::parse(&schema).map_err(|error| match error {
        SchemaError::Broken(problem) => DecodeError::Corrupt(format!("Avro: {problem}")),
        SchemaError::LongName(length) => {
            DecodeError::Limits(format!("a name of {length} bytes in an Avro schema, {MAX_NAME_BYTES} are allowed"))
        }
        SchemaError::NoRecord => DecodeError::Schema("the Avro file's values are not records".into()),
    })?;
    let kept = text_bytes * KEPT_SCHEMA_FACTOR + schema.fields.len() * FIELD_BYTES;
    reserved.shrink_to(kept);
    if let Some(more) = kept.checked_sub(text_bytes * SCHEMA_FACTOR) {
        reserved.grow("the Avro schema", more)?;
    }
    let fields = schema.fields.iter();
    let fields = fields.map(|(name, field)| Field { name: name.clone(), nested: schema.is_nested(field) }).collect();
    Ok(Box::new(AvroReader {
        fields: Fields::Named(fields),
        _schema_bytes: reserved,
        container,
        schema,
        calendar,
        limits: options.limits.clone(),
        rows: None,
        block: Vec::new(),
        at: 0,
        rows_left: 0,
        n_rows: 0,
        output_bytes: 0,
        stepped: 0,
    }))
}

struct AvroReader {
    fields: Fields,
    _schema_bytes: Reservation,
    container: Container,
    schema: Schema,
    calendar: Calendar,
    limits: Limits,
    rows: Option<NamedRows>,
    /// The block in hand, how far it is read, and the rows left in it.
    block: Vec<u8>,
    at: usize,
    rows_left: u64,
    n_rows: u64,
    output_bytes: u64,
    /// Unpacked bytes that were read, or values where those are more: they may take no bytes.
    stepped: u64,
}

impl RowReader for AvroReader {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn declared(&self) -> Option<Vec<Declared>> {
        Some(self.schema.fields.iter().map(|(_, field)| declared::declared(&self.schema, field)).collect())
    }

    fn set_mapping(&mut self, mapping: Arc<Mapping>) {
        let names = self.schema.fields.iter().map(|(name, _)| name.as_str());
        self.rows = Some(NamedRows::new(&mapping, names, &self.limits));
    }

    fn fill(&mut self, batch: &mut Batch, batch_bytes: usize) -> Result<bool, DecodeError> {
        while batch.size() < batch_bytes {
            if self.rows_left == 0 {
                if self.at < self.block.len() {
                    return Err(DecodeError::Corrupt("Avro: a block has more bytes than rows".into()));
                }
                let Some(n_rows) = self.container.next_block(&mut self.block)? else { return Ok(false) };
                self.n_rows = self.n_rows.saturating_add(n_rows);
                let allowed = self.container.n_bytes.saturating_mul(self.limits.expansion_ratio).max(FREE_ROWS);
                if self.n_rows > allowed {
                    let (n_rows, n_bytes) = (self.n_rows, self.container.n_bytes);
                    return Err(DecodeError::Limits(format!("{n_rows} rows in {n_bytes} bytes of Avro")));
                }
                (self.at, self.rows_left) = (0, n_rows);
                continue;
            }
            let (start, rejects_before) = (batch.size(), batch.rejects.len());
            self.push_rows(batch, batch_bytes)?;
            self.output_bytes +=
                (batch.size() - start) as u64 + batch.too_long(rejects_before) * self.limits.row_bytes as u64;
            if self.output_bytes > self.limits.allowed_bytes(self.container.n_bytes) {
                let problem = format!("{} bytes of rows in {} of Avro", self.output_bytes, self.container.n_bytes);
                return Err(DecodeError::Limits(problem));
            }
        }
        Ok(true)
    }

    fn seen_columns(&self) -> Vec<bool> {
        vec![true; self.rows.as_ref().map_or(0, NamedRows::n_columns)]
    }
}

impl AvroReader {
    /// Adds rows of the block in hand until it ends or the batch is full.
    fn push_rows(&mut self, batch: &mut Batch, batch_bytes: usize) -> Result<(), DecodeError> {
        let allowed = self.limits.allowed_bytes(self.container.n_bytes);
        let Some(rows) = &mut self.rows else { return Err(DecodeError::Schema("no mapping was set".into())) };
        let max_bytes = self.limits.row_bytes;
        let reader = Reader { schema: &self.schema, calendar: self.calendar, max_bytes, max_depth: self.limits.depth };
        let held = RefCell::default();
        let mut cells = Cells { reader, limits: &self.limits, held, types: Vec::new(), inputs: Vec::new() };
        cells.types.extend(self.schema.fields.iter().map(|(_, field)| field));
        let mut input = Input::new(&self.block[self.at..]);
        while self.rows_left > 0 && batch.size() < batch_bytes {
            let before = input.left();
            let mut stepper = Stepper::new(&self.schema, max_bytes as u64);
            cells.inputs.clear();
            cells.held.take();
            for &field in &cells.types {
                cells.inputs.push(input);
                stepper.step(field, &mut input).map_err(|error| match error {
                    StepError::Corrupt(problem) => DecodeError::Corrupt(format!("Avro: {problem}")),
                    StepError::TooMany => DecodeError::Limits(format!("an Avro row of more than {max_bytes} values")),
                })?;
            }
            let n_bytes = before - input.left();
            // Stepping over them takes time, whether or not a column takes them.
            self.stepped = self.stepped.saturating_add((max_bytes as u64 - stepper.left).max(n_bytes as u64));
            if self.stepped > allowed {
                let problem = format!("{} bytes or values in {} of Avro", self.stepped, self.container.n_bytes);
                return Err(DecodeError::Limits(problem));
            }
            if n_bytes > max_bytes {
                let refusal = CellError::new(RejectClass::RowSize, format!("row of {n_bytes} bytes"));
                rows.reject(refusal, &cells, Some(n_bytes as u64), batch);
            } else if stepper.depth > self.limits.depth {
                rows.reject(CellError::new(RejectClass::Depth, "nested too deep"), &cells, Some(n_bytes as u64), batch);
            } else {
                rows.push(&cells, batch);
            }
            self.rows_left -= 1;
        }
        self.at = self.block.len() - input.left();
        Ok(())
    }
}

/// One row: where each field starts.
struct Cells<'s, 'b> {
    reader: Reader<'s>,
    limits: &'s Limits,
    /// For the long values among its cells.
    held: RefCell<Option<Reservation>>,
    types: Vec<&'s Type>,
    inputs: Vec<Input<'b>>,
}

impl<'b> RowCells<'b> for Cells<'_, 'b> {
    #[inline]
    fn cell(&self, field: usize) -> Result<Value<'b>, CellError> {
        let (of, input) = (self.types[field], self.inputs[field]);
        match self.reader.cell(of, input)? {
            Some(value) => Ok(value),
            None => nested(self.limits, &self.held, |max_bytes, text| {
                let reader = Reader { max_bytes, ..self.reader };
                reader.write_json(of, &mut { input }, reader.max_depth, text)
            }),
        }
    }

    fn write_json(&self, field: usize, max_bytes: usize, out: &mut Vec<u8>) -> Result<(), CellError> {
        let mut input = self.inputs[field];
        let reader = Reader { max_bytes, ..self.reader };
        reader.write_json(self.types[field], &mut input, reader.max_depth, out)
    }
}

#[cfg(test)]
mod tests;
