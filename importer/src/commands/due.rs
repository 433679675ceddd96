//! `importer due`: sends pending messages and writes pending tags once.

use super::{EXIT_INCOMPLETE, on_session, output, s3_store, served, targets};
use crate::{
    config::Config,
    import::tags::Tagging,
    ledger::tags,
    load::{Session, liveness::elsewhere},
};
use anyhow::Context;
use futures_util::future::BoxFuture;
use service::due::{self, Item, Outbox, Sent};
use std::{io, process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

/// How long it goes on.
const LIMIT: Duration = Duration::from_secs(3600);

/// Sends everything that is due and says how much that was.
///
/// # Errors
/// When Postgres is out of reach.
pub async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let aws = service::aws::config().await?;
    let tagging = Tagging(Arc::new(s3_store(&aws, &config.buckets)));
    let targets = targets(&aws, &served(config));
    let send = async |session: &mut Session| {
        let end = Instant::now() + LIMIT;
        let session = Mutex::new(session);
        let sent = elsewhere(due::send(&OneSession(&session), &targets, end)).await.context("send what is due")?;
        let tagged = elsewhere(due::send(&TagsOf(&session), &tagging, end)).await.context("write tags")?;
        Ok((sent.sent + tagged.sent, sent.refused + tagged.refused))
    };
    let (sent, refused) = on_session(config, "due", send).await?;
    output::line(&mut io::stdout().lock(), &format!("{sent} sent, {refused} not taken"))?;
    Ok(if refused > 0 { ExitCode::from(EXIT_INCOMPLETE) } else { ExitCode::SUCCESS })
}

/// The one session of a command.
struct OneSession<'m, 's>(&'m Mutex<&'s mut Session>);

impl Outbox for OneSession<'_, '_> {
    fn claim<'a>(&'a self, busy: &'a [String]) -> BoxFuture<'a, anyhow::Result<Vec<Item>>> {
        Box::pin(async move { Ok(timeout(due::LIMIT, due::claim(&mut self.0.lock().await.connection, busy)).await??) })
    }

    fn settle<'a>(&'a self, sent: &'a [Sent]) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async move { Ok(timeout(due::LIMIT, due::settle(&mut self.0.lock().await.connection, sent)).await??) })
    }
}

/// Its tags.
struct TagsOf<'m, 's>(&'m Mutex<&'s mut Session>);

impl Outbox for TagsOf<'_, '_> {
    fn claim<'a>(&'a self, busy: &'a [String]) -> BoxFuture<'a, anyhow::Result<Vec<Item>>> {
        Box::pin(async move { Ok(timeout(due::LIMIT, tags::claim(&mut self.0.lock().await.connection, busy)).await??) })
    }

    fn settle<'a>(&'a self, sent: &'a [Sent]) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async move { Ok(timeout(due::LIMIT, due::settle(&mut self.0.lock().await.connection, sent)).await??) })
    }
}
