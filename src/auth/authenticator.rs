//! The ways to prove who one is, as one contract.

use async_trait::async_trait;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::{Asked, AuthError, Cookie, Credentials, Scope, stamp::Stamp};
use crate::{admission::Grants, config::openid::ProviderKind};

/// A way to prove who one is.
///
/// Contract, checked for every one of them by the suite in `auth::tests::contract`:
/// - Evidence of another kind, and no evidence, is [`Verdict::NotMine`]: the next one is asked.
/// - Evidence of its kind that proves somebody is [`Verdict::Known`], with a name that [`is_user_name`](crate::config::access::is_user_name) holds of (a token
///   may have none).
/// - Evidence of its kind that proves nobody is [`Verdict::Refused`], never `NotMine`: who shows something wrong doesn't
///   become anonymous.
/// - What can't be found out is an error, never one of these.
/// - Refusing a name that doesn't exist takes as long as refusing a wrong password.
/// - Nothing of the evidence is logged, kept as it is, or part of an error.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Looks at the evidence.
    async fn authenticate(&self, evidence: &Evidence<'_>) -> Result<Verdict, AuthError>;

    /// Reads files again that have changed. Called every few seconds, on a thread that may block.
    fn look(&self) {}
}

/// What a request carries.
pub struct Evidence<'a> {
    /// The `Authorization` header.
    pub credentials: Credentials,
    /// The cookie of a session.
    pub session: Cookie<'a>,
    /// The certificates of the connection, verified, the client's own first.
    pub certificates: Option<&'a [CertificateDer<'static>]>,
}

/// What the evidence proves.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing that this one knows of.
    NotMine,
    /// Who it is.
    Known(Login),
    /// It is wrong.
    Refused,
}

/// Somebody who has logged in.
#[derive(Debug)]
pub struct Login {
    /// The name, for policies and logs; empty where a token has none, or is nobody's.
    pub user: String,
    /// Groups that the way of logging in knows of; those of the configuration are added.
    pub groups: Vec<String>,
    /// How, which says what bounds their rights.
    pub via: Via,
}

/// How somebody has logged in.
#[derive(Debug)]
pub enum Via {
    /// Not at all, and they say so by a token for nobody: the policies, as for who shows nothing.
    Nobody,
    /// By a password: the policies say what they may do. The stamp is that of its hash.
    Password(Stamp),
    /// By a password that a directory knows: the same.
    Directory,
    /// By a token that the issuer of a workload's signed: the same.
    Workload {
        /// Who that is.
        issuer: String,
        /// When it ends, in milliseconds since the Unix epoch.
        expires_ms: u64,
        /// What it says, where conditions may ask.
        claims: Option<serde_json::Value>,
    },
    /// By a certificate: the same.
    Certificate,
    /// By a session, begun by a login at an identity provider: the same.
    Session(Session),
    /// By a key of their own: the policies, within its scopes where there are any.
    ApiKey(KeyUse),
    /// By a token that this registry gave them: the policies, within what was asked for and the scopes of the key, if any, that
    /// it was got by.
    Issued {
        /// What the token was asked for.
        asked: Asked,
        /// Of the key; none is no bound.
        scopes: Vec<Scope>,
        /// What the token of a workload said that it was got by, where conditions may ask.
        claims: Option<serde_json::Value>,
        /// What it doesn't say.
        lacks: Lacks,
    },
    /// By a token: what it says, whatever the policies say.
    Token {
        /// On repositories.
        grants: Grants,
        /// The catalogue too.
        catalog: bool,
    },
}

/// What a token of ours had no room for, or no use when it was given: nobody knows what a condition about it would say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    /// Some of its user's groups.
    pub groups: bool,
    /// What a workload's token said.
    pub claims: bool,
}

/// A session, of which there is nothing but the cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Names it, for the list of what was ended early.
    pub id: String,
    /// At which provider it was begun.
    pub provider: ProviderKind,
    /// When it ends, in milliseconds since the Unix epoch.
    pub ends_ms: u64,
}

/// An API key that somebody has logged in by.
#[derive(Clone, Debug)]
pub struct KeyUse {
    /// Names it.
    pub id: String,
    /// What it is for; none is everything its user may do.
    pub scopes: Vec<Scope>,
    /// When it ends, in milliseconds since the Unix epoch; `None` is never.
    pub expires_ms: Option<u64>,
    /// How its maker had logged in.
    pub by: MadeBy,
    /// Groups that its maker was in then, as far as the way of logging in knew.
    pub groups: Vec<String>,
}

/// How the maker of a key had logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MadeBy {
    /// By a password: the key is refused when the name has none any more.
    Password,
    /// By a certificate.
    Certificate,
    /// By a password that a directory knows: the key is refused when it doesn't have that user any more.
    Directory,
    /// At an identity provider.
    Provider,
    /// Not at all: an administrator has made the key for a robot.
    Robot,
}

/// What every API key begins with, as zot's do.
pub(super) const API_KEY_PREFIX: &str = "zak_";

/// Whether a password is an API key, good or not.
pub(super) fn is_api_key(password: &str) -> bool {
    password.starts_with(API_KEY_PREFIX)
}
