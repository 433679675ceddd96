//! From an object's bytes to rows ready for COPY.
//!
//! Runs on a blocking thread; knows nothing of S3, SQS or Postgres connections.
//! `open` looks at the content, undoes compression and picks the format; the returned
//! [`RowReader`] fills [`Batch`]es through a [`Mapping`] until the object ends.

mod archive;
pub mod avro;
pub mod budget;
mod calendar;
mod compression;
pub mod condition;
mod contain;
mod csv;
mod decimal;
mod declared;
pub mod encode;
mod encoding;
mod failure;
pub mod json;
mod kept;
mod mapping;
mod named;
mod notation;
mod open;
mod options;
pub mod parquet;
mod questions;
mod row;
mod sniff;
mod text;
mod times;
mod to_json;
#[cfg(test)]
pub(crate) mod trial;
mod varint;
pub use archive::MEMBER_FIELD;
pub use csv::{OTHER_WIDTH, TORN};
pub use declared::Declared;
pub use encode::RejectClass;
pub use json::{Answer, Answers, Asked, CONTROL_FIELDS, Pointer};
pub use kept::{KeptReader, KeptRows, PayloadForm, Refusal};
pub use mapping::{EXTRAS_COLUMN, Mapping, Slot, Unstaged};
pub use notation::Notation;
pub use open::{content, open};
pub use options::{CsvOptions, JsonOptions, Names, ShortRows, TextOptions};
pub use questions::{Asking, Questions};
pub use row::{FREE_ROW_BYTES, MAX_PAYLOAD_BYTES, RowEncoder};
pub use text::{Pattern, preset::Preset};

use crate::encode::PgType;
use std::{io, sync::Arc};

/// Where an object's bytes come from; implemented by S3 objects, local files and byte slices.
pub trait Source: Send + Sync {
    /// Returns the object's length in bytes.
    fn size(&self) -> u64;
    /// Returns the object's key, for the format hint its name gives.
    fn name(&self) -> &str;
    /// Returns the bytes from the start.
    ///
    /// # Errors
    /// Of the store, wrapped in [`SourceError`]; so are those of reading.
    fn stream(&self) -> io::Result<Box<dyn io::Read + Send>>;
    /// Returns exactly `len` bytes from `offset`.
    ///
    /// # Errors
    /// Of the store, wrapped in [`SourceError`]; or when the object ends before.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<bytes::Bytes>;
    /// Begins to read exactly `len` bytes from `offset`: in the background where the source is far away.
    fn start_read(&self, offset: u64, len: usize) -> Reading {
        let bytes = self.read_at(offset, len);
        Box::new(move || bytes)
    }
}

/// A read that has started; calling it waits for its bytes.
pub type Reading = Box<dyn FnOnce() -> io::Result<bytes::Bytes> + Send>;

/// A failure of the store under a [`Source`], not of the data; travels inside `io::Error`.
#[derive(Debug, thiserror::Error)]
#[error("read object")]
pub struct SourceError(#[source] pub anyhow::Error);

/// Why an object as a whole cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The store failed; the object may be fine. (Carries the [`SourceError`].)
    #[error("read object")]
    Source(#[source] anyhow::Error),
    /// The bytes are not what they claim to be: `failed(corrupt)`.
    #[error("corrupt: {0}")]
    Corrupt(String),
    /// A limit was passed: `failed(limits)`.
    #[error("limits: {0}")]
    Limits(String),
    /// The file's fields cannot be brought together with the table: `failed(schema)`.
    #[error("schema: {0}")]
    Schema(String),
    /// Memory that the object needs was another's; it may be read later.
    #[error("busy: {0}")]
    Busy(String),
}

/// `format` of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// By content, then by name.
    #[default]
    Auto,
    /// Apache Parquet.
    Parquet,
    /// One JSON value a line.
    Ndjson,
    /// One JSON document, or an array of rows.
    Json,
    /// Comma-separated values with a header.
    Csv,
    /// Avro object container file.
    Avro,
    /// A line of text a row, as the field `line`, or taken apart as `[dataset.text]` says. Blank lines are none.
    Text,
}

