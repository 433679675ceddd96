//! Log lines on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::LogFormat;

/// What is shown unless `RUST_LOG` says otherwise: the libraries repeat what our own lines say.
const DEFAULT_FILTER: &str = "info,sqlx=error,aws_config=warn,aws_smithy_runtime=error,aws_runtime=error,aws_sdk_sqs=warn,\
                              aws_sdk_autoscaling=warn,aws_sdk_ecs=warn,kube_client=off,hyper=warn,hyper_util=warn,\
                              rustls=warn,tower=warn";

/// Starts logging for the rest of the process's life.
pub fn start(format: LogFormat) {
    let filter = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    // A bad RUST_LOG must not keep the scaler from starting.
    let filter =
        filter.and_then(|text| EnvFilter::try_new(text).ok()).unwrap_or_else(|| EnvFilter::new(DEFAULT_FILTER));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true).with_current_span(false)).init(),
        LogFormat::Text => registry.with(layer.with_ansi(io::stderr().is_terminal()).with_target(false)).init(),
    }
}
