//! Any bytes, unpacked by their content and read as whatever is inside.

#![no_main]

use decode::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The magic numbers come first, so that the fuzzer does not spend its time on finding them.
    let (packing, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let magic: &[u8] = match packing % 4 {
        0 => b"",
        1 => b"\x1f\x8b\x08",
        2 => b"\x28\xb5\x2f\xfd",
        _ => b"\x50\x2a\x4d\x18",
    };
    let _ = penstock_fuzz::read(Format::Auto, &[magic, rest].concat());
});
