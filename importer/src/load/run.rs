//! A run: decoded rows in the order of their key, so that the index takes them from left to right.
//!
//! The primary key's index is what bounds a load: rows in random key order cost it about twice the work of
//! sorted ones. Correctness never depends on the order found here; where it is not the index's own (text under
//! a linguistic collation, numeric), it is only nearly as fast.

mod radix;

use decode::{Batch, Column, encode::PgType};
use radix::{Entry, sort_by_prefix};
use std::{
    cmp::Ordering,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
};

/// Bytes of the field count that begins a tuple.
const COUNT_BYTES: usize = 2;
/// Bytes of a field's length.
const LENGTH_BYTES: usize = 4;
/// Bytes of the row number, the first field of every tuple, with its length.
pub const ROW_FIELD_BYTES: usize = LENGTH_BYTES + 8;

/// Returns a tuple's row number.
#[must_use]
pub fn row_number(tuple: &[u8]) -> u64 {
    let bytes = tuple.get(COUNT_BYTES + LENGTH_BYTES..COUNT_BYTES + ROW_FIELD_BYTES);
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Appends a tuple under another row number.
pub fn renumbered(tuple: &[u8], number: impl FnOnce(u64) -> u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(tuple);
    let number = number(row_number(tuple)).to_be_bytes();
    out[start + COUNT_BYTES + LENGTH_BYTES..][..number.len()].copy_from_slice(&number);
}

/// How the bytes of a type compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Two's complement, big endian: integers, dates, times.
    Integer,
    /// Byte by byte: uuid, bytea, text.
    Bytes,
    /// Sign, weight, digits; nearly in order.
    Numeric,
}

impl Kind {
    #[inline]
    fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Self::Integer => compare_integers(a, b),
            Self::Bytes => a.cmp(b),
            Self::Numeric => numeric_prefix(a).cmp(&numeric_prefix(b)).then_with(|| a.cmp(b)),
        }
    }
}

/// Returns the order of two keys, given that of each of their columns.
fn first_difference(mut columns: impl Iterator<Item = Ordering>) -> Ordering {
    columns.find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}

/// Which columns rows are sorted by, and which says which of two with equal keys is the newer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowOrder {
    /// Place among the tuple's fields (the row number is field 0), and how it compares.
    key: Vec<(usize, Kind)>,
    newer: Newer,
}

/// How rows with equal keys are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newer {
    /// The last one in the object wins.
    Row,
    /// The greatest of this field wins, ties go to the last.
    Field(usize),
    /// Only the server can tell.
    Unknown,
}

impl RowOrder {
    /// Returns the order of `key` among the staged `columns`; none where there is no key, or no column for part of it.
    #[must_use]
    pub fn new(columns: &[Column], key: &[String], newer: Option<&str>) -> Option<Self> {
        let place = |name: &str| columns.iter().position(|column| column.name == name);
        let kind = |index: usize| match columns[index].pg_type {
            PgType::Int2 | PgType::Int4 | PgType::Int8 => Kind::Integer,
            PgType::Date | PgType::Time | PgType::Timestamp | PgType::TimestampTz => Kind::Integer,
            PgType::Numeric(_) => Kind::Numeric,
            _ => Kind::Bytes,
        };
        let key: Option<Vec<_>> = key.iter().map(|name| place(name).map(|index| (index + 1, kind(index)))).collect();
        let key = key.filter(|key| !key.is_empty())?;
        let newer = match newer.map(place) {
            // A file that does not say how new its rows are: the last one wins.
            None | Some(None) => Newer::Row,
            Some(Some(index)) if kind(index) == Kind::Integer => Newer::Field(index + 1),
            Some(Some(_)) => Newer::Unknown,
        };
        Some(Self { key, newer })
    }

    /// Returns up to eight bytes of the key that compare as the whole key does, and whether they are all of it.
    #[inline]
    fn prefix(&self, tuple: &[u8]) -> (u64, bool) {
        // What nearly all keys are.
        if let [(place, Kind::Integer)] = self.key[..]
            && let Ok(bytes) = field(tuple, place).try_into()
        {
            return (u64::from_be_bytes(bytes) ^ (1 << 63), true);
        }
        self.prefix_of_any(tuple)
    }

