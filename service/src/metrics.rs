//! Metrics: made and listed in one step, and shown as text.

use prometheus_client::{
    encoding::text::encode,
    registry::{Metric, Registry},
};

/// Returns a new metric that the registry shows under this name.
pub fn listed<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// Returns all metrics in the OpenMetrics text format.
#[must_use]
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).expect("writing to a String cannot fail");
    text
}
