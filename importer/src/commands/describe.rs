//! `importer describe`: a table and a dataset from a sample, without a configuration, a queue or a database.

use super::{EXIT_WRONG, output, s3_store};
use crate::{
    cli,
    config::Limits,
    describe::{self, Extent, Options},
    object::{ObjectStore, ReadTarget, RemoteSource, StoreError},
};
use anyhow::Context;
use bytes::Bytes;
use decode::Source;
use service::{terminal, words::chain};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    process::ExitCode,
    sync::Arc,
};

/// Decoded rows are looked at up to this size, whatever their number.
const MAX_BYTES: u64 = 256 << 20;
/// Postgres cuts what is longer, and then two tables have one name.
const MAX_NAME_BYTES: usize = 63;
/// What the decoder may use for itself.
const BUFFER_BYTES: usize = 32 << 20;

/// Describes a file or an object.
///
/// # Errors
/// When it cannot be read, or is of no supported format.
pub async fn run(options: &cli::Describe) -> anyhow::Result<ExitCode> {
    let (source, address) = match open(&options.file).await {
        Ok(found) => found,
        Err(error) => {
            output::complain(format!("importer: {}: {}", options.file, chain(&error)));
            return Ok(ExitCode::from(EXIT_WRONG));
        }
    };
    if let Some(name) = &options.name
        && (name.trim().is_empty() || name.len() > MAX_NAME_BYTES || name.contains(terminal::is_hidden))
    {
        output::complain(format!("importer: --name must be 1 to {MAX_NAME_BYTES} bytes of text"));
        return Ok(ExitCode::from(EXIT_WRONG));
    }
    let wanted = Options {
        extent: Extent { rows: options.rows, bytes: MAX_BYTES },
        limits: Limits::default().for_decoding(BUFFER_BYTES),
        name: options.name.clone(),
    };
    let described = tokio::task::spawn_blocking(move || describe::describe(&source, &address, &wanted));
    let described = described.await.context("describe")?.with_context(|| format!("describe {}", options.file))?;
    let mut text = String::new();
    if !options.dataset {
        text.push_str(&described.table_sql());
    }
    if !options.dataset && !options.table {
        text.push('\n');
    }
    if !options.table {
        text.push_str(&described.dataset_toml());
    }
    output::print(async |out| {
        out.write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// Opens what is named, and returns its address too.
async fn open(file: &str) -> anyhow::Result<(Arc<dyn Source>, String)> {
    if file.starts_with("s3://") {
        let object = cli::object_name(file).map_err(anyhow::Error::msg)?;
        let store: Arc<dyn ObjectStore> = Arc::new(s3_store(&service::aws::config().await?, &[]));
        let target = ReadTarget { bucket: object.bucket, key: object.key, version_id: None, etag: None };
        let opened = RemoteSource::open(store, target, false).await;
        let source = opened.map_err(|error| match error {
            StoreError::Missing => anyhow::anyhow!("object does not exist; name one object, `aws s3 ls` shows them"),
            other => anyhow::Error::new(other),
        });
        return Ok((Arc::new(source?), file.to_owned()));
    }
    let path = std::path::absolute(file.strip_prefix("file://").unwrap_or(file)).context("find it")?;
    let name = path.to_str().context("its path is not UTF-8")?.to_owned();
    let opened = File::open(&path)?;
    let metadata = opened.metadata()?;
    anyhow::ensure!(metadata.is_file(), "is not a file; name one of the files in it");
    Ok((Arc::new(LocalFile { file: opened, size: metadata.len(), name: name.clone() }), name))
}

/// A local file, read where it is asked for; unlike a load's it needs no digest.
struct LocalFile {
    file: File,
    size: u64,
    name: String,
}

impl Source for LocalFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn stream(&self) -> io::Result<Box<dyn Read + Send>> {
        File::open(&self.name).map(|file| Box::new(file) as Box<dyn Read + Send>)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}
