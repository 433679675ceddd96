//! From a row's cells to a COPY tuple or a reject.

use super::budget::{Budget, Reservation};
use super::mapping::Requirement;
use super::{Batch, DecodeError, Limits, Mapping, Reject, Unstaged};
use crate::encode::{CellError, DEFAULT_DEPTH, PgType, RejectClass, Value, encode_within};
use std::{borrow::Cow, sync::Arc};

/// A reject keeps this much of its row.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// A row up to this length is part of the memory for rows; a longer one is reserved by itself.
pub const FREE_ROW_BYTES: usize = 256 * 1024;
/// How often an encoded row is in memory at most: handed from one holder to the next, or with a copy on its way out.
const COPIES: usize = 2;
/// What an array's element of two bytes takes, as a multiple: a digit becomes a numeric of fourteen bytes.
const ARRAY_FACTOR: usize = 7;
/// What comes before an array's elements: its type, and six dimensions at most.
const ARRAY_HEADER_BYTES: usize = 64;

/// What a reject takes beside its texts: itself, in a list that grows by doubling, and what the allocator adds to each
/// of its three texts.
const REJECT_BYTES: usize = 2 * size_of::<Reject>() + 3 * 32;

/// The encoded boolean field `true`, `false`.
const FLAGS: [[u8; 5]; 2] = [[0, 0, 0, 1, 0], [0, 0, 0, 1, 1]];

/// Numbers rows and writes them into batches.
pub struct RowEncoder {
    mapping: Arc<Mapping>,
    n_rows: u64,
    max_depth: usize,
    seen: Vec<bool>,
    absent: Vec<bool>,
    budget: Budget,
    /// Where the row in hand begins.
    start: usize,
    /// For the row in hand, once it is long.
    reserved: Option<Reservation>,
}

impl RowEncoder {
    /// Returns an encoder whose first row is number 1.
    #[must_use]
    pub fn new(mapping: Arc<Mapping>) -> Self {
        let n_columns = mapping.all_columns().len();
        let seen = (0..n_columns).map(|column| mapping.is_captured(column)).collect();
        Self {
            mapping,
            n_rows: 0,
            max_depth: DEFAULT_DEPTH,
            seen,
            absent: vec![false; n_columns],
            budget: Budget::default(),
            start: 0,
            reserved: None,
        }
    }

    /// Sets how deep JSON in a cell may nest, and what memory for long rows is reserved from.
    #[must_use]
    pub fn with_limits(mut self, limits: &Limits) -> Self {
        self.max_depth = limits.depth;
        self.budget = limits.budget.clone();
        self
    }