    fn prefix_of_any(&self, tuple: &[u8]) -> (u64, bool) {
        let mut bytes = [0u8; 8];
        let mut length = 0;
        let mut whole = true;
        for (place, kind) in &self.key {
            let value = field(tuple, *place);
            let room = bytes.len() - length;
            match kind {
                Kind::Integer => {
                    let taken = value.len().min(room);
                    bytes[length..length + taken].copy_from_slice(&value[..taken]);
                    if taken > 0 {
                        bytes[length] ^= 0x80;
                    }
                    whole &= taken == value.len();
                    length += taken;
                }
                // Of unknown length, so what follows would not line up.
                Kind::Bytes => {
                    let taken = value.len().min(room);
                    bytes[length..length + taken].copy_from_slice(&value[..taken]);
                    return (u64::from_be_bytes(bytes), false);
                }
                Kind::Numeric => {
                    let numeric = numeric_prefix(value);
                    bytes[length..].copy_from_slice(&numeric[..room]);
                    return (u64::from_be_bytes(bytes), false);
                }
            }
            if !whole {
                break;
            }
        }
        (u64::from_be_bytes(bytes), whole)
    }

    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        first_difference(self.key.iter().map(|(place, kind)| kind.compare(field(a, *place), field(b, *place))))
    }

    /// Returns the row's key as a bound.
    #[must_use]
    pub fn bound(&self, tuple: &[u8]) -> Bound {
        let (prefix, whole) = self.prefix(tuple);
        let rest = if whole { &[] } else { self.key.as_slice() };
        Bound { prefix, values: rest.iter().map(|(place, _)| field(tuple, *place).into()).collect() }
    }

    /// Compares two bounds of this order.
    #[must_use]
    pub fn compare_bounds(&self, a: &Bound, b: &Bound) -> Ordering {
        let values = || self.key.iter().zip(a.values.iter().zip(&b.values));
        a.prefix.cmp(&b.prefix).then_with(|| first_difference(values().map(|((_, kind), (a, b))| kind.compare(a, b))))
    }

    /// Returns how many of the ascending `bounds` are not above the row's key.
    #[must_use]
    pub fn range(&self, bounds: &[Bound], tuple: &[u8]) -> usize {
        let (prefix, _) = self.prefix(tuple);
        let n_below = bounds.partition_point(|bound| bound.prefix < prefix);
        let bounds = &bounds[n_below..];
        if bounds.first().is_none_or(|bound| bound.prefix != prefix) {
            return n_below;
        }
        let values = |bound: &Bound| {
            first_difference(
                self.key
                    .iter()
                    .zip(&bound.values)
                    .map(|((place, kind), value)| kind.compare(value, field(tuple, *place))),
            )
        };
        n_below + bounds.partition_point(|bound| bound.prefix == prefix && values(bound) != Ordering::Greater)
    }

    /// Returns whether the later row `b` wins over `a`, which has the same key; none when only the server can tell.
    fn gives_way(&self, a: &[u8], b: &[u8]) -> Option<bool> {
        match self.newer {
            Newer::Row => Some(true),
            Newer::Field(place) => Some(compare_integers(field(b, place), field(a, place)) != Ordering::Less),
            Newer::Unknown => None,
        }
    }
}

/// The lowest key of a range.
#[derive(Debug, Clone)]
pub struct Bound {
    prefix: u64,
    /// The values of the key, where the prefix is not all of it.
    values: Vec<Box<[u8]>>,
}

