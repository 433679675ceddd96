//! Any bytes, read as JSON whose rows and fields are in places that the first byte chooses.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| penstock_fuzz::read_places(bytes));
