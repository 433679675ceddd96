//! The first rows of a real object, read as a load would read them.

use super::bucket::Object;
use crate::{
    load::{Invocation, Target, command, map},
    object::{ReadTarget, RemoteSource},
};
use anyhow::Context;
use decode::{Batch, Field, Fields, Mapping, RowReader};
use std::sync::Arc;

/// Bytes of rows that are decoded; enough to see the fields of a regular file.
const SAMPLE_BYTES: usize = 256 * 1024;

/// What the first rows of an object showed.
pub struct Seen {
    /// What the format says of its fields.
    pub fields: Fields,
    /// Where they go.
    pub mapping: Arc<Mapping>,
    /// Which of the mapping's columns a row had a field for.
    pub seen_columns: Vec<bool>,
    /// Fields no column takes, of formats without a schema.
    pub new_fields: Vec<Field>,
    /// Rows read.
    pub n_read: u64,
    /// Rows refused.
    pub n_rejected: usize,
    /// Number, class and column of the first refused row; never its values.
    pub first_reject: Option<String>,
}

impl Seen {
    /// Reads an object's first rows.
    ///
    /// # Errors
    /// When the object cannot be opened or decoded, or its fields do not fit the table.
    pub async fn read(object: Object, target: Arc<Target>) -> anyhow::Result<Self> {
        let captures = object.captures;
        let place = ReadTarget {
            bucket: object.bucket,
            key: object.listed.key,
            version_id: None,
            etag: Some(object.listed.etag).filter(|etag| !etag.is_empty()),
        };
        let invocation = Invocation::new(&target.config, &place);
        let source = RemoteSource::open(object.store, place, false).await.context("open")?;
        tokio::task::spawn_blocking(move || {
            let reader = command::open(Arc::new(source), &target.read, invocation.as_ref(), Arc::default())?;
            read_rows(reader, &target, &captures)
        })
        .await
        .context("decode")?
    }
}

fn read_rows(
    mut reader: Box<dyn RowReader>,
    target: &Target,
    captures: &[(String, Option<String>)],
) -> anyhow::Result<Seen> {
    let fields = reader.fields().clone();
    let mapping = Arc::new(map(target, captures, &fields)?);
    reader.set_mapping(Arc::clone(&mapping));
    let mut batch = Batch::default();
    reader.fill(&mut batch, SAMPLE_BYTES)?;
    let first_reject = batch.rejects.first().map(|reject| {
        let column = reject.column.as_ref().map(|column| format!(", column {column}")).unwrap_or_default();
        format!("{} (class {}{column})", reject.row_number, reject.class)
    });
    Ok(Seen {
        fields,
        mapping,
        seen_columns: reader.seen_columns(),
        new_fields: reader.new_fields(),
        n_read: batch.n_read,
        n_rejected: batch.rejects.len(),
        first_reject,
    })
}
