//! Which version of an object is meant.

use super::{Held, exit::Exit, job::Import};
use crate::{
    ledger::Candidate,
    load::Session,
    message::ObjectPointer,
    object::{ObjectInfo, ObjectStore, ReadTarget, StoreError},
    order::{Identity, Stamp},
    outcome::{self, Failure, Outcome, Reason},
};

/// A version of an object, as far as its message and the store say.
pub(super) struct Version {
    pub identity: Identity,
    pub stamp: Stamp,
    /// How it is read.
    pub read: ReadTarget,
}

impl Import<'_> {
    /// Finds out which version is meant, from the store where the message does not say.
    ///
    /// # Errors
    /// [`Exit`] where the store does not say it either.
    pub async fn identify(self, session: &mut Session) -> Result<Version, Exit> {
        let mut version = Version::claimed(self.pointer);
        match version.complete(&*self.job.importer.store).await {
            Ok(()) => Ok(version),
            Err(error) => Err(self.without_identity(session, version, error).await?),
        }
    }

    /// Leaves the path where the store would not even say which version there is.
    async fn without_identity(self, session: &mut Session, version: Version, error: StoreError) -> Result<Exit, Held> {
        let Version { identity, stamp, .. } = version;
        let known = self.entries.look_up(session, &identity, false).await?;
        if let Some(object_id) = self.entries.forwarded_before(&known) {
            return Ok(self.forwarded(object_id));
        }
        let candidate = Candidate { identity, stamp, anew: None, appended_before: false };
        let recorded = self.entries.begin(session, &candidate, false).await?;
        self.entries.leave(session, recorded, outcome::sort_store_error(error)).await
    }

    /// Leaves the path of a version whose failure the dead-letter queue has as part of this very message.
    pub fn forwarded(self, object_id: i64) -> Exit {
        let failure = Failure::new(Reason::Forwarded, "forwarded to the dead-letter queue before");
        let settled = self.entries.settled(object_id, Outcome::Failed(failure));
        Exit::Settled(super::Settled { already_forwarded: true, ..settled })
    }
}

impl Version {
    /// Returns what a pointer says of a version that is to be read. That it is empty is for the store to say.
    pub fn claimed(pointer: &ObjectPointer) -> Self {
        let (mut identity, stamp) = named(pointer);
        identity.size = identity.size.filter(|size| *size > 0);
        Self { identity, stamp, read: read_target(pointer) }
    }

    /// Asks the store for what the pointer does not say.
    ///
    /// # Errors
    /// Of the store; [`StoreError::Changed`] when it has another version than the one that is meant.
    pub async fn complete(&mut self, store: &dyn ObjectStore) -> Result<(), StoreError> {
        if self.identity.etag.is_some() && self.identity.size.is_some() {
            return Ok(());
        }
        let info = store.head(&self.read).await?;
        if !names(&self.identity, &info) {
            return Err(StoreError::Changed);
        }
        take_identity(&mut self.identity, &mut self.stamp, &info);
        self.read.version_id = info.version_id;
        self.read.etag = Some(info.etag);
        Ok(())
    }
}

/// Returns what a pointer says of its version.
pub(super) fn named(pointer: &ObjectPointer) -> (Identity, Stamp) {
    (
        Identity { version_id: pointer.version_id.clone(), etag: pointer.etag.clone(), size: pointer.size },
        Stamp { sequencer: pointer.sequencer.clone(), last_modified: None },
    )
}

/// Returns how the store is asked for what a pointer names.
pub(super) fn read_target(pointer: &ObjectPointer) -> ReadTarget {
    ReadTarget {
        bucket: pointer.bucket.clone(),
        key: pointer.key.clone(),
        version_id: pointer.version_id.clone(),
        etag: pointer.etag.clone(),
    }
}

/// Returns whether what is said of a version means the one the store answered with; otherwise that one is the
/// successor of the version that is meant.
pub(super) fn names(said: &Identity, info: &ObjectInfo) -> bool {
    match (&said.version_id, &info.version_id, &said.etag, said.size) {
        (Some(said), Some(own), ..) => said == own,
        (_, _, Some(etag), _) if !info.etag.is_empty() => *etag == info.etag,
        (_, _, _, Some(size)) => size == info.size,
        _ => true,
    }
}

/// Returns whether anything that is said of a version is other than the store has it.
pub(super) fn contradicts(said: &Identity, info: &ObjectInfo) -> bool {
    let other_etag = |etag: &String| !info.etag.is_empty() && *etag != info.etag;
    (said.version_id.is_some() && said.version_id != info.version_id)
        || said.etag.as_ref().is_some_and(other_etag)
        || said.size.is_some_and(|size| size != info.size)
}

/// Takes what the store says of the version that is read, whatever was said of it before: the ledger and the fence
/// go by what was read.
pub(super) fn take_identity(identity: &mut Identity, stamp: &mut Stamp, info: &ObjectInfo) {
    let etag = identity.etag.take().filter(|_| info.etag.is_empty());
    *identity = info.identity();
    identity.etag = etag.or(identity.etag.take());
    stamp.last_modified = stamp.last_modified.or(info.last_modified);
}
