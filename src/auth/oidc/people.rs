//! Logging in by a browser at an identity provider, and out again.
//!
//! Between its beginning and its end a login is in one place alone: a signed cookie of the browser, good for ten minutes, with a
//! random secret. `state`, `nonce` and the verifier of PKCE are made from that, so that an answer counts in the browser that asked,
//! once, at whichever member it arrives.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future;
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::{
    client::{Answer, Client, Errand},
    fault::LoginFault,
    provider::{Provider, ProviderError},
};
use crate::{
    auth::{
        AuthError, Caller, Session, cookies,
        issued::keys::SigningKeys,
        origin::{self, Origin},
        session::Sessions,
        watched::FileFault,
    },
    causes, clock,
    config::{
        Limits,
        openid::{OpenId, ProviderKind},
    },
    storage::Version,
};

/// Where providers send browsers back to, with a provider's name behind it.
pub const CALLBACK_PATH: &str = "/zot/auth/callback/";

/// How long a login may take, in seconds.
const BEGUN_FOR: u64 = 10 * 60;

/// What the cookie of a login calls itself, so that nothing else signed by the same key is one.
const TYPE: &str = "portolan-login+jwt";

/// The longest path to go on with, in bytes.
const MAX_PATH: usize = 1024;

/// The providers, and what a login at one of them becomes.
pub struct People {
    clients: Vec<Client>,
    keys: Arc<SigningKeys>,
    sessions: Arc<Sessions>,
    origin: Origin,
    finishing: Semaphore,
}

/// A login that has begun.
pub struct Begun {
    /// Where the browser goes.
    pub location: String,
    /// What it keeps meanwhile.
    pub cookie: HeaderValue,
}

/// What a browser brings back from a provider. It has no `Debug`: nothing may write it anywhere.
#[derive(Clone, Default)]
pub struct Returned {
    /// Of which provider it says to come.
    pub provider: Option<ProviderKind>,
    /// What it kept of the login's beginning.
    pub cookie: Option<String>,
    /// The `state` that went with it.
    pub state: Option<String>,
    /// What becomes a token.
    pub code: Option<String>,
    /// How the provider calls itself.
    pub issuer: Option<String>,
    /// Why it came to nothing.
    pub error: Option<String>,
}

/// A login that is done.
#[derive(Debug)]
pub struct Arrived {
    /// Who it is.
    pub user: String,
    /// Their groups at the provider.
    pub groups: Vec<String>,
    /// The session's cookie, and the end of that of the login.
    pub cookies: [HeaderValue; 2],
    /// Where the browser goes on; `None` is nowhere.
    pub back: Option<String>,
}

/// What the browser keeps of a login.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    provider: String,
    secret: String,
    redirect: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    back: Option<String>,
    exp: u64,
}

impl Kept {
    /// Something that can only be made from the secret.
    fn made(&self, what: &str) -> String {
        let digest = Sha256::new()
            .chain_update(what)
            .chain_update("\0")
            .chain_update(&self.secret)
            .finalize();
        URL_SAFE_NO_PAD.encode(digest)
    }

    fn state(&self) -> String {
        self.made("state")
    }

    fn nonce(&self) -> String {
        self.made("nonce")
    }

    /// 43 characters, as RFC 7636 (4.1) has it.
    fn verifier(&self) -> String {
        self.made("verifier")
    }
}

impl People {
    /// # Errors
    /// [`FileFault`]: a file with secrets or certificates can't be used.
    pub(in crate::auth) fn new(
        config: &OpenId,
        keys: Arc<SigningKeys>,
        sessions: Arc<Sessions>,
        origin: Origin,
        limits: &Limits,
    ) -> Result<Self, FileFault> {
        let bounds = limits.providers;
        let clients = config
            .providers
            .iter()
            .map(|provider| Client::new(provider, bounds));
        Ok(Self {
            clients: clients.collect::<Result<_, _>>()?,
            keys,
            sessions,
            origin,
            finishing: Semaphore::new(limits.logins.finishing),
        })
    }

