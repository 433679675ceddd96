//! Parquet files.

use super::{DecodeError, ReadOptions, RowReader, Source};
use std::sync::Arc;

/// Opens a Parquet file.
///
/// # Errors
/// [`DecodeError::Corrupt`]: this build reads no Parquet.
pub fn open(_source: Arc<dyn Source>, _options: &ReadOptions) -> Result<Box<dyn RowReader>, DecodeError> {
    Err(DecodeError::Corrupt("Parquet is not read by this build".into()))
}
