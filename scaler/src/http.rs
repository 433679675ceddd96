//! `/healthz`, `/readyz` and `/metrics`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::Metrics;

/// What keeps this scaler from doing its work.
#[derive(Debug, Default)]
pub struct Readiness {
    missing: Mutex<BTreeMap<String, String>>,
}

impl Readiness {
    /// Notes whether a part is there, or why it is not; `why` is shown to whoever asks.
    pub fn note(&self, part: impl Into<String>, state: Result<(), String>) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            Ok(()) => missing.remove(&part.into()),
            Err(why) => missing.insert(part.into(), why),
        };
    }

    fn missing(&self) -> String {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.iter().map(|(part, why)| format!("{part}: {why}\n")).collect()
    }
}

/// Serves until stopped; returns the address, or `None` when it is turned off.
pub async fn serve(
    listen: &str,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> anyhow::Result<Option<SocketAddr>> {
    if listen.is_empty() {
        return Ok(None);
    }
    let listener = bind(listen).await.with_context(|| format!("listen on `http.listen` {listen}"))?;
    let address = listener.local_addr().context("read the bound address")?;
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state((readiness, metrics));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await {
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

type Shared = (Arc<Readiness>, Arc<Metrics>);

async fn readyz(State((readiness, _)): State<Shared>) -> impl IntoResponse {
    match readiness.missing() {
        missing if missing.is_empty() => (StatusCode::OK, "ready\n".to_owned()),
        missing => (StatusCode::SERVICE_UNAVAILABLE, missing),
    }
}

async fn metrics_text(State((_, metrics)): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.text())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_says_what_is_missing_and_health_does_not() {
        let readiness = Arc::new(Readiness::default());
        readiness.note("database", Err("connection refused".to_owned()));
        let stop = CancellationToken::new();
        let serving = serve("127.0.0.1:0", Arc::clone(&readiness), Arc::default(), stop.clone()).await.unwrap();
        let address = serving.unwrap();
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("database: connection refused"), "{answer}");
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        readiness.note("database", Ok(()));
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/metrics").await.contains("scaler_build_info"));
        let second = serve(&address.to_string(), readiness, Arc::default(), stop).await.unwrap().unwrap();
        assert_ne!(second.port(), address.port(), "a taken port gives way to a free one");
    }

    #[tokio::test]
    async fn empty_address_turns_it_off() {
        assert_eq!(serve("", Arc::default(), Arc::default(), CancellationToken::new()).await.unwrap(), None);
    }
}
