//! `scaler simulate`: the real decision against a simulated world, as a table and a chart.

use crate::{
    cli::Simulate,
    config::{ConfigError, Pool},
    policy::{Policy, Target},
    sim::{
        Outcome, bars, chart,
        optimum::optimum,
        rules::Kind,
        run, table, trace, what_if,
        workload::{Load, Workload, built_in},
    },
};
use anyhow::{Context, bail};
use std::{fmt::Write as _, io, path::Path};

/// What is printed, and whether every bar was cleared.
pub struct Report {
    /// The tables.
    pub text: String,
    /// Whether a bar was missed.
    pub missed: bool,
}

/// Runs what was asked for; a pool of the configuration gives its own limits and promise.
///
/// # Errors
/// When an argument names nothing that is known, or a file cannot be read or written.
pub fn simulate(args: &Simulate, pool: Option<&Pool>) -> anyhow::Result<Report> {
    if args.bars {
        let rows = bars::all(args.seed..args.seed.saturating_add(bars::SEEDS));
        let missed = rows.iter().any(|row| !row.missed().is_empty());
        return Ok(Report { text: table::bars(&rows), missed });
    }
    let kinds = kinds(args.policy.as_deref())?;
    let mut loads = loads(args, pool)?;
    let policy = pool.map(Pool::policy);
    if let Some(pool) = pool {
        loads.iter_mut().for_each(|load| fit(load, pool, args.trace.is_none()));
    }
    let mut runs = Vec::new();
    for load in &loads {
        for kind in &kinds {
            let outcome = run(load, kind.rule(load, policy.as_ref()).as_mut(), args.seed);
            runs.push(table::Entry { load, kind: *kind, outcome, optimum: optimum(load) });
        }
    }
    let mut text = String::new();
    if let Some(pool) = pool {
        let _ = writeln!(text, "Limits and promise of pool \"{}\".\n", pool.name);
    }
    text.push_str(&table::runs(&runs));
    if args.explain {
        for table::Entry { load, kind, outcome, .. } in &runs {
            let _ = writeln!(text, "\n{}, {kind}:", load.workload.name);
            explain(&mut text, outcome);
        }
    }
    if let (Some(_), [load]) = (&args.trace, loads.as_slice()) {
        let cases = what_if::cases(load, own_kind(policy.as_ref()), policy.as_ref(), args.seed);
        let _ = write!(text, "\nThe same history with other settings:\n\n{}", what_if::table(&cases));
        if let Some(path) = &args.plot {
            write(path, &what_if::chart(&cases))?;
        }
    } else if let (Some(path), Some(table::Entry { load, kind, outcome, .. })) = (&args.plot, runs.first()) {
        let title = format!("{} under {kind}, seed {}", load.workload.name, args.seed);
        write(path, &chart::svg(&title, outcome, load.workload.drain_within))?;
    }
    Ok(Report { text, missed: false })
}

fn kinds(name: Option<&str>) -> anyhow::Result<Vec<Kind>> {
    let Some(name) = name else { return Ok(Kind::ALL.to_vec()) };
    match Kind::ALL.into_iter().find(|kind| kind.as_str() == name) {
        Some(kind) => Ok(vec![kind]),
        None => bail!(ConfigError::of(format!("--policy: \"{name}\" is none of deadline, backlog, keda, aws"))),
    }
}

