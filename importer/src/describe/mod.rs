//! From a sample file to a table and a dataset to start from, with types that lose nothing.
//!
//! Pure but for the [`Source`] it reads: the decoder that would load the file reads it here too, first into evidence
//! field by field, then once more into the proposed columns, and a column that refuses a value is made wider.

mod dates;
mod dialect;
mod evidence;
mod identifiers;
mod location;
mod plan;
mod render;
mod sample;
mod shape;
mod together;
mod types;
mod verify;

pub use location::{Location, locate};
pub use plan::{Column, Description};
pub use sample::Extent;

use decode::{DecodeError, Limits, Source};
use std::sync::Arc;

/// What a description is made from, besides the file.
#[derive(Debug, Clone)]
pub struct Options {
    /// How much of the file is looked at.
    pub extent: Extent,
    /// Bounds of the decoder.
    pub limits: Limits,
    /// A name for table and dataset, instead of one from the address.
    pub name: Option<String>,
}

/// Describes a file whose address (`s3://bucket/key`, or a local file's absolute path) is `address`.
///
/// # Errors
/// [`DecodeError`] as a load would, and [`DecodeError::Schema`] when there is no field to make a column of.
pub fn describe(source: &Arc<dyn Source>, address: &str, options: &Options) -> Result<Description, DecodeError> {
    let (read, sample, remark) = dialect::read(source, options)?;
    if sample.fields.is_empty() {
        let problem = match &sample.first_reject {
            Some(reject) => format!("no row can be read; {reject}"),
            None if !sample.ambiguous.is_empty() => "all its fields have the same names".into(),
            None => "it has no rows and names no fields".into(),
        };
        return Err(DecodeError::Schema(problem));
    }
    let mut location = locate(address);
    if let Some(name) = &options.name {
        location.name.clone_from(name);
    }
    let mut description = Description::new(sample, location, read);
    description.remarks.extend(remark);
    if description.rename.keys().any(|field| field.starts_with('/')) {
        // Of JSON it would be taken for a path.
        let is_parquet = || source.read_at(0, 4).is_ok_and(|magic| *magic == *b"PAR1");
        description.format = Some(if description.is_csv {
            "csv"
        } else if is_parquet() {
            "parquet"
        } else {
            "avro"
        });
    }
    verify::widen(source, &mut description, options.extent)?;
    if description.key.is_empty() {
        together::find_key(source, &mut description, options.extent)?;
    }
    verify::say_what_does_not_load(&mut description);
    Ok(description)
}

#[cfg(test)]
mod tests;
