//! Any bytes, read as lines of text, taken apart by what the first byte chooses.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| penstock_fuzz::read_text(bytes));
