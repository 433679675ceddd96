//! Decoding on a thread of its own while COPY drains on the runtime.

use super::{
    command::{self, Invocation},
    run::{RowOrder, Run},
    sweep::Sweep,
};
use crate::object::StoreError;
use decode::{Batch, DecodeError, Field, Fields, Mapping, PayloadForm, ReadOptions, RowReader, Source, budget::Budget};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
    mpsc::TryRecvError,
};
use tokio::sync::{mpsc, oneshot};

/// Bytes of rows that are not sorted, from one hand-over to the next. Measured: 256 KiB to 1 MiB are alike.
const UNSORTED_BYTES: usize = 512 * 1024;
/// Runs there are.
const N_RUNS: usize = 2;
/// Bytes of rows that are decoded at once, also where there is no memory for rows.
const MIN_BYTES: usize = 16 * 1024;
/// The first run is shorter by this, so that COPY has something to do early.
const FIRST_SHARE: usize = 4;

/// What the decoding thread says, in this order.
#[derive(Debug)]
pub enum Decoded {
    /// The object is open, and the payloads of its rejects will be written so, with these fields; decoding waits for the
    /// mapping.
    Fields(Fields, (Fields, PayloadForm)),
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
/// Two runs exist at most, one that is being sent and one that waits for that; rows behind them are kept by
/// ranges of their key.
pub struct Decoding {
    receiver: mpsc::Receiver<Decoded>,
    shape: Option<oneshot::Sender<Shape>>,
    used: std::sync::mpsc::Sender<Run>,
    put_back: Option<Decoded>,
    /// Ends the program that rows pass through.
    _stops: StopOnDrop,
    /// What its memory is bounded by.
    pub budget: Budget,
}

impl Decoding {
    /// Starts decoding `source`, through a program where there is one, with up to twice `run_bytes` of memory for encoded
    /// rows.
    #[must_use]
    pub fn start(source: Arc<dyn Source>, options: ReadOptions, run_bytes: usize, command: Option<Invocation>) -> Self {
        Self::of(options, run_bytes, move |options, stopped| command::open(source, options, command.as_ref(), stopped))
    }

    /// Starts decoding what `open` opens, with up to twice `run_bytes` of memory for encoded rows.
    pub fn of(
        mut options: ReadOptions,
        run_bytes: usize,
        open: impl FnOnce(&ReadOptions, Arc<AtomicBool>) -> Result<Box<dyn RowReader>, DecodeError> + Send + 'static,
    ) -> Self {
        let budget = options.limits.budget.afresh();
        options.limits.budget = budget.clone();
        let (sender, receiver) = mpsc::channel(1);
        let (shape_sender, shape) = oneshot::channel();
        let (used, spare) = std::sync::mpsc::channel();
        for _ in 0..N_RUNS {
            let _ = used.send(Run::default());
        }
        let stopped = Arc::new(AtomicBool::new(false));
        let stops = StopOnDrop(Arc::clone(&stopped));
        tokio::task::spawn_blocking(move || {
            let open = || open(&options, stopped);
            let work = || decode_all(open, &options, run_bytes, &sender, shape, spare);
            // Decoders process untrusted input: a panic in one is the object's fault, not the worker's end.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| {
                Err(DecodeError::Corrupt("what makes no sense to the decoder (it panicked)".into()))
            });
            if let Err(error) = result {
                // The receiver is gone.
                let _ = sender.blocking_send(Decoded::Failed(error));
            }
        });
        Self { receiver, shape: Some(shape_sender), used, put_back: None, _stops: stops, budget }
    }

    /// Returns what comes next.
    pub async fn next(&mut self) -> Decoded {
        if let Some(decoded) = self.put_back.take() {
            return decoded;
        }
        super::liveness::elsewhere(self.receiver.recv()).await.unwrap_or_else(|| {
            // The process is about to end, or out of threads.
            let ended = StoreError::Transient(anyhow::anyhow!("the decoding thread ended early"));
            Decoded::Failed(DecodeError::Source(ended.into()))
        })
    }

    /// Has what came last come once more.
    pub fn put_back(&mut self, decoded: Decoded) {
        self.put_back = Some(decoded);
    }

    /// Lets decoding go on; called once, after [`Decoded::Fields`].
    pub fn set_shape(&mut self, shape: Shape) {
        if let Some(sender) = self.shape.take() {
            let _ = sender.send(shape);
        }
    }

    /// Gives a run's memory back to the decoder, which waits for it.
    pub fn recycle(&self, mut run: Run) {
        run.clear();
        let _ = self.used.send(run);
    }
}

