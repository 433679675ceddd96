//! Everything `/metrics` shows. Labels are bounded: datasets come from the configuration, the rest are fixed words.

use crate::{cli::VERSION, ledger::Counts};
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};
use service::metrics::{listed, text};
use std::{sync::Arc, time::Duration};

/// The counters of one importer. Cheap to clone a handle of; counted per batch or object, never per row.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Receive calls answered.
    pub receives: Counter,
    /// Receive calls answered without a message.
    pub empty_receives: Counter,
    /// Messages received, each delivery counted.
    pub messages_received: Counter,
    /// Messages received before.
    pub messages_redelivered: Counter,
    /// Messages deleted.
    pub messages_deleted: Counter,
    /// Messages given back for others.
    pub messages_released: Counter,
    /// Messages forwarded to the dead-letter queue, by reason.
    pub messages_dead_lettered: Family<Labels<1>, Counter>,
    /// Messages held now.
    pub messages_held: Gauge,
    /// Visibility extensions that failed.
    pub extend_failures: Counter,
    /// Objects being imported now.
    pub objects_in_progress: Gauge,
    /// Objects that may be imported at once.
    pub slots: Gauge,
    /// 1 while intake pauses because something outside is broken.
    pub intake_paused: Gauge,
    /// 1 while a dataset's objects fail for a cause that may not be theirs, and are held.
    pub dataset_braked: Family<Labels<2>, Gauge>,
    objects_imported: Family<Labels<1>, Counter>,
    objects: Family<Labels<2>, Counter>,
    rows_read: Family<Labels<1>, Counter>,
    rows_added: Family<Labels<1>, Counter>,
    rows_written: Family<Labels<1>, Counter>,
    rows_merged: Family<Labels<1>, Counter>,
    rows_filtered: Family<Labels<1>, Counter>,
    rows_rejected: Family<Labels<1>, Counter>,
    bytes_read: Family<Labels<1>, Counter>,
    import_duration: Family<Labels<1>, Histogram>,
    loads: Family<Labels<2>, Counter>,
}

