//! Rows one a line.

use super::{frame::Frame, row::RowParser, window::Window};
use crate::{Batch, MAX_PAYLOAD_BYTES};
use std::io;

/// Finds the lines of an NDJSON object.
pub struct Lines {
    end: u8,
    /// How far the bytes in view are known to hold no line's end.
    searched: usize,
    /// How many bytes in view are left of a line that rows share.
    shared: usize,
}

impl Lines {
    /// Returns what finds lines that end in this byte.
    pub fn ending_in(end: u8) -> Self {
        Self { end, searched: 0, shared: 0 }
    }

    /// Reads on to the end of the next row and hands it over; returns false at the end of the input.
    pub fn next(
        &mut self,
        window: &mut Window,
        max_bytes: usize,
        rows: &mut RowParser,
        batch: &mut Batch,
    ) -> io::Result<bool> {
        loop {
            if self.shared > 0 && self.next_sharing(window, rows, batch) {
                return Ok(true);
            }
            let data = window.data();
            let found = memchr::memchr(self.end, &data[self.searched..]);
            let end = match found {
                Some(found) => self.searched + found,
                None if data.len() > max_bytes => {
                    self.searched = 0;
                    skip_oversized(self.end, window, rows, batch)?;
                    return Ok(true);
                }
                None => {
                    self.searched = data.len();
                    if window.more()? {
                        continue;
                    }
                    // The last line needs no end.
                    self.searched
                }
            };
            self.searched = 0;
            let line = &window.data()[..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let is_row = !line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
            if is_row && line.len() > max_bytes {
                rows.push_oversized(line, line.len() as u64, batch);
            } else if is_row && !rows.push(line, batch) {
                self.shared = end;
                continue;
            }
            window.consume(end + 1);
            if is_row || found.is_none() {
                return Ok(is_row);
            }
        }
    }

    /// Hands over the next row of a line that is nothing but rows; returns false when there are no more.
    fn next_sharing(&mut self, window: &mut Window, rows: &mut RowParser, batch: &mut Batch) -> bool {
        let line = &window.data()[..self.shared];
        let row = line.trim_ascii_start();
        let length = Frame::default().advance(row);
        if let Some(length) = length {
            rows.push(&row[..length], batch);
        }
        let taken = length.map_or(line.len(), |length| line.len() - row.len() + length);
        window.consume(taken);
        self.shared -= taken;
        length.is_some()
    }
}

/// Lets a line go that does not fit, keeping its start for the reject.
fn skip_oversized(line_end: u8, window: &mut Window, rows: &mut RowParser, batch: &mut Batch) -> io::Result<()> {
    let start = window.data()[..window.data().len().min(MAX_PAYLOAD_BYTES)].to_vec();
    let mut length = 0;
    loop {
        let data = window.data();
        let end = memchr::memchr(line_end, data);
        length += end.unwrap_or(data.len()) as u64;
        window.consume(end.map_or(data.len(), |end| end + 1));
        if end.is_some() || !window.more()? {
            break;
        }
    }
    rows.push_oversized(&start, length, batch);
    Ok(())
}
