//! `importer load`: objects and files now, without a queue, through the same ledger.

use super::{EXIT_INCOMPLETE, EXIT_WRONG, host, output, path_style, progress, sessions, wait_for_schema, worker_id};
use crate::{
    cli,
    config::Config,
    import::{GROUP_OBJECTS, Importer, Settled, log_together},
    message::{LOCAL_BUCKET, ObjectPointer, Record, RecordKind},
    object::{ObjectStore, file::FileStore, s3::S3Store},
    outcome::Outcome,
};
use anyhow::{Context, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{debug, warn};

/// Nothing to load was found.
const NOTHING_FOUND: u8 = 2;

/// Loads what the URIs name.
///
/// # Errors
/// A dataset the configuration does not have, a pattern that is none, a listing that fails.
pub async fn load(config: Config, options: &cli::Load) -> anyhow::Result<ExitCode> {
    let dataset = match &options.dataset {
        None => None,
        Some(name) => match config.dataset(name) {
            Some((index, _)) => Some(index),
            None => {
                output::complain(format!("importer: --dataset {name}: the configuration has no such dataset"));
                return Ok(ExitCode::from(EXIT_WRONG));
            }
        },
    };
    let concurrency = config.worker.concurrency.max(1) as usize;
    let sessions = sessions(&config, &worker_id(&host()));
    let loader = Loader::new(&config, &sessions, &options.uris).await?;
    let mut pointers: Vec<(ObjectPointer, Option<u64>)> = Vec::new();
    for uri in &options.uris {
        let found = loader.find(uri).await?;
        if found.is_empty() {
            output::complain(format!("importer: {uri}: nothing found"));
            return Ok(ExitCode::from(NOTHING_FOUND));
        }
        pointers.extend(found);
    }
    if dataset.is_some() {
        // A dataset given by name takes every object but those that are noise by their names.
        pointers.retain(|(pointer, _)| !loader.importer(pointer).skips(&pointer.key));
    }
    if options.dry_run {
        return dry_run(&loader, &pointers, dataset).await;
    }
    wait_for_schema(&sessions).await?;

    let bar = progress(Some(pointers.len() as u64), "objects");
    let started = Instant::now();
    let mut summary = Summary::default();
    let groups = loader.groups(&pointers, dataset);
    let mut loads = stream::iter(&groups)
        .map(|group| loader.load_group(group, dataset))
        // One more is read and decoded while others are written.
        .buffer_unordered(concurrency + 1);
    let watching = tokio::spawn({
        let sessions = sessions.clone();
        async move { sessions.keep_watch().await }
    });
    while let Some(outcomes) = loads.next().await {
        for (pointer, outcome) in outcomes {
            if let Outcome::Failed(failure) = &outcome {
                bar.suspend(|| output::say(format!("failed   {pointer}: {} ({})", failure.error, failure.reason)));
            }
            summary.add(&outcome);
            bar.set_message(format!("{} rows", summary.rows));
            bar.inc(1);
        }
    }
    watching.abort();
    bar.finish_and_clear();
    summary.print(started.elapsed());
    Ok(if summary.n_failed > 0 { ExitCode::from(EXIT_INCOMPLETE) } else { ExitCode::SUCCESS })
}

/// Objects that are loaded together, if `into` names a dataset, else one alone.
struct Group {
    into: Option<usize>,
    records: Vec<Record>,
}

impl Group {
    /// Whether an object may be loaded with these: of the same dataset, from the same store.
    fn takes(&self, into: Option<usize>, pointer: &ObjectPointer) -> bool {
        self.into == into
            && self.records.len() < GROUP_OBJECTS
            && self.records.iter().all(|record| record.pointer.is_local() == pointer.is_local())
    }
}

fn created(pointer: &ObjectPointer) -> Record {
    Record { kind: RecordKind::Created, pointer: pointer.clone(), event_time: None, force: false }
}

struct Loader {
    files: Importer,
    objects: Option<Importer>,
    s3: Option<Arc<S3Store>>,
}

impl Loader {
    async fn new(config: &Config, sessions: &crate::load::Sessions, uris: &[String]) -> anyhow::Result<Self> {
        let id = worker_id(&host());
        let importer = |store: Arc<dyn ObjectStore>| {
            Importer::new(config.clone(), store, sessions.clone(), id.clone(), None)
                .map(|importer| importer.writing_at_once(config.worker.concurrency as usize))
        };
        let files = importer(Arc::new(FileStore::default()))?;
        if !uris.iter().any(|uri| uri.starts_with("s3://")) {
            return Ok(Self { files, objects: None, s3: None });
        }
        let aws = service::aws::config().await?;
        let s3 = Arc::new(S3Store::new(&aws, path_style(&aws)));
        let store: Arc<dyn ObjectStore> = s3.clone();
        let objects = importer(store)?.sharing_with(&files);
        Ok(Self { files, objects: Some(objects), s3: Some(s3) })
    }

    fn importer(&self, pointer: &ObjectPointer) -> &Importer {
        match &self.objects {
            Some(objects) if !pointer.is_local() => objects,
            _ => &self.files,
        }
    }

    /// Returns the objects a URI names, with their lengths where they are known without another request.
    async fn find(&self, uri: &str) -> anyhow::Result<Vec<(ObjectPointer, Option<u64>)>> {
        let Some(s3) = self.s3.as_ref().filter(|_| uri.starts_with("s3://")) else {
            return find_files(uri);
        };
        let prefix: cli::Prefix = uri.parse().map_err(|error: String| anyhow::anyhow!("{uri}: {error}"))?;
        let listed = s3.list(&prefix.bucket, &prefix.prefix);
        let pointers = listed.map_ok(|object| {
            let (etag, size) = (Some(object.etag), Some(object.size));
            (ObjectPointer { etag, size, ..ObjectPointer::new(&prefix.bucket, object.key) }, size)
        });
        pointers.try_collect().await.with_context(|| format!("list {uri}"))
    }

    /// Puts small objects of one dataset together, so that they share a transaction.
    fn groups(&self, found: &[(ObjectPointer, Option<u64>)], dataset: Option<usize>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for (pointer, size) in found {
            let record = created(pointer);
            let into = self.importer(pointer).groups(&record, dataset, *size);
            match groups.last_mut() {
                Some(last) if into.is_some() && last.takes(into, pointer) => {
                    last.records.push(record);
                }
                _ => groups.push(Group { into, records: vec![record] }),
            }
        }
        groups
    }

    /// Loads a group, what cannot be loaded together alone.
    async fn load_group<'g>(&self, group: &'g Group, dataset: Option<usize>) -> Vec<(&'g ObjectPointer, Outcome)> {
        let mut settled: Vec<Option<Settled>> = Vec::new();
        if let (Some(index), [first, _, ..]) = (group.into, group.records.as_slice()) {
            let records: Vec<&Record> = group.records.iter().collect();
            let begun = Instant::now();
            match self.importer(&first.pointer).import_group(index, &records).await {
                Ok(together) => {
                    for (record, settled) in group.records.iter().zip(&together) {
                        settled.iter().for_each(|settled| log_together(record, settled, begun));
                    }
                    settled = together;
                }
                Err(held) => debug!(error = format!("{:#}", held.error), "not loaded together"),
            }
        }
        settled.resize_with(group.records.len(), || None);
        let mut outcomes = Vec::with_capacity(group.records.len());
        for (record, settled) in group.records.iter().zip(settled) {
            let outcome = match settled {
                Some(settled) => settled.outcome,
                None => self.load(record, dataset).await,
            };
            outcomes.push((&record.pointer, outcome));
        }
        outcomes
    }

    /// Loads one object, trying for as long as something outside is broken.
    async fn load(&self, record: &Record, dataset: Option<usize>) -> Outcome {
        let pointer = &record.pointer;
        let importer = self.importer(pointer);
        loop {
            let held = match importer.import(record, dataset, None).await {
                Ok(settled) => match (&settled.outcome, settled.object_id) {
                    (Outcome::Failed(failure), Some(object_id)) => {
                        match importer.record_failure(object_id, failure, None).await {
                            Ok(()) => return settled.outcome,
                            Err(held) => held,
                        }
                    }
                    _ => return settled.outcome,
                },
                Err(held) => held,
            };
            warn!(error = format!("{:#}", held.error), "{pointer} has to wait; trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Returns the files a path, a directory or a glob names, in order.
fn find_files(uri: &str) -> anyhow::Result<Vec<(ObjectPointer, Option<u64>)>> {
    let path = uri.strip_prefix("file://").unwrap_or(uri);
    let mut files = Vec::new();
    if Path::new(path).exists() {
        collect(Path::new(path), &mut files)?;
    } else {
        for entry in glob::glob(path).with_context(|| format!("{uri} is no path and no glob"))? {
            collect(&entry.with_context(|| format!("read {uri}"))?, &mut files)?;
        }
    }
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let absolute = std::path::absolute(&file).with_context(|| format!("find {}", file.display()))?;
            let Some(key) = absolute.to_str() else { bail!("{} is not UTF-8", absolute.display()) };
            // Only a hint: the file may change before it is read.
            let size = std::fs::metadata(&file).ok().map(|metadata| metadata.len());
            Ok((ObjectPointer::new(LOCAL_BUCKET, key), size))
        })
        .collect()
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).with_context(|| format!("read {}", path.display()))? {
        collect(&entry.with_context(|| format!("read {}", path.display()))?.path(), files)?;
    }
    Ok(())
}

async fn dry_run(
    loader: &Loader,
    pointers: &[(ObjectPointer, Option<u64>)],
    dataset: Option<usize>,
) -> anyhow::Result<ExitCode> {
    let mut n_failed = 0;
    for (pointer, size) in pointers {
        let importer = loader.importer(pointer);
        if importer.skips(&pointer.key) {
            output::say(format!("{pointer}: would be skipped: a skip pattern takes it"));
            continue;
        }
        if *size == Some(0) {
            output::say(format!("{pointer}: would be skipped: it is empty"));
            continue;
        }
        match importer.dry_run(pointer, dataset).await {
            Ok(found) => {
                n_failed += u32::from(found.too_many);
                let verdict = if found.too_many { "would fail: too many rejects" } else { "would load" };
                let counts = (counted(found.n_read, "row"), counted(found.n_rejected, "reject"));
                output::say(format!("{pointer}: {}, {}, {verdict}", counts.0, counts.1));
                for reject in &found.rejects {
                    let column = reject.column.as_ref().map(|c| format!(" column {c}")).unwrap_or_default();
                    output::say(format!("  row {}{column}: {} ({})", reject.row_number, reject.message, reject.class));
                }
            }
            Err(error) => {
                n_failed += 1;
                output::say(format!("{pointer}: would fail: {error:#}"));
            }
        }
    }
    output::say("nothing was written, so what constraints and triggers would refuse is not among the rejects");
    Ok(if n_failed > 0 { ExitCode::from(EXIT_INCOMPLETE) } else { ExitCode::SUCCESS })
}

fn counted(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[derive(Default)]
struct Summary {
    rows: u64,
    rejected: u64,
    n_failed: u64,
    by_outcome: BTreeMap<&'static str, u64>,
}

impl Summary {
    fn add(&mut self, outcome: &Outcome) {
        let name = match outcome {
            Outcome::Imported(counts) => {
                self.rows += counts.read;
                self.rejected += counts.rejected;
                "imported"
            }
            Outcome::AlreadyImported => "already imported",
            Outcome::Superseded => "superseded",
            Outcome::Skipped(_) => "skipped",
            Outcome::Gone | Outcome::Removed(_) => "gone",
            Outcome::Failed(_) => {
                self.n_failed += 1;
                "failed"
            }
        };
        *self.by_outcome.entry(name).or_default() += 1;
    }

    fn print(&self, elapsed: Duration) {
        let outcomes: Vec<String> = self.by_outcome.iter().map(|(name, n)| format!("{n} {name}")).collect();
        output::say(format!(
            "{}: {} rows ({} rejected) in {:.1} s",
            outcomes.join(", "),
            self.rows,
            self.rejected,
            elapsed.as_secs_f64()
        ));
    }
}
