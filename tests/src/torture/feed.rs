//! Carries out a plan's deeds: puts, deletes and sends, no faster than the workers keep up with.

use super::{
    events::{self, Done},
    plan::{Act, ActKind, Deed, Plan},
    settle,
    stand::Stand,
};
use crate::{aws::Stored, wait};
use anyhow::{Context as _, Result};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Messages in the queue beyond which the feeder waits; the emulator slows down with long queues.
const MAX_WAITING: u64 = 300;
/// Deeds between two looks at the queue.
const LOOK_EVERY: usize = 50;
/// How far the clock of what waits goes between two looks.
const MINUTES_OF_A_LOOK: u32 = 6;
/// How long the workers may take to make room, in the worst of weather.
const ROOM_LIMIT: Duration = Duration::from_secs(600);

/// What the feeder did.
#[derive(Debug, Default)]
pub struct Fed {
    /// What each act left in the bucket.
    pub done: Vec<Option<Done>>,
    /// Every body sent, with the number of its message.
    pub sent: Vec<(String, usize)>,
}

/// Carries out all deeds; `progress` counts them.
///
/// # Errors
/// When the emulator refuses, or the workers make no room.
pub async fn feed(plan: &Plan, stand: &Stand, progress: &AtomicUsize) -> Result<Fed> {
    let mut fed = Fed { done: vec![None; plan.acts.len()], sent: Vec::new() };
    let mut waiting: Vec<String> = Vec::new();
    for (number, deed) in plan.deeds.iter().enumerate() {
        match *deed {
            Deed::Act(act) => {
                // What was sent earlier must not learn of this act before it is in the queue.
                stand.pipeline.send_all(&std::mem::take(&mut waiting)).await?;
                let done = carry_out(plan, stand, &plan.acts[act]).await;
                fed.done[act] = Some(done.with_context(|| format!("act {act}"))?);
            }
            Deed::Send(message) => {
                let body = events::body(plan, &stand.pipeline.bucket, &fed.done, &plan.messages[message])?;
                fed.sent.push((body.clone(), message));
                waiting.push(body);
            }
        }
        progress.store(number + 1, Ordering::Relaxed);
        if number % LOOK_EVERY == 0 {
            wait_for_room(stand).await?;
            settle::pass(stand, MINUTES_OF_A_LOOK).await;
        }
    }
    stand.pipeline.send_all(&waiting).await?;
    Ok(fed)
}

async fn carry_out(plan: &Plan, stand: &Stand, act: &Act) -> Result<Done> {
    let key = &plan.keys[act.key].name;
    let bytes = match &act.kind {
        ActKind::Put(content) => content.bytes()?,
        ActKind::Again(earlier) => plan.content(*earlier).context("nothing was put there")?.bytes()?,
        ActKind::Delete => {
            let pipeline = &stand.pipeline;
            let deleted = pipeline.account.s3.delete_object().bucket(&pipeline.bucket).key(key).send().await?;
            let version_id = deleted.version_id().map(str::to_owned);
            return Ok(Done { stored: Stored { etag: String::new(), version_id }, size: 0 });
        }
    };
    let size = bytes.len();
    let stored = stand.pipeline.put(key, bytes).await?;
    Ok(Done { stored, size })
}

async fn wait_for_room(stand: &Stand) -> Result<()> {
    wait::until("room in the queue", ROOM_LIMIT, || async {
        let n_waiting = stand.n_waiting().await?;
        // Each look costs the emulator some of the time it has for the workers.
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok((n_waiting <= MAX_WAITING).then_some(()))
    })
    .await
}
