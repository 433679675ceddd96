//! Who leads the pool: going on where the leader before stopped, and leaving the workers to the next one.

use super::{Carried, Controller, LONGEST_PAUSE_SECS, account::Account};
use crate::{leader::Lead, pool::WorkerPool};
use chrono::Utc;
use std::time::Duration;
use tracing::{info, warn};

/// How long a scaler that stops waits for Postgres to say whether another one takes over.
const SUCCESSION_TIMEOUT: Duration = Duration::from_secs(1);

impl<P: WorkerPool> Controller<P> {
    /// Makes sure that this scaler leads; on taking over, goes on where the leader before stopped.
    pub(super) async fn lead(&mut self) -> anyhow::Result<Lead> {
        let lead = self.confirm_lead().await;
        self.parts.metrics.leading.get_or_create(&self.of_pool()).set(i64::from(lead == Lead::Ours));
        match &lead {
            Lead::Ours => self.parts.readiness.note("leader", Ok(())),
            Lead::Theirs => {
                self.parts.readiness.note("leader", Ok(()));
                if self.leads || self.first_look {
                    info!(pool = self.parts.pool.name, "another scaler leads the pool");
                }
                self.leads = false;
                self.first_look = false;
                self.give_way().await;
                return Ok(lead);
            }
            // Said in the log where it was found: all pools share the session.
            Lead::Unknown(why) => {
                self.count_failure("leader");
                self.parts.readiness.note("leader", Err(why.clone()));
                // So that the next leader is logged.
                self.first_look |= self.leads;
                self.leads = false;
                return Ok(lead);
            }
        }
        if !self.leads {
            self.take_over().await?;
            self.leads = true;
        }
        Ok(lead)
    }

    async fn take_over(&mut self) -> anyhow::Result<()> {
        self.first_look = true;
        self.readable_since = None;
        let Some(store) = self.store() else { return Ok(()) };
        let Some((state, _)) = store.load_state(&self.parts.pool.name).await? else {
            self.carried = Carried::default();
            return Ok(());
        };
        self.carried = serde_json::from_value(state).unwrap_or_else(|error| {
            // An older release may not know a newer one's state. The pool is held until it is learnt again.
            warn!(pool = self.parts.pool.name, error = %error, "saved state is unreadable; starting over");
            Carried::default()
        });
        let pause = self.carried.kept_at.map(|at| Utc::now() - at);
        if pause.is_none_or(|pause| pause.num_seconds() > LONGEST_PAUSE_SECS) {
            self.carried.account = Account::default();
            self.carried.read_to = None;
        }
        Ok(())
    }

    /// Lets go of workers on this machine when the leader is on another one and cannot see them.
    async fn give_way(&mut self) {
        let Some(store) = self.store() else { return };
        let Ok(Some((_, Some(leader)))) = store.load_state(&self.parts.pool.name).await else { return };
        if leader.split(' ').next() != Some(self.parts.identity.host.as_str()) {
            self.parts.workers.hand_over().await;
        }
    }

    /// Asks who leads now.
    pub(super) async fn confirm_lead(&mut self) -> Lead {
        match &self.parts.leadership {
            Some(leadership) => leadership.confirm(&self.parts.pool.name, self.timeouts.lead()).await,
            None => Lead::Ours,
        }
    }

    /// Leaves the workers to a scaler of this machine that takes over, or else ends those only this one looks after.
    pub(super) async fn leave(&mut self) {
        if !self.leads {
            return;
        }
        if self.has_successor().await {
            info!(pool = self.parts.pool.name, "leaving workers to the next leader");
        } else {
            self.parts.workers.close().await;
        }
    }

    async fn has_successor(&mut self) -> bool {
        let Some(leadership) = &self.parts.leadership else { return false };
        let pool = &self.parts.pool.name;
        match leadership.confirm(pool, SUCCESSION_TIMEOUT).await {
            // Another one took over since the last tick: the workers are its own.
            Lead::Theirs => true,
            Lead::Ours => leadership.has_successor(pool, SUCCESSION_TIMEOUT).await.unwrap_or(false),
            // Better no workers than some that no scaler looks after.
            Lead::Unknown(_) => false,
        }
    }
}
