//! An issuer of tokens, by what it publishes: its metadata and its keys.
//!
//! Both are fetched together, when they are first needed and again every few minutes while somebody
//! [follows](Provider::follow). A token that no known key has signed makes for another look, at most one a minute: so a new key
//! is known at once, and who sends tokens of made-up keys makes nobody ask. While the issuer can't be asked, what was last
//! fetched counts, for a day.
//!
//! Deliberately absent: what tokens are for, and what their claims mean.

use std::sync::Arc;

use jsonwebtoken::{Validation, jwk::Jwk};
use parking_lot::RwLock;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep, timeout},
};

use super::fetch::{Client, FetchError};
use crate::{
    auth::jws::{self, ALGORITHMS, Key, Unverified},
    causes,
    config::{access::is_secure_url, limits::ProviderLimits},
    outbound::{Trust, TrustError},
};

/// By how much clocks of the issuer and of this member may differ, in seconds.
const LEEWAY_SECONDS: u64 = 60;

/// What an issuer says of itself (OpenID Connect Discovery 1.0, 3).
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    /// Its name, exactly as it stands in tokens.
    pub issuer: String,
    /// Where its keys are.
    pub jwks_uri: String,
    /// Where browsers are sent to log in.
    pub authorization_endpoint: Option<String>,
    /// Where codes become tokens.
    pub token_endpoint: Option<String>,
    /// Where more is said of who logged in.
    pub userinfo_endpoint: Option<String>,
    /// Where browsers are sent to log out (OpenID Connect RP-Initiated Logout 1.0).
    pub end_session_endpoint: Option<String>,
    /// How clients prove who they are; none is `client_secret_basic`.
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Whether it names itself in answers that browsers bring (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// For whom it must be: one of these (`aud`).
    pub audiences: &'a [&'a str],
    /// What it must say at all, beside `iss`, `aud` and `exp`.
    pub claims: &'a [&'a str],
}

/// Why there are no metadata or keys.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It didn't answer as it should.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It calls itself something else.
    #[error(
        "its discovery document is that of the issuer {found:?}: configure this one, to the letter, or another URL"
    )]
    OtherIssuer {
        /// How it calls itself.
        found: String,
    },
    /// It would have secrets sent in the clear.
    #[error("its {what} {url:?} is no https URL (plain http is for loopback addresses alone)")]
    Insecure {
        /// Which of its addresses.
        what: &'static str,
        /// The address.
        url: String,
    },
    /// It publishes no key that could sign a token.
    #[error("{0} holds no RSA, P-256, P-384 or Ed25519 key for signatures")]
    NoKeys(String),
    /// It has no place where people log in.
    #[error(
        "its discovery document names no authorization_endpoint and token_endpoint, so nobody can log in there"
    )]
    NoLogins,
    /// It was asked a moment ago and isn't asked again yet.
    #[error("{0}")]
    Before(String),
}

impl ProviderError {
    /// Whether the configuration has to change, rather than that the issuer has to come back.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::OtherIssuer { .. } | Self::Insecure { .. } | Self::NoLogins => true,
            Self::Fetch(_) | Self::NoKeys(_) | Self::Before(_) => false,
        }
    }
}

/// Why a token isn't believed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It is none of this issuer, for somebody else, over, or signed by no key of it.
    #[error("the token isn't one of this issuer's that is good here and now")]
    Wrong,
    /// Nobody can tell, for the issuer's keys can't be had.
    #[error("the issuer's keys can't be had")]
    Unavailable(#[source] ProviderError),
}

/// An issuer of tokens.
pub struct Provider {
    issuer: String,
    client: Client,
    bounds: ProviderLimits,
    known: RwLock<Known>,
    /// One look at a time.
    looking: Mutex<()>,
}

#[derive(Default)]
struct Known {
    published: Option<Published>,
    /// When the last look ended, whatever came of it.
    asked: Option<Instant>,
    /// When it was last asked because of a token that no known key had signed.
    asked_for_key: Option<Instant>,
    /// Why the last look brought nothing.
    trouble: Option<String>,
}

#[derive(Clone)]
struct Published {
    metadata: Arc<Metadata>,
    keys: Arc<Vec<Key>>,
    when: Instant,
}

impl Provider {
    /// The one that calls itself `issuer`. It isn't asked anything yet.
    ///
    /// # Errors
    /// [`TrustError`]: the certificates of authorities can't be read.
    pub fn new(issuer: impl Into<String>, trust: &Trust, bounds: ProviderLimits) -> Result<Self, TrustError> {
        Ok(Self {
            issuer: issuer.into(),
            client: Client::new(trust, bounds)?,
            bounds,
            known: RwLock::default(),
            looking: Mutex::default(),
        })
    }

