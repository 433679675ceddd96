//! A fingerprint of what shapes an object's rows, so that those that were made another way can be found.

use super::transform::Transform;
use crate::config::{self, Csv, Dataset, InputFormat, names_in};
use decode::{Compression, Format, OnNewField};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Returns the recipe of a dataset: 16 hexadecimal digits of the SHA-256 of its mapping, its SQL and its command.
///
/// What is as by default is left out, so that a setting that a later release adds changes no recipe.
#[must_use]
pub fn of(dataset: &Dataset, transform: Option<&Transform>) -> String {
    let mut parts = Map::new();
    let mut part = |name: &str, value: Value, is_set: bool| {
        if is_set {
            parts.insert(name.to_owned(), value);
        }
    };
    let plain = Csv::default();
    let Csv { header, delimiter, quote, escape, comment, skip_lines, short_rows, trailing_delimiter, .. } =
        &dataset.csv;
    let Csv { decimal, null: empty, null_by_column, null_quoted, encoding, .. } = &dataset.csv;
    part("csv.header", json!(header), *header != plain.header);
    part("csv.delimiter", json!(delimiter), *delimiter != plain.delimiter);
    part("csv.quote", json!(quote), *quote != plain.quote);
    part("csv.escape", json!(escape), *escape != plain.escape);
    part("csv.comment", json!(comment), *comment != plain.comment);
    part("csv.skip_lines", json!(skip_lines), *skip_lines != plain.skip_lines);
    part("csv.short_rows", json!(format!("{short_rows:?}")), *short_rows != plain.short_rows);
    part("csv.trailing_delimiter", json!(trailing_delimiter), *trailing_delimiter);
    part("csv.decimal", json!(decimal), *decimal != plain.decimal);
    part("csv.null", json!(empty), *empty != plain.null);
    part("csv.null_by_column", json!(null_by_column), !null_by_column.is_empty());
    part("csv.null_quoted", json!(null_quoted), *null_quoted);
    part("csv.encoding", json!(encoding), *encoding != plain.encoding);
    let captures: Vec<_> = dataset.pattern.iter().flat_map(|pattern| names_in(pattern)).collect();
    part("captures", json!(captures), !captures.is_empty());
    let followed = &dataset.followed_captures;
    part("followed_captures", json!(followed), followed.iter().any(|captures| !captures.is_empty()));
    part("table", json!(dataset.table), true);
    part("key", json!(dataset.key), !dataset.key.is_empty());
    part("newer", json!(dataset.newer), dataset.newer.is_some());
    part("format", json!(format!("{:?}", dataset.format)), dataset.format != Format::default());
    part("compression", json!(format!("{:?}", dataset.compression)), dataset.compression != Compression::default());
    let config::Text { pattern, preset, null } = &dataset.text;
    part("text.pattern", json!(pattern), pattern.is_some());
    part("text.preset", json!(format!("{preset:?}")), preset.is_some());
    part("text.null", json!(null), !null.is_empty());
    part("rows", json!(dataset.rows.as_ref().map(ToString::to_string)), dataset.rows.is_some());
    let fields: Map<_, _> =
        dataset.fields.iter().map(|(name, place)| (name.clone(), json!(place.to_string()))).collect();
    part("fields", json!(fields), !fields.is_empty());
    let types: Map<_, _> = dataset.types.iter().map(|(name, way)| (name.clone(), json!(way.as_str()))).collect();
    part("types", json!(types), !types.is_empty());
    part("rename", json!(dataset.rename), !dataset.rename.is_empty());
    part("on_new_field", json!(format!("{:?}", dataset.on_new_field)), dataset.on_new_field != OnNewField::default());
    part("extras_column", json!(dataset.extras_column), dataset.extras_column.is_some());
    part("input", json!(dataset.input), !dataset.input.is_empty());
    part("join", json!(dataset.join), dataset.join.is_some());
    part("where", json!(dataset.condition), dataset.condition.is_some());
    part("set", json!(transform.map(|transform| &transform.set)), transform.is_some_and(|t| !t.set.is_empty()));
    part("command", json!(dataset.command), !dataset.command.is_empty());
    part("version", json!(dataset.version), dataset.version.is_some());
    let reads_bytes = dataset.input_format == InputFormat::Bytes;
    part("input_format", json!("bytes"), reads_bytes);
    let digest = Sha256::digest(Value::Object(parts).to_string());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
