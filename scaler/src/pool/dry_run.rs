//! A pool that is only watched: decisions are made and kept, no worker is started or ended.

use super::{Abilities, Applied, Members, Plan, Remark, WorkerPool};

/// A pool that is not acted on. Its workers are those with a heartbeat on its queues.
#[derive(Debug, Default)]
pub struct DryRun {}

impl WorkerPool for DryRun {
    async fn members(&mut self) -> anyhow::Result<Members> {
        Ok(Members::default())
    }

    async fn carry_out(&mut self, plan: &Plan, applied: &mut Applied) {
        let change = match (plan.start, plan.fewer) {
            (0, 0) => return,
            (0, fewer) => format!("dry run: would end {fewer}"),
            (more, _) => format!("dry run: would start {more}"),
        };
        applied.problems.push(change);
    }

    fn abilities(&self) -> Abilities {
        Abilities { drain_busy: false, end_silent: false }
    }

    async fn check(&mut self) -> anyhow::Result<Vec<Remark>> {
        let text = "dry run: decisions are kept and nothing is started or ended; \
                    `scaler history` shows them, another `kind` in [pool.workers] carries them out";
        Ok(vec![Remark::Fine(text.to_owned())])
    }
}
