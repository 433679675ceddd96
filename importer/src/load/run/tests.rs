use super::*;
use decode::{Mapping, MappingSpec, OnNewField, RowEncoder, encode::Value};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

fn column(name: &str, pg_type: PgType) -> Column {
    Column { name: name.into(), pg_type, not_null: false, has_default: false }
}

/// Encodes rows of texts as the decoders do.
fn run_of(columns: &[Column], rows: &[&[&str]]) -> Run {
    let fields = columns.iter().map(|column| decode::Field { name: column.name.clone(), nested: false }).collect();
    let spec = MappingSpec {
        columns,
        rename: &BTreeMap::new(),
        captures: &[],
        types: &Default::default(),
        on_new_field: OnNewField::Ignore,
        extras_column: None,
        key: &[],
    };
    let mapping = Mapping::new(&decode::Fields::Named(fields), &spec).expect("a mapping");
    let mut encoder = RowEncoder::new(Arc::new(mapping));
    let mut batch = Batch::default();
    for row in rows {
        let cells: Vec<Value<'_>> =
            row.iter().map(|cell| if *cell == "-" { Value::Null } else { Value::Text(Cow::Borrowed(*cell)) }).collect();
        encoder.push(&cells, &mut batch, || Cow::Borrowed(b"".as_slice()));
    }
    assert!(batch.rejects.is_empty(), "{:?}", batch.rejects);
    Run { batch, ..Run::default() }
}

/// Returns the numbers of the rows in the run's order.
fn numbers(run: &Run) -> Vec<u64> {
    let number = |index| u64::from_be_bytes(field(run.row(index), 0).try_into().expect("eight bytes"));
    (0..run.n_ordered()).map(number).collect()
}

fn check_order(pg_type: PgType, values: &[&str], expected: &[u64]) {
    let columns = [column("before", PgType::Text(None)), column("id", pg_type)];
    let rows: Vec<[&str; 2]> = values.iter().map(|value| ["x", *value]).collect();
    let rows: Vec<&[&str]> = rows.iter().map(<[&str; 2]>::as_slice).collect();
    let mut run = run_of(&columns, &rows);
    run.sort(&RowOrder::new(&columns, &["id".into()], None).expect("an order"));
    assert_eq!(numbers(&run), expected, "{values:?}");
}

#[test]
fn integers_sort_by_value() {
    check_order(PgType::Int8, &["5", "-7", "9223372036854775807", "0", "-9223372036854775808"], &[5, 2, 4, 1, 3]);
    check_order(PgType::Int4, &["5", "-7", "70000"], &[2, 1, 3]);
    check_order(PgType::Int2, &["5", "-7", "7"], &[2, 1, 3]);
    check_order(PgType::Date, &["2026-01-01", "1999-12-31"], &[2, 1]);
}

#[test]
fn texts_sort_by_bytes_also_behind_a_common_beginning() {
    check_order(PgType::Text(None), &["partner-b", "partner-a", "partner", "a"], &[4, 3, 2, 1]);
}

#[test]
fn numerics_sort_by_sign_weight_and_digits() {
    check_order(PgType::Numeric(None), &["10000", "2", "-3", "0.5", "-20000", "0", "2.5"], &[5, 3, 6, 4, 2, 7, 1]);
}

#[test]
fn parts_of_a_key_sort_in_their_order() {
    let columns = [column("a", PgType::Text(None)), column("b", PgType::Int8), column("c", PgType::Int4)];
    let rows: [&[&str]; 5] =
        [&["x", "2", "1"], &["x", "1", "9"], &["w", "3", "0"], &["x", "1", "-9"], &["x", "1", "9"]];
    let order = |key: &[&str]| {
        let key: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
        let mut run = run_of(&columns, &rows);
        run.sort(&RowOrder::new(&columns, &key, None).expect("an order"));
        numbers(&run)
    };
    assert_eq!(order(&["a", "b", "c"]), [3, 4, 2, 5, 1]);
    assert_eq!(order(&["c", "b"]), [4, 3, 1, 2, 5]);
    assert_eq!(RowOrder::new(&columns, &["missing".into()], None), None);
    assert_eq!(RowOrder::new(&columns, &[], None), None);
}

