//! `importer.toml`: what it may say, what it means, and what is wrong with it.
//!
//! Pure: the file's text and the environment are arguments. [`Config::parse`] checks everything
//! at once and names line, field and accepted range; what only one command needs
//! (a queue, a database, datasets) is asked for by [`Config::require`].

mod access;
mod after_load;
mod check;
pub mod conjuncts;
mod files;
pub mod fragment;
mod max_rejects;
mod steps;
mod transform;

pub use access::Bucket;
pub use after_load::{AfterLoad, Tag};
pub use check::CONCURRENCY;
pub use files::{Csv, Text};
pub use max_rejects::MaxRejects;
pub use service::config::{ConfigError, Database};
pub use steps::{AtMost, Event, Notify, Seconds, names_in};
pub use transform::{Awaits, Defaults, Expect, Row, Test, Word};

use decode::{Compression, Format, OnNewField};
use serde::Deserialize;
use service::config::{Source, variable};
use std::collections::BTreeMap;

/// The whole of `importer.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the rows and the ledger go.
    #[serde(default)]
    pub database: Database,
    /// Where the messages come from. `[[queue]]` for several, each with a name; a worker serves one, by default the
    /// first.
    #[serde(default, rename = "queue", deserialize_with = "steps::one_or_several")]
    pub queues: Vec<Queue>,
    /// The one that is served: the first, unless [`Config::serve`] chose another.
    #[serde(skip)]
    pub queue: Queue,
    /// `QUEUE_URL`, which overrides the URL of the queue that is served.
    #[serde(skip)]
    queue_url: Option<String>,
    /// Buckets that are reached by a role, or make the requester pay.
    #[serde(default, rename = "bucket")]
    pub buckets: Vec<Bucket>,
    /// How much this process does at once.
    #[serde(default)]
    pub worker: Worker,
    /// What this process may ask and tell the machine it runs on.
    #[serde(default)]
    pub instance: Instance,
    /// Bounds that turn a hostile object into a failed one, or a hostile row into a reject.
    #[serde(default)]
    pub limits: Limits,
    /// Health and metrics.
    #[serde(default)]
    pub http: Http,
    /// Which objects go into which table; the first whose `match` fits an object takes it.
    #[serde(default, rename = "dataset")]
    pub datasets: Vec<Dataset>,
    /// What datasets have in common.
    #[serde(default)]
    pub defaults: Defaults,
    /// Notifications.
    #[serde(default)]
    pub notify: Vec<Notify>,
}

/// `[queue]` or `[[queue]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Its name, where there are several: `importer run --queue NAME`.
    pub name: String,
    /// URL of the SQS queue the notifications arrive in; `QUEUE_URL` overrides it. FIFO queues are refused:
    /// S3 does not send to them and their order would serialise unrelated objects.
    pub url: Option<String>,
    /// How long one receive waits for messages, in seconds (0 to 20). Lower it only in tests: each poll costs.
    pub wait_secs: u32,
    /// How long a received message stays hidden from other importers, in seconds (2 to 43200).
    ///
    /// Extended at a third of it while an import runs. Shorter: messages of a dead worker come back sooner.
    /// Longer: fewer extension calls.
    pub visibility_timeout_secs: u32,
    /// URL of the dead-letter queue that failed messages are forwarded to; found from the queue's redrive policy when absent.
    pub dead_letter_url: Option<String>,
    /// Role to assume for whatever is asked of the queue and its dead-letter queue, such as one of the account that owns
    /// them.
    pub role_arn: Option<String>,
    /// External id that the role's owner asks for.
    pub external_id: Option<String>,
}