    /// How it calls itself.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(in crate::auth) fn client(&self) -> &Client {
        &self.client
    }

    /// Why the last look brought nothing; `None` where it did, or none was needed.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.known.read().trouble.clone()
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// [`ProviderError`]: it wasn't known, and can't be had.
    pub async fn metadata(&self) -> Result<Arc<Metadata>, ProviderError> {
        Ok(self.published().await?.metadata)
    }

    /// The same, where it is known already.
    #[must_use]
    pub fn known_metadata(&self) -> Option<Arc<Metadata>> {
        self.believed().map(|published| published.metadata)
    }

    /// What `token` says, if this issuer signed it, it is as expected, and good now (give or take a minute).
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn verify<T: DeserializeOwned>(
        &self,
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<T, TokenError> {
        let known = self.published().await.map_err(TokenError::Unavailable)?;
        match self.verify_by(&known.keys, token, expected) {
            Ok(claims) => return Ok(claims),
            Err(Unverified::Wrong) => return Err(TokenError::Wrong),
            Err(Unverified::NoKey) => {}
        }
        // The issuer may have a new one.
        let Some(known) = self.newer_than(known.when).await else {
            return Err(TokenError::Wrong);
        };
        self.verify_by(&known.keys, token, expected)
            .map_err(|_| TokenError::Wrong)
    }

    fn verify_by<T: DeserializeOwned>(
        &self,
        keys: &[Key],
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<T, Unverified> {
        jws::verified(token, keys, |algorithm| {
            let mut validation = Validation::new(algorithm);
            validation.set_audience(expected.audiences);
            validation.set_issuer(&[&self.issuer]);
            let always = ["iss", "aud", "exp"];
            let required: Vec<_> = always.iter().chain(expected.claims).collect();
            validation.set_required_spec_claims(&required);
            validation.leeway = LEEWAY_SECONDS;
            validation.validate_nbf = true;
            validation
        })
    }

    /// Looks whether anything has changed, every few minutes, and after a failure every minute, for ever.
    pub async fn follow(&self) {
        loop {
            let turn = self.looking.lock().await;
            let looked = self.look().await;
            drop(turn);
            match looked {
                Ok(_) => sleep(self.bounds.refresh).await,
                Err(error) => {
                    let error = causes::in_a_line(&error);
                    tracing::warn!(issuer = self.issuer, error, "an identity provider can't be asked");
                    sleep(self.bounds.again_after).await;
                }
            }
        }
    }

    /// What it published, as far as it is believed still.
    fn believed(&self) -> Option<Published> {
        let known = self.known.read();
        let is_believed = |published: &&Published| published.when.elapsed() < self.bounds.trusted;
        known.published.as_ref().filter(is_believed).cloned()
    }

    async fn published(&self) -> Result<Published, ProviderError> {
        if let Some(published) = self.believed() {
            return Ok(published);
        }
        let Some(_turn) = self.turn().await else {
            let trouble = self.trouble();
            return Err(ProviderError::Before(
                trouble.unwrap_or_else(|| "it hasn't answered yet".to_owned()),
            ));
        };
        if let Some(published) = self.believed() {
            return Ok(published);
        }
        // Whoever has waited for an attempt that failed doesn't make another one; nor does the next one for some time.
        match self.is_to_wait() {
            Some(trouble) => Err(ProviderError::Before(trouble)),
            None => self.look().await,
        }
    }

    /// To look, unless others take too long.
    async fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        timeout(self.bounds.patience, self.looking.lock()).await.ok()
    }

    /// Why it isn't asked again now, when the last attempt failed just before.
    fn is_to_wait(&self) -> Option<String> {
        let known = self.known.read();
        let was_asked = known
            .asked
            .is_some_and(|asked| asked.elapsed() < self.bounds.patience);
        known.trouble.clone().filter(|_| was_asked)
    }

    /// What was published after `before`: somebody else may have looked, else it is asked, unless that was done within the
    /// last minute.
    async fn newer_than(&self, before: Instant) -> Option<Published> {
        let _turn = self.turn().await?;
        if let Some(newer) = self.believed().filter(|published| published.when > before) {
            return Some(newer);
        }
        let asked = self.known.read().asked_for_key;
        if asked.is_some_and(|asked| asked.elapsed() < self.bounds.again_after) {
            return None;
        }
        self.known.write().asked_for_key = Some(Instant::now());
        self.look().await.ok()
    }

    async fn look(&self) -> Result<Published, ProviderError> {
        let looked = self.fetch().await;
        let mut known = self.known.write();
        known.asked = Some(Instant::now());
        known.trouble = looked.as_ref().err().map(|error| causes::in_a_line(error));
        if let Ok(published) = &looked {
            known.published = Some(published.clone());
        }
        looked
    }

    async fn fetch(&self) -> Result<Published, ProviderError> {
        let url = format!(
            "{}/.well-known/openid-configuration",
            self.issuer.trim_end_matches('/')
        );
        let metadata: Metadata = self.client.get(&url, None).await?;
        if metadata.issuer != self.issuer {
            return Err(ProviderError::OtherIssuer {
                found: metadata.issuer,
            });
        }
        metadata.check()?;
        let set: KeySet = self.client.get(&metadata.jwks_uri, None).await?;
        let keys = set.signing();
        if keys.is_empty() {
            return Err(ProviderError::NoKeys(metadata.jwks_uri));
        }
        Ok(Published {
            metadata: Arc::new(metadata),
            keys: Arc::new(keys),
            when: Instant::now(),
        })
    }
}

impl Metadata {
    /// That nothing is sent to or fetched from where others could listen.
    fn check(&self) -> Result<(), ProviderError> {
        let addresses = [
            ("jwks_uri", Some(&self.jwks_uri)),
            ("authorization_endpoint", self.authorization_endpoint.as_ref()),
            ("token_endpoint", self.token_endpoint.as_ref()),
            ("userinfo_endpoint", self.userinfo_endpoint.as_ref()),
            ("end_session_endpoint", self.end_session_endpoint.as_ref()),
        ];
        for (what, url) in addresses {
            if let Some(url) = url.filter(|url| !is_secure_url(url)) {
                return Err(ProviderError::Insecure {
                    what,
                    url: url.clone(),
                });
            }
        }
        Ok(())
    }
}

/// A set of keys, of which some may be of kinds that aren't known here: those sign nothing that is believed.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl KeySet {
    fn signing(self) -> Vec<Key> {
        let keys = self
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        keys.filter_map(|key| Key::of_jwk(&key, ALGORITHMS).ok().flatten())
            .collect()
    }
}
