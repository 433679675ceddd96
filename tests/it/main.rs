//! System tests: the built binaries against a real Postgres and an emulated AWS.
//!
//! One module a story. They need the binaries (`cargo build`), and run much faster side by side
//! under one stack: `cargo run --bin stack -- run -- cargo nextest run -p penstock-tests`.

mod check;
mod containers;
mod envelopes;
mod fairness;
mod heartbeat;
mod imports;
mod kills;
mod ledger;
mod memory;
mod outages;
mod protocol;
mod redelivery;
mod samples;
mod scaler;
mod stack;
mod stopped;
mod surroundings;
mod world;
