//! The verdict: what tables, ledger and queues hold at the end against what they must hold.
//!
//! Which versions were read before they were overwritten or deleted depends on timing, so the model
//! allows what the promises allow, and no more. The ledger says which version stands for each key;
//! [`allowed`] says which may; and the tables must hold precisely the rows of those that do.

use super::{
    content::{Dataset, Row, Spoiled},
    feed::Fed,
    ledger::{Entry, Identities, Ledger, is_of_dataset, key_numbers},
    plan::{ActKind, Message, Plan},
    stand::Stand,
};
use crate::aws::Depth;
use anyhow::{Context as _, Result};
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
pub async fn judge(plan: &Plan, fed: &Fed, stand: &Stand) -> Result<Verdict> {
    let ledger = Ledger::read(&stand.database).await?;
    let identities = Identities::new(plan, &fed.done);
    let mut judge = Judge { plan, ledger, identities, verdict: Verdict::default() };
    let depth = stand.pipeline.depth().await?;
    if depth != Depth::default() {
        judge.complain(None, format!("the queue is not empty: {depth:?}"));
    }
    judge.judge_entries();
    judge.judge_heads();
    for dataset in [Dataset::Newest, Dataset::Own, Dataset::Whole, Dataset::Log] {
        let rows = rows(stand, dataset).await?;
        judge.verdict.rows += rows.len();
        if dataset.is_keyed() { judge.judge_keyed(dataset, &rows) } else { judge.judge_lineage(dataset, &rows) }
    }
    judge.judge_dead_letters(fed, stand).await?;
    Ok(judge.verdict)
}

/// A row as its table has it.
#[derive(Debug)]
struct Found {
    id: i64,
    version: i64,
    value: String,
    amount: i32,
    penstock_object: i64,
}
service::from_row!(Found { id, version, value, amount, penstock_object });

impl Found {
    fn is(&self, row: &Row) -> bool {
        (self.id, self.version, self.value.as_str(), self.amount) == (row.id, row.version, row.value.as_str(), 7)
    }
}

async fn rows(stand: &Stand, dataset: Dataset) -> Result<Vec<Found>> {
    let mut connection = stand.database.connect().await?;
    let query =
        format!("SELECT id, version, value, amount, penstock_object FROM public.{} ORDER BY id", dataset.name());
    sqlx::query_as(&query).fetch_all(&mut connection).await.with_context(|| query)
}