/// `compression` of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// By content.
    #[default]
    Auto,
    /// gzip, all members.
    Gzip,
    /// Zstandard, all frames.
    Zstd,
    /// bzip2, all streams.
    Bzip2,
    /// xz, all streams.
    Xz,
    /// zlib.
    Zlib,
    /// Snappy in frames, as its framing format has it.
    Snappy,
    /// A zip archive: the rows of all members, each with its name as the field `archive_member`.
    Zip,
    /// A tar archive, packed or not, likewise.
    Tar,
    /// Not compressed.
    None,
}

/// Bounds that turn a hostile file into a stated failure or a reject.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A longer row is a reject, in bytes.
    pub row_bytes: usize,
    /// A deeper JSON value is a reject.
    pub depth: usize,
    /// Decompressed bytes per compressed byte beyond which (and past `expansion_free_bytes`) the object fails.
    pub expansion_ratio: u64,
    /// Decompressed bytes that are never counted against the ratio.
    pub expansion_free_bytes: u64,
    /// Memory the reader may use for its own buffers, in bytes; a guide for block sizes.
    pub buffer_bytes: usize,
    /// What buffers that the file's own numbers size are reserved from.
    pub budget: budget::Budget,
}

impl Limits {
    /// Returns how many bytes may come of this many of input.
    #[must_use]
    pub fn allowed_bytes(&self, input_bytes: u64) -> u64 {
        input_bytes.saturating_mul(self.expansion_ratio).max(self.expansion_free_bytes)
    }

    /// Sets what an object may take. A row is in memory once as it comes and up to twice as it goes, so one that would
    /// not leave room for that is too long as well.
    pub fn set_budget(&mut self, budget: budget::Budget) {
        self.row_bytes = self.row_bytes.min(budget.max_bytes() / 7 * 2);
        self.budget = budget;
    }
}

/// What the dataset says about how to read its objects.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The declared format.
    pub format: Format,
    /// The declared compression.
    pub compression: Compression,
    /// CSV dialect.
    pub csv: CsvOptions,
    /// Where in JSON the rows and fields are.
    pub json: JsonOptions,
    /// How lines of text are taken apart.
    pub text: TextOptions,
    /// Bounds.
    pub limits: Limits,
}

/// `on_new_field` of a dataset, for a field no column takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNewField {
    /// Leave it out.
    #[default]
    Ignore,
    /// Reject the row (formats with a schema: every row).
    Reject,
    /// Collect such fields as JSON in the extras column.
    Extras,
    /// Add a nullable column (done by the loader before the mapping is made).
    AddColumn,
}

/// A column of the target table that rows may fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name as in the catalog.
    pub name: String,
    /// How its values travel.
    pub pg_type: PgType,
    /// NOT NULL without a default that could stand in: a NULL is a reject of class `not_null`.
    pub not_null: bool,
    /// The column has a default, which an absent JSON field takes.
    pub has_default: bool,
}

/// What is known of the object's fields before its rows are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fields {
    /// The format has a schema: every row has these fields, in this order.
    /// The second part is whether the field is nested or textual, for `add_column`.
    Named(Vec<Field>),
    /// Every row has this many fields, without names: they are the table's columns in order.
    Positional(usize),
    /// JSON: each row brings its own.
    Open,
}

/// A field of a format with a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Name as the file has it.
    pub name: String,
    /// A list, struct or map.
    pub nested: bool,
}

/// Input to [`Mapping::new`].
#[derive(Debug, Clone)]
pub struct MappingSpec<'a> {
    /// The table's fillable columns, in table order (no generated, no lineage columns).
    pub columns: &'a [Column],
    /// Field → column names from `rename`.
    pub rename: &'a std::collections::BTreeMap<String, String>,
    /// Captured path segments: field → text (None is NULL); they win over the file's own field of that name.
    pub captures: &'a [(String, Option<String>)],
    /// Column → how its values are written, where its type does not say.
    pub types: &'a std::collections::BTreeMap<String, Notation>,
    /// What to do with fields no column takes.
    pub on_new_field: OnNewField,
    /// Column that takes extras, when `on_new_field` is `Extras`.
    pub extras_column: Option<&'a str>,
    /// Key columns: NULL there is a reject of class `not_null`.
    pub key: &'a [String],
}

