//! Files below a directory.

use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns every file below a directory with its path from there, in the order of those.
///
/// # Errors
/// When a directory cannot be listed, or a name is not UTF-8.
pub fn below(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let (mut files, mut unread) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = unread.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                unread.push(path);
                continue;
            }
            let name = path.strip_prefix(root)?.to_str().context("a file's name is not UTF-8")?.to_owned();
            files.push((name, path));
        }
    }
    files.sort();
    Ok(files)
}
