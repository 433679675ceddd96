//! What is joined and waited for.
//!
//! A row reflects what it looks up as of its object's last run. Objects that wait to the end are run by time when all
//! else is done, so of those it is known which version that is; of the others, that no lookup is missing.

use super::{Found, Judge, Wanted};
use crate::torture::{
    content::{Content, Dataset, Flaw, Row},
    ledger::{Entry, Identities, Ledger},
    model::{self, Sites},
    plan::Plan,
    settle::Settled,
};
use std::collections::{BTreeMap, BTreeSet};

/// The rows of [`Dataset::Site`].
#[derive(Debug)]
pub struct Lookups<'a> {
    /// Those that stand.
    pub now: Sites<'a>,
    /// Each that may have stood.
    ever: BTreeMap<i64, Vec<&'a Row>>,
}

impl<'a> Lookups<'a> {
    /// Returns them by what was put, and by what of it stands.
    pub fn new(plan: &'a Plan, ledger: &Ledger, identities: &Identities) -> Self {
        let (mut now, mut ever) = (Sites::new(), BTreeMap::<i64, Vec<&Row>>::new());
        let sites = plan.keys.iter().enumerate().filter(|(_, key)| key.dataset == Dataset::Site);
        for (number, key) in sites {
            let standing = ledger.standing(Dataset::Site, &key.name);
            let standing = standing.and_then(|entry| identities.act_of(number, entry));
            now.extend(standing.and_then(|act| plan.content(act)).into_iter().flat_map(rows_of));
            let contents = plan.acts_of(number).filter_map(|act| plan.content(act));
            for content in contents.filter(|content| content.spoiled.is_none()) {
                rows_of(content).into_iter().for_each(|(id, row)| ever.entry(id).or_default().push(row));
            }
        }
        Self { now, ever }
    }

    fn ever(&self, site: i64) -> &[&'a Row] {
        self.ever.get(&site).map_or(&[], Vec::as_slice)
    }

    /// Returns what an object's rows name and is not there.
    fn missing(&self, content: &Content) -> BTreeSet<i64> {
        content.rows.iter().filter_map(|row| row.site).filter(|site| !self.now.contains_key(site)).collect()
    }

    /// Returns how many rows of an object a run may have left out.
    pub fn most_filtered(&self, content: &Content) -> usize {
        let hidden = |row: &Row| row.site.is_some_and(|site| self.ever(site).iter().any(|site| model::hides(site)));
        content.rows.iter().filter(|row| row.flaw == Some(Flaw::Unwanted) || hidden(row)).count()
    }
}

/// The last good row of each key.
fn rows_of(content: &Content) -> Sites<'_> {
    content.rows.iter().filter(|row| row.flaw.is_none()).map(|row| (row.id, row)).collect()
}