fn loads(args: &Simulate, pool: Option<&Pool>) -> anyhow::Result<Vec<Load>> {
    if let Some(path) = &args.trace {
        let wrong = |why: String| ConfigError::of(format!("--trace: {}: {why}", path.display()));
        let text = if path == Path::new("-") { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(path) };
        let text = text.map_err(|e| wrong(e.to_string()))?;
        let mut base = Workload::default().draw(args.seed);
        if let Some(pool) = pool {
            fit(&mut base, pool, true);
        }
        return Ok(vec![trace::load(&text, &base).map_err(wrong)?]);
    }
    let built_in = built_in();
    let chosen = match (&args.workload, &args.plot) {
        (Some(name), _) => match built_in.iter().find(|workload| workload.name == *name) {
            Some(workload) => vec![workload.clone()],
            None => vec![read(name, &built_in)?],
        },
        // A chart shows one run, so one workload is enough for it.
        (None, Some(_)) => built_in.into_iter().take(1).collect(),
        (None, None) => built_in,
    };
    Ok(chosen.iter().map(|workload| workload.draw(args.seed)).collect())
}

fn read(name: &str, built_in: &[Workload]) -> anyhow::Result<Workload> {
    let text = std::fs::read_to_string(name).map_err(|e| {
        let names: Vec<_> = built_in.iter().map(|workload| workload.name.as_str()).collect();
        ConfigError::of(format!("--workload: {name} is neither a file ({e}) nor one of {}", names.join(", ")))
    })?;
    Ok(Workload::parse(&text).map_err(|e| ConfigError::of(format!("--workload: {name}: {e}")))?)
}

/// Gives a load the limits and the promise of a pool, and what it guesses where nothing was measured.
fn fit(load: &mut Load, pool: &Pool, guesses: bool) {
    let policy: Policy = pool.policy();
    let workload = &mut load.workload;
    workload.drain_within = pool.drain_within.unwrap_or(workload.drain_within);
    workload.max = policy.max;
    if guesses {
        workload.guess = Some(policy.job_secs);
        workload.start_up = policy.start_up_secs;
        workload.slots_per_worker = policy.slots_per_worker;
    }
}

/// Returns the rule that a pool goes by.
fn own_kind(policy: Option<&Policy>) -> Kind {
    match policy.map(|policy| policy.target) {
        Some(Target::Backlog { .. }) => Kind::Backlog,
        _ => Kind::Deadline,
    }
}

fn write(path: &Path, chart: &str) -> anyhow::Result<()> {
    std::fs::write(path, chart).with_context(|| format!("write {}", path.display()))
}

fn explain(text: &mut String, outcome: &Outcome) {
    for change in &outcome.changes {
        let secs = change.at as u64;
        let _ = writeln!(
            text,
            "{:02}:{:02}:{:02}  {:>3} -> {:<3}  {:<16} {}",
            secs / 3600,
            secs / 60 % 60,
            secs % 60,
            change.from,
            change.to,
            change.reason,
            change.explain
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn args() -> Simulate {
        Simulate {
            workload: Some("burst".to_owned()),
            trace: None,
            policy: Some("deadline".to_owned()),
            seed: 1,
            plot: None,
            explain: true,
            bars: false,
            pool: None,
        }
    }

    #[test]
    fn run_is_a_table_and_its_explanations() {
        let report = simulate(&args(), None).unwrap();
        assert!(report.text.contains("| burst "), "{}", report.text);
        assert!(report.text.contains("so the pool grows from 0 to"), "{}", report.text);
    }

    #[test]
    fn limits_of_a_pool_hold_in_the_simulation() {
        let config = Config::parse("[[pool]]\nname = \"a\"\ndrain_within = \"1h\"\nmax = 7\n", "a", |_| None).unwrap();
        let report = simulate(&args(), Some(&config.pools[0])).unwrap();
        assert!(report.text.contains("max is 7"), "{}", report.text);
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (change, expected) in [
            (Simulate { policy: Some("best".into()), ..args() }, "--policy"),
            (Simulate { workload: Some("/nonexistent".into()), ..args() }, "--workload"),
            (Simulate { workload: None, trace: Some("/nonexistent".into()), ..args() }, "--trace"),
        ] {
            let failure = simulate(&change, None).err().expect(expected);
            assert!(failure.to_string().contains(expected), "{failure}");
            assert!(failure.is::<ConfigError>(), "{failure}");
        }
    }
}
