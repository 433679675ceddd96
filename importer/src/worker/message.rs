//! The path of one message: parse it, route its records, settle them all, and say what becomes of it.

use super::{
    Worker,
    dead_letter::Failed,
    record::{Left, RecordTask},
    release::Leftover,
    retry::Retry,
};
use crate::{
    dataset::DatasetName,
    import::Settled,
    message::{self, Parsed, Record},
    outcome::{Failure, Outcome, Reason},
    queue::Message,
    route::Routed,
};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use std::panic::AssertUnwindSafe;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Records of one message under way at once; more than may wait of a dataset, so that those of others get their turn.
pub(super) const RECORDS_AT_ONCE: usize = 256;

/// What is to be done with a message after all its records.
pub(super) enum Disposition {
    /// All records are safe.
    Delete,
    /// The worker drains before the records were settled, or they were held for too long.
    Release,
    /// More messages of a dataset wait than are held: give it back, hidden.
    Park(DatasetName),
}

impl Worker {
    /// As [`Self::settle`]; a message that makes us panic is left to itself, so that it comes back after its
    /// visibility timeout and its receives are counted.
    pub(super) async fn settle_contained(&self, message: Message, drain: CancellationToken) -> Option<Leftover> {
        let message_id = message.message_id.clone();
        match AssertUnwindSafe(self.settle(message, drain)).catch_unwind().await {
            Ok(leftover) => leftover,
            Err(_) => {
                error!("settling the message panicked; it comes back after its visibility timeout");
                self.in_hand.drop_message(&message_id);
                None
            }
        }
    }

    /// Takes one message to its end; returns it when it is to be given back.
    async fn settle(&self, message: Message, drain: CancellationToken) -> Option<Leftover> {
        let disposition = match message::parse(&message.body) {
            Parsed::TestEvent => {
                info!("test event dropped");
                Disposition::Delete
            }
            Parsed::Unreadable(why) => {
                warn!(error = why, "message cannot be read");
                let failure = Failure::new(Reason::UnreadableMessage, why);
                self.tell_unreadable(&message, &failure).await;
                self.forward(&message, &[], &failure, &drain).await.0
            }
            Parsed::Records(records) => {
                let of_message = |record| Record { delivery: message.delivery, ..record };
                let routed = records.into_iter().map(|record| self.importer.router.route(of_message(record))).collect();
                self.settle_records(&message, routed, &drain).await
            }
        };
        let parked = match disposition {
            Disposition::Delete => {
                self.acker.delete(&message.message_id).await;
                return None;
            }
            Disposition::Release => None,
            Disposition::Park(dataset) => Some(dataset),
        };
        Some(Leftover { message_id: message.message_id, receive_count: message.receive_count, parked })
    }

    /// Settles every routed record: the message is done when all of them are.
    async fn settle_records(&self, message: &Message, routed: Vec<Routed>, drain: &CancellationToken) -> Disposition {
        let end = Instant::now() + self.hold_limit;
        self.in_hand.weigh(message, routed.len().min(RECORDS_AT_ONCE));
        let settled = match self.settle_each(message, &routed, drain).await {
            Ok(settled) => settled,
            Err(left) => return left,
        };
        let failed: Vec<Failed<'_>> =
            routed.iter().zip(&settled).filter_map(|(routed, settled)| Failed::of(routed, settled)).collect();
        let Some(Failed { failure, .. }) = failed.first() else {
            return Disposition::Delete;
        };
        // The body goes to the dead-letter queue before the ledger says so, and the ledger before the delete:
        // a crash in between sends it twice, never not at all.
        let (disposition, is_sent) = self.forward(message, &failed, failure, drain).await;
        if self.queue.has_dead_letter_queue() && !matches!(disposition, Disposition::Delete) {
            return disposition;
        }
        let forwarded = is_sent.then_some(message.message_id.as_str());
        for Failed { routed, settled, failure } in &failed {
            let Some(object_id) = settled.object_id else { continue };
            let mut retry = Retry::new(self, &message.message_id, drain);
            while let Err(held) = self.importer.record_failure(&routed.record, object_id, failure, forwarded).await {
                retry.tried();
                if !retry.wait_out(&held, &routed.dataset_name()).await || Instant::now() > end {
                    return Disposition::Release;
                }
            }
        }
        if !self.queue.has_dead_letter_queue() {
            self.hide(message).await;
        }
        disposition
    }

    /// Settles the records, a bounded number at once, in whatever order they come to their end.
    ///
    /// # Errors
    /// What to do with the message where a record was left unsettled.
    async fn settle_each(
        &self,
        message: &Message,
        routed: &[Routed],
        drain: &CancellationToken,
    ) -> Result<Vec<Settled>, Disposition> {
        // A message may name thousands of records, and each that is under way takes some KiB.
        let (mut under_way, mut ended) = (FuturesUnordered::new(), Vec::with_capacity(routed.len()));
        for (place, routed) in routed.iter().enumerate() {
            if under_way.len() == RECORDS_AT_ONCE {
                ended.extend(under_way.next().await);
            }
            under_way.push(async move { (place, RecordTask::new(self, message, routed, drain).settle().await) });
        }
        ended.extend(under_way.collect::<Vec<_>>().await);
        ended.sort_unstable_by_key(|(place, _)| *place);
        let mut settled = Vec::with_capacity(routed.len());
        let mut left = None;
        for (_, record) in ended {
            match record {
                Ok(record) => settled.push(record),
                Err(Left::Unfinished) => left = Some(Disposition::Release),
                Err(Left::Crowded(dataset)) => left = left.or(Some(Disposition::Park(dataset))),
            }
        }
        left.map_or(Ok(settled), Err)
    }
}

impl<'a> Failed<'a> {
    /// Returns a record that failed and was not forwarded before.
    fn of(routed: &'a Routed, settled: &'a Settled) -> Option<Self> {
        match &settled.outcome {
            Outcome::Failed(failure) if !settled.already_forwarded => Some(Self { routed, settled, failure }),
            _ => None,
        }
    }
}
