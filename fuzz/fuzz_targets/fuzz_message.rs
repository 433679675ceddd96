//! Any text as a message's body.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &str| penstock_fuzz::parse(body));
