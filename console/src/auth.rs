//! Who may read the pages.

use crate::config::{Auth, ConfigError};
use argon2::{Argon2, PasswordHash, PasswordVerifier as _};
use axum::http::{HeaderMap, HeaderName, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashSet,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Semaphore;

/// Sign-ins that are remembered; more are forgotten all at once.
const MOST_REMEMBERED: usize = 256;

/// Says who is let in.
#[derive(Debug)]
pub enum Doorman {
    /// Whoever reaches the address.
    Everybody,
    /// Who knows a password.
    Passwords(Passwords),
    /// Whom a proxy names.
    Proxy {
        /// In this header.
        header: HeaderName,
        /// From this address.
        address: IpAddr,
    },
}

impl Doorman {
    /// Takes its place, reading the file of passwords.
    ///
    /// # Errors
    /// When the file cannot be read, or is none of passwords.
    pub fn new(auth: Option<&Auth>) -> Result<Self, ConfigError> {
        let Some(auth) = auth else { return Ok(Self::Everybody) };
        if let Some(path) = &auth.password_file {
            return Passwords::read(path).map(Self::Passwords);
        }
        let header = auth.trusted_header.as_deref().and_then(|name| name.parse().ok());
        match (header, auth.proxy) {
            (Some(header), Some(address)) => Ok(Self::Proxy { header, address }),
            _ => Err(ConfigError::of("auth: needs `password_file`, or `trusted_header` and `proxy`")),
        }
    }

    /// Returns whether a request from this address is let in.
    pub async fn admits(&self, headers: &HeaderMap, from: Option<IpAddr>) -> bool {
        match self {
            Self::Everybody => true,
            Self::Passwords(passwords) => match basic(headers) {
                Some(login) => passwords.admit(login).await,
                None => false,
            },
            Self::Proxy { header, address } => {
                from == Some(*address) && headers.get(header).is_some_and(|name| !name.is_empty())
            }
        }
    }

    /// Returns whether a browser should ask for a password.
    #[must_use]
    pub fn asks(&self) -> bool {
        matches!(self, Self::Passwords(_))
    }
}

/// Returns `name:password` of a request.
fn basic(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    scheme.eq_ignore_ascii_case("basic").then(|| String::from_utf8(decoded).ok())?
}

/// Names with the hashes of their passwords.
///
/// A hash costs memory and time on purpose, so one is computed at a time, and what it said is remembered under a digest
/// whose key dies with the process.
pub struct Passwords {
    logins: Arc<Vec<(String, String)>>,
    turn: Semaphore,
    key: [u8; 32],
    known: Mutex<HashSet<[u8; 32]>>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passwords", self.logins.len())
    }
}

impl Passwords {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::of(format!("auth.password_file: read {name}: {error}")))?;
        let mut logins = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let login = line.trim().split_once(':').filter(|(_, hash)| PasswordHash::new(hash).is_ok());
            let Some((name, hash)) = login else {
                let why = "must be a name, a colon and an argon2 hash, as `console password NAME` prints it";
                return Err(ConfigError::of(format!("{name}:{}: {why}", index + 1)));
            };
            logins.push((name.to_owned(), hash.to_owned()));
        }
        if logins.is_empty() {
            return Err(ConfigError::of(format!("auth.password_file: {name} names nobody")));
        }
        let mut key = [0; 32];
        key[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        key[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        Ok(Self { logins: Arc::new(logins), turn: Semaphore::new(1), key, known: Mutex::default() })
    }

    async fn admit(&self, login: String) -> bool {
        let digest: [u8; 32] = Sha256::new().chain_update(self.key).chain_update(&login).finalize().into();
        if self.known().contains(&digest) {
            return true;
        }
        let Ok(_turn) = self.turn.acquire().await else { return false };
        if self.known().contains(&digest) {
            return true;
        }
        let logins = Arc::clone(&self.logins);
        let is_right = tokio::task::spawn_blocking(move || is_right(&logins, &login)).await.unwrap_or(false);
        if is_right {
            let mut known = self.known();
            if known.len() >= MOST_REMEMBERED {
                known.clear();
            }
            known.insert(digest);
        }
        is_right
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_right(logins: &[(String, String)], login: &str) -> bool {
    let Some((name, password)) = login.split_once(':') else { return false };
    let found = logins.iter().find(|(known, _)| known == name);
    // One hash is computed whoever asks: how long it takes does not tell which names there are.
    let Some((_, hash)) = found.or(logins.first()) else { return false };
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    let fits = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
    fits && found.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::password;

    #[tokio::test]
    async fn who_knows_the_password_is_let_in_and_remembered() {
        let path = std::env::temp_dir().join(format!("console-passwords-{}", std::process::id()));
        std::fs::write(&path, password::line("ann", "s:3cret\n".as_bytes()).expect("a line")).expect("a file");
        let passwords = Passwords::read(&path).expect("read");
        std::fs::remove_file(&path).expect("removed");
        for (login, expected) in [("ann:s:3cret", true), ("ann:wrong", false), ("bob:s:3cret", false), ("ann", false)] {
            assert_eq!(passwords.admit(login.to_owned()).await, expected, "{login}");
        }
        assert_eq!(passwords.known().len(), 1);
        assert!(passwords.admit("ann:s:3cret".to_owned()).await);
        assert!(!format!("{passwords:?}").contains("argon2"));
    }

    #[tokio::test]
    async fn a_header_counts_from_the_proxy_only() {
        let auth = Auth {
            trusted_header: Some("X-User".into()),
            proxy: Some("10.0.0.1".parse().expect("an address")),
            ..Auth::default()
        };
        let doorman = Doorman::new(Some(&auth)).expect("a doorman");
        let mut headers = HeaderMap::new();
        let proxy = auth.proxy;
        assert!(!doorman.admits(&headers, proxy).await);
        headers.insert("x-user", "ann".parse().expect("a value"));
        assert!(doorman.admits(&headers, proxy).await);
        assert!(!doorman.admits(&headers, "10.0.0.2".parse().ok()).await);
        assert!(!doorman.admits(&headers, None).await);
    }
}
