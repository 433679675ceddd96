//! Reads bytes as an import would, and checks what holds for any bytes.

use decode::{
    Batch, Column, Compression, CsvOptions, DecodeError, Format, Limits, Mapping, MappingSpec, OnNewField, Pattern,
    Preset, ReadOptions, ShortRows, Source, TextOptions,
    budget::{Budget, Pool},
    encode::PgType,
};
use importer::{
    describe,
    message::{self, Parsed},
};
use std::{collections::BTreeMap, io, sync::Arc};

/// Rows a batch is filled to, in bytes: small, so that readers go in and out often.
const BATCH_BYTES: usize = 4096;
/// What a slot has with the default `memory_mib`, and what an object may take beyond that.
const SHARE_BYTES: usize = 10 << 20;
const POOL_BYTES: usize = 57 << 20;
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
    let read = read_rows(object, &options(format));
    assert!(!matches!(read, Err(DecodeError::Source(_))), "the store is blamed: {read:?}");
    read
}

fn read_rows(object: &[u8], options: &ReadOptions) -> Result<u64, DecodeError> {
    let mut reader = decode::open(Arc::new(Object(bytes::Bytes::copy_from_slice(object))), options)?;
    let columns = columns();
    let spec = MappingSpec {
        columns: &columns,
        rename: &BTreeMap::new(),
        captures: &[],
        types: &Default::default(),
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

/// Reads an object as CSV in a dialect that its first bytes choose.
pub fn read_dialect(bytes: &[u8]) {
    let Some(([delimiter, quote, flags], object)) = bytes.split_first_chunk() else { return };
    let mut options = options(Format::Csv);
    let ascii = |byte: u8, otherwise| if byte.is_ascii_graphic() || byte == b'\t' { byte } else { otherwise };
    options.csv.delimiter = ascii(*delimiter, b',');
    let quote = ascii(*quote, b'"');
    let special = [Some(options.csv.delimiter), Some(quote)];
    if options.csv.delimiter == quote {
        return;
    }
    let other = |byte: u8, set: u8| (flags & set != 0 && !special.contains(&Some(byte))).then_some(byte);
    options.csv.quote = (flags & 8 == 0).then_some(quote);
    options.csv.escape = other(b'\\', 16);
    options.csv.comment = other(b'#', 32);
    options.csv.skip_lines = u32::from(flags >> 6 & 1);
    options.csv.short_rows = if flags & 64 == 0 { ShortRows::Reject } else { ShortRows::Null };
    options.csv.trailing_delimiter = flags & 128 != 0;
    options.csv.header = flags & 1 == 0;
    options.csv.encoding = ["utf-8", "utf-16le", "windows-1252", "shift_jis"][usize::from(flags >> 1 & 3)].into();
    let read = read_rows(object, &options);
    assert!(!matches!(read, Err(DecodeError::Source(_))), "the store is blamed: {read:?}");
}

/// Reads an object as JSON whose rows and fields are in places that the first byte chooses.
///
/// # Panics
/// As [`read`].
pub fn read_places(bytes: &[u8]) {
    let Some((choice, object)) = bytes.split_first() else { return };
    let place = |text: &str| text.parse().expect("a pointer");
    let mut options = options(Format::Auto);
    options.json.rows = [None, Some("/Records"), Some("/a/0/b"), Some("/data/")][usize::from(choice & 3)].map(place);
    if choice & 4 != 0 {
        let fields = [("value", "/user/name"), ("n", "/list/1"), ("doc", "/user"), ("id", "/a~1b/~0")];
        options.json.fields = fields.map(|(field, at)| (field.to_owned(), place(at))).to_vec();
    }
    let read = read_rows(object, &options);
    assert!(!matches!(read, Err(DecodeError::Source(_))), "the store is blamed: {read:?}");
}

/// Reads an object as lines of text, taken apart by what the first byte chooses.
///
/// # Panics
/// As [`read`].
pub fn read_text(bytes: &[u8]) {
    let Some((choice, object)) = bytes.split_first() else { return };
    let mut options = options(Format::Text);
    match Preset::ALL.get(usize::from(choice % 16)) {
        Some(preset) => options.text = TextOptions::of_preset(*preset, &[]),
        None if choice & 1 == 0 => {
            options.text.pattern = Pattern::new("(?<id>[0-9]+) (?<value>(\\S| )*)( (?<flag>[tf]))?").ok();
        }
        None => {}
    }
    let read = read_rows(object, &options);
    assert!(!matches!(read, Err(DecodeError::Source(_))), "the store is blamed: {read:?}");
}

/// Reads an object as an archive of the kind that the first byte chooses, with the sums that would refuse it put right.
///
/// # Panics
/// As [`read`].
pub fn read_archive(bytes: &[u8]) {
    const BLOCK: usize = 512;
    let Some((choice, object)) = bytes.split_first() else { return };
    let mut object = object.to_vec();
    if choice & 1 == 0 {
        for header in object.chunks_exact_mut(BLOCK).filter(|block| block[257..262] == *b"ustar") {
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
    }
    let _ = read(Format::Auto, &object);
}

/// Describes an object, and reads it as what it was found to be.
///
/// # Panics
/// When the store is blamed, for there is none.
pub fn describe(object: &[u8]) {
    let source: Arc<dyn Source> = Arc::new(Object(bytes::Bytes::copy_from_slice(object)));
    let options = describe::Options {
        extent: describe::Extent { rows: 1000, bytes: 1 << 20 },
        limits: options(Format::Auto).limits,
        name: None,
    };
    let described = describe::describe(&source, "s3://bucket/key", &options);
    assert!(!matches!(described, Err(DecodeError::Source(_))), "the store is blamed");
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
        ("archive_member", PgType::Text(None)),
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
        csv: CsvOptions { null: vec!["NA".into()], ..CsvOptions::default() },
        json: Default::default(),
        text: Default::default(),
        limits: Limits {
            row_bytes: ROW_BYTES,
            depth: 32,
            expansion_ratio: 20,
            expansion_free_bytes: 1 << 20,
            buffer_bytes: 1 << 20,
            budget: Budget::new(SHARE_BYTES, Pool::new(POOL_BYTES, 1)),
        },
    }
}
