//! Log lines on standard error.

use crate::cli::LogFormat;
use service::logging::Format;

/// What is shown unless `RUST_LOG` says otherwise: the libraries repeat what our own lines say.
const DEFAULT_FILTER: &str = "info,sqlx=error,aws_config=warn,aws_smithy_runtime=error,aws_runtime=error,aws_sdk_sqs=warn,\
                              aws_sdk_autoscaling=warn,aws_sdk_ecs=warn,kube_client=off,hyper=warn,hyper_util=warn,\
                              rustls=warn,tower=warn";

/// Starts logging for the rest of the process's life.
pub fn start(format: LogFormat) {
    let format = match format {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
    };
    service::logging::start(format, DEFAULT_FILTER);
}
