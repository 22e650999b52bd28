//! One address of a registry, its login and the tokens that were got there.

use std::collections::{BTreeMap, BTreeSet};

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
    pub(super) tokens: Tokens,
}

impl Site {
    pub(super) fn new(url: &UpstreamUrl, login: Option<Login>, realm_hosts: &BTreeSet<String>) -> Self {
        Self {
            url: url.clone(),
            login,
            realm_hosts: realm_hosts.clone(),
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

/// Tokens by repository, until they end.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<BTreeMap<RepoName, (HeaderValue, Instant)>>);

impl Tokens {
    pub(super) fn known(&self, repository: &RepoName) -> Option<HeaderValue> {
        let tokens = self.0.lock();
        let (token, ends) = tokens.get(repository)?;
        (*ends > Instant::now()).then(|| token.clone())
    }

    pub(super) fn keep(&self, repository: &RepoName, token: HeaderValue, life: Duration) {
        let now = Instant::now();
        let mut tokens = self.0.lock();
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, (_, ends)| *ends > now);
        }
        if tokens.len() < MAX_TOKENS {
            tokens.insert(repository.clone(), (token, now + life.saturating_sub(MARGIN)));
        }
    }
}
