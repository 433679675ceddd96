//! What follows a commit: pointers for the steps after a dataset, and notices. The ledger's triggers write it down in
//! the transaction that causes it; here it is claimed and sent, at least once. A second sending does no harm.

mod targets;

pub use targets::{Place, Targets};

/// The pauses after refusals get no longer, unless [`Deliver`] says so.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

use crate::{
    postgres::{STATEMENT_TIMEOUT, is_outage},
    time::backoff,
    words::chain,
};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use sqlx::{
    Connection, PgConnection, Postgres, Row,
    postgres::{PgArguments, types::PgInterval},
    query::Query,
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

/// How long a claim is exclusive. Longer than all of a sending may take.
const LEASE: Duration = Duration::from_secs(90);
/// How long one sending of what was claimed for a target may take.
const DELIVERY: Duration = Duration::from_secs(15);
/// How often it is looked for more while a sending is under way.
const AGAIN: Duration = Duration::from_secs(1);
/// Items claimed at once.
const AT_ONCE: i32 = 100;
/// The pause after the first refusal; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest text of an error that is kept.
const MAX_ERROR_BYTES: usize = 500;

/// An item that is due, claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its number.
    pub id: i64,
    /// Its kind, and the name of the step or of the notification.
    pub target: String,
    /// Where it goes: a queue's URL, or the ARN of a topic or an event bus. None as long as that is not known.
    pub place: Option<String>,
    /// What a notice is about.
    pub event: Option<String>,
    /// What is sent.
    pub body: String,
    /// How often it was claimed, this time included.
    pub attempts: i32,
}

/// What became of a sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The item's number.
    pub id: i64,
    /// Why it was not taken, and for how long to leave it.
    pub refused: Option<(String, Duration)>,
}

/// The database, as far as sending needs it. Each call ends within seconds.
pub trait Outbox: Sync {
    /// Claims items as [`claim`] does.
    fn claim<'a>(&'a self, busy: &'a [String]) -> BoxFuture<'a, anyhow::Result<Vec<Item>>>;

    /// Settles items as [`settle`] does.
    fn settle<'a>(&'a self, sent: &'a [Sent]) -> BoxFuture<'a, anyhow::Result<()>>;

    /// Returns whether an error is the database being out of reach, which is reported elsewhere.
    fn is_outage(&self, error: &anyhow::Error) -> bool {
        is_outage(error)
    }
}

/// What brings items where they go.
pub trait Deliver: Sync {
    /// Sends items of one target to its place. One result an item, in order.
    fn send<'a>(&'a self, place: &'a str, items: &'a [Item]) -> BoxFuture<'a, Vec<Result<(), String>>>;

    /// Returns how long the pauses after refusals get.
    fn longest_pause(&self) -> Duration {
        LONGEST_PAUSE
    }
}

/// How many items were sent, and how many refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Taken by their targets.
    pub sent: usize,
    /// Not taken; tried again later.
    pub refused: usize,
}

/// SQLSTATE of a statement that was cancelled.
const CANCELLED: &str = "57014";

/// How long one look for keys that have arrived may take.
const LOOK: Duration = Duration::from_secs(5);
/// How long all looks before one sending may take: two that take too long, and others. What is left is looked for before
/// the next.
const LOOKS: Duration = Duration::from_secs(12);

/// The last look failed, which is told once.
static FAILS_TO_LOOK: AtomicBool = AtomicBool::new(false);

