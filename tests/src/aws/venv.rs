//! Python environments with the emulators and other tools, made once and kept in the repository's cache.

use crate::{repository, spawn};
use anyhow::{Context as _, Result};
use std::{fs, path::PathBuf, process::Command};

/// Returns the interpreter of an environment that has what `tests/emulator/NAME.txt` lists.
///
/// The first caller makes it; others wait for that. A changed list makes a new one.
///
/// # Errors
/// When Python or a package cannot be had.
pub fn python(name: &str) -> Result<PathBuf> {
    let list = repository().join("tests/emulator").join(name).with_extension("txt");
    let wanted = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    let cache = repository().join(".cache");
    fs::create_dir_all(&cache)?;
    let environment = cache.join(name);
    let stamp = environment.join("complete");

    // Tests run in processes of their own: one of them makes it, the lock holds the others.
    let lock = fs::File::create(cache.join(format!("{name}.lock")))?;
    lock.lock()?;
    let python = environment.join("bin/python");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) && python.exists() {
        return Ok(python);
    }
    if environment.exists() {
        fs::remove_dir_all(&environment)?;
    }
    spawn::run(Command::new("python3").args(["-m", "venv"]).arg(&environment))
        .with_context(|| format!("make a Python environment for {name} (packages python3 and python3-venv)"))?;
    spawn::run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&list))
        .with_context(|| format!("install what {} lists", list.display()))?;
    fs::write(&stamp, wanted)?;
    Ok(python)
}
