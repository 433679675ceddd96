//! From a row's cells to a COPY tuple or a reject.

use super::mapping::Requirement;
use super::{Batch, Mapping, Reject, Unstaged};
use crate::encode::{CellError, DEFAULT_DEPTH, Value, encode_within};
use std::{borrow::Cow, sync::Arc};

/// A reject keeps this much of its row; the ledger's contract says 64 KiB.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// The encoded boolean field `true`, `false`.
const FLAGS: [[u8; 5]; 2] = [[0, 0, 0, 1, 0], [0, 0, 0, 1, 1]];

/// Numbers rows and writes them into batches.
pub struct RowEncoder {
    mapping: Arc<Mapping>,
    n_rows: u64,
    max_depth: usize,
    seen: Vec<bool>,
    absent: Vec<bool>,
}

impl RowEncoder {
    /// Returns an encoder whose first row is number 1.
    #[must_use]
    pub fn new(mapping: Arc<Mapping>) -> Self {
        let n_columns = mapping.columns().len();
        let seen = (0..n_columns).map(|column| mapping.is_captured(column)).collect();
        Self { mapping, n_rows: 0, max_depth: DEFAULT_DEPTH, seen, absent: vec![false; n_columns] }
    }

    /// Sets how deep JSON in a cell may nest ([`super::Limits::depth`]).
    #[must_use]
    pub fn with_depth(mut self, max_depth: usize) -> Self {
        self.max_depth = max_depth;
        self
    }

