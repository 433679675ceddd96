//! Many records settled together: one look at the ledger, one transaction.

use super::{
    AlreadyDone, GROUP_OBJECT_BYTES, Held, Importer, Settled, Unstorable, claimed, contradicts, given_up,
    held_by_database, log_outcome, names, read_target, take_identity,
};
use crate::{
    ledger::{
        self, Candidate, Known, Verdict,
        many::{FirstAttempt, Sought, begin_many, look_up_many, note_many_again},
    },
    load::{self, Group, Member, Session, liveness, technique::Used},
    message::{Record, RecordKind},
    object::{ReadTarget, RemoteSource},
    order::Stamp,
    outcome::{self, Outcome, Sorted},
    route::Route,
};
use decode::Format;
use futures_util::{StreamExt, stream};
use std::{collections::HashSet, sync::Arc, time::Instant};
use tracing::info_span;

/// Requests to the store at the same time.
const REQUESTS: usize = 16;

/// One record on its way.
struct Way<'a> {
    record: &'a Record,
    read: ReadTarget,
    candidate: Candidate,
}

impl Importer {
    /// Returns the dataset an object of `size` bytes would be loaded into together with others, if it may be.
    #[must_use]
    pub fn groups(&self, record: &Record, dataset: Option<usize>, size: Option<u64>) -> Option<usize> {
        let pointer = &record.pointer;
        let small = size.or(pointer.size).is_some_and(|size| (1..=GROUP_OBJECT_BYTES).contains(&size));
        if !small || record.force || !matches!(record.kind, RecordKind::Created) {
            return None;
        }
        match dataset {
            Some(index) => Some(index),
            None => match self.router.route(&pointer.bucket, &pointer.key) {
                Route::Dataset { index, .. } => Some(index),
                Route::Skip | Route::Unrouted => None,
            },
        }
    }

    /// Settles records of one dataset, as far as they can be settled together: what was imported before is noted,
    /// what was never seen is loaded in one transaction. None for a record that wants [`Self::import`].
    /// [`log_together`] is left to the caller, who knows which message each came with.
    ///
    /// # Errors
    /// [`Held`] when something outside is broken; nothing is lost by importing each record alone then.
    pub async fn import_group(&self, index: usize, records: &[&Record]) -> Result<Vec<Option<Settled>>, Held> {
        let started = Instant::now();
        let _in_use = self.in_use.acquire().await;
        let mut session = self.session().await?;
        let whereabouts = session.whereabouts();
        let work = self.settle_group(&mut session, index, records, started);
        let settled = self.sessions.watched("an import", whereabouts, work).await.unwrap_or_else(given_up);
        match &settled {
            Ok(_) => self.sessions.give_back(session),
            // Which of them it is shows when each is imported alone.
            Err(held) if held.error.is::<Unstorable>() => return Ok(records.iter().map(|_| None).collect()),
            Err(held) => {
                drop(session);
                self.after_holding(held).await;
            }
        }
        settled
    }

