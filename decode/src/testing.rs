//! What tests of the decoders share: sources in memory, a table, and rows as text.

use super::*;
use crate::encode::PgType;
use std::collections::BTreeMap;

/// An object in memory, whose stream may break.
#[derive(Default)]
pub struct Memory {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// The stream fails at this offset, as a store does.
    pub breaks_at: Option<usize>,
}

impl Source for Memory {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn name(&self) -> &str {
        self.name
    }

    fn stream(&self) -> io::Result<Box<dyn io::Read + Send>> {
        let end = self.breaks_at.unwrap_or(self.bytes.len());
        let bytes = io::Cursor::new(self.bytes[..end].to_vec());
        Ok(Box::new(Breaking { bytes, breaks: self.breaks_at.is_some() }))
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<bytes::Bytes> {
        Ok(self.bytes[offset as usize..offset as usize + len].to_vec().into())
    }
}

/// Hands out odd small pieces, as a network does.
struct Breaking {
    bytes: io::Cursor<Vec<u8>>,
    breaks: bool,
}

impl io::Read for Breaking {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let piece = into.len().min(1 + self.bytes.position() as usize % 1021);
        match io::Read::read(&mut self.bytes, &mut into[..piece])? {
            0 if self.breaks && !into.is_empty() => Err(io::Error::other(SourceError(anyhow::anyhow!("503")))),
            n_bytes => Ok(n_bytes),
        }
    }
}

/// Returns the options of a dataset that says nothing, with limits small enough to reach.
pub fn options() -> ReadOptions {
    ReadOptions {
        format: Format::Auto,
        compression: Compression::Auto,
        csv: CsvOptions::default(),
        json: Default::default(),
        text: Default::default(),
        limits: Limits {
            row_bytes: 1 << 20,
            depth: 64,
            expansion_ratio: 200,
            expansion_free_bytes: 1 << 20,
            buffer_bytes: 1 << 20,
            budget: Default::default(),
        },
    }
}

/// Returns nullable text columns.
pub fn text_columns(names: &[&str]) -> Vec<Column> {
    let column =
        |name: &&str| Column { name: (*name).into(), pg_type: PgType::Text(None), not_null: false, has_default: false };
    names.iter().map(column).collect()
}

/// Reads all rows into text columns; rows as `a|b`, NULL as `∅`, rejects as `3 syntax: payload`.
pub fn read_rows(mut reader: Box<dyn RowReader>, columns: &[Column]) -> Result<Vec<String>, DecodeError> {
    read_rows_with(&mut *reader, columns, OnNewField::Ignore, 4096)
}

/// Does what [`read_rows`] does, in batches of about `batch_bytes`.
pub fn read_rows_with(
    reader: &mut dyn RowReader,
    columns: &[Column],
    on_new_field: OnNewField,
    batch_bytes: usize,
) -> Result<Vec<String>, DecodeError> {
    let spec = MappingSpec {
        columns,
        rename: &BTreeMap::new(),
        captures: &[],
        types: &Default::default(),
        on_new_field,
        extras_column: columns.iter().find(|column| column.pg_type == PgType::Jsonb).map(|column| column.name.as_str()),
        key: &[],
    };
    let mapping = Mapping::new(reader.fields(), &spec).map_err(DecodeError::Schema)?;
    reader.set_mapping(Arc::new(mapping));
    let mut rows = Vec::new();
    let mut n_read = 0;
    loop {
        let mut batch = Batch::default();
        let goes_on = reader.fill(&mut batch, batch_bytes)?;
        assert_eq!(batch.n_read as usize, batch.ends.len() + batch.rejects.len(), "rows read = encoded + rejected");
        n_read += batch.n_read;
        let mut start = 0;
        for end in &batch.ends {
            rows.push(shown(&batch.data[start..*end]));
            start = *end;
        }
        assert_eq!(start, batch.data.len(), "nothing is left of rejected rows");
        for reject in batch.rejects {
            let payload = String::from_utf8_lossy(&reject.payload).into_owned();
            let column = reject.column.map(|column| format!(" {column}")).unwrap_or_default();
            rows.push((reject.row_number, format!("{} {}{column}: {payload}", reject.row_number, reject.class)));
            assert!(reject.payload_length >= reject.payload.len() as u64);
        }
        if !goes_on {
            break;
        }
    }
    rows.sort();
    let numbers: Vec<u64> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=n_read).collect::<Vec<_>>(), "rows are numbered without gaps");
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Returns a tuple's row number and its other fields as text.
fn shown(tuple: &[u8]) -> (u64, String) {
    let mut rest = &tuple[2..];
    let mut fields = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = i32::from_be_bytes(*length);
        let (field, after) = after.split_at(length.max(0) as usize);
        fields.push((length, field));
        rest = after;
    }
    assert_eq!(fields.len(), usize::from(u16::from_be_bytes([tuple[0], tuple[1]])));
    let number = u64::from_be_bytes(fields[0].1.try_into().expect("eight bytes"));
    let texts: Vec<String> = fields[1..]
        .iter()
        .map(|(length, field)| match length {
            -1 => "∅".to_owned(),
            _ => String::from_utf8(field.to_vec()).expect("text"),
        })
        .collect();
    (number, texts.join("|"))
}
