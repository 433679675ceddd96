//! Which of two versions of one key is which, and which is newer.
//!
//! Pure. The answers are only meaningful between versions of one bucket and key.

use chrono::{DateTime, Utc};
use std::cmp::Ordering;

/// What tells one version of a key from another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Version id; `null` counts as none.
    pub version_id: Option<String>,
    /// ETag without quotes.
    pub etag: Option<String>,
    /// Length in bytes.
    pub size: Option<u64>,
}

/// What tells an older version of a key from a newer one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamp {
    /// S3's sequencer, when an event brought one.
    pub sequencer: Option<String>,
    /// S3's Last-Modified: whole seconds, so ties are common.
    pub last_modified: Option<DateTime<Utc>>,
}

/// Returns how `a` stands to `b` in time: `Less` is older.
///
/// Sequencers decide when both have one, Last-Modified otherwise. `Equal` means that
/// nothing tells them apart; the caller asks the store which one is there.
#[must_use]
pub fn order(a: &Stamp, b: &Stamp) -> Ordering {
    if let (Some(a), Some(b)) = (&a.sequencer, &b.sequencer) {
        return compare_sequencers(a, b);
    }
    match (a.last_modified, b.last_modified) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => Ordering::Equal,
    }
}

/// Compares two sequencers of one key: the shorter is padded on the right with zeros, then as text.
#[must_use]
pub fn compare_sequencers(a: &str, b: &str) -> Ordering {
    let length = a.len().max(b.len());
    let padded = |text: &'_ str| text.bytes().chain(std::iter::repeat(b'0')).take(length).collect::<Vec<u8>>();
    padded(a).cmp(&padded(b))
}

/// Returns whether two sightings are of the same version: by version id when both have one, else by ETag and size.
///
/// Without an ETag on both sides the answer is no: to import once more is harmless, to skip is not.
#[must_use]
pub fn same_version(a: &Identity, b: &Identity) -> bool {
    if let (Some(a), Some(b)) = (a.real_version_id(), b.real_version_id()) {
        return a == b;
    }
    let same_etag = a.etag.is_some() && a.etag == b.etag;
    // A sighting without a size has nothing to disagree about.
    let same_size = a.size.is_none() || b.size.is_none() || a.size == b.size;
    same_etag && same_size
}

impl Identity {
    fn real_version_id(&self) -> Option<&str> {
        self.version_id.as_deref().filter(|id| !id.is_empty() && *id != "null")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Ordering::{Equal, Greater, Less};
    use chrono::TimeZone;
    use proptest::prelude::*;

    #[test]
    fn sequencers_are_padded_on_the_right_and_compared_as_text() {
        for (a, b, expected) in [
            ("0055AED6DCD90281E5", "0055AED6DCD90281E5", Equal),
            ("0055AED6DCD90281E5", "0055AED6DCD90281E6", Less),
            ("01", "0055AED6DCD90281E5", Greater),
            ("00AB", "00AB00", Equal),
            ("00AB", "00AB01", Less),
            ("9", "10", Greater),
            ("", "", Equal),
            ("", "0", Equal),
            ("", "1", Less),
        ] {
            assert_eq!(compare_sequencers(a, b), expected, "{a:?} {b:?}");
            assert_eq!(compare_sequencers(b, a), expected.reverse(), "{b:?} {a:?}");
        }
    }

    fn stamp(sequencer: Option<&str>, seconds: Option<i64>) -> Stamp {
        let last_modified = seconds.map(|seconds| Utc.timestamp_opt(seconds, 0).unwrap());
        Stamp { sequencer: sequencer.map(Into::into), last_modified }
    }

    #[test]
    fn sequencers_decide_when_both_have_one_and_last_modified_otherwise() {
        for (a, b, expected) in [
            (stamp(Some("2"), Some(1)), stamp(Some("1"), Some(2)), Greater),
            (stamp(Some("1"), Some(1)), stamp(Some("1"), Some(2)), Equal),
            (stamp(Some("2"), Some(1)), stamp(None, Some(2)), Less),
            (stamp(None, Some(1)), stamp(None, Some(2)), Less),
            (stamp(None, Some(2)), stamp(None, Some(2)), Equal),
            (stamp(Some("1"), None), stamp(None, Some(2)), Equal),
            (stamp(None, None), stamp(None, None), Equal),
        ] {
            assert_eq!(order(&a, &b), expected, "{a:?} {b:?}");
            assert_eq!(order(&b, &a), expected.reverse(), "{b:?} {a:?}");
        }
    }

    fn identity(version_id: &str, etag: &str, size: Option<u64>) -> Identity {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Identity { version_id: text(version_id), etag: text(etag), size }
    }

    #[test]
    fn version_ids_identify_when_both_have_one_and_etag_with_size_otherwise() {
        for (a, b, expected) in [
            (identity("v1", "e", Some(1)), identity("v1", "f", Some(2)), true),
            (identity("v1", "e", Some(1)), identity("v2", "e", Some(1)), false),
            (identity("v1", "e", Some(1)), identity("", "e", Some(1)), true),
            (identity("null", "e", Some(1)), identity("v2", "e", Some(1)), true),
            (identity("null", "e", Some(1)), identity("null", "f", Some(1)), false),
            (identity("", "e", Some(1)), identity("", "e", Some(1)), true),
            (identity("", "e", Some(1)), identity("", "e", Some(2)), false),
            (identity("", "e", None), identity("", "e", Some(2)), true),
            (identity("", "", Some(1)), identity("", "", Some(1)), false),
        ] {
            assert_eq!(same_version(&a, &b), expected, "{a:?} {b:?}");
            assert_eq!(same_version(&b, &a), expected, "{b:?} {a:?}");
        }
    }

    /// Checks antisymmetry and transitivity of `compare` over three values.
    fn is_preorder<T>(values: [&T; 3], compare: impl Fn(&T, &T) -> Ordering) -> Result<(), TestCaseError> {
        let [a, b, c] = values;
        prop_assert_eq!(compare(a, a), Equal);
        prop_assert_eq!(compare(a, b), compare(b, a).reverse());
        if compare(a, b) != Greater && compare(b, c) != Greater {
            prop_assert_ne!(compare(a, c), Greater);
        }
        if compare(a, b) == Equal {
            prop_assert_eq!(compare(a, c), compare(b, c));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn sequencers_are_totally_preordered(a in "[0-2A]{0,4}", b in "[0-2A]{0,4}", c in "[0-2A]{0,4}") {
            is_preorder([&a, &b, &c], |a, b| compare_sequencers(a, b))?;
        }

        #[test]
        fn sequencers_of_equal_length_compare_as_text(a in "[0-9A-F]{18}", b in "[0-9A-F]{18}") {
            prop_assert_eq!(compare_sequencers(&a, &b), a.cmp(&b));
        }

        #[test]
        fn stamps_are_totally_preordered_within_one_method(
            a in (0i64..3, "[0-2]{1,3}"), b in (0i64..3, "[0-2]{1,3}"), c in (0i64..3, "[0-2]{1,3}"), sequenced: bool,
        ) {
            let make = |(seconds, sequencer): &(i64, String)| stamp(sequenced.then_some(sequencer), Some(*seconds));
            is_preorder([&make(&a), &make(&b), &make(&c)], order)?;
        }
    }
}