    /// Encodes one row; `cells[i]` belongs to `mapping.columns()[i]` (captured columns: whatever, they are constants).
    /// A cell that does not fit makes the row a reject with the payload given by `payload`.
    pub fn push<'p>(&mut self, cells: &[Value<'_>], batch: &mut Batch, payload: impl FnOnce() -> Cow<'p, [u8]>) {
        self.push_with(batch, |column| Ok(cells.get(column).cloned().unwrap_or(Value::Absent)), payload);
    }

    /// Encodes one row whose cells are made one by one: those of conditions, then all in the order of `mapping.columns()`;
    /// captured columns are not asked for. A cell that cannot be made is a reject like one that does not fit.
    pub fn push_with<'c, 'p>(
        &mut self,
        batch: &mut Batch,
        mut cell: impl FnMut(usize) -> Result<Value<'c>, CellError>,
        payload: impl FnOnce() -> Cow<'p, [u8]>,
    ) {
        let encoded = match self.asked(batch, &mut cell) {
            Ok(true) => self.tuple(batch, |encoder, column, out| encoder.cell(column, &cell(column)?, out)),
            Ok(false) => return self.leave_out(1, batch),
            Err(error) => Err(error),
        };
        self.finish(encoded, batch, payload);
    }

    /// Counts rows that are read and left out.
    pub fn leave_out(&mut self, n_rows: u64, batch: &mut Batch) {
        self.n_rows += n_rows;
        batch.n_read += n_rows;
        batch.n_filtered += n_rows;
    }

    /// Notes for which columns a row has a cell that was not encoded.
    pub fn note_seen(&mut self, has: impl Fn(usize) -> bool) {
        self.seen.iter_mut().enumerate().for_each(|(column, seen)| *seen |= has(column));
    }

    /// Returns whether a row passes the mapping's conditions, as far as its cells can be read. One that does not pass is
    /// enough, whatever the others are.
    ///
    /// # Errors
    /// Where a cell cannot be read, and nothing else drops the row: the column, and why.
    pub fn asked<'c>(
        &mut self,
        batch: &mut Batch,
        cell: &mut impl FnMut(usize) -> Result<Value<'c>, CellError>,
    ) -> Result<bool, (usize, CellError)> {
        if self.mapping.conditions().is_empty() {
            return Ok(true);
        }
        let mapping = Arc::clone(&self.mapping);
        let mut unread = None;
        let out = &mut batch.data;
        self.start = out.len();
        for asked in mapping.conditions() {
            let passes = match asked.column.map(|column| (column, mapping.constant(column))) {
                None => asked.test.null || asked.passes_absent,
                Some((_, Some(constant))) => asked.test.takes(constant),
                Some((column, None)) => {
                    let read = cell(column).and_then(|value| {
                        self.field(column, &value, out)?;
                        Ok(asked.passes_absent && value == Value::Absent || asked.test.takes(&out[self.start..]))
                    });
                    out.truncate(self.start);
                    if self.reserved.take().is_some() {
                        out.shrink_to(self.start);
                    }
                    read.unwrap_or_else(|error| {
                        unread.get_or_insert((column, error));
                        true
                    })
                }
            };
            if !passes {
                return Ok(false);
            }
        }
        unread.map_or(Ok(true), Err)
    }

    /// Records a row that could not even be taken apart. `payload_length` is the true length, `payload` may already be cut.
    pub fn reject(&mut self, why: CellError, payload: &[u8], payload_length: u64, batch: &mut Batch) {
        self.record(why, None, payload, payload_length, batch);
    }

    /// Sets the number of the next row, which is at least 1.
    pub fn number_next(&mut self, row_number: u64) {
        self.n_rows = row_number - 1;
    }

    /// Returns how many rows there were so far, rejects included.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// Returns for each of `mapping.columns()` whether any row had a cell for it, be it null.
    #[must_use]
    pub fn seen_columns(&self) -> &[bool] {
        &self.seen[..self.mapping.columns().len()]
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
        self.start = start;
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
                if self.reserved.take().is_some() {
                    out.shrink_to(start);
                }
                return Err((column, error));
            }
        }
        for column in mapping.absent_flags() {
            out.extend_from_slice(&FLAGS[usize::from(self.absent[*column])]);
        }
        if let Some(reserved) = self.reserved.take() {
            batch.long_rows.push((batch.ends.len(), reserved));
        }
        batch.ends.push(out.len());
        Ok(())
    }

    /// Reserves memory for the row in hand, which is about to be at least this long.
    #[cold]
    fn reserve(&mut self, n_bytes: usize) -> Result<(), DecodeError> {
        self.reserved.get_or_insert_with(|| self.budget.nothing()).grow_to("a row", n_bytes * COPIES)
    }

    /// Encodes a field as its column's type has it.
    #[inline]
    fn field(&mut self, column: usize, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
        let length = out.len() - self.start + longest(value, &self.mapping.all_columns()[column].pg_type);
        if length > FREE_ROW_BYTES {
            self.reserve(length)?;
        }
        encode_within(value, &self.mapping.all_columns()[column].pg_type, self.max_depth, out)
    }

    #[inline]
    fn cell(&mut self, column: usize, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), CellError> {
        let is_absent = matches!(value, Value::Absent);
        self.absent[column] = is_absent;
        self.seen[column] |= !is_absent;
        let start = out.len();
        self.field(column, value, out)?;
        let target = &self.mapping.columns()[column];
        let required = match self.mapping.requirement(column) {
            Requirement::Nullable => false,
            Requirement::NotNull => !(is_absent && target.has_default),
            Requirement::Key => true,
        };
        // Asked of the field, not of the value: a JSON null is one only once it is encoded.
        if required && out[start..].starts_with(&[0xFF; 4]) {
            let message = if is_absent { "the row does not have this field" } else { "NULL is not allowed here" };
            return Err(CellError::new(RejectClass::NotNull, message));
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
                    return self.record(CellError { class, message }, column, &payload, payload.len() as u64, batch);
                }
                self.n_rows += 1;
                batch.n_read += 1;
            }
            Err((column, error)) => {
                let payload = payload();
                let name = self.mapping.all_columns()[column].name.clone();
                self.record(error, Some(name), &payload, payload.len() as u64, batch);
            }
        }
    }

    fn record(
        &mut self,
        CellError { class, message }: CellError,
        column: Option<String>,
        payload: &[u8],
        payload_length: u64,
        batch: &mut Batch,
    ) {
        self.n_rows += 1;
        batch.n_read += 1;
        let payload = payload[..payload.len().min(MAX_PAYLOAD_BYTES)].to_vec();
        batch.reject_bytes += payload.len() + message.len() + REJECT_BYTES;
        batch.rejects.push(Reject { row_number: self.n_rows, class, column, message, payload, payload_length });
    }
}

