//! Deflate without a frame of its own, or in that of zlib.

use super::{DecodeError, blame, from_content};
use flate2::{Decompress, FlushDecompress, Status};
use std::io::{self, BufRead, Read};

/// Unpacks one stream, to which the input ends.
pub struct Inflate {
    state: Decompress,
    input: Box<dyn BufRead + Send>,
    packing: &'static str,
    is_over: bool,
}

impl Inflate {
    /// Returns a reader of zlib.
    pub fn zlib(input: Box<dyn BufRead + Send>) -> Self {
        Self { state: Decompress::new(true), input, packing: "zlib", is_over: false }
    }

    /// Returns a reader of deflate alone.
    pub fn raw(input: Box<dyn BufRead + Send>) -> Self {
        Self { state: Decompress::new(false), input, packing: "deflate", is_over: false }
    }

    /// Checks that nothing but blanks follows.
    fn finish(&mut self) -> io::Result<()> {
        self.is_over = true;
        loop {
            let rest = self.input.fill_buf()?;
            let length = rest.len();
            if length == 0 {
                return Ok(());
            }
            if !rest.iter().all(|byte| matches!(byte, 0 | b'\n' | b'\r' | b' ' | b'\t')) {
                let problem = format!("{}: something else follows the stream", self.packing);
                return Err(from_content(DecodeError::Corrupt(problem)));
            }
            self.input.consume(length);
        }
    }
}

impl Read for Inflate {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.is_over && !into.is_empty() {
            let packed = self.input.fill_buf()?;
            let is_last = packed.is_empty();
            let (in_before, out_before) = (self.state.total_in(), self.state.total_out());
            let status = self.state.decompress(packed, into, FlushDecompress::None);
            let n_read = (self.state.total_in() - in_before) as usize;
            let n_written = (self.state.total_out() - out_before) as usize;
            self.input.consume(n_read);
            match status.map_err(|error| blame(self.packing, error.into()))? {
                Status::StreamEnd => self.finish()?,
                _ if is_last && n_written == 0 => return Err(blame(self.packing, io::ErrorKind::UnexpectedEof.into())),
                _ => {}
            }
            if n_written > 0 {
                return Ok(n_written);
            }
        }
        Ok(0)
    }
}

/// Returns whether a content that begins so is zlib's: its header says so, it is no text, and it can be unpacked.
pub fn is_zlib(head: &[u8]) -> bool {
    let [first @ 0x78, second, ..] = head else { return false };
    let has_header = u16::from_be_bytes([*first, *second]) % 31 == 0 && second & 0x20 == 0;
    let is_control = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0C);
    let is_binary = head.iter().take(64).any(is_control)
        || std::str::from_utf8(head).is_err_and(|error| error.error_len().is_some());
    has_header && is_binary && {
        let mut state = Decompress::new(true);
        let unpacked = state.decompress(head, &mut [0; 512], FlushDecompress::None);
        unpacked.is_ok_and(|status| status == Status::StreamEnd || state.total_out() > 0)
    }
}
