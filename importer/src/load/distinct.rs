//! Whether an object has every key once, as far as that can be told without the server.
//!
//! A merge of rows whose keys are known to be distinct needs no sort to find the last row of each key.

use super::{
    run::{RowOrder, Run},
    sql::StagedColumn,
};
use decode::encode::PgType;
use std::cmp::Ordering;

/// Digests of the keys of an object's runs, for as long as they are all different and fit into memory.
///
/// Digests are 64 bits: the whole key where it fits, else a hash. Two keys with one digest are taken for one key,
/// which only costs the server its sort; one key always has one digest.
#[derive(Debug)]
pub struct DistinctKeys {
    /// Sorted digests, run by run; none once nothing can be said any more.
    runs: Option<Vec<Vec<u64>>>,
    /// How many digests may be kept.
    room: usize,
}

impl DistinctKeys {
    /// Returns an empty set that takes at most `max_bytes`. It says nothing of keys of which two may be equal to the
    /// server in different bytes: numeric, float, `char(n)`, and what has a collation of its own.
    #[must_use]
    pub fn new(columns: &[StagedColumn], key: &[String], max_bytes: usize) -> Self {
        let column = |name: &String| columns.iter().find(|column| column.target.column.name == *name);
        let exact = !key.is_empty() && key.iter().all(|name| column(name).is_some_and(equal_in_bytes));
        Self { runs: exact.then(Vec::new), room: max_bytes / size_of::<u64>() }
    }

    /// Adds the keys of a sorted run.
    pub fn add(&mut self, run: &Run, order: Option<&RowOrder>) {
        let Some(runs) = &mut self.runs else { return };
        self.room = self.room.saturating_sub(run.n_rows());
        let digests = order.filter(|_| self.room > 0).and_then(|order| run.key_digests(order));
        match digests {
            Some(digests) if runs.iter().all(|earlier| disjoint(earlier, &digests)) => runs.push(digests),
            _ => self.runs = None,
        }
    }

    /// Returns whether all keys added are known to be different.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.runs.is_some()
    }
}

/// Returns whether two values of the column are equal to the server only when their bytes are.
fn equal_in_bytes(column: &StagedColumn) -> bool {
    match column.target.column.pg_type {
        PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Uuid | PgType::Bytea | PgType::Bool => true,
        PgType::Date | PgType::Time | PgType::Timestamp | PgType::TimestampTz => true,
        // The type's own collation is the database's, which is deterministic; `char(n)` pads.
        PgType::Text(_) => {
            let sql = column.target.type_sql.as_str();
            column.target.collate_sql.is_empty() && (sql == "text" || sql.starts_with("character varying"))
        }
        _ => false,
    }
}

/// Returns whether two sorted lists share nothing.
fn disjoint(a: &[u64], b: &[u64]) -> bool {
    // Runs are ranges of the key, mostly.
    if a.last() < b.first() || b.last() < a.first() {
        return true;
    }
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(left), Some(right)) = (a.peek(), b.peek()) {
        match left.cmp(right) {
            Ordering::Less => drop(a.next()),
            Ordering::Greater => drop(b.next()),
            Ordering::Equal => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::catalog::TableColumn;
    use decode::{Batch, Column};

    fn staged(pg_type: PgType, type_sql: &str) -> Vec<StagedColumn> {
        let column = Column { name: "id".into(), pg_type, not_null: true, has_default: false };
        let target = TableColumn::staged_only(column, type_sql);
        vec![StagedColumn { target, has_absent_flag: false, seen: true }]
    }

    /// A sorted run of rows with these keys.
    fn run(keys: &[&[u8]], order: &RowOrder) -> Run {
        let mut batch = Batch::default();
        for key in keys {
            batch.data.extend_from_slice(&[0, 2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
            batch.data.extend_from_slice(&(key.len() as u32).to_be_bytes());
            batch.data.extend_from_slice(key);
            batch.ends.push(batch.data.len());
        }
        let mut run = Run::default();
        run.batch = batch;
        run.sort(order);
        run
    }

    /// Whether the keys of these runs are known to be different.
    fn distinct(columns: &[StagedColumn], max_bytes: usize, runs: &[&[&[u8]]]) -> bool {
        let key = ["id".to_owned()];
        let plain: Vec<Column> = columns.iter().map(|column| column.target.column.clone()).collect();
        let order = RowOrder::new(&plain, &key, None).expect("a key");
        let mut keys = DistinctKeys::new(columns, &key, max_bytes);
        for keys_of_run in runs {
            keys.add(&run(keys_of_run, &order), Some(&order));
        }
        keys.holds()
    }

    #[test]
    fn keys_are_told_apart_within_runs_and_between_them() {
        let int = staged(PgType::Int8, "bigint");
        let text = staged(PgType::Text(None), "text");
        let (a, b, c) = (&5i64.to_be_bytes()[..], &(-5i64).to_be_bytes()[..], &7i64.to_be_bytes()[..]);
        assert!(distinct(&int, 1000, &[&[a, b], &[c]]));
        assert!(!distinct(&int, 1000, &[&[a, b], &[c, b]]));
        assert!(!distinct(&int, 1000, &[&[a, c, a]]));
        let (long, other) = (b"a long key, and more".as_slice(), b"a long key, and less".as_slice());
        assert!(distinct(&text, 1000, &[&[long], &[other, b"", b"a"]]));
        assert!(!distinct(&text, 1000, &[&[long, b"a"], &[b"b", long]]));
        assert!(!distinct(&text, 1000, &[&[long, b"a", long]]));
    }

    #[test]
    fn nothing_is_said_beyond_memory_or_where_the_server_sees_more_keys_as_equal() {
        let key = &5i64.to_be_bytes()[..];
        assert!(!distinct(&staged(PgType::Int8, "bigint"), 8, &[&[key, &[0; 8]]]));
        assert!(!distinct(&staged(PgType::Numeric(None), "numeric"), 1000, &[&[key]]));
        assert!(!distinct(&staged(PgType::Text(Some(3)), "character(3)"), 1000, &[&[key]]));
        let mut own = staged(PgType::Text(None), "text");
        own[0].target.collate_sql = " COLLATE \"public\".\"blind\"".into();
        assert!(!distinct(&own, 1000, &[&[key]]));
    }
}
