//! The local stack: a private Postgres, an emulated AWS, and the means to run and disturb the built binaries.
//!
//! The demo, the benchmarks and the system tests stand on it. Nothing here is shipped.
//!
//! Servers listen on 127.0.0.1 at free ports, keep their files in a temporary directory of their
//! own, and are ended by process id: when their handle is dropped, or by the kernel when the
//! process that started them dies.
//! When `PENSTOCK_TEST_DATABASE_URL` and `PENSTOCK_TEST_AWS_ENDPOINT` are set (`stack run -- COMMAND`
//! sets them) [`postgres::Postgres::shared`] and [`aws::Emulator::shared`] use those servers
//! instead of starting their own; tests keep apart by a fresh database and a fresh account each.

pub mod aws;
pub mod browser;
pub mod database;
pub mod example;
pub mod fake;
pub mod files;
pub mod http;
pub mod pooler;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod scratch;
pub mod spawn;
pub mod tools;
pub mod torture;
pub mod wait;

pub use telemetry;

use std::path::{Path, PathBuf};

/// Returns the repository's top directory.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_path_buf()
}