    async fn settle_group(
        &self,
        session: &mut Session,
        index: usize,
        records: &[&Record],
        started: Instant,
    ) -> Result<Vec<Option<Settled>>, Held> {
        let mut settled: Vec<Option<Settled>> = records.iter().map(|_| None).collect();
        let mut keys = HashSet::new();
        // Futures are put together by loops here: of closures that return them the compiler does not see that they
        // may be sent between threads.
        let mut asking = Vec::with_capacity(records.len());
        for record in records {
            asking.push(self.way(record, keys.insert((&record.pointer.bucket, &record.pointer.key))));
        }
        let ways: Vec<Option<Way<'_>>> = stream::iter(asking).buffered(REQUESTS).collect().await;
        let ways: Vec<(usize, Way<'_>)> =
            ways.into_iter().enumerate().filter_map(|(place, way)| Some((place, way?))).collect();
        let dataset = &self.config.datasets[index].name;
        let sought: Vec<Sought<'_>> = ways.iter().map(|(_, way)| way.sought()).collect();
        let known = look_up_many(&mut session.connection, dataset, &sought).await.map_err(held_by_database)?;

        let mut again = Vec::new();
        let mut fresh = Vec::new();
        for ((place, way), known) in ways.iter().zip(&known) {
            match way.stands(known) {
                AlreadyDone::Standing { head_id, object_id } => {
                    again.push((head_id, object_id));
                    settled[*place] = Some(self.settled_in(index, object_id, Outcome::AlreadyImported, 0, ""));
                }
                AlreadyDone::Never => fresh.push((*place, way)),
                AlreadyDone::Unclear => {}
            }
        }
        if !again.is_empty() {
            note_many_again(&mut session.connection, &again).await.map_err(held_by_database)?;
        }
        // One object alone is not worth a second way.
        if fresh.len() > 1 {
            self.load_fresh(session, index, &fresh, &mut settled, started).await?;
        }
        Ok(settled)
    }

    /// Completes a record's identity; None when it has to go alone.
    async fn way<'a>(&self, record: &'a Record, first_of_its_key: bool) -> Option<Way<'a>> {
        if !first_of_its_key {
            return None;
        }
        let (mut identity, mut stamp) = claimed(&record.pointer);
        let mut read = read_target(&record.pointer);
        if identity.etag.is_none() || identity.size.is_none() {
            let info = self.store.head(&read).await.ok().filter(|info| names(&identity, info))?;
            take_identity(&mut identity, &mut stamp, &info);
            read.version_id = info.version_id;
            read.etag = Some(info.etag);
        }
        let candidate = Candidate { identity, stamp, force: false, appended_before: false };
        (candidate.identity.size != Some(0)).then_some(Way { record, read, candidate })
    }

    /// Loads what was never seen.
    async fn load_fresh(
        &self,
        session: &mut Session,
        index: usize,
        fresh: &[(usize, &Way<'_>)],
        settled: &mut [Option<Settled>],
        started: Instant,
    ) -> Result<(), Held> {
        let target = match self.target(session, index).await {
            Ok(target) => target,
            Err(error) => {
                return match outcome::sort_table_error(error) {
                    Sorted::Hold(outside, error) => Err(Held { outside, error }),
                    // Whatever is wrong with the table is said of each object.
                    _ => Ok(()),
                };
            }
        };
        let dataset = &self.config.datasets[index];
        let attempts: Vec<FirstAttempt<'_>> = fresh
            .iter()
            .map(|(_, way)| FirstAttempt {
                sought: way.sought(),
                stamp: &way.candidate.stamp,
                event_time: way.record.event_time,
            })
            .collect();
        let recorded =
            begin_many(&mut session.connection, &dataset.name, &attempts, &self.worker_id, self.queue_url.as_deref())
                .await
                .map_err(held_by_database)?;
        let mut opening = Vec::with_capacity(fresh.len());
        for (_, way) in fresh {
            let streamed = dataset.format != Format::Parquet && !way.read.key.ends_with(".parquet");
            opening.push(RemoteSource::open(Arc::clone(&self.store), way.read.clone(), streamed));
        }
        let opened: Vec<_> = stream::iter(opening).buffered(REQUESTS).collect().await;
        let mut candidates = Vec::new();
        let mut sources = Vec::new();
        for (((place, way), recorded), opened) in fresh.iter().zip(recorded).zip(opened) {
            let (Some(recorded), Ok(source)) = (recorded, opened) else { continue };
            let mut candidate = way.candidate.clone();
            if contradicts(&candidate.identity, source.info()) {
                continue;
            }
            take_identity(&mut candidate.identity, &mut candidate.stamp, source.info());
            candidates.push(candidate);
            sources.push((*place, way, recorded, source));
        }
        let mut places = Vec::new();
        let mut members = Vec::new();
        for ((place, way, recorded, source), candidate) in sources.into_iter().zip(&candidates) {
            let pointer = &way.record.pointer;
            places.push((place, recorded, candidate.identity.size.unwrap_or(0)));
            members.push(Member {
                source: Arc::new(source),
                captures: self.router.captures_for(index, &pointer.bucket, &pointer.key),
                candidate,
                recorded,
            });
        }
        if members.len() < 2 {
            return Ok(());
        }
        let run_bytes = self.memory.run();
        let group = Group { target, members, run_bytes, recent: &self.recent[index], started };
        let counts = match load::load_group(session, &group).await {
            Ok(counts) => counts,
            Err(error) => {
                let pruned = matches!(&error, load::LoadError::Database(error) if outcome::is_pruned(error));
                return match outcome::sort_load_error(error) {
                    Sorted::Hold(outside, error) if !pruned => Err(Held { outside, error }),
                    // Each is told for itself when it is loaded alone; this session's transaction is over.
                    Sorted::Hold(..) | Sorted::Failed(_) | Sorted::Missing | Sorted::Changed => {
                        *session = self.session().await?;
                        liveness::goes_on_with(session);
                        Ok(())
                    }
                };
            }
        };
        for ((place, recorded, bytes), counts) in places.into_iter().zip(counts) {
            if let Some(counts) = counts {
                let outcome = Outcome::Imported(counts);
                settled[place] =
                    Some(self.settled_in(index, recorded.object_id, outcome, bytes, Used::Grouped.as_str()));
            }
        }
        Ok(())
    }

    fn settled_in(
        &self,
        index: usize,
        object_id: i64,
        outcome: Outcome,
        bytes: u64,
        technique: &'static str,
    ) -> Settled {
        let dataset = Some(self.config.datasets[index].name.clone());
        Settled { outcome, object_id: Some(object_id), dataset, already_forwarded: false, bytes, technique }
    }
}

/// Logs what became of a record that [`Importer::import_group`] settled.
pub fn log_together(record: &Record, settled: &Settled, started: Instant) {
    let pointer = &record.pointer;
    info_span!("import", s3.bucket = pointer.bucket, s3.key = pointer.key).in_scope(|| log_outcome(settled, started));
}

impl Way<'_> {
    fn sought(&self) -> Sought<'_> {
        let pointer = &self.record.pointer;
        Sought { bucket: &pointer.bucket, key: &pointer.key, identity: &self.candidate.identity }
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
