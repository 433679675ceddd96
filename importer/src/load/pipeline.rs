//! Decoding on a thread of its own while COPY drains on the runtime.

use crate::decode::{self, Batch, DecodeError, Field, Fields, Mapping, PayloadForm, ReadOptions, Source};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Batches between the decoder and COPY: one being sent, one ready.
const BATCHES_AHEAD: usize = 2;

/// What the decoding thread says, in this order.
#[derive(Debug)]
pub enum Decoded {
    /// The object is open, its rejects will be written so; decoding waits for the mapping.
    Fields(Fields, PayloadForm),
    /// Rows.
    Batch(Batch),
    /// All rows were read.
    End {
        /// Which of the mapping's columns any row had a field for.
        seen_columns: Vec<bool>,
        /// Fields no column took.
        new_fields: Vec<Field>,
    },
    /// The object cannot be read on.
    Failed(DecodeError),
}

/// A running decoder. Dropping it ends the thread at its next batch.
pub struct Decoding {
    receiver: mpsc::Receiver<Decoded>,
    mapping: Option<oneshot::Sender<Arc<Mapping>>>,
    used: std::sync::mpsc::Sender<Batch>,
}

impl Decoding {
    /// Starts decoding `source` into batches of about `batch_bytes`.
    #[must_use]
    pub fn start(source: Arc<dyn Source>, options: ReadOptions, batch_bytes: usize) -> Self {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let (mapping_sender, mapping) = oneshot::channel();
        let (used, spare) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || {
            let work = || decode_all(source, &options, batch_bytes, &sender, mapping, &spare);
            // Decoders are libraries fed by strangers: a panic in one is the object's fault, not the worker's end.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err(DecodeError::Corrupt("the decoder gave up on these bytes".into())));
            if let Err(error) = result {
                // Nobody listening means nobody wants to know.
                let _ = sender.blocking_send(Decoded::Failed(error));
            }
        });
        Self { receiver, mapping: Some(mapping_sender), used }
    }

    /// Returns what comes next.
    pub async fn next(&mut self) -> Decoded {
        self.receiver
            .recv()
            .await
            .unwrap_or_else(|| Decoded::Failed(DecodeError::Source(anyhow::anyhow!("the decoding thread ended early"))))
    }

    /// Lets decoding go on; called once, after [`Decoded::Fields`].
    pub fn set_mapping(&mut self, mapping: Arc<Mapping>) {
        if let Some(sender) = self.mapping.take() {
            let _ = sender.send(mapping);
        }
    }

    /// Gives a batch's memory back to the decoder.
    pub fn recycle(&self, batch: Batch) {
        let _ = self.used.send(batch);
    }
}

fn decode_all(
    source: Arc<dyn Source>,
    options: &ReadOptions,
    batch_bytes: usize,
    sender: &mpsc::Sender<Decoded>,
    mapping: oneshot::Receiver<Arc<Mapping>>,
    spare: &std::sync::mpsc::Receiver<Batch>,
) -> Result<(), DecodeError> {
    let mut reader = decode::open(source, options)?;
    if sender.blocking_send(Decoded::Fields(reader.fields().clone(), reader.payload_form())).is_err() {
        return Ok(());
    }
    let Ok(mapping) = mapping.blocking_recv() else {
        return Ok(());
    };
    reader.set_mapping(mapping);
    loop {
        let mut batch = spare.try_recv().unwrap_or_default();
        batch.clear();
        let more = reader.fill(&mut batch, batch_bytes)?;
        if (batch.n_read > 0 || !batch.rejects.is_empty()) && sender.blocking_send(Decoded::Batch(batch)).is_err() {
            return Ok(());
        }
        if !more {
            let end = Decoded::End { seen_columns: reader.seen_columns(), new_fields: reader.new_fields() };
            let _ = sender.blocking_send(end);
            return Ok(());
        }
    }
}
