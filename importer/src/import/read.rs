//! From a recorded attempt to an outcome: open the object, load it, and try again what may pass.

use super::{
    Held, Importer, Settled,
    begin::Begun,
    exit::{Exit, held_by_database},
    version::{contradicts, names, take_identity},
};
use crate::{
    ledger::{self, State, Verdict},
    load::{self, Load, LoadError, Loaded, Session, Target, Writing},
    message::{Anew, ObjectPointer},
    object::{ObjectInfo, RemoteSource, wrong_length},
    outcome::{self, Outcome, Outside, Reason, Sorted},
};
use std::sync::Arc;
use tracing::warn;

impl Begun<'_> {
    /// Reads the object and loads its rows, over as many tries as it takes. A step that comes back with nothing asks
    /// for another try.
    ///
    /// # Errors
    /// [`Exit`] where the object fails, is another version or not there, or something outside is broken.
    pub async fn load(mut self, session: &mut Session) -> Result<Settled, Exit> {
        loop {
            let Some(target) = self.target(session).await? else { continue };
            let Some(source) = self.open(session).await? else { continue };
            if let Some(settled) = self.load_from(session, &target, source).await? {
                return Ok(settled);
            }
        }
    }

    /// Returns the table, with columns for the fields that get some.
    async fn target(&mut self, session: &mut Session) -> Result<Option<Arc<Target>>, Exit> {
        let error = match self.importer().target(session, &self.import.to.dataset).await {
            Ok(target) => {
                if let Some(Anew::Recipe(asked)) = &self.candidate.anew
                    && *asked != target.recipe
                {
                    return Err(self.other_recipe(asked, &target.recipe));
                }
                let Some(fields) = &self.new_columns else { return Ok(Some(target)) };
                return Ok(Some(Arc::new(target.with_columns(fields))));
            }
            Err(error) => error,
        };
        let sorted = outcome::sort_table_error(error);
        if self.odd.may_pass(&sorted).await {
            self.importer().replace(session).await?;
            return Ok(None);
        }
        Err(self.leave(session, sorted).await?)
    }

    /// Leaves a message for another recipe to workers whose configuration makes it, which may be about to start.
    fn other_recipe(&self, asked: &str, own: &str) -> Exit {
        let error = anyhow::anyhow!("the message is for recipe {asked}, and this worker's configuration makes {own}");
        if self.import.to.dataset.is_first_of_recipe(asked) {
            warn!(dataset = %self.import.to.dataset.name, error = error.to_string(), "held: waiting for another configuration");
        }
        Exit::Held(Held { outside: Outside::Elsewhere, error })
    }

    /// Opens the object, and goes by what the store says of it from here on.
    async fn open(&mut self, session: &mut Session) -> Result<Option<RemoteSource>, Exit> {
        let store = &self.importer().store;
        let ahead_bytes = self.importer().ahead_bytes(self.import.pointer);
        let opened = RemoteSource::open(Arc::clone(store), self.read.clone(), self.is_streamed(ahead_bytes));
        let source = match opened.await {
            Ok(source) => source.reading_ahead(ahead_bytes),
            Err(error) => return Err(self.leave(session, outcome::sort_store_error(error)).await?),
        };
        let info = source.info.clone();
        if self.candidate.identity.size.is_some_and(|size| size != info.size) {
            // Same version, other length: either the event is wrong, or this answer is and would leave rows out.
            let error = match store.head(&self.read).await {
                Ok(head) if head.size == info.size => None,
                Ok(_) if self.odd.again().await => return Ok(None),
                Ok(head) => Some(wrong_length(format!(
                    "a body of {} bytes was announced for an object of {}",
                    info.size, head.size
                ))),
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                return Err(self.leave(session, outcome::sort_store_error(error)).await?);
            }
        }
        let candidate = &mut self.candidate;
        if !names(&candidate.identity, &info) {
            return Err(self.leave(session, Sorted::Changed).await?);
        }
        if contradicts(&candidate.identity, &info) {
            return Err(self.misnamed(session, info).await?);
        }
        take_identity(&mut candidate.identity, &mut candidate.stamp, &info);
        Ok(Some(source))
    }

    fn is_streamed(&self, ahead_bytes: u64) -> bool {
        let size = self.candidate.identity.size;
        let in_parts = size.is_some_and(|size| RemoteSource::is_read_in_parts(size, ahead_bytes));
        self.import.to.dataset.is_streamed(&self.read.key) && !in_parts
    }

    async fn load_from(
        &mut self,
        session: &mut Session,
        target: &Target,
        source: RemoteSource,
    ) -> Result<Option<Settled>, Exit> {
        let Self { import, read, candidate, recorded, stood, .. } = &*self;
        let importer = import.job.importer;
        let request = Load {
            target,
            captures: &import.to.captures,
            source: Arc::new(source),
            candidate,
            store: &*importer.store,
            object: read,
            after: import.job.record().after.as_deref(),
            recorded: *recorded,
            started: import.job.started,
            new_columns: self.new_columns.as_deref(),
            known: *stood,
            run_bytes: importer.memory.run(),
            digest_bytes: importer.memory.digests(),
            recent: &import.to.dataset.recent,
            writing: Writing::new(&importer.writing),
        };
        let bytes = request.source.size();
        let loaded = load::load(session, &request).await;
        drop(request);
        match loaded {
            Ok(loaded) => self.loaded(session, loaded, bytes).await,
            Err(error) => self.failed(session, error).await,
        }
    }

    async fn loaded(&mut self, session: &mut Session, loaded: Loaded, bytes: u64) -> Result<Option<Settled>, Exit> {
        let Self { import, candidate, recorded, .. } = &*self;
        let entries = import.entries;
        match loaded {
            Loaded::Imported(counts, technique) => {
                if self.new_columns.is_some() {
                    import.to.dataset.forget_target();
                }
                let settled = entries.settled(recorded.object_id, Outcome::Imported(counts));
                Ok(Some(Settled { bytes, technique: Some(technique), ..settled }))
            }
            Loaded::Refused(Verdict::Superseded) => {
                Ok(Some(entries.finish(session, *recorded, Outcome::Superseded).await?))
            }
            Loaded::Refused(_) => {
                let known = entries.look_up(session, &candidate.identity, false).await?;
                Ok(entries.seen_again(session, &known, candidate).await?)
            }
            Loaded::Changed => Err(self.leave(session, Sorted::Changed).await?),
            Loaded::NeedsColumns(fields) => {
                self.new_columns = Some(fields);
                Ok(None)
            }
        }
    }

    async fn failed(&mut self, session: &mut Session, error: LoadError) -> Result<Option<Settled>, Exit> {
        let is_broken = matches!(error, LoadError::Database(_) | LoadError::Unstaged(_) | LoadError::Store(_));
        let is_of_catalog = is_broken || matches!(error, LoadError::NoUniqueIndex(_));
        let is_pruned = matches!(&error, LoadError::Database(error) if outcome::is_pruned(error));
        let sorted = outcome::sort_load_error(error);
        if is_broken {
            // The old session's transaction is over with its connection.
            self.importer().replace(session).await?;
        }
        if is_pruned {
            // The next look records the attempt again.
            return Err(Exit::Again(Box::new(self.import.pointer.clone())));
        }
        let is_schema = matches!(&sorted, Sorted::Failed(failure) if failure.reason == Reason::Schema);
        // The table may have changed since the catalog was read.
        let rereads = is_schema && is_of_catalog && !std::mem::replace(&mut self.reread_catalog, true);
        if rereads || self.odd.may_pass(&sorted).await {
            self.import.to.dataset.forget_target();
            return Ok(None);
        }
        Err(self.leave(session, sorted).await?)
    }

    /// Corrects what was recorded of a version by what the store says of it, and begins again with that.
    async fn misnamed(&self, session: &mut Session, info: ObjectInfo) -> Result<Exit, Held> {
        let Self { import, recorded, .. } = self;
        let corrected = ledger::correct_identity(&mut session.connection, recorded.object_id, &info.identity())
            .await
            .map_err(held_by_database)?;
        if !corrected {
            // The version has an entry of its own.
            import.entries.end(session, *recorded, State::Superseded, Some("misnamed")).await?;
        }
        // It is the version the event means, so the sequencer is its own.
        Ok(Exit::Again(Box::new(ObjectPointer {
            version_id: info.version_id,
            etag: Some(info.etag),
            size: Some(info.size),
            ..import.pointer.clone()
        })))
    }

    async fn leave(&self, session: &mut Session, sorted: Sorted) -> Result<Exit, Held> {
        self.import.entries.leave(session, self.recorded, sorted).await
    }

    fn importer(&self) -> &Importer {
        self.import.job.importer
    }
}
