//! The AWS SDK's configuration: region, credentials, proxies and endpoints come from its own chain, and
//! every call has an end.

mod credentials;
pub mod http;
pub mod notify;
pub mod role;
pub mod sqs;

use anyhow::{Context, bail};
use aws_config::{BehaviorVersion, Region, SdkConfig, timeout::TimeoutConfig};
use aws_smithy_runtime_api::client::{
    http::SharedHttpClient,
    interceptors::context::InterceptorContext,
    retries::classifiers::{ClassifyRetry, RetryAction},
    stalled_stream_protection::StalledStreamProtectionConfig,
};
use std::time::Duration;
use tokio::time::timeout;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);
/// How long one try of a short call may take.
/// Longer keeps a slot waiting for a peer that is gone; shorter gives up on one that is only slow.
pub const ATTEMPT: Duration = Duration::from_secs(10);
/// How long a short call may take with all its tries.
pub const OPERATION: Duration = Duration::from_secs(25);

/// Returns the configuration of the SDK's own chain: environment, profile, SSO, web identity, ECS, IMDSv2.
///
/// Calls end after [`ATTEMPT`] and [`OPERATION`], a body that makes no progress after [`http::SILENCE`];
/// credentials that change on disk are read again.
///
/// # Errors
/// When `AWS_CA_BUNDLE` cannot be used, or this machine's metadata do not answer within [`OPERATION`].
pub async fn config() -> anyhow::Result<SdkConfig> {
    timeout(OPERATION, load_config())
        .await
        .unwrap_or_else(|_| bail!("AWS's configuration: this machine's metadata did not answer within {OPERATION:?}"))
}

async fn load_config() -> anyhow::Result<SdkConfig> {
    let refusals = http::Refusals::default();
    let client = http::client(refusals.clone())?;
    // Pinned, so that an update of the SDK does not change retries and timeouts.
    let version = BehaviorVersion::v2026_01_12();
    let loaded = aws_config::defaults(version)
        .http_client(client)
        .timeout_config(timeouts(ATTEMPT, OPERATION))
        // The HTTP client watches bodies itself, so that it can name the peer and leave its connections.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .no_credentials()
        .load()
        .await;
    let credentials = credentials::provider(&loaded, refusals);
    Ok(loaded.into_builder().credentials_provider(credentials).build())
}

/// Returns the HTTP client of everything that speaks to AWS.
///
/// # Errors
/// When `AWS_CA_BUNDLE` cannot be used.
pub fn http_client() -> anyhow::Result<SharedHttpClient> {
    http::client(http::Refusals::default())
}

/// Returns timeouts: one for each attempt, one for the whole call.
#[must_use]
pub fn timeouts(attempt: Duration, operation: Duration) -> TimeoutConfig {
    // A little earlier than the attempt's own end, for only the HTTP client knows the peer, and leaves it.
    let read = attempt - attempt / 20;
    TimeoutConfig::builder()
        .connect_timeout(CONNECT.min(read))
        .read_timeout(read)
        .operation_attempt_timeout(attempt)
        .operation_timeout(operation)
        .build()
}

/// Returns the configuration for the queue of this URL: its region is the one the URL names, unless an endpoint
/// is set.
#[must_use]
pub fn for_queue(config: &SdkConfig, url: &str) -> SdkConfig {
    let is_set = |variable: &str| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    if config.endpoint_url().is_some() || is_set("AWS_ENDPOINT_URL_SQS") {
        return config.clone();
    }
    match region_of_queue(url) {
        Some(region) => config.clone().into_builder().region(Region::new(region.to_owned())).build(),
        None => config.clone(),
    }
}