/// Looks for keys that have arrived, and for waits that are over; what it fails with keeps nothing else from being sent.
async fn recheck(connection: &mut PgConnection) -> sqlx::Result<()> {
    let end = Instant::now() + LOOKS;
    let mut failed = None;
    match sqlx::query_scalar::<_, String>(include_str!("due/lookups.sql")).fetch_all(&mut *connection).await {
        Ok(lookups) => {
            for lookup in lookups {
                if Instant::now() + LOOK > end {
                    break;
                }
                let look = sqlx::query("SELECT penstock.recheck($1)").bind(&lookup);
                match in_time(connection, look).await {
                    Err(error) if was_cancelled(&error) => {
                        warn!(lookup, "looking for keys that have arrived took too long; it is tried again later");
                        sqlx::query(include_str!("due/put_off.sql")).bind(&lookup).execute(&mut *connection).await?;
                    }
                    looked => failed = looked.err().or(failed),
                }
            }
        }
        Err(error) => failed = Some(error),
    }
    let ended = in_time(connection, sqlx::query("SELECT penstock.give_up_waits()")).await;
    let Some(error) = ended.err().or(failed) else {
        FAILS_TO_LOOK.store(false, Ordering::Relaxed);
        return Ok(());
    };
    let Some(said) = error.as_database_error() else { return Err(error) };
    if !FAILS_TO_LOOK.swap(true, Ordering::Relaxed) {
        warn!(error = said.message(), "could not look for keys that have arrived");
    }
    Ok(())
}

/// Does a statement in a transaction of its own, for [`LOOK`] at most.
async fn in_time(connection: &mut PgConnection, statement: Query<'_, Postgres, PgArguments>) -> sqlx::Result<()> {
    let mut tx = connection.begin().await?;
    let limit = format!("SET LOCAL statement_timeout = {}", LOOK.as_millis());
    sqlx::query(&limit).execute(&mut *tx).await?;
    match statement.execute(&mut *tx).await {
        Ok(_) => tx.commit().await,
        Err(error) => {
            // Where the connection is lost, that is what is said.
            if error.as_database_error().is_some() {
                tx.rollback().await?;
            }
            Err(error)
        }
    }
}

fn was_cancelled(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|said| said.code().is_some_and(|code| code == CANCELLED))
}

/// Claims what is due, for [`LEASE`]; with nothing `busy`, after a look for keys that have arrived.
///
/// # Errors
/// Of the database.
pub async fn claim(connection: &mut PgConnection, busy: &[String]) -> sqlx::Result<Vec<Item>> {
    if busy.is_empty() {
        recheck(connection).await?;
    }
    let lease = PgInterval::try_from(LEASE).map_err(sqlx::Error::Encode)?;
    let rows = sqlx::query("SELECT id, target, place, event, body, attempts FROM penstock.claim_due($1, $2, $3)")
        .bind(AT_ONCE)
        .bind(lease)
        .bind(busy)
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Item {
                id: row.try_get("id")?,
                target: row.try_get("target")?,
                place: row.try_get("place")?,
                event: row.try_get("event")?,
                body: row.try_get("body")?,
                attempts: row.try_get("attempts")?,
            })
        })
        .collect()
}

/// Forgets what was sent, and notes why the rest was not.
///
/// # Errors
/// Of the database.
pub async fn settle(connection: &mut PgConnection, sent: &[Sent]) -> sqlx::Result<()> {
    let (refused, done): (Vec<_>, Vec<_>) = sent.iter().partition(|sent| sent.refused.is_some());
    sqlx::query(include_str!("due/settle.sql"))
        .bind(done.iter().map(|sent| sent.id).collect::<Vec<_>>())
        .bind(refused.iter().map(|sent| sent.id).collect::<Vec<_>>())
        .bind(refused.iter().filter_map(|sent| Some(sent.refused.as_ref()?.0.as_str())).collect::<Vec<_>>())
        .bind(refused.iter().filter_map(|sent| Some(sent.refused.as_ref()?.1.as_secs_f64())).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Sends what is due, until nothing is or the time is over; what is under way then ends within [`DELIVERY`]. Targets do
/// not wait for each other.
///
/// # Errors
/// Of the database. What was claimed and could not be settled is sent again after its lease.
pub async fn send(outbox: &dyn Outbox, targets: &dyn Deliver, end: Instant) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut under_way = FuturesUnordered::new();
    let mut busy: Vec<String> = Vec::new();
    let mut failed = None;
    let mut may_be_more = true;
    loop {
        let may_claim = failed.is_none() && under_way.len() < MAX_TARGETS && Instant::now() < end;
        if may_claim && may_be_more {
            let mut of_target: BTreeMap<String, Vec<Item>> = BTreeMap::new();
            match outbox.claim(&busy).await {
                Ok(items) => {
                    items.into_iter().for_each(|item| of_target.entry(item.target.clone()).or_default().push(item))
                }
                Err(error) => failed = Some(error),
            }
            may_be_more = !of_target.is_empty();
            for (target, items) in of_target {
                busy.push(target.clone());
                under_way.push(async move { (target, deliver(targets, items).await) });
            }
            continue;
        }
        tokio::select! {
            next = under_way.next() => {
                let Some((target, sent)) = next else { return failed.map_or(Ok(tally), Err) };
                match outbox.settle(&sent).await {
                    Ok(()) => {
                        let refused = sent.iter().filter(|sent| sent.refused.is_some()).count();
                        tally.refused += refused;
                        tally.sent += sent.len() - refused;
                    }
                    // What the others have taken is settled all the same.
                    Err(error) => failed = failed.or(Some(error)),
                }
                busy.retain(|other| *other != target);
                may_be_more = true;
            }
            // One target may be silent, while there is something for others.
            () = sleep(AGAIN), if may_claim && !under_way.is_empty() => may_be_more = true,
        }
    }
}

/// Sends what is due every now and then, and tells of a failure once until it is over.
#[derive(Debug, Default)]
pub struct Sender {
    failing: bool,
}

impl Sender {
    /// As [`send`], for as long as `limit`.
    pub async fn send(&mut self, outbox: &dyn Outbox, targets: &dyn Deliver, limit: Duration) {
        match send(outbox, targets, Instant::now() + limit).await {
            Ok(_) => self.failing = false,
            Err(error) if outbox.is_outage(&error) => {
                debug!(error = chain(&error), "pending messages have to wait");
            }
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                warn!(error = chain(&error), "could not send pending messages");
            }
            Err(_) => {}
        }
    }
}

