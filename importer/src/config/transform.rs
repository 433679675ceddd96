//! SQL that rows go through: what is common to datasets, and what one has by default.

use super::{Dataset, Seconds};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `[defaults]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Column → SQL expression, for every dataset whose table has the column and which does not `set` it itself.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
}

/// Returns how long a transform may take unless a dataset says otherwise.
pub(super) fn default_timeout() -> Seconds {
    Seconds(60)
}

impl Dataset {
    /// Returns whether rows go through SQL on their way, as far as the dataset itself says.
    #[must_use]
    pub fn transforms(&self) -> bool {
        self.join.is_some() || self.condition.is_some() || !self.set.is_empty() || !self.input.is_empty()
    }
}
