//! What must hold between settings, beyond their types.

use super::{
    AfterLoad, Awaits, Config, Dataset, InputFormat, Mode, access::check_buckets, files::check_places,
    fragment::Fragment,
};
use crate::pattern::Pattern;
use decode::OnNewField;
use service::{aws::role::Role, config::Source, due::Place, postgres::connect_options, words::chain};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    ops::RangeInclusive,
};

/// Accepted values of `worker.concurrency` and `--concurrency`.
pub const CONCURRENCY: RangeInclusive<u32> = 1..=256;

/// SQS's own maximum for a visibility timeout; a worker has no reason to drain longer either.
const MAX_VISIBILITY_SECS: u32 = 43_200;

/// Longest dataset name in bytes: it is part of a unique index, beside a key of up to 1024.
const MAX_NAME_BYTES: usize = 200;

/// Checks a configuration that has been read from a file; `is_overridden` tells which variables replaced a setting.
pub fn check(config: &Config, source: &mut Source<'_>, is_overridden: &dyn Fn(&str) -> bool) {
    let mut problems = Problems { source, is_overridden };
    check_ranges(config, &mut problems);
    check_urls(config, &mut problems);
    if config.limits.row_mib > config.worker.memory_mib && problems.source.is_readable("worker.memory_mib") {
        problems.add("limits.row_mib", "must not exceed worker.memory_mib");
    }
    for (index, glob) in config.worker.skip.iter().enumerate() {
        if let Err(error) = Pattern::for_keys(glob) {
            problems.source.add(&format!("worker.skip.{index}"), format!("worker.skip: {error}"));
        }
    }
    check_queues(config, &mut problems);
    check_buckets(&config.buckets, |place, setting, problem| {
        problems.source.add(&format!("bucket.{place}.{setting}"), format!("bucket.{setting}: {problem}"));
    });
    for (column, expression) in &config.defaults.set {
        if let Err(problem) = Fragment::expression(expression) {
            problems.source.add(&format!("defaults.set.{column}"), format!("defaults.set: {column}: {problem}"));
        }
    }
    let mut names = BTreeSet::new();
    for (index, dataset) in config.datasets.iter().enumerate() {
        check_dataset(index, dataset, &mut names, &mut problems);
        check_step(index, config, dataset, &mut problems);
    }
    check_notify(config, &mut problems);
}

fn check_ranges(config: &Config, problems: &mut Problems<'_, '_>) {
    for (value, field, range) in [
        (config.worker.concurrency, "worker.concurrency", CONCURRENCY),
        (config.worker.memory_mib, "worker.memory_mib", 16..=1 << 20),
        (config.worker.drain_timeout_secs, "worker.drain_timeout_secs", 0..=MAX_VISIBILITY_SECS),
        (config.worker.brake_secs, "worker.brake_secs", 0..=3600),
        (config.limits.row_mib, "limits.row_mib", 1..=512),
        (config.limits.depth, "limits.depth", 1..=1000),
        (config.limits.expansion_ratio, "limits.expansion_ratio", 1..=1_000_000),
        (config.limits.expansion_free_mib, "limits.expansion_free_mib", 0..=1 << 20),
    ] {
        if !range.contains(&value) {
            problems.add(field, format!("{value} is not between {} and {}", range.start(), range.end()));
        }
    }
}

fn check_urls(config: &Config, problems: &mut Problems<'_, '_>) {
    if let Some(url) = &config.database.url
        && let Err(error) = connect_options(url.expose())
    {
        problems.add("database.url", chain(&error));
    }
    if config.queue.url != config.queues[0].url
        && let Some(problem) = config.queue.url.as_deref().and_then(queue_url_problem)
    {
        problems.add("queue.url", problem);
    }
    let listen = &config.http.listen;
    let has_port = listen.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !listen.is_empty() && !has_port {
        problems.add("http.listen", "must be host:port, like 127.0.0.1:9464, or empty to turn it off");
    }
}

/// Returns what is wrong with a queue's URL.
fn queue_url_problem(url: &str) -> Option<&'static str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if rest.is_none_or(|rest| rest.split_once('/').is_none_or(|(host, path)| host.is_empty() || path.is_empty())) {
        return Some("must be the queue's URL, like https://sqs.eu-west-1.amazonaws.com/123456789012/imports");
    }
    url.ends_with(".fifo").then_some("FIFO queues are refused; use a standard queue")
}

