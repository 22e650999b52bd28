//! One identity provider, as the registry is a client of it: where browsers are sent, and who came back.
//!
//! OpenID Connect Core 1.0, 3.1 (code flow), with PKCE (RFC 7636) and the issuer in the answer (RFC 9207); and GitHub's OAuth 2.0,
//! which has no tokens that say who somebody is, so it is asked.

use std::{fs, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    fault::LoginFault,
    fetch::{Client as Web, FetchError},
    provider::{Expected, Metadata, Provider, ProviderError},
};
use crate::{
    auth::watched::FileFault,
    config::{
        Secret,
        access::is_user_name,
        limits::ProviderLimits,
        openid::{ClientCredentials, OpenIdProvider, Place, ProviderKind},
    },
    outbound::{Trust, TrustError},
};

/// What needn't be escaped in a query (RFC 3986's unreserved characters).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Most groups of one user that are looked at.
const MAX_GROUPS: usize = 1_000;

pub(in crate::auth) struct Client {
    pub(in crate::auth) kind: ProviderKind,
    id: String,
    secret: Option<Secret>,
    scopes: Vec<String>,
    username_claim: String,
    groups_claim: String,
    source: Source,
}

enum Source {
    Issuer(Arc<Provider>),
    OAuth {
        web: Box<Web>,
        authorize: String,
        token: String,
        api: String,
    },
}

/// What goes to a provider with a browser.
pub(super) struct Errand<'a> {
    pub(super) redirect: &'a str,
    pub(super) state: &'a str,
    pub(super) nonce: &'a str,
    pub(super) challenge: &'a str,
}

/// What a browser brought back, of a login that was begun in it.
pub(super) struct Answer<'a> {
    pub(super) code: &'a str,
    /// How whoever answers calls itself (RFC 9207).
    pub(super) issuer: Option<&'a str>,
    pub(super) redirect: &'a str,
    pub(super) nonce: &'a str,
    pub(super) verifier: &'a str,
}

/// Who somebody is.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) user: String,
    pub(super) groups: Vec<String>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
    access_token: Option<String>,
}

impl Client {
    /// # Errors
    /// [`FileFault`]: a file with secrets or certificates can't be used.
    pub(in crate::auth) fn new(config: &OpenIdProvider, bounds: ProviderLimits) -> Result<Self, FileFault> {
        let trust = match &config.authority {
            Some(file) => Trust::Bundle(file.clone()),
            None => Trust::Machine,
        };
        let unusable = |error| match error {
            TrustError::File { path, source } => FileFault::Read { file: path, source },
            TrustError::Tls(source) => FileFault::Content {
                file: config.authority.clone().unwrap_or_default(),
                problem: source.to_string(),
            },
        };
        let source = match &config.place {
            Place::Issuer(issuer) => {
                Source::Issuer(Arc::new(Provider::new(issuer, &trust, bounds).map_err(unusable)?))
            }
            Place::OAuth {
                authorize,
                token,
                api,
            } => Source::OAuth {
                web: Box::new(Web::new(&trust, bounds).map_err(unusable)?),
                authorize: authorize.clone(),
                token: token.clone(),
                api: api.clone(),
            },
        };
        let (id, secret) = credentials(&config.client)?;
        Ok(Self {
            kind: config.kind,
            id,
            secret,
            scopes: config.scopes.clone(),
            username_claim: config.username_claim.clone(),
            groups_claim: config.groups_claim.clone(),
            source,
        })
    }

    /// The issuer, where it is one.
    pub(in crate::auth) fn issuer(&self) -> Option<&Arc<Provider>> {
        match &self.source {
            Source::Issuer(provider) => Some(provider),
            Source::OAuth { .. } => None,
        }
    }

    /// Whether people could log in there now.
    ///
    /// # Errors
    /// [`ProviderError`]: it can't be asked, or isn't what it should be.
    pub(in crate::auth) async fn check(&self) -> Result<(), ProviderError> {
        match &self.source {
            Source::Issuer(provider) => endpoints(&*provider.metadata().await?).map(drop),
            Source::OAuth { .. } => Ok(()),
        }
    }

