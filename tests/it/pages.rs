//! The pages hold together: every link leads somewhere, and the map names what there is.

use anyhow::{Context as _, Result};
use penstock_tests::repository;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

#[test]
fn every_relative_link_leads_to_a_file_and_every_anchor_to_a_heading() -> Result<()> {
    let (mut broken, mut n_links) = (Vec::new(), 0);
    for page in pages()? {
        for target in links(&fs::read_to_string(&page)?) {
            n_links += 1;
            if let Err(problem) = follow(&page, &target) {
                broken.push(format!("{}: {target}: {problem:#}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(n_links > 100, "{n_links} links are suspiciously few");
    Ok(())
}

#[test]
fn the_list_of_the_documentation_names_every_page() -> Result<()> {
    let list = repository().join("docs/README.md");
    let named: BTreeSet<PathBuf> = links(&fs::read_to_string(&list)?)
        .iter()
        .filter_map(|target| resolve(&list, target).0.canonicalize().ok())
        .collect();
    for page in pages()? {
        let is_listed =
            page == list || !page.starts_with(repository().join("docs")) || named.contains(&page.canonicalize()?);
        assert!(is_listed, "docs/README.md does not name {}", page.display());
    }
    Ok(())
}

#[test]
fn the_first_pages_stay_short() -> Result<()> {
    for (page, most) in [("README.md", 900), ("ARCHITECTURE.md", 1500)] {
        let n_words = fs::read_to_string(repository().join(page))?.split_whitespace().count();
        assert!(n_words <= most, "{page} has {n_words} words, more than {most}");
    }
    Ok(())
}

#[test]
fn the_map_names_files_that_exist() -> Result<()> {
    let map = fs::read_to_string(repository().join("ARCHITECTURE.md"))?;
    let crates = [
        "console/",
        "decode/",
        "fuzz/",
        "importer/",
        "infra/",
        "migrations/",
        "penstock/",
        "scaler/",
        "service/",
        "tests/",
    ];
    let crates = crates.iter().filter(|name| repository().join(name).is_dir());
    let is_path = |word: &&str| crates.clone().any(|name| word.starts_with(name));
    let paths: Vec<&str> = map.split('`').skip(1).step_by(2).filter(is_path).collect();
    let missing: Vec<&&str> = paths.iter().filter(|path| !repository().join(path).exists()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there: {missing:?}");
    assert!(paths.len() > 30, "{} paths are suspiciously few", paths.len());
    Ok(())
}

#[test]
fn links_and_headings_are_read_as_a_browser_shows_them() {
    let text = "# A `b` (c), d_e!\n[x](y.md#z) ![p](q.svg)\n`[no](code)`\n```sh\n# no heading\n[no](fence)\n```\n## Twice\n## Twice\n";
    assert_eq!(links(text), ["y.md#z", "q.svg"]);
    assert_eq!(anchors(text), BTreeSet::from(["a-b-c-d_e", "twice", "twice-1"].map(String::from)));
}

/// Returns every Markdown file of the repository.
fn pages() -> Result<Vec<PathBuf>> {
    let (mut found, mut directories) = (Vec::new(), vec![repository()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && !["target", "dist"].contains(&name.as_str()) {
                directories.push(path);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Returns a page's lines outside fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_fence = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_fence ^= is_fence;
        !in_fence && !is_fence
    })
}

fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        let shown: String = line.split('`').step_by(2).collect();
        let targets = shown.split("](").skip(1).filter_map(|after| after.split(')').next());
        found.extend(targets.map(str::to_owned));
    }
    found
}

/// Returns the anchors that headings make, by GitHub's rules.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept.collect::<String>().to_lowercase().replace(' ', "-");
        let numbered = (1..).map(|number| format!("{anchor}-{number}"));
        let fresh = std::iter::once(anchor.clone()).chain(numbered).find(|anchor| !found.contains(anchor));
        found.extend(fresh);
    }
    found
}

/// Returns the file a link leads to, and the anchor in it.
fn resolve<'a>(page: &Path, target: &'a str) -> (PathBuf, Option<&'a str>) {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() { page.to_owned() } else { page.parent().unwrap_or(page).join(path) };
    (file, anchor)
}

fn follow(page: &Path, target: &str) -> Result<()> {
    if target.starts_with("https://") || target.starts_with("http://") {
        return Ok(());
    }
    let (file, anchor) = resolve(page, target);
    let found = fs::metadata(&file).context("there is no such file")?;
    if let Some(anchor) = anchor {
        anyhow::ensure!(found.is_file(), "an anchor in what is no page");
        anyhow::ensure!(anchors(&fs::read_to_string(&file)?).contains(anchor), "there is no such heading");
    }
    Ok(())
}
