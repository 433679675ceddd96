//! Log lines on stderr, as text or as one JSON object a line.

use crate::cli::LogFormat;
use service::logging::Format;

/// What is shown unless `RUST_LOG` says otherwise. The libraries repeat at `info` what our own lines say,
/// and sqlx and the AWS SDK log statements and requests, which may hold row values.
const DEFAULT_FILTER: &str = "info,sqlx=error,aws_config=error,aws_smithy_runtime=error,aws_runtime=error,aws_sdk_s3=error,aws_sdk_sqs=warn,\
                              hyper=warn,hyper_util=warn,rustls=warn,h2=warn";

/// Starts logging for the rest of the process's life.
pub fn init(format: LogFormat) {
    let format = match format {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
    };
    service::logging::start(format, DEFAULT_FILTER);
}
