//! Connecting to Postgres as the configuration says.

mod transaction;

pub use service::postgres::{Server, connect_options, refuse_transaction_pooler};
pub use transaction::{Begin, End, Lasts, TransactionError, savepoint, transaction};

/// Returns the name a worker's connections show in `pg_stat_activity`. Postgres keeps 63 bytes of it.
#[must_use]
pub fn application_name(worker_id: &str) -> String {
    format!("penstock importer {worker_id}")
}