/// Targets sent to at once.
const MAX_TARGETS: usize = 8;

/// Sends items to their one target.
async fn deliver(targets: &dyn Deliver, items: Vec<Item>) -> Vec<Sent> {
    let refused = |item: &Item, error: String| refused(item, error, targets.longest_pause());
    let Some(place) = items.first().and_then(|item| item.place.clone()) else {
        let text = "its queue has no URL yet: start a worker that serves it, or run importer migrate";
        return items.iter().map(|item| refused(item, text.into())).collect();
    };
    let Ok(results) = timeout(DELIVERY, targets.send(&place, &items)).await else {
        warn!(due_to = items[0].target, place, "what is due was not taken: no answer");
        let text = format!("no answer within {} s", DELIVERY.as_secs());
        return items.iter().map(|item| refused(item, text.clone())).collect();
    };
    let mut told = false;
    items
        .iter()
        .zip(results)
        .map(|(item, result)| match result {
            Ok(()) => {
                debug!(due_to = item.target, "sent what was due");
                Sent { id: item.id, refused: None }
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    warn!(due_to = item.target, place, error, attempts = item.attempts, "what is due was not taken");
                }
                refused(item, error)
            }
        })
        .collect()
}

fn refused(item: &Item, mut error: String, longest_pause: Duration) -> Sent {
    error.truncate(error.floor_char_boundary(MAX_ERROR_BYTES));
    let doublings = u32::try_from(item.attempts.saturating_sub(1)).unwrap_or_default();
    let pause = backoff(FIRST_PAUSE, doublings, longest_pause);
    Sent { id: item.id, refused: Some((error, pause)) }
}

/// How long one call of an [`Outbox`] may take.
pub const LIMIT: Duration = STATEMENT_TIMEOUT;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        let item = |attempts| Item { id: 1, target: "t".into(), place: None, event: None, body: "{}".into(), attempts };
        let pause =
            |attempts| refused(&item(attempts), "no".into(), LONGEST_PAUSE).refused.expect("refused").1.as_secs();
        assert_eq!([1, 2, 3, 9, 10, 1000].map(pause), [2, 4, 8, 512, 900, 900]);
    }

    #[test]
    fn errors_are_cut_between_characters() {
        let item = Item { id: 1, target: "t".into(), place: None, event: None, body: "{}".into(), attempts: 1 };
        let (text, _) = refused(&item, "é".repeat(400), LONGEST_PAUSE).refused.expect("refused");
        assert_eq!(text.len(), 500);
    }
}
