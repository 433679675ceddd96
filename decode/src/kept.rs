//! Rows of rejects, read again from what was kept of them.

use super::{
    Batch, DecodeError, Field, Fields, Format, MEMBER_FIELD, Mapping, ReadOptions, Reject, RejectClass, RowReader, csv,
    json, sniff,
    text::{self, preset::as_csv},
};
use std::{
    io::{self, Cursor},
    sync::Arc,
    vec,
};

/// Where a tuple's row number stands: after the number of fields and the number's own length.
const ROW_NUMBER: std::ops::Range<usize> = 6..14;

/// How the payloads of an object's rejects are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadForm {
    /// An object by field: JSON rows as they were, rows of columnar files as JSON.
    #[default]
    Json,
    /// A record; the fields' names are kept beside it.
    Csv,
    /// A line of text.
    Text,
    /// An object by column, of a row that was decoded and that Postgres refused.
    Columns,
}

impl PayloadForm {
    /// Returns the word the ledger keeps.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Text => "text",
            Self::Columns => "columns",
        }
    }

    /// Reads the ledger's word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Json, Self::Csv, Self::Text, Self::Columns].into_iter().find(|form| form.as_str() == word)
    }
}

/// Why a row is still a reject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Short stable word.
    pub class: String,
    /// The column that refused, when one did.
    pub column: Option<String>,
    /// For people; may quote the value.
    pub message: String,
}

impl From<Reject> for Refusal {
    fn from(Reject { class, column, message, .. }: Reject) -> Self {
        Self { class: class.to_string(), column, message }
    }
}

/// Reads kept rows, one at a time: one that is broken must not take its neighbours along.
pub struct KeptRows {
    form: PayloadForm,
    /// What they have, the name of an archive's member last where there may be one.
    fields: Fields,
    /// How many of the fields a record has.
    n_read: usize,
    mapping: Arc<Mapping>,
    delimiter: u8,
    options: ReadOptions,
    seen: Vec<bool>,
}

impl KeptRows {
    /// Returns a reader of rows in this form of an object of this name. `csv_fields` are the names in the order
    /// of a record's fields, None for each where the file had no header.
    #[must_use]
    pub fn new(form: PayloadForm, name: &str, csv_fields: &[Option<String>], options: &ReadOptions) -> Self {
        let mut options = as_csv(options).unwrap_or_else(|| options.clone());
        // The payload is the row after whatever encoding the file was in.
        options.csv.encoding = "utf-8".into();
        // Nor is it in a document any more.
        options.json.rows = None;
        let names: Option<Vec<String>> = csv_fields.iter().cloned().collect();
        let delimiter = sniff::delimiter(options.csv.delimiter, name);
        let fields = match (form, names) {
            (PayloadForm::Json | PayloadForm::Columns, _) => Fields::Open,
            (PayloadForm::Text, _) => text::open(Box::new(io::empty()), &options).fields().clone(),
            (PayloadForm::Csv, None) => Fields::Positional(csv_fields.len()),
            (PayloadForm::Csv, Some(names)) => {
                let is_other = !names.iter().any(|name| name == MEMBER_FIELD);
                let member = is_other.then(|| MEMBER_FIELD.to_owned());
                let names = names.into_iter().chain(member);
                Fields::Named(names.map(|name| Field { name, nested: false }).collect())
            }
        };
        Self { form, fields, n_read: csv_fields.len(), mapping: Arc::default(), delimiter, options, seen: Vec::new() }
    }

    /// Returns what is known of the rows' fields.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Sets the mapping; called once, before the first row.
    pub fn set_mapping(&mut self, mapping: Arc<Mapping>) {
        self.seen = vec![false; mapping.columns().len()];
        self.mapping = mapping;
    }

