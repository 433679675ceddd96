//! What a program was given of the rows that are rejects now: that is what is kept of them, so that a replay can ask again.
//!
//! Which rows these are shows when the program has long answered. So the object is read once more for them, as it was read
//! for the program.

use super::{Load, LoadError, liveness, rejects::REJECTS_BYTES};
use crate::{config::InputFormat, ledger};
use decode::{DecodeError, MAX_PAYLOAD_BYTES, Questions, ReadOptions, Source};
use std::{collections::BTreeSet, sync::Arc};
use tokio::sync::mpsc;

/// Rows as a program was given them.
#[derive(Default)]
struct Page {
    rows: Vec<i64>,
    payloads: Vec<Vec<u8>>,
    /// Before the payloads were cut, in bytes.
    lengths: Vec<i64>,
    n_bytes: usize,
}

impl Page {
    fn add(&mut self, row: i64, json: &[u8]) {
        let json = if json.is_empty() { b"{}" } else { json };
        let kept = &json[..json.len().min(MAX_PAYLOAD_BYTES)];
        self.rows.push(row);
        self.payloads.push(kept.to_vec());
        self.lengths.push(i64::try_from(json.len()).unwrap_or(i64::MAX));
        self.n_bytes += kept.len();
    }
}

/// Has the rejects of this transaction keep what a program was given; those that it never saw keep what they have.
///
/// # Errors
/// [`LoadError::Decode`] or [`LoadError::Database`].
pub async fn keep(connection: &mut sqlx::PgConnection, load: &Load<'_>) -> Result<(), LoadError> {
    let (config, object_id) = (&load.target.config, load.recorded.object_id);
    if config.command.is_empty() || config.input_format != InputFormat::Rows {
        return Ok(());
    }
    let wanted: BTreeSet<i64> = ledger::rejects::new(connection, object_id).await?.into_iter().collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let (sender, mut pages) = mpsc::channel(1);
    let (source, mut options) = (Arc::clone(&load.source), load.target.read.clone());
    options.limits.budget = options.limits.budget.afresh();
    let reading = tokio::task::spawn_blocking(move || find(source, &options, wanted, &sender));
    while let Some(Page { rows, payloads, lengths, .. }) = liveness::elsewhere(pages.recv()).await {
        ledger::rejects::keep(connection, object_id, &rows, &payloads, &lengths).await?;
    }
    let panicked = |_| DecodeError::Corrupt("what makes no sense to the decoder (it panicked)".into());
    liveness::elsewhere(reading).await.map_err(panicked).and_then(|read| read).map_err(LoadError::Decode)
}

/// Sends the rows with these numbers, as far as a program was given them.
fn find(
    source: Arc<dyn Source>,
    options: &ReadOptions,
    mut wanted: BTreeSet<i64>,
    sender: &mpsc::Sender<Page>,
) -> Result<(), DecodeError> {
    let mut questions = Questions::new(decode::open(source, options)?)?;
    let mut page = Page::default();
    let mut is_end = false;
    while !is_end && !wanted.is_empty() {
        let asking = questions.fill();
        options.limits.budget.check_busy()?;
        let asking = asking?;
        is_end = asking.is_end;
        for reject in asking.rejects {
            wanted.remove(&i64::try_from(reject.row_number).unwrap_or(i64::MAX));
        }
        for (row, json) in questions.rows() {
            let row = i64::try_from(row).unwrap_or(i64::MAX);
            if wanted.remove(&row) {
                page.add(row, json);
            }
        }
        let is_last = is_end || wanted.is_empty();
        if (is_last || page.n_bytes > REJECTS_BYTES) && sender.blocking_send(std::mem::take(&mut page)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
