//! `importer try` and `importer test`: what would become of rows, on the real database, with nothing left behind.

use super::{EXIT_INCOMPLETE, EXIT_WRONG, on_session, output, s3_store};
use crate::{
    cli,
    config::{self, Config, Expect, Row, Word},
    load::{
        Fate, Rehearsal, Session, Target, rehearse,
        sql::{Place, quote},
    },
    message::{LOCAL_BUCKET, ObjectPointer},
    object::{ObjectStore, ReadTarget, RemoteSource, file::FileStore},
    route::Router,
};
use anyhow::Context;
use bytes::Bytes;
use decode::{Compression, Format, Source};
use serde_json::Value;
use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

/// Exit status: a test did not give what it expects.
const EXIT_DIFFERENT: u8 = 1;

/// Shows what would become of the rows of an object or a file.
///
/// # Errors
/// When it cannot be read, or the dataset cannot be loaded.
pub async fn run(config: &Config, options: &cli::Try) -> anyhow::Result<ExitCode> {
    let router = Router::new(config).context("compile the patterns")?;
    let Some(dataset) = router.dataset(&options.dataset) else {
        output::complain(format!("importer: {}: the configuration has no such dataset", options.dataset));
        return Ok(ExitCode::from(EXIT_WRONG));
    };
    let (pointer, store) = find(config, &options.file).await?;
    let target = ReadTarget { bucket: pointer.bucket, key: pointer.key, version_id: None, etag: None };
    let (bucket, key) = (target.bucket.clone(), target.key.clone());
    let last_modified = store.head(&target).await.with_context(|| options.file.clone())?.last_modified;
    let source = RemoteSource::open(store, target, dataset.is_streamed(&key)).await.context("open it")?;
    let captures = router.destination(dataset, None, &bucket, &key).captures;
    if options.diff && dataset.config.key.is_empty() {
        output::complain(format!("importer: dataset {}: --diff needs a key, by which rows are found", options.dataset));
        return Ok(ExitCode::from(EXIT_WRONG));
    }
    let fates = on_session(config, "try", async |session| {
        let target = resolve(config, session, &dataset.config).await?;
        let last_modified = last_modified.map(|time| time.to_rfc3339());
        let place = Place { bucket: &bucket, key: &key, last_modified };
        let (source, read): (Arc<dyn Source>, _) = (Arc::new(source), target.read.clone());
        let rehearsal = Rehearsal { target, read, captures, source, place, n_rows: options.rows };
        let fates = rehearse(session, &rehearsal).await?;
        let mut lines = Vec::new();
        for (row, fate) in &fates {
            let of_row = match fate {
                Fate::Made(made) if options.diff => differences(session, &rehearsal.target, made).await?,
                fate => described(fate),
            };
            lines.extend(of_row.into_iter().map(|line| format!("row {row}: {line}")));
        }
        Ok((fates, lines))
    });
    let (fates, lines) = fates.await?;
    output::print(async |out| print(&fates, &lines, out)).await
}

/// Returns what is named, and where it is.
async fn find(config: &Config, file: &str) -> anyhow::Result<(ObjectPointer, Arc<dyn ObjectStore>)> {
    if file.starts_with("s3://") {
        let pointer = cli::object_name(file).map_err(anyhow::Error::msg)?;
        return Ok((pointer, Arc::new(s3_store(&service::aws::config().await?, &config.buckets))));
    }
    let path = std::path::absolute(file.strip_prefix("file://").unwrap_or(file)).context("find it")?;
    let path = path.to_str().context("its path is not UTF-8")?;
    Ok((ObjectPointer::new(LOCAL_BUCKET, path), Arc::new(FileStore::default())))
}

/// Brings a dataset and its table together.
///
/// # Errors
/// What does not fit, or of the database.
pub(super) async fn resolve(
    config: &Config,
    session: &mut Session,
    dataset: &config::Dataset,
) -> anyhow::Result<Arc<Target>> {
    let buffer_bytes = config.worker.memory_bytes() / config.worker.concurrency.max(1) as usize;
    let read = dataset.read_options(&config.limits, buffer_bytes);
    Ok(Arc::new(Target::resolve(&mut session.connection, dataset, read, None).await?))
}