    /// Adds a row to the batch under its number in the object, with the archive's `member` it is from; one that a condition
    /// drops only counts.
    ///
    /// # Errors
    /// [`Refusal`] when it still does not fit; the batch is as it was.
    pub fn push(
        &mut self,
        row_number: u64,
        payload: &[u8],
        member: Option<&str>,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        self.add(row_number, payload, member, batch).map_err(Refusal::from)
    }

    fn add(&mut self, row_number: u64, payload: &[u8], member: Option<&str>, batch: &mut Batch) -> Result<(), Reject> {
        let refused = |message| Reject {
            row_number,
            class: RejectClass::Syntax,
            column: None,
            message,
            payload: Vec::new(),
            payload_length: 0,
            member: None,
        };
        let mut row = Batch::default();
        let read = self.read(payload, member, &mut row).map_err(|error| refused(error.to_string()))?;
        if let Some(reject) = row.rejects.pop() {
            return Err(Reject { row_number, ..reject });
        }
        if row.ends.is_empty() && row.n_filtered == 1 {
            batch.n_read += 1;
            batch.n_filtered += 1;
            return Ok(());
        }
        let [_] = row.ends[..] else {
            return Err(refused(format!("{} rows where one was kept", row.ends.len())));
        };
        row.data[ROW_NUMBER].copy_from_slice(&row_number.to_be_bytes());
        batch.data.append(&mut row.data);
        batch.ends.push(batch.data.len());
        batch.n_read += 1;
        for (seen, now) in self.seen.iter_mut().zip(read) {
            *seen |= now;
        }
        Ok(())
    }

    /// Returns which columns of the mapping any row had a field for.
    #[must_use]
    pub fn seen_columns(&self) -> &[bool] {
        &self.seen
    }

    /// Reads one payload to its end; returns which columns it had a field for.
    fn read(&self, payload: &[u8], member: Option<&str>, row: &mut Batch) -> Result<Vec<bool>, DecodeError> {
        let mut reader = self.reader(payload)?;
        let column = match &self.fields {
            Fields::Open => self.mapping.slot_of(MEMBER_FIELD).column(),
            Fields::Named(fields) if fields.len() > self.n_read => self.mapping.slot(self.n_read).column(),
            _ => None,
        };
        let mapping = match member {
            Some(name) => Arc::new(self.mapping.of_member(0, name, column).map_err(DecodeError::Schema)?),
            None => Arc::clone(&self.mapping),
        };
        reader.set_mapping(mapping);
        while reader.fill(row, usize::MAX)? {}
        let mut seen = reader.seen_columns();
        if let Some(seen) = column.filter(|_| member.is_some()).and_then(|column| seen.get_mut(column)) {
            *seen = true;
        }
        Ok(seen)
    }

    fn reader(&self, payload: &[u8]) -> Result<Box<dyn RowReader>, DecodeError> {
        if self.form == PayloadForm::Text {
            return Ok(text::open(Box::new(Cursor::new(payload.to_vec())), &self.options));
        }
        if matches!(self.fields, Fields::Open) {
            // An array would be taken for a document of rows, which one row of a document can be no more.
            if payload.trim_ascii_start().first() != Some(&b'{') {
                return Err(DecodeError::Corrupt("row is not a JSON object".into()));
            }
            let declared = if payload.contains(&b'\n') { Format::Json } else { Format::Ndjson };
            return json::open(Box::new(Cursor::new(payload.to_vec())), declared, &self.options);
        }
        let input = Box::new(Cursor::new(payload.to_vec()));
        let fields = match &self.fields {
            Fields::Named(fields) => Fields::Named(fields[..self.n_read].to_vec()),
            other => other.clone(),
        };
        Ok(csv::open_records(input, &fields, self.delimiter, &self.options))
    }
}

/// Kept rows as those of an object, for a program that they go through again.
pub struct KeptReader {
    rows: KeptRows,
    kept: vec::IntoIter<(u64, Vec<u8>, Option<String>)>,
}

