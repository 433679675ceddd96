use super::*;
use decode::{
    Column, Reject, RejectClass,
    budget::{Budget, Pool},
    encode::PgType,
};
use proptest::prelude::*;

const MEMORY: usize = 1024 * 1024;

/// A row: its number, a key, and bytes to make it long.
fn tuple(number: u64, key: &[u8], n_bytes: usize) -> Vec<u8> {
    let mut tuple = 3i16.to_be_bytes().to_vec();
    for field in [&number.to_be_bytes(), key, &vec![b'x'; n_bytes]] {
        tuple.extend_from_slice(&u32::try_from(field.len()).expect("short").to_be_bytes());
        tuple.extend_from_slice(field);
    }
    tuple
}

fn order(pg_type: PgType) -> RowOrder {
    let column = |name: &str, pg_type| Column { name: name.into(), pg_type, not_null: true, has_default: false };
    RowOrder::new(&[column("id", pg_type), column("rest", PgType::Bytea)], &["id".into()], None).expect("an order")
}

fn batch(rows: &[Vec<u8>]) -> Batch {
    let mut batch = Batch { n_read: rows.len() as u64, ..Batch::default() };
    for row in rows {
        batch.data.extend_from_slice(row);
        batch.ends.push(batch.data.len());
    }
    batch
}

fn number_and_key(row: &[u8]) -> (u64, Vec<u8>) {
    let length = u32::from_be_bytes(row[14..18].try_into().expect("four bytes")) as usize;
    (u64::from_be_bytes(row[6..14].try_into().expect("eight bytes")), row[18..18 + length].to_vec())
}

#[test]
fn without_memory_a_sweep_is_full_with_any_row_and_not_without_one() {
    let order = order(PgType::Int8);
    let mut first = Run::default();
    first.batch = batch(&[tuple(1, &1i64.to_be_bytes(), 10)]);
    first.sort(&order);
    let mut sweep = Sweep::new(order, &first, 0);
    assert!(!sweep.is_full(), "nothing could be taken");
    sweep.add(&mut batch(&[tuple(2, &2i64.to_be_bytes(), 10)]));
    assert!(sweep.is_full());
    assert!(sweep.take(&mut Run::default()) && !sweep.is_full());
}

/// Lets rows through in the steps the decoder makes, the first ones as a run of their own; returns the runs.
fn swept(order: &RowOrder, rows: &[Vec<u8>], n_first: usize) -> Vec<Vec<(u64, Vec<u8>)>> {
    let mut first = Run::default();
    first.batch = batch(&rows[..n_first]);
    first.sort(order);
    let mut sweep = Sweep::new(order.clone(), &first, MEMORY);
    let mut runs = Vec::new();
    let mut n_read = 0;
    let mut take = |sweep: &mut Sweep| {
        let mut run = Run::default();
        let taken = sweep.take(&mut run);
        assert!(run.batch.data.len() <= MEMORY / 16 + 200 * 1024, "{} bytes", run.batch.data.len());
        n_read += run.batch.n_read;
        runs.push((0..run.n_ordered()).map(|index| number_and_key(run.row(index))).collect());
        taken
    };
    for rows in rows[n_first..].chunks(50) {
        sweep.add(&mut batch(rows));
        while sweep.is_full() {
            assert!(take(&mut sweep));
        }
        assert!(sweep.slab.len() <= MEMORY, "{} bytes", sweep.slab.len());
    }
    while take(&mut sweep) {}
    assert_eq!(n_read, (rows.len() - n_first) as u64);
    runs
}

/// Counts how often the order begins again.
fn n_rounds(runs: &[Vec<(u64, Vec<u8>)>]) -> usize {
    let keys: Vec<&Vec<u8>> = runs.iter().flatten().map(|(_, key)| key).collect();
    1 + keys.windows(2).filter(|pair| pair[0] > pair[1]).count()
}

fn rows_with(n_rows: u64, key: impl Fn(u64) -> u64) -> Vec<Vec<u8>> {
    (0..n_rows).map(|number| tuple(number, &key(number).to_be_bytes(), 80)).collect()
}

/// A key below 2^63, as if at random.
fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1
}

#[test]
fn a_round_is_longer_than_memory() {
    let rows = rows_with(100_000, scattered);
    let bytes: usize = rows.iter().map(Vec::len).sum();
    let runs = swept(&order(PgType::Int8), &rows, 2_000);
    let n_rounds = n_rounds(&runs);
    let in_memory = bytes / MEMORY;
    assert!(n_rounds < in_memory, "{n_rounds} rounds of {in_memory} times the memory");
}