/// Compares two's complement integers of one length; NULL, which is empty, comes first.
fn compare_integers(a: &[u8], b: &[u8]) -> Ordering {
    match (a.split_first(), b.split_first()) {
        (Some((a, rest_a)), Some((b, rest_b))) => (a ^ 0x80).cmp(&(b ^ 0x80)).then_with(|| rest_a.cmp(rest_b)),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// Returns bytes that compare nearly as a binary `numeric` does: sign, weight, the first digits.
/// (Number of digits, weight, sign, scale, then digits of base 10,000: `numeric_send` in `numeric.c`.)
fn numeric_prefix(value: &[u8]) -> [u8; 8] {
    let word =
        |index: usize| value.get(index * 2..index * 2 + 2).map_or(0, |pair| u16::from_be_bytes([pair[0], pair[1]]));
    let (n_digits, weight, sign) = (word(0), word(1) ^ 0x8000, word(2));
    let weight = if n_digits == 0 { 0 } else { weight };
    let mut prefix = [0u8; 8];
    prefix[..2].copy_from_slice(&weight.to_be_bytes());
    for digit in 0..3 {
        prefix[2 + digit * 2..4 + digit * 2].copy_from_slice(&word(4 + digit).to_be_bytes());
    }
    // Weights stay far below 2^15, so the first bit is free for the sign.
    prefix[0] = (prefix[0] >> 1) | 0x80;
    if sign == 0x4000 {
        for byte in &mut prefix {
            *byte = !*byte;
        }
    }
    prefix
}

/// Returns the bytes of a tuple's field; empty for NULL.
fn field(tuple: &[u8], place: usize) -> &[u8] {
    let range = field_range(tuple, place);
    &tuple[(range.start + LENGTH_BYTES).min(range.end)..range.end]
}

/// Returns where a field lies in its tuple, with its length.
fn field_range(tuple: &[u8], place: usize) -> Range<usize> {
    if place == 0 {
        return COUNT_BYTES..COUNT_BYTES + ROW_FIELD_BYTES;
    }
    let mut start = COUNT_BYTES + ROW_FIELD_BYTES;
    for _ in 1..place {
        start = field_end(tuple, start);
    }
    start..field_end(tuple, start)
}

#[inline]
fn field_end(tuple: &[u8], start: usize) -> usize {
    let length = &tuple[start..start + LENGTH_BYTES];
    let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
    start + LENGTH_BYTES + usize::try_from(length).unwrap_or(0)
}

/// Decoded rows, sorted by key where the dataset has one.
#[derive(Debug, Default)]
pub struct Run {
    /// The rows as they were decoded, and what was refused among them.
    pub batch: Batch,
    entries: Vec<Entry>,
    sorted: bool,
}

impl Run {
    /// Sorts the rows; of equal keys the earlier row comes first.
    pub fn sort(&mut self, order: &RowOrder) {
        self.sorted = true;
        self.entries.clear();
        self.entries.reserve_exact(self.batch.ends.len());
        let mut whole = true;
        let mut start = 0;
        for (row, end) in self.batch.ends.iter().enumerate() {
            let (prefix, is_whole) = order.prefix(&self.batch.data[start..*end]);
            whole &= is_whole;
            // A run is bounded by memory, and a row takes more than a byte.
            self.entries.push(Entry { prefix, row: u32::try_from(row).unwrap_or(u32::MAX) });
            start = *end;
        }
        sort_by_prefix(&mut self.entries);
        if whole {
            return;
        }
        let batch = &self.batch;
        for alike in self.entries.chunk_by_mut(|a, b| a.prefix == b.prefix).filter(|alike| alike.len() > 1) {
            alike.sort_unstable_by(|a, b| {
                order.compare(tuple(batch, a.row), tuple(batch, b.row)).then(a.row.cmp(&b.row))
            });
        }
    }

    /// Returns the sorted digests of a sorted run's keys: the whole key where it fits, else a hash; none when two rows
    /// have one digest.
    #[must_use]
    pub fn key_digests(&self, order: &RowOrder) -> Option<Vec<u64>> {
        if !self.sorted {
            return None;
        }
        let mut digests = Vec::with_capacity(self.n_rows());
        for entry in &self.entries {
            let tuple = tuple(&self.batch, entry.row);
            let digest = match order.prefix(tuple) {
                (prefix, true) => prefix,
                (_, false) => {
                    let mut hasher = DefaultHasher::new();
                    order.key.iter().for_each(|(place, _)| field(tuple, *place).hash(&mut hasher));
                    hasher.finish()
                }
            };
            digests.push(digest);
        }
        digests.sort_unstable();
        digests.windows(2).all(|pair| pair[0] != pair[1]).then_some(digests)
    }

    /// Empties the run and keeps its memory.
    pub fn clear(&mut self) {
        self.batch.clear();
        self.entries.clear();
        self.sorted = false;
    }

    /// Returns how many rows there are, duplicates included.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.batch.ends.len()
    }

    /// Returns the `index`th row in the run's order.
    #[must_use]
    pub fn row(&self, index: usize) -> &[u8] {
        tuple(&self.batch, u32::try_from(self.place(index)).unwrap_or(u32::MAX))
    }

    /// Returns the encoded rows in their order.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.n_ordered()).map(|index| self.row(index))
    }

    /// Returns the place, in decoding order, of the `index`th row of the run's order.
    #[must_use]
    pub fn place(&self, index: usize) -> usize {
        if self.sorted { self.entries[index].row as usize } else { index }
    }

    /// Keeps one row of each key, where keys are equal byte by byte. Returns the places of those dropped; none, and
    /// nothing dropped, when only the server can tell which one to keep, or when `together` says of two rows
    /// with one key that they are not to be settled here.
    ///
    /// Keys that are equal in other bytes (numeric 1.0 and 1.00) stay, and the index refuses the second.
    pub fn settle_duplicates(
        &mut self,
        order: &RowOrder,
        together: impl Fn(usize, usize) -> bool,
    ) -> Option<Vec<usize>> {
        if !self.sorted {
            return Some(Vec::new());
        }
        let batch = &self.batch;
        let same = |a: &Entry, b: &Entry| {
            a.prefix == b.prefix && order.compare(tuple(batch, a.row), tuple(batch, b.row)) == Ordering::Equal
        };
        if self.entries.windows(2).all(|pair| !same(&pair[0], &pair[1])) {
            return Some(Vec::new());
        }
        let mut kept: Vec<Entry> = Vec::with_capacity(self.entries.len());
        let mut dropped = Vec::new();
        for entry in &self.entries {
            match kept.last_mut() {
                Some(last) if same(last, entry) => {
                    if !together(last.row as usize, entry.row as usize) {
                        return None;
                    }
                    let mut loser = *entry;
                    if order.gives_way(tuple(batch, last.row), tuple(batch, entry.row))? {
                        std::mem::swap(last, &mut loser);
                    }
                    dropped.push(loser.row as usize);
                }
                _ => kept.push(*entry),
            }
        }
        self.entries = kept;
        Some(dropped)
    }

    /// Returns how many rows are left in the order: those decoded, less the duplicates settled.
    #[must_use]
    pub fn n_ordered(&self) -> usize {
        if self.sorted { self.entries.len() } else { self.n_rows() }
    }
}

