//! Taking an object's rows away after it was removed.

use super::{
    Held, Job, Settled,
    exit::held_by_database,
    retry::OddRetries,
    unread::Unread,
    version::{named, read_target},
};
use crate::{
    config::OnDelete,
    ledger::{Candidate, steps},
    load::{self, Removal, Remove, Session},
    message::body_for_event,
    outcome::{self, Outcome, Skip, Sorted},
    route::Destination,
};

impl Job<'_> {
    /// Removes the key's rows, or says why not.
    pub(super) async fn remove(
        &self,
        session: &mut Session,
        from: &Destination,
        delete_marker: bool,
    ) -> Result<Settled, Held> {
        let unread = |outcome: Outcome| Unread { outcome, dataset: from.dataset.name.clone(), is_event: true };
        let target = match self.importer.target(session, &from.dataset).await {
            Ok(target) => target,
            Err(error) => {
                return match outcome::sort_table_error(error) {
                    Sorted::Failed(failure) => self.note(session, unread(Outcome::Failed(failure))).await,
                    Sorted::Hold(outside, error) => Err(Held { outside, error }),
                    Sorted::Missing | Sorted::Changed => unreachable!("tables are neither"),
                };
            }
        };
        let pointer = &self.record().pointer;
        let sent_on = body_for_event(self.record());
        if target.config.on_delete != OnDelete::Remove {
            let settled = self.note(session, unread(Outcome::Skipped(Skip::Event))).await?;
            if let Some(object_id) = settled.object_id {
                // The event's message stays until this is done, and what is sent twice does no harm.
                let sent = steps::send_on(&mut session.connection, &from.dataset.name, object_id, &sent_on).await;
                sent.map_err(held_by_database)?;
            }
            return Ok(settled);
        }
        let entries = self.entries(&from.dataset.name);
        let (identity, stamp) = named(pointer);
        let candidate = Candidate { identity, stamp, anew: None, appended_before: false };
        let recorded = entries.begin(session, &candidate, true).await?;
        let request = Remove {
            store: &*self.importer.store,
            target: &target,
            read: &read_target(pointer),
            candidate: &candidate,
            recorded,
            dataset: &from.dataset.name,
            sent_on: &sent_on,
            of_version: pointer.version_id.is_some() && !delete_marker,
            started: self.started,
        };
        let mut odd = OddRetries::default();
        loop {
            let sorted = match load::remove(session, &request).await {
                Ok(Removal::Removed(n_rows)) => {
                    return Ok(entries.settled(recorded.object_id, Outcome::Removed(n_rows)));
                }
                Ok(Removal::Superseded) => return entries.finish(session, recorded, Outcome::Superseded).await,
                Err(error) => outcome::sort_load_error(error),
            };
            if matches!(sorted, Sorted::Failed(_)) {
                self.importer.replace(session).await?;
            }
            if odd.may_pass(&sorted).await {
                continue;
            }
            return match sorted {
                Sorted::Failed(failure) => entries.finish(session, recorded, Outcome::Failed(failure)).await,
                Sorted::Hold(outside, error) => Err(Held { outside, error }),
                Sorted::Missing | Sorted::Changed => unreachable!("a missing object is what a removal expects"),
            };
        }
    }
}