impl Judge<'_> {
    /// Returns whether an object can be read to the end: without versions, only what was put last.
    fn is_there(&self, key: usize, act: usize) -> bool {
        self.plan.versioned
            || self.plan.acts_of(key).next_back().is_some_and(|last| {
                self.plan.content(last).is_some() && self.identities.canonical(self.plan, last) == act
            })
    }

    /// Returns whether what an entry's rows look up is known: it waits to the end.
    pub(super) fn is_exact(&self, entry: &Entry) -> bool {
        let key = self.plan.keys.iter().position(|key| key.name == entry.key).filter(|_| entry.stands);
        let act = key.and_then(|key| Some((key, self.identities.act_of(key, entry)?)));
        act.is_some_and(|(key, act)| {
            let content = self.plan.content(act);
            self.is_there(key, act) && content.is_some_and(|content| !self.lookups.missing(content).is_empty())
        })
    }

    /// The rows of each version that stands, with what they looked up.
    pub(super) fn judge_posts(&mut self, when: &str, found: &[Found]) {
        let mut by_object: BTreeMap<i64, Vec<Wanted>> = BTreeMap::new();
        for found in found {
            by_object.entry(found.penstock_object).or_default().push(found.row());
        }
        let mut complaints = Vec::new();
        for (number, key) in self.plan.keys.iter().enumerate().filter(|(_, key)| key.dataset == Dataset::Post) {
            let Some(entry) = self.ledger.standing(Dataset::Post, &key.name) else { continue };
            let Some((act, content)) = self.standing(Dataset::Post, number) else { continue };
            let rows = by_object.remove(&entry.id).unwrap_or_default();
            let wrong = if self.is_exact(entry) {
                differ(rows, model::rows(Dataset::Post, content, &self.lookups.now))
            } else {
                self.unlike(rows, content, self.is_there(number, act))
            };
            complaints.extend(wrong.map(|wrong| (Some(number), format!("entry {} {when}: {wrong}", entry.id))));
        }
        for (object, rows) in by_object {
            complaints.push((None, format!("post has {} rows of object {object}, which does not stand", rows.len())));
        }
        for (key, what) in complaints {
            self.complain(key, what);
        }
    }

    /// Says how rows are other than any version of what they look up would make them.
    fn unlike(&self, rows: Vec<Wanted>, content: &Content, is_there: bool) -> Option<String> {
        let mut rows: BTreeMap<i64, Wanted> = rows.into_iter().map(|row| (row.id, row)).collect();
        for row in &content.rows {
            let found = rows.remove(&row.id);
            let versions = row.site.map_or(&[][..], |site| self.lookups.ever(site));
            let with = |site: Option<&Row>| {
                let sites = row.site.zip(site).into_iter().collect();
                let one = Content { rows: vec![row.clone()], ..content.clone() };
                model::rows(Dataset::Post, &one, &sites).pop()
            };
            let mut allowed: Vec<Option<Wanted>> = versions.iter().map(|site| with(Some(site))).collect();
            if !is_there || row.site.is_none_or(|site| !self.lookups.now.contains_key(&site)) {
                allowed.push(with(None));
            }
            if !allowed.contains(&found) {
                return Some(format!("{found:?} came of {row:?}, and one of {allowed:?} had to"));
            }
        }
        rows.into_values().next().map(|row| format!("{row:?} came of nothing"))
    }

    /// What waited, was due and has given up on the way to the end.
    pub(super) fn judge_settled(&mut self, settled: &Settled) {
        self.judge_posts("when all that waits was run by time", &settled.posts);
        for what in settled.wrongly_due.iter().chain(&settled.left) {
            self.complain(None, what.clone());
        }
        let (mut complaints, mut gave_up) = (Vec::new(), settled.gave_up.clone());
        let mut waiting: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
        for (key, value) in &settled.waiting {
            waiting.entry(key).or_default().insert(*value);
        }
        for (number, key) in self.plan.keys.iter().enumerate().filter(|(_, key)| key.dataset == Dataset::Post) {
            let Some((act, content)) = self.standing(Dataset::Post, number) else { continue };
            let found = waiting.remove(key.name.as_str()).unwrap_or_default();
            let told = gave_up.remove(&key.name);
            if self.is_there(number, act) {
                let expected = self.lookups.missing(content);
                if found != expected {
                    complaints.push((Some(number), format!("waits for {found:?} instead of {expected:?}")));
                }
                if told == expected.is_empty() {
                    complaints.push((Some(number), format!("gave up: {told}, and waits for {expected:?}")));
                }
            } else {
                let named: BTreeSet<i64> = content.rows.iter().filter_map(|row| row.site).collect();
                if !found.is_subset(&named) {
                    complaints.push((Some(number), format!("waits for {found:?}, and its rows name {named:?}")));
                }
            }
        }
        complaints.extend(waiting.into_iter().map(|(key, values)| (None, format!("{key} waits for {values:?}"))));
        complaints.extend(gave_up.into_iter().map(|key| (None, format!("{key} gave up and does not stand"))));
        for (key, what) in complaints {
            self.complain(key, what);
        }
    }
}

/// Says how rows differ from those that there must be.
fn differ(mut found: Vec<Wanted>, mut expected: Vec<Wanted>) -> Option<String> {
    found.sort();
    expected.sort();
    let lacks = expected.iter().find(|row| !found.contains(row)).map(|row| format!("lacks {row:?}"));
    let has = found.iter().find(|row| !expected.contains(row)).map(|row| format!("has {row:?}"));
    (found != expected).then(|| {
        let first = lacks.into_iter().chain(has).collect::<Vec<_>>().join(", ");
        format!("{} rows instead of {}: {first}", found.len(), expected.len())
    })
}
