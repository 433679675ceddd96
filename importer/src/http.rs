//! `/healthz`, `/readyz` and `/metrics`.

pub use service::http::Health;

use crate::metrics::Metrics;
use std::{net::SocketAddr, sync::Arc};
use tokio_util::sync::CancellationToken;

/// Serves until `shutdown` and returns the bound address; `None` when `listen` is empty.
///
/// # Errors
/// As [`service::http::serve`].
pub async fn serve(
    listen: &str,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) -> anyhow::Result<Option<SocketAddr>> {
    service::http::serve(listen, service::http::router(health, move || metrics.text()), shutdown).await
}
