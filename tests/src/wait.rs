//! Waiting for a condition, with a deadline and a sentence that says what was awaited.

use anyhow::{Result, bail};
use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How often a condition is looked at; small enough not to show in a test's duration.
const INTERVAL: Duration = Duration::from_millis(20);

/// Calls `look` until it returns `Some`, at most for `limit`.
///
/// # Errors
/// When time runs out (naming `what`), or at once when `look` fails.
pub async fn until<T, F, R>(what: &str, limit: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> R,
    R: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = look().await? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain for {what}", limit.as_secs_f64());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Calls `look` on this thread until it returns `Some`, at most for `limit`.
///
/// # Errors
/// As [`until`].
pub fn until_blocking<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = look()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain for {what}", limit.as_secs_f64());
        }
        std::thread::sleep(INTERVAL);
    }
}
