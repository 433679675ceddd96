//! xz, all streams of a file.

use super::{DecodeError, blame};
use crate::budget::{Budget, Reservation};
use liblzma::stream::{Action, CONCATENATED, Error, Status, Stream};
use std::io::{self, BufRead, Read};

/// How much more memory is asked for when a stream needs more than it has: it does not say how much.
const MEMORY_STEP: u64 = 1 << 20;

/// Reads all streams. The memory that each states it needs is reserved before the library takes it.
pub struct XzStreams {
    stream: Stream,
    input: Box<dyn BufRead + Send>,
    memory: Reservation,
    is_over: bool,
}

impl XzStreams {
    /// Returns a reader of this content.
    pub fn new(input: Box<dyn BufRead + Send>, budget: &Budget) -> Result<Self, DecodeError> {
        let mut memory = budget.nothing();
        memory.grow("an xz dictionary", MEMORY_STEP as usize)?;
        let stream = Stream::new_stream_decoder(MEMORY_STEP, CONCATENATED);
        let stream = stream.map_err(|error| DecodeError::Corrupt(format!("xz: {error}")))?;
        Ok(Self { stream, input, memory, is_over: false })
    }

    fn take_more_memory(&mut self) -> io::Result<()> {
        loop {
            self.memory.grow("an xz dictionary", MEMORY_STEP as usize).map_err(io::Error::other)?;
            // It is refused while it is less than what is needed.
            if self.stream.set_memlimit(self.memory.bytes() as u64).is_ok() {
                return Ok(());
            }
        }
    }
}

impl Read for XzStreams {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.is_over && !into.is_empty() {
            let packed = self.input.fill_buf()?;
            let is_last = packed.is_empty();
            let (in_before, out_before) = (self.stream.total_in(), self.stream.total_out());
            let action = if is_last { Action::Finish } else { Action::Run };
            let status = self.stream.process(packed, into, action);
            let n_read = (self.stream.total_in() - in_before) as usize;
            let n_written = (self.stream.total_out() - out_before) as usize;
            self.input.consume(n_read);
            match status {
                Err(Error::MemLimit) => self.take_more_memory()?,
                Err(error) => return Err(blame("xz", error.into())),
                Ok(Status::StreamEnd) => self.is_over = true,
                Ok(_) if is_last && n_written == 0 => return Err(blame("xz", io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
            }
            if n_written > 0 {
                return Ok(n_written);
            }
        }
        Ok(0)
    }
}