fn check_queues(config: &Config, problems: &mut Problems<'_, '_>) {
    let mut names = BTreeSet::new();
    for (index, queue) in config.queues.iter().enumerate() {
        let at = if problems.source.is_list("queue") { format!("queue.{index}") } else { "queue".to_owned() };
        let mut add = |field: &str, problem: String| {
            problems.source.add(&format!("{at}.{field}"), format!("queue.{field}: {problem}"));
        };
        for (field, value, min, max) in [
            ("wait_secs", queue.wait_secs, 0, 20),
            ("visibility_timeout_secs", queue.visibility_timeout_secs, 2, MAX_VISIBILITY_SECS),
        ] {
            if !(min..=max).contains(&value) {
                add(field, format!("{value} is not between {min} and {max}"));
            }
        }
        // The environment's URL takes the place of the first one's.
        let url = queue.url.as_deref().filter(|_| index > 0 || config.queue.url == queue.url);
        for (field, url) in [("url", url), ("dead_letter_url", queue.dead_letter_url.as_deref())] {
            if let Some(problem) = url.and_then(queue_url_problem) {
                add(field, problem.into());
            }
        }
        if let Err((setting, problem)) = Role::of(queue.role_arn.as_deref(), queue.external_id.as_deref()) {
            add(setting, problem.into());
        }
        if !is_name(&queue.name) {
            add("name", format!("must be 1 to {MAX_NAME_BYTES} bytes without control characters"));
        }
        if !names.insert(&queue.name) {
            add("name", format!("{:?} is the name of another queue", queue.name));
        }
    }
}

/// Checks where a dataset's objects come from.
fn check_step(index: usize, config: &Config, dataset: &Dataset, problems: &mut Problems<'_, '_>) {
    let name = &dataset.name;
    let is_readable = |field: &str| problems.source.is_readable(&format!("dataset.{index}.{field}"));
    let has_source = is_readable("match") && is_readable("after");
    let mut add = |field: &str, problem: String| {
        problems.source.add(&format!("dataset.{index}.{field}"), format!("dataset {name:?}: {field}: {problem}"));
    };
    match (&dataset.pattern, dataset.after.is_empty()) {
        (None, true) if has_source => {
            add("match", "is missing: which objects it takes (or after: which datasets it follows)".into())
        }
        (Some(_), false) => add("after", "excludes match: it takes the objects of the datasets it follows".into()),
        _ => {}
    }
    if let Some(queue) = &dataset.queue
        && !config.queues.iter().any(|other| other.name == *queue)
    {
        add("queue", format!("there is no [[queue]] named {queue:?}"));
    }
    let mut seen = BTreeSet::new();
    for before in &dataset.after {
        if config.dataset(before).is_none() {
            add("after", format!("there is no dataset {before:?}"));
        } else if !seen.insert(before) {
            add("after", format!("{before:?} is named twice"));
        }
    }
    if comes_after_itself(config, dataset) {
        add("after", "leads back to the dataset itself".into());
    }
}

fn comes_after_itself(config: &Config, dataset: &Dataset) -> bool {
    let mut before: Vec<&str> = dataset.after.iter().map(String::as_str).collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = before.pop() {
        if name == dataset.name {
            return true;
        }
        if seen.insert(name) {
            before.extend(config.dataset(name).into_iter().flat_map(|found| &found.after).map(String::as_str));
        }
    }
    false
}