/// Sets a flag when it is dropped.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn decode_all(
    open: impl FnOnce() -> Result<Box<dyn RowReader>, DecodeError>,
    options: &ReadOptions,
    run_bytes: usize,
    sender: &mpsc::Sender<Decoded>,
    shape: oneshot::Receiver<Shape>,
    spare: std::sync::mpsc::Receiver<Run>,
) -> Result<(), DecodeError> {
    let opened = open();
    options.limits.budget.check_busy()?;
    let mut reader = opened?;
    let kept = (reader.kept_fields().clone(), reader.payload_form());
    if sender.blocking_send(Decoded::Fields(reader.fields().clone(), kept)).is_err() {
        return Ok(());
    }
    let Ok(Shape { mapping, order }) = shape.blocking_recv() else {
        return Ok(());
    };
    reader.set_mapping(mapping);
    let budget = &options.limits.budget;
    let wanted = if order.is_some() { run_bytes } else { run_bytes.min(UNSORTED_BYTES) };
    let rows = budget.reserve_rows(2 * wanted);
    let mut spare = Spare { used: spare, kept: Vec::new() };
    let mut checked = Checked { reader: &mut *reader, budget };
    let sent = match order {
        Some(order) => send_sorted(&mut checked, order, rows.bytes() / 2, sender, &mut spare)?,
        None => send_as_they_come(&mut checked, rows.bytes() / 2, sender, &mut spare)?,
    };
    if !sent {
        return Ok(());
    }
    let end = Decoded::End { seen_columns: reader.seen_columns(), new_fields: reader.new_fields() };
    let _ = sender.blocking_send(end);
    Ok(())
}

/// Runs that were given back.
struct Spare {
    used: std::sync::mpsc::Receiver<Run>,
    kept: Vec<Run>,
}

impl Spare {
    /// Waits for a run; none when the receiver is gone.
    fn take(&mut self) -> Option<Run> {
        self.kept.pop().or_else(|| self.used.recv().ok())
    }

    fn try_take(&mut self) -> Result<Run, TryRecvError> {
        self.kept.pop().map_or_else(|| self.used.try_recv(), Ok)
    }

    /// Sends a run; false when the receiver is gone. A long row is waited for until it is sent on: behind it
    /// another would take as much memory again.
    fn send(&mut self, run: Run, sender: &mpsc::Sender<Decoded>) -> bool {
        let has_long_rows = !run.batch.long_rows.is_empty();
        if sender.blocking_send(Decoded::Run(run)).is_err() {
            return false;
        }
        while has_long_rows && self.kept.len() < N_RUNS {
            let Ok(run) = self.used.recv() else { return false };
            self.kept.push(run);
        }
        true
    }
}

/// A reader, and what tells of memory it waited for in vain.
struct Checked<'a> {
    reader: &'a mut dyn RowReader,
    budget: &'a Budget,
}

/// Sends all rows in the order of the object; false when the receiver is gone.
fn send_as_they_come(
    reader: &mut Checked<'_>,
    wanted: usize,
    sender: &mpsc::Sender<Decoded>,
    spare: &mut Spare,
) -> Result<bool, DecodeError> {
    let mut more = true;
    while more {
        let Some(mut run) = spare.take() else { return Ok(false) };
        run.clear();
        more = fill(reader, &mut run.batch, wanted)?;
        if (run.batch.n_read > 0 || !run.batch.rejects.is_empty()) && !spare.send(run, sender) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Sends all rows, a short run first and then by ranges of the key; false when the receiver is gone.
fn send_sorted(
    reader: &mut Checked<'_>,
    order: RowOrder,
    run_bytes: usize,
    sender: &mpsc::Sender<Decoded>,
    spare: &mut Spare,
) -> Result<bool, DecodeError> {
    let Some(mut first) = spare.take() else { return Ok(false) };
    first.clear();
    let mut more = fill(reader, &mut first.batch, run_bytes / FIRST_SHARE)?;
    first.sort(&order);
    let rest = more.then(|| Sweep::new(order, &first, 2 * run_bytes - run_bytes / FIRST_SHARE));
    if (first.batch.n_read > 0 || !first.batch.rejects.is_empty()) && !spare.send(first, sender) {
        return Ok(false);
    }
    let Some(mut sweep) = rest else { return Ok(true) };
    let mut batch = Batch::default();
    // Where conditions drop all rows, nothing is sent for long.
    while more && !sender.is_closed() {
        more = fill(reader, &mut batch, sweep.step_bytes())?;
        sweep.add(&mut batch);
        while more && (sweep.is_full() || sweep.has_ready() || sweep.has_long_rows()) {
            // Whoever has given one back will want another before long; else memory decides.
            let run = match sweep.is_full() || sweep.has_long_rows() {
                true => spare.take().ok_or(TryRecvError::Disconnected),
                false => spare.try_take(),
            };
            let mut run = match run {
                Ok(run) => run,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(false),
            };
            sweep.take(&mut run);
            if !spare.send(run, sender) {
                return Ok(false);
            }
        }
    }
    drop(batch);
    loop {
        let Some(mut run) = spare.take() else { return Ok(false) };
        if !sweep.take(&mut run) {
            return Ok(true);
        }
        if !spare.send(run, sender) {
            return Ok(false);
        }
    }
}

/// Fills a batch up to the `wanted` bytes; false when the object has ended.
fn fill(reader: &mut Checked<'_>, batch: &mut Batch, wanted: usize) -> Result<bool, DecodeError> {
    let mut more = true;
    let wanted = wanted.max(MIN_BYTES);
    // A reader may hand out less than it is asked for.
    while more && batch.size() < wanted {
        let filled = reader.reader.fill(batch, wanted);
        reader.budget.check_busy()?;
        more = filled?;
    }
    Ok(more)
}
