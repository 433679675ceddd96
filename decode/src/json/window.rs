//! The part of the input that is in memory: grows to hold a whole row, gives the memory back afterwards.

use crate::budget::{Budget, Reservation};
use std::io::{self, BufRead};

/// Bytes asked for at once: larger fills the processor's cache, smaller costs calls.
const CHUNK_BYTES: usize = 128 * 1024;
/// The buffer grows by at most this, so that a row at the limit does not take twice the limit.
const MAX_STEP_BYTES: usize = 1024 * 1024;
/// A buffer that grew beyond this for one row is given back after it; what is beyond it is reserved.
const MAX_KEPT_BYTES: usize = 4 * CHUNK_BYTES;

/// A sliding view of the input.
pub struct Window {
    input: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// For a buffer that holds a long row.
    reserved: Reservation,
}

impl Window {
    /// Returns an empty view at the start of `input`.
    pub fn new(input: Box<dyn BufRead + Send>, budget: &Budget) -> Self {
        Self { input, buffer: Vec::new(), start: 0, end: 0, reserved: budget.nothing() }
    }

    /// Returns the bytes in view.
    pub fn data(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Lets the first `n` bytes in view go.
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }

    /// Brings more bytes into view; returns false at the end of the input.
    pub fn more(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let length = self.buffer.len();
        let oversized = length > MAX_KEPT_BYTES && self.end < CHUNK_BYTES;
        if oversized || self.end == length {
            let wanted = if oversized { CHUNK_BYTES } else { length + length.clamp(CHUNK_BYTES, MAX_STEP_BYTES) };
            if wanted > MAX_KEPT_BYTES {
                self.reserved.grow_to("a row", wanted).map_err(io::Error::other)?;
            }
            self.buffer.resize(wanted, 0);
            self.buffer.shrink_to(wanted);
            if oversized {
                self.reserved.shrink_to(0);
            }
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(n) => {
                    self.end += n;
                    return Ok(n > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecodeError, budget::Pool};
    use std::io::Read;

    #[test]
    fn bytes_come_out_in_order_and_memory_goes_back() {
        let content: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut window = Window::new(Box::new(io::Cursor::new(content.clone())), &Budget::default());
        while window.data().len() < 2_000_000 {
            assert!(window.more().expect("memory does not fail"));
        }
        assert_eq!(window.data()[..2_000_000], content[..2_000_000]);
        window.consume(2_000_000);
        let mut seen = 2_000_000;
        while window.more().expect("memory does not fail") {
            let n = window.data().len();
            assert_eq!(window.data(), &content[seen..seen + n]);
            window.consume(n);
            seen += n;
        }
        assert_eq!(seen, content.len());
        assert!(window.buffer.capacity() <= MAX_KEPT_BYTES, "{}", window.buffer.capacity());
    }

    #[test]
    fn a_long_row_is_reserved_and_given_back() {
        let budget = Budget::new(3 << 20, Pool::new(0, 1));
        let mut window = Window::new(Box::new(io::BufReader::new(io::repeat(b'x').take(64 << 20))), &budget);
        while window.data().len() < 2 << 20 {
            assert!(window.more().expect("it fits"));
        }
        budget.reserve("another", 2 << 20).expect_err("the row takes it");
        window.consume(2 << 20);
        while window.data().len() < CHUNK_BYTES {
            window.more().expect("it fits");
        }
        budget.reserve("another", 2 << 20).expect("the row is gone");
        let too_long = loop {
            match window.more() {
                Ok(_) => {}
                Err(error) => break DecodeError::from(error),
            }
        };
        assert!(matches!(&too_long, DecodeError::Limits(limit) if limit.contains("a row takes")), "{too_long}");
    }
}