/// `[worker]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Worker {
    /// Objects imported at once (1 to 256). A worker uses this many Postgres connections and two more.
    pub concurrency: u32,
    /// Memory for object data, in MiB (16 to 1048576); the process itself needs up to 40 MiB more. 55 % is shared evenly
    /// by `concurrency` + 1 objects; the remaining 45 % is lent to those that need more. A file that needs more than
    /// both fails with an error that names this setting. More memory also makes sorted runs longer.
    pub memory_mib: u32,
    /// How long a stopping worker may keep working on messages it has received, in seconds (0 to 43200). Set it below
    /// the supervisor's kill timeout; unfinished messages are released to other workers.
    pub drain_timeout_secs: u32,
    /// How long failing objects are held, in seconds (0 to 3600), before one is failed for a cause that may be external:
    /// permissions, a missing bucket or table, a schema change. One object then fails as a sample while the rest wait,
    /// unless other objects of the dataset are imported. Higher tolerates longer incidents, lower reports sooner; 0
    /// disables it.
    pub brake_secs: u32,
    /// What to do with an object that no dataset matches.
    pub unrouted: Unrouted,
    /// Keys that are not data, as globs; such objects end as `skipped(name_rule)`. Setting it replaces the default list.
    pub skip: Vec<String>,
}

/// `[instance]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Instance {
    /// Whether the worker integrates with the EC2 instance or ECS task it runs on.
    pub manage: Manage,
}

/// `manage`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manage {
    /// Protected against scale-in while busy, drained when the instance is about to go, and its group told when it may.
    #[default]
    Auto,
    /// Drain on SIGTERM only. Use it when several workers share an instance.
    Off,
}

/// `unrouted`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unrouted {
    /// The message goes to the dead-letter queue: these objects were probably meant to be loaded.
    #[default]
    DeadLetter,
    /// The object ends as `skipped(unrouted)`.
    Skip,
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// A longer row is a reject, in MiB (1 to 512). At most `worker.memory_mib`; since rows pass through that
    /// memory, the practical maximum is about an eighth of it.
    pub row_mib: u32,
    /// A JSON value nested deeper is a reject (1 to 1000).
    pub depth: u32,
    /// Decompressed bytes per compressed byte beyond which, once past `expansion_free_mib`, the object fails (1 to 1000000).
    pub expansion_ratio: u32,
    /// Decompressed MiB that are never held against the ratio (0 to 1048576): small files of zeros are not bombs.
    pub expansion_free_mib: u32,
}

/// `[http]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address of `/healthz`, `/readyz` and `/metrics`; empty turns them off. When the port is taken a free one is
    /// used and logged, so several workers can share one configuration on one machine.
    pub listen: String,
}

