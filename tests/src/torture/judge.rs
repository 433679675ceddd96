//! The verdict: what tables, ledger and queues hold at the end against what they must hold.
//!
//! Which versions were read before they were overwritten or deleted depends on timing, so the model
//! allows what the promises allow, and no more. The ledger says which version stands for each key;
//! [`allowed`] says which may; and the tables must hold precisely the rows of those that do.

mod letters;
mod posts;

use super::{
    content::{ALL, Content, Dataset, Spoiled},
    feed::Fed,
    ledger::{Entry, Identities, Ledger, key_numbers},
    model::{self, Account, Sites, Wanted},
    plan::{ActKind, Plan},
    settle::Settled,
    stand::Stand,
};
use anyhow::{Context as _, Result};
use posts::Lookups;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Violations told in full; more are only counted.
const MAX_TOLD: usize = 12;

/// What a judge found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Rows in the tables.
    pub rows: usize,
    /// Versions imported.
    pub imported: usize,
    /// Rows in `penstock.rejects`.
    pub rejects: usize,
    /// Messages in the dead-letter queue.
    pub dead_letters: usize,
    /// What is wrong; empty when all promises were kept.
    pub violations: Vec<String>,
}

impl Verdict {
    /// Returns the violations as text.
    #[must_use]
    pub fn complaint(&self) -> String {
        let told = self.violations.iter().take(MAX_TOLD).map(String::as_str).collect::<Vec<_>>().join("\n");
        let more = self.violations.len().saturating_sub(MAX_TOLD);
        if more > 0 { format!("{told}\n… and {more} more") } else { told }
    }
}

/// Judges a run whose workers have stopped.
///
/// # Errors
/// When Postgres or the emulator cannot be asked.
pub async fn judge(plan: &Plan, fed: &Fed, settled: Option<&Settled>, stand: &Stand) -> Result<Verdict> {
    let ledger = Ledger::read(&stand.database).await?;
    let identities = Identities::new(plan, &fed.done);
    let lookups = Lookups::new(plan, &ledger, &identities);
    let mut judge = Judge { plan, ledger, identities, lookups, verdict: Verdict::default() };
    let n_waiting = stand.n_waiting().await?;
    if n_waiting > 0 {
        judge.complain(None, format!("the queues are not empty: {n_waiting} messages"));
    }
    judge.judge_entries();
    judge.judge_followed();
    let mut datasets: Vec<Dataset> = ALL.into_iter().filter(|dataset| plan.datasets.contains(dataset)).collect();
    if settled.is_some() {
        datasets.push(Dataset::Fan);
    }
    for dataset in datasets {
        judge.judge_heads(dataset);
        let rows = found(stand, dataset).await?;
        judge.verdict.rows += rows.len();
        match dataset {
            Dataset::Post => judge.judge_posts("in the end", &rows),
            _ if dataset.is_keyed() => judge.judge_keyed(dataset, &rows),
            _ => judge.judge_lineage(dataset, &rows),
        }
    }
    if let Some(settled) = settled {
        judge.judge_settled(settled);
    }
    judge.judge_dead_letters(fed, stand).await?;
    Ok(judge.verdict)
}

/// A row as its table has it.
#[derive(Debug, Clone)]
pub struct Found {
    id: i64,
    version: i64,
    value: String,
    amount: i32,
    extra: Option<String>,
    penstock_object: i64,
}
service::from_row!(Found { id, version, value, amount, extra, penstock_object });

impl Found {
    fn row(&self) -> Wanted {
        let Self { id, version, amount, .. } = *self;
        Wanted { id, value: self.value.clone(), extra: self.extra.clone(), version, amount }
    }
}

/// Returns the rows of a dataset's table.
///
/// # Errors
/// When Postgres cannot be asked.
pub(super) async fn found(stand: &Stand, dataset: Dataset) -> Result<Vec<Found>> {
    let extra = match dataset {
        Dataset::Post | Dataset::Card | Dataset::Fan => "extra",
        _ => "NULL::text AS extra",
    };
    let mut connection = stand.database.connect().await?;
    let query = format!("SELECT id, version, value, amount, {extra}, penstock_object FROM public.{}", dataset.name());
    sqlx::query_as(&query).fetch_all(&mut connection).await.with_context(|| query)
}

