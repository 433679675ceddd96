//! Temporary directories that go away with their handle.

use anyhow::{Context as _, Result};
use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// A directory of its own under the system's temporary directory, removed on drop.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Creates a directory only we may enter; `purpose` is part of its name.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new(purpose: &str) -> Result<Self> {
        // Short, because a Unix socket's path may have no more than 107 bytes.
        let path = std::env::temp_dir().join(format!("penstock-{purpose}-{:08x}", fastrand::u32(..)));
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path })
    }

    /// Creates a directory that other users of the machine may enter, though not list or write.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn traversable(purpose: &str) -> Result<Self> {
        let scratch = Self::new(purpose)?;
        fs::set_permissions(&scratch.path, fs::Permissions::from_mode(0o711))?;
        Ok(scratch)
    }

    /// Returns the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into the directory and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&self.path)).with_context(|| format!("make room for {name}"))?;
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A server that is just ending may still create a file; one more look is enough for that.
        if fs::remove_dir_all(&self.path).is_err() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