/// `[[dataset]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// Name in the ledger, logs and metrics. Renaming a dataset makes its objects unknown, so they would load again.
    pub name: String,
    /// Which objects it takes: a glob over `s3://bucket/key`, or over the absolute path of local files.
    ///
    /// `*` stays within a path segment, `**` does not, `?` is one character; `{name}` captures one or more
    /// characters of a segment as a field of every row. After `=` (Hive's `dt={dt}`) the value is percent-decoded,
    /// and `__HIVE_DEFAULT_PARTITION__` is NULL. Needed unless there is `after`.
    #[serde(rename = "match")]
    pub pattern: Option<String>,
    /// Dataset or datasets to follow: every object one of them imports is then loaded by this dataset too. Replaces
    /// `match`; their captures become fields here as well.
    #[serde(default, deserialize_with = "steps::one_or_several")]
    pub after: Vec<String>,
    /// Names of the captures of the datasets that it follows, for each that has a `match`.
    #[serde(skip)]
    pub followed_captures: Vec<Vec<String>>,
    /// Name of the queue its messages come from; the first when absent.
    pub queue: Option<String>,
    /// How the objects are read; `auto` looks at the content, then at the name.
    #[serde(default)]
    pub format: Format,
    /// How the objects are packed; `auto` looks at the content.
    #[serde(default)]
    pub compression: Compression,
    /// Where in a JSON document the rows are: a JSON Pointer to an array, like `/Records`. Each document of a file has one;
    /// null instead of an array is no row, and a document without it fails the object.
    #[serde(default, deserialize_with = "files::pointer")]
    pub rows: Option<decode::Pointer>,
    /// Field → where in each row its value is, a JSON Pointer to a nested member: `{ user_name = "/user/name" }`. A field of
    /// that name in the row itself is read only where that place has nothing.
    #[serde(default, deserialize_with = "files::by_name")]
    pub fields: BTreeMap<String, decode::Pointer>,
    /// The target, `schema.table`, for `append` also a view that Postgres inserts through. It is the schema: fields go to
    /// columns by name, in the column's type.
    pub table: String,
    /// How a new version's rows meet those already there.
    #[serde(default)]
    pub mode: Mode,
    /// Columns that identify a row; needed for `mode = "upsert"`, with a unique index on exactly them that is valid,
    /// not partial and not deferrable.
    #[serde(default)]
    pub key: Vec<String>,
    /// With `mode = "upsert"`: a column such as `updated_at`; a row is only replaced by one that is not older.
    pub newer: Option<String>,
    /// Field → column, where the names differ. For a nested member of JSON see `fields`.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    /// Column → how its values are written, where the column's type does not say: `epoch_s`, `epoch_ms`, `epoch_us` or
    /// `epoch_ns` for a count since 1970, else a format like `%d.%m.%Y` or `%d/%b/%Y:%H:%M:%S %z` in the words of
    /// [strftime](https://docs.rs/chrono/latest/chrono/format/strftime/). It has to say a whole date, time of day or both.
    #[serde(default, deserialize_with = "files::by_name")]
    pub types: BTreeMap<String, decode::Notation>,
    /// What to do with a field no column takes.
    #[serde(default)]
    pub on_new_field: OnNewField,
    /// The jsonb column that collects such fields with `on_new_field = "extras"`.
    pub extras_column: Option<String>,
    /// Bad rows an object may have and still load, as a number or a percentage of its rows (one row is always
    /// allowed with a percentage). Beyond it the object fails as a whole; 0: any bad row fails it.
    #[serde(default)]
    pub max_rejects: MaxRejects,
    /// What the removal of an object does to its rows.
    #[serde(default)]
    pub on_delete: OnDelete,
    /// What becomes of an object in S3 once it is loaded.
    #[serde(default)]
    pub after_load: AfterLoad,
    /// The tag of `after_load = "tag"`.
    pub tag: Option<Tag>,
    /// How rows get into the table: `auto`, `staged` or `direct`. Only useful for measurements.
    #[serde(default)]
    pub technique: Technique,
    /// SQL after the rows, called `input`: `LEFT JOIN public.site ON site.site_id = input.site_id`.
    pub join: Option<String>,
    /// SQL condition of the rows that load, over `input` and what is joined; the others are `rows_filtered`.
    #[serde(rename = "where")]
    pub condition: Option<String>,
    /// Column → SQL expression over `input` and what is joined. A column without one takes the field of its name.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// What `[defaults.set]` adds.
    #[serde(skip)]
    pub default_set: BTreeMap<String, String>,
    /// Field → the Postgres type it is read as, in the transform. Else that of the column of its name, else text.
    #[serde(default)]
    pub input: BTreeMap<String, String>,
    /// With `mode = "upsert"`: columns that are written by an insert, and never by an update.
    #[serde(default)]
    pub keep: Vec<String>,
    /// How long the transform of one object may take, like `60s`; at most 12 h.
    #[serde(default = "transform::default_timeout")]
    pub timeout: Seconds,
    /// Role that the transform and the look for awaited keys run as, with its rights alone; the importer's own role must
    /// be a member of it. Else they run as the importer.
    pub role: Option<String>,
    /// Keys of other tables that rows name; an object whose rows name one that is not there yet is loaded all the same,
    /// and again when it has arrived.
    #[serde(default, deserialize_with = "steps::one_or_several")]
    pub awaits: Vec<Awaits>,
    /// A row may become several, by the `join` or by the `command`; without it a second row of one fails the object.
    #[serde(default)]
    pub fan_out: bool,
    /// A program, with its arguments, that rows pass through before they are matched with columns.
    #[serde(default)]
    pub command: Vec<String>,
    /// Which version of the program this is, for people.
    pub version: Option<String>,
    /// What the program reads on standard input.
    #[serde(default)]
    pub input_format: InputFormat,
    /// Variables of the importer's environment that the program gets, beside `PATH`, `HOME`, `LANG` and what it is told
    /// of the object (`PENSTOCK_DATASET`, `_BUCKET`, `_KEY`, `_VERSION_ID`).
    #[serde(default)]
    pub command_env: Vec<String>,
    /// How long the program may neither read nor write a byte, like `60s`; at most 12 h. Then it is killed, and the
    /// object fails.
    #[serde(default = "transform::default_timeout")]
    pub idle_timeout: Seconds,
    /// Rows to try, and what must come of them; `importer test` runs it.
    #[serde(default, rename = "test")]
    pub tests: Vec<Test>,
    /// The CSV dialect.
    #[serde(default)]
    pub csv: Csv,
    /// How lines of text are taken apart.
    #[serde(default)]
    pub text: Text,
}

