//! Sends pending messages that importers left, so that nothing waits for a pool that is at zero.

use crate::{leader::Leadership, store::Store};
use futures_util::future::BoxFuture;
use service::{
    due::{self, Item, Outbox, Sender, Sent, Targets},
    words::chain,
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long one sending may take.
const LIMIT: Duration = Duration::from_secs(20);

impl Outbox for Store {
    fn claim<'a>(&'a self, busy: &'a [String]) -> BoxFuture<'a, anyhow::Result<Vec<Item>>> {
        Box::pin(self.claim_due(busy))
    }

    fn settle<'a>(&'a self, sent: &'a [Sent]) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(self.settle_due(sent))
    }
}

/// Sends every so often, while this scaler leads a pool, until stopped.
pub async fn keep_sending(
    store: Store,
    targets: Targets,
    leadership: Arc<Leadership>,
    interval: Duration,
    stop: CancellationToken,
) {
    let mut sender = Sender::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(interval) => {}
        }
        if !leadership.leads_any() {
            continue;
        }
        tokio::select! {
            // What was claimed is sent by others after its lease.
            () = stop.cancelled() => return,
            () = sender.send(&store, &targets, LIMIT) => {}
        }
    }
}

/// Sends once what is due. Where that fails the decisions stand all the same.
pub async fn send_once(store: &Store, targets: &Targets) {
    match due::send(store, targets, Instant::now() + LIMIT).await {
        Ok(tally) if tally.sent > 0 => info!(sent = tally.sent, "sent what was due"),
        Ok(_) => {}
        Err(error) => warn!(error = chain(&error), "could not send pending messages"),
    }
}
