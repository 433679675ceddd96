//! Rows one a line.

use super::{row::RowParser, window::Window};
use crate::{Batch, MAX_PAYLOAD_BYTES};
use std::io;

/// Finds the lines of an NDJSON object.
#[derive(Default)]
pub struct Lines {
    /// How far the bytes in view are known to hold no line's end.
    searched: usize,
}

impl Lines {
    /// Reads on to the end of the next row and hands it over; returns false at the end of the input.
    pub fn next(
        &mut self,
        window: &mut Window,
        max_bytes: usize,
        rows: &mut RowParser,
        batch: &mut Batch,
    ) -> io::Result<bool> {
        loop {
            let data = window.data();
            match memchr::memchr(b'\n', &data[self.searched..]) {
                Some(found) => {
                    let end = self.searched + found;
                    let is_row = push(&data[..end], max_bytes, rows, batch);
                    window.consume(end + 1);
                    self.searched = 0;
                    if is_row {
                        return Ok(true);
                    }
                }
                None if data.len() > max_bytes => {
                    self.searched = 0;
                    skip_oversized(window, rows, batch)?;
                    return Ok(true);
                }
                None => {
                    self.searched = data.len();
                    if !window.more()? {
                        // The last line needs no end.
                        let end = self.searched;
                        let is_row = push(window.data(), max_bytes, rows, batch);
                        window.consume(end);
                        self.searched = 0;
                        return Ok(is_row);
                    }
                }
            }
        }
    }
}

/// Adds a line to the batch unless it is blank; returns whether it did.
fn push(line: &[u8], max_bytes: usize, rows: &mut RowParser, batch: &mut Batch) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
        return false;
    }
    if line.len() > max_bytes {
        rows.push_oversized(line, line.len() as u64, batch);
    } else {
        rows.push(line, batch);
    }
    true
}

/// Lets a line go that does not fit, keeping its start for the reject.
fn skip_oversized(window: &mut Window, rows: &mut RowParser, batch: &mut Batch) -> io::Result<()> {
    let start = window.data()[..window.data().len().min(MAX_PAYLOAD_BYTES)].to_vec();
    let mut length = 0;
    loop {
        let data = window.data();
        let end = memchr::memchr(b'\n', data);
        length += end.unwrap_or(data.len()) as u64;
        window.consume(end.map_or(data.len(), |end| end + 1));
        if end.is_some() || !window.more()? {
            break;
        }
    }
    rows.push_oversized(&start, length, batch);
    Ok(())
}
