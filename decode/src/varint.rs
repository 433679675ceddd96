//! Integers of seven bits a byte, the lowest first, as Avro, Thrift and Parquet write them.

/// Takes a number off the front; none where it does not end within `bytes`, or in ten of them.
#[inline]
pub fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}

/// Returns the signed number that is written so: small ones are short, whatever their sign.
#[inline]
pub fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
