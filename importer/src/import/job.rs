//! Settling one routed record, over as many attempts as it takes.

use super::{
    Held, Importer, Settled,
    entries::Entries,
    exit::{Exit, Unstorable},
    session::given_up,
    unread::Unread,
};
use crate::{
    config::Unrouted,
    dataset::DatasetName,
    load::Session,
    message::{ObjectPointer, Record, RecordKind},
    outcome::{Failure, Outcome, Outside, Reason, Skip},
    route::{Destination, Route, Routed},
};
use std::time::{Duration, Instant};
use tracing::instrument;

/// Pause before an object that was not there is looked for again.
pub const MISSING_PAUSE: Duration = Duration::from_secs(2);
/// Times an object may turn out overwritten between looking and reading before it is held.
const MAX_CHANGES: usize = 5;

/// A routed record to be settled.
pub struct Job<'a> {
    pub(super) importer: &'a Importer,
    pub(super) message_id: Option<&'a str>,
    /// When the current attempt began.
    pub(super) started: Instant,
    routed: &'a Routed,
    /// An attempt before this one did not find the object.
    missed: bool,
}

/// What a record asks for.
enum Task<'a> {
    /// Load the object.
    Import(&'a Destination),
    /// Take the object's rows away; `delete_marker`: no version of it was destroyed.
    Remove { from: &'a Destination, delete_marker: bool },
    /// Only say what became of it.
    Note(Unread),
}

/// The import of one version of an object into one dataset.
#[derive(Clone, Copy)]
pub(super) struct Import<'a> {
    pub job: &'a Job<'a>,
    pub to: &'a Destination,
    pub entries: Entries<'a>,
    /// The version, as far as it is named.
    pub pointer: &'a ObjectPointer,
}

impl<'a> Job<'a> {
    /// Returns the work on a record, of which nothing is done yet.
    #[must_use]
    pub fn new(importer: &'a Importer, routed: &'a Routed, message_id: Option<&'a str>) -> Self {
        Self { importer, routed, message_id, started: Instant::now(), missed: false }
    }

    /// Tries to settle the record: the outcome is in the ledger when this returns `Ok`, but for a failure.
    ///
    /// # Errors
    /// [`Held`] when something outside is broken: attempt it again later. [`Outside::Missing`] when the object is not
    /// there, so that the slot is free meanwhile: attempt it again after [`MISSING_PAUSE`], then it is gone.
    #[instrument(
        name = "import",
        skip_all,
        fields(s3.bucket = self.record().pointer.bucket, s3.key = self.record().pointer.key)
    )]
    pub async fn attempt(&mut self) -> Result<Settled, Held> {
        self.started = Instant::now();
        let importer = self.importer;
        let _in_use = importer.in_use.acquire().await;
        let mut session = importer.session().await?;
        let whereabouts = session.whereabouts();
        let work = self.settle(&mut session);
        let result = importer.sessions.watched("an import", whereabouts, work).await.unwrap_or_else(given_up);
        match result {
            Ok(settled) => {
                importer.sessions.give_back(session);
                // A worker may hold what fails for a cause that may not be its own, and says itself what became of it.
                if self.message_id.is_none() || !settled.may_be_braked() {
                    settled.log(self.started);
                }
                Ok(settled)
            }
            Err(held) if matches!(held.outside, Outside::Missing | Outside::Elsewhere) => {
                importer.sessions.give_back(session);
                self.missed |= held.outside == Outside::Missing;
                Err(held)
            }
            Err(held) if held.error.is::<Unstorable>() => {
                drop(session);
                // There is no row of the ledger for it, and cannot be.
                let outcome = Outcome::Failed(Failure::new(Reason::Encoding, held.error.to_string()));
                let settled = Settled::new(&self.routed.dataset_name(), None, outcome);
                settled.log(self.started);
                Ok(settled)
            }
            Err(held) => {
                // The session may be in the middle of anything.
                drop(session);
                importer.after_holding(&held).await;
                Err(held)
            }
        }
    }

    pub(super) fn record(&self) -> &'a Record {
        &self.routed.record
    }

    pub(super) fn entries<'e>(&'e self, dataset: &'e DatasetName) -> Entries<'e> {
        Entries { job: self, dataset }
    }

    async fn settle(&self, session: &mut Session) -> Result<Settled, Held> {
        match task(self.routed, self.importer.unrouted) {
            Task::Import(to) => self.import(session, to).await,
            Task::Remove { from, delete_marker } => self.remove(session, from, delete_marker).await,
            Task::Note(unread) => self.note(session, unread).await,
        }
    }

    /// Imports the version the record names or, when it has been overwritten, what is there.
    async fn import(&self, session: &mut Session, to: &Destination) -> Result<Settled, Held> {
        let entries = self.entries(&to.dataset.name);
        let mut pointer = self.record().pointer.clone();
        for _ in 0..MAX_CHANGES {
            let import = Import { job: self, to, entries, pointer: &pointer };
            match import.run(session).await {
                Ok(settled) | Err(Exit::Settled(settled)) => return Ok(settled),
                Err(Exit::Again(current)) => pointer = *current,
                Err(Exit::Missing(recorded)) => {
                    // Noted before the second look, which may find another version and be about that one only.
                    let settled = entries.finish(session, recorded, Outcome::Gone).await?;
                    if self.missed {
                        return Ok(settled);
                    }
                    return Err(Held { outside: Outside::Missing, error: anyhow::anyhow!("{pointer} is not there") });
                }
                Err(Exit::Held(held)) => return Err(held),
            }
        }
        // Nothing is broken, so the others need not wait for it.
        Err(Held { outside: Outside::Contention, error: anyhow::anyhow!("{pointer} keeps changing while it is read") })
    }
}

