//! `importer load`: objects and files now, without a queue, through the same ledger.

use super::{EXIT_INCOMPLETE, EXIT_WRONG, host, output, progress, s3_store, sessions, wait_for_schema, worker_id};
use crate::{
    cli,
    config::Config,
    dataset::Dataset,
    import::{GROUP_OBJECTS, Held, Importer, Settled, may_share},
    ledger::problems,
    load::Sessions,
    message::{Anew, LOCAL_BUCKET, ObjectPointer, Record},
    object::{ObjectStore, file::FileStore, s3::S3Store},
    outcome::Outcome,
    route::{Route, Routed},
};
use anyhow::{Context, bail};
use futures_util::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use service::{http::Health, words::chain};
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
/// A dataset the configuration does not have, an invalid pattern, a listing that fails.
pub async fn load(config: Config, options: &cli::Load) -> anyhow::Result<ExitCode> {
    if let Some(name) = options.dataset.as_ref().filter(|name| config.dataset(name).is_none()) {
        output::complain(format!("importer: --dataset {name}: the configuration has no such dataset"));
        return Ok(ExitCode::from(EXIT_WRONG));
    }
    let concurrency = config.worker.concurrency.max(1) as usize;
    let sessions = sessions(&config, &worker_id(&host()));
    let loader = Loader::new(&config, &sessions, &options.uris).await?;
    let mut found = Vec::new();
    for uri in &options.uris {
        let named = loader.find(uri).await?;
        if named.is_empty() {
            output::complain(format!("importer: {uri}: nothing found"));
            return Ok(ExitCode::from(NOTHING_FOUND));
        }
        found.extend(named);
    }
    let objects = loader.route(found, options);
    if options.dry_run {
        return dry_run(&loader, &objects).await;
    }
    wait_for_schema(&sessions, &config, &Health::default()).await?;

    let bar = progress(Some(objects.len() as u64), "objects");
    let started = Instant::now();
    let mut summary = Summary::default();
    let groups = groups(objects);
    let mut loads = stream::iter(&groups)
        .map(|group| loader.load_group(group))
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
    if let Err(error) = forget_mended(&sessions, &groups).await {
        debug!(error = chain(&error), "problems that are mended are shown until a newer version comes");
    }
    bar.finish_and_clear();
    summary.print(started.elapsed());
    Ok(if summary.n_failed > 0 { ExitCode::from(EXIT_INCOMPLETE) } else { ExitCode::SUCCESS })
}

/// Keys that are looked at together.
const KEYS: usize = 1000;

/// Forgets problems of older versions of what was loaded: heartbeats do so only for what came through a queue.
async fn forget_mended(sessions: &Sessions, groups: &[Vec<Routed>]) -> anyhow::Result<()> {
    let pointers = groups.iter().flatten().map(|routed| &routed.record.pointer);
    let keys: Vec<(&str, &str)> = pointers.map(|pointer| (pointer.bucket.as_str(), pointer.key.as_str())).collect();
    let mut session = sessions.lend().await?;
    let server = session.server.clone();
    for keys in keys.chunks(KEYS) {
        let forget = problems::forget_mended(&mut session.connection, keys);
        server.answer("forget what is mended", forget).await?;
    }
    Ok(())
}

/// An object that a URI names, and its length where that is known without another request.
type Found = (ObjectPointer, Option<u64>);

/// An object and one of the places it goes to.
struct Object {
    routed: Routed,
    size: Option<u64>,
}

impl Object {
    fn pointer(&self) -> &ObjectPointer {
        &self.routed.record.pointer
    }

    /// Returns the dataset it may be loaded into together with others.
    fn shared_dataset(&self) -> Option<&Arc<Dataset>> {
        let to = self.routed.destination().filter(|_| may_share(&self.routed, self.size))?;
        Some(&to.dataset)
    }

