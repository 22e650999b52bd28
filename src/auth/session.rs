//! Sessions of people who logged in by a browser: a signed cookie, and nothing that a member or a store keeps.
//!
//! It says who it is, their groups at the provider, and when it ends; who reads it sees no more than its owner knows. It is signed
//! as tokens are, by a key that every member knows, or by one of `sessionKeysFile`. One that was ended by logging out is in the
//! list of those that have until it would have ended by itself. What its owner may do is decided for every request.

use std::{fs, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::HeaderValue;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    AuthError, Authenticator, Credentials, Evidence, Login, Session, Verdict, Via,
    cookies::{self, Cookie, Jar},
    issued::{keys::SigningKeys, revoked::Revocations},
    oidc::LoginFault,
    watched::FileFault,
};
use crate::{
    clock,
    config::{access::is_user_name, openid::ProviderKind},
    storage::{Expect, MetaStore, Outcome, StoreError, StoreErrorKind, Version, keys, rows},
};

/// What a session's cookie calls itself, so that nothing else signed by the same key is one.
const TYPE: &str = "portolan-session+jwt";

/// The shortest key in a file, in bytes.
const MIN_KEY: usize = 32;

/// Opens sessions, and knows those that any member opened.
pub(super) struct Sessions {
    pub(super) keys: Arc<SigningKeys>,
    /// Those that have ended before their time.
    pub(super) ended: Arc<Revocations>,
    pub(super) meta: Arc<dyn MetaStore>,
    pub(super) jar: Jar,
    pub(super) length: Duration,
    /// For how long a session that was ended at another member may go on here.
    pub(super) lag: Duration,
    /// Those where a session can have begun: where a provider isn't configured any more its sessions have ended.
    pub(super) providers: Vec<ProviderKind>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    sid: String,
    sub: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    provider: String,
    iat: u64,
    exp: u64,
}

impl Sessions {
    pub(super) fn jar(&self) -> &Jar {
        &self.jar
    }

    /// The cookie of a new session; it has nothing of any that was there before.
    pub(super) async fn open(
        &self,
        user: &str,
        groups: &[String],
        provider: ProviderKind,
    ) -> Result<HeaderValue, AuthError> {
        let now = clock::now_ms() / 1000;
        let seconds = self.length.as_secs();
        let claims = Claims {
            sid: hex::encode(Version::random().to_bytes()),
            sub: user.to_owned(),
            groups: groups.to_vec(),
            provider: provider.as_str().to_owned(),
            iat: now,
            exp: now + seconds,
        };
        let text = self.keys.sign(TYPE, &claims).await?;
        let cookie = self.jar.set(cookies::SESSION, &text, seconds);
        cookie.ok_or(AuthError::Login(LoginFault::TooManyGroups))
    }

    /// Ends a session: at this member now, at the others when they read the list again.
    pub(super) async fn end(&self, session: &Session) -> Result<(), AuthError> {
        let row = rows::Revocation { min_reader: 1 }.encode_to_vec();
        let put = keys::revocation(keys::ENDED_SESSIONS, session.ends_ms, &session.id).put(Expect::Any, row);
        let written = self.meta.transact(Version::random(), &[put]).await;
        match written.map_err(AuthError::Unavailable)? {
            Outcome::Committed => {
                self.ended.learn(&session.id).await;
                Ok(())
            }
            // Nobody else has written it: the id is this session's alone, so to end it again does no harm.
            Outcome::Unknown | Outcome::Refused { .. } => {
                let error = StoreError::new(StoreErrorKind::Unavailable, "end a session");
                Err(AuthError::Unavailable(error))
            }
        }
    }

    async fn read(&self, text: &str) -> Result<Option<Login>, AuthError> {
        let read = self
            .keys
            .read::<Claims>(TYPE, text, 0)
            .await
            .map_err(AuthError::Unavailable)?;
        let Some(claims) = read.filter(|claims| is_user_name(&claims.sub)) else {
            return Ok(None);
        };
        let provider = ProviderKind::parse(&claims.provider).filter(|kind| self.providers.contains(kind));
        let is_over = self
            .ended
            .has_within(&claims.sid, self.lag)
            .await
            .map_err(AuthError::Unavailable)?;
        let (Some(provider), false) = (provider, is_over) else {
            return Ok(None);
        };
        Ok(Some(Login {
            user: claims.sub,
            groups: claims.groups,
            via: Via::Session(Session {
                id: claims.sid,
                provider,
                ends_ms: claims.exp * 1000,
            }),
        }))
    }
}

#[async_trait]
impl Authenticator for Arc<Sessions> {
    /// Who shows something in `Authorization` wants to be who that is of.
    async fn authenticate(&self, evidence: &Evidence<'_>) -> Result<Verdict, AuthError> {
        if evidence.credentials != Credentials::None {
            return Ok(Verdict::NotMine);
        }
        match evidence.session {
            Cookie::None => Ok(Verdict::NotMine),
            Cookie::Several => Ok(Verdict::Refused),
            Cookie::One(text) => Ok(self.read(text).await?.map_or(Verdict::Refused, Verdict::Known)),
        }
    }
}

/// The key that a file of zot's form has for sessions.
///
/// # Errors
/// [`FileFault`]: it can't be used.
pub(super) fn keys_of_file(file: &Path) -> Result<Vec<u8>, FileFault> {
    let content = fs::read(file).map_err(|source| FileFault::Read {
        file: file.to_owned(),
        source,
    })?;
    let fault = |problem: &str| FileFault::Content {
        file: file.to_owned(),
        problem: problem.to_owned(),
    };
    let said: Map<String, Value> = serde_json::from_slice(&content)
        .map_err(|_| fault("expected a JSON object with hashKey and perhaps encryptKey"))?;
    let text = |wanted: &str| {
        let found = said.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.and_then(|(_, value)| value.as_str()).unwrap_or_default()
    };
    let (hash, encrypt) = (text("hashKey"), text("encryptKey"));
    match hash.len() >= MIN_KEY {
        true => Ok(format!("{hash}\0{encrypt}").into_bytes()),
        false => Err(fault(
            "expected hashKey with a random string of at least 32 bytes (openssl rand -hex 32)",
        )),
    }
}
