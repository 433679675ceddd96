//! `scaler pause` and `scaler resume`: a pool is held at a size by hand, until a time.

use crate::{
    cli::{Pause, Resume},
    config::{Config, ConfigError},
    database::ensure_schema,
    observation,
    store::Store,
};
use chrono::Utc;
use service::{host::host, postgres::STATEMENT_TIMEOUT, terminal};

/// `application_name` of the connections.
const APPLICATION_NAME: &str = "penstock scaler pause";

/// Keeps a pause, which the pool's scaler finds at its next tick; returns a line that says so.
///
/// # Errors
/// When there is no database or no such pool, the size is above the pool's maximum, or the database cannot be used.
pub async fn pause(config: &Config, args: &Pause) -> anyhow::Result<String> {
    let pool = config.pool(args.pool.as_deref())?;
    if args.at > pool.max {
        let why = format!("--at: pool \"{}\" has at most {} workers (`max`)", pool.name, pool.max);
        return Err(ConfigError::of(why).into());
    }
    let pause = observation::Pause { at: args.at, until: args.until, by: Some(by()) };
    let before = keep(config, &pool.name, Some(&pause)).await?;
    let instead = before.map(|before| format!(", instead of {}", before.words())).unwrap_or_default();
    Ok(terminal::line(&format!("{}: paused {}{instead}", pool.name, pause.words())) + "\n")
}

/// Ends a pause, which the pool's scaler finds at its next tick; returns a line that says so.
///
/// # Errors
/// As [`pause`].
pub async fn resume(config: &Config, args: &Resume) -> anyhow::Result<String> {
    let pool = config.pool(args.pool.as_deref())?;
    let said = match keep(config, &pool.name, None).await? {
        Some(before) => format!("resumed; it was paused {}", before.words()),
        None => "was not paused".to_owned(),
    };
    Ok(terminal::line(&format!("{}: {said}", pool.name)) + "\n")
}

/// Returns the pause before, unless it was over.
async fn keep(
    config: &Config,
    pool: &str,
    pause: Option<&observation::Pause>,
) -> anyhow::Result<Option<observation::Pause>> {
    config.check_database()?;
    let Some(database) = &config.database else {
        return Err(ConfigError::of("a pause needs [database]: it is kept there").into());
    };
    ensure_schema(database, APPLICATION_NAME).await?;
    let store = Store::new(database.clone(), APPLICATION_NAME, STATEMENT_TIMEOUT);
    Ok(store.pause(pool, pause).await?.filter(|before| before.until > Utc::now()))
}

/// Returns who asks: the user, where the environment tells, and the machine.
fn by() -> String {
    match std::env::var("USER") {
        Ok(user) if !user.is_empty() => format!("{user} on {}", host()),
        _ => host(),
    }
}
