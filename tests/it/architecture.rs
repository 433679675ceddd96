//! What ARCHITECTURE.md says of the sources, kept true: who may speak to the outside, and what all is built from.

use anyhow::{Context as _, Result, ensure};
use penstock_tests::repository;
use serde_json::Value;
use std::{collections::BTreeSet, env, fs, path::Path, process::Command};

/// What only some places may name: how its crates' names begin, and the files and directories that may.
const CONFINED: [(&str, &[&str], &[&str]); 3] = [
    (
        "sqlx",
        &["sqlx"],
        &[
            "console/src/read",
            "importer/src/commands/",
            "importer/src/database",
            "importer/src/import",
            "importer/src/ledger/",
            "importer/src/load/",
            "importer/src/outcome",
            "scaler/src/database.rs",
            "scaler/src/leader.rs",
            "scaler/src/store.rs",
            "service/src/due.rs",
            "service/src/postgres",
        ],
    ),
    (
        "types of AWS",
        &["aws_"],
        &[
            "importer/src/commands/",
            "importer/src/instance/",
            "importer/src/object/s3",
            "importer/src/queue/settings.rs",
            "importer/src/queue/sqs.rs",
            "scaler/src/command/",
            "scaler/src/timeouts.rs",
            "scaler/src/pool/any.rs",
            "scaler/src/pool/asg.rs",
            "scaler/src/pool/ecs",
            "scaler/src/queue_depth.rs",
            "service/src/aws",
            "service/src/due/targets.rs",
        ],
    ),
    ("types of Kubernetes", &["kube", "k8s_openapi"], &["scaler/src/pool/any.rs", "scaler/src/pool/kubernetes"]),
];

/// Plain functions of plain data: no clock, network or environment.
const PURE: [&str; 18] = [
    "console/src/shell.rs",
    "decode/src/",
    "importer/src/config",
    "importer/src/describe/",
    "importer/src/ledger/judge.rs",
    "importer/src/load/sql",
    "importer/src/message",
    "importer/src/order.rs",
    "importer/src/outcome",
    "importer/src/pattern.rs",
    "importer/src/route.rs",
    "importer/src/worker/brake.rs",
    "scaler/src/decision.rs",
    "scaler/src/observation.rs",
    "scaler/src/policy",
    "scaler/src/pool/census.rs",
    "scaler/src/pool/plan.rs",
    "scaler/src/sim",
];

#[test]
fn only_the_edges_name_what_is_outside() -> Result<()> {
    for source in sources()? {
        for (what, words, places) in CONFINED {
            if places.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            for (line, text) in source.lines() {
                let found = words.iter().any(|word| names_crate(text, word));
                assert!(!found, "{}:{line} names {what}: {text}", source.path);
            }
        }
    }
    Ok(())
}

#[test]
fn what_decides_and_decodes_reads_no_clock_and_no_environment_and_opens_no_connection() -> Result<()> {
    let clocks = ["Utc::now", "SystemTime::now", "Instant::now", "time::sleep", "time::timeout"];
    let others = ["env::var", "std::env", "tokio::net", "std::net::Tcp", "std::fs", "sqlx::query"];
    for source in sources()?.iter().filter(|source| PURE.iter().any(|pure| source.path.starts_with(pure))) {
        for (line, text) in source.lines() {
            let found = clocks.iter().chain(&others).find(|word| text.contains(*word));
            assert!(found.is_none(), "{}:{line} reaches outside: {text}", source.path);
        }
    }
    Ok(())
}

#[test]
fn the_programs_and_what_they_stand_on_do_not_know_each_other() -> Result<()> {
    for (package, may) in [
        ("decode", &[][..]),
        ("service", &[]),
        ("importer", &["decode", "service"]),
        ("scaler", &["service"]),
        ("console", &["service"]),
        ("penstock", &["console", "importer", "scaler"]),
        ("penstock-tests", &["service", "telemetry"]),
        ("telemetry", &[]),
    ] {
        let manifest = manifest(package)?;
        let normal = manifest["dependencies"].as_array().context("dependencies")?.iter();
        let ours = normal.filter(|dependency| dependency["kind"].is_null() && dependency["path"].is_string());
        let ours: BTreeSet<&str> = ours.filter_map(|dependency| dependency["name"].as_str()).collect();
        assert_eq!(ours, may.iter().copied().collect(), "{package}");
    }
    Ok(())
}

#[test]
fn everything_is_under_a_licence_that_deny_toml_allows() -> Result<()> {
    let rules: toml::Table = fs::read_to_string(repository().join("deny.toml"))?.parse()?;
    let allowed = rules["licenses"]["allow"].as_array().context("licenses.allow")?;
    let allowed = allowed
        .iter()
        .map(|licence| Ok(spdx::Licensee::parse(licence.as_str().context("a licence")?)?))
        .collect::<Result<Vec<_>>>()?;
    for package in packages()? {
        let text = package["license"].as_str().with_context(|| format!("{} has no licence", package["name"]))?;
        let licence = spdx::Expression::parse_mode(text, spdx::ParseMode::LAX)?;
        let fits = licence.evaluate(|needed| allowed.iter().any(|licensee| licensee.satisfies(needed)));
        assert!(fits, "{} is under {text}", package["name"]);
    }
    Ok(())
}

/// Returns whether a line of code has a path that begins with a crate whose name begins like this.
fn names_crate(line: &str, begins: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(begins).any(|(at, _)| {
        let is_begin = !line[..at].ends_with(is_name);
        is_begin && line[at..].trim_start_matches(is_name).starts_with("::")
    })
}

/// A source file of the product, without its tests.
struct SourceFile {
    path: String,
    text: String,
}

impl SourceFile {
    /// Returns the lines that are code, with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = |line: &&str| !line.trim_start().starts_with("//");
        let numbered = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        numbered.take_while(|(_, line)| *line != "#[cfg(test)]").filter(move |(_, line)| code(line))
    }
}

fn sources() -> Result<Vec<SourceFile>> {
    let mut sources = Vec::new();
    for package in ["console", "decode", "importer", "penstock", "scaler", "service"] {
        read(&repository().join(package).join("src"), &mut sources)?;
    }
    ensure!(sources.len() > 100, "only {} source files", sources.len());
    Ok(sources)
}

fn read(directory: &Path, sources: &mut Vec<SourceFile>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_test = ["tests", "tests.rs", "testing.rs", "trial.rs", "stories.rs"].contains(&name.as_str());
        if path.is_dir() && !is_test {
            read(&path, sources)?;
        } else if name.ends_with(".rs") && !is_test {
            let within = path.strip_prefix(repository())?.to_string_lossy().into_owned();
            sources.push(SourceFile { path: within, text: fs::read_to_string(&path)? });
        }
    }
    Ok(())
}

fn manifest(package: &str) -> Result<Value> {
    let found = packages()?.into_iter().find(|found| found["name"] == package);
    found.with_context(|| format!("no package {package}"))
}

/// Returns every package that the workspace is built from.
fn packages() -> Result<Vec<Value>> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(repository())
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    Ok(metadata["packages"].as_array().context("packages")?.clone())
}
