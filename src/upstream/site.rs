//! One address of a registry, its login and the tokens that were got there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use http::{HeaderValue, Uri};
use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use super::credentials::Login;
use crate::{config::UpstreamUrl, oci::RepoName};

/// Tokens that are remembered of one address.
const MAX_TOKENS: usize = 4096;
/// How long before its end a token isn't used any more.
const MARGIN: Duration = Duration::from_secs(10);

/// One address of a registry.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) url: UpstreamUrl,
    pub(super) login: Option<Login>,
    pub(super) realm_hosts: BTreeSet<String>,
    pub(super) purpose: Purpose,
    pub(super) tokens: Tokens,
}

impl Site {
    pub(super) fn new(url: &UpstreamUrl, login: Option<Login>, realm_hosts: &BTreeSet<String>) -> Self {
        Self {
            url: url.clone(),
            login,
            realm_hosts: realm_hosts.clone(),
            purpose: Purpose::Pull,
            tokens: Tokens::default(),
        }
    }

    /// Whether an address is this registry's own, so that it may see its logins.
    pub(super) fn is_own(&self, uri: &Uri) -> bool {
        let authority = uri
            .authority()
            .map(|authority| authority.as_str().to_ascii_lowercase());
        uri.scheme_str() == Some(self.url.scheme) && authority.as_deref() == Some(&self.url.authority)
    }
}

/// What is done at a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Things are fetched.
    Pull,
    /// Things are put there, too.
    Push,
    /// And taken away.
    Replicate,
}

/// What a token is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope<'a> {
    /// To pull from this repository.
    Repository(&'a RepoName),
    /// To read the names of all.
    Catalog,
}

impl Scope<'_> {
    /// As a realm is asked for it.
    pub(super) fn for_purpose(self, purpose: Purpose) -> String {
        match (self, purpose) {
            (Self::Repository(_), Purpose::Push) => format!("{self},push"),
            (Self::Repository(_), Purpose::Replicate) => format!("{self},push,delete"),
            (Self::Repository(_) | Self::Catalog, _) => self.to_string(),
        }
    }
}

impl fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(repository) => write!(f, "repository:{repository}:pull"),
            Self::Catalog => f.write_str("registry:catalog:*"),
        }
    }
}

/// Tokens by what they are for, until they end.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<BTreeMap<String, (HeaderValue, Instant)>>);

impl Tokens {
    pub(super) fn known(&self, scope: Scope<'_>) -> Option<HeaderValue> {
        let tokens = self.0.lock();
        let (token, ends) = tokens.get(&scope.to_string())?;
        (*ends > Instant::now()).then(|| token.clone())
    }

    pub(super) fn keep(&self, scope: Scope<'_>, token: HeaderValue, life: Duration) {
        let now = Instant::now();
        let mut tokens = self.0.lock();
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, (_, ends)| *ends > now);
        }
        if tokens.len() < MAX_TOKENS {
            tokens.insert(scope.to_string(), (token, now + life.saturating_sub(MARGIN)));
        }
    }
}
