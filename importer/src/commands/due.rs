//! `importer due`: sends pending messages once.

use super::{EXIT_INCOMPLETE, on_session, output};
use crate::{
    config::Config,
    load::{Session, liveness::elsewhere},
};
use anyhow::Context;
use futures_util::future::BoxFuture;
use service::due::{self, Item, Outbox, Sent, Targets};
use std::{io, process::ExitCode, time::Duration};
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
    let targets = Targets::new(service::aws::config().await?);
    let send = async |session: &mut Session| {
        let outbox = OneSession(Mutex::new(session));
        elsewhere(due::send(&outbox, &targets, Instant::now() + LIMIT)).await.context("send what is due")
    };
    let tally = on_session(config, "due", send).await?;
    output::line(&mut io::stdout().lock(), &format!("{} sent, {} not taken", tally.sent, tally.refused))?;
    Ok(if tally.refused > 0 { ExitCode::from(EXIT_INCOMPLETE) } else { ExitCode::SUCCESS })
}

/// The one session of a command.
struct OneSession<'s>(Mutex<&'s mut Session>);

impl Outbox for OneSession<'_> {
    fn claim<'a>(&'a self, busy: &'a [String]) -> BoxFuture<'a, anyhow::Result<Vec<Item>>> {
        Box::pin(async move { Ok(timeout(due::LIMIT, due::claim(&mut self.0.lock().await.connection, busy)).await??) })
    }

    fn settle<'a>(&'a self, sent: &'a [Sent]) -> BoxFuture<'a, anyhow::Result<()>> {
        Box::pin(async move { Ok(timeout(due::LIMIT, due::settle(&mut self.0.lock().await.connection, sent)).await??) })
    }
}
