//! The guards that tests are known to miss: `tests/guards/run.sh` switches them off; here only its list is checked.

use anyhow::{Context as _, Result};
use penstock_tests::repository;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn every_patch_that_switches_a_guard_off_still_applies() -> Result<()> {
    for guard in patches()? {
        let patch = repository().join(format!("tests/guards/{guard}.patch"));
        let applied =
            Command::new("git").current_dir(repository()).args(["apply", "--check", "-C1"]).arg(&patch).output()?;
        assert!(applied.status.success(), "{guard}: {}", String::from_utf8_lossy(&applied.stderr));
    }
    Ok(())
}

#[test]
fn every_guard_names_tests_that_exist() -> Result<()> {
    let tests = tests()?;
    let guards: BTreeSet<String> = tests.iter().map(|(guard, _)| guard.clone()).collect();
    assert_eq!(guards, patches()?, "guards with tests, and guards with a patch");

    let mut sources = String::new();
    for directory in
        ["console/src", "decode/src", "importer/src", "scaler/src", "scaler/tests", "service/src", "tests/it"]
    {
        read_sources(&repository().join(directory), &mut sources)?;
    }
    for (guard, test) in tests {
        let name = test.rsplit("::").next().unwrap_or(&test);
        assert!(sources.contains(&format!("fn {name}(")), "{guard}: there is no test {test}");
    }
    Ok(())
}

#[test]
fn the_page_on_guards_names_every_guard_and_its_tests() -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/design/guards.md"))?;
    for (guard, test) in tests()? {
        let line = page.lines().find(|line| line.contains(&format!("`{guard}`")));
        assert!(
            line.is_some_and(|line| line.contains(&format!("`{test}`"))),
            "docs/design/guards.md lacks {guard}: {test}"
        );
    }
    Ok(())
}

/// Returns the guards that have a patch.
fn patches() -> Result<BTreeSet<String>> {
    let files = fs::read_dir(repository().join("tests/guards"))?;
    let paths = files.map(|file| Ok(file?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let patches = paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "patch"));
    Ok(patches.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect())
}

/// Returns the list's lines as (guard, test).
fn tests() -> Result<Vec<(String, String)>> {
    let list = fs::read_to_string(repository().join("tests/guards/list.txt"))?;
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (guard, test) = line.split_once(' ').with_context(|| format!("a guard without a test: {line}"))?;
            Ok((guard.to_owned(), test.to_owned()))
        })
        .collect()
}

fn read_sources(directory: &Path, sources: &mut String) -> Result<()> {
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        if path.is_dir() {
            read_sources(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(path)?);
        }
    }
    Ok(())
}
