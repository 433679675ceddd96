//! Any bytes, read as an archive of the kind that the first byte chooses.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| penstock_fuzz::read_archive(bytes));
