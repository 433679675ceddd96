//! Any bytes, read as CSV of any dialect: the first bytes choose it.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| penstock_fuzz::read_dialect(bytes));
