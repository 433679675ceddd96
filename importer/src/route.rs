//! Which datasets an object goes to, and which objects are skipped.
//!
//! `skip` is looked at first, then the datasets of the queue in the order of the file: the first match wins. A pointer
//! that names its dataset goes there from any queue.

use crate::{
    config::Config,
    dataset::{Dataset, DatasetName},
    message::{ObjectPointer, Record},
    pattern::{Captures, Pattern, PatternError},
};
use std::sync::Arc;

/// A record and one of the places it goes to. It is settled by itself and has an entry of the ledger of its own;
/// a message is done when all of its routed records are.
#[derive(Debug, Clone)]
pub struct Routed {
    /// The record.
    pub record: Arc<Record>,
    /// Where it goes.
    pub route: Route,
}

/// Where a record goes.
#[derive(Debug, Clone)]
pub enum Route {
    /// Into a dataset.
    Dataset(Destination),
    /// Nowhere: a `skip` pattern matches its key.
    Skip,
    /// Nowhere: no pattern matches.
    Unrouted,
    /// Nowhere: it names a dataset, and the configuration has none of that name.
    NoSuchDataset(String),
}

/// A dataset that takes an object.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The dataset.
    pub dataset: Arc<Dataset>,
    /// What the pattern's captures took, in the pattern's order.
    pub captures: Captures,
}

/// What a record is one of: its dataset and the directory it lies in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Class {
    /// Name of the dataset; empty when none takes the record.
    pub dataset: DatasetName,
    /// Bucket and key up to the last slash.
    pub prefix: String,
}

/// The datasets and the compiled `skip` patterns of a config.
#[derive(Debug)]
pub struct Router {
    skip: Vec<Pattern>,
    /// All datasets, in the order they are asked.
    pub datasets: Vec<Arc<Dataset>>,
    /// Each queue's name and the places of its datasets.
    queues: Vec<(String, Vec<usize>)>,
    /// Name of the queue that is served.
    served: String,
}

/// Two datasets whose patterns both match some objects; the earlier one gets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The dataset that gets the objects.
    pub first: DatasetName,
    /// The dataset that does not.
    pub second: DatasetName,
    /// An address both match.
    pub example: String,
}

impl Router {
    /// Compiles a config's patterns.
    ///
    /// # Errors
    /// [`PatternError`] for the first bad pattern; a checked config has none.
    pub fn new(config: &Config) -> Result<Self, PatternError> {
        let skip = config.worker.skip.iter().map(|text| Pattern::for_keys(text)).collect::<Result<_, _>>()?;
        let datasets = config.datasets.iter().cloned();
        let datasets = datasets.map(|dataset| Dataset::new(dataset).map(Arc::new)).collect::<Result<_, _>>()?;
        let of_queue = |name: &str| {
            let places = config.datasets.iter().enumerate();
            places.filter(|(_, dataset)| config.queue_of(dataset).name == name).map(|(place, _)| place).collect()
        };
        let queues = config.queues.iter().map(|queue| (queue.name.clone(), of_queue(&queue.name))).collect();
        Ok(Self { skip, datasets, queues, served: config.queue.name.clone() })
    }

    /// Routes a record of the queue that is served: to the dataset that takes it, or says why none does.
    #[must_use]
    pub fn route(&self, record: Record) -> Routed {
        self.route_among(record, |queue| queue == self.served).swap_remove(0)
    }

    /// Routes a record as if it had come from every queue there is: one answer for every dataset that takes it, or one
    /// that says why none does.
    #[must_use]
    pub fn route_from_all(&self, record: Record) -> Vec<Routed> {
        self.route_among(record, |_| true)
    }

    /// Returns at least one answer.
    fn route_among(&self, record: Record, queues: impl Fn(&str) -> bool) -> Vec<Routed> {
        let ObjectPointer { bucket, key, .. } = &record.pointer;
        let routes = match &record.dataset {
            Some(name) => vec![match self.dataset(name) {
                Some(dataset) => Route::Dataset(self.destination(dataset, record.after.as_deref(), bucket, key)),
                None => Route::NoSuchDataset(name.clone()),
            }],
            None if self.skips(key) => vec![Route::Skip],
            None => match self.matching(bucket, key, queues) {
                destinations if destinations.is_empty() => vec![Route::Unrouted],
                destinations => destinations.into_iter().map(Route::Dataset).collect(),
            },
        };
        let record = Arc::new(record);
        routes.into_iter().map(|route| Routed { record: Arc::clone(&record), route }).collect()
    }

