//! Publishing to SNS topics and EventBridge buses.

use aws_config::{Region, SdkConfig};
use aws_sdk_eventbridge::types::PutEventsRequestEntry;

/// What events on a bus say they come from.
const SOURCE: &str = "penstock";

/// Publishes a message to a topic.
///
/// # Errors
/// What SNS says, or that it did not answer.
pub async fn publish(config: &SdkConfig, topic: &str, body: &str) -> anyhow::Result<()> {
    let client = aws_sdk_sns::Client::new(&in_region(config, topic));
    client.publish().topic_arn(topic).message(body).send().await?;
    Ok(())
}

/// Puts an event on a bus; `detail_type` is what rules match.
///
/// # Errors
/// What EventBridge says, or that it did not answer.
pub async fn put_event(config: &SdkConfig, bus: &str, detail_type: &str, body: &str) -> anyhow::Result<()> {
    let entry = PutEventsRequestEntry::builder()
        .event_bus_name(bus)
        .source(SOURCE)
        .detail_type(detail_type)
        .detail(body)
        .build();
    let client = aws_sdk_eventbridge::Client::new(&in_region(config, bus));
    let answer = client.put_events().entries(entry).send().await?;
    match answer.entries().iter().find_map(|entry| entry.error_code().map(|code| (code, entry.error_message()))) {
        Some((code, message)) => anyhow::bail!("{code}: {}", message.unwrap_or_default()),
        None => Ok(()),
    }
}

/// Returns the configuration for the region an ARN names, unless an endpoint is set.
fn in_region(config: &SdkConfig, arn: &str) -> SdkConfig {
    match arn.split(':').nth(3).filter(|region| !region.is_empty()) {
        Some(region) if config.endpoint_url().is_none() => {
            config.clone().into_builder().region(Region::new(region.to_owned())).build()
        }
        _ => config.clone(),
    }
}
