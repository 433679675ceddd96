//! Protection against scale-in: on while there is work, off while there is none.

use futures_util::future::BoxFuture;
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, info, warn};

/// How long the first import after an idle time waits for protection to be on.
/// Longer lets a slow control plane delay imports; without waiting an import could begin on an instance that is just chosen to go.
const HEAD_START: Duration = Duration::from_secs(2);
/// Time between tries to change protection.
const RETRY: Duration = Duration::from_secs(5);

/// Something that can keep this worker from being chosen to go.
pub trait Protection: Send + Sync + std::fmt::Debug {
    /// Switches it; `Ok` says how long it stays so, None until it is changed.
    fn set(&self, on: bool) -> BoxFuture<'_, Result<Option<Duration>, ProtectError>>;
}

/// Why protection could not be switched.
#[derive(Debug, thiserror::Error)]
pub enum ProtectError {
    /// Nor will it be: there is nothing to protect, or no right to.
    #[error("{0}")]
    Never(String),
    /// Perhaps the next time.
    #[error("{0}")]
    NotNow(String),
}

/// What the worker says, and what protection answers.
#[derive(Debug, Default)]
pub struct Guard {
    busy: watch::Sender<bool>,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// There is no protection here.
    #[default]
    Absent,
    On,
    /// Off, or on the way to or from it.
    Other,
}

impl Guard {
    /// Says that work begins; returns when protection is on, or there is none, or it takes too long.
    pub async fn work_begins(&self) {
        self.busy.send_if_modified(|busy| !std::mem::replace(busy, true));
        let mut state = self.state.subscribe();
        let _ = timeout(HEAD_START, state.wait_for(|state| *state != State::Other)).await;
    }

    /// Says that nothing is left to do for now.
    pub fn work_ended(&self) {
        self.busy.send_if_modified(|busy| std::mem::replace(busy, false));
    }
}

/// Keeps protection as the worker needs it, until there turns out to be none.
pub async fn keep(guard: &Guard, protection: &dyn Protection) {
    let mut busy = guard.busy.subscribe();
    // What an earlier process left behind is not known, so the first thing is to say what holds now.
    let mut is_set = None;
    let mut renew_at = None;
    let mut failures = 0u32;
    loop {
        let wanted = *busy.borrow_and_update();
        if is_set != Some(wanted) || renew_at.is_some_and(|at| Instant::now() >= at) {
            if is_set != Some(wanted) {
                guard.state.send_replace(State::Other);
            }
            match protection.set(wanted).await {
                Ok(lasts) => {
                    if is_set != Some(wanted) {
                        debug!(protected = wanted, "scale-in protection switched");
                    }
                    is_set = Some(wanted);
                    // At a third, so that two renewals may fail.
                    renew_at = lasts.filter(|_| wanted).map(|lasts| Instant::now() + lasts / 3);
                    failures = 0;
                    guard.state.send_replace(if wanted { State::On } else { State::Other });
                }
                Err(ProtectError::Never(error)) => {
                    info!(error, "no scale-in protection here");
                    guard.state.send_replace(State::Absent);
                    return;
                }
                Err(ProtectError::NotNow(error)) => {
                    failures = failures.saturating_add(1);
                    // An instance that leaves cannot be unprotected, and need not be; one that stays protected
                    // keeps its group from shrinking.
                    if failures == if wanted { 1 } else { 3 } {
                        warn!(error, protected = wanted, "scale-in protection not switched; trying again");
                    } else {
                        debug!(error, "scale-in protection not switched");
                    }
                    sleep(RETRY).await;
                    continue;
                }
            }
        }
        tokio::select! {
            changed = busy.changed() => if changed.is_err() { return },
            () = renewal(renew_at) => {}
        }
    }
}

/// Takes protection off at the end of the program: nothing else does.
pub async fn take_off(guard: &Guard, protection: &dyn Protection) {
    if *guard.state.borrow() == State::Absent {
        return;
    }
    if let Err(error) = protection.set(false).await {
        debug!(error = error.to_string(), "scale-in protection not taken off");
    }
}

async fn renewal(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Notes what it is told; lasts this long, and fails this many times first.
    #[derive(Debug)]
    struct Noted {
        told: Mutex<Vec<bool>>,
        lasts: Option<Duration>,
        failures: Mutex<u32>,
    }

    impl Protection for Noted {
        fn set(&self, on: bool) -> BoxFuture<'_, Result<Option<Duration>, ProtectError>> {
            Box::pin(async move {
                sleep(Duration::from_millis(20)).await;
                let mut failures = self.failures.lock().expect("not poisoned");
                if *failures > 0 {
                    *failures -= 1;
                    return Err(ProtectError::NotNow("throttled".into()));
                }
                self.told.lock().expect("not poisoned").push(on);
                Ok(self.lasts)
            })
        }
    }

    fn start(lasts: Option<Duration>, failures: u32) -> (Arc<Guard>, Arc<Noted>) {
        let guard = Arc::new(Guard::default());
        let noted = Arc::new(Noted { told: Mutex::default(), lasts, failures: Mutex::new(failures) });
        let (kept, protection) = (Arc::clone(&guard), Arc::clone(&noted));
        tokio::spawn(async move { keep(&kept, &*protection).await });
        (guard, noted)
    }

    fn told(noted: &Noted) -> Vec<bool> {
        noted.told.lock().expect("not poisoned").clone()
    }

    async fn until(noted: &Noted, what: impl Fn(&[bool]) -> bool) {
        let told_so = async {
            while !what(&told(noted)) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), told_so).await.expect("told in time");
    }

    #[tokio::test]
    async fn work_begins_when_protection_is_on_and_it_goes_with_the_work() {
        let (guard, noted) = start(None, 0);
        until(&noted, |told| told == [false]).await;
        guard.work_begins().await;
        assert_eq!(told(&noted), [false, true], "what an earlier process left behind goes first");
        guard.work_begins().await;
        guard.work_ended();
        until(&noted, |told| told == [false, true, false]).await;
        guard.work_begins().await;
        assert_eq!(told(&noted), [false, true, false, true]);
    }

    #[tokio::test]
    async fn protection_that_expires_is_renewed_while_there_is_work() {
        let (guard, noted) = start(Some(Duration::from_millis(90)), 0);
        until(&noted, |told| told == [false]).await;
        guard.work_begins().await;
        until(&noted, |told| told.starts_with(&[false, true, true, true])).await;
        guard.work_ended();
        until(&noted, |told| told.last() == Some(&false)).await;
        let n_told = told(&noted).len();
        sleep(Duration::from_millis(200)).await;
        assert_eq!(told(&noted).len(), n_told, "an idle worker renews nothing");
    }

    #[tokio::test]
    async fn protection_that_fails_delays_work_for_its_head_start_only() {
        let (guard, noted) = start(None, u32::MAX);
        sleep(Duration::from_millis(5)).await;
        timeout(2 * HEAD_START, guard.work_begins()).await.expect("work begins");
        assert!(told(&noted).is_empty());
    }

    #[tokio::test]
    async fn without_protection_work_begins_at_once() {
        timeout(HEAD_START / 2, Guard::default().work_begins()).await.expect("at once");
    }
}
