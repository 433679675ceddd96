//! How buckets and queues are reached that are not this account's own.

use super::Queue;
use serde::Deserialize;
use service::aws::role::Role;
use std::collections::BTreeSet;

/// `[[bucket]]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// The bucket's name. Buckets that need nothing of this need no `[[bucket]]`.
    pub name: String,
    /// Role to assume for whatever is asked of the bucket, such as one of the account that owns it.
    pub role_arn: Option<String>,
    /// External id that the role's owner asks for.
    pub external_id: Option<String>,
    /// This account pays for requests and transfer, which the owner of a bucket may insist on; such a bucket denies
    /// access without it.
    #[serde(default)]
    pub requester_pays: bool,
}

impl Bucket {
    /// Returns the role to assume.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        Role::of(self.role_arn.as_deref(), self.external_id.as_deref()).ok().flatten()
    }
}

impl Queue {
    /// Returns the role to assume.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        Role::of(self.role_arn.as_deref(), self.external_id.as_deref()).ok().flatten()
    }
}

/// Notes what is wrong with buckets, by their place and setting.
pub(super) fn check_buckets(buckets: &[Bucket], mut add: impl FnMut(usize, &str, String)) {
    let mut names = BTreeSet::new();
    for (place, bucket) in buckets.iter().enumerate() {
        let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !(3..=63).contains(&bucket.name.len()) || !bucket.name.chars().all(is_known) {
            add(place, "name", format!("{:?} is not the name of a bucket", bucket.name));
        }
        if !names.insert(&bucket.name) {
            add(place, "name", format!("{:?} has another [[bucket]]", bucket.name));
        }
        if let Err((setting, problem)) = Role::of(bucket.role_arn.as_deref(), bucket.external_id.as_deref()) {
            add(place, setting, problem.to_owned());
        }
    }
}
