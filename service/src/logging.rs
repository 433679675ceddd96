//! Log lines on stderr, as text or as one JSON object a line.

use crate::terminal;
use clap::ValueEnum;
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt,
    io::{self, IsTerminal, Write},
};
use tracing::error;
use tracing_subscriber::{
    EnvFilter, Layer,
    field::RecordFields,
    fmt::{
        self as lines, FormatFields, MakeWriter,
        format::{DefaultFields, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// What is shown unless `RUST_LOG` says otherwise. The libraries repeat at `info` what our own lines say, and sqlx and
/// the AWS SDK log statements and requests, which may hold row values.
const DEFAULT_FILTER: &str = "info,sqlx=error,aws_config=error,aws_smithy_runtime=error,aws_runtime=error,\
                              aws_sdk_autoscaling=warn,aws_sdk_ecs=warn,aws_sdk_eventbridge=warn,aws_sdk_s3=error,\
                              aws_sdk_sns=warn,aws_sdk_sqs=warn,h2=warn,hyper=warn,hyper_util=warn,kube_client=off,\
                              rustls=warn,tower=warn";

/// `--log-format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object per line
    Json,
    /// Plain text
    Text,
}

/// Starts logging for the rest of the process's life.
pub fn start(format: Format) {
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref());
    tracing_subscriber::registry().with(filter).with(layer(format, io::stderr)).init();
    std::panic::set_hook(Box::new(|panicked| {
        let place = panicked.location().map(ToString::to_string);
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        error!(place, said = said(panicked.payload_as_str().unwrap_or_default()), backtrace, "panicked");
    }));
}

/// Returns what a panic says up to where it may quote what it was about: a slice's text, an unwrapped error.
fn said(message: &str) -> &str {
    message.split(['`', '"', ':']).next().unwrap_or_default()
}

/// A bad `RUST_LOG` must not keep a program from starting; it falls back to the default.
fn filter(directives: Option<&str>) -> EnvFilter {
    let directives = directives.filter(|text| !text.trim().is_empty());
    directives.and_then(|text| EnvFilter::try_new(text).ok()).unwrap_or_else(|| EnvFilter::new(DEFAULT_FILTER))
}

fn layer<S, W>(format: Format, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = lines::layer();
    match format {
        // Fields stand beside `timestamp`, `level` and `message`, so `jq .error` works.
        Format::Json => {
            let layer = layer.json().flatten_event(true).with_current_span(false).with_span_list(true);
            Box::new(layer.with_writer(Escaped(writer)))
        }
        Format::Text => {
            let layer = layer.with_ansi(io::stderr().is_terminal()).with_target(false);
            Box::new(layer.fmt_fields(EscapedFields(DefaultFields::new())).with_writer(writer))
        }
    }
}

/// Fields as text; what a terminal would act on is escaped here, since colours come around them.
struct EscapedFields(DefaultFields);

impl<'w> FormatFields<'w> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut text = String::new();
        self.0.format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&terminal::line(&text))
    }
}

/// Writes JSON with the escapes that JSON itself does not ask for.
struct Escaped<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Escaped<W> {
    type Writer = Escaped<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Escaped(self.0.make_writer())
    }
}

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A line comes whole.
        self.0.write_all(terminal::json(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{info, info_span};

    use super::*;

    /// A writer that keeps what was written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::registry().with(filter(None));
        tracing::subscriber::with_default(subscriber.with(layer(format, move || writer.clone())), log);
        let bytes = kept.0.lock().expect("no writer panics").clone();
        String::from_utf8(bytes).expect("log lines are text")
    }

    fn import_one() {
        let _span = info_span!("object", s3.bucket = "b", s3.key = "k").entered();
        info!(rows = 3, duration_ms = 12, "object imported");
    }

    #[test]
    fn json_lines_have_the_documented_names() {
        let text = logged(Format::Json, import_one);
        let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "object imported");
        assert_eq!(line["rows"], 3);
        assert!(line["timestamp"].is_string());
        assert_eq!(line["spans"][0]["s3.key"], "k");
    }

    #[test]
    fn text_lines_carry_the_span_and_the_fields() {
        let text = logged(Format::Text, import_one);
        for part in ["INFO", "s3.key=\"k\"", "object imported", "rows=3"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn neither_format_holds_a_character_that_a_terminal_acts_on() {
        let hostile = "a\u{1b}[31m\u{9b}\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\u{7f}\nINFO forged";
        for format in [Format::Text, Format::Json] {
            let text = logged(format, || {
                let _span = info_span!("object", s3.key = %hostile, etag = hostile).entered();
                info!(error = hostile, list = ?[hostile], shown = %hostile, "{hostile}");
            });
            let line = text.strip_suffix('\n').expect("a line");
            assert!(!line.contains(terminal::is_hidden), "{line:?}");
        }
    }

    #[test]
    fn a_line_of_text_is_cut_and_json_is_whole() {
        let long = "x".repeat(1 << 20);
        assert!(logged(Format::Text, || info!("{long}")).len() < 4096);
        assert!(logged(Format::Json, || info!("{long}")).len() > 1 << 20);
    }

    #[test]
    fn of_a_panic_nothing_is_said_that_may_be_a_value() {
        for (message, expected) in [
            ("called `Result::unwrap()` on an `Err` value: \"SECRET\"", "called "),
            ("end byte index 9 is out of bounds of `SECRET`", "end byte index 9 is out of bounds of "),
            ("not a number: SECRET", "not a number"),
            ("index out of bounds", "index out of bounds"),
        ] {
            assert_eq!(said(message), expected);
        }
    }

    #[test]
    fn libraries_are_quiet_by_default() {
        assert_eq!(logged(Format::Text, || info!(target: "sqlx::query", "SELECT 1")), "");
        assert_eq!(logged(Format::Text, || tracing::debug!("not shown")), "");
    }
}
