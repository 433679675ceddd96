//! The user's own files: a table and a dataset from what `importer describe` says of one of them.

use crate::{Stage, plan::Plan};
use anyhow::{Context as _, Result, bail, ensure};
use penstock_tests::{files, process::Program};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::{Table, Value};

/// How long reading a sample may take.
const DESCRIBE_LIMIT: Duration = Duration::from_secs(120);

/// Returns a plan for a file, or for all files below a directory, which must be of one kind.
pub async fn plan(path: &Path, stage: &Stage) -> Result<Plan> {
    let files = files_below(path)?;
    let (_, first) = files.first().with_context(|| format!("{} holds no files", path.display()))?;
    let described = Program::new("importer")
        .arg("describe")
        .arg(first)
        .in_directory(stage.scratch.path())
        .run(DESCRIBE_LIMIT)
        .await?;
    ensure!(described.status.success(), "describe {}:\n{}", first.display(), described.stderr);
    let (create_table, dataset) = split(&described.stdout)?;
    let (table, dataset) = adapt(dataset)?;
    Ok(Plan::files(create_table.to_owned(), table, dataset, files))
}

/// Returns the files with the keys they get: their paths below the directory.
fn files_below(path: &Path) -> Result<Vec<(String, PathBuf)>> {
    let path = fs::canonicalize(path).with_context(|| format!("find {}", path.display()))?;
    let mut found = if path.is_dir() {
        files::below(&path)?
    } else {
        let name = path.file_name().and_then(|name| name.to_str()).context("a file's name is not UTF-8")?;
        vec![(name.to_owned(), path)]
    };
    // Spark's and the shell's own files are not data.
    found.retain(|(key, _)| !key.rsplit('/').next().unwrap_or(key).starts_with(['.', '_']));
    Ok(found)
}

/// `describe` prints SQL, then the dataset.
fn split(described: &str) -> Result<(&str, &str)> {
    let at = described.find("[[dataset]]").context("importer describe printed no [[dataset]]")?;
    Ok(described.split_at(at))
}

/// Points the dataset at the demo's bucket; without a key its rows are appended.
fn adapt(dataset: &str) -> Result<(String, String)> {
    let mut config: Table = dataset.parse().context("read the dataset that importer describe printed")?;
    let Some(Value::Table(dataset)) =
        config.get_mut("dataset").and_then(Value::as_array_mut).and_then(|datasets| datasets.first_mut())
    else {
        bail!("importer describe printed no dataset");
    };
    dataset.insert("match".into(), "s3://{bucket}/**".into());
    if dataset.get("key").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        dataset.insert("mode".into(), "append".into());
    }
    let table = dataset.get("table").and_then(Value::as_str).context("the dataset names no table")?.to_owned();
    Ok((table, toml::to_string(&config)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_without_a_key_appends_from_the_demo_s_bucket() {
        let (table, adapted) =
            adapt("[[dataset]]\nname = \"x\"\nmatch = \"file:///x\"\ntable = \"public.x\"\n").unwrap();
        assert_eq!(table, "public.x");
        assert!(adapted.contains("match = \"s3://{bucket}/**\"") && adapted.contains("mode = \"append\""), "{adapted}");
        let (_, keyed) = adapt("[[dataset]]\nname = \"x\"\nmatch = \"m\"\ntable = \"x\"\nkey = [\"id\"]\n").unwrap();
        assert!(!keyed.contains("append"), "{keyed}");
    }

    #[test]
    fn hidden_files_and_markers_are_left_out() {
        let scratch = penstock_tests::scratch::Scratch::new("files").unwrap();
        for name in ["b.csv", "a.csv", "_SUCCESS", ".b.csv.crc"] {
            scratch.write(name, "x").unwrap();
        }
        let keys: Vec<_> = files_below(scratch.path()).unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a.csv", "b.csv"]);
    }
}