/// `input_format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputFormat {
    /// A JSON object per line for each row, with its number as `penstock_row`; each has to be answered.
    #[default]
    Rows,
    /// The object's bytes, decompressed unless `compression = "none"`; each line of output is a row.
    Bytes,
}

/// `mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, strum::Display)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Insert, or update the row with the same key.
    #[default]
    Upsert,
    /// The rows belong to the object: a new version takes away the old one's. Needs a column `penstock_object bigint`.
    Replace,
    /// Each version once, added to what is there.
    Append,
}

/// `on_delete`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDelete {
    /// The rows stay.
    #[default]
    Keep,
    /// The object's rows are taken away. Needs a column `penstock_object bigint`.
    Remove,
}

/// `technique` of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Technique {
    /// Direct COPY where the keys are probably new, staging otherwise.
    #[default]
    Auto,
    /// Always through staging.
    Staged,
    /// Direct COPY first, whatever is known; staging when it is refused.
    Direct,
}

/// What a command cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// A database URL.
    pub database: bool,
    /// A queue URL.
    pub queue: bool,
    /// At least one `[[dataset]]`.
    pub datasets: bool,
}

impl Config {
    /// Reads and checks a configuration. `file_name` is what errors call it; `environment` looks up a variable.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem found.
    pub fn parse(
        text: &str,
        file_name: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut source = Source::new(text, file_name);
        let mut config: Option<Self> = source.read();
        if let Some(config) = &mut config {
            config.database.override_with(&environment);
            config.queue_url = variable(&environment, "QUEUE_URL");
            if config.queues.is_empty() {
                config.queues.push(Queue::default());
            }
            config.serve_queue(0);
            for dataset in &mut config.datasets {
                dataset.default_set.clone_from(&config.defaults.set);
            }
            check::check(config, &mut source, &|name| variable(&environment, name).is_some());
        }
        let mut config = source.finish(config)?;
        steps::note_captures(&mut config.datasets);
        Ok(config)
    }

    /// Makes the queue of this name the one that is served.
    ///
    /// # Errors
    /// [`ConfigError`] when there is none of that name.
    pub fn serve(&mut self, name: &str) -> Result<(), ConfigError> {
        let Some(place) = self.queues.iter().position(|queue| queue.name == name) else {
            let names: Vec<&str> = self.queues.iter().map(|queue| queue.name.as_str()).collect();
            let problem = format!("--queue {name}: the configuration has no such queue; it has {}", names.join(", "));
            return Err(ConfigError::of(problem));
        };
        self.serve_queue(place);
        Ok(())
    }

    fn serve_queue(&mut self, place: usize) {
        self.queue = self.queues[place].clone();
        self.queue.url = self.queue_url.clone().or(self.queue.url.take());
    }

    /// Returns a dataset's queue.
    #[must_use]
    pub fn queue_of(&self, dataset: &Dataset) -> &Queue {
        let name = dataset.queue.as_deref().or(self.queues.first().map(|queue| queue.name.as_str()));
        // The one that is served may have its URL from the environment.
        let others = self.queues.iter().find(|queue| Some(queue.name.as_str()) == name);
        if name == Some(&self.queue.name) { &self.queue } else { others.unwrap_or(&self.queue) }
    }