impl KeptReader {
    /// Returns a reader of these payloads, each with the number of its row and the archive's member it is from.
    #[must_use]
    pub fn new(rows: KeptRows, kept: Vec<(u64, Vec<u8>, Option<String>)>) -> Self {
        Self { rows, kept: kept.into_iter() }
    }
}

impl RowReader for KeptReader {
    fn fields(&self) -> &Fields {
        self.rows.fields()
    }

    fn set_mapping(&mut self, mapping: Arc<Mapping>) {
        self.rows.set_mapping(mapping);
    }

    fn fill(&mut self, batch: &mut Batch, batch_bytes: usize) -> Result<bool, DecodeError> {
        while batch.size() < batch_bytes {
            let Some((row_number, payload, member)) = self.kept.next() else { return Ok(false) };
            if let Err(reject) = self.rows.add(row_number, &payload, member.as_deref(), batch) {
                batch.n_read += 1;
                batch.rejects.push(reject);
            }
        }
        Ok(true)
    }

    fn seen_columns(&self) -> Vec<bool> {
        self.rows.seen_columns().to_vec()
    }

    fn new_fields(&self) -> Vec<Field> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{options, text_columns};
    use crate::{MappingSpec, OnNewField};
    use std::collections::BTreeMap;

    #[test]
    fn a_kept_row_is_read_under_its_own_number() {
        let names = [Some("a".to_owned()), Some("b \"x\"".to_owned())];
        let mut rows = kept(PayloadForm::Csv, "k.tsv.gz", &names);
        let mut batch = Batch::default();
        rows.push(9, b"1\t\"two\nlines\"\r\n", None, &mut batch).expect("a row");
        rows.push(12, b"2\tx", None, &mut batch).expect("a row");
        assert_eq!(batch.ends.len(), 2);
        assert_eq!(batch.data[ROW_NUMBER], 9u64.to_be_bytes());
        assert!(batch.data.windows(9).any(|window| window == b"two\nlines"));
        assert_eq!(rows.seen_columns(), [true, true]);
    }

    #[test]
    fn records_without_names_go_by_their_place() {
        let mut rows = kept(PayloadForm::Csv, "k", &[None, None]);
        let mut batch = Batch::default();
        rows.push(1, b"1,2\n", None, &mut batch).expect("a row");
        assert_eq!(rows.push(2, b"1,2,3\n", None, &mut batch).expect_err("too wide").class, "syntax");
        assert_eq!(batch.n_read, 1);
    }

    #[test]
    fn what_is_not_one_row_stays_a_reject() {
        let mut rows = kept(PayloadForm::Json, "k", &[]);
        let mut batch = Batch::default();
        for payload in [
            &b""[..],
            b"[{\"a\":1}]",
            b"{\"a\":1}\n{\"a\":2}",
            b"{\"a\":",
            b"{\"a\":1} x",
            b"{\"a\":\"\\u0000\"}",
            b"\xff",
        ] {
            rows.push(3, payload, None, &mut batch).expect_err(&String::from_utf8_lossy(payload));
        }
        assert!(batch.data.is_empty() && batch.ends.is_empty() && batch.n_read == 0);
        rows.push(3, b"{\n \"a\": 1\n}", None, &mut batch).expect("a row of a document");
        assert_eq!(rows.seen_columns(), [true, false]);
    }

    fn kept(form: PayloadForm, name: &str, csv_fields: &[Option<String>]) -> KeptRows {
        let mut rows = KeptRows::new(form, name, csv_fields, &options());
        let columns = text_columns(&["a", "b \"x\""]);
        let spec = MappingSpec {
            columns: &columns,
            rename: &BTreeMap::new(),
            captures: &[],
            types: &Default::default(),
            on_new_field: OnNewField::Ignore,
            extras_column: None,
            key: &[],
        };
        let mapping = Mapping::new(rows.fields(), &spec).expect("a mapping");
        rows.set_mapping(Arc::new(mapping));
        rows
    }
}
