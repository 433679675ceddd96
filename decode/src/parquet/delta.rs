//! Delta encodings, as far as it takes to see what a page expands to.
//!
//! The library reserves memory by the number of values such a page states, and a page of a few
//! bytes can repeat a long value a million times by sharing prefixes.

use crate::varint::{varint, zigzag};
use parquet::{
    basic::Encoding,
    column::page::Page,
    errors::{ParquetError, Result},
    schema::types::ColumnDescriptor,
};

/// More values in one page are refused; their lengths alone take four bytes each.
const MAX_VALUES: u64 = 16 * 1024 * 1024;

/// What the library keeps of each value's length.
const LENGTH_BYTES: u64 = 4;

/// Returns how many bytes the values of a page take beside the page, where they are not simply parts of it.
///
/// # Errors
/// Where the page states more values than it can have.
pub fn unfolded_bytes(page: &Page, column: &ColumnDescriptor) -> Result<u64> {
    let encoding = page.encoding();
    if !matches!(encoding, Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY) {
        return Ok(0);
    }
    let values = values(page, column).ok_or_else(|| broken("its levels end early"))?;
    let mut lengths = Lengths::start(values).ok_or_else(|| broken("its lengths have no head"))?;
    if lengths.left > u64::from(page.num_values()).min(MAX_VALUES) {
        return Err(broken("it states too many values"));
    }
    let n_values = lengths.left;
    if encoding == Encoding::DELTA_LENGTH_BYTE_ARRAY {
        return Ok(LENGTH_BYTES * n_values);
    }
    let mut shared = 0u64;
    while let Some(length) = lengths.next().map_err(broken)? {
        shared = shared.saturating_add(u64::try_from(length).map_err(|_| broken("it has a negative length"))?);
    }
    // The suffixes are a list of lengths of their own, which states its number again.
    let suffixes = Lengths::start(lengths.rest()).ok_or_else(|| broken("its suffixes have no head"))?;
    if suffixes.left > u64::from(page.num_values()).min(MAX_VALUES) {
        return Err(broken("it states too many values"));
    }
    // Of each value what it shares and what it adds is kept.
    Ok(shared.saturating_add(values.len() as u64 + 2 * LENGTH_BYTES * n_values))
}

fn broken(problem: &str) -> ParquetError {
    ParquetError::General(format!("delta-encoded page: {problem}"))
}

/// Returns a data page's bytes after its levels.
fn values<'p>(page: &'p Page, column: &ColumnDescriptor) -> Option<&'p [u8]> {
    match page {
        Page::DataPage { buf, num_values, def_level_encoding, rep_level_encoding, .. } => {
            let levels = [(column.max_rep_level(), rep_level_encoding), (column.max_def_level(), def_level_encoding)];
            let mut rest = &buf[..];
            for (max_level, encoding) in levels.into_iter().filter(|(max_level, _)| *max_level > 0) {
                let (length, after) = match encoding {
                    Encoding::RLE => {
                        let (length, after) = rest.split_first_chunk()?;
                        (u32::from_le_bytes(*length) as usize, after)
                    }
                    _ => {
                        let bits = u64::from(16 - max_level.leading_zeros()) * u64::from(*num_values);
                        (usize::try_from(bits.div_ceil(8)).ok()?, rest)
                    }
                };
                rest = after.get(length..)?;
            }
            Some(rest)
        }
        Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
            buf.get(def_levels_byte_len.checked_add(*rep_levels_byte_len)? as usize..)
        }
        Page::DictionaryPage { .. } => Some(&[]),
    }
}

/// Numbers encoded as DELTA_BINARY_PACKED.
struct Lengths<'a> {
    bytes: &'a [u8],
    left: u64,
    value: i64,
    is_first: bool,
    values_per_miniblock: usize,
    n_miniblocks: usize,
    min_delta: i64,
    /// The widths of the block's miniblocks that are still to come.
    widths: &'a [u8],
    /// The miniblock in hand.
    packed: &'a [u8],
    width: usize,
    next: usize,
}

