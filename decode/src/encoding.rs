//! Bringing text to UTF-8.

use super::DecodeError;
use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};
use std::io::{self, BufRead, BufReader, Read};

/// Stands where the content had bytes its encoding does not know. Never part of UTF-8, so the
/// text it ends up in is refused like any other that is not UTF-8.
const MALFORMED: u8 = 0xFF;

const BUFFER_BYTES: usize = 64 * 1024;

/// Returns the content as UTF-8 without a BOM; a BOM wins over the label. UTF-8 itself passes unchecked.
///
/// # Errors
/// [`DecodeError::Schema`] for a label no encoding has; otherwise what reading says.
pub fn to_utf8(
    mut input: Box<dyn BufRead + Send>,
    head: &[u8],
    label: &str,
) -> Result<Box<dyn BufRead + Send>, DecodeError> {
    let (encoding, bom_bytes) = match Encoding::for_bom(head) {
        Some(found) => found,
        None => (for_label(label)?, 0),
    };
    // The head was read in one piece, so the BOM is in one piece too.
    input.fill_buf()?;
    input.consume(bom_bytes);
    if encoding == UTF_8 {
        return Ok(input);
    }
    let transcoder = Transcoder {
        input,
        decoder: encoding.new_decoder_without_bom_handling(),
        output: vec![0; BUFFER_BYTES],
        ready: 0..0,
        is_over: false,
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, transcoder)))
}

/// Returns whether the content begins with the BOM of UTF-16, whose text is full of zeros.
#[must_use]
pub fn is_utf16(head: &[u8]) -> bool {
    Encoding::for_bom(head).is_some_and(|(encoding, _)| encoding != UTF_8)
}

fn for_label(label: &str) -> Result<&'static Encoding, DecodeError> {
    Encoding::for_label(label.as_bytes())
        .ok_or_else(|| DecodeError::Schema(format!("{label:?} is no encoding the WHATWG standard names")))
}

/// Reads in another encoding what `input` has in its own.
struct Transcoder {
    input: Box<dyn BufRead + Send>,
    decoder: Decoder,
    output: Vec<u8>,
    ready: std::ops::Range<usize>,
    is_over: bool,
}

impl Read for Transcoder {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !self.is_over {
            self.decode()?;
        }
        let n_bytes = self.ready.len().min(into.len());
        let start = self.ready.start;
        into[..n_bytes].copy_from_slice(&self.output[start..start + n_bytes]);
        self.ready.start += n_bytes;
        Ok(n_bytes)
    }
}

impl Transcoder {
    fn decode(&mut self) -> io::Result<()> {
        let input = self.input.fill_buf()?;
        let is_last = input.is_empty();
        let room = self.output.len() - 1; // One byte is kept for the mark.
        let (result, n_read, mut n_written) =
            self.decoder.decode_to_utf8_without_replacement(input, &mut self.output[..room], is_last);
        self.input.consume(n_read);
        match result {
            DecoderResult::InputEmpty => self.is_over = is_last,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => {
                self.output[n_written] = MALFORMED;
                n_written += 1;
            }
        }
        self.ready = 0..n_written;
        Ok(())
    }
}
