//! From a version that is known to an attempt that is recorded, unless the ledger settles it.

use super::{exit::Exit, job::Import, retry::OddRetries, version::Version};
use crate::{
    config::Mode,
    ledger::{self, Candidate, Recorded, Verdict},
    load::Session,
    object::ReadTarget,
    outcome::{Outcome, Skip},
};
use decode::Field;

/// An import whose attempt is recorded, and whose object is to be read.
pub(super) struct Begun<'a> {
    pub import: Import<'a>,
    pub read: ReadTarget,
    pub candidate: Candidate,
    pub recorded: Recorded,
    /// A version of the object stood in the table before.
    pub stood: bool,
    /// Fields for which the table gets columns with the rows; none before a load asked for them.
    pub new_columns: Option<Vec<Field>>,
    pub odd: OddRetries,
    /// The catalog was read once more, because the table was not what it had said.
    pub reread_catalog: bool,
}

impl<'a> Import<'a> {
    /// Records the attempt.
    ///
    /// # Errors
    /// [`Exit`] where the ledger settles the version, or where it is out of reach.
    pub async fn begin(self, session: &mut Session, version: Version) -> Result<Begun<'a>, Exit> {
        let Version { identity, stamp, read } = version;
        let entries = self.entries;
        let known = entries.look_up(session, &identity, false).await?;
        if let Some(object_id) = entries.forwarded_before(&known) {
            return Err(self.forwarded(object_id));
        }
        let is_append = self.to.dataset.config.mode == Mode::Append;
        let candidate = Candidate {
            identity,
            stamp,
            anew: self.job.record().anew.clone(),
            appended_before: is_append && known.own.as_ref().is_some_and(|own| own.ever_imported),
        };
        // Leaving early needs no lock: a head only ever moves on to newer versions.
        match ledger::judge(known.standing.as_ref(), &candidate) {
            Verdict::AlreadyImported => {
                if let Some(settled) = entries.seen_again(session, &known, &candidate).await? {
                    return Err(Exit::Settled(settled));
                }
            }
            Verdict::Superseded => {
                let recorded = entries.begin(session, &candidate, false).await?;
                return Err(Exit::Settled(entries.finish(session, recorded, Outcome::Superseded).await?));
            }
            Verdict::Write | Verdict::Tied => {}
        }
        let recorded = entries.begin(session, &candidate, false).await?;
        if candidate.identity.size == Some(0) {
            return Err(Exit::Settled(entries.finish(session, recorded, Outcome::Skipped(Skip::Empty)).await?));
        }
        let stood = known.standing.is_some_and(|standing| !standing.is_delete);
        let odd = OddRetries::default();
        Ok(Begun { import: self, read, candidate, recorded, stood, new_columns: None, odd, reread_catalog: false })
    }
}
