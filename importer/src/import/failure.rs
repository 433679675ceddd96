//! What the ledger says of a failure after it was forwarded, or while it is held.

use super::{
    Held, Importer,
    exit::{Unstorable, held_by_database},
    session::given_up,
};
use crate::{
    ledger::{self, Ended, State},
    load::Session,
    message::Record,
    outcome::Failure,
};

impl Importer {
    /// Records a failure of a record's object, after it was forwarded as part of message `forwarded` (none: there was
    /// nowhere to forward to).
    ///
    /// # Errors
    /// [`Held`] when the ledger cannot be written.
    pub async fn record_failure(
        &self,
        record: &Record,
        object_id: i64,
        failure: &Failure,
        forwarded: Option<&str>,
    ) -> Result<(), Held> {
        self.record(State::Failed, object_id, failure, (forwarded, record.asked_recipe())).await
    }

    /// Records that an object failed and is held to be tried again.
    ///
    /// # Errors
    /// [`Held`] when the ledger cannot be written.
    pub async fn record_retry(&self, object_id: i64, failure: &Failure) -> Result<(), Held> {
        self.record(State::Retrying, object_id, failure, (None, None)).await
    }

    async fn record(
        &self,
        state: State,
        object_id: i64,
        failure: &Failure,
        (forwarded_message_id, asked): (Option<&str>, Option<&str>),
    ) -> Result<(), Held> {
        let _in_use = self.in_use.acquire().await;
        let mut session = self.session().await?;
        let whereabouts = session.whereabouts();
        let whole = match failure.detail.as_str() {
            "" => failure.error.clone(),
            detail => format!("{}: {detail}", failure.error),
        };
        let ended = Ended {
            state,
            reason: Some(failure.reason.into()),
            error: Some(&whole),
            forwarded_message_id,
            duration_seconds: None,
            asked,
        };
        let work = async {
            match finish(&mut session, object_id, &ended).await {
                // Its own words, perhaps with a foreign name in them.
                Err(held) if held.error.is::<Unstorable>() => {
                    let error = whole.replace(|c: char| !c.is_ascii(), "?");
                    finish(&mut session, object_id, &Ended { error: Some(&error), ..ended }).await
                }
                recorded => recorded,
            }
        };
        self.sessions.watched("a failure's record", whereabouts, work).await.unwrap_or_else(given_up)?;
        self.sessions.give_back(session);
        Ok(())
    }
}

async fn finish(session: &mut Session, object_id: i64, ended: &Ended<'_>) -> Result<(), Held> {
    ledger::finish_otherwise(&mut session.connection, object_id, ended).await.map_err(held_by_database)
}
