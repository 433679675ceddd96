//! Sorting rows by the first bytes of their keys.

/// Fewer rows are sorted by comparing them.
const RADIX_ROWS: usize = 128;

/// A row's place in the order.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The first bytes of its key.
    pub prefix: u64,
    /// Its place among the rows as they were decoded.
    pub row: u32,
}

/// Sorts entries, which are in the order of their rows, by prefix, and leaves equal ones in that order.
///
/// Rows of a run are of a range of keys, so that only some of the bits differ: sorting by these, eight at a time, takes a
/// fraction of what comparing does.
pub fn sort_by_prefix(entries: &mut Vec<Entry>) {
    if entries.len() < RADIX_ROWS {
        return entries.sort_unstable_by_key(|entry| (entry.prefix, entry.row));
    }
    if entries.is_sorted_by_key(|entry| entry.prefix) {
        return;
    }
    let first = entries[0];
    let mut differing = entries.iter().fold(0, |differing, entry| differing | (entry.prefix ^ first.prefix));
    let mut sorted = vec![first; entries.len()];
    while differing != 0 {
        let shift = differing.trailing_zeros();
        let digit = |entry: &Entry| (entry.prefix >> shift) as usize & 0xFF;
        differing &= !(0xFF << shift);
        let mut next = [0; 256];
        entries.iter().for_each(|entry| next[digit(entry)] += 1);
        let mut n_before = 0;
        for next in &mut next {
            n_before += std::mem::replace(next, n_before);
        }
        for entry in entries.iter() {
            let place: &mut usize = &mut next[digit(entry)];
            sorted[*place] = *entry;
            *place += 1;
        }
        std::mem::swap(entries, &mut sorted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_sort_as_comparing_them_would() {
        let mut random = fastrand::Rng::with_seed(1);
        for (n_rows, bits) in [(RADIX_ROWS - 1, 64), (RADIX_ROWS, 64), (3000, 1), (3000, 9), (3000, 33), (3000, 64)] {
            let at = random.u64(..);
            let mut entries = Vec::new();
            for row in 0..n_rows {
                let prefix = at ^ (random.u64(..) >> (64 - bits)).rotate_left(at as u32);
                entries.push(Entry { prefix, row: row as u32 });
            }
            let mut expected: Vec<_> = entries.iter().map(|entry| (entry.prefix, entry.row)).collect();
            expected.sort_unstable();
            for _ in ["mixed", "sorted"] {
                sort_by_prefix(&mut entries);
                let sorted: Vec<_> = entries.iter().map(|entry| (entry.prefix, entry.row)).collect();
                assert_eq!(sorted, expected, "{n_rows} rows of {bits} bits");
            }
        }
    }
}