    /// Encodes one row; `cells[i]` belongs to `mapping.columns()[i]` (captured columns: whatever, they are constants).
    /// A cell that does not fit makes the row a reject with the payload given by `payload`.
    pub fn push<'p>(&mut self, cells: &[Value<'_>], batch: &mut Batch, payload: impl FnOnce() -> Cow<'p, [u8]>) {
        let encoded = self.tuple(batch, |encoder, column, out| {
            encoder.cell(column, cells.get(column).unwrap_or(&Value::Absent), out)
        });
        self.finish(encoded, batch, payload);
    }

    /// Encodes one row whose cells are made one by one, in the order of `mapping.columns()`; captured columns are not asked for.
    /// A cell that cannot be made is a reject like one that does not fit.
    pub fn push_with<'c, 'p>(
        &mut self,
        batch: &mut Batch,
        mut cell: impl FnMut(usize) -> Result<Value<'c>, CellError>,
        payload: impl FnOnce() -> Cow<'p, [u8]>,
    ) {
        let encoded = self.tuple(batch, |encoder, column, out| encoder.cell(column, &cell(column)?, out));
        self.finish(encoded, batch, payload);
    }

    /// Records a row that could not even be taken apart. `payload_length` is the true length, `payload` may already be cut.
    pub fn reject(
        &mut self,
        class: &'static str,
        message: String,
        payload: &[u8],
        payload_length: u64,
        batch: &mut Batch,
    ) {
        self.record(class, None, message, payload, payload_length, batch);
    }

    /// Returns how many rows there were so far, rejects included.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// Returns for each of `mapping.columns()` whether any row had a cell for it, be it null.
    #[must_use]
    pub fn seen_columns(&self) -> &[bool] {
        &self.seen
    }

    /// Writes a tuple; on error the batch is as it was, and the column that refused is named.
    fn tuple(
        &mut self,
        batch: &mut Batch,
        mut write: impl FnMut(&mut Self, usize, &mut Vec<u8>) -> Result<(), CellError>,
    ) -> Result<(), (usize, CellError)> {
        let mapping = Arc::clone(&self.mapping);
        let n_columns = mapping.columns().len();
        let n_fields = 1 + n_columns + mapping.absent_flags().len();
        let out = &mut batch.data;
        let start = out.len();
        out.extend_from_slice(&(n_fields as u16).to_be_bytes());
        out.extend_from_slice(&8i32.to_be_bytes());
        out.extend_from_slice(&(self.n_rows + 1).to_be_bytes());
        for column in 0..n_columns {
            if let Some(constant) = mapping.constant(column) {
                out.extend_from_slice(constant);
                continue;
            }
            if let Err(error) = write(self, column, out) {
                out.truncate(start);
                return Err((column, error));
            }
        }
        for column in mapping.absent_flags() {
            out.extend_from_slice(&FLAGS[usize::from(self.absent[*column])]);
        }
        batch.ends.push(out.len());
        Ok(())
    }

    #[inline]
    fn cell(&mut self, column: usize, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
        let is_absent = matches!(value, Value::Absent);
        self.absent[column] = is_absent;
        self.seen[column] |= !is_absent;
        let start = out.len();
        let target = &self.mapping.columns()[column];
        encode_within(value, &target.pg_type, self.max_depth, out)?;
        let required = match self.mapping.requirement(column) {
            Requirement::Nullable => false,
            Requirement::NotNull => !(is_absent && target.has_default),
            Requirement::Key => true,
        };
        // Asked of the field, not of the value: a JSON null is one only once it is encoded.
        if required && out[start..].starts_with(&[0xFF; 4]) {
            let message = if is_absent { "the row does not have this field" } else { "NULL is not allowed here" };
            return Err(CellError::new("not_null", message));
        }
        Ok(())
    }

    fn finish<'p>(
        &mut self,
        encoded: Result<(), (usize, CellError)>,
        batch: &mut Batch,
        payload: impl FnOnce() -> Cow<'p, [u8]>,
    ) {
        match encoded {
            Ok(()) => {
                if let Some(Unstaged { class, column, message }) = self.mapping.unstaged(self.n_rows + 1).cloned() {
                    batch.ends.pop();
                    batch.data.truncate(batch.ends.last().copied().unwrap_or(0));
                    let payload = payload();
                    return self.record(class, column, message, &payload, payload.len() as u64, batch);
                }
                self.n_rows += 1;
                batch.n_read += 1;
            }
            Err((column, error)) => {
                let payload = payload();
                let name = self.mapping.columns()[column].name.clone();
                self.record(error.class, Some(name), error.message, &payload, payload.len() as u64, batch);
            }
        }
    }

    fn record(
        &mut self,
        class: &'static str,
        column: Option<String>,
        message: String,
        payload: &[u8],
        payload_length: u64,
        batch: &mut Batch,
    ) {
        self.n_rows += 1;
        batch.n_read += 1;
        let payload = payload[..payload.len().min(MAX_PAYLOAD_BYTES)].to_vec();
        batch.reject_bytes += payload.len() + message.len() + size_of::<Reject>();
        batch.rejects.push(Reject { row_number: self.n_rows, class, column, message, payload, payload_length });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Column, Fields, MappingSpec, OnNewField};
    use crate::encode::PgType;
    use std::collections::BTreeMap;

    fn columns() -> Vec<Column> {
        let column =
            |name: &str, pg_type, not_null, has_default| Column { name: name.into(), pg_type, not_null, has_default };
        vec![
            column("id", PgType::Int4, false, true),
            column("name", PgType::Text(None), true, false),
            column("state", PgType::Text(None), true, true),
            column("dt", PgType::Date, false, false),
        ]
    }

    fn encoder() -> RowEncoder {
        let columns = columns();
        let spec = MappingSpec {
            columns: &columns,
            rename: &BTreeMap::new(),
            captures: &[("dt".into(), Some("2000-01-02".into()))],
            on_new_field: OnNewField::Ignore,
            extras_column: None,
            key: &["id".into()],
        };
        RowEncoder::new(Arc::new(Mapping::new(&Fields::Open, &spec).expect("a mapping")))
    }

    fn push(encoder: &mut RowEncoder, cells: &[Value<'_>], batch: &mut Batch) {
        encoder.push(cells, batch, || b"the row".into());
    }

    #[test]
    fn a_cleared_batch_has_room_again_although_its_rows_were_rejects() {
        let (mut encoder, mut batch) = (encoder(), Batch::default());
        encoder.reject("syntax", "no".into(), b"the row", 7, &mut batch);
        assert!(batch.size() > 0);
        batch.clear();
        assert_eq!(batch.size(), 0);
    }

    #[test]
    fn a_tuple_has_row_number_columns_constants_and_flags() {
        let (mut encoder, mut batch) = (encoder(), Batch::default());
        let cells = [Value::Int(7), Value::Text("x".into()), Value::Absent, Value::Int(99)];
        push(&mut encoder, &cells, &mut batch);
        let expected: Vec<u8> = [
            &[0, 7][..],
            &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0, 0, 0, 4, 0, 0, 0, 7],
            &[0, 0, 0, 1, b'x'],
            &[255, 255, 255, 255],
            &[0, 0, 0, 4, 0, 0, 0, 1],
            &[0, 0, 0, 1, 0],
            &[0, 0, 0, 1, 1],
        ]
        .concat();
        assert_eq!(batch.data, expected);
        assert_eq!(batch.ends, [expected.len()]);
        assert_eq!(batch.rejects, []);
        assert_eq!(encoder.seen_columns(), [true, true, false, true]);
    }

    #[test]
    fn a_reject_leaves_its_neighbours_and_its_number() {
        let (mut encoder, mut batch) = (encoder(), Batch::default());
        let good = [Value::Int(1), Value::Text("x".into()), Value::Absent];
        let bad = [Value::Int(1), Value::Text("a\0".into()), Value::Absent];
        push(&mut encoder, &good, &mut batch);
        let length = batch.data.len();
        push(&mut encoder, &bad, &mut batch);
        encoder.reject("syntax", "torn".into(), b"to", 70_000, &mut batch);
        push(&mut encoder, &good, &mut batch);
        assert_eq!(batch.ends, [length, 2 * length]);
        assert_eq!(batch.data[length..][6..14], 4u64.to_be_bytes());
        assert_eq!((batch.n_read, encoder.n_rows()), (4, 4));
        let seen: Vec<_> = batch
            .rejects
            .iter()
            .map(|r| (r.row_number, r.class, r.column.as_deref(), r.payload.as_slice(), r.payload_length))
            .collect();
        assert_eq!(seen, [(2, "text", Some("name"), &b"the row"[..], 7), (3, "syntax", None, b"to", 70_000)]);
    }

    #[test]
    fn a_row_that_the_database_will_not_take_is_a_reject_with_what_it_was() {
        let (encoder, mut batch) = (encoder(), Batch::default());
        let why = Unstaged { class: "text", column: Some("name".into()), message: "no such character".into() };
        let mapping = Arc::into_inner(encoder.mapping).expect("the only one").without([(2, why)].into());
        let mut encoder = RowEncoder::new(Arc::new(mapping));
        for _ in 0..3 {
            push(&mut encoder, &[Value::Int(1), Value::Text("x".into()), Value::Absent], &mut batch);
        }
        assert_eq!((batch.ends.len(), batch.n_read, encoder.n_rows()), (2, 3, 3));
        assert_eq!(batch.data.len(), batch.ends[1]);
        let reject = &batch.rejects[0];
        assert_eq!((reject.row_number, reject.class, reject.payload.as_slice()), (2, "text", &b"the row"[..]));
        assert_eq!(reject.column.as_deref(), Some("name"));
    }

    #[test]
    fn null_is_refused_in_keys_and_where_no_default_stands_in() {
        let class = |cells: &[Value<'_>]| {
            let (mut encoder, mut batch) = (encoder(), Batch::default());
            push(&mut encoder, cells, &mut batch);
            batch.rejects.pop().map(|reject| (reject.class, reject.column.unwrap_or_default()))
        };
        let (id, name) = (Value::Int(1), Value::Text("x".into()));
        let refused = |column: &str| Some(("not_null", column.to_owned()));
        assert_eq!(class(&[Value::Absent, name.clone()]), refused("id"));
        assert_eq!(class(&[Value::Null, name.clone()]), refused("id"));
        assert_eq!(class(&[id.clone(), Value::Absent]), refused("name"));
        assert_eq!(class(&[id.clone(), Value::Json("null".into())]), refused("name"));
        assert_eq!(class(&[id.clone(), name.clone(), Value::Null]), refused("state"));
        assert_eq!(class(&[id, name, Value::Absent]), None);
    }

    #[test]
    fn a_payload_is_cut_and_keeps_its_true_length() {
        let (mut encoder, mut batch) = (encoder(), Batch::default());
        encoder.push(&[], &mut batch, || vec![b'x'; 100_000].into());
        let reject = &batch.rejects[0];
        assert_eq!((reject.payload.len(), reject.payload_length), (MAX_PAYLOAD_BYTES, 100_000));
        assert!(batch.size() >= MAX_PAYLOAD_BYTES);
        assert!(batch.data.is_empty());
    }
}
