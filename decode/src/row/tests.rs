//! Rows that are encoded, refused or dropped.

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
        types: &Default::default(),
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
    let why = Unstaged { class: RejectClass::Text, column: Some("name".into()), message: "no such character".into() };
    let mapping = Arc::into_inner(encoder.mapping).expect("the only one").without([(2, why)].into());
    let mut encoder = RowEncoder::new(Arc::new(mapping));
    for _ in 0..3 {
        push(&mut encoder, &[Value::Int(1), Value::Text("x".into()), Value::Absent], &mut batch);
    }
    assert_eq!((batch.ends.len(), batch.n_read, encoder.n_rows()), (2, 3, 3));
    assert_eq!(batch.data.len(), batch.ends[1]);
    let reject = &batch.rejects[0];
    assert_eq!((reject.row_number, reject.class, reject.payload.as_slice()), (2, RejectClass::Text, &b"the row"[..]));
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
            types: &Default::default(),
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
    let budget = Budget::new(COPIES << 20, Pool::new(0, 1));
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
