//! `/healthz`, `/readyz` and `/metrics`.

use std::{net::SocketAddr, sync::Arc};
use tokio_util::sync::CancellationToken;

pub use service::http::Health as Readiness;

use crate::metrics::Metrics;

/// Serves until stopped; returns the address, or `None` when it is turned off.
///
/// # Errors
/// When `listen` is no address, or nothing can listen there.
pub async fn serve(
    listen: &str,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> anyhow::Result<Option<SocketAddr>> {
    service::http::serve(listen, service::http::router(readiness, move || metrics.text()), stop).await
}