struct Judge<'a> {
    plan: &'a Plan,
    ledger: Ledger,
    identities: Identities,
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
            let act = key.and_then(|key| self.identities.act_of(key, entry));
            if let (Some(key), Some(act)) = (key, act) {
                seen.insert(act);
                if let Err(what) = self.fits(entry, act) {
                    self.complain(Some(key), format!("entry {} {what}", entry.id));
                }
            } else if is_of_dataset(entry) && !entry.is_delete && entry.state != "gone" && entry.state != "skipped" {
                self.complain(key, format!("entry {} is {} and about nothing that was put", entry.id, entry.state));
            }
        }
        for act in 0..self.plan.acts.len() {
            if self.plan.content(act).is_some() && !seen.contains(&self.identities.canonical(self.plan, act)) {
                self.complain(Some(self.plan.acts[act].key), format!("the ledger knows nothing of act {act}"));
            }
        }
    }

    fn fits(&self, entry: &Entry, act: usize) -> Result<(), String> {
        let content = self.plan.content(act).expect("identities are of puts");
        let expected: &[&str] = match content.spoiled {
            None => &["imported", "superseded", "gone"],
            Some(Spoiled::Empty) => &["skipped", "superseded", "gone"],
            Some(Spoiled::Corrupt | Spoiled::TooManyRejects) => &["failed", "superseded", "gone"],
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
        let rejects = content.rejects();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let counts = (entry.rows_read, entry.rows_filtered, entry.rows_rejected);
        if counts != (Some(number(content.rows.len())), Some(0), Some(number(rejects.len()))) {
            return Err(format!("counts {counts:?} of {} rows with {} flawed", content.rows.len(), rejects.len()));
        }
        if entry.rejects != rejects {
            return Err(format!("rejects rows {:?} instead of {rejects:?}", entry.rejects));
        }
        let good = number(content.rows.len() - rejects.len());
        let (written, merged) = (entry.rows_written.unwrap_or(-1), entry.rows_merged.unwrap_or(-1));
        let dataset = self.plan.keys[self.plan.acts[act].key].dataset;
        let distinct = number(content.by_id(dataset).len());
        let right = match dataset {
            Dataset::Newest => written <= distinct,
            Dataset::Own => written == distinct,
            Dataset::Whole | Dataset::Log => written == good,
        };
        if !right || written + merged != good {
            return Err(format!("says {written} rows written and {merged} merged of {good}"));
        }
        Ok(())
    }

    /// For every key a version stands that may, or none where that may be.
    fn judge_heads(&mut self) {
        for key in 0..self.plan.keys.len() {
            let stands = match self.ledger.standing(&self.plan.keys[key].name) {
                None => Stands::Nothing,
                Some(entry) if entry.is_delete => Stands::Removal,
                Some(entry) => match self.identities.act_of(key, entry) {
                    Some(act) => Stands::Put(act),
                    None => Stands::Nothing,
                },
            };
            let allowed = self.allowed(key);
            if !allowed.contains(&stands) {
                self.complain(Some(key), format!("{stands:?} stands, allowed are {allowed:?}"));
            }
        }
    }

    /// Returns what may stand for a key in the end.
    fn allowed(&self, key: usize) -> BTreeSet<Stands> {
        let acts: Vec<usize> = self.plan.acts_of(key).collect();
        let put = |act: usize| Stands::Put(self.identities.canonical(self.plan, act));
        let good: Vec<usize> = acts
            .iter()
            .copied()
            .filter(|act| self.plan.content(*act).is_some_and(|content| content.spoiled.is_none()))
            .collect();
        let removes = self.plan.keys[key].dataset == Dataset::Whole;
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
        let mut expected: BTreeMap<i64, (&Row, usize)> = BTreeMap::new();
        for (number, key) in self.plan.keys.iter().enumerate().filter(|(_, key)| key.dataset == dataset) {
            let standing = self.ledger.standing(&key.name).and_then(|entry| self.identities.act_of(number, entry));
            let Some(content) = standing.and_then(|act| self.plan.content(act)) else { continue };
            for (id, row) in content.by_id(dataset) {
                if expected.get(&id).is_none_or(|(known, _)| known.version < row.version) {
                    expected.insert(id, (row, number));
                }
            }
        }
        let mut complaints = Vec::new();
        for found in found {
            match expected.remove(&found.id) {
                Some((row, _)) if found.is(row) => {}
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
        let mut by_object: BTreeMap<i64, Vec<&Found>> = BTreeMap::new();
        for found in found {
            by_object.entry(found.penstock_object).or_default().push(found);
        }
        let mut complaints = Vec::new();
        for (number, key) in self.plan.keys.iter().enumerate().filter(|(_, key)| key.dataset == dataset) {
            for entry in self.ledger.of_key(&key.name) {
                let counts = if dataset == Dataset::Whole { entry.stands && !entry.is_delete } else { entry.imported };
                let content =
                    self.identities.act_of(number, entry).filter(|_| counts).and_then(|act| self.plan.content(act));
                let mut expected: Vec<&Row> = content.map(|content| content.good_rows().collect()).unwrap_or_default();
                let mut rows = by_object.remove(&entry.id).unwrap_or_default();
                expected.sort_by_key(|row| (row.id, &row.value));
                rows.sort_by_key(|found| (found.id, &found.value));
                let equal =
                    rows.len() == expected.len() && rows.iter().zip(&expected).all(|(found, row)| found.is(row));
                if !equal {
                    let what =
                        format!("entry {} has {} rows in the table, not {}", entry.id, rows.len(), expected.len());
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

    /// Every message in the dead-letter queue was sent by us and forwarded for a reason, and none is missing.
    async fn judge_dead_letters(&mut self, fed: &Fed, stand: &Stand) -> Result<()> {
        let messages: BTreeMap<&str, usize> = fed.sent.iter().map(|(body, number)| (body.as_str(), *number)).collect();
        let dead = stand.pipeline.take_dead_letters().await?;
        self.verdict.dead_letters = dead.len();
        let (mut dead_keys, mut dead_messages) = (HashSet::new(), HashSet::new());
        for letter in &dead {
            if !letter.attributes.contains_key("penstock-reason") {
                self.complain(None, format!("a dead letter without a reason: {}", letter.body));
            }
            let Some(number) = messages.get(letter.body.as_str()) else {
                self.complain(None, format!("a dead letter that nobody sent: {}", letter.body));
                continue;
            };
            dead_messages.insert(*number);
            let acts: &[usize] = match &self.plan.messages[*number] {
                Message::Acts(acts, _) => acts,
                Message::Bare(act) => std::slice::from_ref(act),
                Message::Unreadable(_) | Message::Unrouted(_) => continue,
                Message::Skipped(_) | Message::TestEvent => &[],
            };
            let keys: Vec<usize> = acts.iter().map(|act| self.plan.acts[*act].key).collect();
            if !keys.iter().any(|key| self.plan.acts_of(*key).any(|act| self.fails(act))) {
                let reason = letter.attributes.get("penstock-reason");
                let error = letter.attributes.get("penstock-error");
                let what = format!("a dead letter without cause ({reason:?}, {error:?}): {}", letter.body);
                self.complain(keys.first().copied(), what);
            }
            dead_keys.extend(keys);
        }
        for key in 0..self.plan.keys.len() {
            let must = self.plan.acts_of(key).next_back().is_some_and(|last| self.fails(last));
            if must && !dead_keys.contains(&key) {
                self.complain(Some(key), "failed, and no dead letter says so".into());
            }
        }
        for (number, message) in self.plan.messages.iter().enumerate() {
            if matches!(message, Message::Unreadable(_) | Message::Unrouted(_)) && !dead_messages.contains(&number) {
                self.complain(None, format!("{message:?} is not in the dead-letter queue"));
            }
        }
        Ok(())
    }

    fn fails(&self, act: usize) -> bool {
        let spoiled = self.plan.content(act).and_then(|content| content.spoiled);
        matches!(spoiled, Some(Spoiled::Corrupt | Spoiled::TooManyRejects))
    }
}

/// What stands for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stands {
    Nothing,
    Removal,
    Put(usize),
}