/// Returns how rows differ from those with their keys that stand in the table.
async fn differences(session: &mut Session, target: &Target, made: &[Value]) -> anyhow::Result<Vec<String>> {
    let columns = |of: &str| target.key.iter().map(|key| format!("{of}.{}", quote(key))).collect::<Vec<_>>().join(", ");
    let table = &target.table.qualified;
    let both = format!(
        "SELECT to_jsonb(made)::text, to_jsonb(standing)::text \
         FROM jsonb_populate_record(NULL::{table}, $1::text::jsonb) AS made \
         LEFT JOIN {table} AS standing ON ({}) = ({})",
        columns("standing"),
        columns("made")
    );
    let mut lines = Vec::new();
    for row in made {
        let asked = sqlx::query_as::<_, (String, Option<String>)>(&both).bind(row.to_string());
        let (made, standing) = asked.fetch_one(&mut session.connection).await.context("compare with the table")?;
        let Some(standing) = standing else {
            lines.push(format!("new: {row}"));
            continue;
        };
        let (made, standing): (Value, Value) = (serde_json::from_str(&made)?, serde_json::from_str(&standing)?);
        let written = row.as_object().into_iter().flat_map(|row| row.keys());
        let changed: Vec<String> = written
            .filter(|column| made[column.as_str()] != standing[column.as_str()])
            .map(|column| format!("{column} {} -> {}", standing[column.as_str()], made[column.as_str()]))
            .collect();
        let key: Value = target.key.iter().map(|key| (key.clone(), made[key.as_str()].clone())).collect();
        let what = if changed.is_empty() { "as it stands".to_owned() } else { changed.join(", ") };
        lines.push(format!("{key}: {what}"));
    }
    Ok(lines)
}

fn print(fates: &[(u64, Fate)], lines: &[String], out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let (mut n_made, mut n_filtered, mut n_rejected, mut n_failing) = (0, 0, 0, 0);
    for (_, fate) in fates {
        match fate {
            Fate::Made(rows) => n_made += rows.len(),
            Fate::Filtered(_) => n_filtered += 1,
            Fate::Rejected { .. } => n_rejected += 1,
            Fate::Fails(_) => n_failing += 1,
        }
    }
    for line in lines {
        output::line(out, line)?;
    }
    let n_read = fates.len();
    output::line(
        out,
        &format!("{n_read} rows: {n_made} written, {n_filtered} filtered, {n_rejected} rejected; rolled back"),
    )?;
    Ok(if n_failing == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) })
}

fn described(fate: &Fate) -> Vec<String> {
    match fate {
        Fate::Made(rows) => rows.iter().map(Value::to_string).collect(),
        Fate::Filtered(by) => vec![format!("filtered by {by}")],
        Fate::Rejected { class, column, message } => {
            let column = column.as_ref().map(|column| format!(", column {column}")).unwrap_or_default();
            vec![format!("rejected, class {class}{column}: {message}")]
        }
        Fate::Fails(reason) => vec![format!("would fail the object: {reason}")],
    }
}

/// Runs the tests of the configuration, or of one dataset.
///
/// # Errors
/// When a dataset cannot be loaded, or of the database.
pub async fn test(config: &Config, dataset: Option<&str>) -> anyhow::Result<ExitCode> {
    if let Some(name) = dataset.filter(|name| config.dataset(name).is_none()) {
        output::complain(format!("importer: {name}: the configuration has no such dataset"));
        return Ok(ExitCode::from(EXIT_WRONG));
    }
    let wanted = config.datasets.iter().filter(|other| dataset.is_none_or(|name| name == other.name));
    let wanted: Vec<_> = wanted.filter(|dataset| !dataset.tests.is_empty()).collect();
    let (mut lines, mut n_run, mut n_different) = (Vec::new(), 0, 0);
    let running = on_session(config, "test", async |session| {
        for dataset in &wanted {
            let target =
                resolve(config, session, dataset).await.with_context(|| format!("dataset {}", dataset.name))?;
            for test in &dataset.tests {
                let differences = run_test(session, &target, test).await?;
                let is_fine = differences.is_empty();
                lines.push(format!("{} {}: {}", if is_fine { "ok    " } else { "FAILED" }, dataset.name, test.name));
                lines.extend(differences.into_iter().map(|difference| format!("       {difference}")));
                n_run += 1;
                n_different += u32::from(!is_fine);
            }
        }
        Ok(())
    });
    running.await?;
    output::print(async |out| {
        for line in &lines {
            output::line(out, line)?;
        }
        output::line(out, &format!("{n_run} tests, {n_different} failed"))?;
        Ok(if n_different == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DIFFERENT) })
    })
    .await
}

