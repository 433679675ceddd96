//! Which machine, pod or task this is, by the name its scaler knows it under.

use aws_config::{imds, provider_config::ProviderConfig};
use std::{sync::OnceLock, time::Duration};
use tracing::debug;

/// How long the instance metadata may take; off EC2 the address leads nowhere.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Finds the id: `PENSTOCK_INSTANCE_ID`, the pod's name on Kubernetes, else the EC2 instance id from
/// [IMDSv2](https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html)
/// (unless `AWS_EC2_METADATA_DISABLED`). Leaves `found` empty where there is none.
pub async fn find(found: &OnceLock<String>) {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let named = variable("PENSTOCK_INSTANCE_ID")
        .or_else(|| variable("KUBERNETES_SERVICE_HOST").and_then(|_| variable("HOSTNAME")));
    if let Some(id) = named {
        let _ = found.set(id);
        return;
    }
    if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return;
    }
    let client = imds::Client::builder()
        .configure(&ProviderConfig::default().with_http_client(super::http_client()))
        .connect_timeout(TIMEOUT)
        .read_timeout(TIMEOUT)
        .max_attempts(1)
        .build();
    match tokio::time::timeout(3 * TIMEOUT, client.get("/latest/meta-data/instance-id")).await {
        Ok(Ok(id)) => {
            let _ = found.set(id.as_ref().to_owned());
        }
        Ok(Err(error)) => debug!(error = error.to_string(), "no instance metadata: not on EC2"),
        Err(_) => debug!("no instance metadata in time: not on EC2"),
    }
}