/// A row that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// 1-based number of the row in the object.
    pub row_number: u64,
    /// What is wrong with it.
    pub class: RejectClass,
    /// The column that refused, when one did.
    pub column: Option<String>,
    /// For people; may quote the value.
    pub message: String,
    /// The row's raw bytes (columnar formats: as JSON), at most 64 KiB.
    pub payload: Vec<u8>,
    /// The payload's length before it was cut, in bytes.
    pub payload_length: u64,
    /// The member of an archive that the row is from.
    pub member: Option<Arc<str>>,
}

/// A bounded group of decoded rows, as binary COPY tuples without header or trailer.
#[derive(Debug, Default)]
pub struct Batch {
    /// Tuples back to back.
    pub data: Vec<u8>,
    /// End offset of each tuple in `data`, so that rows can be reordered.
    pub ends: Vec<usize>,
    /// Rows refused while this batch was filled.
    pub rejects: Vec<Reject>,
    /// Rows read for this batch: encoded + rejected + left out.
    pub n_read: u64,
    /// Rows among them that a program left out, or a condition dropped.
    pub n_filtered: u64,
    /// Rows that a program made beyond the first of one.
    pub n_added: u64,
    /// Memory the rejects take, in bytes.
    pub reject_bytes: usize,
    /// What was reserved for rows that are long: which of `ends` they are, in order.
    pub long_rows: Vec<(usize, budget::Reservation)>,
}

impl Batch {
    /// Returns the memory the batch takes, rejects included; what `fill` measures against `batch_bytes`. A row that is left
    /// out counts as a byte, so that a reader comes back where nothing else is left.
    #[must_use]
    pub fn size(&self) -> usize {
        self.data.len() + self.reject_bytes + usize::try_from(self.n_filtered).unwrap_or(usize::MAX / 2)
    }

    /// Returns how many rejects, from the `first` on, are rows that are too long. Such a row may have been written as far
    /// as it could be, and nothing of that is left.
    pub(crate) fn too_long(&self, first: usize) -> u64 {
        self.rejects[first..].iter().filter(|reject| reject.class == RejectClass::RowSize).count() as u64
    }

    /// Empties the batch and keeps its memory, but for that of long rows.
    pub fn clear(&mut self) {
        if !self.long_rows.is_empty() {
            self.data = Vec::new();
            self.long_rows.clear();
        }
        self.data.clear();
        self.ends.clear();
        self.rejects.clear();
        self.reject_bytes = 0;
        self.n_read = 0;
        self.n_filtered = 0;
        self.n_added = 0;
    }
}

/// Reads rows of one object.
pub trait RowReader: Send {
    /// Returns what is known of the fields before rows are read.
    fn fields(&self) -> &Fields;
    /// Returns what the file's own schema says of each of its named fields; None without one.
    fn declared(&self) -> Option<Vec<Declared>> {
        None
    }
    /// Returns how the payloads of its rejects are written.
    fn payload_form(&self) -> PayloadForm {
        PayloadForm::Json
    }
    /// Returns the fields of those payloads.
    fn kept_fields(&self) -> &Fields {
        self.fields()
    }
    /// Sets the mapping; called once, before the first `fill`.
    fn set_mapping(&mut self, mapping: Arc<Mapping>);
    /// Appends rows to `batch` until about `batch_bytes` are in it or the object ends; returns false at the end.
    ///
    /// # Errors
    /// [`DecodeError`] when the object as a whole cannot be read on. Rows already in `batch` are void then.
    fn fill(&mut self, batch: &mut Batch, batch_bytes: usize) -> Result<bool, DecodeError>;
    /// Returns, after the end, which `columns()` of the mapping any row had a field for (JSON), else all true.
    fn seen_columns(&self) -> Vec<bool>;
    /// Returns, for JSON and at most 50, the names of fields no column took, with whether each was ever nested.
    fn new_fields(&self) -> Vec<Field> {
        Vec::new()
    }
}

#[cfg(test)]
mod testing;
