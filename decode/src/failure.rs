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
    text
}
