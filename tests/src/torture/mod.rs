//! The torture test: a model of what must be so in the end, and everything that can go wrong on the way.
//!
//! [`run`] draws a [`Plan`] from a seed: thousands of objects in seven datasets and four formats, put,
//! overwritten, put back and deleted, their messages duplicated and shuffled, and the faults that
//! happen meanwhile. It carries the plan out against built importers, a Postgres of its own and an
//! emulated AWS, waits until the queues are empty, lets time pass until nothing is waited for, and has
//! the outcome judged: tables, ledger, rejects, what waits and is due, queues and dead-letter queues.
//!
//! The plan is the same for the same seed. What processes do in between is theirs, as it must be.

pub mod content;
pub mod events;
pub mod faults;
mod feed;
pub mod judge;
pub mod ledger;
pub mod model;
pub mod plan;
pub mod report;
pub mod settle;
pub mod stand;

use anyhow::{Context as _, Result, bail};
use content::{ALL, Dataset};
use faults::{Fault, Injected, KINDS};
use plan::Plan;
use report::Report;
use stand::Stand;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Runs one seed with all datasets and returns its numbers.
///
/// # Errors
/// When a promise was broken, saying which key differs and what the ledger knows of it; or the run could not be made.
pub async fn run(seed: u64, n_objects: usize) -> Result<Report> {
    run_with(seed, n_objects, &ALL, "auto").await
}

/// As [`run`], with these datasets, and with the `technique` of those of [`content::PLAIN`] set.
///
/// # Errors
/// As [`run`].
pub async fn run_with(seed: u64, n_objects: usize, datasets: &[Dataset], technique: &str) -> Result<Report> {
    let plan = Arc::new(Plan::draw(seed, n_objects, datasets));
    let stand = Stand::start(plan.versioned, datasets, technique).await?;
    let told = run_on(&plan, &stand).await;
    told.with_context(|| format!("torture --seed {seed} --objects {n_objects} --technique {technique}"))
}

async fn run_on(plan: &Arc<Plan>, stand: &Arc<Stand>) -> Result<Report> {
    let begun = Instant::now();
    let progress = Arc::new(AtomicUsize::new(0));
    let injecting = tokio::spawn(inject(plan.faults.clone(), Arc::clone(stand), Arc::clone(&progress)));
    let fed = feed::feed(plan, stand, &progress).await;
    // The injector waits for deeds; none will come any more, whatever became of the feeder.
    progress.store(usize::MAX, Ordering::Relaxed);
    let injected = injecting.await??;
    let fed = match fed {
        Ok(fed) => fed,
        Err(error) => return Err(error.context(stand.last_words().await)),
    };
    if let Err(error) = settle::calm(stand).await {
        return Err(error.context(stand.last_words().await));
    }
    let duration = begun.elapsed();
    let settled = match &stand.more {
        Some(more) => match settle::settle(stand, more).await {
            Ok(settled) => Some(settled),
            Err(error) => return Err(error.context(stand.last_words().await)),
        },
        None => None,
    };
    stand.stop_workers().await?;
    let verdict = judge::judge(plan, &fed, settled.as_ref(), stand).await?;
    if !verdict.violations.is_empty() {
        bail!("{} promises broken:\n{}", verdict.violations.len(), verdict.complaint());
    }
    let objects = (0..plan.acts.len()).filter(|act| plan.content(*act).is_some()).count();
    Ok(Report {
        seed: plan.seed,
        versioned: plan.versioned,
        objects,
        keys: plan.keys.len(),
        deletes: plan.acts.len() - objects,
        messages: fed.sent.len(),
        imported: verdict.imported,
        rows: verdict.rows,
        rejects: verdict.rejects,
        dead_letters: verdict.dead_letters,
        waited: settled.as_ref().map_or(0, |settled| settled.gave_up.len()),
        faults: injected,
        duration,
    })
}

/// Lets each fault happen when its time has come, and returns how many of each kind did.
async fn inject(
    faults: Vec<(usize, Fault)>,
    stand: Arc<Stand>,
    progress: Arc<AtomicUsize>,
) -> Result<[usize; KINDS.len()]> {
    let mut happening = JoinSet::new();
    for (at, fault) in faults {
        while progress.load(Ordering::Relaxed) < at {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let stand = Arc::clone(&stand);
        happening.spawn(async move {
            let kind = fault.kind();
            let injected = fault.happen(&stand).await?;
            if let Injected::InWait(trigger) | Injected::Silent(trigger) = &injected {
                // What does not find its moment while messages are about is called off.
                let _ = trigger.fired(1, Duration::from_secs(20)).await;
            }
            Ok::<_, anyhow::Error>((kind, injected))
        });
    }
    let mut counts = [0; KINDS.len()];
    while let Some(ended) = happening.join_next().await {
        let (kind, injected) = ended??;
        counts[kind] += injected.finish();
    }
    Ok(counts)
}