impl<'a> Lengths<'a> {
    fn start(mut bytes: &'a [u8]) -> Option<Self> {
        let block_size = usize::try_from(varint(&mut bytes)?).ok()?;
        let n_miniblocks = usize::try_from(varint(&mut bytes)?).ok()?;
        let left = varint(&mut bytes)?;
        let value = zigzag(varint(&mut bytes)?);
        let values_per_miniblock = block_size.checked_div(n_miniblocks)?;
        Some(Self {
            bytes,
            left,
            value,
            is_first: true,
            values_per_miniblock,
            n_miniblocks,
            min_delta: 0,
            widths: &[],
            packed: &[],
            width: 0,
            next: values_per_miniblock,
        })
    }

    fn next(&mut self) -> std::result::Result<Option<i64>, &'static str> {
        const EARLY: &str = "its lengths end early";
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        if std::mem::take(&mut self.is_first) {
            return Ok(Some(self.value));
        }
        if self.next >= self.values_per_miniblock {
            if self.widths.is_empty() {
                self.min_delta = zigzag(varint(&mut self.bytes).ok_or(EARLY)?);
                (self.widths, self.bytes) = self.bytes.split_at_checked(self.n_miniblocks).ok_or(EARLY)?;
            }
            let (&width, widths) = self.widths.split_first().ok_or(EARLY)?;
            if width > 64 || self.values_per_miniblock == 0 {
                return Err("its lengths have no such width");
            }
            self.width = usize::from(width);
            let n_bytes = self.width.checked_mul(self.values_per_miniblock).ok_or(EARLY)? / 8;
            // The last miniblock may be cut short.
            (self.packed, self.bytes) = self.bytes.split_at(n_bytes.min(self.bytes.len()));
            (self.widths, self.next) = (widths, 0);
        }
        let delta = unpack(self.packed, self.next, self.width).ok_or(EARLY)?;
        self.next += 1;
        self.value = self.value.wrapping_add(self.min_delta).wrapping_add(delta as i64);
        Ok(Some(self.value))
    }

    /// Returns what follows the numbers, once all are read.
    fn rest(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Returns the `index`th of numbers of `width` bits, the lowest bits first.
fn unpack(packed: &[u8], index: usize, width: usize) -> Option<u64> {
    let start = index.checked_mul(width)?;
    let end = start.checked_add(width)?;
    if width == 0 {
        return Some(0);
    }
    let bytes = packed.get(start / 8..end.div_ceil(8))?;
    let mut window = [0u8; 16];
    window[..bytes.len()].copy_from_slice(bytes);
    let number = u128::from_le_bytes(window) >> (start % 8);
    Some((number & ((1u128 << width) - 1)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_specifications_example_is_read() {
        // 7, 5, 3, 1, 2, 3, 4, 5: deltas -2 -2 -2 1 1 1 1, less the smallest 0 0 0 3 3 3 3 in two bits.
        let mut encoded = vec![0x80, 0x01, 4, 8, 14, 3, 2, 0, 0, 0, 0b1100_0000, 0b0011_1111];
        encoded.extend([0; 6]);
        encoded.push(0x55);
        let mut lengths = Lengths::start(&encoded).expect("a head");
        let mut read = Vec::new();
        while let Some(length) = lengths.next().expect("lengths") {
            read.push(length);
        }
        assert_eq!(read, [7, 5, 3, 1, 2, 3, 4, 5]);
        assert_eq!(lengths.rest(), [0x55]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_panic(bytes: Vec<u8>) {
            if let Some(mut lengths) = Lengths::start(&bytes) {
                lengths.left = lengths.left.min(1000);
                while let Ok(Some(_)) = lengths.next() {}
            }
        }

        #[test]
        fn numbers_come_out_as_they_were_packed(numbers in prop::collection::vec(any::<u64>(), 0..20), width in 1usize..=64) {
            let mut packed = vec![0u8; 200];
            for (index, number) in numbers.iter().enumerate() {
                for bit in (0..width).filter(|bit| number >> bit & 1 == 1) {
                    let at = index * width + bit;
                    packed[at / 8] |= 1 << (at % 8);
                }
            }
            for (index, number) in numbers.iter().enumerate() {
                let expected = if width == 64 { *number } else { number & ((1 << width) - 1) };
                prop_assert_eq!(unpack(&packed, index, width), Some(expected));
            }
        }
    }
}
