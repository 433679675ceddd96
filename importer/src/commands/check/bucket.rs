//! One real object of a dataset, to see which fields it has, and whether the bucket can be listed.

use super::Findings;
use crate::{
    config::Config,
    dataset::Dataset,
    message::ObjectPointer,
    object::{Listed, ObjectStore, StoreError},
    pattern::Captures,
    route::Router,
};
use futures_util::StreamExt;
use service::aws::role::REFUSED;
use std::sync::Arc;

/// Keys looked at in search of a sample.
const MAX_KEYS: usize = 1000;

/// An object that stands for a dataset's others.
pub struct Object {
    /// Where it is.
    pub store: Arc<dyn ObjectStore>,
    /// Bucket.
    pub bucket: String,
    /// What the listing says of it.
    pub listed: Listed,
    /// What the pattern's captures took.
    pub captures: Captures,
}

impl Object {
    /// Returns the object's address, for people.
    pub fn address(&self) -> String {
        ObjectPointer::new(&self.bucket, &self.listed.key).to_string()
    }
}

/// Lists the bucket a dataset's pattern names and returns the first object the dataset would take.
/// `None` for patterns over local files or many buckets, and when there is no such object (yet).
pub async fn find(
    store: &Arc<dyn ObjectStore>,
    router: &Router,
    dataset: &Dataset,
    findings: &mut Findings,
) -> Option<Object> {
    let (bucket, prefix) = literal_part(dataset.config.pattern.as_deref()?)?;
    let subject = format!("dataset {}", dataset.name);
    let listing: Vec<_> = store.list(&bucket, &prefix).take(MAX_KEYS).collect().await;
    for listed in listing {
        match listed {
            Ok(listed) if listed.size > 0 => {
                let mut destinations = router.destinations(&bucket, &listed.key).into_iter();
                if let Some(to) = destinations.find(|to| to.dataset.name == dataset.name) {
                    return Some(Object { store: Arc::clone(store), bucket, listed, captures: to.captures });
                }
            }
            Ok(_) => {}
            Err(error) => {
                report(error, &bucket, subject, findings);
                return None;
            }
        }
    }
    None
}

fn report(error: StoreError, bucket: &str, subject: String, findings: &mut Findings) {
    match error {
        StoreError::AccessDenied(why) if why.contains(REFUSED) => findings.wrong(
            subject,
            format!("bucket {bucket}: {why}"),
            "its trust policy has to admit this role and the external id, and this role needs sts:AssumeRole on it",
        ),
        StoreError::AccessDenied(_) => findings.warn(
            subject,
            format!(
                "no s3:ListBucket on {bucket}: S3 then answers access denied for a key that does not exist, so a deleted \
                 object ends as failed(access) instead of gone"
            ),
            format!("grant this role s3:ListBucket on arn:aws:s3:::{bucket}"),
        ),
        StoreError::NoBucket => {
            findings.wrong(subject, format!("bucket {bucket} does not exist"), "create it, or put the right one into match");
        }
        other => findings.failed(
            subject,
            &anyhow::Error::new(other).context(format!("list bucket {bucket}")),
            "check that region, endpoint and credentials are those of the bucket's account",
        ),
    }
}

/// Returns bucket and key prefix of a pattern, up to its first wildcard; `None` when the bucket itself is a pattern.
fn literal_part(pattern: &str) -> Option<(String, String)> {
    let (bucket, key) = pattern.strip_prefix("s3://")?.split_once('/')?;
    let wild = |c: char| matches!(c, '*' | '?' | '{' | '\\');
    if bucket.is_empty() || bucket.contains(wild) {
        return None;
    }
    Some((bucket.to_owned(), key.split(wild).next().unwrap_or("").to_owned()))
}

/// Returns the bytes a sample's reader may use for itself.
pub fn buffer_bytes(config: &Config) -> usize {
    config.worker.memory_bytes() / config.worker.concurrency.max(1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing_starts_where_the_pattern_is_literal() {
        for (pattern, expected) in [
            ("s3://b/telemetry/dt={dt}/**", Some(("b", "telemetry/dt="))),
            ("s3://b/x.csv", Some(("b", "x.csv"))),
            ("s3://b/**", Some(("b", ""))),
            (r"s3://b/a\*b", Some(("b", "a"))),
            ("s3://{bucket}/x", None),
            ("s3://b*/x", None),
            ("/data/**", None),
            ("**", None),
        ] {
            let found = literal_part(pattern);
            let found = found.as_ref().map(|(bucket, prefix)| (bucket.as_str(), prefix.as_str()));
            assert_eq!(found, expected, "{pattern}");
        }
    }

    #[test]
    fn a_bucket_that_cannot_be_listed_is_a_warning_and_a_missing_one_is_wrong() {
        let mut findings = Findings::default();
        report(StoreError::AccessDenied("no".into()), "b", "dataset d".into(), &mut findings);
        report(StoreError::NoBucket, "b", "dataset d".into(), &mut findings);
        let lines: Vec<String> = findings.lines().collect();
        assert_eq!(lines[2], "1 wrong, 1 to consider");
        assert!(lines[1].contains("s3:ListBucket"), "{lines:?}");
    }
}
