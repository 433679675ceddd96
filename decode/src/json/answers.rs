//! What a program answers to the rows it was given: one JSON object a line, each naming the row it is about.

use super::{row::RowParser, window::Window};
use crate::{
    Batch, DecodeError, Field, Fields, Limits, Mapping, PayloadForm, RejectClass, RowReader, encode::CellError,
};
use std::{io::BufRead, sync::Arc};

/// Members of an answer that are not fields of a row.
pub const CONTROL_FIELDS: [&str; 3] = ["penstock_row", "penstock_filtered", "penstock_error"];

/// Which answer to a row one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The first.
    First,
    /// Another.
    Further,
    /// One of a row that is a reject already, for another of its answers.
    OfReject,
}

/// Keeps account of the rows a program was given.
pub trait Asked: Send {
    /// Notes an answer to a row, and returns which it is; `is_only` when no other may follow.
    ///
    /// # Errors
    /// When there is no such row, or it has its answer.
    fn answered(&mut self, row: u64, is_only: bool) -> Result<Answer, DecodeError>;
    /// Notes that an answer to a row was refused, and so the row.
    fn refused(&mut self, row: u64);
    /// Adds the rows that could not be asked about, which are rejects.
    fn take_rejects(&mut self, batch: &mut Batch);
    /// Waits for the program's end, after its last answer.
    ///
    /// # Errors
    /// When it failed, or left a row without an answer.
    fn finish(&mut self) -> Result<(), DecodeError>;
    /// Returns the error of an answer that cannot be read.
    fn unreadable(&self, why: &str) -> DecodeError;
}

/// The members of [`CONTROL_FIELDS`].
#[derive(serde::Deserialize)]
struct Control {
    penstock_row: u64,
    #[serde(default)]
    penstock_filtered: bool,
    penstock_error: Option<String>,
}

/// Reads the rows of a program's answers. One that is refused makes its row a reject, once; those before it stay in the
/// batches.
pub struct Answers {
    fields: Fields,
    asked_fields: Fields,
    asked_form: PayloadForm,
    window: Window,
    /// How far the bytes in view are known to hold no line's end.
    searched: usize,
    rows: RowParser,
    limits: Limits,
    asked: Box<dyn Asked>,
}

impl Answers {
    /// Returns a reader of the answers in `output`, to rows with these fields whose rejects are written so.
    #[must_use]
    pub fn new(
        output: Box<dyn BufRead + Send>,
        limits: &Limits,
        asked: Box<dyn Asked>,
        (asked_fields, asked_form): (Fields, PayloadForm),
    ) -> Self {
        Self {
            fields: Fields::Open,
            asked_fields,
            asked_form,
            window: Window::new(output, &limits.budget),
            searched: 0,
            rows: RowParser::new(Arc::default(), limits),
            limits: limits.clone(),
            asked,
        }
    }

    /// Reads one answer; false at the end.
    fn next(&mut self, batch: &mut Batch) -> Result<bool, DecodeError> {
        let max_bytes = self.limits.row_bytes;
        let (length, end) = loop {
            let data = self.window.data();
            if let Some(found) = memchr::memchr(b'\n', &data[self.searched..]) {
                break (self.searched + found, self.searched + found + 1);
            }
            self.searched = data.len();
            if self.searched > max_bytes {
                break (self.searched, self.searched);
            }
            if !self.window.more()? {
                if self.window.data().is_empty() {
                    return Ok(false);
                }
                break (self.searched, self.searched);
            }
        };
        if length > max_bytes {
            return Err(self.asked.unreadable(&format!("an answer of more than {max_bytes} bytes")));
        }
        let line = self.window.data()[..length].trim_ascii();
        if !line.is_empty() {
            push(line, &mut self.rows, &mut *self.asked, batch)?;
        }
        self.window.consume(end);
        self.searched = 0;
        Ok(true)
    }
}

/// Adds an answer to the batch.
fn push(line: &[u8], rows: &mut RowParser, asked: &mut dyn Asked, batch: &mut Batch) -> Result<(), DecodeError> {
    // What serde says may quote a value.
    let control: Control = serde_json::from_slice(line).map_err(|error| {
        asked.unreadable(&format!("an answer that is not a JSON object with penstock_row ({:?})", error.classify()))
    })?;
    let row = control.penstock_row;
    let answer = asked.answered(row, control.penstock_filtered || control.penstock_error.is_some())?;
    if answer == Answer::OfReject {
        return Ok(());
    }
    if control.penstock_filtered {
        batch.n_read += 1;
        batch.n_filtered += 1;
        return Ok(());
    }
    let (n_before, n_rejects) = (batch.n_read, batch.rejects.len());
    match control.penstock_error {
        Some(error) => rows.push_refused(row, CellError::new(RejectClass::Command, error), line, batch),
        None => rows.push_numbered(row, line, batch),
    }
    if batch.rejects.len() > n_rejects {
        asked.refused(row);
    }
    if answer == Answer::Further {
        batch.n_added += batch.n_read - n_before;
        batch.n_read = n_before;
    }
    Ok(())
}

impl RowReader for Answers {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn kept_fields(&self) -> &Fields {
        &self.asked_fields
    }

    fn payload_form(&self) -> PayloadForm {
        self.asked_form
    }

    fn set_mapping(&mut self, mapping: Arc<Mapping>) {
        self.rows = RowParser::new(mapping, &self.limits);
    }

    fn fill(&mut self, batch: &mut Batch, batch_bytes: usize) -> Result<bool, DecodeError> {
        while batch.size() < batch_bytes {
            let more = self.next(batch)?;
            self.asked.take_rejects(batch);
            if !more {
                self.asked.finish()?;
                self.asked.take_rejects(batch);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn seen_columns(&self) -> Vec<bool> {
        self.rows.seen_columns()
    }

    fn new_fields(&self) -> Vec<Field> {
        let fields = self.rows.new_fields().into_iter();
        fields.filter(|field| !CONTROL_FIELDS.contains(&field.name.as_str())).collect()
    }
}
