//! The AWS SDK's configuration: region, credentials and endpoints come from its own chain.

use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

/// Loads the configuration.
pub async fn config() -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    // Pinned, so that an update of the SDK does not change retries and timeouts.
    aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http).load().await
}
