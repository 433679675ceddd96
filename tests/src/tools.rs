//! Programs of others that check files of ours.

use crate::{repository, spawn};
use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Returns `promtool`, which knows Prometheus's rules and configuration.
///
/// # Errors
/// As [`from_debian`].
pub fn promtool() -> Result<PathBuf> {
    // Installing the package would also start a server.
    from_debian("promtool", "prometheus")
}

/// Returns `kubectl`, which renders kustomizations.
///
/// # Errors
/// As [`from_debian`].
pub fn kubectl() -> Result<PathBuf> {
    from_debian("kubectl", "kubernetes-client")
}

/// Returns `systemd-analyze`, which knows units.
///
/// # Errors
/// When it is not installed; unlike the others it does not run unpacked.
pub fn systemd_analyze() -> Result<PathBuf> {
    spawn::find_in_path("systemd-analyze")
        .context("systemd-analyze is not installed (package systemd); `make test` installs it")
}

/// Returns an installed program, or else that of a Debian package, which is unpacked into the repository's cache and not installed.
///
/// # Errors
/// When it is neither installed nor to be had with `apt-get download`.
fn from_debian(program: &str, package: &str) -> Result<PathBuf> {
    if let Some(installed) = spawn::find_in_path(program) {
        return Ok(installed);
    }
    let cache = repository().join(".cache");
    fs::create_dir_all(&cache)?;
    let unpacked = cache.join(package).join("usr/bin").join(program);
    // Tests run in processes of their own: one of them fetches it, the lock holds the others.
    let lock = fs::File::create(cache.join(format!("{package}.lock")))?;
    lock.lock()?;
    if !unpacked.is_file() {
        fetch(&cache, package).with_context(|| {
            format!("{program} is not installed, and Debian's package {package} could not be fetched instead")
        })?;
    }
    Ok(unpacked)
}

fn fetch(cache: &Path, package: &str) -> Result<()> {
    let part = cache.join(format!("{package}.part"));
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    for directory in ["lists/partial", "archives/partial", "root"] {
        fs::create_dir_all(part.join(directory))?;
    }
    let download = |options: &[String]| {
        spawn::run(Command::new("apt-get").current_dir(&part).args(options).args(["-qq", "download", package]))
    };
    if download(&[]).is_err() {
        // A fresh machine has no package lists yet; ours need no root.
        let own = |name: &str, directory: &str| format!("-oDir::{name}={}", part.join(directory).display());
        let options = [own("State::Lists", "lists"), own("Cache", "archives")];
        spawn::run(Command::new("apt-get").args(&options).args(["-qq", "update"]))?;
        download(&options)?;
    }
    let packages = fs::read_dir(&part)?.filter_map(|entry| Some(entry.ok()?.path()));
    let file = packages.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let file = file.context("apt-get download left no package")?;
    spawn::run(Command::new("dpkg-deb").arg("-x").arg(file).arg(part.join("root")))?;
    let place = cache.join(package);
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::rename(part.join("root"), place)?;
    fs::remove_dir_all(part)?;
    Ok(())
}
