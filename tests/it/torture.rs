//! A small run of the torture test; `torture --help` makes larger ones.

use anyhow::Result;
use penstock_tests::torture::{self, content::PLAIN};

/// Printed with every failure; `torture --seed N --objects M` replays it.
const SEED: u64 = 1;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_duplicated_whatever_breaks_meanwhile() -> Result<()> {
    let report = torture::run(SEED, 60).await?;
    // Some lie in wait for their moment, which need not come in a small run.
    let n_kinds = report.faults.iter().filter(|count| **count > 0).count();
    assert!(n_kinds >= 12, "too few kinds of fault happened: {report:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_by_a_technique_that_is_forced() -> Result<()> {
    for (seed, technique) in [(2, "staged"), (3, "direct")] {
        torture::run_with(seed, 40, &PLAIN, technique).await?;
    }
    Ok(())
}