fn check_duplicates(newer: Option<&str>, newer_type: PgType, rows: &[&[&str]], expected: Option<(u64, &[u64])>) {
    let columns = [column("id", PgType::Int8), column("at", newer_type)];
    let order = RowOrder::new(&columns, &["id".into()], newer).expect("an order");
    let mut run = run_of(&columns, rows);
    run.sort(&order);
    let dropped = run.settle_duplicates(&order, |_, _| true);
    assert_eq!(dropped.map(|dropped| dropped.len() as u64), expected.map(|(dropped, _)| dropped));
    if let Some((_, left)) = expected {
        assert_eq!(numbers(&run), left);
    }
}

#[test]
fn of_equal_keys_the_last_row_stays_or_the_newest() {
    let rows: &[&[&str]] =
        &[&["1", "5"], &["2", "-"], &["1", "4"], &["1", "5"], &["2", "-1"], &["3", "0"], &["1", "-9"]];
    check_duplicates(None, PgType::Int8, rows, Some((4, &[7, 5, 6])));
    check_duplicates(Some("at"), PgType::Int8, rows, Some((4, &[4, 5, 6])));
    check_duplicates(Some("elsewhere"), PgType::Int8, rows, Some((4, &[7, 5, 6])));
    check_duplicates(Some("at"), PgType::Text(None), rows, None);
    check_duplicates(Some("at"), PgType::Text(None), &[&["1", "a"], &["2", "b"]], Some((0, &[1, 2])));
}

#[test]
fn rows_that_are_not_settled_together_are_left_to_others() {
    let columns = [column("id", PgType::Int8)];
    let order = RowOrder::new(&columns, &["id".into()], None).expect("an order");
    let mut run = run_of(&columns, &[&["2"], &["1"], &["1"], &["2"]]);
    run.sort(&order);
    let halves = |a: usize, b: usize| (a < 2) == (b < 2);
    assert_eq!(run.settle_duplicates(&order, halves), None);
    assert_eq!(numbers(&run), [2, 3, 1, 4]);
}

#[test]
fn rows_without_an_order_stay_as_they_are() {
    let columns = [column("id", PgType::Int8), column("at", PgType::Int8)];
    let run = run_of(&columns, &[&["3", "0"], &["1", "0"], &["2", "0"]]);
    assert_eq!(numbers(&run), [1, 2, 3]);
}

#[test]
fn projection_leaves_out_and_appends() {
    let columns = [column("a", PgType::Int2), column("b", PgType::Text(None)), column("c", PgType::Int2)];
    let run = run_of(&columns, &[&["1", "two", "3"]]);
    let projected = |keep_row_number, without: Vec<usize>, constants: &[i64]| {
        let mut out = Vec::new();
        Projection::new(keep_row_number, 3, 0, without, constants).write(run.row(0), &mut out);
        let n_fields = usize::from(u16::from_be_bytes([out[0], out[1]]));
        // Read back as a row without a row number, one dummy in its place.
        let mut tuple = vec![0; COUNT_BYTES + ROW_FIELD_BYTES];
        tuple.extend_from_slice(&out[COUNT_BYTES..]);
        let fields: Vec<Vec<u8>> = (1..=n_fields).map(|place| field(&tuple, place).to_vec()).collect();
        assert_eq!(field_range(&tuple, n_fields).end, tuple.len());
        fields
    };
    let (one, three) = (vec![0, 1], vec![0, 3]);
    assert_eq!(projected(false, vec![], &[]), [one.clone(), b"two".to_vec(), three.clone()]);
    assert_eq!(projected(false, vec![1], &[]), [one.clone(), three.clone()]);
    assert_eq!(projected(false, vec![0, 2], &[7]), [b"two".to_vec(), 7i64.to_be_bytes().to_vec()]);
    assert_eq!(projected(true, vec![0, 1], &[]), [1i64.to_be_bytes().to_vec(), three]);
}

#[test]
fn many_rows_sort_by_what_their_prefixes_leave_out() {
    let columns = [column("id", PgType::Text(None))];
    let texts: Vec<String> = (0..1000u32).map(|n| format!("partner-{}", n.wrapping_mul(2_654_435_761) % 500)).collect();
    let rows: Vec<[&str; 1]> = texts.iter().map(|text| [text.as_str()]).collect();
    let rows: Vec<&[&str]> = rows.iter().map(<[&str; 1]>::as_slice).collect();
    let mut run = run_of(&columns, &rows);
    run.sort(&RowOrder::new(&columns, &["id".into()], None).expect("an order"));
    let mut expected: Vec<_> = texts.iter().zip(1..).collect();
    expected.sort();
    assert_eq!(numbers(&run), expected.iter().map(|(_, number)| *number).collect::<Vec<u64>>());
}