    /// Returns whether it may be loaded with another: into the same dataset, from the same store.
    fn goes_with(&self, other: &Self) -> bool {
        let same_dataset = match (self.shared_dataset(), other.shared_dataset()) {
            (Some(own), Some(others)) => Arc::ptr_eq(own, others),
            _ => false,
        };
        same_dataset && self.pointer().is_local() == other.pointer().is_local()
    }
}

/// Puts small objects of one dataset that follow each other together, so that they share a transaction.
fn groups(objects: Vec<Object>) -> Vec<Vec<Routed>> {
    let together = objects.chunk_by(Object::goes_with).flat_map(|group| group.chunks(GROUP_OBJECTS));
    together.map(|group| group.iter().map(|object| object.routed.clone()).collect()).collect()
}

struct Loader {
    files: Importer,
    objects: Option<Importer>,
    s3: Option<Arc<S3Store>>,
}

impl Loader {
    async fn new(config: &Config, sessions: &Sessions, uris: &[String]) -> anyhow::Result<Self> {
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
        let s3 = Arc::new(s3_store(&aws, &config.buckets));
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

    /// Returns the objects a URI names.
    async fn find(&self, uri: &str) -> anyhow::Result<Vec<Found>> {
        let Some(s3) = self.s3.as_ref().filter(|_| uri.starts_with("s3://")) else {
            return find_files(uri);
        };
        let prefix: cli::Prefix = uri.parse().map_err(|error: String| anyhow::anyhow!("{uri}: {error}"))?;
        let listed = s3.list(&prefix.bucket, &prefix.prefix);
        let pointers = listed.map_ok(|object| {
            let size = Some(object.size);
            (object.pointer(&prefix.bucket), size)
        });
        pointers.try_collect().await.with_context(|| format!("list {uri}"))
    }

    /// Routes objects. A dataset given by name takes every object but those that are noise by their names.
    fn route(&self, found: Vec<Found>, options: &cli::Load) -> Vec<Object> {
        let router = &self.files.router;
        let mut objects = Vec::with_capacity(found.len());
        for (pointer, size) in found {
            let record = Record { anew: options.force.then_some(Anew::Forced), ..Record::created(pointer) };
            let routed = match options.dataset.as_deref().and_then(|name| router.dataset(name)) {
                Some(_) if router.skips(&record.pointer.key) => continue,
                Some(dataset) => vec![router.to(dataset, record)],
                None => router.route_from_all(record),
            };
            objects.extend(routed.into_iter().map(|routed| Object { routed, size }));
        }
        objects
    }

    /// Loads a group, what cannot be loaded together alone.
    async fn load_group<'g>(&self, group: &'g [Routed]) -> Vec<(&'g ObjectPointer, Outcome)> {
        let mut settled: Vec<Option<Settled>> = Vec::new();
        if let [first, _, ..] = group {
            let records: Vec<&Routed> = group.iter().collect();
            let begun = Instant::now();
            match self.importer(&first.record.pointer).import_group(&records).await {
                Ok(together) => {
                    for (routed, settled) in group.iter().zip(&together) {
                        settled.iter().for_each(|settled| settled.log_for(&routed.record, begun));
                    }
                    settled = together;
                }
                Err(held) => debug!(error = chain(&held.error), "not loaded together"),
            }
        }
        settled.resize_with(group.len(), || None);
        let mut outcomes = Vec::with_capacity(group.len());
        for (routed, settled) in group.iter().zip(settled) {
            let settled = match settled {
                Some(settled) => settled,
                None => self.load(routed).await,
            };
            let pointer = &routed.record.pointer;
            let followed = self.load_after(routed, &settled).await;
            outcomes.push((pointer, settled.outcome));
            outcomes.extend(followed.into_iter().map(|outcome| (pointer, outcome)));
        }
        outcomes
    }

