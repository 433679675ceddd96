//! The Postgres server: how much of it is left.

use crate::read::{Failure, Reader};
use serde::Serialize;

/// The server.
#[derive(Debug, Clone, Serialize)]
pub struct Server {
    /// Its connection limit.
    pub max_connections: i64,
    /// Connections that are free.
    pub free_connections: i64,
    /// Connections of importers.
    pub importer_backends: i64,
    /// Those of them that work on a statement.
    pub active_backends: i64,
    /// Those of them that wait for a lock.
    pub waiting_for_locks: i64,
    /// How long the longest transaction has been open, in seconds; null without the right to see others'.
    pub longest_secs: Option<f64>,
    /// Its version.
    pub version: String,
    /// Whether it only follows another.
    pub is_replica: bool,
}
service::from_row!(Server {
    max_connections,
    free_connections,
    importer_backends,
    active_backends,
    waiting_for_locks,
    longest_secs,
    version,
    is_replica
});

/// Returns how busy the server is.
///
/// # Errors
/// As [`Reader::read`].
pub async fn server(reader: &Reader) -> Result<Server, Failure> {
    reader.read(async |connection| sqlx::query_as(include_str!("server.sql")).fetch_one(connection).await).await
}