    /// Returns the datasets that take an object of any queue. A local file's address is its absolute path.
    #[must_use]
    pub fn destinations(&self, bucket: &str, key: &str) -> Vec<Destination> {
        if self.skips(key) { Vec::new() } else { self.matching(bucket, key, |_| true) }
    }

    /// Returns the datasets that take an object which is not skipped: of each of these queues the first that matches.
    fn matching(&self, bucket: &str, key: &str, queues: impl Fn(&str) -> bool) -> Vec<Destination> {
        let address = address(bucket, key);
        let taken_by = |place: &usize| {
            let dataset = &self.datasets[*place];
            Some(Destination { captures: dataset.captures(&address)?, dataset: Arc::clone(dataset) })
        };
        let queues = self.queues.iter().filter(|(name, _)| queues(name));
        queues.filter_map(|(_, places)| places.iter().find_map(taken_by)).collect()
    }

    /// Routes a record to a dataset that was named by hand.
    #[must_use]
    pub fn to(&self, dataset: &Arc<Dataset>, record: Record) -> Routed {
        let to = self.destination(dataset, None, &record.pointer.bucket, &record.pointer.key);
        Routed { record: Arc::new(record), route: Route::Dataset(to) }
    }

    /// Returns a dataset that was named for an object, by hand or by `after`, the dataset it follows. Where no pattern
    /// of theirs matches, captures are simply absent.
    #[must_use]
    pub fn destination(&self, dataset: &Arc<Dataset>, after: Option<&str>, bucket: &str, key: &str) -> Destination {
        let address = address(bucket, key);
        let followed = after.and_then(|name| self.captures(self.dataset(name)?, &address));
        let captures = followed.or_else(|| self.captures(dataset, &address)).unwrap_or_default();
        Destination { dataset: Arc::clone(dataset), captures }
    }

    /// Returns a dataset's captures, or those of the first that it follows and whose pattern matches.
    fn captures(&self, dataset: &Dataset, address: &str) -> Option<Captures> {
        let before = || self.before(dataset).find_map(|before| self.captures(before, address));
        dataset.captures(address).or_else(before)
    }

    /// Returns the names of the captures that a dataset's rows may have.
    #[must_use]
    pub fn capture_names(&self, dataset: &Dataset) -> Vec<String> {
        let own = dataset.pattern.iter().flat_map(|pattern| pattern.names.iter().cloned());
        let mut names: Vec<String> =
            own.chain(self.before(dataset).flat_map(|before| self.capture_names(before))).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the datasets that a dataset follows.
    fn before(&self, dataset: &Dataset) -> impl Iterator<Item = &Arc<Dataset>> {
        dataset.config.after.iter().filter_map(|name| self.dataset(name))
    }

    /// Returns the datasets that follow a dataset, in the order of the file.
    pub fn after(&self, dataset: &Dataset) -> impl Iterator<Item = &Arc<Dataset>> {
        let name: &str = &dataset.name;
        self.datasets.iter().filter(move |other| other.config.after.iter().any(|before| before == name))
    }

    /// Returns whether a `skip` pattern matches the key.
    #[must_use]
    pub fn skips(&self, key: &str) -> bool {
        self.skip.iter().any(|pattern| pattern.is_match(key))
    }

    /// Returns the dataset with this name.
    #[must_use]
    pub fn dataset(&self, name: &str) -> Option<&Arc<Dataset>> {
        self.datasets.iter().find(|dataset| *dataset.name == *name)
    }

    /// Returns every pair of a queue's datasets that could claim one object.
    #[must_use]
    pub fn overlaps(&self) -> Vec<Overlap> {
        let mut found = Vec::new();
        for (_, places) in &self.queues {
            for (place, second) in places.iter().enumerate() {
                for first in &places[..place] {
                    let (first, second) = (&self.datasets[*first], &self.datasets[*second]);
                    let (Some(earlier), Some(later)) = (&first.pattern, &second.pattern) else { continue };
                    if let Some(example) = earlier.intersection(later) {
                        found.push(Overlap { first: first.name.clone(), second: second.name.clone(), example });
                    }
                }
            }
        }
        found
    }
}

impl Routed {
    /// Returns the dataset it goes to.
    #[must_use]
    pub fn destination(&self) -> Option<&Destination> {
        match &self.route {
            Route::Dataset(to) => Some(to),
            Route::Skip | Route::Unrouted | Route::NoSuchDataset(_) => None,
        }
    }

    /// Returns its dataset's name; empty when no dataset takes it.
    #[must_use]
    pub fn dataset_name(&self) -> DatasetName {
        self.destination().map(|to| to.dataset.name.clone()).unwrap_or_default()
    }

