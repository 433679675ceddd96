//! `importer rejects --replay`: bad rows get their second chance.

use super::{host, output, progress, sessions, worker_id};
use crate::{
    cli::Rejects,
    config::Config,
    ledger::{
        self,
        rejects::{Second, Waiting},
    },
    load::{ReplayRejects, Replayed, Session, Sessions, Target, replay_rejects},
    message::ObjectPointer,
    outcome::{self, Failure, Outside, Reason, Sorted},
    route::Router,
};
use anyhow::Context;
use service::{http::Health, program::wait_for};
use std::{process::ExitCode, time::Duration};
use tokio::time::sleep;
use tracing::warn;

/// Numbers of rows a line names.
const SHOWN: usize = 20;

/// Loads the rows of every object, or of one, that fit by now; each object in a transaction of its own, so that a
/// run that is interrupted has done the objects it said, and another run does the rest.
///
/// # Errors
/// When Postgres is out of reach or the schema is behind.
pub async fn run(config: &Config, options: &Rejects) -> anyhow::Result<ExitCode> {
    let sessions = sessions(config, &worker_id(&host()));
    tokio::select! {
        ended = replay_all(config, options, sessions.clone()) => ended,
        () = sessions.keep_watch() => anyhow::bail!("the session watchdog ended"),
    }
}

async fn replay_all(config: &Config, options: &Rejects, sessions: Sessions) -> anyhow::Result<ExitCode> {
    sessions.refuse_transaction_pooler().await?;
    let mut session = sessions.open().await?;
    let object = options.object.as_ref().map(|object| (object.bucket.as_str(), object.key.as_str()));
    let whereabouts = session.whereabouts();
    let look = async {
        ledger::migrate::migrate(&mut session.connection).await?;
        ledger::rejects::waiting(&mut session.connection, object).await.context("read penstock.rejects")
    };
    let waiting = sessions.watched("the look for rejects", whereabouts, look).await??;
    let replay = Replay { config, router: Router::new(config)?, sessions };
    let bar = progress(Some(waiting.len() as u64), "objects");
    let (mut n_loaded, mut n_left) = (0, 0);
    for object in &waiting {
        let said = replay.object(&mut session, object).await?;
        n_loaded += said.n_loaded;
        n_left += object.n_rejects.saturating_sub(said.n_loaded);
        bar.suspend(|| output::say(format!("{}: {}", pointer(object), said.text)));
        bar.set_message(format!("{n_loaded} rows"));
        bar.inc(1);
    }
    bar.finish_and_clear();
    output::say(format!("{n_loaded} rejects resolved, {n_left} left"));
    Ok(ExitCode::SUCCESS)
}

struct Replay<'a> {
    config: &'a Config,
    router: Router,
    sessions: Sessions,
}

struct Said {
    n_loaded: u64,
    text: String,
}

impl Replay<'_> {
    /// Replays one object's rejects, trying for as long as something outside is broken.
    async fn object(&self, session: &mut Session, object: &Waiting) -> anyhow::Result<Said> {
        let mut is_waiting = false;
        loop {
            let whereabouts = session.whereabouts();
            let work = self.once(session, object);
            let once = self.sessions.watched("a replay", whereabouts, work).await;
            let sorted = match once.unwrap_or_else(|error| Err(Sorted::Hold(Outside::Postgres, error.into()))) {
                Ok(replayed) => return Ok(said(object, &replayed)),
                Err(sorted) => sorted,
            };
            // After an error the session may be in the middle of anything.
            match sorted {
                Sorted::Hold(_, error) => {
                    if !std::mem::replace(&mut is_waiting, true) {
                        warn!(error = format!("{error:#}"), "{}: waiting, will retry each second", pointer(object));
                    }
                    sleep(Duration::from_secs(1)).await;
                    *session = self.reconnect().await?;
                }
                Sorted::Failed(Failure { error, .. }) => {
                    *session = self.reconnect().await?;
                    return Ok(Said { n_loaded: 0, text: format!("cannot be replayed: {error}") });
                }
                Sorted::Missing | Sorted::Changed => unreachable!("the store is not asked"),
            }
        }
    }

    async fn once(&self, session: &mut Session, object: &Waiting) -> Result<Replayed, Sorted> {
        let Some(dataset) = self.router.dataset(&object.dataset) else {
            let problem = format!("the configuration has no dataset {:?}", object.dataset);
            return Err(Sorted::Failed(Failure::new(Reason::Schema, problem)));
        };
        let read = dataset.config.read_options(&self.config.limits, 0);
        let target = Target::resolve(&mut session.connection, &dataset.config, read, None).await;
        let target = target.map_err(outcome::sort_table_error)?;
        let captures = self.router.destination(dataset, None, &object.bucket, &object.key).captures;
        let replay = ReplayRejects { waiting: object, target: &target, captures: &captures };
        replay_rejects(session, &replay).await.map_err(outcome::sort_load_error)
    }

    async fn reconnect(&self) -> anyhow::Result<Session> {
        wait_for("postgres", &Health::default(), async || self.sessions.open().await, |_| false).await
    }
}

fn pointer(object: &Waiting) -> ObjectPointer {
    ObjectPointer::new(&object.bucket, &object.key)
}

fn said(object: &Waiting, replayed: &Replayed) -> Said {
    let Replayed::Done { second, cut } = replayed else {
        return Said { n_loaded: 0, text: "refused: another version of the object is current now".into() };
    };
    let Second { resolved, n_written, refused, .. } = second;
    let n_loaded = resolved.len() as u64;
    let mut text = format!("{n_loaded} resolved ({n_written} written, {} merged)", n_loaded - n_written.min(&n_loaded));
    let mut add = |rows: &[u64], what: &str| {
        if !rows.is_empty() {
            let shown: Vec<String> = rows.iter().take(SHOWN).map(ToString::to_string).collect();
            let more = if rows.len() > SHOWN { ", …" } else { "" };
            text.push_str(&format!("; {} {what}: row {}{more}", rows.len(), shown.join(", ")));
        }
    };
    let refused: Vec<u64> = refused.iter().map(|refused| refused.row_number.unsigned_abs()).collect();
    add(&refused, "still refused");
    add(cut, "truncated when kept, cannot be replayed");
    let n_unknown = object.n_rejects.saturating_sub(n_loaded + refused.len() as u64 + cut.len() as u64);
    if n_unknown > 0 {
        text.push_str(&format!("; {n_unknown} of an earlier release, which did not keep how they are written"));
    }
    Said { n_loaded, text }
}
