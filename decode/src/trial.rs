//! What the formats' tests share: objects in memory, and tuples read back as text.

use super::{
    Batch, Column, Compression, CsvOptions, DecodeError, Field, Format, Limits, Mapping, MappingSpec, OnNewField,
    ReadOptions, RowReader, Source, SourceError,
    budget::{Budget, Pool},
};
use crate::encode::PgType;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// An object in memory that counts its reads and can fail.
pub struct Memory {
    bytes: bytes::Bytes,
    /// Reads beyond this many fail like a store does.
    pub fail_after: usize,
    /// Range reads so far.
    pub n_reads: AtomicUsize,
}

impl Memory {
    pub fn new(bytes: impl Into<bytes::Bytes>) -> Self {
        Self { bytes: bytes.into(), fail_after: usize::MAX, n_reads: AtomicUsize::new(0) }
    }
}

impl Source for Memory {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn name(&self) -> &str {
        "object"
    }

    fn stream(&self) -> io::Result<Box<dyn io::Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.bytes.clone())))
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<bytes::Bytes> {
        if self.n_reads.fetch_add(1, Relaxed) >= self.fail_after {
            return Err(store_failure());
        }
        let start = usize::try_from(offset).expect("test objects fit into memory");
        assert!(start + len <= self.bytes.len(), "read beyond the object's end");
        Ok(self.bytes.slice(start..start + len))
    }
}

pub fn store_failure() -> io::Error {
    io::Error::other(SourceError(anyhow::anyhow!("slow down")))
}

/// Gives its bytes in small pieces and then fails like a store does.
pub struct BrokenStream(pub io::Cursor<Vec<u8>>);

impl io::Read for BrokenStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = buffer.len().min(7);
        match self.0.read(&mut buffer[..n])? {
            0 => Err(store_failure()),
            n => Ok(n),
        }
    }
}

pub fn options() -> ReadOptions {
    ReadOptions {
        format: Format::Auto,
        compression: Compression::Auto,
        csv: CsvOptions::default(),
        json: Default::default(),
        text: Default::default(),
        limits: Limits {
            row_bytes: 1024 * 1024,
            depth: 64,
            expansion_ratio: 200,
            expansion_free_bytes: 1 << 30,
            buffer_bytes: 4 * 1024 * 1024,
            budget: Default::default(),
        },
    }
}

pub fn text_column(name: &str) -> Column {
    column(name, PgType::Text(None))
}

pub fn column(name: &str, pg_type: PgType) -> Column {
    Column { name: name.into(), pg_type, not_null: false, has_default: false }
}

/// What came of an object.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// Rows as `number | cell | cell`; NULL is `~`, other than text cells are hex.
    pub rows: Vec<String>,
    /// Rejects as `number class column`.
    pub rejects: Vec<String>,
    pub payloads: Vec<(Vec<u8>, u64)>,
    pub messages: Vec<String>,
    pub seen: Vec<bool>,
    pub new_fields: Vec<Field>,
}

/// Reads everything into the columns.
pub fn read(
    reader: Result<Box<dyn RowReader>, DecodeError>,
    columns: &[Column],
    on_new_field: OnNewField,
) -> Result<Read, DecodeError> {
    let mut reader = reader?;
    let spec = MappingSpec {
        columns,
        rename: &BTreeMap::new(),
        captures: &[],
        types: &Default::default(),
        on_new_field,
        extras_column: Some("extra").filter(|extra| columns.iter().any(|column| column.name == *extra)),
        key: &[],
    };
    let mapping = Arc::new(Mapping::new(reader.fields(), &spec).map_err(DecodeError::Schema)?);
    reader.set_mapping(Arc::clone(&mapping));
    let mut read = Read {
        rows: Vec::new(),
        rejects: Vec::new(),
        payloads: Vec::new(),
        messages: Vec::new(),
        seen: Vec::new(),
        new_fields: Vec::new(),
    };
    loop {
        let mut batch = Batch::default();
        let more = reader.fill(&mut batch, 4096)?;
        assert_eq!(batch.n_read, (batch.ends.len() + batch.rejects.len()) as u64);
        let mut start = 0;
        for &end in &batch.ends {
            read.rows.push(tuple(&batch.data[start..end], &mapping));
            start = end;
        }
        for reject in batch.rejects {
            let column = reject.column.unwrap_or_default();
            read.rejects.push(format!("{} {} {column}", reject.row_number, reject.class).trim_end().to_owned());
            read.payloads.push((reject.payload, reject.payload_length));
            read.messages.push(reject.message);
        }
        if !more {
            break;
        }
    }
    read.seen = reader.seen_columns();
    read.new_fields = reader.new_fields();
    Ok(read)
}

/// Reads a column `a` with less and less memory; returns for what there was too little of it at some time. What comes
/// after something larger of the same object is not among it.
pub fn refused(open: impl Fn(&ReadOptions) -> Result<Box<dyn RowReader>, DecodeError>) -> BTreeSet<String> {
    let mut refused = BTreeSet::new();
    let mut bytes = 32 << 20;
    while bytes > 64 {
        let mut options = options();
        options.limits.budget = Budget::new(bytes, Pool::new(0, 1));
        let said = match read(open(&options), &[text_column("a")], OnNewField::Ignore) {
            Ok(read) => read.messages,
            Err(error) => vec![error.to_string()],
        };
        let names = said.iter().filter_map(|said| said.trim_start_matches("limits: ").split_once(" takes "));
        refused.extend(names.map(|(what, _)| what.to_owned()));
        bytes -= bytes / 8;
    }
    refused
}

fn tuple(mut data: &[u8], mapping: &Mapping) -> String {
    let mut take = |n: usize| {
        let (head, rest) = data.split_at(n);
        data = rest;
        head.to_vec()
    };
    let n_fields = u16::from_be_bytes(take(2).try_into().expect("two bytes"));
    let mut cells = Vec::new();
    for field in 0..usize::from(n_fields) {
        let length = i32::from_be_bytes(take(4).try_into().expect("four bytes"));
        let Ok(length) = usize::try_from(length) else {
            cells.push("~".to_owned());
            continue;
        };
        let bytes = take(length);
        let pg_type =
            field.checked_sub(1).and_then(|column| mapping.columns().get(column)).map(|column| &column.pg_type);
        cells.push(match pg_type {
            None if field == 0 => i64::from_be_bytes(bytes.try_into().expect("a row number")).to_string(),
            Some(PgType::Text(_) | PgType::Json | PgType::Cast) => String::from_utf8(bytes).expect("text"),
            Some(PgType::Jsonb) => String::from_utf8(bytes[1..].to_vec()).expect("text"),
            _ => hex::encode(bytes),
        });
    }
    assert!(data.is_empty());
    cells.join(" | ")
}
