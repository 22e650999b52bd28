//! Tokens of the registry's own: what `docker login`, and whoever wants to pull without a login, gets for its
//! credentials at `/zot/auth/token` (docker's token protocol).
//!
//! A token is a JSON Web Token signed with Ed25519 by the member that gave it, whose public key lies in the metadata store:
//! so any member verifies any member's tokens, and who reads the store can't make one. It says who it is, how they had
//! logged in, and what was asked for; it grants nothing. What its bearer may do is decided for every request by the
//! policies as they are then, within what was asked for.
//!
//! A token ends with what it was got by, as far as that can end: the password's hash in the file is compared with the one it
//! was then, a directory is asked at most once a minute whether it has the user, and keys that were revoked are in a list which members
//! follow ([`revoked`]). No request to a store is made
//! for a token of a known key. Deliberately absent: refresh tokens, and tokens for tokens, which would have no end.

mod asked;
pub(super) mod keys;
pub(super) mod revoked;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use self::asked::{Asked, AskedError};
use self::{keys::SigningKeys, revoked::Revocations};
use super::{
    AuthError, Authenticator, Credentials, Evidence, Lacks, Login, MadeBy, Scope, Verdict, Via, stamp::Stamp,
    standing::Standing,
};
use crate::{
    clock,
    config::{Limits, access::is_user_name},
};

/// How far members' clocks may be apart, in seconds.
const LEEWAY_SECONDS: u64 = 60;

/// What a token calls itself (RFC 9068, 2.1), so that nothing else signed by the same key is one.
const TYPE: &str = "at+jwt";

/// Most bytes of groups in a token, give or take those of JSON around them.
const MAX_GROUPS_BYTES: usize = 4 * 1024;
/// Most bytes of a workload's claims in a token: it goes into a header.
const MAX_CLAIMS_BYTES: usize = 4 * 1024;

/// What Homebrew sends where it has no token: it is nobody.
const PLACEHOLDER: &str = "QQ==";

/// A token, as its bearer gets it.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token itself.
    pub token: String,
    /// For whom; `None` is nobody in particular.
    pub user: Option<String>,
    /// When it was made, in seconds since the Unix epoch.
    pub issued_at: u64,
    /// For how many seconds it is good.
    pub expires_in: u64,
}

/// The ways to log in that tokens are given for, and what is needed to see whether one still holds.
pub(super) struct Ways {
    pub(super) standing: Standing,
    /// Of workloads' tokens.
    pub(super) issuers: Vec<String>,
    pub(super) certificates: bool,
    pub(super) api_keys: bool,
}

/// Gives tokens, and knows those that any member gave.
pub struct Issuer {
    keys: Arc<SigningKeys>,
    revoked: Arc<Revocations>,
    ways: Ways,
    life: Duration,
}

/// What a token says. One that says more was made by another release, which may have meant it as a bound.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    /// There are more of them. A release that doesn't know it refuses such a token, and may be asked for one of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    more_groups: bool,
    /// What was asked for (RFC 8693, 4.2).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    scope: String,
    by: By,
    iat: u64,
    exp: u64,
}

/// How its bearer had logged in.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum By {
    Nobody,
    Password {
        stamp: Stamp,
    },
    Directory,
    Workload {
        issuer: String,
        /// What its token said, where conditions may ask and there is room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claims: Option<serde_json::Value>,
    },
    Certificate,
    Key {
        id: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        scopes: Vec<String>,
        made_by: MadeBy,
    },
}

impl Issuer {
    pub(super) fn new(
        ways: Ways,
        keys: Arc<SigningKeys>,
        revoked: Arc<Revocations>,
        limits: &Limits,
    ) -> Self {
        Self {
            keys,
            revoked,
            ways,
            life: limits.tokens.life,
        }
    }

    /// A token for who has logged in like this, or for nobody.
    ///
    /// # Errors
    /// [`AuthError::Unavailable`] when the store doesn't take the key it would be signed by.
    pub async fn issue(&self, login: Option<Login>, asked: &Asked) -> Result<Issued, AuthError> {
        let now_ms = clock::now_ms();
        let mut end_ms = now_ms + u64::try_from(self.life.as_millis()).unwrap_or(u64::MAX);
        let (user, groups, by) = match login {
            None => (None, Vec::new(), By::Nobody),
            Some(Login { user, groups, via }) => {
                let by = match via {
                    Via::Nobody => By::Nobody,
                    Via::Password(stamp) => By::Password { stamp },
                    Via::Directory => By::Directory,
                    Via::Workload {
                        issuer,
                        expires_ms,
                        claims,
                    } => {
                        end_ms = end_ms.min(expires_ms);
                        let claims = claims.filter(|claims| claims.to_string().len() <= MAX_CLAIMS_BYTES);
                        By::Workload { issuer, claims }
                    }
                    Via::Certificate => By::Certificate,
                    // They are for browsers, which need no token.
                    Via::Session(_) => return Err(AuthError::Denied),
                    Via::ApiKey(key) => {
                        end_ms = key.expires_ms.map_or(end_ms, |end| end.min(end_ms));
                        By::Key {
                            id: key.id,
                            scopes: key.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
                            made_by: key.by,
                        }
                    }
                    // One for another would have no end.
                    Via::Token { .. } | Via::Issued { .. } => return Err(AuthError::Denied),
                };
                (Some(user), groups, by)
            }
        };
        let (issued_at, end) = (now_ms / 1000, end_ms / 1000);
        let (all, groups) = (groups.len(), few(groups));
        let claims = Claims {
            sub: user.clone(),
            more_groups: groups.len() < all,
            groups,
            scope: asked.to_string(),
            by,
            iat: issued_at,
            exp: end,
        };
        let token = self.keys.sign(TYPE, &claims).await?;
        Ok(Issued {
            token,
            user,
            issued_at,
            expires_in: end.saturating_sub(issued_at),
        })
    }