    /// Returns the queue of the dataset of this name.
    #[must_use]
    pub fn queue_of_name(&self, dataset: &str) -> &Queue {
        self.dataset(dataset).map_or(&self.queue, |dataset| self.queue_of(dataset))
    }

    /// Returns whether a dataset's messages come from the queue that is served.
    #[must_use]
    pub fn serves(&self, dataset: &Dataset) -> bool {
        self.queue_of(dataset).name == self.queue.name
    }

    /// Checks that what a command needs is there.
    ///
    /// # Errors
    /// [`ConfigError`] naming each missing setting and where it may be given.
    pub fn require(&self, needs: Needs, file_name: &str) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        if needs.database && !self.database.is_set() {
            problems.push(format!("{file_name}: database.url is missing (or set DATABASE_URL or DATABASE_URL_FILE)"));
        }
        if needs.queue && self.queue.url.is_none() {
            problems.push(format!("{file_name}: queue.url is missing (or set QUEUE_URL)"));
        }
        if needs.datasets && self.datasets.is_empty() {
            problems.push(format!("{file_name}: there is no [[dataset]], so no object would be loaded"));
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }

    /// Returns the dataset with this name.
    #[must_use]
    pub fn dataset(&self, name: &str) -> Option<&Dataset> {
        self.datasets.iter().find(|dataset| dataset.name == name)
    }
}

impl Dataset {
    /// Returns the tag that its objects get once they are loaded.
    #[must_use]
    pub fn loaded_tag(&self) -> Option<Tag> {
        (self.after_load == AfterLoad::Tag).then(|| self.tag.clone().unwrap_or_default())
    }

    /// Returns how its objects are to be read. `buffer_bytes` is what one reader may use for itself.
    #[must_use]
    pub fn read_options(&self, limits: &Limits, buffer_bytes: usize) -> decode::ReadOptions {
        decode::ReadOptions {
            format: self.format,
            compression: self.compression,
            csv: self.csv.options(),
            text: self.text.options(),
            json: decode::JsonOptions { rows: self.rows.clone(), fields: self.fields.clone().into_iter().collect() },
            limits: limits.for_decoding(buffer_bytes),
        }
    }
}

impl Limits {
    /// Returns the bounds as the decoder wants them; `buffer_bytes` is what one reader may use for itself.
    #[must_use]
    pub fn for_decoding(&self, buffer_bytes: usize) -> decode::Limits {
        decode::Limits {
            row_bytes: self.row_mib as usize * MIB,
            depth: self.depth as usize,
            expansion_ratio: u64::from(self.expansion_ratio),
            expansion_free_bytes: u64::from(self.expansion_free_mib) * MIB as u64,
            buffer_bytes,
            budget: decode::budget::Budget::default(),
        }
    }
}

impl Worker {
    /// Returns the memory for rows in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_mib as usize * MIB
    }
}

const MIB: usize = 1 << 20;

impl Default for Queue {
    fn default() -> Self {
        Self {
            name: "default".into(),
            url: None,
            wait_secs: 20,
            visibility_timeout_secs: 60,
            dead_letter_url: None,
            role_arn: None,
            external_id: None,
        }
    }
}

impl Default for Worker {
    fn default() -> Self {
        let skip = ["**/_SUCCESS", "**/_temporary/**", "**/.*", "**/*.crc", "**/*_$folder$", "**/"];
        Self {
            concurrency: 4,
            memory_mib: 128,
            drain_timeout_secs: 110,
            brake_secs: 60,
            unrouted: Unrouted::default(),
            skip: skip.map(String::from).to_vec(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { row_mib: 16, depth: 64, expansion_ratio: 200, expansion_free_mib: 1024 }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9464".into() }
    }
}

#[cfg(test)]
mod tests;