struct Judge<'a> {
    plan: &'a Plan,
    ledger: Ledger,
    identities: Identities,
    lookups: Lookups<'a>,
    verdict: Verdict,
}

impl Judge<'_> {
    fn complain(&mut self, key: Option<usize>, what: String) {
        let about = key.map(|key| {
            let name = &self.plan.keys[key].name;
            let acts: Vec<String> = self.plan.acts_of(key).map(|act| self.tell(act)).collect();
            format!("\n    acts: {}\n{}", acts.join(", "), self.ledger.explain(name))
        });
        let name = key.map(|key| format!("{}: ", self.plan.keys[key].name)).unwrap_or_default();
        self.verdict.violations.push(format!("- {name}{what}{}", about.unwrap_or_default()));
    }

    fn tell(&self, act: usize) -> String {
        match &self.plan.acts[act].kind {
            ActKind::Put(content) => match content.spoiled {
                None => format!("{act} put of {} rows", content.rows.len()),
                Some(spoiled) => format!("{act} put {spoiled:?}"),
            },
            ActKind::Again(earlier) => format!("{act} put of {earlier} again"),
            ActKind::Delete => format!("{act} delete"),
        }
    }

    /// Every version in a stated outcome that fits its content, its counts and rejects as the content has them.
    fn judge_entries(&mut self) {
        let keys: BTreeMap<String, usize> =
            key_numbers(self.plan).into_iter().map(|(name, number)| (name.to_owned(), number)).collect();
        let entries: Vec<Entry> = self.ledger.entries().cloned().collect();
        let mut seen = HashSet::new();
        for entry in &entries {
            let key = keys.get(&entry.key).copied();
            if matches!(entry.state.as_str(), "importing" | "retrying") {
                self.complain(key, format!("entry {} never ended: {}", entry.id, entry.state));
            }
            self.verdict.imported += usize::from(entry.imported);
            self.verdict.rejects += entry.rejects.len();
            let Some(dataset) = Dataset::named(&entry.dataset) else { continue };
            let act = key.and_then(|key| self.identities.act_of(key, entry));
            if let (Some(key), Some(act)) = (key, act) {
                if self.plan.keys[key].dataset == dataset {
                    seen.insert(act);
                }
                if let Err(what) = self.fits(dataset, entry, act) {
                    self.complain(Some(key), format!("entry {} {what}", entry.id));
                }
            } else if !entry.is_delete && entry.state != "gone" && entry.state != "skipped" {
                self.complain(key, format!("entry {} is {} and about nothing that was put", entry.id, entry.state));
            }
        }
        for act in 0..self.plan.acts.len() {
            if self.plan.content(act).is_some() && !seen.contains(&self.identities.canonical(self.plan, act)) {
                self.complain(Some(self.plan.acts[act].key), format!("the ledger knows nothing of act {act}"));
            }
        }
    }

    /// What was imported by a dataset that is followed was told to the one that follows it.
    fn judge_followed(&mut self) {
        if !self.plan.has_steps() {
            return;
        }
        let mut missing = Vec::new();
        for (number, key) in self.plan.keys.iter().enumerate().filter(|(_, key)| key.dataset.is_followed()) {
            let acts = |dataset, imported: bool| {
                let entries = self.ledger.of_key(dataset, &key.name).filter(move |entry| entry.imported || !imported);
                entries.filter_map(|entry| self.identities.act_of(number, entry)).collect::<BTreeSet<_>>()
            };
            let told = acts(Dataset::Fan, false);
            missing.extend(acts(key.dataset, true).difference(&told).map(|act| (number, *act)));
        }
        for (key, act) in missing {
            self.complain(
                Some(key),
                format!("act {act} was imported, and {} knows nothing of it", Dataset::Fan.name()),
            );
        }
    }

    fn fits(&self, dataset: Dataset, entry: &Entry, act: usize) -> Result<(), String> {
        let content = self.plan.content(act).expect("identities are of puts");
        let expected: &[&str] = match content.spoiled {
            None => &["imported", "superseded", "gone"],
            Some(Spoiled::Empty) => &["skipped", "superseded", "gone"],
            Some(Spoiled::Corrupt | Spoiled::TooManyRejects | Spoiled::Crash) => &["failed", "superseded", "gone"],
        };
        if !expected.contains(&entry.state.as_str()) {
            return Err(format!("is {} ({:?}), one of {expected:?} was expected", entry.state, entry.reason));
        }
        if entry.state == "failed" && !entry.forwarded {
            return Err("failed and was not forwarded".into());
        }
        if !entry.imported {
            // Rows that were removed leave their counts and rejects behind, for people.
            let explained = entry.rejects.is_empty() || entry.rows_read.is_some();
            return if explained { Ok(()) } else { Err("has rejects and was never imported".into()) };
        }
        self.counts_fit(dataset, entry, content)
    }

    fn counts_fit(&self, dataset: Dataset, entry: &Entry, content: &Content) -> Result<(), String> {
        let number = |count: Option<i64>| usize::try_from(count.unwrap_or(-1)).unwrap_or(usize::MAX);
        let filtered = number(entry.rows_filtered);
        let account = match dataset {
            // How many rows lookups hid in the last run depends on when that was, but for what was run by time.
            Dataset::Post if !self.is_exact(entry) => {
                let account = model::account(dataset, content, &Sites::new());
                Account { filtered: filtered.clamp(account.filtered, self.lookups.most_filtered(content)), ..account }
            }
            _ => model::account(dataset, content, &self.lookups.now),
        };
        let rejected = account.rejects.len();
        let counts = (number(entry.rows_read), number(entry.rows_added), filtered, number(entry.rows_rejected));
        if counts != (account.read, account.added, account.filtered, rejected) {
            return Err(format!("counts {counts:?} (read, added, filtered, rejected) instead of {account:?}"));
        }
        if entry.rejects != account.rejects {
            return Err(format!("rejects rows {:?} instead of {:?}", entry.rejects, account.rejects));
        }
        let made = account.made();
        let (written, merged) = (number(entry.rows_written), number(entry.rows_merged));
        let right = match dataset {
            Dataset::Newest => written <= model::by_id(dataset, content).len(),
            Dataset::Own | Dataset::Site | Dataset::Card => written == model::by_id(dataset, content).len(),
            Dataset::Whole | Dataset::Log | Dataset::Fan => written == made,
            // What a run finds as it is, is merged.
            Dataset::Post => written <= made,
        };
        if !right || written.saturating_add(merged) != made {
            return Err(format!("says {written} rows written and {merged} merged of {made}"));
        }
        Ok(())
    }

    /// For every key a version stands that may, or none where that may be.
    fn judge_heads(&mut self, dataset: Dataset) {
        for key in 0..self.plan.keys.len() {
            if !self.is_of(dataset, key) {
                continue;
            }
            let stands = match self.ledger.standing(dataset, &self.plan.keys[key].name) {
                None => Stands::Nothing,
                Some(entry) if entry.is_delete => Stands::Removal,
                Some(entry) => match self.identities.act_of(key, entry) {
                    Some(act) => Stands::Put(act),
                    None => Stands::Nothing,
                },
            };
            let allowed = self.allowed(dataset, key);
            if !allowed.contains(&stands) {
                self.complain(Some(key), format!("{stands:?} stands in {}, allowed are {allowed:?}", dataset.name()));
            }
        }
    }

    /// Returns whether a dataset takes the objects of a key.
    fn is_of(&self, dataset: Dataset, key: usize) -> bool {
        let own = self.plan.keys[key].dataset;
        own == dataset || dataset == Dataset::Fan && own.is_followed()
    }

    /// Returns the content that stands for a key, and which act put it.
    fn standing(&self, dataset: Dataset, key: usize) -> Option<(usize, &Content)> {
        let act = self.identities.act_of(key, self.ledger.standing(dataset, &self.plan.keys[key].name)?)?;
        Some((act, self.plan.content(act)?))
    }

    /// Returns what may stand for a key in the end.
    fn allowed(&self, dataset: Dataset, key: usize) -> BTreeSet<Stands> {
        let acts: Vec<usize> = self.plan.acts_of(key).collect();
        let put = |act: usize| Stands::Put(self.identities.canonical(self.plan, act));
        let good: Vec<usize> = acts
            .iter()
            .copied()
            .filter(|act| self.plan.content(*act).is_some_and(|content| content.spoiled.is_none()))
            .collect();
        let removes = dataset.removes();
        let deleted = acts.iter().any(|act| self.plan.content(*act).is_none());
        let last = acts[acts.len() - 1];
        match (self.plan.content(last), good.last()) {
            (Some(content), _) if content.spoiled.is_none() => BTreeSet::from([put(last)]),
            (None, _) if removes => BTreeSet::from([Stands::Removal]),
            // Where versions are kept the newest good one can be read whatever came after it.
            (_, Some(newest)) if self.plan.versioned && !(removes && deleted) => BTreeSet::from([put(*newest)]),
            // The newest is not to be had, so it depends on timing which of the others was read in time.
            _ => {
                let mut allowed: BTreeSet<Stands> = good.into_iter().map(put).collect();
                if removes && deleted {
                    allowed.insert(Stands::Removal);
                }
                if !self.plan.versioned || allowed.is_empty() || removes {
                    allowed.insert(Stands::Nothing);
                }
                allowed
            }
        }
    }

    /// Upserts: for each row key the row of the standing versions that wins, and no other.
    fn judge_keyed(&mut self, dataset: Dataset, found: &[Found]) {
        let mut expected: BTreeMap<i64, (Wanted, usize)> = BTreeMap::new();
        for number in (0..self.plan.keys.len()).filter(|number| self.is_of(dataset, *number)) {
            let Some((_, content)) = self.standing(dataset, number) else { continue };
            for (id, row) in model::by_id(dataset, content) {
                if expected.get(&id).is_none_or(|(known, _)| known.version < row.version) {
                    expected.insert(id, (row, number));
                }
            }
        }
        let mut complaints = Vec::new();
        for found in found {
            match expected.remove(&found.id) {
                Some((row, _)) if found.row() == row => {}
                Some((row, key)) => {
                    complaints.push((Some(key), format!("{} has {found:?} instead of {row:?}", dataset.name())))
                }
                None => complaints
                    .push((None, format!("{} has {found:?}, which belongs to nothing that stands", dataset.name()))),
            }
        }
        complaints
            .extend(expected.into_values().map(|(row, key)| (Some(key), format!("{} lacks {row:?}", dataset.name()))));
        for (key, what) in complaints {
            self.complain(key, what);
        }
    }

    /// Replace and append: the rows of the versions that stand (replace) or were imported (append), each once.
    fn judge_lineage(&mut self, dataset: Dataset, found: &[Found]) {
        let mut by_object: BTreeMap<i64, Vec<Wanted>> = BTreeMap::new();
        for found in found {
            by_object.entry(found.penstock_object).or_default().push(found.row());
        }
        let mut complaints = Vec::new();
        for number in (0..self.plan.keys.len()).filter(|number| self.is_of(dataset, *number)) {
            for entry in self.ledger.of_key(dataset, &self.plan.keys[number].name) {
                let counts = if dataset == Dataset::Log { entry.imported } else { entry.stands && !entry.is_delete };
                let content =
                    self.identities.act_of(number, entry).filter(|_| counts).and_then(|act| self.plan.content(act));
                let mut expected =
                    content.map(|content| model::rows(dataset, content, &Sites::new())).unwrap_or_default();
                let mut rows = by_object.remove(&entry.id).unwrap_or_default();
                expected.sort();
                rows.sort();
                if rows != expected {
                    let what = format!(
                        "entry {} has {} rows in {}, not {}",
                        entry.id,
                        rows.len(),
                        dataset.name(),
                        expected.len()
                    );
                    complaints.push((Some(number), what));
                }
            }
        }
        for (object, rows) in by_object {
            complaints
                .push((None, format!("{} has {} rows of the unknown object {object}", dataset.name(), rows.len())));
        }
        for (key, what) in complaints {
            self.complain(key, what);
        }
    }

    fn fails(&self, dataset: Dataset, act: usize) -> bool {
        match self.plan.content(act).and_then(|content| content.spoiled) {
            Some(Spoiled::Corrupt | Spoiled::TooManyRejects) => true,
            Some(Spoiled::Crash) => dataset == Dataset::Card,
            Some(Spoiled::Empty) | None => false,
        }
    }
}

/// What stands for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stands {
    Nothing,
    Removal,
    Put(usize),
}