    /// How often a password was compared, also by others than who wanted a token.
    #[cfg(test)]
    pub(super) fn comparisons(&self) -> usize {
        let passwords = self.ways.standing.passwords.as_ref();
        passwords.map_or(0, |passwords| passwords.comparisons())
    }

    /// Whose token this is, and what bounds them; `None` where it is none, or has ended.
    async fn read(&self, token: &str) -> Result<Option<Login>, AuthError> {
        let read = self.keys.read::<Claims>(TYPE, token, LEEWAY_SECONDS).await;
        match read.map_err(AuthError::Unavailable)? {
            Some(claims) => self.holds(claims).await,
            None => Ok(None),
        }
    }

    /// Whether what the token was got by still holds.
    async fn holds(&self, claims: Claims) -> Result<Option<Login>, AuthError> {
        let user = claims.sub.unwrap_or_default();
        let standing = &self.ways.standing;
        let (mut scopes, mut claims_said, mut lacks) = (Vec::new(), None, Lacks::default());
        let said = claims.more_groups.then(|| claims.groups.clone());
        let groups = match claims.by {
            By::Nobody => {
                return Ok(Some(Login {
                    user: String::new(),
                    groups: Vec::new(),
                    via: Via::Nobody,
                }));
            }
            By::Password { stamp } => (standing.stamp(&user) == Some(stamp)).then_some(claims.groups),
            By::Directory => self.groups(&user, MadeBy::Directory, claims.groups).await,
            By::Workload { issuer, claims: said } => {
                // The token of a workload always says something.
                lacks.claims = said.is_none();
                claims_said = said;
                self.ways.issuers.contains(&issuer).then_some(claims.groups)
            }
            By::Certificate => self.ways.certificates.then_some(claims.groups),
            By::Key {
                id,
                scopes: texts,
                made_by,
            } => {
                scopes = texts.iter().filter_map(|text| Scope::parse(text).ok()).collect();
                let holds = scopes.len() == texts.len()
                    && self.ways.api_keys
                    && !self.revoked.has(&id).await.map_err(AuthError::Unavailable)?;
                match holds {
                    true => self.groups(&user, made_by, claims.groups).await,
                    false => None,
                }
            }
        };
        let Some(groups) = groups.filter(|_| is_user_name(&user)) else {
            return Ok(None);
        };
        // Who could be asked for them knows them all.
        lacks.groups = said.is_some_and(|said| said == groups);
        let asked = Asked::read(&claims.scope);
        Ok(Some(Login {
            user,
            groups,
            via: Via::Issued {
                asked,
                scopes,
                claims: claims_said,
                lacks,
            },
        }))
    }

    /// The groups of who had logged in like this, if they still could. Where nobody can tell, what the token says counts: it was
    /// found out minutes ago.
    async fn groups(&self, user: &str, by: MadeBy, said: Vec<String>) -> Option<Vec<String>> {
        let found = self.ways.standing.of(user, by, said.clone()).await;
        found.unwrap_or(Some(said))
    }
}

/// As many of somebody's groups as have room in a header. The others count, too, as long as whoever knows them can be asked; else no
/// condition holds that asks for groups.
fn few(groups: Vec<String>) -> Vec<String> {
    let mut left = MAX_GROUPS_BYTES;
    let has_room = |group: &String| {
        left = left.saturating_sub(group.len());
        left > 0
    };
    groups.into_iter().take_while(has_room).collect()
}

#[async_trait]
impl Authenticator for Arc<Issuer> {
    async fn authenticate(&self, evidence: &Evidence<'_>) -> Result<Verdict, AuthError> {
        let Credentials::Bearer(token) = &evidence.credentials else {
            return Ok(Verdict::NotMine);
        };
        if token == PLACEHOLDER {
            return Ok(Verdict::Known(Login {
                user: String::new(),
                groups: Vec::new(),
                via: Via::Nobody,
            }));
        }
        Ok(self.read(token).await?.map_or(Verdict::Refused, Verdict::Known))
    }
}
