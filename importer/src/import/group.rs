//! Many small objects of one dataset settled together: one look at the ledger, one transaction.

use super::{
    Held, Importer, Settled,
    exit::{Unstorable, held_by_database},
    session::given_up,
    version::{Version, contradicts, take_identity},
};
use crate::{
    dataset::Dataset,
    ledger::{
        self, Candidate, Known, Recorded, Verdict,
        many::{FirstAttempt, Sought, begin_many, look_up_many, note_many_again},
    },
    load::{self, Group, LoadError, Member, Session, technique::Used},
    message::{Record, RecordKind},
    object::{ReadTarget, RemoteSource},
    order::Stamp,
    outcome::{self, Outcome, Sorted},
    route::{Destination, Routed},
};
use futures_util::{StreamExt, stream};
use std::{collections::HashSet, sync::Arc, time::Instant};

/// Small objects that share a transaction at most. Measured: 50 bring nine tenths of what any number brings, and more
/// would wait longer for their commit.
pub const GROUP_OBJECTS: usize = 50;
/// Objects up to this many bytes are loaded together with others.
/// Larger ones are worth a transaction of their own, and would make the others wait.
const GROUP_OBJECT_BYTES: u64 = 256 * 1024;

/// Returns whether a record's object, of `size` bytes or as long as the record says, may share a transaction with
/// others of its dataset.
#[must_use]
pub fn may_share(routed: &Routed, size: Option<u64>) -> bool {
    let Record { kind, pointer, anew, .. } = &*routed.record;
    let is_small = size.or(pointer.size).is_some_and(|size| (1..=GROUP_OBJECT_BYTES).contains(&size));
    is_small && anew.is_none() && *kind == RecordKind::Created && routed.destination().is_some()
}

impl Importer {
    /// Settles records of one dataset, as far as they can be settled together: what was imported before is noted,
    /// what was never seen is loaded in one transaction. None for a record that wants [`Self::import`].
    /// Logging is left to the caller, who knows which message each came with.
    ///
    /// # Errors
    /// [`Held`] when something outside is broken; nothing is lost by importing each record alone then.
    pub async fn import_group(&self, records: &[&Routed]) -> Result<Vec<Option<Settled>>, Held> {
        let nothing = || records.iter().map(|_| None).collect();
        let Some(to) = records.first().and_then(|routed| routed.destination()) else { return Ok(nothing()) };
        let group = GroupImport { importer: self, dataset: &to.dataset, started: Instant::now() };
        let _in_use = self.in_use.acquire().await;
        let mut session = self.session().await?;
        let whereabouts = session.whereabouts();
        let work = group.settle(&mut session, records);
        let settled = self.sessions.watched("an import", whereabouts, work).await.unwrap_or_else(given_up);
        match &settled {
            Ok(_) => self.sessions.give_back(session),
            // Which of them it is shows when each is imported alone.
            Err(held) if held.error.is::<Unstorable>() => return Ok(nothing()),
            Err(held) => {
                drop(session);
                self.after_holding(held).await;
            }
        }
        settled
    }
}

/// The import of a group of records into one dataset.
#[derive(Clone, Copy)]
struct GroupImport<'a> {
    importer: &'a Importer,
    dataset: &'a Arc<Dataset>,
    started: Instant,
}

/// A record whose version is known, and its place in the group.
struct Sighting<'a> {
    place: usize,
    record: &'a Record,
    to: &'a Destination,
    read: ReadTarget,
    candidate: Candidate,
}

/// What the ledger says of a version before anything is locked.
enum AlreadyDone {
    /// It stands, and the sighting brings nothing new.
    Standing { head_id: i64, object_id: i64 },
    /// Neither it nor another version of the key was ever seen.
    Never,
    /// Anything else.
    Unclear,
}