    /// Finds out whether any provider isn't what it should be; those that can't be asked now may be later.
    ///
    /// # Errors
    /// [`Misconfigured`].
    pub(in crate::auth) async fn check(&self) -> Result<(), Misconfigured> {
        let checks = self
            .clients
            .iter()
            .map(|client| async move { (client.kind, client.check().await) });
        for (kind, checked) in future::join_all(checks).await {
            match checked {
                Err(error) if error.is_lasting() => return Err(Misconfigured(kind.as_str(), error.into())),
                Err(error) => {
                    let error = causes::in_a_line(&error);
                    tracing::warn!(provider = kind.as_str(), error, "nobody can log in there now");
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Those that publish something.
    pub(in crate::auth) fn issuers(&self) -> impl Iterator<Item = Arc<Provider>> {
        self.clients.iter().filter_map(Client::issuer).cloned()
    }

    /// Where nobody can log in just now, and why.
    pub(in crate::auth) fn troubles(&self) -> Vec<String> {
        let of = |client: &Client| {
            let trouble = client.issuer()?.trouble()?;
            Some(format!("login by {}: {trouble}", client.kind.as_str()))
        };
        self.clients.iter().filter_map(of).collect()
    }

    /// `scheme://host` of the registry as this caller sees it.
    #[must_use]
    pub fn base(&self, caller: &Caller<'_>) -> Option<String> {
        let host = origin::host(caller.uri, caller.headers);
        self.origin.base(host).map(|(base, _)| base)
    }

    /// Begins a login of somebody who sees the registry at `base`.
    ///
    /// # Errors
    /// [`AuthError::Login`], or the store that should keep the key the cookie is signed by fails.
    pub async fn begin(
        &self,
        base: Option<&str>,
        provider: Option<&str>,
        back: Option<&str>,
    ) -> Result<Begun, AuthError> {
        let found = match (provider, &*self.clients) {
            // As zot's page has it, where there is one.
            (None, [only]) => Some(only),
            (provider, clients) => clients
                .iter()
                .find(|client| provider == Some(client.kind.as_str())),
        };
        let client = found.ok_or_else(|| {
            let names: Vec<_> = self.clients.iter().map(|client| client.kind.as_str()).collect();
            LoginFault::NoProvider(names.join(", "))
        })?;
        let base = base.ok_or(LoginFault::WrongPage)?;
        let back = match back.filter(|page| !page.is_empty()) {
            Some(page) => Some(own_path(page, base).ok_or(LoginFault::WrongPage)?),
            None => None,
        };
        let halves = [0, 1].map(|_| Version::random().to_bytes());
        let kept = Kept {
            provider: client.kind.as_str().to_owned(),
            secret: hex::encode(halves.as_flattened()),
            redirect: format!("{base}{CALLBACK_PATH}{}", client.kind.as_str()),
            back,
            exp: clock::now_ms() / 1000 + BEGUN_FOR,
        };
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(kept.verifier()));
        let errand = Errand {
            redirect: &kept.redirect,
            state: &kept.state(),
            nonce: &kept.nonce(),
            challenge: &challenge,
        };
        let location = client.login_url(&errand).await?;
        let text = self.keys.sign(TYPE, &kept).await?;
        let cookie = self.sessions.jar().set(cookies::LOGIN, &text, BEGUN_FOR);
        Ok(Begun {
            location,
            cookie: cookie.ok_or(LoginFault::WrongPage)?,
        })
    }

    /// What a browser kept of a login.
    #[must_use]
    pub fn kept(&self, headers: &HeaderMap) -> Option<String> {
        self.sessions
            .jar()
            .get(headers, cookies::LOGIN)
            .one()
            .map(str::to_owned)
    }

    /// Ends a login: who came back, with their session.
    ///
    /// # Errors
    /// [`AuthError::Login`] and others.
    pub(in crate::auth) async fn finish(&self, returned: &Returned) -> Result<Arrived, AuthError> {
        let kept = match &returned.cookie {
            Some(text) => self
                .keys
                .read::<Kept>(TYPE, text, 0)
                .await
                .map_err(AuthError::Unavailable)?,
            None => None,
        };
        let kept = kept.ok_or(LoginFault::Unbegun)?;
        let provider = returned
            .provider
            .filter(|provider| provider.as_str() == kept.provider);
        let client = self.clients.iter().find(|client| provider == Some(client.kind));
        let is_of_this_browser = returned.state.as_deref() == Some(&kept.state());
        let (Some(client), true) = (client, is_of_this_browser) else {
            return Err(LoginFault::Unbegun.into());
        };
        if let Some(error) = &returned.error {
            let is_plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
            let said = error.bytes().all(is_plain).then_some(error.as_str());
            return Err(LoginFault::Refused(said.unwrap_or("error").chars().take(64).collect()).into());
        }
        let code = returned
            .code
            .as_deref()
            .ok_or(LoginFault::Unproven("it came without a code"))?;
        let _place = self.finishing.try_acquire().map_err(|_| AuthError::Busy)?;
        let answer = Answer {
            code,
            issuer: returned.issuer.as_deref(),
            redirect: &kept.redirect,
            nonce: &kept.nonce(),
            verifier: &kept.verifier(),
        };
        let person = client.person(&answer).await?;
        let session = self
            .sessions
            .open(&person.user, &person.groups, client.kind)
            .await?;
        let jar = self.sessions.jar();
        let end = jar.end(cookies::LOGIN).ok_or(LoginFault::TooManyGroups)?;
        Ok(Arrived {
            user: person.user,
            groups: person.groups,
            cookies: [session, end],
            back: kept.back,
        })
    }

    /// Ends a session, everywhere: the cookie that ends it in the browser, and where to log out at the provider.
    ///
    /// # Errors
    /// The store didn't take it, or doesn't say whether it did.
    pub async fn leave(&self, session: &Session) -> Result<(Option<HeaderValue>, Option<String>), AuthError> {
        self.sessions.end(session).await?;
        let client = self.clients.iter().find(|client| client.kind == session.provider);
        let cookie = self.sessions.jar().end(cookies::SESSION);
        Ok((cookie, client.and_then(Client::logout_url)))
    }
}

impl From<LoginFault> for AuthError {
    fn from(fault: LoginFault) -> Self {
        Self::Login(fault)
    }
}

/// A provider is configured so that nobody could ever log in there.
#[derive(Debug, thiserror::Error)]
#[error("http.auth.openid.providers.{0} can't be used")]
pub struct Misconfigured(&'static str, #[source] Box<ProviderError>);

/// The path of a page, where it is one of `base`: browsers take what begins with two slashes, or with a slash and a backslash,
/// for another host.
fn own_path(page: &str, base: &str) -> Option<String> {
    let path = page.strip_prefix(base).unwrap_or(page);
    let is_path = path.starts_with('/') && !path.starts_with("//") && path.len() <= MAX_PATH;
    let is_plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    (is_path && is_plain).then(|| path.to_owned())
}

/// Goes to each provider of `config`, as a login would: what it is, and what is wrong with it.
pub async fn examine(config: &OpenId, limits: &Limits) -> Vec<(ProviderKind, Result<String, String>)> {
    let looks = config.providers.iter().map(|provider| async {
        let look = async {
            let client =
                Client::new(provider, limits.providers).map_err(|error| causes::in_a_line(&error))?;
            client.check().await.map_err(|error| causes::in_a_line(&error))?;
            Ok(match client.issuer() {
                Some(issuer) => format!("{} publishes its keys and where to log in", issuer.issuer()),
                None => "isn't asked before somebody logs in".to_owned(),
            })
        };
        (provider.kind, look.await)
    });
    future::join_all(looks).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_back_to_a_path_of_the_registry() {
        let base = "https://r.example";
        for (page, path) in [
            ("/home", Some("/home")),
            ("/a?b=c%20d#e", Some("/a?b=c%20d#e")),
            ("https://r.example/home", Some("/home")),
            ("https://r.example//evil.example", None),
            ("https://r.example.evil.example/", None),
            ("https://r.example@evil.example/", None),
            ("https://evil.example/", None),
            ("//evil.example", None),
            ("/\\evil.example", None),
            ("/\tx", None),
            ("/a\r\nSet-Cookie: x=y", None),
            ("javascript:alert(1)", None),
            ("home", None),
            ("", None),
        ] {
            assert_eq!(own_path(page, base).as_deref(), path, "{page:?}");
        }
    }
}