/// Names of labels and their values. `dataset` is empty for objects no dataset claims.
pub type Labels<const N: usize> = [(&'static str, Arc<str>); N];

/// What may become of an object.
pub const OUTCOMES: [&str; 6] = ["imported", "already_imported", "superseded", "skipped", "gone", "failed"];

impl Metrics {
    /// Returns all metrics at zero, each dataset's already listed, so that a rate is right from the first object on.
    #[must_use]
    pub fn new(datasets: &[String]) -> Self {
        let mut registry = Registry::default();
        let listing = registry.sub_registry_with_prefix("importer");
        listing.register("build", "Version of the program", Info::new(vec![("version", VERSION)]));
        // 5 ms to about 80 minutes.
        let import_duration: Family<Labels<1>, Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.0, 20)));
        // The library adds `_total` to counters.
        let metrics = Self {
            receives: listed(listing, "receives", "Receive calls answered"),
            empty_receives: listed(listing, "empty_receives", "Receive calls answered without a message"),
            messages_received: listed(listing, "messages_received", "Deliveries of messages"),
            messages_redelivered: listed(listing, "messages_redelivered", "Deliveries of messages received before"),
            messages_deleted: listed(listing, "messages_deleted", "Messages deleted after their objects were safe"),
            messages_released: listed(listing, "messages_released", "Messages given back unfinished"),
            messages_dead_lettered: listed(
                listing,
                "messages_dead_lettered",
                "Messages forwarded to the dead-letter queue",
            ),
            messages_held: listed(listing, "messages_held", "Messages held now"),
            extend_failures: listed(listing, "extend_failures", "Visibility extensions that failed"),
            objects_in_progress: listed(listing, "objects_in_progress", "Objects being imported now"),
            slots: listed(listing, "slots", "Objects that may be imported at once"),
            intake_paused: listed(listing, "intake_paused", "1 while something outside is broken"),
            dataset_braked: listed(
                listing,
                "dataset_braked",
                "1 while a dataset's objects are held because they fail for a cause that may be external",
            ),
            objects_imported: listed(listing, "objects_imported", "Objects whose rows were committed"),
            objects: listed(listing, "objects_finished", "Objects by outcome"),
            rows_read: listed(listing, "rows_read", "Rows read from imported objects"),
            rows_added: listed(listing, "rows_added", "Rows that a transform made beyond the first of one"),
            rows_written: listed(listing, "rows_written", "Rows written"),
            rows_merged: listed(listing, "rows_merged", "Rows superseded by another row with the same key"),
            rows_filtered: listed(
                listing,
                "rows_filtered",
                "Rows that a transform dropped or a BEFORE trigger of the table left out",
            ),
            rows_rejected: listed(listing, "rows_rejected", "Rows in penstock.rejects"),
            bytes_read: listed(listing, "read_bytes", "Bytes of imported objects"),
            import_duration: {
                listing.register("import_duration_seconds", "Wall time of an imported object", import_duration.clone());
                import_duration
            },
            loads: listed(listing, "loads", "Imported objects by how their rows were written"),
            registry,
        };
        for dataset in datasets {
            let dataset: Arc<str> = dataset.as_str().into();
            let label = [("dataset", Arc::clone(&dataset))];
            for family in [
                &metrics.objects_imported,
                &metrics.rows_read,
                &metrics.rows_added,
                &metrics.rows_written,
                &metrics.rows_merged,
                &metrics.rows_filtered,
                &metrics.rows_rejected,
                &metrics.bytes_read,
            ] {
                drop(family.get_or_create(&label));
            }
            drop(metrics.import_duration.get_or_create(&label));
            for outcome in OUTCOMES {
                drop(metrics.objects.get_or_create(&[("dataset", Arc::clone(&dataset)), ("outcome", outcome.into())]));
            }
        }
        metrics
    }

    /// Counts an imported object, all of it at once.
    pub fn count_imported(&self, dataset: &str, technique: &str, counts: &Counts, bytes: u64, duration: Duration) {
        let dataset: Arc<str> = dataset.into();
        let label = [("dataset", Arc::clone(&dataset))];
        self.objects_imported.get_or_create(&label).inc();
        for (family, n) in [
            (&self.rows_read, counts.read),
            (&self.rows_added, counts.added),
            (&self.rows_written, counts.written),
            (&self.rows_merged, counts.merged),
            (&self.rows_filtered, counts.filtered),
            (&self.rows_rejected, counts.rejected),
            (&self.bytes_read, bytes),
        ] {
            family.get_or_create(&label).inc_by(n);
        }
        self.import_duration.get_or_create(&label).observe(duration.as_secs_f64());
        self.loads.get_or_create(&[("dataset", Arc::clone(&dataset)), ("technique", technique.into())]).inc();
        self.objects.get_or_create(&[("dataset", dataset), ("outcome", "imported".into())]).inc();
    }

    /// Counts an object that ended without an import.
    pub fn count_finished(&self, dataset: &str, outcome: &str) {
        self.objects.get_or_create(&[("dataset", dataset.into()), ("outcome", outcome.into())]).inc();
    }

    /// Returns all metrics in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self) -> String {
        text(&self.registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_imported_object_shows_under_the_documented_names() {
        let metrics = Metrics::new(&["d".to_owned()]);
        let counts = Counts { read: 10, added: 3, written: 10, merged: 2, filtered: 0, rejected: 1 };
        metrics.count_imported("d", "staged", &counts, 100, Duration::from_millis(500));
        metrics.count_finished("", "skipped");
        metrics.messages_dead_lettered.get_or_create(&[("reason", "corrupt".into())]).inc();
        let text = metrics.text();
        for line in [
            "importer_objects_imported_total{dataset=\"d\"} 1",
            "importer_rows_read_total{dataset=\"d\"} 10",
            "importer_rows_added_total{dataset=\"d\"} 3",
            "importer_rows_merged_total{dataset=\"d\"} 2",
            "importer_rows_rejected_total{dataset=\"d\"} 1",
            "importer_read_bytes_total{dataset=\"d\"} 100",
            "importer_import_duration_seconds_count{dataset=\"d\"} 1",
            "importer_loads_total{dataset=\"d\",technique=\"staged\"} 1",
            "importer_objects_finished_total{dataset=\"\",outcome=\"skipped\"} 1",
            "importer_objects_finished_total{dataset=\"d\",outcome=\"imported\"} 1",
            "importer_messages_dead_lettered_total{reason=\"corrupt\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }

    #[test]
    fn every_dataset_is_listed_before_its_first_object() {
        let text = Metrics::new(&["quiet".to_owned()]).text();
        for line in [
            "importer_objects_imported_total{dataset=\"quiet\"} 0",
            "importer_rows_read_total{dataset=\"quiet\"} 0",
            "importer_objects_finished_total{dataset=\"quiet\",outcome=\"failed\"} 0",
            "importer_import_duration_seconds_count{dataset=\"quiet\"} 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