/// Runs a test and returns where its rows differ from what it expects.
async fn run_test(session: &mut Session, target: &Arc<Target>, test: &config::Test) -> anyhow::Result<Vec<String>> {
    let text: String = test.input.iter().map(|row| format!("{}\n", Value::Object(row.clone()))).collect();
    let mut read =
        decode::ReadOptions { format: Format::Ndjson, compression: Compression::None, ..target.read.clone() };
    read.json.rows = None;
    let rehearsal = Rehearsal {
        target: Arc::clone(target),
        read,
        captures: Vec::new(),
        source: Arc::new(Given(Bytes::from(text))),
        place: Place { bucket: "test", key: &test.name, last_modified: None },
        n_rows: u64::MAX,
    };
    let fates = rehearse(session, &rehearsal).await.with_context(|| format!("test {:?}", test.name))?;
    let expected = match &test.expect {
        Expect::Word(word) => return Ok(fates.iter().filter_map(|fate| otherwise(fate, *word)).collect()),
        Expect::Rows(rows) => rows,
    };
    let mut differences: Vec<String> = Vec::new();
    let mut made = Vec::new();
    for (row, fate) in &fates {
        match fate {
            Fate::Made(rows) => made.extend(rows.iter().map(|made| (*row, made))),
            Fate::Filtered(_) => {}
            _ => differences.extend(described(fate).into_iter().map(|line| format!("input row {row}: {line}"))),
        }
    }
    if made.len() != expected.len() {
        differences.push(format!("expected {} rows, got {}", expected.len(), made.len()));
        differences.extend(made.iter().map(|(row, made)| format!("got of input row {row}: {made}")));
    }
    for (index, (expected, (_, made))) in expected.iter().zip(made).enumerate() {
        compare(session, target, index + 1, (expected, made), &mut differences).await?;
    }
    Ok(differences)
}

fn otherwise((row, fate): &(u64, Fate), word: Word) -> Option<String> {
    let (is_so, expected) = match word {
        Word::Filtered => (matches!(fate, Fate::Filtered(_)), "filtered"),
        Word::Reject => (matches!(fate, Fate::Rejected { .. }), "a reject"),
    };
    (!is_so).then(|| format!("input row {row}: expected {expected}, got: {}", described(fate).join("; ")))
}

/// Compares a row with the columns that one is expected to have, both as the table would hold them.
async fn compare(
    session: &mut Session,
    target: &Target,
    number: usize,
    (expected, made): (&Row, &Value),
    differences: &mut Vec<String>,
) -> anyhow::Result<()> {
    let stored =
        format!("SELECT to_jsonb(jsonb_populate_record(NULL::{}, $1::text::jsonb))::text", target.table.qualified);
    let mut both = Vec::new();
    for row in [&Value::Object(expected.clone()), made] {
        let stored = sqlx::query_scalar::<_, String>(&stored).bind(row.to_string());
        match stored.fetch_one(&mut session.connection).await {
            Ok(text) => both.push(serde_json::from_str::<Value>(&text)?),
            Err(sqlx::Error::Database(error)) => {
                differences.push(format!("row {number}: {}", error.message()));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
    for column in expected.keys() {
        let shown = |row: &Value| row.get(column).map(Value::to_string);
        match (shown(&both[0]), shown(&both[1])) {
            (None, _) => differences.push(format!("row {number}: the table has no column {column}")),
            (Some(expected), Some(got)) if expected != got => {
                differences.push(format!("row {number}, column {column}: expected {expected}, got {got}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Rows that a test gives.
struct Given(Bytes);

impl Source for Given {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn name(&self) -> &str {
        "test.ndjson"
    }

    fn stream(&self) -> io::Result<Box<dyn io::Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.0.clone())))
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.checked_add(len).filter(|end| *end <= self.0.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(self.0.slice(start..end))
    }
}
