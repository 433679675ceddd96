//! Any bytes, described: their dialect, their types, and read once more by what was found.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| penstock_fuzz::describe(bytes));
