//! Scaler.
fn main() {}
