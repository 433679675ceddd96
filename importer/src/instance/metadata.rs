//! What an EC2 instance is told about itself
//! ([IMDSv2](https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html)).

use anyhow::{Context, bail};
use aws_config::{
    imds::{self, client::error::ImdsError},
    provider_config::ProviderConfig,
};
use aws_sdk_sqs::config::SharedHttpClient;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use std::time::Duration;

/// How long an answer may take; off EC2 the address leads nowhere.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The metadata of the instance this program runs on.
#[derive(Debug, Clone)]
pub struct Metadata {
    /// The instance's id.
    pub instance_id: String,
    client: imds::Client,
}

/// That a spot instance is going to be taken away.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SpotNotice {
    /// `terminate`, `stop` or `hibernate`.
    pub action: String,
    /// When.
    pub time: DateTime<Utc>,
}

impl Metadata {
    /// Asks for the instance's id.
    ///
    /// # Errors
    /// Off EC2, or when `AWS_EC2_METADATA_DISABLED` says so.
    pub async fn reach(http_client: SharedHttpClient) -> anyhow::Result<Self> {
        if std::env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true")) {
            bail!("AWS_EC2_METADATA_DISABLED is set");
        }
        let client = imds::Client::builder()
            .configure(&ProviderConfig::default().with_http_client(http_client))
            .connect_timeout(TIMEOUT)
            .read_timeout(TIMEOUT)
            .max_attempts(1)
            .build();
        let asked = tokio::time::timeout(3 * TIMEOUT, client.get("/latest/meta-data/instance-id"));
        let instance_id = asked.await.context("timed out")??.as_ref().to_owned();
        Ok(Self { instance_id, client })
    }

    /// Returns the state the Auto Scaling group is moving the instance to; None outside of groups
    /// ([target lifecycle state](https://docs.aws.amazon.com/autoscaling/ec2/userguide/retrieving-target-lifecycle-state-through-imds.html)).
    ///
    /// # Errors
    /// When the metadata does not answer.
    pub async fn target_lifecycle_state(&self) -> anyhow::Result<Option<String>> {
        self.get("/latest/meta-data/autoscaling/target-lifecycle-state").await
    }

    /// Returns the spot interruption notice, where there is one
    /// ([instance-action](https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html)).
    ///
    /// # Errors
    /// When the metadata does not answer, or not with a notice.
    pub async fn spot_notice(&self) -> anyhow::Result<Option<SpotNotice>> {
        let Some(text) = self.get("/latest/meta-data/spot/instance-action").await? else { return Ok(None) };
        Ok(Some(serde_json::from_str(&text).context("read the spot notice")?))
    }

    /// Returns an item, or None where there is no such item now.
    async fn get(&self, path: &str) -> anyhow::Result<Option<String>> {
        match self.client.get(path).await {
            Ok(text) => Ok(Some(text.as_ref().trim().to_owned())),
            Err(ImdsError::ErrorResponse(answer)) if answer.response().status().as_u16() == 404 => Ok(None),
            Err(error) => Err(error).with_context(|| format!("ask the instance metadata for {path}")),
        }
    }
}

/// Returns whether this machine says of itself, without the network, that it is an EC2 instance.
pub fn is_likely() -> bool {
    let starts_with = |path: &str, start: &str| std::fs::read_to_string(path).is_ok_and(|text| text.starts_with(start));
    std::env::var_os("AWS_EC2_METADATA_SERVICE_ENDPOINT").is_some()
        || starts_with("/sys/devices/virtual/dmi/id/sys_vendor", "Amazon EC2")
        || starts_with("/sys/hypervisor/uuid", "ec2")
}
