//! `examples/pipeline` on the local stack: its files, made to fit this machine, its objects, and its model.

use crate::{
    aws::{Options, Pipeline},
    database::{Database, literal},
    files, process, repository,
    scratch::Scratch,
    spawn,
};
use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use toml::{Table, Value};

/// Objects at once in one importer: the machine has others beside it.
const SLOTS: i64 = 2;

/// The queues of the example, and its objects.
pub struct Example {
    /// The queue that the bucket announces its objects to.
    pub live: Pipeline,
    /// The slow step's queue.
    pub slow: Pipeline,
    /// Where the notices come.
    pub notices: Pipeline,
    topic_arn: String,
    data: PathBuf,
}

/// Hours and days, as short as suits a look.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// `again` of what is awaited.
    pub again: &'static str,
    /// `give_up` of what is awaited.
    pub give_up: &'static str,
}

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The object's key.
    pub key: String,
    /// Where its content lies.
    pub file: PathBuf,
    /// Whether a newer version follows.
    pub is_overwritten: bool,
}

impl Example {
    /// Makes its tables, queues and topic, and its objects from a seed.
    ///
    /// # Errors
    /// When Python is missing, or a server refuses.
    pub async fn set(
        database: &Database,
        live: &Pipeline,
        scratch: &Scratch,
        seed: u64,
        n_objects: u64,
    ) -> Result<Self> {
        database.execute(&read("tables.sql")?).await?;
        let queues = Options::default();
        let (slow, notices) =
            (live.another_queue("slow", &queues).await?, live.another_queue("notices", &queues).await?);
        let topic_arn = notices.topic("imports", true).await?;
        let data = scratch.path().join("data");
        let numbers = [seed.to_string(), n_objects.to_string()];
        python("generate.py", [data.as_os_str()].into_iter().chain(numbers.iter().map(AsRef::as_ref)))?;
        Ok(Self { live: live.clone(), slow, notices, topic_arn, data })
    }

    /// Returns every version of every object, those first that are overwritten.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn uploads(&self) -> Result<Vec<Upload>> {
        let mut uploads = Vec::new();
        for (name, is_overwritten) in [("earlier", true), ("newest", false)] {
            let files = files::below(&self.data.join(name))?.into_iter();
            uploads.extend(files.map(|(key, file)| Upload { key, file, is_overwritten }));
        }
        Ok(uploads)
    }

    /// Returns `importer.toml` with this machine's addresses.
    ///
    /// # Errors
    /// When the example's is not as expected.
    pub fn importer_config(&self, database: &Database, pace: Pace) -> Result<String> {
        let mut config: Table = read("importer.toml")?.parse()?;
        set(&mut config, "database", "url", database.url());
        set(&mut config, "http", "listen", "");
        set(&mut config, "worker", "concurrency", SLOTS);
        for queue in tables(&mut config, "queue")? {
            let url = self.queue_url(queue)?;
            queue.insert("url".into(), url.into());
            queue.insert("wait_secs".into(), 1.into());
        }
        for notify in tables(&mut config, "notify")? {
            notify.insert("to".into(), self.topic_arn.clone().into());
        }
        for dataset in tables(&mut config, "dataset")?.filter(|dataset| dataset.contains_key("awaits")) {
            for awaits in tables(dataset, "awaits")? {
                awaits.insert("again".into(), pace.again.into());
                awaits.insert("give_up".into(), pace.give_up.into());
            }
        }
        Ok(toml::to_string(&config)?)
    }

    /// Returns `scaler.toml` with this machine's addresses, quicker than its own, for importers of that configuration
    /// whose slow program pauses so long for each row.
    ///
    /// # Errors
    /// When the example's is not as expected, or the importer is not built.
    pub fn scaler_config(
        &self,
        database: &Database,
        importer_config: &Path,
        pause_ms: u64,
        logs: &Path,
    ) -> Result<String> {
        let mut config: Table = read("scaler.toml")?.parse()?;
        set(&mut config, "database", "url", database.url());
        set(&mut config, "http", "listen", "127.0.0.1:0");
        let (importer, importer_config) = (text(&process::binary("importer")?)?, text(importer_config)?);
        for pool in tables(&mut config, "pool")? {
            let url = self.queue_url(pool)?;
            pool.insert("queue_urls".into(), vec![url].into());
            pool.insert("slots_per_worker".into(), SLOTS.into());
            pool.insert("interval_secs".into(), 2.into());
            // The shortest promise that leaves room for a cold start, and work for several.
            let policy: [(&str, Value); 2] = [("drain_within", "90s".into()), ("backlog_per_worker", 4.into())];
            for (name, value) in policy {
                if pool.contains_key(name) {
                    pool.insert(name.into(), value);
                }
            }
            pool.insert("shrink_window".into(), "8s".into());
            let workers = pool.get_mut("workers").and_then(Value::as_table_mut).context("a pool without workers")?;
            let command = workers.get_mut("command").and_then(Value::as_array_mut).context("no command")?;
            for word in command.iter_mut() {
                match word.as_str() {
                    Some("importer") => *word = importer.clone().into(),
                    Some(path) if path.ends_with("importer.toml") => *word = importer_config.clone().into(),
                    _ => {}
                }
            }
            workers.insert("directory".into(), text(&repository())?.into());
            workers.insert("log_directory".into(), text(logs)?.into());
            let pause = Table::from_iter([("LANGUAGE_PAUSE_MS".to_owned(), pause_ms.to_string().into())]);
            workers.insert("env".into(), pause.into());
        }
        Ok(toml::to_string(&config)?)
    }

    /// Returns the query that compares each table with the model: `table, rows, model, too_many, missing, one_of_them`.
    ///
    /// # Errors
    /// When the model fails.
    pub fn comparison(&self) -> Result<String> {
        let model = python("model.py", [self.data.join("newest")])?;
        Ok(read("compare.sql")?.replace(":'model'", &literal(&model)).trim_end().trim_end_matches(';').to_owned())
    }

    fn queue_url(&self, named: &Table) -> Result<String> {
        match named.get("name").and_then(Value::as_str) {
            Some("live") => Ok(self.live.queue_url.clone()),
            Some("slow") => Ok(self.slow.queue_url.clone()),
            other => anyhow::bail!("the example has a queue or pool {other:?} that is not known here"),
        }
    }
}

fn read(name: &str) -> Result<String> {
    let path = repository().join("examples/pipeline").join(name);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

fn python(program: &str, arguments: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Result<String> {
    let program = repository().join("examples/pipeline").join(program);
    spawn::run(Command::new("python3").arg(program).args(arguments))
}

fn set(config: &mut Table, table: &str, name: &str, value: impl Into<Value>) {
    if let Value::Table(table) = config.entry(table).or_insert_with(|| Table::new().into()) {
        table.insert(name.into(), value.into());
    }
}

fn tables<'a>(config: &'a mut Table, name: &str) -> Result<impl Iterator<Item = &'a mut Table>> {
    let array = config.get_mut(name).and_then(Value::as_array_mut);
    Ok(array.with_context(|| format!("the example has no [[{name}]]"))?.iter_mut().filter_map(Value::as_table_mut))
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path that is not UTF-8")?.to_owned())
}
