//! Writing the tags that loaded objects get.

use super::Importer;
use crate::{
    ledger::tags,
    object::{ReadTarget, StoreError, s3::S3Store},
};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use service::{
    aws::sqs::in_turn,
    due::{Deliver, Item, Outbox, Sent},
    words::chain,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long after its claim an object's tags may be written: less than the claim lasts.
const WRITES_FOR: Duration = Duration::from_secs(60);

/// The pauses after refusals get this long: a right that is missing is soon noticed, a tag is in no hurry, and each try
/// costs a request.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);

/// What is written to S3 once it is loaded.
#[derive(Debug, Deserialize)]
struct Wish {
    bucket: String,
    key: String,
    version_id: Option<String>,
    etag: Option<String>,
    tag: String,
    value: String,
}

/// Writes tags to S3.
#[derive(Debug, Clone)]
pub struct Tagging(pub Arc<S3Store>);

impl Deliver for Tagging {
    fn send<'a>(&'a self, _: &'a str, items: &'a [Item]) -> BoxFuture<'a, Vec<Result<(), String>>> {
        let end = Instant::now() + WRITES_FOR;
        let one = |item: &'a Item| -> BoxFuture<'a, Vec<Result<(), String>>> {
            Box::pin(async move { vec![self.write(&item.body, end).await] })
        };
        in_turn(items.iter().map(one).collect())
    }

    fn longest_pause(&self) -> Duration {
        LONGEST_PAUSE
    }
}

impl Tagging {
    async fn write(&self, body: &str, end: Instant) -> Result<(), String> {
        let Wish { bucket, key, version_id, etag, tag, value } =
            serde_json::from_str(body).map_err(|error| error.to_string())?;
        let loaded = ReadTarget { bucket, key, version_id, etag };
        match self.0.tag(&loaded, &tag, &value, end).await {
            // What is gone, or another by now, needs no tag: its successor gets one when it is loaded.
            Ok(()) | Err(StoreError::Missing | StoreError::Changed) => Ok(()),
            Err(error) => Err(chain(&anyhow::Error::new(error).context(format!("tag {loaded}")))),
        }
    }
}

/// The tags that are due, on the importer's own sessions.
pub struct DueTags<'i>(pub &'i Importer);

impl Outbox for DueTags<'_> {
    fn claim<'a>(&'a self, busy: &'a [String]) -> BoxFuture<'a, anyhow::Result<Vec<Item>>> {
        Box::pin(
            self.0
                .on_ledger("claiming tags", async move |session| Ok(tags::claim(&mut session.connection, busy).await?)),
        )
    }

    fn settle<'a>(&'a self, sent: &'a [Sent]) -> BoxFuture<'a, anyhow::Result<()>> {
        self.0.settle(sent)
    }

    fn is_outage(&self, error: &anyhow::Error) -> bool {
        Outbox::is_outage(self.0, error)
    }
}
