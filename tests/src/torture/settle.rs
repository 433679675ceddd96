//! The end of a run in which something is waited for: time passes, step by step, until nothing is waited for any more.
//!
//! Hours are not spent: the times that the database has of what waits and of what is due are put back, all by as much,
//! which is what it would find had so much time passed.

use super::stand::{More, Stand};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// How long the workers may take over what is left.
const LIMIT: Duration = Duration::from_secs(300);
/// What is put off by less than this goes with the first step: arrivals within five minutes of the last run.
const PUT_OFF: u32 = 6;
/// How much time passes when only what is due is left for [`PATIENCE`], in minutes: what a dead sender had claimed is sent
/// by others after 90 s.
const CLAIM: u32 = 2;
const PATIENCE: Duration = Duration::from_secs(7);
/// After so many minutes what no run has ended is given up.
const DAY: u32 = 25 * 60;

/// What was seen on the way to the end.
#[derive(Debug, Default)]
pub struct Settled {
    /// Keys of objects and what they waited for when all that had arrived was taken, and no more time had passed.
    pub waiting: BTreeSet<(String, i64)>,
    /// What was due then and should not have been, or the other way round.
    pub wrongly_due: Vec<String>,
    /// `id, version, value, amount, extra, penstock_object` of the rows of [`Dataset::Post`](super::content::Dataset::Post)
    /// when each object that waits was run again by time.
    pub posts: Vec<super::judge::Found>,
    /// What waits or is due in the very end.
    pub left: Vec<String>,
    /// Keys of objects that have given up, by the notices.
    pub gave_up: BTreeSet<String>,
}

/// Lets so many minutes pass for what waits and what is due, unless Postgres is not to be had.
pub(super) async fn pass(stand: &Stand, minutes: u32) {
    if stand.more.is_none() {
        return;
    }
    // In the order in which workers take the rows, of which a frozen one may hold some.
    let step = format!(
        "BEGIN; SET LOCAL lock_timeout = '2s';
         UPDATE penstock.refreshed SET due_at = due_at - interval '{minutes} minutes';
         UPDATE penstock.waiting_object
         SET since = since - interval '{minutes} minutes', until = until - interval '{minutes} minutes';
         UPDATE penstock.waiting_key SET again_at = again_at - interval '{minutes} minutes';
         UPDATE penstock.due_item SET at = at - interval '{minutes} minutes';
         UPDATE penstock.recheck_item SET at = at - interval '{minutes} minutes';
         COMMIT"
    );
    let _ = stand.database.execute(&step).await;
}

/// Waits until all messages are done, and all that follows them is.
///
/// # Errors
/// When that does not come.
pub async fn calm(stand: &Stand) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut since = Instant::now();
    let mut n_calm = 0;
    while n_calm < 2 {
        sleep(Duration::from_millis(100)).await;
        let n_waiting = stand.n_waiting().await?;
        let n_due = n_due(stand).await?;
        n_calm = if n_waiting + n_due == 0 { n_calm + 1 } else { 0 };
        if n_waiting > 0 {
            since = Instant::now();
        } else if since.elapsed() > PATIENCE {
            pass(stand, CLAIM).await;
            since = Instant::now();
        }
        ensure!(Instant::now() < deadline, "{n_waiting} messages and {n_due} that are due are never done");
    }
    Ok(())
}

/// What is to be sent or looked for soon. What runs an object again by time comes later.
async fn n_due(stand: &Stand) -> Result<u64> {
    if stand.more.is_none() {
        return Ok(0);
    }
    let query = "SELECT (SELECT count(*) FROM penstock.due_item
                         WHERE event IS DISTINCT FROM 'again' OR at < now() + interval '95 seconds')
                      + (SELECT count(*) FROM penstock.recheck_item)";
    Ok(stand.database.value(query).await?.parse()?)
}

/// Lets time pass until all has given up.
///
/// # Errors
/// When something goes on for ever.
pub async fn settle(stand: &Stand, more: &More) -> Result<Settled> {
    pass(stand, PUT_OFF).await;
    calm(stand).await.context("what has arrived is taken")?;
    let cells = stand.database.cells("SELECT key, value FROM penstock.waiting").await?;
    let waiting = cells.into_iter().map(|cells| match cells.as_slice() {
        [Some(key), Some(value)] => Ok((key.clone(), value.parse()?)),
        other => anyhow::bail!("no key and value: {other:?}"),
    });
    let mut settled = Settled { waiting: waiting.collect::<Result<_>>()?, ..Settled::default() };
    settled.wrongly_due = stand
        .database
        .rows(
            "SELECT 'due and not to be', i.target, i.event, i.body::text FROM penstock.due_item i
             WHERE i.event IS DISTINCT FROM 'again'
             UNION ALL
             SELECT 'waits and is never run again', h.dataset, h.key, '' FROM penstock.waiting_object w
             JOIN penstock.head h ON h.id = w.head_id
             WHERE NOT EXISTS (SELECT FROM penstock.due_item i WHERE i.event = 'again' AND i.object_id = w.object_id)",
        )
        .await?;

    pass(stand, minutes_until(stand, "SELECT max(again_at) FROM penstock.waiting_key").await?).await;
    calm(stand).await.context("what waits is run again by time")?;
    settled.posts = super::judge::found(stand, super::content::Dataset::Post).await?;

    pass(stand, minutes_until(stand, "SELECT max(until) FROM penstock.waiting_object").await?).await;
    calm(stand).await.context("what waits gives up")?;
    // Whose object is not the same any more was not run.
    pass(stand, DAY).await;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE
        && stand.database.value("SELECT EXISTS (SELECT FROM penstock.waiting_object)").await? == "true"
    {
        sleep(Duration::from_millis(100)).await;
    }
    calm(stand).await.context("what could not be run gives up")?;
    settled.left = stand
        .database
        .rows(
            "SELECT 'due', kind, target, body::text FROM penstock.due
             UNION ALL SELECT 'waits', dataset, key, value FROM penstock.waiting
             UNION ALL SELECT 'waits', h.dataset, h.key, '' FROM penstock.waiting_object JOIN penstock.head h ON h.id = head_id",
        )
        .await?;
    for notice in more.notices.take_all().await? {
        let said: Value = serde_json::from_str(&notice.body)?;
        ensure!(said["event"] == "gave_up" && said["dataset"] == "post", "no such notice was asked for: {said}");
        settled.gave_up.insert(said["key"].as_str().context("a notice without a key")?.to_owned());
    }
    Ok(settled)
}

/// Returns the minutes to the time that a query returns, and one more.
async fn minutes_until(stand: &Stand, query: &str) -> Result<u32> {
    let query = format!("SELECT coalesce(greatest(0, ceil(extract(epoch FROM ({query}) - now()) / 60)), 0)::int + 1");
    Ok(stand.database.value(&query).await?.parse()?)
}
