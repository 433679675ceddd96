//! Rows in a JSON document: one object, objects one after another, or arrays of them.

use super::{
    frame::Frame,
    next_byte,
    pointer::{Pointer, skip_rest},
    row::RowParser,
    window::Window,
};
use crate::{Batch, DecodeError, MAX_PAYLOAD_BYTES};

/// What may come next in the document.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A row, an array of rows, or the end.
    #[default]
    Outside,
    /// An array's first element or its end.
    Opened,
    /// An array's next element.
    Element,
    /// A comma or an array's end.
    AfterElement,
}

/// Finds the rows of a JSON document without holding more than one of them.
#[derive(Default)]
pub struct Document {
    state: State,
    /// Where in each document the array of its rows is, unless it is the document.
    rows: Option<Pointer>,
}

impl Document {
    /// Returns what finds the rows at this place.
    pub fn new(rows: Option<Pointer>) -> Self {
        Self { state: State::default(), rows }
    }

    /// Reads on to the end of the next row and hands it over; returns false at the end of the input.
    ///
    /// # Errors
    /// [`DecodeError::Corrupt`] where the rows can no longer be told apart.
    pub fn next(
        &mut self,
        window: &mut Window,
        max_bytes: usize,
        rows: &mut RowParser,
        batch: &mut Batch,
    ) -> Result<bool, DecodeError> {
        loop {
            let Some(byte) = next_byte(window)? else {
                return match self.state {
                    State::Outside => Ok(false),
                    _ => Err(DecodeError::Corrupt("JSON array ends early".into())),
                };
            };
            self.state = match (self.state, byte) {
                (State::Outside, _) if let Some(pointer) = &self.rows => {
                    if pointer.descend(window)? {
                        self.state = State::Opened;
                    } else {
                        skip_rest(window, pointer.depth())?;
                    }
                    continue;
                }
                (State::Outside, b'[') => State::Opened,
                (State::Opened | State::AfterElement, b']') => {
                    window.consume(1);
                    if let Some(pointer) = &self.rows {
                        skip_rest(window, pointer.depth())?;
                    }
                    self.state = State::Outside;
                    continue;
                }
                (State::AfterElement, b',') => State::Element,
                (State::Outside, b'{') => {
                    push_value(window, max_bytes, rows, batch)?;
                    return Ok(true);
                }
                (State::Opened | State::Element, first) if !matches!(first, b',' | b']' | b'}') => {
                    push_value(window, max_bytes, rows, batch)?;
                    self.state = State::AfterElement;
                    return Ok(true);
                }
                (State::Outside, _) => {
                    return Err(DecodeError::Corrupt("neither a JSON object nor an array of them".into()));
                }
                _ => return Err(DecodeError::Corrupt("JSON array is broken between its elements".into())),
            };
            window.consume(1);
        }
    }
}

/// Hands over the value that starts the view; one that does not fit is let go but for its start.
fn push_value(
    window: &mut Window,
    max_bytes: usize,
    rows: &mut RowParser,
    batch: &mut Batch,
) -> Result<(), DecodeError> {
    let mut frame = Frame::default();
    let mut oversized: Option<(Vec<u8>, u64)> = None;
    let mut searched = 0;
    loop {
        let data = window.data();
        let end = frame.advance(&data[searched..]).map(|end| searched + end);
        let length = end.unwrap_or(data.len());
        match &mut oversized {
            Some((_, total)) => *total += length as u64,
            None if length > max_bytes => {
                oversized = Some((data[..length.min(MAX_PAYLOAD_BYTES)].to_vec(), length as u64));
            }
            None => {
                if end.is_some() {
                    rows.push(&data[..length], batch);
                }
            }
        }
        if end.is_some() || oversized.is_some() {
            window.consume(length);
            searched = 0;
        } else {
            searched = length;
        }
        if end.is_some() {
            break;
        }
        if !window.more()? {
            return Err(DecodeError::Corrupt("JSON value ends early".into()));
        }
    }
    if let Some((start, length)) = oversized {
        rows.push_oversized(&start, length, batch);
    }
    Ok(())
}
