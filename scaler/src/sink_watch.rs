//! Whether the database is healthy: the scaler's own commits against their baseline, locks, and connections.

use crate::{observation::Sink, store::ServerLoad};
use std::{collections::VecDeque, time::Duration};

/// Commits that are compared with the baseline.
const RECENT: usize = 6;

/// How many times the baseline the recent commits may take.
const SLOWER: f64 = 8.0;

/// Commits faster than this are never slow, whatever the baseline.
const SLOW_SECS: f64 = 0.5;

/// How much a commit moves the baseline.
const BASELINE_SHARE: f64 = 0.02;

/// Fewer free connections than this leave nothing for the importers to grow into.
const FEWEST_CONNECTIONS: u32 = 3;

/// The database's health, as our own commits and its statistics show it.
#[derive(Debug, Default)]
pub struct SinkWatch {
    recent: VecDeque<f64>,
    baseline_secs: Option<f64>,
}

impl SinkWatch {
    /// Takes in how long a commit of ours took.
    pub fn committed(&mut self, took: Duration) {
        let secs = took.as_secs_f64();
        self.recent.push_back(secs);
        while self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        // Slow commits hardly move the baseline, so that a long bad time does not become normal.
        self.baseline_secs = Some(match self.baseline_secs {
            None => secs,
            Some(baseline) => baseline + BASELINE_SHARE * (secs.min(2.0 * baseline) - baseline),
        });
    }

    /// Judges the sink from what was read of the server; `None` when it could not be read.
    pub fn judge(&self, load: Option<&ServerLoad>, connections_per_worker: Option<u32>) -> Sink {
        let Some(load) = load else { return Sink { healthy: Some(false), ..Sink::default() } };
        let locked = load.waiting_for_locks > 1 && load.waiting_for_locks * 2 > load.importer_backends;
        let full = load.max_connections > 0 && load.free_connections < FEWEST_CONNECTIONS;
        Sink {
            healthy: Some(!(self.is_slow() || locked || full)),
            max_connections: (load.max_connections > 0).then_some(load.max_connections),
            connections_per_worker,
            commit_secs: self.commit_secs(),
        }
    }

    /// Whether the recent commits are slow: their upper half, so that one slow commit is no sickness.
    fn is_slow(&self) -> bool {
        let (Some(baseline), Some(median)) = (self.baseline_secs, self.commit_secs()) else { return false };
        self.recent.len() >= RECENT / 2 && median > (SLOWER * baseline).max(SLOW_SECS)
    }

    /// Returns the median of the recent commits.
    fn commit_secs(&self) -> Option<f64> {
        let mut recent: Vec<f64> = self.recent.iter().copied().collect();
        recent.sort_by(f64::total_cmp);
        recent.get(recent.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: ServerLoad =
        ServerLoad { max_connections: 100, free_connections: 50, importer_backends: 20, waiting_for_locks: 1 };

    fn healthy(commits_ms: &[u64], load: Option<ServerLoad>) -> Option<bool> {
        let mut watch = SinkWatch::default();
        for ms in commits_ms {
            watch.committed(Duration::from_millis(*ms));
        }
        watch.judge(load.as_ref(), None).healthy
    }

    #[test]
    fn calm_database_is_healthy() {
        assert_eq!(healthy(&[5, 8, 4, 200, 6], Some(WELL)), Some(true));
        assert_eq!(healthy(&[], Some(WELL)), Some(true));
    }

    #[test]
    fn slow_commits_are_measured_against_calm_ones() {
        assert_eq!(healthy(&[5, 5, 5, 5, 900, 900, 900, 900], Some(WELL)), Some(false));
        assert_eq!(healthy(&[300, 300, 300, 900, 900, 900, 900], Some(WELL)), Some(true));
    }

    #[test]
    fn locks_and_missing_connections_are_unhealthy() {
        assert_eq!(healthy(&[5], Some(ServerLoad { waiting_for_locks: 11, ..WELL })), Some(false));
        assert_eq!(healthy(&[5], Some(ServerLoad { free_connections: 2, ..WELL })), Some(false));
    }

    #[test]
    fn database_that_cannot_be_read_is_unhealthy() {
        assert_eq!(healthy(&[5], None), Some(false));
    }
}
