//! `credentialsFile` of `extensions.sync` and `extensions.replicate`: logins by host, `{"host": {"username": "…", "password": "…"}}`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::HeaderValue;
use serde::Deserialize;

use crate::config::{Secret, UpstreamUrl};

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Logins by host.
#[derive(Clone, Debug, Default)]
pub struct Credentials(BTreeMap<String, Login>);

/// A login, as HTTP's Basic scheme sends it.
#[derive(Clone, Debug)]
pub(super) struct Login(Secret);

/// The file can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{} {problem}", path.display())]
pub struct CredentialsError {
    path: PathBuf,
    problem: &'static str,
    #[source]
    source: io::Error,
}

#[derive(Deserialize)]
struct Entry {
    username: String,
    password: String,
}

impl Credentials {
    /// Reads the file.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let fault = |problem, source| CredentialsError {
            path: path.to_owned(),
            problem,
            source,
        };
        let unreadable = |source| fault("can't be read", source);
        if fs::metadata(path).map_err(unreadable)?.len() > MAX_BYTES {
            let source = io::Error::from(io::ErrorKind::FileTooLarge);
            return Err(unreadable(source));
        }
        let bytes = fs::read(path).map_err(unreadable)?;
        let entries: BTreeMap<String, Entry> = serde_json::from_slice(&bytes).map_err(|error| {
            // What stands there isn't repeated.
            let at = format!("line {}, column {}", error.line(), error.column());
            fault(
                r#"isn't of the form {"host": {"username": "...", "password": "..."}}"#,
                io::Error::other(at),
            )
        })?;
        let login = |entry: &Entry| Login::new(&entry.username, &entry.password);
        let logins = entries.iter().map(|(host, entry)| (plain(host), login(entry)));
        Ok(Self(logins.collect()))
    }

    /// The login for a registry: that of its host and port, else of its host. Docker Hub has several names.
    pub(super) fn of(&self, url: &UpstreamUrl) -> Option<Login> {
        let hub: &[&str] = match url.authority.as_str() {
            "registry-1.docker.io" => &["docker.io", "index.docker.io"],
            _ => &[],
        };
        let names = [url.authority.as_str(), url.host()];
        names
            .iter()
            .chain(hub)
            .find_map(|name| self.0.get(*name))
            .cloned()
    }
}

impl Login {
    pub(super) fn new(user: &str, password: &str) -> Self {
        let pair = format!("{user}:{password}");
        Self(Secret::new(format!("Basic {}", BASE64_STANDARD.encode(pair))))
    }
}

/// A host as it may be written: with a scheme, or docker's `/v1/`.
fn plain(host: &str) -> String {
    let host = host.split_once("://").map_or(host, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    host.to_ascii_lowercase()
}

impl Login {
    /// `Authorization`, never shown.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::try_from(self.0.expose()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}