impl Import<'_> {
    /// The path of a version, from its name to its outcome.
    async fn run(self, session: &mut Session) -> Result<Settled, Exit> {
        let version = self.identify(session).await?;
        self.begin(session, version).await?.load(session).await
    }
}

/// Decides what a routed record asks for.
fn task(routed: &Routed, unrouted: Unrouted) -> Task<'_> {
    let removal = match &routed.record.kind {
        RecordKind::Created => None,
        RecordKind::Removed { by_lifecycle: false, delete_marker } => Some(*delete_marker),
        RecordKind::Removed { by_lifecycle: true, .. } | RecordKind::Other(_) => {
            return Task::Note(Unread::of_no_dataset(Outcome::Skipped(Skip::Event), true));
        }
        RecordKind::UnsupportedVersion(version) => {
            let failure =
                Failure::new(Reason::UnsupportedEvent, format!("S3 event version {version} is not understood"));
            return Task::Note(Unread::of_no_dataset(Outcome::Failed(failure), true));
        }
    };
    let outcome = match (&routed.route, unrouted) {
        (Route::Dataset(to), _) => {
            return match removal {
                None => Task::Import(to),
                Some(delete_marker) => Task::Remove { from: to, delete_marker },
            };
        }
        (Route::Skip, _) => Outcome::Skipped(Skip::NameRule),
        (Route::NoSuchDataset(name), _) => {
            let problem = format!("the pointer names dataset {name:?}, and the configuration has none of that name");
            Outcome::Failed(Failure::new(Reason::Unrouted, problem))
        }
        (Route::Unrouted, Unrouted::Skip) => Outcome::Skipped(Skip::Unrouted),
        (Route::Unrouted, Unrouted::DeadLetter) => {
            let pointer = &routed.record.pointer;
            Outcome::Failed(Failure::new(Reason::Unrouted, format!("no dataset matches {pointer}")))
        }
    };
    Task::Note(Unread::of_no_dataset(outcome, removal.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, route::Router};

    #[track_caller]
    fn check(kind: &RecordKind, key: &str, unrouted: Unrouted, expected: &str) {
        let text = "[[dataset]]\nname = \"d\"\nmatch = \"s3://b/d/**\"\ntable = \"t\"\nmode = \"append\"";
        let config = Config::parse(text, "importer.toml", |_| None).expect("a configuration");
        let pointer = ObjectPointer::new("b", key);
        let record = Record { kind: kind.clone(), ..Record::created(pointer) };
        let routed = Router::new(&config).expect("a good pattern").route(record);
        let shown = match task(&routed, unrouted) {
            Task::Import(to) => format!("import into {}", to.dataset.name),
            Task::Remove { from, delete_marker: false } => format!("remove from {}", from.dataset.name),
            Task::Remove { from, delete_marker: true } => format!("hide from {}", from.dataset.name),
            Task::Note(Unread { outcome: Outcome::Skipped(reason), .. }) => format!("skipped({reason})"),
            Task::Note(Unread { outcome: Outcome::Failed(failure), .. }) => format!("failed({})", failure.reason),
            Task::Note(unread) => panic!("{:?}", unread.outcome),
        };
        assert_eq!(shown, expected, "{kind:?} {key}");
    }

    #[test]
    fn what_a_record_asks_for_depends_on_its_event_first_and_then_on_where_it_goes() {
        let removed = |by_lifecycle, delete_marker| RecordKind::Removed { by_lifecycle, delete_marker };
        for (kind, in_dataset, elsewhere) in [
            (RecordKind::Created, "import into d", "failed(unrouted)"),
            (removed(false, false), "remove from d", "failed(unrouted)"),
            (removed(false, true), "hide from d", "failed(unrouted)"),
            (removed(true, false), "skipped(event)", "skipped(event)"),
            (RecordKind::Other("ObjectTagging:Put".into()), "skipped(event)", "skipped(event)"),
            (RecordKind::UnsupportedVersion("3.0".into()), "failed(unsupported_event)", "failed(unsupported_event)"),
        ] {
            check(&kind, "d/x", Unrouted::DeadLetter, in_dataset);
            check(&kind, "e/x", Unrouted::DeadLetter, elsewhere);
        }
        check(&RecordKind::Created, "e/x", Unrouted::Skip, "skipped(unrouted)");
        check(&RecordKind::Created, "d/_SUCCESS", Unrouted::DeadLetter, "skipped(name_rule)");
    }
}
