//! From what the libraries report to [`DecodeError`].

use super::{DecodeError, SourceError};
use std::{error::Error, io};

/// Returns what an error means that a library may have wrapped around a failed read.
pub fn of_chain(error: &(dyn Error + 'static)) -> DecodeError {
    let mut link = Some(error);
    while let Some(inner) = link {
        if let Some(SourceError(source)) = inner.downcast_ref::<SourceError>() {
            return DecodeError::Source(anyhow::anyhow!("{source:#}"));
        }
        match inner.downcast_ref::<DecodeError>() {
            Some(DecodeError::Source(source)) => return DecodeError::Source(anyhow::anyhow!("{source:#}")),
            Some(DecodeError::Limits(limit)) => return DecodeError::Limits(limit.clone()),
            Some(DecodeError::Corrupt(problem)) => return DecodeError::Corrupt(problem.clone()),
            Some(DecodeError::Schema(problem)) => return DecodeError::Schema(problem.clone()),
            Some(DecodeError::Busy(problem)) => return DecodeError::Busy(problem.clone()),
            None => {}
        }
        // `io::Error::source` skips the error it carries.
        link = match inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(carried) => Some(carried),
            None => inner.source(),
        };
    }
    DecodeError::Corrupt(described(error))
}

/// What the libraries put before what is the matter, some of it once for each layer.
const LAYERS: [&str; 5] = ["Parquet argument error: ", "Parquet error: ", "External: ", "Arrow: ", "EOF: "];

/// Returns an error and its causes in one line, each said once.
fn described(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut link = error.source();
    while let Some(cause) = link {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        link = cause.source();
    }
    let mut rest = text.as_str();
    while let Some(inner) = LAYERS.iter().find_map(|layer| rest.strip_prefix(layer)) {
        rest = inner;
    }
    if rest.len() < text.len() { format!("Parquet: {rest}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::errors::ParquetError;

    #[test]
    fn what_is_the_matter_is_said_without_the_libraries_layers() {
        let error = ParquetError::ArrowError("Parquet argument error: EOF: Invalid page header".into());
        assert_eq!(of_chain(&error).to_string(), "corrupt: Parquet: Invalid page header");
        assert_eq!(of_chain(&io::Error::other("torn")).to_string(), "corrupt: torn");
    }
}
