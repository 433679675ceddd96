//! Work that may block its thread for ever.

use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::pool::Silent;

/// Does one piece of work at a time, and waits for it only so long: a thread that is stuck stays the only one.
#[derive(Debug)]
pub struct Patient<T> {
    /// Who is waited for.
    peer: &'static str,
    limit: Duration,
    stuck: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Patient<T> {
    /// Prepares to wait so long.
    pub fn new(peer: &'static str, limit: Duration) -> Self {
        Self { peer, limit, stuck: None }
    }

    /// Does the work on a thread of its own.
    pub async fn run(&mut self, work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
        if let Some(stuck) = &mut self.stuck {
            // What it brings by now is of the past.
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
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_blocks_is_given_up_and_blocks_one_thread_only() {
        let mut patient = Patient::new("the disk", Duration::from_millis(50));
        assert_eq!(patient.run(|| 1).await.unwrap(), 1);
        let (answer, wait) = mpsc::channel();
        let error = patient.run(move || wait.recv().unwrap_or(0)).await.unwrap_err().to_string();
        assert_eq!(error, "the disk did not answer within 0.1 s");
        let error = patient.run(|| 2).await.expect_err("the first one is still at it").to_string();
        assert_eq!(error, "the disk did not answer within 0.1 s");
        answer.send(2).unwrap();
        assert_eq!(patient.run(|| 3).await.unwrap(), 3, "not what the first one brought");
    }
}
