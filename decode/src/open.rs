//! Opening an object as what it is.

use super::sniff::{self, Kind};
use super::text::{self, preset::as_csv};
use super::{
    Compression, DecodeError, Format, JsonOptions, ReadOptions, RowReader, Source, archive, avro,
    compression::{self, Content},
    csv, encoding, json, parquet,
};
use std::{io, sync::Arc};

const PARQUET_MAGIC: &[u8] = b"PAR1";

/// Opens an object: sniffs, decompresses, picks the format.
///
/// # Errors
/// [`DecodeError::Corrupt`] when the content is not the declared (or any known) format.
pub fn open(source: Arc<dyn Source>, options: &ReadOptions) -> Result<Box<dyn RowReader>, DecodeError> {
    // Parquet is read from its end: starting a stream of it would be for nothing.
    let may_be_parquet = options.json == JsonOptions::default() && sniff::may_be_parquet(options.format, source.name());
    if may_be_parquet && has_parquet_magic(&*source)? {
        return parquet::open(source, options);
    }
    if let Some(options) = as_csv(options) {
        let options = ReadOptions { format: Format::Csv, text: Default::default(), ..options };
        return open(source, &options);
    }
    let content = compression::unpack(&*source, &options.limits)?;
    if archive::is_tar(&content.head) {
        return archive::open_tar(content.input, content.meter, options);
    }
    let is_as_it_lies = content.n_layers == 0;
    if is_as_it_lies && archive::is_zip(&content.head) {
        drop(content);
        return archive::open_zip(source, options);
    }
    if is_as_it_lies && content.head.starts_with(PARQUET_MAGIC) {
        kind(&content.head, source.name(), options)?;
        drop(content);
        return parquet::open(source, options);
    }
    open_content(content, source.name(), options)
}

/// Opens a content that is neither an archive nor Parquet as what it is.
///
/// # Errors
/// As [`open`].
pub fn open_content(content: Content, name: &str, options: &ReadOptions) -> Result<Box<dyn RowReader>, DecodeError> {
    let needs_content = matches!(options.format, Format::Parquet | Format::Avro);
    if content.head.is_empty() && !needs_content {
        // Without rows nothing tells formats apart, and no row lacks a field.
        return json::open(content.input, Format::Ndjson, options);
    }
    match kind(&content.head, name, options)? {
        // It would have to be unpacked somewhere before it could be read.
        Kind::Parquet if content.n_layers > 0 => {
            Err(DecodeError::Corrupt("a compressed Parquet file; Parquet compresses within".into()))
        }
        Kind::Parquet => Err(DecodeError::Corrupt("a Parquet file, which is not read within an archive".into())),
        Kind::Avro => avro::open(content.input, options),
        Kind::Json(declared) => {
            let input = encoding::to_utf8(content.input, &content.head, "utf-8")?;
            json::open(input, declared, options)
        }
        Kind::Text => {
            let input = encoding::to_utf8(content.input, &content.head, "utf-8")?;
            Ok(text::open(input, options))
        }
        Kind::Csv => {
            let delimiter = sniff::delimiter(options.csv.delimiter, name);
            csv::open(content.input, &content.head, delimiter, options)
        }
    }
}

/// Returns what a content is, which has to be what the dataset's settings are for.
fn kind(head: &[u8], name: &str, options: &ReadOptions) -> Result<Kind, DecodeError> {
    let kind = sniff::kind(head, options.format, name)?;
    if options.json != JsonOptions::default() && !matches!(kind, Kind::Json(_)) {
        return Err(DecodeError::Corrupt(format!("{}, and the dataset's rows and fields are for JSON", kind.name())));
    }
    Ok(kind)
}

/// Returns an object's bytes without compression, or as they are where the dataset says that there is none.
///
/// # Errors
/// As [`open`].
pub fn content(source: &dyn Source, options: &ReadOptions) -> Result<Box<dyn io::Read + Send>, DecodeError> {
    if options.compression == Compression::None {
        return Ok(source.stream()?);
    }
    Ok(Box::new(compression::unpack(source, &options.limits)?.input))
}

fn has_parquet_magic(source: &dyn Source) -> Result<bool, DecodeError> {
    if source.size() < PARQUET_MAGIC.len() as u64 {
        return Ok(false);
    }
    Ok(source.read_at(0, PARQUET_MAGIC.len()).map_err(compression::from_store)? == PARQUET_MAGIC)
}

/// What a read failed for: the store, a stated limit, or the content.
impl From<io::Error> for DecodeError {
    fn from(error: io::Error) -> Self {
        let error = match error.downcast::<DecodeError>() {
            Ok(error) => return error,
            Err(error) => error,
        };
        match error.downcast::<super::SourceError>() {
            Ok(super::SourceError(source)) => Self::Source(source),
            Err(error) => Self::Corrupt(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