fn check_notify(config: &Config, problems: &mut Problems<'_, '_>) {
    let mut names = BTreeSet::new();
    for (index, notify) in config.notify.iter().enumerate() {
        let name = &notify.name;
        let mut add = |field: &str, problem: String| {
            problems.source.add(&format!("notify.{index}.{field}"), format!("notify {name:?}: {field}: {problem}"));
        };
        if !is_name(name) || !names.insert(name) {
            add("name", format!("must be 1 to {MAX_NAME_BYTES} bytes without control characters, and no other's"));
        }
        if config.dataset(name).is_some() {
            add("name", "is a dataset's name".into());
        }
        if Place::of(&notify.to).is_none() {
            add("to", "must be the ARN of a topic or an event bus, or a queue's URL".into());
        }
        if notify.on.is_empty() {
            add("on", "names no event".into());
        }
        for dataset in notify.datasets.iter().flatten() {
            if config.dataset(dataset).is_none() {
                add("datasets", format!("there is no dataset {dataset:?}"));
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
}

fn check_dataset(index: usize, dataset: &Dataset, names: &mut BTreeSet<String>, problems: &mut Problems<'_, '_>) {
    let name = &dataset.name;
    let has_mode = problems.source.is_readable(&format!("dataset.{index}.mode"));
    let mut add = |field: &str, problem: String| {
        problems.source.add(&format!("dataset.{index}.{field}"), format!("dataset {name:?}: {field}: {problem}"));
    };
    if !is_name(name) {
        add("name", format!("must be 1 to {MAX_NAME_BYTES} bytes without control characters"));
    }
    if !names.insert(name.clone()) {
        add("name", "is used by another dataset".into());
    }
    if let Some(Err(error)) = dataset.pattern.as_deref().map(Pattern::for_addresses) {
        add("match", error.to_string());
    }
    if !is_identifier(&dataset.table) {
        add("table", "must be a table, like public.events".into());
    }
    if has_mode && dataset.mode == Mode::Upsert && dataset.key.is_empty() {
        add("key", "is required for mode = \"upsert\": the columns that identify a row".into());
    }
    let mut key = BTreeSet::new();
    for column in &dataset.key {
        if !is_identifier(column) || !key.insert(column) {
            add("key", format!("{column:?} is empty or named twice"));
        }
    }
    for (field, column) in [("newer", &dataset.newer), ("extras_column", &dataset.extras_column)] {
        if column.as_deref().is_some_and(|column| !is_identifier(column)) {
            add(field, "must be a column's name".into());
        }
    }
    if has_mode && dataset.newer.is_some() && dataset.mode != Mode::Upsert {
        add("newer", "is for mode = \"upsert\": no other mode compares rows".into());
    }
    if dataset.on_new_field == OnNewField::Extras && dataset.extras_column.is_none() {
        add("extras_column", "is required for on_new_field = \"extras\": the jsonb column that takes them".into());
    }
    let mut fields_of: BTreeMap<&str, &str> = BTreeMap::new();
    for (field, column) in &dataset.rename {
        // A field of JSON may have an empty name.
        if !is_identifier(column) {
            add("rename", format!("{field:?} = {column:?}: must be a column's name"));
        } else if let Some(other) = fields_of.insert(column, field) {
            add("rename", format!("{other:?} and {field:?} both go to column {column:?}"));
        }
    }
    if let Some(tag) = &dataset.tag {
        if dataset.after_load != AfterLoad::Tag {
            add("tag", "is for after_load = \"tag\"".into());
        }
        tag.check(&mut add);
    }
    dataset.csv.check(&mut add);
    dataset.text.check(dataset.format, &mut add);
    check_places(dataset, &mut add);
    check_transform(dataset, &mut add);
    check_command(dataset, &mut add);
}

/// Checks the SQL of a dataset as far as its text alone tells.
fn check_transform(dataset: &Dataset, add: &mut impl FnMut(&str, String)) {
    let join = dataset.join.as_deref().map(Fragment::join);
    let condition = dataset.condition.as_deref().map(Fragment::expression);
    for (field, fragment) in [("join", join), ("where", condition)] {
        if let Some(Err(problem)) = fragment {
            add(field, problem.to_string());
        }
    }
    for (field, fragments) in [("set", &dataset.set), ("input", &dataset.input)] {
        for (name, text) in fragments {
            if !is_identifier(name) || name.starts_with("penstock_") {
                add(field, format!("{name:?} cannot be chosen as a name"));
            } else if let Err(problem) = Fragment::expression(text) {
                add(field, format!("{name}: {problem}"));
            }
        }
    }
    if let Some(column) = dataset.keep.iter().find(|column| dataset.key.contains(column) || !is_identifier(column)) {
        add("keep", format!("{column:?} is not a column outside the key"));
    }
    if !dataset.keep.is_empty() && dataset.mode != Mode::Upsert {
        add("keep", "is for mode = \"upsert\": no other mode updates rows".into());
    }
    if u32::try_from(dataset.timeout.0).is_ok_and(|secs| secs > MAX_VISIBILITY_SECS) {
        add("timeout", format!("is longer than {MAX_VISIBILITY_SECS} s"));
    }
    if let Some(role) = &dataset.role {
        if !is_identifier(role) {
            add("role", "must be a role's name".into());
        } else if !dataset.transforms() && dataset.default_set.is_empty() {
            add("role", "is for the SQL of a transform (join, where, set, input, awaits), and there is none".into());
        }
    }
    if dataset.transforms() && dataset.on_new_field == OnNewField::AddColumn {
        add("on_new_field", "\"add_column\" is not for rows that go through SQL: which field would be new?".into());
    }
    let mut awaited = BTreeSet::new();
    for awaits in &dataset.awaits {
        let Awaits { field, column, again, give_up } = awaits;
        if !is_identifier(field) || field.starts_with("penstock_") {
            add("awaits", format!("field {field:?} cannot be chosen as a name"));
        } else if awaits.place().is_none() || column.contains('\0') {
            add("awaits", format!("column {column:?} must be like public.site.site_id"));
        } else if !awaited.insert((field, column)) {
            add("awaits", format!("{field} is awaited in {column} twice"));
        } else if again.0 > give_up.0 {
            add("awaits", format!("{field}: again is later than give_up"));
        }
    }
    if let Some(test) = dataset.tests.iter().find(|test| test.input.is_empty()) {
        add("test", format!("{:?} has no row as input", test.name));
    }
    if dataset.fan_out && dataset.join.is_none() && dataset.command.is_empty() {
        add("fan_out", "needs a join or a command: nothing else makes several rows of one".into());
    }
}

fn check_command(dataset: &Dataset, add: &mut impl FnMut(&str, String)) {
    let Some(program) = dataset.command.first() else {
        let others = [
            ("version", dataset.version.is_some()),
            ("input_format", dataset.input_format != InputFormat::default()),
            ("command_env", !dataset.command_env.is_empty()),
        ];
        for (field, _) in others.into_iter().filter(|(_, is_set)| *is_set) {
            add(field, "is for a command, and there is none".into());
        }
        return;
    };
    if dataset.fan_out && dataset.join.is_some() {
        add("fan_out", "is for the join or for the command; have one of them make the rows".into());
    }
    if program.trim().is_empty() || dataset.command.iter().any(|argument| argument.contains('\0')) {
        add("command", "must be a program and its arguments".into());
    }
    if let Some(name) = dataset.command_env.iter().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        add("command_env", format!("{name:?} is not the name of a variable"));
    }
    if u32::try_from(dataset.idle_timeout.0).is_ok_and(|secs| secs > MAX_VISIBILITY_SECS) {
        add("idle_timeout", format!("is longer than {MAX_VISIBILITY_SECS} s"));
    }
    if dataset.on_new_field == OnNewField::AddColumn {
        add("on_new_field", "\"add_column\" is not for rows that a command makes".into());
    }
    if dataset.input_format == InputFormat::Rows && !dataset.csv.header {
        add("input_format", "\"rows\" needs fields with names, and csv.header is false; use \"bytes\"".into());
    }
}

fn is_identifier(name: &str) -> bool {
    !name.trim().is_empty() && !name.contains('\0')
}

/// Collects problems with their place.
struct Problems<'s, 't> {
    source: &'s mut Source<'t>,
    is_overridden: &'s dyn Fn(&str) -> bool,
}

impl Problems<'_, '_> {
    /// Adds a problem of a `table.field`.
    fn add(&mut self, field: &str, problem: impl Display) {
        let variable = match field {
            "database.url" => "DATABASE_URL",
            "queue.url" => "QUEUE_URL",
            _ => "",
        };
        if (self.is_overridden)(variable) {
            self.source.add_elsewhere(format!("{variable}: {problem}"));
        } else {
            self.source.add(field, format!("{field}: {problem}"));
        }
    }
}
