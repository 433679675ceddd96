//! From record batches to rows: the columns are typed once a batch, the cells made one by one.

use super::{
    column::Column,
    schema::{Meaning, Projection},
    usual::Usual,
};
use crate::{
    Batch, DecodeError, Limits,
    budget::Reservation,
    encode::{CellError, PgType, Value},
    named::{NamedRows, RowCells, nested},
    row::Short,
};
use arrow_array::RecordBatch;
use std::cell::RefCell;

/// Hands the rows of record batches on.
pub struct Rows {
    rows: NamedRows,
    /// The record batch's column, by root field.
    columns: Vec<Option<usize>>,
    /// By column of the table.
    types: Vec<PgType>,
    meanings: Vec<Meaning>,
    limits: Limits,
}

impl Rows {
    /// Returns what brings record batches of `projection`, of a file with `n_fields`, to rows; `types` are those of the
    /// table's columns.
    pub fn new(rows: NamedRows, n_fields: usize, types: Vec<PgType>, projection: &Projection, limits: Limits) -> Self {
        let mut columns = vec![None; n_fields];
        for (column, &root) in projection.roots.iter().enumerate() {
            columns[root] = Some(column);
        }
        Self { rows, columns, types, meanings: projection.meanings.clone(), limits }
    }

    /// Returns the number of columns of the mapping.
    pub fn n_columns(&self) -> usize {
        self.rows.n_columns()
    }

    /// Counts rows that no condition lets pass.
    pub fn leave_out(&mut self, n_rows: u64, batch: &mut Batch) {
        self.rows.encoder.leave_out(n_rows, batch);
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
        let columns: Option<Vec<_>> = records.columns().iter().map(|array| Column::new(array, &mut meanings)).collect();
        let n_columns = self.columns.iter().flatten().count();
        let Some(columns) = columns.filter(|columns| columns.len() == n_columns) else {
            return Err(DecodeError::Corrupt("columns are not of the types the schema says".into()));
        };
        let usual = self.rows.sources().iter().zip(&self.types).map(|(source, to)| {
            let column = source.and_then(|field| self.columns[field]);
            column.map_or_else(Usual::default, |column| Usual::new(&columns[column], to))
        });
        let usual: Vec<Usual<'_>> = usual.collect();
        let byte_columns: Vec<&Column<'_>> = columns.iter().filter(|column| column.is_bytes()).collect();
        let longest: usize = byte_columns.iter().map(|column| column.longest()).sum();
        let may_be_too_long = longest > self.limits.row_bytes;
        while row < records.num_rows() && batch.size() < batch_bytes {
            let cells = Cells {
                columns: &columns,
                by_field: &self.columns,
                usual: &usual,
                row,
                limits: &self.limits,
                held: RefCell::default(),
            };
            let n_bytes = if may_be_too_long { byte_columns.iter().map(|column| column.length(row)).sum() } else { 0 };
            if n_bytes > self.limits.row_bytes {
                self.rows.push_too_long(n_bytes, &cells, batch);
            } else {
                self.rows.push(&cells, batch);
            }
            row += 1;
        }
        Ok(row)
    }
}

/// One row of a record batch.
struct Cells<'r, 'b> {
    columns: &'r [Column<'b>],
    by_field: &'r [Option<usize>],
    /// By column of the table.
    usual: &'r [Usual<'b>],
    row: usize,
    limits: &'r Limits,
    /// For the long values among its cells.
    held: RefCell<Option<Reservation>>,
}

impl<'b> Cells<'_, 'b> {
    /// Returns a field's column; there is none for a group without members.
    fn column(&self, field: usize) -> Option<&Column<'b>> {
        self.by_field[field].map(|column| &self.columns[column])
    }
}

impl<'b> RowCells<'b> for Cells<'_, 'b> {
    #[inline]
    fn cell(&self, field: usize) -> Result<Value<'b>, CellError> {
        let Some(column) = self.column(field) else { return Ok(Value::Null) };
        if !column.is_nested() {
            return column.value(self.row);
        }
        if column.is_null(self.row) {
            return Ok(Value::Null);
        }
        nested(self.limits, &self.held, |max_bytes, text| column.write_json(self.row, max_bytes, text))
    }

    #[inline(always)]
    fn write_short(&self, column: usize, _field: usize, _to: &PgType, out: &mut Vec<u8>) -> Short {
        self.usual[column].write(self.row, out)
    }

    fn write_json(&self, field: usize, max_bytes: usize, out: &mut Vec<u8>) -> Result<(), CellError> {
        match self.column(field) {
            Some(column) => column.write_json(self.row, max_bytes, out),
            None => {
                out.extend_from_slice(b"null");
                Ok(())
            }
        }
    }

    fn write_instead(&self, field: usize, out: &mut Vec<u8>) {
        if let Some(column) = self.column(field) {
            column.write_bytes(self.row, out);
        }
    }
}