impl<'a> GroupImport<'a> {
    async fn settle(&self, session: &mut Session, records: &[&'a Routed]) -> Result<Vec<Option<Settled>>, Held> {
        let sightings = self.identify(records).await;
        let sought: Vec<Sought<'_>> = sightings.iter().map(Sighting::sought).collect();
        let known =
            look_up_many(&mut session.connection, &self.dataset.name, &sought).await.map_err(held_by_database)?;

        let mut settled: Vec<Option<Settled>> = records.iter().map(|_| None).collect();
        let mut again = Vec::new();
        let mut fresh = Vec::new();
        for (sighting, known) in sightings.iter().zip(&known) {
            match sighting.stands(known) {
                AlreadyDone::Standing { head_id, object_id } => {
                    again.push((head_id, object_id));
                    let outcome = Outcome::AlreadyImported;
                    settled[sighting.place] = Some(Settled::new(&self.dataset.name, Some(object_id), outcome));
                }
                AlreadyDone::Never => fresh.push(sighting),
                AlreadyDone::Unclear => {}
            }
        }
        if !again.is_empty() {
            note_many_again(&mut session.connection, &again).await.map_err(held_by_database)?;
        }
        // One object alone is not worth a second path.
        if fresh.len() > 1 {
            for (place, loaded) in self.load(session, &fresh).await? {
                settled[place] = Some(loaded);
            }
        }
        Ok(settled)
    }

    /// Finds out which version each record means; those that have to go alone are left out.
    async fn identify(&self, records: &[&'a Routed]) -> Vec<Sighting<'a>> {
        let mut keys = HashSet::new();
        // Futures are put together by loops here: of closures that return them the compiler does not see that they
        // may be sent between threads.
        let mut asking = Vec::with_capacity(records.len());
        for (place, routed) in records.iter().enumerate() {
            let Some(to) = routed.destination().filter(|to| Arc::ptr_eq(&to.dataset, self.dataset)) else { continue };
            if keys.insert((&routed.record.pointer.bucket, &routed.record.pointer.key)) {
                asking.push(self.sight(place, &routed.record, to));
            }
        }
        let sightings: Vec<Option<Sighting<'a>>> = stream::iter(asking).buffered(GROUP_OBJECTS).collect().await;
        sightings.into_iter().flatten().collect()
    }

    async fn sight(&self, place: usize, record: &'a Record, to: &'a Destination) -> Option<Sighting<'a>> {
        let mut version = Version::claimed(&record.pointer);
        version.complete(&*self.importer.store).await.ok()?;
        let Version { identity, stamp, read } = version;
        let candidate = Candidate { identity, stamp, anew: None, appended_before: false };
        (candidate.identity.size != Some(0)).then_some(Sighting { place, record, to, read, candidate })
    }

    /// Loads what was never seen, and returns what could be loaded, by place.
    async fn load(&self, session: &mut Session, fresh: &[&Sighting<'a>]) -> Result<Vec<(usize, Settled)>, Held> {
        let target = match self.importer.target(session, self.dataset).await {
            Ok(target) => target,
            Err(error) => {
                return match outcome::sort_table_error(error) {
                    Sorted::Hold(outside, error) => Err(Held { outside, error }),
                    // Whatever is wrong with the table is said of each object.
                    Sorted::Failed(_) | Sorted::Missing | Sorted::Changed => Ok(Vec::new()),
                };
            }
        };
        // A far store takes longer than the ledger.
        let opening = async { Ok(self.open(fresh).await) };
        let (begun, opened) = tokio::try_join!(self.begin(session, fresh), opening)?;
        let members = self.members(fresh, begun, opened);
        if members.len() < 2 {
            return Ok(Vec::new());
        }
        let group = Group {
            target,
            members,
            run_bytes: self.importer.memory.run(),
            recent: &self.dataset.recent,
            started: self.started,
        };
        let loaded = match load::load_group(session, &group).await {
            Ok(loaded) => loaded.into_iter(),
            Err(error) => {
                self.after_error(session, error).await?;
                return Ok(Vec::new());
            }
        };
        let settled = loaded.map(|(member, counts)| {
            let outcome = Outcome::Imported(counts);
            let settled = Settled::new(&self.dataset.name, Some(member.recorded.object_id), outcome);
            let bytes = member.candidate.identity.size.unwrap_or(0);
            (member.place, Settled { bytes, technique: Some(Used::Grouped), ..settled })
        });
        Ok(settled.collect())
    }

    /// Records the attempts; none where another worker recorded the version meanwhile.
    async fn begin(&self, session: &mut Session, fresh: &[&Sighting<'a>]) -> Result<Vec<Option<Recorded>>, Held> {
        let attempts: Vec<FirstAttempt<'_>> = fresh.iter().map(|sighting| sighting.first_attempt()).collect();
        let Importer { worker_id, queue_url, .. } = self.importer;
        begin_many(&mut session.connection, &self.dataset.name, &attempts, worker_id, queue_url.as_deref())
            .await
            .map_err(held_by_database)
    }

    /// Opens the objects; none for one that cannot be.
    async fn open(&self, fresh: &[&Sighting<'a>]) -> Vec<Option<RemoteSource>> {
        let mut opening = Vec::with_capacity(fresh.len());
        for Sighting { read, .. } in fresh {
            let is_streamed = self.dataset.is_streamed(&read.key);
            opening.push(RemoteSource::open(Arc::clone(&self.importer.store), read.clone(), is_streamed));
        }
        let opened: Vec<_> = stream::iter(opening).buffered(GROUP_OBJECTS).collect().await;
        opened.into_iter().map(Result::ok).collect()
    }

    /// Returns the objects that are recorded, and open, and whose versions are what was said of them.
    fn members(
        &self,
        fresh: &[&Sighting<'a>],
        begun: Vec<Option<Recorded>>,
        opened: Vec<Option<RemoteSource>>,
    ) -> Vec<Member> {
        let all = fresh.iter().zip(begun.into_iter().zip(opened));
        let members = all.filter_map(|(sighting, (recorded, source))| {
            let source = source.filter(|source| !contradicts(&sighting.candidate.identity, &source.info))?;
            let mut candidate = sighting.candidate.clone();
            take_identity(&mut candidate.identity, &mut candidate.stamp, &source.info);
            let (source, object, recorded) = (Arc::new(source), sighting.read.clone(), recorded?);
            let (captures, after) = (sighting.to.captures.clone(), sighting.record.after.clone());
            Some(Member { place: sighting.place, source, object, captures, candidate, recorded, after })
        });
        members.collect()
    }

    /// Holds the group for what is broken outside. Of anything else each object says so when it is loaded alone.
    async fn after_error(&self, session: &mut Session, error: LoadError) -> Result<(), Held> {
        let is_pruned = matches!(&error, LoadError::Database(error) if outcome::is_pruned(error));
        match outcome::sort_load_error(error) {
            Sorted::Hold(outside, error) if !is_pruned => Err(Held { outside, error }),
            // This session's transaction is over.
            Sorted::Hold(..) | Sorted::Failed(_) | Sorted::Missing | Sorted::Changed => {
                self.importer.replace(session).await
            }
        }
    }
}

impl Sighting<'_> {
    fn sought(&self) -> Sought<'_> {
        let pointer = &self.record.pointer;
        Sought { bucket: &pointer.bucket, key: &pointer.key, identity: &self.candidate.identity }
    }

    fn first_attempt(&self) -> FirstAttempt<'_> {
        let Record { event_time, delivery, .. } = *self.record;
        FirstAttempt { sought: self.sought(), stamp: &self.candidate.stamp, event_time, delivery }
    }

    /// Returns what the ledger says, as far as it needs no lock to be acted on.
    fn stands(&self, known: &Known) -> AlreadyDone {
        match (&known.standing, &known.own, known.head_id) {
            (None, None, _) => AlreadyDone::Never,
            (Some(standing), Some(own), Some(head_id))
                if own.object_id == standing.object_id
                    && own.forwarded_message_id.is_none()
                    && ledger::judge(Some(standing), &self.candidate) == Verdict::AlreadyImported
                    && brings_nothing(&self.candidate.stamp, &standing.stamp) =>
            {
                AlreadyDone::Standing { head_id, object_id: own.object_id }
            }
            _ => AlreadyDone::Unclear,
        }
    }
}

/// Returns whether a sighting says nothing that is not known of the version that stands.
fn brings_nothing(seen: &Stamp, standing: &Stamp) -> bool {
    (seen.sequencer.is_none() || seen.sequencer == standing.sequencer)
        && (seen.last_modified.is_none() || seen.last_modified == standing.last_modified)
}
