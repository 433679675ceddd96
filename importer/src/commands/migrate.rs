//! `importer migrate`

use super::{EXIT_WRONG, on_session, output};
use crate::{
    config::Config,
    ledger::{self, steps},
    load::{
        Session,
        registry::{self, Before},
    },
};
use anyhow::Context;
use std::{io, process::ExitCode};

/// Brings the schema `penstock` up to date, registers of the configuration's datasets what it says and nothing else, and
/// says what was done.
///
/// # Errors
/// When Postgres is out of reach or this role may not change the schema.
pub async fn run(config: &Config, forget: &[String]) -> anyhow::Result<ExitCode> {
    if let Some(name) = forget.iter().find(|name| is_configured(config, name)) {
        output::complain(format!(
            "importer: --forget {name}: it is still configured; remove it from the configuration first"
        ));
        return Ok(ExitCode::from(EXIT_WRONG));
    }
    let migrate = async |session: &mut Session| {
        let connection = &mut session.connection;
        let n_applied = ledger::migrate::migrate(connection).await?;
        registry::register(connection, config, Before::Goes).await.context("register the steps")?;
        let mut forgotten = Vec::new();
        for name in forget {
            forgotten.push((name, steps::forget(connection, name).await?));
        }
        Ok((n_applied, forgotten))
    };
    let (n_applied, forgotten) = on_session(config, "migrate", migrate).await?;
    let text = match n_applied {
        0 => "schema penstock is up to date".to_owned(),
        1 => "applied 1 migration".to_owned(),
        n => format!("applied {n} migrations"),
    };
    output::line(&mut io::stdout().lock(), &text)?;
    let mut exit = ExitCode::SUCCESS;
    for (name, n_due) in forgotten {
        let text = match n_due {
            Some(n_due) => format!("forgot {name}, and {n_due} that were due to it"),
            None => {
                exit = ExitCode::from(EXIT_WRONG);
                format!("{name} is not registered")
            }
        };
        output::line(&mut io::stdout().lock(), &text)?;
    }
    Ok(exit)
}

fn is_configured(config: &Config, name: &str) -> bool {
    config.dataset(name).is_some_and(|dataset| !dataset.after.is_empty() || dataset.loaded_tag().is_some())
        || config.notify.iter().any(|notify| notify.name == name)
}
