//! Which dataset takes an object, and which objects are none of our business.
//!
//! Pure. `skip` is looked at first, then the datasets in the order of the file: the first match wins.

mod pattern;
pub use pattern::{Pattern, PatternError};

use crate::config::Config;
use crate::message::ObjectPointer;

/// Values of a pattern's captures, by name; `None` is NULL.
pub type Captures = Vec<(String, Option<String>)>;

/// Where an object goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Into a dataset.
    Dataset {
        /// Index into the config's datasets.
        index: usize,
        /// What the pattern's captures took, in the pattern's order.
        captures: Captures,
    },
    /// Nowhere: a `skip` pattern matches its key.
    Skip,
    /// No pattern matches.
    Unrouted,
}

/// The compiled `match` and `skip` patterns of a config.
#[derive(Debug)]
pub struct Router {
    skip: Vec<Pattern>,
    datasets: Vec<Pattern>,
}

/// Two datasets whose patterns both match some objects; the earlier one gets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// Index of the dataset that gets the objects.
    pub first: usize,
    /// Index of the dataset that does not.
    pub second: usize,
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
        let datasets =
            config.datasets.iter().map(|dataset| Pattern::for_addresses(&dataset.pattern)).collect::<Result<_, _>>()?;
        Ok(Self { skip, datasets })
    }

    /// Returns where an object goes. A local file's address is its absolute path.
    #[must_use]
    pub fn route(&self, bucket: &str, key: &str) -> Route {
        if self.skips(key) {
            return Route::Skip;
        }
        let address = address(bucket, key);
        let taken =
            self.datasets.iter().enumerate().find_map(|(index, pattern)| Some((index, pattern.captures(&address)?)));
        taken.map_or(Route::Unrouted, |(index, captures)| Route::Dataset { index, captures })
    }

    /// Returns whether a `skip` pattern matches the key.
    #[must_use]
    pub fn skips(&self, key: &str) -> bool {
        self.skip.iter().any(|pattern| pattern.is_match(key))
    }

    /// Returns what a dataset's captures take from an object that was given to it by name.
    /// Where its pattern does not match, its captures are simply absent.
    #[must_use]
    pub fn captures_for(&self, index: usize, bucket: &str, key: &str) -> Captures {
        self.datasets[index].captures(&address(bucket, key)).unwrap_or_default()
    }

    /// Returns the names of a dataset's captures, in the pattern's order.
    #[must_use]
    pub fn capture_names(&self, index: usize) -> &[String] {
        self.datasets[index].capture_names()
    }

    /// Returns every pair of datasets that could claim one object.
    #[must_use]
    pub fn overlaps(&self) -> Vec<Overlap> {
        let mut found = Vec::new();
        for (second, pattern) in self.datasets.iter().enumerate() {
            for (first, earlier) in self.datasets[..second].iter().enumerate() {
                if let Some(example) = earlier.intersection(pattern) {
                    found.push(Overlap { first, second, example });
                }
            }
        }
        found
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

    fn router(patterns: &[&str]) -> Router {
        let datasets = patterns.iter().map(|text| Pattern::for_addresses(text).expect("a good pattern")).collect();
        let skip = Config::default().worker.skip;
        Router { skip: skip.iter().map(|text| Pattern::for_keys(text).expect("a good pattern")).collect(), datasets }
    }

    #[track_caller]
    fn check(router: &Router, bucket: &str, key: &str, expected: &str) {
        let shown = match router.route(bucket, key) {
            Route::Skip => "skip".into(),
            Route::Unrouted => "unrouted".into(),
            Route::Dataset { index, captures } => {
                let shown =
                    captures.into_iter().map(|(name, value)| format!(" {name}={}", value.unwrap_or("NULL".into())));
                format!("{index}{}", shown.collect::<String>())
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
        assert_eq!(router.captures_for(0, "b", "dt=1/x"), [("dt".to_owned(), Some("1".to_owned()))]);
        assert_eq!(router.captures_for(0, "file", "/tmp/x"), []);
    }

    #[test]
    fn overlapping_patterns_are_found_with_an_example() {
        let router = router(&["s3://b/a/**", "s3://c/**", "s3://{bucket}/a/x-*.csv"]);
        let found = router.overlaps();
        let pairs: Vec<_> = found.iter().map(|overlap| (overlap.first, overlap.second)).collect();
        assert_eq!(pairs, [(0, 2), (1, 2)]);
        for overlap in found {
            for index in [overlap.first, overlap.second] {
                assert!(router.datasets[index].is_match(&overlap.example), "{overlap:?}");
            }
        }
    }
}
