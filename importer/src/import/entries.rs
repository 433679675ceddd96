//! What an import reads from the ledger and writes into it.

use super::{
    Held, Job, Settled,
    exit::{Exit, held_by_database},
};
use crate::{
    dataset::DatasetName,
    ledger::{self, Attempt, Candidate, Ended, HeadKey, Known, Recorded, State},
    load::Session,
    message::ObjectPointer,
    order::{Identity, order, same_version},
    outcome::{Outcome, Sorted},
};
use std::cmp::Ordering;
use tracing::debug;

/// The ledger's entries of one key in one dataset, or under no dataset's name.
#[derive(Clone, Copy)]
pub(super) struct Entries<'a> {
    pub job: &'a Job<'a>,
    pub dataset: &'a DatasetName,
}

/// Every method that fails does so with [`Held`], when the ledger is out of reach.
impl Entries<'_> {
    /// Returns what is known of the key and this version.
    pub async fn look_up(&self, session: &mut Session, identity: &Identity, is_delete: bool) -> Result<Known, Held> {
        let head = self.head_key();
        ledger::look_up(&mut session.connection, &head, identity, is_delete).await.map_err(held_by_database)
    }

    /// Records that an attempt at this version begins.
    pub async fn begin(&self, session: &mut Session, candidate: &Candidate, is_delete: bool) -> Result<Recorded, Held> {
        let importer = self.job.importer;
        let attempt = Attempt {
            head: &self.head_key(),
            identity: &candidate.identity,
            stamp: &candidate.stamp,
            is_delete,
            worker: &importer.worker_id,
            queue_url: importer.queue_url.as_deref(),
            event_time: self.job.record().event_time,
            delivery: self.job.record().delivery,
        };
        ledger::begin(&mut session.connection, &attempt).await.map_err(held_by_database)
    }

    /// Ends an attempt with an outcome. An import and a removal are recorded with their rows, and a failure when it is
    /// forwarded.
    pub async fn finish(&self, session: &mut Session, recorded: Recorded, outcome: Outcome) -> Result<Settled, Held> {
        match &outcome {
            Outcome::Superseded => self.end(session, recorded, State::Superseded, None).await?,
            Outcome::Skipped(reason) => self.end(session, recorded, State::Skipped, Some((*reason).into())).await?,
            Outcome::Gone => self.end(session, recorded, State::Gone, None).await?,
            Outcome::Imported(_) | Outcome::AlreadyImported | Outcome::Removed(_) | Outcome::Failed(_) => {}
        }
        Ok(self.settled(recorded.object_id, outcome))
    }

    /// Ends an attempt whose failure was sorted, and returns where that leads.
    pub async fn leave(&self, session: &mut Session, recorded: Recorded, sorted: Sorted) -> Result<Exit, Held> {
        match sorted {
            Sorted::Failed(failure) => {
                Ok(Exit::Settled(self.finish(session, recorded, Outcome::Failed(failure)).await?))
            }
            Sorted::Missing => Ok(Exit::Missing(recorded)),
            Sorted::Changed => {
                self.end(session, recorded, State::Superseded, Some("overwritten")).await?;
                // The event's sequencer belongs to bytes that are gone; the object as it is now stands on its own.
                let ObjectPointer { bucket, key, .. } = &self.job.record().pointer;
                Ok(Exit::Again(Box::new(ObjectPointer::new(bucket, key))))
            }
            Sorted::Hold(outside, error) => {
                let text = format!("{error:#}");
                let ended = Ended { error: Some(&text), ..self.ended(State::Retrying, None) };
                // For people only, so a ledger out of reach does not matter.
                if let Err(error) = ledger::finish_otherwise(&mut session.connection, recorded.object_id, &ended).await
                {
                    debug!(error = format!("{error:#}"), "could not record the retry");
                }
                Ok(Exit::Held(Held { outside, error }))
            }
        }
    }

    /// Ends an attempt in this state.
    pub async fn end(
        &self,
        session: &mut Session,
        recorded: Recorded,
        state: State,
        reason: Option<&str>,
    ) -> Result<(), Held> {
        let ended = self.ended(state, reason);
        ledger::finish_otherwise(&mut session.connection, recorded.object_id, &ended).await.map_err(held_by_database)
    }

    /// Notes another sighting of the version that stands; None when another one stands by now.
    pub async fn seen_again(
        &self,
        session: &mut Session,
        known: &Known,
        candidate: &Candidate,
    ) -> Result<Option<Settled>, Held> {
        let (Some(head_id), Some(standing)) = (known.head_id, &known.standing) else {
            return Ok(None);
        };
        // Two rows may be sightings of one version, one with and one without its version id: the one that stands counts.
        let own_id = match &known.own {
            Some(own) if !same_version(&standing.identity, &candidate.identity) => {
                if order(&candidate.stamp, &standing.stamp) == Ordering::Equal {
                    // Appended before, and nothing says it is newer than the one that stands.
                    return Ok(Some(self.settled(own.object_id, Outcome::AlreadyImported)));
                }
                own.object_id
            }
            _ => standing.object_id,
        };
        let noted =
            ledger::note_seen_again(&mut session.connection, head_id, standing.object_id, own_id, &candidate.stamp)
                .await
                .map_err(held_by_database)?;
        Ok(noted.then(|| self.settled(own_id, Outcome::AlreadyImported)))
    }

    /// Returns the version's own entry when it failed as part of this very message, and the dead-letter queue has
    /// the message already.
    pub fn forwarded_before(&self, known: &Known) -> Option<i64> {
        let message_id = self.job.message_id?;
        let own = known.own.as_ref()?;
        (own.forwarded_message_id.as_deref() == Some(message_id)).then_some(own.object_id)
    }

    /// Returns an outcome that the ledger has in this entry.
    pub fn settled(&self, object_id: i64, outcome: Outcome) -> Settled {
        Settled::new(self.dataset, Some(object_id), outcome)
    }

    fn head_key(&self) -> HeadKey {
        let ObjectPointer { bucket, key, .. } = &self.job.record().pointer;
        HeadKey { dataset: self.dataset.to_string(), bucket: bucket.clone(), key: key.clone() }
    }

    fn ended<'e>(&'e self, state: State, reason: Option<&'e str>) -> Ended<'e> {
        Ended {
            state,
            reason,
            error: None,
            forwarded_message_id: None,
            duration_seconds: Some(self.job.started.elapsed().as_secs_f64()),
            asked: self.job.record().asked_recipe(),
        }
    }
}
