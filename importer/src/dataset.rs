//! A dataset at work: its settings, the compiled pattern, and what is remembered of its table and its last objects.

use crate::{
    config,
    load::{Target, technique::Recent},
    pattern::{Captures, Pattern, PatternError},
};
use decode::Format;
use parking_lot::Mutex;
use std::{
    fmt,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long the catalog's description of a table is trusted, unless a load finds it wrong.
const TARGET_TTL: Duration = Duration::from_secs(10);

/// Name of a dataset, unique in a configuration; empty for what no dataset takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DatasetName(Arc<str>);

/// A dataset and what its objects have in common.
#[derive(Debug)]
pub struct Dataset {
    /// Its name.
    pub name: DatasetName,
    /// Its settings.
    pub config: config::Dataset,
    /// How its last objects were written.
    pub recent: Recent,
    /// Which objects it takes; None where it takes those of the datasets it follows.
    pub pattern: Option<Pattern>,
    target: Mutex<Option<Resolved>>,
    /// The recipe that a message asked for in vain last.
    other_recipe: Mutex<Option<String>>,
}

/// A target and when the catalog was asked for it.
type Resolved = (Instant, Arc<Target>);

impl Dataset {
    /// Compiles a dataset's pattern.
    ///
    /// # Errors
    /// [`PatternError`]; a checked configuration has no bad pattern.
    pub fn new(config: config::Dataset) -> Result<Self, PatternError> {
        Ok(Self {
            name: DatasetName::from(config.name.as_str()),
            recent: Recent::default(),
            pattern: config.pattern.as_deref().map(Pattern::for_addresses).transpose()?,
            target: Mutex::default(),
            other_recipe: Mutex::default(),
            config,
        })
    }

    /// Returns what its captures take from an address; None when its pattern does not match.
    #[must_use]
    pub fn captures(&self, address: &str) -> Option<Captures> {
        self.pattern.as_ref()?.captures(address)
    }

    /// Returns whether its object of this key is read from the start to the end, as all formats but Parquet are.
    #[must_use]
    pub fn is_streamed(&self, key: &str) -> bool {
        self.config.format != Format::Parquet && !key.ends_with(".parquet")
    }

    /// Returns its target, as long as what the catalog said of the table is trusted.
    #[must_use]
    pub fn known_target(&self) -> Option<Arc<Target>> {
        let target = self.target.lock();
        let (_, known) = target.as_ref().filter(|(read_at, _)| read_at.elapsed() < TARGET_TTL)?;
        Some(Arc::clone(known))
    }

    /// Returns its target as it was found last, however long ago.
    #[must_use]
    pub fn last_target(&self) -> Option<Arc<Target>> {
        self.target.lock().as_ref().map(|(_, target)| Arc::clone(target))
    }

    /// Remembers the target the catalog just described.
    pub fn remember_target(&self, target: Arc<Target>) {
        *self.target.lock() = Some((Instant::now(), target));
    }

    /// Returns whether no message before asked for this recipe, which is not the dataset's.
    #[must_use]
    pub fn is_first_of_recipe(&self, asked: &str) -> bool {
        self.other_recipe.lock().replace(asked.to_owned()).as_deref() != Some(asked)
    }

    /// Forgets the target: the table is not, or no longer, what the catalog said.
    pub fn forget_target(&self) {
        *self.target.lock() = None;
    }
}

impl From<&str> for DatasetName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl Deref for DatasetName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}
