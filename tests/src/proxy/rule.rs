//! What a proxy watches for, and what happens then.

use anyhow::{Result, bail};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// What happens to a connection on which the pattern passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The bytes with the pattern, and all after them, wait; the server does not see the request.
    HoldRequest,
    /// The request passes; the server's answer waits.
    HoldAnswer,
    /// The connection ends before the server sees the request.
    CutRequest,
    /// The request passes; the connection ends when the server answers, of which this many bytes pass.
    CutAnswer(usize),
    /// The request waits this long.
    Delay(Duration),
    /// The client gets these bytes, and the server nothing; then the connection ends. (HTTP.)
    Answer(Vec<u8>),
    /// From the bytes with the pattern on nothing passes on this connection any more, in either direction, and it is not
    /// closed, whatever either side does. New connections pass.
    Silence,
}

/// When to act, how, and how often.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) pattern: Vec<u8>,
    skip: usize,
    times: usize,
    pub(super) action: Action,
}

impl Rule {
    /// Acts once, the first time a client sends `pattern`.
    #[must_use]
    pub fn when_client_sends(pattern: impl AsRef<[u8]>, action: Action) -> Self {
        Self { pattern: pattern.as_ref().to_vec(), skip: 0, times: 1, action }
    }

    /// Lets the pattern pass so many times first.
    #[must_use]
    pub fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// Acts so many times.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Acts every time.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }
}

/// Returns an HTTP answer with an empty body, for [`Action::Answer`].
#[must_use]
pub fn http_answer(status: u16, reason: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

/// A handle on a rule at work.
#[derive(Debug, Clone)]
pub struct Trigger {
    pub(super) rule: Arc<ActiveRule>,
}

impl Trigger {
    /// Waits until the rule has acted `count` times.
    ///
    /// # Errors
    /// When that does not happen within `limit`.
    pub async fn fired(&self, count: usize, limit: Duration) -> Result<()> {
        let mut acted = self.rule.acted.subscribe();
        let waited = tokio::time::timeout(limit, acted.wait_for(|acted| *acted >= count)).await;
        if waited.is_err() {
            let pattern = String::from_utf8_lossy(&self.rule.rule.pattern).into_owned();
            bail!("the proxy saw {pattern:?} {} times, not {count}, in {} s", self.count(), limit.as_secs_f64());
        }
        Ok(())
    }

    /// Returns how often the rule has acted.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.rule.acted.borrow()
    }

    /// Lets the held connections go on, and the rule act no more.
    pub fn release(&self) {
        self.rule.released.send_replace(true);
    }
}

#[derive(Debug)]
pub(super) struct ActiveRule {
    pub rule: Rule,
    seen: AtomicUsize,
    acted: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

impl ActiveRule {
    pub fn new(rule: Rule) -> Self {
        let (acted, released) = (watch::Sender::new(0), watch::Sender::new(false));
        Self { rule, seen: AtomicUsize::new(0), acted, released }
    }

    /// Counts a sighting; returns whether to act on it.
    pub fn is_due(&self) -> bool {
        let seen = self.seen.fetch_add(1, Ordering::SeqCst);
        let due = seen >= self.rule.skip && seen - self.rule.skip < self.rule.times && !*self.released.borrow();
        if due {
            self.acted.send_modify(|acted| *acted += 1);
        }
        due
    }

    /// Returns whether it will not act again; connections it holds have handles of their own.
    pub fn is_spent(&self) -> bool {
        let all_seen = self.seen.load(Ordering::SeqCst) >= self.rule.skip.saturating_add(self.rule.times);
        all_seen || *self.released.borrow()
    }

    pub async fn wait_for_release(&self) {
        // The sender lives in self, so this ends with the release only.
        let _ = self.released.subscribe().wait_for(|released| *released).await;
    }
}