/// Returns the region of a queue's URL
/// ([service endpoints](https://docs.aws.amazon.com/general/latest/gr/sqs-service.html)).
fn region_of_queue(url: &str) -> Option<&str> {
    let host = url.split_once("://")?.1.split(['/', ':']).next()?;
    if !host.contains(".amazonaws.") && !host.ends_with(".api.aws") {
        return None;
    }
    // The first region's oldest form names none.
    if host == "queue.amazonaws.com" {
        return Some("us-east-1");
    }
    let labels: Vec<&str> = host.split('.').collect();
    // The service's label is followed by the region; the oldest form has it the other way round.
    let after = labels.iter().position(|label| matches!(*label, "sqs" | "sqs-fips")).map(|place| place + 1);
    let legacy = (labels.get(1) == Some(&"queue")).then_some(0);
    let region = labels.get(after.or(legacy)?)?;
    region.contains('-').then_some(*region)
}

/// Forbids the SDK to try a call again that was not answered in time, for those who do so themselves: a call
/// that is started a moment before its operation ends may still be carried out, and unnoticed.
#[derive(Debug)]
pub struct SilenceIsFinal;

impl ClassifyRetry for SilenceIsFinal {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(Result::err);
        let is_silence = error.is_some_and(|error| {
            error.as_connector_error().is_some_and(|error| error.is_timeout()) || error.is_timeout_error()
        });
        if is_silence { RetryAction::RetryForbidden } else { RetryAction::NoActionIndicated }
    }

    fn name(&self) -> &'static str {
        "silence is final"
    }
}

/// Returns whether an error comes from the way to AWS or from our credentials, rather than from what was asked.
#[must_use]
pub fn is_of_the_way(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<http::NoAnswer>() || credentials::is_error(error) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Reads the bundle of certificate authorities that `AWS_CA_BUNDLE` names; none when it is not set.
fn ca_bundle() -> anyhow::Result<Option<Vec<u8>>> {
    let Some(path) = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()) else { return Ok(None) };
    let shown = path.display().to_string();
    let bundle = std::fs::read(&path).with_context(|| format!("read AWS_CA_BUNDLE {shown}"))?;
    let has_certificate = String::from_utf8_lossy(&bundle).contains("-----BEGIN CERTIFICATE-----");
    anyhow::ensure!(has_certificate, "AWS_CA_BUNDLE {shown} holds no certificate in PEM");
    Ok(Some(bundle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_spoken_to_in_the_region_of_its_url() {
        for (url, expected) in [
            ("https://sqs.eu-west-1.amazonaws.com/1/q", Some("eu-west-1")),
            ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", Some("cn-north-1")),
            ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", Some("us-gov-west-1")),
            ("https://sqs.eu-west-1.api.aws/1/q", Some("eu-west-1")),
            ("https://eu-west-1.queue.amazonaws.com/1/q", Some("eu-west-1")),
            ("https://vpce-1-2.sqs.eu-west-1.vpce.amazonaws.com/1/q", Some("eu-west-1")),
            ("https://queue.amazonaws.com/1/q", Some("us-east-1")),
            ("http://127.0.0.1:4566/1/q", None),
            ("http://sqs.eu-west-1.localhost.localstack.cloud:4566/1/q", None),
            ("q", None),
        ] {
            assert_eq!(region_of_queue(url), expected, "{url}");
        }
        let config = SdkConfig::builder().region(Region::new("us-east-1")).build();
        let moved = for_queue(&config, "https://sqs.eu-west-1.amazonaws.com/1/q");
        assert_eq!(moved.region().map(Region::as_ref), Some("eu-west-1"));
        let with_endpoint = config.into_builder().endpoint_url("http://127.0.0.1:1").build();
        let kept = for_queue(&with_endpoint, "https://sqs.eu-west-1.amazonaws.com/1/q");
        assert_eq!(kept.region().map(Region::as_ref), Some("us-east-1"));
    }

    #[test]
    fn the_connection_gives_up_before_the_attempt_and_the_attempt_before_the_operation() {
        for attempt in [Duration::from_secs(1), ATTEMPT, Duration::from_secs(30)] {
            let timeouts = timeouts(attempt, attempt.max(OPERATION));
            assert!(timeouts.connect_timeout() <= timeouts.read_timeout());
            assert!(timeouts.read_timeout() < timeouts.operation_attempt_timeout());
            assert!(timeouts.operation_attempt_timeout() <= timeouts.operation_timeout());
        }
    }
}
