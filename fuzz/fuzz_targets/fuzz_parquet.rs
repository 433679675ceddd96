//! Any bytes, read as Parquet.

#![no_main]

use decode::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = penstock_fuzz::read(Format::Parquet, bytes);
});