    /// Where a browser is sent to log in.
    pub(super) async fn login_url(&self, errand: &Errand<'_>) -> Result<String, LoginFault> {
        let scopes = self.scopes.join(" ");
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", &self.id),
            ("redirect_uri", errand.redirect),
            ("scope", &scopes),
            ("state", errand.state),
            ("code_challenge", errand.challenge),
            ("code_challenge_method", "S256"),
        ];
        match &self.source {
            Source::Issuer(provider) => {
                parameters.push(("nonce", errand.nonce));
                let metadata = provider.metadata().await?;
                Ok(with_query(endpoints(&metadata)?.0, &parameters))
            }
            Source::OAuth { authorize, .. } => Ok(with_query(authorize, &parameters)),
        }
    }

    /// Where a browser is sent to log out there, too; `None` where the provider has no such place, or hasn't said yet.
    pub(super) fn logout_url(&self) -> Option<String> {
        let Source::Issuer(provider) = &self.source else {
            return None;
        };
        let metadata = provider.known_metadata()?;
        let url = metadata.end_session_endpoint.as_deref()?;
        Some(with_query(url, &[("client_id", &self.id)]))
    }

    /// Who logged in.
    pub(super) async fn person(&self, answer: &Answer<'_>) -> Result<Person, LoginFault> {
        match &self.source {
            Source::Issuer(provider) => self.of_issuer(provider, answer).await,
            Source::OAuth { web, token, api, .. } => self.of_github(web, token, api, answer).await,
        }
    }

    async fn of_issuer(&self, provider: &Provider, answer: &Answer<'_>) -> Result<Person, LoginFault> {
        let metadata = provider.metadata().await?;
        // A code of another provider's isn't shown to this one (RFC 9207, 2.4).
        match answer.issuer {
            Some(issuer) if issuer != provider.issuer() => {
                return Err(LoginFault::Unproven("it names another issuer"));
            }
            None if metadata.authorization_response_iss_parameter_supported => {
                return Err(LoginFault::Unproven("it doesn't name its issuer"));
            }
            Some(_) | None => {}
        }
        let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
        let by_header =
            methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
        let token_endpoint = endpoints(&metadata)?.1;
        let tokens = self
            .exchange(provider.client(), token_endpoint, answer, by_header)
            .await?;
        let id_token = tokens
            .id_token
            .ok_or(LoginFault::Unproven("it came without an ID token"))?;
        let expected = Expected {
            audiences: &[&self.id],
            claims: &["sub"],
        };
        let mut claims: Map<String, Value> = provider.verify(&id_token, &expected).await?;
        self.is_ours(&claims, answer.nonce)?;
        let lacks_any = [&self.username_claim, &self.groups_claim]
            .into_iter()
            .any(|claim| !claims.contains_key(claim));
        if let (true, Some(url), Some(token)) = (lacks_any, &metadata.userinfo_endpoint, tokens.access_token)
        {
            let more: Map<String, Value> = provider.client().get(url, Some(bearer(&token)?)).await?;
            // OpenID Connect Core 1.0, 5.3.2.
            if more.get("sub") != claims.get("sub") {
                return Err(LoginFault::Unproven(
                    "its user information is about somebody else",
                ));
            }
            for (claim, value) in more {
                claims.entry(claim).or_insert(value);
            }
        }
        self.named(&claims)
    }

    /// That an ID token was made for this login of this client (OpenID Connect Core 1.0, 3.1.3.7).
    fn is_ours(&self, claims: &Map<String, Value>, nonce: &str) -> Result<(), LoginFault> {
        let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
        if text("nonce") != Some(nonce) {
            return Err(LoginFault::Unproven("its ID token is of another login"));
        }
        let audiences = claims.get("aud").and_then(Value::as_array).map_or(1, Vec::len);
        let is_for_us = match claims.get("azp") {
            Some(party) => party.as_str() == Some(&self.id),
            None => audiences == 1,
        };
        match is_for_us {
            true => Ok(()),
            false => Err(LoginFault::Unproven("its ID token is for another client")),
        }
    }

    fn named(&self, claims: &Map<String, Value>) -> Result<Person, LoginFault> {
        let user = claims.get(&self.username_claim).and_then(Value::as_str);
        let user = user
            .filter(|user| is_user_name(user))
            .ok_or_else(|| LoginFault::NoName(self.username_claim.clone()))?;
        let is_unverified = match claims.get("email_verified") {
            Some(Value::Bool(is)) => !is,
            Some(Value::String(is)) => is == "false",
            _ => false,
        };
        if self.username_claim == "email" && is_unverified {
            return Err(LoginFault::UnverifiedEmail);
        }
        let groups = match claims.get(&self.groups_claim) {
            Some(Value::Array(groups)) => groups.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(group)) => vec![group.as_str()],
            _ => Vec::new(),
        };
        Ok(Person {
            user: user.to_owned(),
            groups: usable(groups),
        })
    }

    /// What the provider gives for a code.
    async fn exchange(
        &self,
        web: &Web,
        url: &str,
        answer: &Answer<'_>,
        by_header: bool,
    ) -> Result<Tokens, LoginFault> {
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", answer.code),
            ("redirect_uri", answer.redirect),
            ("code_verifier", answer.verifier),
        ];
        let mut authorization = None;
        match &self.secret {
            // RFC 6749, 2.3.1: both as in a form.
            Some(secret) if by_header => {
                let text = format!("{}:{}", escaped(&self.id), escaped(secret.expose()));
                let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(text)));
                authorization = value.ok();
            }
            Some(secret) => fields.extend([
                ("client_id", self.id.as_str()),
                ("client_secret", secret.expose()),
            ]),
            None => fields.push(("client_id", &self.id)),
        }
        web.post(url, form(&fields), authorization)
            .await
            .map_err(|error| match error {
                FetchError::Status { status, said, .. }
                    if said == "invalid_grant" && status.is_client_error() =>
                {
                    LoginFault::Unproven("the provider doesn't know its code, or not any more")
                }
                error => error.into(),
            })
    }

    async fn of_github(
        &self,
        web: &Web,
        token: &str,
        api: &str,
        answer: &Answer<'_>,
    ) -> Result<Person, LoginFault> {
        let tokens = self.exchange(web, token, answer, false).await?;
        // It says that a code is wrong with a status that says that all is well.
        let token = tokens.access_token;
        let token = token.ok_or(LoginFault::Unproven(
            "the provider doesn't know its code, or not any more",
        ))?;
        let asked = bearer(&token)?;
        let user = match self.username_claim.as_str() {
            "login" => {
                let user: Login = web.get(&format!("{api}/user"), Some(asked.clone())).await?;
                Some(user.login)
            }
            _ => {
                let emails: Vec<Email> = web
                    .get(&format!("{api}/user/emails"), Some(asked.clone()))
                    .await?;
                let good = emails.into_iter().find(|email| email.primary && email.verified);
                good.map(|email| email.email)
            }
        };
        let user = user
            .filter(|user| is_user_name(user))
            .ok_or_else(|| LoginFault::NoName(self.username_claim.clone()))?;
        let organisations: Vec<Login> = match self
            .scopes
            .iter()
            .any(|scope| scope.ends_with(":org") || scope == "user")
        {
            true => {
                web.get(&format!("{api}/user/orgs?per_page=100"), Some(asked))
                    .await?
            }
            false => Vec::new(),
        };
        Ok(Person {
            user,
            groups: usable(organisations.iter().map(|one| one.login.as_str()).collect()),
        })
    }
}

