//! Decoding on a thread of its own while COPY drains on the runtime.

use super::run::{RowOrder, Run};
use crate::decode::{self, DecodeError, Field, Fields, Mapping, PayloadForm, ReadOptions, Source};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Bytes of rows that are not sorted, from one hand-over to the next. Measured: 256 KiB to 1 MiB are alike.
const UNSORTED_BYTES: usize = 512 * 1024;
/// The first run is shorter by this, so that COPY has something to do early.
const FIRST_SHARE: usize = 4;

/// What the decoding thread says, in this order.
#[derive(Debug)]
pub enum Decoded {
    /// The object is open, its rejects will be written so; decoding waits for the mapping.
    Fields(Fields, PayloadForm),
    /// Rows, sorted when the mapping came with an order.
    Run(Run),
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

/// What to do with rows once fields and columns were brought together.
pub struct Shape {
    /// Fields to columns.
    pub mapping: Arc<Mapping>,
    /// What rows are sorted by.
    pub order: Option<RowOrder>,
}

/// A running decoder. Dropping it ends the thread at its next run.
///
/// Two runs exist at most: one that is being sent, one that is being decoded and sorted.
pub struct Decoding {
    receiver: mpsc::Receiver<Decoded>,
    shape: Option<oneshot::Sender<Shape>>,
    used: std::sync::mpsc::Sender<Run>,
}

impl Decoding {
    /// Starts decoding `source` into runs of about `run_bytes`.
    #[must_use]
    pub fn start(source: Arc<dyn Source>, options: ReadOptions, run_bytes: usize) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        let (shape_sender, shape) = oneshot::channel();
        let (used, spare) = std::sync::mpsc::channel();
        for _ in 0..2 {
            let _ = used.send(Run::default());
        }
        tokio::task::spawn_blocking(move || {
            let work = || decode_all(source, &options, run_bytes, &sender, shape, &spare);
            // Decoders are libraries fed by strangers: a panic in one is the object's fault, not the worker's end.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err(DecodeError::Corrupt("the decoder gave up on these bytes".into())));
            if let Err(error) = result {
                // Nobody listening means nobody wants to know.
                let _ = sender.blocking_send(Decoded::Failed(error));
            }
        });
        Self { receiver, shape: Some(shape_sender), used }
    }

    /// Returns what comes next.
    pub async fn next(&mut self) -> Decoded {
        self.receiver
            .recv()
            .await
            .unwrap_or_else(|| Decoded::Failed(DecodeError::Source(anyhow::anyhow!("the decoding thread ended early"))))
    }

    /// Lets decoding go on; called once, after [`Decoded::Fields`].
    pub fn set_shape(&mut self, shape: Shape) {
        if let Some(sender) = self.shape.take() {
            let _ = sender.send(shape);
        }
    }

    /// Gives a run's memory back to the decoder, which waits for it.
    pub fn recycle(&self, run: Run) {
        let _ = self.used.send(run);
    }
}

fn decode_all(
    source: Arc<dyn Source>,
    options: &ReadOptions,
    run_bytes: usize,
    sender: &mpsc::Sender<Decoded>,
    shape: oneshot::Receiver<Shape>,
    spare: &std::sync::mpsc::Receiver<Run>,
) -> Result<(), DecodeError> {
    let mut reader = decode::open(source, options)?;
    if sender.blocking_send(Decoded::Fields(reader.fields().clone(), reader.payload_form())).is_err() {
        return Ok(());
    }
    let Ok(Shape { mapping, order }) = shape.blocking_recv() else {
        return Ok(());
    };
    reader.set_mapping(mapping);
    let mut wanted = match order {
        Some(_) => run_bytes / FIRST_SHARE,
        None => run_bytes.min(UNSORTED_BYTES),
    };
    let mut more = true;
    while more {
        let Ok(mut run) = spare.recv() else {
            return Ok(());
        };
        run.clear();
        // A reader may hand out less than it is asked for.
        while more && run.batch.size() < wanted {
            more = reader.fill(&mut run.batch, wanted)?;
        }
        if run.batch.n_read == 0 && run.batch.rejects.is_empty() {
            continue;
        }
        if let Some(order) = &order {
            run.sort(order);
            wanted = run_bytes;
        }
        if sender.blocking_send(Decoded::Run(run)).is_err() {
            return Ok(());
        }
    }
    let end = Decoded::End { seen_columns: reader.seen_columns(), new_fields: reader.new_fields() };
    let _ = sender.blocking_send(end);
    Ok(())
}
