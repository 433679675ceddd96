//! `importer migrate`

use super::{on_session, output};
use crate::{config::Config, ledger, load::Session};
use std::{io, process::ExitCode};

/// Brings the schema `penstock` up to date and says what was done.
///
/// # Errors
/// When Postgres is out of reach or this role may not change the schema.
pub async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let migrate = async |session: &mut Session| ledger::migrate::migrate(&mut session.connection).await;
    let n_applied = on_session(config, "migrate", migrate).await?;
    let text = match n_applied {
        0 => "schema penstock is up to date".to_owned(),
        1 => "applied 1 migration".to_owned(),
        n => format!("applied {n} migrations"),
    };
    output::line(&mut io::stdout().lock(), &text)?;
    Ok(ExitCode::SUCCESS)
}
