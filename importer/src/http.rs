//! `/healthz`, `/readyz` and `/metrics`.

use crate::metrics::Metrics;
use anyhow::Context;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use std::{
    collections::BTreeMap,
    fmt::Write,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// What keeps this process from importing, shared between those who find out and `/readyz`.
#[derive(Debug, Default)]
pub struct Health {
    missing: Mutex<BTreeMap<&'static str, String>>,
}

impl Health {
    /// Returns a state in which each of these is still missing.
    #[must_use]
    pub fn starting(names: &[&'static str]) -> Self {
        Self { missing: Mutex::new(names.iter().map(|name| (*name, "not reached yet".to_owned())).collect()) }
    }

    /// Notes that something is missing and why; `why` is shown to whoever asks, so it holds no secrets.
    pub fn set_missing(&self, name: &'static str, why: impl Into<String>) {
        self.lock().insert(name, why.into());
    }

    /// Notes that something is there (again).
    pub fn set_ready(&self, name: &'static str) {
        self.lock().remove(name);
    }

    /// Returns whether nothing is missing.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    /// Returns what is missing, a line each.
    #[must_use]
    pub fn missing(&self) -> String {
        let mut text = String::new();
        for (name, why) in self.lock().iter() {
            let _ = writeln!(text, "{name}: {why}");
        }
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until `shutdown` and returns the bound address; `None` when `listen` is empty.
///
/// # Errors
/// When the address cannot be bound for another reason than that its port is taken.
pub async fn serve(
    listen: &str,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) -> anyhow::Result<Option<SocketAddr>> {
    if listen.is_empty() {
        return Ok(None);
    }
    let listener = bind(listen).await.with_context(|| format!("listen on http.listen = {listen:?}"))?;
    let address = listener.local_addr().context("read the bound address")?;
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state((health, metrics));
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await;
        if let Err(error) = served {
            warn!(error = format!("{error:#}"), "health and metrics are no longer served");
        }
    });
    info!(listen = %address, "serving health and metrics");
    Ok(Some(address))
}

/// Binds the address, or a free port of the same host when its port is taken.
async fn bind(listen: &str) -> io::Result<TcpListener> {
    match TcpListener::bind(listen).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
            info!(listen, "port is taken, using a free one");
            TcpListener::bind(format!("{host}:0")).await
        }
        bound => bound,
    }
}

type Shared = (Arc<Health>, Arc<Metrics>);

async fn readyz(State((health, _)): State<Shared>) -> impl IntoResponse {
    let missing = health.missing();
    if missing.is_empty() { (StatusCode::OK, "ready\n".to_owned()) } else { (StatusCode::SERVICE_UNAVAILABLE, missing) }
}

async fn metrics_text(State((_, metrics)): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get_text(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the answer is text");
        answer
    }

    async fn start(listen: &str, health: &Arc<Health>) -> Option<SocketAddr> {
        let metrics = Arc::new(Metrics::new(&["d".to_owned()]));
        serve(listen, Arc::clone(health), metrics, CancellationToken::new()).await.expect("bound")
    }

    #[tokio::test]
    async fn readiness_follows_what_is_missing_and_health_does_not() {
        let health = Arc::new(Health::starting(&["database", "queue"]));
        let address = start("127.0.0.1:0", &health).await.expect("an address");
        let answer = get_text(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("database: not reached yet\nqueue: not reached yet\n"), "{answer}");
        assert!(get_text(address, "/healthz").await.starts_with("HTTP/1.1 200"));

        health.set_ready("database");
        health.set_ready("queue");
        assert!(health.is_ready());
        assert!(get_text(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        health.set_missing("database", "connection refused");
        assert!(get_text(address, "/readyz").await.ends_with("database: connection refused\n"));
    }

    #[tokio::test]
    async fn metrics_are_served_as_text() {
        let address = start("127.0.0.1:0", &Arc::default()).await.expect("an address");
        let answer = get_text(address, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("importer_build_info"), "{answer}");
    }

    #[tokio::test]
    async fn a_taken_port_gives_way_to_a_free_one() {
        let first = start("127.0.0.1:0", &Arc::default()).await.expect("an address");
        let second = start(&first.to_string(), &Arc::default()).await.expect("an address");
        assert_eq!(first.ip(), second.ip());
        assert_ne!(first.port(), second.port());
    }

    #[tokio::test]
    async fn an_empty_address_turns_it_off_and_a_foreign_one_is_an_error() {
        assert_eq!(start("", &Arc::default()).await, None);
        let metrics = Arc::new(Metrics::new(&[]));
        let shutdown = CancellationToken::new();
        serve("192.0.2.1:1", Arc::default(), metrics, shutdown).await.expect_err("not an address of this machine");
    }
}
