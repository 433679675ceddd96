//! Reads bytes as an import would, and checks what holds for any bytes.

use importer::{
    decode::{
        self, Batch, Column, Compression, CsvOptions, DecodeError, Format, Limits, Mapping, MappingSpec, OnNewField,
        ReadOptions, Source,
    },
    encode::PgType,
    message::{self, Parsed},
};
use std::{collections::BTreeMap, io, sync::Arc};

/// Rows a batch is filled to, in bytes: small, so that readers go in and out often.
const BATCH_BYTES: usize = 4096;
/// The longest row.
const ROW_BYTES: usize = 1 << 16;

/// Bytes in memory as an object.
struct Object(bytes::Bytes);

impl Source for Object {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn name(&self) -> &str {
        "object"
    }

    fn stream(&self) -> io::Result<Box<dyn io::Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.0.clone())))
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<bytes::Bytes> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(len);
        if end > self.0.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.0.slice(start..end))
    }
}

/// Reads an object to its end and returns how many rows it had.
///
/// # Errors
/// What reading says; never that the store failed, for there is none.
///
/// # Panics
/// When rows and rejects do not add up, a batch outgrows its bound, or the store is blamed.
pub fn read(format: Format, object: &[u8]) -> Result<u64, DecodeError> {
    let read = read_rows(format, object);
    assert!(!matches!(read, Err(DecodeError::Source(_))), "the store is blamed: {read:?}");
    read
}

fn read_rows(format: Format, object: &[u8]) -> Result<u64, DecodeError> {
    let mut reader = decode::open(Arc::new(Object(bytes::Bytes::copy_from_slice(object))), &options(format))?;
    let columns = columns();
    let spec = MappingSpec {
        columns: &columns,
        rename: &BTreeMap::new(),
        captures: &[],
        on_new_field: OnNewField::Extras,
        extras_column: Some("extra"),
        key: &[],
    };
    let mapping = Mapping::new(reader.fields(), &spec).map_err(DecodeError::Schema)?;
    reader.set_mapping(Arc::new(mapping));
    let mut n_rows = 0;
    let mut batch = Batch::default();
    loop {
        batch.clear();
        let more = reader.fill(&mut batch, BATCH_BYTES)?;
        assert_eq!(batch.n_read as usize, batch.ends.len() + batch.rejects.len(), "rows read = encoded + rejected");
        // A row may become several times as long on its way into a column.
        assert!(batch.data.len() <= BATCH_BYTES + 16 * ROW_BYTES, "a batch of {} bytes", batch.data.len());
        assert!(batch.rejects.iter().all(|reject| reject.payload.len() <= decode::MAX_PAYLOAD_BYTES));
        n_rows += batch.n_read;
        if !more {
            return Ok(n_rows);
        }
    }
}

/// Parses a message's body; what it points at can be written down and read again.
///
/// # Panics
/// When a pointer of our own is not understood.
pub fn parse(body: &str) {
    let Parsed::Records(records) = message::parse(body) else { return };
    for record in &records {
        let again = message::parse(&message::pointer_body(record));
        assert!(matches!(&again, Parsed::Records(again) if again[0].pointer == record.pointer), "{record:?} {again:?}");
    }
}

fn columns() -> Vec<Column> {
    let types = [
        ("id", PgType::Int8),
        ("n", PgType::Int4),
        ("amount", PgType::Numeric(None)),
        ("ratio", PgType::Float8),
        ("value", PgType::Text(None)),
        ("at", PgType::TimestampTz),
        ("day", PgType::Date),
        ("raw", PgType::Bytea),
        ("flag", PgType::Bool),
        ("doc", PgType::Jsonb),
        ("tags", PgType::Array(Box::new(PgType::Text(None)), 25)),
        ("extra", PgType::Jsonb),
    ];
    let column =
        |(name, pg_type): (&str, PgType)| Column { name: name.into(), pg_type, not_null: false, has_default: false };
    types.into_iter().map(column).collect()
}

fn options(format: Format) -> ReadOptions {
    ReadOptions {
        format,
        compression: Compression::Auto,
        csv: CsvOptions {
            header: true,
            delimiter: b',',
            quote: b'"',
            null: vec!["NA".into()],
            encoding: "utf-8".into(),
        },
        limits: Limits {
            row_bytes: ROW_BYTES,
            depth: 32,
            expansion_ratio: 20,
            expansion_free_bytes: 1 << 20,
            buffer_bytes: 1 << 20,
            budget: Default::default(),
        },
    }
}
