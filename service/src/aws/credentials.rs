//! Credentials that are read again: the SDK's chain keeps what it once read from a profile for as long as the
//! program runs.

use super::http::Refusals;
use crate::words::chain;
use aws_config::{SdkConfig, default_provider::credentials::DefaultCredentialsChain, provider_config::ProviderConfig};
use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, timeout};
use tracing::warn;

/// How long credentials are used before they are asked for again; the SDK asks up to 10 s earlier.
/// Longer keeps a worker refused for as long after a change on disk; shorter reads the files more often.
const USED_FOR: Duration = Duration::from_secs(20);
/// Credentials that name their end are used until then, less this; AWS has new ones ready by that time.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);
/// How long the whole chain may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a call waits for it that could do with what is there: less than it has for an attempt.
const CALLERS_PATIENCE: Duration = Duration::from_secs(5);
/// Answers to callers that came together.
const SAME_MOMENT: Duration = Duration::from_secs(2);

/// Returns the provider of the SDK's default chain, read again where it may have changed.
pub(super) fn provider(config: &SdkConfig, refusals: Refusals) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Rereading(Arc::new(Shared {
        config: config.clone(),
        refusals,
        asking: tokio::sync::Mutex::default(),
        kept: Mutex::default(),
        failed: Mutex::default(),
    })))
}

/// Returns whether an error says that there are no credentials.
pub(super) fn is_error(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<CredentialsError>()
}

#[derive(Debug)]
struct Rereading(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: SdkConfig,
    refusals: Refusals,
    /// One asks at a time.
    asking: tokio::sync::Mutex<()>,
    kept: Mutex<Option<Kept>>,
    /// When the chain last failed, and why.
    failed: Mutex<Option<(Instant, String)>>,
}

#[derive(Debug, Clone)]
struct Kept {
    credentials: Credentials,
    asked_at: Instant,
}

impl ProvideCredentials for Rereading {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let shared = Arc::clone(&self.0);
        future::ProvideCredentials::new(async move {
            // A task of its own: a call with little time that gives up waiting leaves the answer to the next.
            let asked = Arc::clone(&shared);
            let mut asking = tokio::spawn(async move { asked.credentials().await });
            let answer = match timeout(CALLERS_PATIENCE, &mut asking).await {
                Ok(answer) => answer,
                Err(_) => match shared.usable() {
                    Some(kept) => return Ok(brief(&kept.credentials)),
                    None => asking.await,
                },
            };
            answer.unwrap_or_else(|error| Err(CredentialsError::unhandled(error)))
        })
    }
}

impl Shared {
    async fn credentials(&self) -> provider::Result {
        let _asking = self.asking.lock().await;
        let refused = self.refusals.take();
        if let Some(kept) = self.kept().as_ref().filter(|kept| kept.is_good(refused)) {
            return Ok(brief(&kept.credentials));
        }
        // Whoever waited while another asked in vain gets the same answer, or they would ask one after the other.
        let failed = self.failed().clone().filter(|(at, _)| at.elapsed() < SAME_MOMENT);
        let why = match failed {
            Some((_, why)) => why,
            None => {
                let error = match timeout(PATIENCE, self.ask()).await {
                    Ok(Ok(credentials)) => {
                        let answer = brief(&credentials);
                        *self.kept() = Some(Kept { credentials, asked_at: Instant::now() });
                        return Ok(answer);
                    }
                    Ok(Err(error)) => error,
                    Err(_) => CredentialsError::provider_timed_out(PATIENCE),
                };
                let why = chain(&anyhow::Error::new(error));
                warn!(error = why, "credentials could not be read");
                *self.failed() = Some((Instant::now(), why.clone()));
                why
            }
        };
        // A file that is being written, metadata that are silent: what is there may do for longer.
        match self.usable() {
            Some(kept) => Ok(brief(&kept.credentials)),
            None => Err(CredentialsError::provider_error(why)),
        }
    }

    /// Returns the credentials that were read last, if they have not ended.
    fn usable(&self) -> Option<Kept> {
        self.kept().clone().filter(|kept| !kept.has_ended())
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a chain of its own with a configuration of its own: both keep what they have read.
    async fn ask(&self) -> provider::Result {
        let configuration = ProviderConfig::default()
            .with_region(self.config.region().cloned())
            .with_use_fips(self.config.use_fips())
            .with_use_dual_stack(self.config.use_dual_stack());
        let configuration = match self.config.http_client() {
            Some(client) => configuration.with_http_client(client),
            None => configuration,
        };
        let chain = DefaultCredentialsChain::builder().region(self.config.region().cloned()).configure(configuration);
        chain.build().await.provide_credentials().await
    }
}

impl Kept {
    /// Returns whether to use it without asking.
    fn is_good(&self, refused: bool) -> bool {
        let lasts = self.credentials.expiry().is_some_and(|end| end > SystemTime::now() + RENEWED_BEFORE);
        self.asked_at.elapsed() < SAME_MOMENT || (lasts && !refused)
    }

    fn has_ended(&self) -> bool {
        self.credentials.expiry().is_some_and(|end| end <= SystemTime::now())
    }
}

/// Returns the credentials with an end at which the SDK asks again.
fn brief(credentials: &Credentials) -> Credentials {
    let mut brief = credentials.clone();
    let asked_again = SystemTime::now() + USED_FOR;
    *brief.expiry_mut() = Some(credentials.expiry().map_or(asked_again, |end| end.min(asked_again)));
    brief
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(secs_left: Option<u64>, asked_secs_ago: u64) -> Kept {
        let end = secs_left.map(|secs| SystemTime::now() + Duration::from_secs(secs));
        let asked_at = Instant::now().checked_sub(Duration::from_secs(asked_secs_ago)).expect("the machine is up");
        Kept { credentials: Credentials::new("AKIA", "secret", None, end, "test"), asked_at }
    }

    #[test]
    fn credentials_without_an_end_are_read_again_and_others_when_they_are_refused() {
        for (secs_left, asked_secs_ago, refused, expected) in [
            (None, 10, false, false),
            (None, 0, true, true),
            (Some(3600), 10, false, true),
            (Some(3600), 10, true, false),
            (Some(200), 10, false, false),
        ] {
            let kept = kept(secs_left, asked_secs_ago);
            assert_eq!(kept.is_good(refused), expected, "{secs_left:?} {asked_secs_ago} {refused}");
        }
    }

    #[test]
    fn the_sdk_asks_again_within_twenty_seconds_and_never_after_the_end() {
        for (secs_left, expected) in [(None, 20), (Some(3600), 20), (Some(7), 7)] {
            let end = brief(&kept(secs_left, 0).credentials).expiry().expect("it has an end");
            let left = end.duration_since(SystemTime::now()).expect("in the future");
            assert!(left <= Duration::from_secs(expected) && left > Duration::from_secs(expected - 1), "{left:?}");
        }
    }
}
