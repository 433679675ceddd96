//! Decodes files as the importer does, and throws the rows away: what a profiler counts instructions of.
//!
//! `counts write DIRECTORY ROWS` writes the benchmarks' rows in each format, `counts FILE…` decodes files.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use decode::{Batch, Column, Limits, Mapping, MappingSpec, OnNewField, ReadOptions, Source, encode::PgType};
use std::{
    env, fs,
    io::{self, BufWriter},
    path::Path,
    sync::Arc,
};
use telemetry::{Format, LEAN_COLUMNS, Load};

/// Of the generator.
const SEED: u64 = 20_260_101;
/// Level of gzip.
const LEVEL: u32 = 1;
/// Bytes of rows that the importer takes at once.
const STEP_BYTES: usize = 256 * 1024;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", directory, rows] => write(Path::new(directory), rows.parse().context("ROWS")?),
        files => files.iter().try_for_each(|file| read(file).with_context(|| format!("decode {file}"))),
    }
}

fn write(directory: &Path, n_rows: u64) -> Result<()> {
    fs::create_dir_all(directory)?;
    let load = Load::new(SEED, n_rows);
    for format in [Format::Parquet, Format::Ndjson, Format::Csv] {
        let file = fs::File::create(directory.join(format!("rows.{}", format.extension())))?;
        telemetry::write_lean(format, LEVEL, load.events(0..n_rows), BufWriter::new(file))?;
    }
    Ok(())
}

fn read(file: &str) -> Result<()> {
    let source = Memory { name: file.to_owned(), bytes: fs::read(file)?.into() };
    let mut reader = decode::open(Arc::new(source), &options())?;
    let columns = columns();
    let spec = MappingSpec {
        columns: &columns,
        rename: &Default::default(),
        captures: &[],
        types: &Default::default(),
        on_new_field: OnNewField::Ignore,
        extras_column: None,
        key: &[columns[0].name.clone()],
    };
    reader.set_mapping(Arc::new(Mapping::new(reader.fields(), &spec).map_err(anyhow::Error::msg)?));
    let (mut batch, mut n_rows, mut n_bytes, mut more) = (Batch::default(), 0, 0, true);
    while more {
        more = reader.fill(&mut batch, STEP_BYTES)?;
        anyhow::ensure!(batch.rejects.is_empty(), "rejects: {:?}", batch.rejects);
        n_rows += batch.ends.len();
        n_bytes += batch.data.len();
        batch.clear();
    }
    println!("{file}: {n_rows} rows in {n_bytes} bytes");
    Ok(())
}

/// Returns the columns of [`telemetry::LEAN_TABLE`].
fn columns() -> Vec<Column> {
    use PgType::{Float8, Int4, Int8, Numeric, Text, TimestampTz};
    let texts = [Text(None), Text(None), Text(None), Text(None), Text(None), Text(None)];
    let types = [Int8, TimestampTz].into_iter().chain(texts).chain([Int4, Numeric(Some((12, 4))), Float8]);
    let named = telemetry::COLUMNS[..LEAN_COLUMNS].iter().zip(types);
    let nullable = ["spend", "score"];
    named
        .map(|(name, pg_type)| Column {
            name: (*name).to_owned(),
            pg_type,
            not_null: !nullable.contains(name),
            has_default: false,
        })
        .collect()
}

/// Returns the importer's defaults.
fn options() -> ReadOptions {
    ReadOptions {
        format: decode::Format::Auto,
        compression: decode::Compression::Auto,
        csv: Default::default(),
        json: Default::default(),
        text: Default::default(),
        limits: Limits {
            row_bytes: 16 << 20,
            depth: 64,
            expansion_ratio: 200,
            expansion_free_bytes: 1 << 30,
            buffer_bytes: 5 << 20,
            budget: Default::default(),
        },
    }
}

/// An object in memory.
struct Memory {
    name: String,
    bytes: Bytes,
}

impl Source for Memory {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn stream(&self) -> io::Result<Box<dyn io::Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.bytes.clone())))
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let is_there = start.checked_add(len).is_some_and(|end| end <= self.bytes.len());
        if is_there { Ok(self.bytes.slice(start..start + len)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
