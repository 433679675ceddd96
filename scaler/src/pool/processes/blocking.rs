//! Work that may block its thread forever.

use crate::pool::Silent;
use std::time::Duration;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

/// Does one piece of work at a time and waits for it up to a limit: a thread that is stuck stays the only one.
#[derive(Debug)]
pub struct Blocking<T> {
    /// What is waited for.
    peer: &'static str,
    limit: Duration,
    stuck: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Blocking<T> {
    /// Prepares to wait up to a limit.
    pub fn new(peer: &'static str, limit: Duration) -> Self {
        Self { peer, limit, stuck: None }
    }

    /// Does the work on a thread of its own.
    ///
    /// # Errors
    /// When the work was not done in time, or panicked.
    pub async fn run(&mut self, work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
        if let Some(stuck) = &mut self.stuck {
            // Its result is out of date by now.
            drop(timeout(self.limit, stuck).await.map_err(|_| self.silent())?);
            self.stuck = None;
        }
        let working = self.stuck.insert(spawn_blocking(work));
        let done = timeout(self.limit, working).await.map_err(|_| self.silent())?;
        self.stuck = None;
        Ok(done?)
    }

    fn silent(&self) -> Silent {
        Silent { peer: self.peer.to_owned(), after: self.limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn what_blocks_is_given_up_and_blocks_one_thread_only() {
        let mut blocking = Blocking::new("the disk", Duration::from_millis(50));
        assert_eq!(blocking.run(|| 1).await.unwrap(), 1);
        let (answer, wait) = mpsc::channel();
        let error = blocking.run(move || wait.recv().unwrap_or(0)).await.unwrap_err().to_string();
        assert_eq!(error, "the disk did not answer within 0.1 s");
        let error = blocking.run(|| 2).await.expect_err("the first one is still at it").to_string();
        assert_eq!(error, "the disk did not answer within 0.1 s");
        answer.send(2).unwrap();
        assert_eq!(blocking.run(|| 3).await.unwrap(), 3, "not what the first one brought");
    }
}
