//! SQL that rows go through: what is common to datasets, and what one has by default.

use super::{Dataset, Seconds, steps};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;

/// `[defaults]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Column → SQL expression, for every dataset whose table has the column and which does not `set` it itself.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
}

/// `[[dataset.awaits]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Awaits {
    /// Field of `input` that has the key; NULL waits for nothing.
    pub field: String,
    /// Column that has the key once it has arrived: `schema.table.column`.
    pub column: String,
    /// When the object is loaded again whatever has arrived, counted from its first load, like `1h`; then at twice that
    /// time, four times and so on, until `give_up`.
    #[serde(default = "default_again")]
    pub again: Seconds,
    /// When it waits no longer, like `7d`: the notice `gave_up` is due, and the rows stay as they are.
    #[serde(default = "default_give_up")]
    pub give_up: Seconds,
}

impl Awaits {
    /// Returns the schema, the table and the column, where all three are there.
    #[must_use]
    pub fn place(&self) -> Option<(&str, &str, &str)> {
        let (table, column) = self.column.rsplit_once('.')?;
        let (schema, table) = table.split_once('.')?;
        [schema, table, column].iter().all(|name| !name.trim().is_empty()).then_some((schema, table, column))
    }
}

fn default_again() -> Seconds {
    Seconds(3600)
}

fn default_give_up() -> Seconds {
    Seconds(7 * 86_400)
}

/// A row by field or by column.
pub type Row = serde_json::Map<String, Value>;

/// `[[dataset.test]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Its name, for people.
    pub name: String,
    /// A row, or a list of them, by field. Captures of `match` are fields here.
    #[serde(deserialize_with = "rows")]
    pub input: Vec<Row>,
    /// The rows that must come of them, in order, with the columns to look at; or `"filtered"`, or `"reject"`, for all of them.
    pub expect: Expect,
}

/// `expect`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Expect {
    /// All rows have this fate.
    Word(Word),
    /// These rows come out.
    Rows(#[serde(deserialize_with = "rows")] Vec<Row>),
}

/// What may become of rows that do not load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// Nothing comes of them.
    Filtered,
    /// They are refused.
    Reject,
}

/// What a date or time of TOML is to other formats.
const DATE_TIME: &str = "$__toml_private_datetime";

fn rows<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Row>, D::Error> {
    let mut rows: Vec<Row> = steps::one_or_several(deserializer)?;
    rows.iter_mut().flat_map(|row| row.values_mut()).for_each(texts_of_times);
    Ok(rows)
}

/// Makes texts of dates and times, as JSON has them.
fn texts_of_times(value: &mut Value) {
    match value {
        Value::Object(fields) => match fields.get_mut(DATE_TIME) {
            Some(time) => *value = time.take(),
            None => fields.values_mut().for_each(texts_of_times),
        },
        Value::Array(values) => values.iter_mut().for_each(texts_of_times),
        _ => {}
    }
}

/// Returns how long a transform may take unless a dataset says otherwise.
pub(super) fn default_timeout() -> Seconds {
    Seconds(60)
}

impl Dataset {
    /// Returns whether rows go through SQL on their way, as far as the dataset itself says.
    #[must_use]
    pub fn transforms(&self) -> bool {
        self.join.is_some()
            || self.condition.is_some()
            || !self.set.is_empty()
            || !self.input.is_empty()
            || !self.awaits.is_empty()
    }
}
