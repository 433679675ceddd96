//! Sending what is due on the importer's own sessions.

use super::Importer;
use crate::{
    config::{Config, Event},
    ledger::steps,
    load::{Session, liveness::GivenUp, registry},
};
use anyhow::Context;
use futures_util::future::BoxFuture;
use service::{
    due::{self, Item, Outbox, Sent},
    postgres::is_outage,
};
use tokio::time::timeout;

/// What another configuration registered.
#[derive(Debug, Default)]
pub struct Foreign {
    /// Steps and notifications that this configuration does not have.
    pub unknown: Vec<String>,
    /// Where both say other things, a sentence each.
    pub differences: Vec<String>,
}

impl Importer {
    /// Returns what is registered in the ledger and not in this configuration, and where both say other things of its
    /// datasets; None when nothing is registered.
    ///
    /// # Errors
    /// When the database is out of reach.
    pub async fn foreign_steps(&self, config: &Config) -> anyhow::Result<Option<Foreign>> {
        self.on_ledger("a look at the steps", async |session| {
            if !steps::any(&mut session.connection).await? {
                return Ok(None);
            }
            Ok(Some(Foreign {
                unknown: registry::unknown(&mut session.connection, config).await?,
                differences: registry::differences(&mut session.connection, config).await?,
            }))
        })
        .await
    }

    /// Makes a notice due of what no entry of the ledger stands for. `said` is a JSON object.
    ///
    /// # Errors
    /// When the database is out of reach.
    pub async fn tell(&self, event: Event, dataset: &str, said: &str) -> anyhow::Result<()> {
        self.on_ledger(
            "a notice",
            async |session| Ok(steps::tell(&mut session.connection, event, dataset, said).await?),
        )
        .await
    }

    /// Forgets what was due to a step because of an object: it was done at once.
    ///
    /// # Errors
    /// When the database is out of reach.
    pub async fn done_at_once(&self, step: &str, object_id: i64) -> anyhow::Result<()> {
        self.on_ledger("forgetting what is done", async |session| {
            Ok(steps::done_at_once(&mut session.connection, step, object_id).await?)
        })
        .await
    }

    /// Does some statements on the ledger; a session that is long in coming, or silent, ends it.
    pub(super) async fn on_ledger<T>(
        &self,
        what: &'static str,
        work: impl AsyncFnOnce(&mut Session) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let _in_use = timeout(due::LIMIT, self.in_use.acquire()).await.context("wait for a session")?;
        let mut session = self.sessions.lend().await?;
        let whereabouts = session.whereabouts();
        let done = self.sessions.watched(what, whereabouts, work(&mut session)).await??;
        self.sessions.give_back(session);
        Ok(done)
    }
}

impl Outbox for Importer {
    fn claim<'a>(&'a self, busy: &'a [String]) -> BoxFuture<'a, anyhow::Result<Vec<Item>>> {
        Box::pin(self.on_ledger("claiming what is due", async move |session| {
            Ok(due::claim(&mut session.connection, busy).await?)
        }))
    }

    fn settle<'a>(&'a self, sent: &'a [Sent]) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(self.on_ledger("settling what was due", async move |session| {
            Ok(due::settle(&mut session.connection, sent).await?)
        }))
    }

    fn is_outage(&self, error: &anyhow::Error) -> bool {
        is_outage(error) || error.is::<GivenUp>()
    }
}
