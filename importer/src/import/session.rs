//! The sessions an importer works on.

use super::{Held, Importer};
use crate::{
    ledger::workers::end_stopped_backends,
    load::{
        Session,
        liveness::{self, GivenUp},
    },
    outcome::Outside,
};
use service::words::chain;
use tracing::{debug, warn};

impl Importer {
    /// Returns a session: an idle one, else a new one.
    pub(super) async fn session(&self) -> Result<Session, Held> {
        self.sessions.lend().await.map_err(|error| Held { outside: Outside::Postgres, error })
    }

    /// Puts another session in the place of one that may be in the middle of anything.
    pub(super) async fn replace(&self, session: &mut Session) -> Result<(), Held> {
        *session = self.session().await?;
        liveness::goes_on_with(session);
        Ok(())
    }

    /// Does what makes the next attempt likelier to go through.
    pub(super) async fn after_holding(&self, held: &Held) {
        match held.outside {
            // Connections break together: those that are idle would fail one by one.
            Outside::Postgres => self.sessions.close_idle(),
            Outside::Contention => self.end_stopped_backends().await,
            Outside::Statement | Outside::Store | Outside::Missing | Outside::Elsewhere => {}
        }
    }

    async fn end_stopped_backends(&self) {
        let Ok(mut session) = self.session().await else { return };
        let whereabouts = session.whereabouts();
        let work = async { end_stopped_backends(&mut session.connection).await.map_err(anyhow::Error::from) };
        let ended = self.sessions.watched("a look for stopped workers", whereabouts, work).await;
        match ended.unwrap_or_else(|error| Err(error.into())) {
            Ok(0) => self.sessions.give_back(session),
            Ok(n) => {
                warn!(backends = n, "ended backends of workers that stopped beating while they held locks");
                self.sessions.give_back(session);
            }
            Err(error) => debug!(error = chain(&error), "could not end backends of stopped workers"),
        }
    }
}

/// Holds what Postgres did not answer: it is as good as out of reach.
pub(super) fn given_up<T>(error: GivenUp) -> Result<T, Held> {
    Err(Held { outside: Outside::Postgres, error: error.into() })
}
