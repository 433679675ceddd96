//! What becomes of an object once it is loaded.

use serde::Deserialize;

/// Bytes of a tag's key and of its value: S3's limits, in characters.
const MOST_CHARS: (usize, usize) = (128, 256);

/// `after_load`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfterLoad {
    /// It stays as it is.
    #[default]
    Nothing,
    /// The version that was loaded gets the tag of `[dataset.tag]`, after the commit and beside those that it has.
    Tag,
}

/// `[dataset.tag]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tag {
    /// The tag's key.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Default for Tag {
    fn default() -> Self {
        Self { key: "penstock".to_owned(), value: "loaded".to_owned() }
    }
}

impl Tag {
    /// Notes what S3 would refuse.
    pub(super) fn check(&self, add: &mut impl FnMut(&str, String)) {
        let is_known = |c: char| c.is_alphanumeric() || c.is_whitespace() && !c.is_control() || "+-=._:/@".contains(c);
        let (key, value) = (self.key.chars(), self.value.chars());
        if !(1..=MOST_CHARS.0).contains(&key.clone().count()) || !key.clone().all(is_known) {
            add("tag.key", format!("must be 1 to {} letters, digits, spaces and + - = . _ : / @", MOST_CHARS.0));
        }
        if self.key.to_lowercase().starts_with("aws:") {
            add("tag.key", "must not begin with aws:, which is AWS's own".into());
        }
        if value.clone().count() > MOST_CHARS.1 || !value.clone().all(is_known) {
            add("tag.value", format!("must be at most {} letters, digits, spaces and + - = . _ : / @", MOST_CHARS.1));
        }
    }
}
