//! Whether a version may be written where another one stands.

use crate::{
    message::Anew,
    order::{Identity, Stamp, order, same_version},
};
use std::cmp::Ordering;

/// The version whose rows stand in the table, as the head row names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// `object_status.id` of the version.
    pub object_id: i64,
    /// Which version it is.
    pub identity: Identity,
    /// How new it is.
    pub stamp: Stamp,
    /// The head is a tombstone: the key was removed.
    pub is_delete: bool,
    /// What shaped its rows; none when it was imported before that was recorded.
    pub recipe: Option<String>,
    /// It waits for keys of other tables.
    pub waits: bool,
}

/// A version that wants to be written.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Which version it is.
    pub identity: Identity,
    /// How new it is.
    pub stamp: Stamp,
    /// Why it is written even if this version already stands.
    pub anew: Option<Anew>,
    /// Append mode, and this version's rows were appended before.
    pub appended_before: bool,
}

/// What the fence says to a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Write, and become the head.
    Write,
    /// Nothing tells this version from the other one that stands: the one the store has now is the newer,
    /// and when it has neither, the later commit wins.
    Tied,
    /// This very version stands (append: was written once).
    AlreadyImported,
    /// A newer version stands.
    Superseded,
}

/// Decides between the version that stands and a candidate.
#[must_use]
pub fn judge(standing: Option<&Standing>, candidate: &Candidate) -> Verdict {
    let Some(standing) = standing else {
        return Verdict::Write;
    };
    let is_anew = match &candidate.anew {
        None => false,
        Some(Anew::Forced) => true,
        Some(Anew::Recipe(recipe)) => standing.recipe.as_ref() != Some(recipe),
        Some(Anew::Refresh) => standing.waits,
    };
    let already = || if is_anew { Verdict::Write } else { Verdict::AlreadyImported };
    if !standing.is_delete && same_version(&standing.identity, &candidate.identity) {
        return already();
    }
    match order(&candidate.stamp, &standing.stamp) {
        Ordering::Less => Verdict::Superseded,
        Ordering::Equal | Ordering::Greater if candidate.appended_before => already(),
        Ordering::Equal => Verdict::Tied,
        Ordering::Greater => Verdict::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(etag: &str, sequencer: &str) -> (Identity, Stamp) {
        (
            Identity { version_id: None, etag: Some(etag.into()), size: Some(1) },
            Stamp { sequencer: Some(sequencer.into()), last_modified: None },
        )
    }

    fn check(stands: Option<(&str, &str, bool)>, candidate: (&str, &str), force: bool, appended: bool) -> Verdict {
        let standing = stands.map(|(etag, sequencer, is_delete)| {
            let (identity, stamp) = version(etag, sequencer);
            Standing { object_id: 1, identity, stamp, is_delete, recipe: None, waits: false }
        });
        let (identity, stamp) = version(candidate.0, candidate.1);
        let anew = force.then_some(Anew::Forced);
        judge(standing.as_ref(), &Candidate { identity, stamp, anew, appended_before: appended })
    }

    #[test]
    fn the_fence_lets_only_newer_versions_through() {
        use Verdict::{AlreadyImported, Superseded, Tied, Write};
        for (stands, candidate, force, appended, expected) in [
            (None, ("a", "1"), false, false, Write),
            (Some(("a", "1", false)), ("a", "1"), false, false, AlreadyImported),
            (Some(("a", "1", false)), ("a", "1"), true, false, Write),
            (Some(("b", "2", false)), ("a", "1"), false, false, Superseded),
            (Some(("b", "2", false)), ("a", "1"), true, false, Superseded),
            // Content put back later is imported again, except in append.
            (Some(("b", "2", false)), ("a", "3"), false, false, Write),
            (Some(("b", "2", false)), ("a", "3"), false, true, AlreadyImported),
            // A tombstone stops what is older and nothing else.
            (Some(("", "2", true)), ("a", "1"), false, false, Superseded),
            (Some(("", "2", true)), ("a", "3"), false, false, Write),
            // Nothing tells them apart.
            (Some(("b", "2", false)), ("a", "2"), false, false, Tied),
            (Some(("b", "2", false)), ("a", "2"), false, true, AlreadyImported),
        ] {
            assert_eq!(check(stands, candidate, force, appended), expected, "{stands:?} {candidate:?}");
        }
    }

    #[test]
    fn a_recipe_asks_for_what_stands_by_another_one_and_a_refresh_for_what_waits() {
        let (identity, stamp) = version("a", "1");
        let asked = Some(Anew::Recipe("now".into()));
        for (anew, recipe, waits, expected) in [
            (asked.clone(), None, false, Verdict::Write),
            (asked.clone(), Some("before"), true, Verdict::Write),
            (asked, Some("now"), true, Verdict::AlreadyImported),
            (Some(Anew::Refresh), Some("now"), true, Verdict::Write),
            (Some(Anew::Refresh), Some("now"), false, Verdict::AlreadyImported),
            (None, None, true, Verdict::AlreadyImported),
        ] {
            let (identity, stamp) = (identity.clone(), stamp.clone());
            let recipe = recipe.map(str::to_owned);
            let standing = Standing {
                object_id: 1,
                identity: identity.clone(),
                stamp: stamp.clone(),
                is_delete: false,
                recipe,
                waits,
            };
            let candidate = Candidate { identity, stamp, anew, appended_before: true };
            assert_eq!(judge(Some(&standing), &candidate), expected, "{standing:?} {candidate:?}");
        }
    }
}
