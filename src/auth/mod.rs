//! Who asks, and what they may do: decided once, at the front.
//!
//! A request's evidence (a header, a certificate) goes to the [`Authenticator`]s in a fixed order; the [`Gate`] holds
//! what they find against the configured [`AccessControl`](crate::config::AccessControl) and answers with a
//! [`Decision`]. Files with passwords, keys and policies are read again when they change. docs/access.md is for those
//! who configure it.
//!
//! Deliberately absent: what a route means, HTTP answers, and owners: an owner gets the decision, never the evidence.

mod api_keys;
mod authenticator;
mod bearer;
mod certificate;
mod challenge;
mod circumstances;
mod cookies;
mod credentials;
mod examine;
mod gate;
mod hashing;
mod htpasswd;
mod issued;
mod jws;
mod ldap;
pub mod oidc;
mod once;
mod origin;
mod pages;
mod password_hash;
mod policy;
mod robot;
mod scope;
mod session;
mod standing;
mod stamp;
#[cfg(test)]
mod tests;
mod watched;
mod who;
mod workload;

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, Uri};
use rustls::{ProtocolVersion, pki_types::CertificateDer};

pub use self::{
    api_keys::{ApiKey, ApiKeyError, ApiKeys, KeyMaker, NewApiKey},
    authenticator::{Authenticator, Evidence, KeyUse, Lacks, Login, MadeBy, Session, Verdict, Via},
    cookies::Cookie,
    credentials::Credentials,
    examine::{ExaminedFile, examine, examine_online},
    gate::{Gate, GateSpec},
    issued::{Asked, AskedError, Issued, Issuer},
    origin::Origin,
    pages::Pages,
    scope::{Scope, ScopeError},
    stamp::Stamp,
    watched::FileFault,
};
use crate::{
    admission::{Grants, Identity, Visible},
    oci::{Action, Route},
};

/// Where the registry gives tokens of its own.
pub const TOKEN_PATH: &str = "/zot/auth/token";

/// What a request shows of who sends it.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// By which method it asks, which says whether it may change anything.
    pub method: &'a Method,
    /// What it asks for, and of which host.
    pub uri: &'a Uri,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The certificates of its connection, verified, the client's own first.
    pub certificates: Option<&'a [CertificateDer<'static>]>,
    /// Where its connection comes from.
    pub client: IpAddr,
    /// The version of TLS of its connection; `None` is no TLS.
    pub tls: Option<ProtocolVersion>,
}

/// What somebody wants.
#[derive(Clone, Copy)]
pub enum Wanted<'a> {
    /// What is open to everybody. Nobody is asked who they are.
    Open,
    /// A request of the distribution API.
    Route(&'a Route),
    /// To read `/metrics`.
    Metrics,
    /// To find what they may read.
    Search,
    /// To see the members of the mesh and what they do, too.
    Mesh,
    /// To do this in all repositories that there are or will be, as an administrator.
    Everywhere(Action),
    /// To see or change API keys.
    Keys(KeysOf),
    /// A token, for who shows these credentials, wherever in the request they stand, or else a certificate, or nothing.
    Token(&'a Credentials),
    /// To end a login that was begun at an identity provider.
    Return(&'a oidc::Returned),
    /// To end their session.
    Leave,
}

/// Whose API keys somebody wants to see or change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysOf {
    /// Their own.
    Oneself,
    /// Others', which takes an administrator who may do this everywhere: to list them takes `read`, to revoke one `delete`.
    Others(Action),
    /// Those of robots that are to be made, which takes an administrator who may do everything: a robot may get any group's rights.
    Robots,
}

/// Who gets the same answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everybody, also who hasn't logged in.
    Everybody,
    /// Those whom the policy, or a token, allows it.
    Some,
}

/// Whether somebody may know how long the stores took for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreTimes {
    /// They may read whatever the time could tell of.
    Shown,
    /// It could tell that a blob is stored already, in a repository they may not read: to link it takes another time than to
    /// write it.
    Hidden,
}

/// A decision about a request that may go on.
#[derive(Debug)]
pub struct Decision {
    /// Who asks.
    pub identity: Identity,
    /// What they may do in the repositories the route names, and which others they see.
    pub grants: Grants,
    /// Who else would get the same answer.
    pub audience: Audience,
    /// What the answer may tell of the stores.
    pub times: StoreTimes,
    /// How one could log in, for an answer to who hasn't but might want to.
    pub challenges: Vec<HeaderValue>,
    /// What they may do that has to do with no repository.
    pub right: Right,
}

impl Decision {
    /// About what is open to everybody.
    fn open() -> Self {
        Self {
            identity: Identity::default(),
            grants: Grants::none(),
            audience: Audience::Everybody,
            times: StoreTimes::Shown,
            challenges: Vec::new(),
            right: Right::None,
        }
    }
}

/// What a decision allows beside what is done in repositories.
#[derive(Debug)]
pub enum Right {
    /// Nothing.
    None,
    /// To see or change the API keys that were asked for, as this user.
    Keys(KeyMaker),
    /// To find what the grants show.
    Search {
        /// What they may delete of it.
        deletable: Visible,
        /// Where they may move tags, and so are told who did.
        updatable: Visible,
        /// Whether they see the mesh, too.
        oversight: Oversight,
        /// How long their login lasts.
        stay: Stay,
    },
    /// To get a token for this login, or for nobody.
    Token(Option<Login>),
    /// To go on with this session.
    Arrive(Box<oidc::Arrived>),
    /// To end this session.
    Leave(Session),
}

/// Whether somebody sees how the registry works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversight {
    /// Its content is all they see.
    None,
    /// The members of the mesh and what they do, too.
    Mesh,
}

/// How long a login lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Until they end it: it is a session.
    Session,
    /// For as long as their requests show what proves it.
    Shown,
}

/// A request that may not go on.
#[derive(Debug)]
pub struct Refusal {
    /// Who asks, where that is known, for logs.
    pub user: Option<String>,
    /// Why.
    pub error: AuthError,
}

impl From<AuthError> for Refusal {
    /// Of somebody who isn't known.
    fn from(error: AuthError) -> Self {
        Self { user: None, error }
    }
}

/// Why a request may not go on.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Nobody knows who asks, or what proves it is wrong, or it proves too little; these say how it is done.
    #[error("authentication is required")]
    Unauthenticated(Vec<HeaderValue>),
    /// They may not.
    #[error("the requested access is denied")]
    Denied,
    /// They may not because a condition of a policy doesn't hold, which says so itself.
    #[error("the requested access is denied: {0}")]
    Condition(Arc<str>),
    /// What would change something was sent by a browser for somebody else's page.
    #[error(
        "another site's page may change nothing here: Sec-Fetch-Site or Origin says that this comes from one"
    )]
    ForeignPage,
    /// A login at an identity provider came to nothing.
    #[error(transparent)]
    Login(oidc::LoginFault),
    /// Too many logins wait for their passwords to be compared.
    #[error("too many logins at once")]
    Busy,
    /// The directory or the issuer that knows who it is can't be asked.
    #[error("the directory or issuer that knows who may log in can't be asked")]
    Unreachable,
    /// What is needed to find out can't be asked.
    #[error("logins can't be checked")]
    Unavailable(#[source] crate::storage::StoreError),
}

impl From<once::Busy> for AuthError {
    fn from(_: once::Busy) -> Self {
        Self::Busy
    }
}
