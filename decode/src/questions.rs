//! Rows of any format as JSON, for a program that answers them.

use crate::{
    Batch, Column, DecodeError, Fields, Mapping, MappingSpec, OnNewField, PayloadForm, Reject, RowReader,
    encode::PgType,
};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
};

/// The column that holds a row.
const ROW: &str = "penstock_input";
/// Bytes of rows that are decoded at once.
const STEP_BYTES: usize = 64 * 1024;
/// Where a tuple's row number, and the length of its only column, stand.
const NUMBER: std::ops::Range<usize> = 6..14;
const LENGTH: std::ops::Range<usize> = 14..18;

/// The rows of an object, as lines of JSON.
pub struct Questions {
    reader: Box<dyn RowReader>,
    batch: Batch,
}

/// What became of some rows.
#[derive(Debug, Default)]
pub struct Asking {
    /// Numbers of the rows that were written.
    pub rows: Vec<u64>,
    /// Rows that cannot be read.
    pub rejects: Vec<Reject>,
    /// No row is left.
    pub is_end: bool,
}

impl Questions {
    /// Returns the rows that `reader` reads.
    ///
    /// # Errors
    /// [`DecodeError::Schema`] where the object's fields have no names.
    pub fn new(mut reader: Box<dyn RowReader>) -> Result<Self, DecodeError> {
        if matches!(reader.fields(), Fields::Positional(_)) {
            return Err(DecodeError::Schema("the file's fields have no names for the command's rows".into()));
        }
        let column = Column { name: ROW.into(), pg_type: PgType::Json, not_null: false, has_default: false };
        let spec = MappingSpec {
            columns: &[column],
            rename: &BTreeMap::new(),
            captures: &[],
            types: &Default::default(),
            on_new_field: OnNewField::Extras,
            extras_column: Some(ROW),
            key: &[],
        };
        let mapping = Mapping::new(reader.fields(), &spec).map_err(DecodeError::Schema)?;
        reader.set_mapping(Arc::new(mapping));
        Ok(Self { reader, batch: Batch::default() })
    }

    /// Returns the fields of rows that cannot be read, and how those are kept.
    #[must_use]
    pub fn kept_as(&self) -> (Fields, PayloadForm) {
        (self.reader.kept_fields().clone(), self.reader.payload_form())
    }

    /// Decodes the next rows; they are written by [`Self::write`].
    ///
    /// # Errors
    /// As [`RowReader::fill`].
    pub fn fill(&mut self) -> Result<Asking, DecodeError> {
        self.batch.clear();
        let is_end = !self.reader.fill(&mut self.batch, STEP_BYTES)?;
        let rows = self.rows().map(|(number, _)| number).collect();
        Ok(Asking { rows, rejects: std::mem::take(&mut self.batch.rejects), is_end })
    }

    /// Writes the rows that were decoded last, one a line, each with its number as the member `penstock_row`.
    ///
    /// # Errors
    /// Of the writer.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.rows().try_for_each(|(number, json)| write_line(number, json, out))
    }

    /// Returns the rows that were decoded last as JSON, with their numbers; one without a field is empty.
    pub fn rows(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let starts = std::iter::once(0).chain(self.batch.ends.iter().copied());
        starts.zip(&self.batch.ends).map(|(start, end)| {
            let tuple = &self.batch.data[start..*end];
            let mut number = [0; 8];
            number.copy_from_slice(&tuple[NUMBER]);
            (u64::from_be_bytes(number), tuple.get(LENGTH.end..).unwrap_or_default())
        })
    }
}

fn write_line(number: u64, json: &[u8], out: &mut impl Write) -> io::Result<()> {
    let members = json.trim_ascii().strip_suffix(b"}").unwrap_or(b"{").trim_ascii_end();
    // Line breaks between a document's tokens; within texts they are escaped.
    for piece in members.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
        match piece.split_last() {
            Some((b'\n' | b'\r', piece)) => {
                out.write_all(piece)?;
                out.write_all(b" ")?;
            }
            _ => out.write_all(piece)?,
        }
    }
    let comma = if members.len() > 1 { "," } else { "" };
    writeln!(out, "{comma}\"penstock_row\":{number}}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Format, open,
        testing::{Memory, options},
    };

    fn asked(format: Format, bytes: &[u8]) -> (String, Vec<u64>) {
        let source = Memory { bytes: bytes.to_vec(), ..Memory::default() };
        let options = crate::ReadOptions { format, ..options() };
        let mut questions = Questions::new(open(Arc::new(source), &options).expect("opens")).expect("has names");
        let (mut out, mut rejected) = (Vec::new(), Vec::new());
        loop {
            let asking = questions.fill().expect("decodes");
            questions.write(&mut out).expect("a Vec takes all");
            rejected.extend(asking.rejects.iter().map(|reject| reject.row_number));
            if asking.is_end {
                return (String::from_utf8(out).expect("text"), rejected);
            }
        }
    }

    #[test]
    fn rows_of_every_format_are_lines_that_say_which_row_they_are() {
        let csv = asked(Format::Csv, b"a,b\n1,\"x\ny\"\n2,\n");
        assert_eq!(
            csv.0,
            "{\"a\":\"1\",\"b\":\"x\\ny\",\"penstock_row\":1}\n{\"a\":\"2\",\"b\":null,\"penstock_row\":2}\n"
        );
        let document = asked(Format::Json, b"[{\"a\": [1,\n 2.50]},\n {}]");
        assert_eq!(document.0, "{\"a\":[1,  2.50],\"penstock_row\":1}\n{\"penstock_row\":2}\n");
    }

    #[test]
    fn a_row_that_cannot_be_read_is_not_asked_about() {
        let (lines, rejected) = asked(Format::Ndjson, b"{\"a\":1}\n{\"a\":\n{\"a\":3}\n");
        assert_eq!(lines, "{\"a\":1,\"penstock_row\":1}\n{\"a\":3,\"penstock_row\":3}\n");
        assert_eq!(rejected, [2]);
    }
}
