//! Log lines on stderr, as text or as one JSON object a line.

use crate::cli::LogFormat;
use std::io::{self, IsTerminal};
use tracing_subscriber::{
    EnvFilter,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// What is shown unless `RUST_LOG` says otherwise. The libraries repeat at `info` what our own lines say,
/// and sqlx and the AWS SDK log statements and requests, which may hold row values.
const DEFAULT_FILTER: &str = "info,sqlx=error,aws_config=error,aws_smithy_runtime=error,aws_runtime=error,aws_sdk_s3=error,aws_sdk_sqs=warn,\
                              hyper=warn,hyper_util=warn,rustls=warn,h2=warn";

/// Starts logging for the rest of the process's life.
pub fn init(format: LogFormat) {
    tracing_subscriber::registry()
        .with(filter(std::env::var("RUST_LOG").ok().as_deref()))
        .with(layer(format, io::stderr))
        .init();
}

/// A bad `RUST_LOG` must not keep an importer from starting; it falls back to the default.
fn filter(directives: Option<&str>) -> EnvFilter {
    let directives = directives.filter(|text| !text.trim().is_empty());
    directives.and_then(|text| EnvFilter::try_new(text).ok()).unwrap_or_else(|| EnvFilter::new(DEFAULT_FILTER))
}

fn layer<S, W>(format: LogFormat, writer: W) -> Box<dyn tracing_subscriber::Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    match format {
        // Fields stand beside `timestamp`, `level` and `message`, so `jq .error` works.
        LogFormat::Json => Box::new(
            fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(true).with_writer(writer),
        ),
        LogFormat::Text => {
            Box::new(fmt::layer().with_ansi(io::stderr().is_terminal()).with_target(false).with_writer(writer))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing::{info, info_span};

    /// A writer that keeps what was written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::registry().with(filter(None)).with(layer(format, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = kept.0.lock().expect("no writer panics").clone();
        String::from_utf8(bytes).expect("log lines are text")
    }

    fn import_one() {
        let _span = info_span!("object", s3.bucket = "b", s3.key = "k").entered();
        info!(rows = 3, duration_ms = 12, "object imported");
    }

    #[test]
    fn json_lines_have_the_documented_names() {
        let text = logged(LogFormat::Json, import_one);
        let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "object imported");
        assert_eq!(line["rows"], 3);
        assert!(line["timestamp"].is_string());
        assert_eq!(line["spans"][0]["s3.key"], "k");
    }

    #[test]
    fn text_lines_carry_the_span_and_the_fields() {
        let text = logged(LogFormat::Text, import_one);
        for part in ["INFO", "s3.key=\"k\"", "object imported", "rows=3"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn libraries_are_quiet_by_default() {
        assert_eq!(logged(LogFormat::Text, || info!(target: "sqlx::query", "SELECT 1")), "");
        assert_eq!(logged(LogFormat::Text, || tracing::debug!("not shown")), "");
    }
}
