//! System tests: the built binaries against a real Postgres and an emulated AWS.
//!
//! One module a story. They need the binaries (`cargo build`), and run much faster side by side
//! under one stack: `cargo run --bin stack -- run -- cargo nextest run -p penstock-tests`.

mod scaler;
mod stack;