fn tuple(batch: &Batch, row: u32) -> &[u8] {
    let row = row as usize;
    let start = if row == 0 { 0 } else { batch.ends[row - 1] };
    &batch.data[start..batch.ends[row]]
}

/// What becomes of a staged tuple on its direct way into the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    keep_row_number: bool,
    n_columns: usize,
    n_flags: usize,
    /// Columns that are left out, ascending.
    without: Vec<usize>,
    /// Encoded fields behind the columns, the same for every row.
    suffix: Vec<u8>,
    n_fields: u16,
}

impl Projection {
    /// Returns the projection of tuples with `n_columns` columns and `n_flags` flags behind them.
    #[must_use]
    pub fn new(
        keep_row_number: bool,
        n_columns: usize,
        n_flags: usize,
        without: Vec<usize>,
        constants: &[i64],
    ) -> Self {
        let n_fields = usize::from(keep_row_number) + n_columns - without.len() + constants.len();
        let mut suffix = Vec::new();
        for constant in constants {
            suffix.extend_from_slice(&8i32.to_be_bytes());
            suffix.extend_from_slice(&constant.to_be_bytes());
        }
        let n_fields = u16::try_from(n_fields).unwrap_or(u16::MAX);
        Self { keep_row_number, n_columns, n_flags, without, suffix, n_fields }
    }

    /// Appends the projected tuple.
    pub fn write(&self, tuple: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.n_fields.to_be_bytes());
        let mut start = COUNT_BYTES + ROW_FIELD_BYTES;
        let mut from = if self.keep_row_number { COUNT_BYTES } else { start };
        // Flags are booleans and never null, so their length is known.
        let end = tuple.len() - self.n_flags * (LENGTH_BYTES + 1);
        let mut without = self.without.iter().peekable();
        if without.peek().is_some() {
            for column in 0..self.n_columns {
                let next = field_end(tuple, start);
                if without.next_if_eq(&&column).is_some() {
                    out.extend_from_slice(&tuple[from..start]);
                    from = next;
                }
                start = next;
            }
        }
        out.extend_from_slice(&tuple[from..end]);
        out.extend_from_slice(&self.suffix);
    }
}

/// Counts, for each of `n_flags` flags, the rows in which it is set.
#[must_use]
pub fn count_flags(run: &Run, n_flags: usize) -> Vec<usize> {
    let mut counts = vec![0; n_flags];
    if n_flags > 0 {
        for end in &run.batch.ends {
            let first = end - n_flags * (LENGTH_BYTES + 1);
            for (flag, count) in counts.iter_mut().enumerate() {
                *count += usize::from(run.batch.data[first + flag * (LENGTH_BYTES + 1) + LENGTH_BYTES] != 0);
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests;
