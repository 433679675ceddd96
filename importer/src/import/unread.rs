//! Records whose object is not read at all: skipped, unrouted, an event of another kind.

use super::{Held, Job, Settled, version::named};
use crate::{dataset::DatasetName, ledger::Candidate, load::Session, outcome::Outcome};

/// What became of a record without a look at its object.
pub(super) struct Unread {
    pub outcome: Outcome,
    /// Under whose name the ledger has it.
    pub dataset: DatasetName,
    /// It is about another event than the object's creation.
    pub is_event: bool,
}

impl Unread {
    pub fn of_no_dataset(outcome: Outcome, is_event: bool) -> Self {
        Self { outcome, dataset: DatasetName::default(), is_event }
    }
}

impl Job<'_> {
    /// Notes in the ledger what became of the record.
    pub(super) async fn note(&self, session: &mut Session, unread: Unread) -> Result<Settled, Held> {
        let Unread { outcome, dataset, is_event } = unread;
        let entries = self.entries(&dataset);
        let (identity, stamp) = named(&self.record().pointer);
        if self.message_id.is_some() && matches!(outcome, Outcome::Failed(_)) {
            let known = entries.look_up(session, &identity, is_event).await?;
            if let Some(object_id) = entries.forwarded_before(&known) {
                return Ok(Settled { already_forwarded: true, ..entries.settled(object_id, outcome) });
            }
        }
        let candidate = Candidate { identity, stamp, anew: None, appended_before: false };
        let recorded = entries.begin(session, &candidate, is_event).await?;
        entries.finish(session, recorded, outcome).await
    }
}