/// Returns what a value may take at most, but for what is always short.
#[inline]
fn longest(value: &Value<'_>, pg_type: &PgType) -> usize {
    let n_bytes = match value {
        Value::Text(text) | Value::Json(text) | Value::Number(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => return 0,
    };
    if matches!(pg_type, PgType::Array(..)) { n_bytes * ARRAY_FACTOR + ARRAY_HEADER_BYTES } else { n_bytes }
}

/// A row that does not fit into memory is rejected; the budget reports memory that is only busy.
impl From<DecodeError> for CellError {
    fn from(error: DecodeError) -> Self {
        Self::new(RejectClass::RowSize, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::{Condition, Test, Values};
    use crate::encode::PgType;
    use crate::{Column, Fields, MappingSpec, OnNewField, budget::Pool};
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
        encoder.reject(CellError::new(RejectClass::Syntax, "no"), b"the row", 7, &mut batch);
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
        encoder.reject(CellError::new(RejectClass::Syntax, "torn"), b"to", 70_000, &mut batch);
        push(&mut encoder, &good, &mut batch);
        assert_eq!(batch.ends, [length, 2 * length]);
        assert_eq!(batch.data[length..][6..14], 4u64.to_be_bytes());
        assert_eq!((batch.n_read, encoder.n_rows()), (4, 4));
        let seen: Vec<_> = batch
            .rejects
            .iter()
            .map(|r| (r.row_number, r.class, r.column.as_deref(), r.payload.as_slice(), r.payload_length))
            .collect();
        assert_eq!(
            seen,
            [(2, RejectClass::Text, Some("name"), &b"the row"[..], 7), (3, RejectClass::Syntax, None, b"to", 70_000)]
        );
    }

    #[test]
    fn a_row_that_the_database_will_not_take_is_a_reject_with_what_it_was() {
        let (encoder, mut batch) = (encoder(), Batch::default());
        let why =
            Unstaged { class: RejectClass::Text, column: Some("name".into()), message: "no such character".into() };
        let mapping = Arc::into_inner(encoder.mapping).expect("the only one").without([(2, why)].into());
        let mut encoder = RowEncoder::new(Arc::new(mapping));
        for _ in 0..3 {
            push(&mut encoder, &[Value::Int(1), Value::Text("x".into()), Value::Absent], &mut batch);
        }
        assert_eq!((batch.ends.len(), batch.n_read, encoder.n_rows()), (2, 3, 3));
        assert_eq!(batch.data.len(), batch.ends[1]);
        let reject = &batch.rejects[0];
        assert_eq!(
            (reject.row_number, reject.class, reject.payload.as_slice()),
            (2, RejectClass::Text, &b"the row"[..])
        );
        assert_eq!(reject.column.as_deref(), Some("name"));
    }

    #[test]
    fn a_row_that_a_condition_drops_is_neither_encoded_nor_refused() {
        let conditions = [
            Condition { column: "id".into(), test: Test { null: false, values: Values::Any } },
            Condition {
                column: "state".into(),
                test: Test { null: false, values: Values::Among([b"on".to_vec()].into(), true) },
            },
        ];
        let mapping = Arc::into_inner(encoder().mapping).expect("the only one").filtered(&conditions, &[], false);
        let (mut encoder, mut batch) = (RowEncoder::new(Arc::new(mapping)), Batch::default());
        let (id, bad, name, on) =
            (Value::Int(1), Value::Text("x".into()), Value::Text("n".into()), Value::Text("on".into()));
        for cells in [
            [id.clone(), name.clone(), on.clone()],
            [id.clone(), Value::Null, Value::Text("off".into())],
            // What cannot be read is a reject, unless another condition drops the row.
            [bad.clone(), name.clone(), on.clone()],
            [bad, name.clone(), Value::Null],
            [Value::Null, name.clone(), on.clone()],
            [id, name, on],
        ] {
            push(&mut encoder, &cells, &mut batch);
        }
        assert_eq!((batch.n_read, batch.n_filtered, batch.ends.len()), (6, 3, 2));
        assert_eq!(batch.data[batch.ends[0]..][6..14], 6u64.to_be_bytes());
        let rejects: Vec<_> = batch.rejects.iter().map(|r| (r.row_number, r.class, r.column.as_deref())).collect();
        assert_eq!(rejects, [(3, RejectClass::Type, Some("id"))]);
        assert_eq!(batch.data.len(), batch.ends[1]);
    }

    #[test]
    fn a_column_that_is_only_asked_about_is_not_sent() {
        let conditions = [Condition { column: "dt2".into(), test: Test { null: false, values: Values::Any } }];
        for (kept, passes) in [(false, 1), (true, 2)] {
            let mut columns = columns();
            columns.push(Column { name: "dt2".into(), pg_type: PgType::Date, not_null: false, has_default: false });
            let spec = MappingSpec {
                columns: &columns,
                rename: &BTreeMap::new(),
                captures: &[],
                on_new_field: OnNewField::Ignore,
                extras_column: None,
                key: &[],
            };
            let mapping = Mapping::new(&Fields::Open, &spec).expect("a mapping");
            let mapping = mapping.filtered(&conditions, &["dt2".into()], kept);
            assert_eq!(mapping.columns().len(), 4);
            let (mut encoder, mut batch) = (RowEncoder::new(Arc::new(mapping)), Batch::default());
            let row = |dt2| [Value::Int(7), Value::Text("x".into()), Value::Absent, Value::Null, dt2];
            push(&mut encoder, &row(Value::Text("2000-01-01".into())), &mut batch);
            push(&mut encoder, &row(Value::Absent), &mut batch);
            push(&mut encoder, &row(Value::Text("x".into())), &mut batch);
            assert_eq!((batch.ends.len(), batch.n_read), (passes, 3));
            assert_eq!(batch.rejects[0].column.as_deref(), Some("dt2"));
            assert_eq!(encoder.seen_columns().len(), 4);
            assert_eq!(batch.data[..2], 7u16.to_be_bytes());
        }
    }

    #[test]
    fn null_is_refused_in_keys_and_where_no_default_stands_in() {
        let class = |cells: &[Value<'_>]| {
            let (mut encoder, mut batch) = (encoder(), Batch::default());
            push(&mut encoder, cells, &mut batch);
            batch.rejects.pop().map(|reject| (reject.class, reject.column.unwrap_or_default()))
        };
        let (id, name) = (Value::Int(1), Value::Text("x".into()));
        let refused = |column: &str| Some((RejectClass::NotNull, column.to_owned()));
        assert_eq!(class(&[Value::Absent, name.clone()]), refused("id"));
        assert_eq!(class(&[Value::Null, name.clone()]), refused("id"));
        assert_eq!(class(&[id.clone(), Value::Absent]), refused("name"));
        assert_eq!(class(&[id.clone(), Value::Json("null".into())]), refused("name"));
        assert_eq!(class(&[id.clone(), name.clone(), Value::Null]), refused("state"));
        assert_eq!(class(&[id, name, Value::Absent]), None);
    }

    #[test]
    fn a_long_row_is_reserved_until_its_batch_is_cleared_and_one_too_long_is_a_reject() {
        let budget = Budget::new(COPIES << 20, Pool::new(0));
        let mut encoder = encoder();
        encoder.budget = budget.clone();
        let mut batch = Batch::default();
        let row = |length: usize| [Value::Int(1), Value::Text("x".repeat(length).into())];
        push(&mut encoder, &row(FREE_ROW_BYTES / 2), &mut batch);
        assert!(batch.long_rows.is_empty());
        push(&mut encoder, &row((1 << 20) - 100), &mut batch);
        push(&mut encoder, &row(1 << 20), &mut batch);
        assert_eq!(batch.long_rows.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1]);
        assert_eq!(batch.rejects.iter().map(|reject| reject.class).collect::<Vec<_>>(), [RejectClass::RowSize]);
        assert!(batch.rejects[0].message.contains("worker.memory_mib"), "{}", batch.rejects[0].message);
        assert!(batch.data.capacity() < 2 << 20, "memory of the refused row goes back");
        budget.reserve("another", 1 << 20).expect_err("the row takes it");
        batch.clear();
        assert_eq!(batch.data.capacity(), 0, "memory of the long row goes back");
        push(&mut encoder, &row((1 << 20) - 100), &mut batch);
        assert_eq!(batch.ends.len(), 1);
    }

    #[test]
    fn an_array_is_reserved_as_what_it_becomes() {
        let digits = Value::Json(format!("[{}1]", "1,".repeat(1 << 12)).into());
        for (element, oid) in [(PgType::Numeric(None), 1700), (PgType::Int8, 20), (PgType::Text(None), 25)] {
            let pg_type = PgType::Array(Box::new(element), oid);
            let mut out = Vec::new();
            encode_within(&digits, &pg_type, 8, &mut out).expect("an array");
            assert!(out.len() <= longest(&digits, &pg_type), "{pg_type:?}: {} bytes", out.len());
        }
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