#[derive(Deserialize)]
struct Login {
    login: String,
}

#[derive(Deserialize)]
struct Email {
    email: String,
    #[serde(default)]
    primary: bool,
    #[serde(default)]
    verified: bool,
}

fn usable(groups: Vec<&str>) -> Vec<String> {
    let groups = groups.into_iter().filter(|group| is_user_name(group));
    groups.take(MAX_GROUPS).map(str::to_owned).collect()
}

/// Where browsers are sent, and where codes become tokens.
fn endpoints(metadata: &Metadata) -> Result<(&str, &str), ProviderError> {
    match (&metadata.authorization_endpoint, &metadata.token_endpoint) {
        (Some(authorization), Some(token)) => Ok((authorization, token)),
        _ => Err(ProviderError::NoLogins),
    }
}

fn bearer(token: &str) -> Result<HeaderValue, LoginFault> {
    HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| LoginFault::Unproven("its access token is none"))
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

fn form(fields: &[(&str, &str)]) -> String {
    let pairs = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn with_query(url: &str, fields: &[(&str, &str)]) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}{}", form(fields))
}

/// As whom the registry comes to the provider.
fn credentials(client: &ClientCredentials) -> Result<(String, Option<Secret>), FileFault> {
    let file = match client {
        ClientCredentials::Given { id, secret } => return Ok((id.clone(), secret.clone())),
        ClientCredentials::File(file) => file,
    };
    let content = fs::read(file).map_err(|source| FileFault::Read {
        file: file.clone(),
        source,
    })?;
    let said: Option<Map<String, Value>> = serde_json::from_slice(&content).ok();
    let text = |wanted: &str| {
        let mut pairs = said.iter().flatten();
        let found = pairs.find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        found
            .1
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let id = text("clientid").ok_or_else(|| FileFault::Content {
        file: file.clone(),
        problem: "expected a JSON object with clientid and clientsecret".to_owned(),
    })?;
    Ok((id, text("clientsecret").map(Secret::new)))
}