#[test]
fn a_row_with_memory_of_its_own_takes_it_along_and_is_known_while_it_is_here() {
    let budget = Budget::new(100, Pool::new(0, 1));
    let order = order(PgType::Int8);
    let mut sweep = Sweep::new(order, &Run::default(), MEMORY);
    let rows: Vec<_> = [10, 200_000, 20].map(|n_bytes| tuple(n_bytes as u64, &[0; 8], n_bytes)).into();
    let mut batch = batch(&rows);
    // The first turned out to be short; what was reserved for it goes back.
    batch.long_rows = vec![(0, reserve(&budget, 40)), (1, reserve(&budget, 60))];
    sweep.add(&mut batch);
    assert!(sweep.has_long_rows() && budget.reserve("another", 41).is_err());
    let mut run = Run::default();
    while sweep.has_long_rows() {
        assert!(sweep.take(&mut run));
    }
    assert_eq!(run.batch.long_rows.len(), 1);
    run.clear();
    reserve(&budget, 100);
}

fn reserve(budget: &Budget, bytes: usize) -> Reservation {
    budget.reserve("a row", bytes).expect("there is room")
}

#[test]
fn without_memory_rows_pass_chunk_by_chunk() {
    let order = order(PgType::Int8);
    let mut sweep = Sweep::new(order, &Run::default(), 0);
    sweep.add(&mut batch(&rows_with(100, scattered)));
    let mut n_rows = 0;
    let mut run = Run::default();
    while sweep.take(&mut run) {
        n_rows += run.n_rows();
    }
    assert_eq!(n_rows, 100);
}

#[test]
fn keys_that_come_in_order_leave_in_order() {
    let runs = swept(&order(PgType::Int8), &rows_with(50_000, |number| number), 1_000);
    assert_eq!(n_rounds(&runs), 1);
}

#[test]
fn keys_that_drift_or_fall_are_divided_anew() {
    // Rising by and by, in disorder within a few thousand rows, or falling.
    for key in [|number| number * 1_000 + scattered(number) % 3_000_000, |number| 1_000_000 - number] {
        let rows = rows_with(50_000, key);
        let runs = swept(&order(PgType::Int8), &rows, 100);
        let in_memory = rows.iter().map(Vec::len).sum::<usize>().div_ceil(MEMORY);
        // By the first bounds it would be a round each time something is taken, 16 of them for each memory.
        assert!(n_rounds(&runs) <= 3 * in_memory, "{} rounds of {in_memory} times the memory", n_rounds(&runs));
    }
}

#[test]
fn long_keys_with_one_beginning_have_ranges_too() {
    let key = |number: u64| format!("a common beginning {:019}", scattered(number)).into_bytes();
    let rows: Vec<_> = (0..100_000).map(|number| tuple(number, &key(number), 40)).collect();
    let runs = swept(&order(PgType::Text(None)), &rows, 1_000);
    let in_memory = rows.iter().map(Vec::len).sum::<usize>() / MEMORY;
    assert!(n_rounds(&runs) < in_memory, "{} rounds of {in_memory} times the memory", n_rounds(&runs));
}

#[test]
fn what_was_refused_leaves_with_the_next_run_also_when_no_row_does() {
    let order = order(PgType::Int8);
    let mut sweep = Sweep::new(order, &Run::default(), MEMORY);
    let reject = Reject {
        row_number: 7,
        class: RejectClass::Type,
        column: None,
        message: String::new(),
        payload: Vec::new(),
        payload_length: 0,
        member: None,
    };
    let mut refused = Batch { rejects: vec![reject], reject_bytes: MEMORY, n_read: 1, ..Batch::default() };
    sweep.add(&mut refused);
    assert!(sweep.is_full());
    let mut run = Run::default();
    assert!(sweep.take(&mut run));
    assert_eq!((run.n_rows(), run.batch.n_read, run.batch.rejects[0].row_number), (0, 1, 7));
    assert!(!sweep.is_full() && !sweep.take(&mut run));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_row_leaves_once_in_sorted_runs_and_equal_keys_in_the_order_they_came(
        rows in prop::collection::vec((0..500u64, prop_oneof![Just(10usize), Just(400), Just(3_000), Just(100_000)]), 1..2_000),
        first_share in 0..4usize,
    ) {
        let tuples: Vec<Vec<u8>> = rows.iter().enumerate()
            .map(|(number, (key, n_bytes))| tuple(number as u64, &key.to_be_bytes(), *n_bytes))
            .collect();
        let n_first = tuples.len() * first_share / 8;
        let runs = swept(&order(PgType::Int8), &tuples, n_first);
        for run in &runs {
            prop_assert!(run.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        }
        let mut last = std::collections::HashMap::new();
        for (number, key) in runs.iter().flatten() {
            prop_assert!(last.insert(key, number).is_none_or(|before| before < number));
        }
        let mut numbers: Vec<u64> = runs.iter().flatten().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        prop_assert_eq!(numbers, (n_first as u64..tuples.len() as u64).collect::<Vec<_>>());
    }
}