    /// Loads an object into the datasets that follow the one it was loaded into, in order.
    fn load_after<'l>(&'l self, routed: &'l Routed, settled: &'l Settled) -> BoxFuture<'l, Vec<Outcome>> {
        Box::pin(async move {
            let mut outcomes = Vec::new();
            let is_there = matches!(settled.outcome, Outcome::Imported(_) | Outcome::AlreadyImported);
            let Some(before) = routed.destination().filter(|_| is_there) else { return outcomes };
            let pointer = &routed.record.pointer;
            let (importer, name) = (self.importer(pointer), before.dataset.name.to_string());
            for dataset in importer.router.after(&before.dataset) {
                let to = importer.router.destination(dataset, Some(&name), &pointer.bucket, &pointer.key);
                let record = Record { after: Some(name.clone()), anew: None, ..(*routed.record).clone() };
                let next = Routed { record: Arc::new(record), route: Route::Dataset(to) };
                let done = self.load(&next).await;
                if let Some(object_id) = settled.object_id
                    && let Err(error) = importer.done_at_once(&dataset.name, object_id).await
                {
                    debug!(
                        error = chain(&error),
                        "could not clear a pending step that has already run; it will be recognised as done"
                    );
                }
                let followed = self.load_after(&next, &done).await;
                outcomes.push(done.outcome);
                outcomes.extend(followed);
            }
            outcomes
        })
    }

    /// Loads one object, trying for as long as something outside is broken.
    async fn load(&self, routed: &Routed) -> Settled {
        let pointer = &routed.record.pointer;
        let importer = self.importer(pointer);
        let attempt = async || {
            let settled = importer.import(routed, None).await?;
            if let (Outcome::Failed(failure), Some(object_id)) = (&settled.outcome, settled.object_id) {
                importer.record_failure(&routed.record, object_id, failure, None).await?;
            }
            Ok(settled)
        };
        let mut is_waiting = false;
        loop {
            match attempt().await {
                Ok(settled) => return settled,
                Err(Held { error, .. }) => {
                    if !std::mem::replace(&mut is_waiting, true) {
                        warn!(error = chain(&error), "{pointer}: waiting, will retry each second");
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

/// Returns the files a path, a directory or a glob names, in order.
fn find_files(uri: &str) -> anyhow::Result<Vec<Found>> {
    let path = uri.strip_prefix("file://").unwrap_or(uri);
    let mut files = Vec::new();
    if Path::new(path).exists() {
        collect(Path::new(path), &mut files)?;
    } else {
        for entry in glob::glob(path).with_context(|| format!("{uri} is neither a path nor a glob"))? {
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

async fn dry_run(loader: &Loader, objects: &[Object]) -> anyhow::Result<ExitCode> {
    let mut n_failed = 0;
    for object in objects {
        let pointer = object.pointer();
        if matches!(object.routed.route, Route::Skip) {
            output::say(format!("{pointer}: would be skipped: matches a skip pattern"));
            continue;
        }
        if object.size == Some(0) {
            output::say(format!("{pointer}: would be skipped: it is empty"));
            continue;
        }
        match loader.importer(pointer).dry_run(&object.routed).await {
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
                output::say(format!("{pointer}: would fail: {}", chain(&error)));
            }
        }
    }
    output::say("nothing was written, so rows that constraints or triggers would refuse are not counted");
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
        match outcome {
            Outcome::Imported(counts) => {
                self.rows += counts.read;
                self.rejected += counts.rejected;
            }
            Outcome::Failed(_) => self.n_failed += 1,
            _ => {}
        }
        *self.by_outcome.entry(<&str>::from(outcome)).or_default() += 1;
    }

    fn print(&self, elapsed: Duration) {
        let outcomes: Vec<String> =
            self.by_outcome.iter().map(|(name, n)| format!("{n} {}", name.replace('_', " "))).collect();
        output::say(format!(
            "{}: {} rows ({} rejected) in {:.1} s",
            outcomes.join(", "),
            self.rows,
            self.rejected,
            elapsed.as_secs_f64()
        ));
    }
}
