//! What the program's commands do.

pub mod check;
pub mod password;

use crate::{auth::Doorman, config::Config, web};
use anyhow::Context as _;
use service::program::stop_on_signals;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Serves the pages until a signal. The database may be down: the pages then say so.
///
/// # Errors
/// When the passwords cannot be read, or the address cannot be bound.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let doorman = Doorman::new(config.auth.as_ref())?;
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone(), "stopping")?;
    let router = web::router(&config, doorman, stop.clone());
    let address = service::http::serve(&config.http.listen, router, stop.clone()).await?;
    let address = address.context("http.listen is empty")?;
    info!(database = config.database.place(), "the pages are at http://{address}/");
    stop.cancelled().await;
    info!("console stopped");
    Ok(())
}
