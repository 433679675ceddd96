//! How the modules of a crate depend on each other.

use anyhow::Result;
use penstock_tests::repository;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

#[test]
fn no_module_depends_on_itself_by_way_of_others() -> Result<()> {
    for name in ["console", "decode", "importer", "penstock", "scaler", "service"] {
        let modules = modules(&repository().join(name).join("src"))?;
        for module in modules.keys() {
            assert!(!reached(&modules, module).contains(module), "{name}: {module} is in a cycle of {modules:#?}");
        }
    }
    Ok(())
}

#[test]
fn grouped_and_nested_imports_are_read() {
    let source = "use crate::{\n    a::{b, c},\n    d::E, // f\n};\nfn g() { crate::h::i() }\n#[cfg(test)]\nmod tests {\n    use crate::j;\n}\n";
    assert_eq!(uses(source), BTreeSet::from(["a", "d", "h"].map(String::from)));
}

/// Returns the crate's modules with those that each uses.
fn modules(source: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut modules = BTreeMap::new();
    for entry in fs::read_dir(source)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !matches!(name.as_str(), "lib" | "main" | "bin") {
            let used: &mut BTreeSet<String> = modules.entry(name.clone()).or_default();
            add_uses(&path, used)?;
            used.remove(&name);
        }
    }
    Ok(modules)
}

fn add_uses(path: &Path, used: &mut BTreeSet<String>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            add_uses(&entry?.path(), used)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
        used.extend(uses(&fs::read_to_string(path)?));
    }
    Ok(())
}

/// Returns the modules of its crate that a source names, but for its tests and comments.
fn uses(source: &str) -> BTreeSet<String> {
    let product = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines: Vec<&str> = product.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let product = lines.join("\n");
    let mut used = BTreeSet::new();
    for named in product.split("crate::").skip(1) {
        match named.strip_prefix('{') {
            Some(group) => used.extend(group_members(group)),
            None => used.extend(first_word(named)),
        }
    }
    used
}

/// Returns the first names of a group of imports, up to the brace that closes it.
fn group_members(group: &str) -> Vec<String> {
    let (mut members, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.extend(first_word(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.extend(first_word(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    members
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.trim_start().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

fn reached<'m>(modules: &'m BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<&'m String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = modules.get(from).into_iter().flatten().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(modules.get(module).into_iter().flatten());
        }
    }
    reached
}
