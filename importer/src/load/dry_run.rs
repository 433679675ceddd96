//! What a load would do, found out by decoding alone.

use super::{
    Invocation, LoadError, Target,
    copy::MESSAGE_BYTES,
    mapping::map,
    pipeline::{Decoded, Decoding, Shape},
};
use crate::object::ReadTarget;
use decode::{Reject, Source};
use std::sync::Arc;

/// Rejects a dry run shows of one object.
const SHOWN: usize = 10;

/// What decoding an object brought.
#[derive(Debug, Default)]
pub struct DryRun {
    /// Rows in the object.
    pub n_read: u64,
    /// Rows that decoding refuses.
    pub n_rejected: u64,
    /// The first few of them.
    pub rejects: Vec<Reject>,
    /// Whether the object would fail for having too many.
    pub too_many: bool,
}

/// Decodes an object as for `target` and writes nothing.
///
/// # Errors
/// [`LoadError::Decode`] and [`LoadError::Schema`], as a load would.
pub async fn dry_run(
    target: &Target,
    captures: &[(String, Option<String>)],
    source: Arc<dyn Source>,
    object: &ReadTarget,
) -> Result<DryRun, LoadError> {
    let mut decoding =
        Decoding::start(source, target.read.clone(), MESSAGE_BYTES, Invocation::new(&target.config, object));
    let mut found = DryRun::default();
    loop {
        match decoding.next().await {
            Decoded::Fields(fields, _) => {
                let mapping = Arc::new(map(target, captures, &fields)?);
                decoding.set_shape(Shape { mapping, order: None });
            }
            Decoded::Run(mut run) => {
                let batch = &mut run.batch;
                found.n_read += batch.n_read;
                found.n_rejected += batch.rejects.len() as u64;
                let room = SHOWN.saturating_sub(found.rejects.len());
                found.rejects.extend(batch.rejects.drain(..).take(room));
                decoding.recycle(run);
            }
            Decoded::End { .. } => {
                found.too_many = !target.config.max_rejects.allows(found.n_rejected, found.n_read);
                return Ok(found);
            }
            Decoded::Failed(error) => return Err(LoadError::Decode(error)),
        }
    }
}
