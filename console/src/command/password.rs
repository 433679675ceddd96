//! `console password`: the line of `auth.password_file` for one who may read.

use anyhow::{Context as _, ensure};
use argon2::{Argon2, PasswordHasher as _, password_hash::SaltString};
use service::config::ConfigError;
use std::io::BufRead;

/// Returns the line, ending in a line break, for the password on the input's first line.
///
/// # Errors
/// When there is no password, or the name cannot be one.
pub fn line(name: &str, mut input: impl BufRead) -> anyhow::Result<String> {
    if name.is_empty() || name.contains(|c: char| c == ':' || c.is_control() || c.is_whitespace()) {
        return Err(ConfigError::of("a name is one word without a colon").into());
    }
    let mut password = String::new();
    input.read_line(&mut password).context("read the password from stdin")?;
    let password = password.trim_end_matches(['\n', '\r']);
    ensure!(!password.is_empty(), "no password on stdin");
    // The library's error is none of the standard library's.
    let salt = SaltString::encode_b64(uuid::Uuid::new_v4().as_bytes()).map_err(|e| anyhow::anyhow!("salt: {e}"))?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    Ok(format!("{name}:{}\n", hash.map_err(|e| anyhow::anyhow!("hash the password: {e}"))?))
}
