//! System tests: the built binaries against a real Postgres and an emulated AWS.
//!
//! One module a story. They need the binaries (`cargo build`), and run much faster side by side
//! under one stack: `cargo run --bin stack -- run -- cargo nextest run -p penstock-tests`.

mod assigned;
mod bounds;
mod brake;
mod check;
mod cloudformation;
mod containers;
mod dead_letters;
mod describe;
mod desk;
mod dry_run;
mod encodings;
mod envelopes;
mod escapes;
mod fairness;
mod forwarding;
mod guards;
mod guides;
mod heartbeat;
mod hostile;
mod identity;
mod imports;
mod keys;
mod kills;
mod kubernetes;
mod ledger;
mod loading;
mod manual;
mod memory;
mod observe;
mod outages;
mod overwritten;
mod pages;
mod protocol;
mod recovery;
mod redelivery;
mod refused;
mod roles;
mod samples;
mod scaler;
mod second_chance;
mod silence;
mod silent_postgres;
mod stack;
mod starting;
mod stopped;
mod surroundings;
mod templates;
mod torture;
mod units;
mod upkeep;
mod values;
mod weeks;
mod world;
