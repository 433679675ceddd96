//! The AWS SDK's configuration: region, credentials and endpoints come from its own chain.

use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

/// Returns the configuration of the SDK's own chain: environment, profile, SSO, web identity, ECS, IMDSv2.
pub async fn config() -> SdkConfig {
    // Pinned, so that an update of the SDK does not change retries and timeouts.
    aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http_client()).load().await
}

/// Returns the HTTP client of everything that speaks to AWS.
#[must_use]
pub fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}