    /// Returns whose turn it waits for: its dataset's, and in it that of the directory it lies in.
    #[must_use]
    pub fn class(&self) -> Class {
        let ObjectPointer { bucket, key, .. } = &self.record.pointer;
        let directory = key.rsplit_once('/').map_or("", |(directory, _)| directory);
        Class { dataset: self.dataset_name(), prefix: format!("{bucket}/{directory}") }
    }
}

/// Returns the text `match` patterns are tried against.
fn address(bucket: &str, key: &str) -> String {
    let pointer = ObjectPointer::new(bucket, key);
    if pointer.is_local() { pointer.key } else { pointer.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    /// Datasets named by their places.
    fn router(patterns: &[&str]) -> Router {
        let dataset = |(place, pattern): (usize, &&str)| {
            format!("[[dataset]]\nname = \"{place}\"\nmatch = {pattern:?}\ntable = \"t\"\nmode = \"append\"\n")
        };
        let text: String = patterns.iter().enumerate().map(dataset).collect();
        let config = Config::parse(&text, "importer.toml", |_| None).expect("good patterns");
        Router::new(&config).expect("good patterns")
    }

    fn record(bucket: &str, key: &str) -> Record {
        Record::created(ObjectPointer::new(bucket, key))
    }

    #[track_caller]
    fn check(router: &Router, bucket: &str, key: &str, expected: &str) {
        let shown = match router.route(record(bucket, key)).route {
            Route::Skip => "skip".into(),
            Route::Unrouted => "unrouted".into(),
            Route::NoSuchDataset(name) => format!("no {name}"),
            Route::Dataset(Destination { dataset, captures }) => {
                let shown =
                    captures.iter().map(|(name, value)| format!(" {name}={}", value.as_deref().unwrap_or("NULL")));
                format!("{}{}", dataset.name, shown.collect::<String>())
            }
        };
        assert_eq!(shown, expected, "{bucket} {key}");
    }

    #[test]
    fn first_dataset_that_matches_wins() {
        let router = router(&["s3://b/a/**", "s3://b/**", "s3://*/c/{n}.csv"]);
        check(&router, "b", "a/x", "0");
        check(&router, "b", "c/x.csv", "1");
        check(&router, "d", "c/x.csv", "2 n=x");
        check(&router, "d", "c/x.json", "unrouted");
    }

    #[test]
    fn default_skip_list_knows_the_usual_noise() {
        let router = router(&["s3://b/**"]);
        for key in [
            "_SUCCESS",
            "a/_SUCCESS",
            "a/_temporary/0/x",
            "_temporary/x",
            ".hidden",
            "a/.x.crc",
            "a/x.crc",
            "a_$folder$",
            "a/b_$folder$",
            "a/",
            "a/b/",
        ] {
            check(&router, "b", key, "skip");
        }
        for key in ["a/SUCCESS", "a/_SUCCESS.csv", "a/temporary/x", "a.b", "a/x.crc.gz", "a"] {
            check(&router, "b", key, "0");
        }
    }

    #[test]
    fn local_files_are_matched_by_their_path() {
        let router = router(&["/data/{kind}/*.csv", "file:///other/**", "s3://file/**", "**/z.csv"]);
        check(&router, "file", "/data/x/1.csv", "0 kind=x");
        check(&router, "file", "/other/1.csv", "1");
        check(&router, "file", "k.csv", "2");
        check(&router, "file", "/elsewhere/z.csv", "3");
        check(&router, "b", "dir/z.csv", "3");
        check(&router, "file", "/elsewhere/1.csv", "unrouted");
    }

    #[test]
    fn a_dataset_named_by_hand_takes_captures_only_where_its_pattern_matches() {
        let router = router(&["s3://b/dt={dt}/**"]);
        let captures = |bucket, key| router.destination(&router.datasets[0], None, bucket, key).captures;
        assert_eq!(captures("b", "dt=1/x"), [("dt".to_owned(), Some("1".to_owned()))]);
        assert_eq!(captures("file", "/tmp/x"), []);
    }

    #[test]
    fn overlapping_patterns_are_found_with_an_example() {
        let router = router(&["s3://b/a/**", "s3://c/**", "s3://{bucket}/a/x-*.csv"]);
        let found = router.overlaps();
        let pairs: Vec<_> = found.iter().map(|overlap| (&*overlap.first, &*overlap.second)).collect();
        assert_eq!(pairs, [("0", "2"), ("1", "2")]);
        for overlap in found {
            for name in [&overlap.first, &overlap.second] {
                let dataset = router.dataset(name).expect("one of them");
                let pattern = dataset.pattern.as_ref().expect("it has one");
                assert!(pattern.is_match(&overlap.example), "{overlap:?}");
            }
        }
    }
}
