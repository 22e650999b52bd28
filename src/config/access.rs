//! Who may log in and who may do what, as a valid configuration says it (`http.auth`, `http.accessControl`).
//!
//! Deliberately absent: deciding. `auth` asks these values.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use http::Uri;

use super::{
    expression::{Expression, Shape},
    openid::OpenId,
    secret::Secret,
};
use crate::oci::{Action, RepoPattern};

/// Most bytes of a user's name: it becomes part of a row's key.
const MAX_USER_BYTES: usize = 256;

/// Whether a text can be a user's name: 1 to 256 bytes without control characters.
#[must_use]
pub fn is_user_name(text: &str) -> bool {
    (1..=MAX_USER_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Whether a URL's host is this machine, whose traffic nobody else sees.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |address| {
        address.is_loopback()
    })
}

/// Whether secrets may be sent to a URL, and what it publishes is its own: https, or plain http that stays on this machine.
#[must_use]
pub fn is_secure_url(url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else {
        return false;
    };
    match (url.scheme_str(), url.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => is_loopback(host),
        _ => false,
    }
}

/// The ways to log in. Several may be there at once; without any everybody is anonymous.
#[derive(Debug, Clone, Default)]
pub struct Logins {
    /// Shown to who is asked for a password (`http.realm`).
    pub realm: Option<String>,
    /// A file of names and hashes of passwords.
    pub htpasswd: Option<PathBuf>,
    /// A directory of names and passwords.
    pub ldap: Option<Ldap>,
    /// Tokens of an external service.
    pub bearer: Option<Bearer>,
    /// Issuers whose tokens are logins by themselves.
    pub workloads: Vec<Workload>,
    /// Keys that users make for themselves.
    pub api_keys: ApiKeys,
    /// Whether the registry gives tokens of its own.
    pub tokens: OwnTokens,
    /// Certificates of clients, that chain to `http.tls.cacert`.
    pub certificates: Option<CertificateNames>,
    /// Identity providers.
    pub openid: Option<OpenId>,
    /// How long a failed login waits for its answer.
    pub fail_delay: Duration,
}

impl Logins {
    /// Whether there is any way to be somebody.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.htpasswd.is_some()
            || self.ldap.is_some()
            || self.bearer.is_some()
            || !self.workloads.is_empty()
            || self.certificates.is_some()
            || self.openid.is_some()
    }
}

/// Whether the registry gives tokens to those who log in, where no service of somebody else's does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnTokens {
    /// It does.
    #[default]
    On,
    /// It doesn't.
    Off,
}

/// Whether users make keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApiKeys {
    /// There are none.
    #[default]
    Off,
    /// They do.
    On,
}

/// A directory that is searched for users, who then bind by their passwords (RFC 4511).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ldap {
    /// Hosts, tried in this order; never empty.
    pub servers: Vec<String>,
    /// The port of each.
    pub port: u16,
    /// What is between us and them.
    pub security: LdapSecurity,
    /// Whose certificates are good.
    pub authority: LdapAuthority,
    /// As whom is searched.
    pub account: LdapAccount,
    /// Where users are: a distinguished name (RFC 4514).
    pub base: String,
    /// Whether they may be anywhere below it, and not only directly.
    pub subtree: bool,
    /// The attribute that is a user's name.
    pub user_attribute: String,
    /// The attribute of a user whose values are their groups.
    pub group_attribute: Option<String>,
    /// What a user must fit, too: a filter in parentheses (RFC 4515).
    pub user_filter: Option<String>,
}

/// How a directory is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LdapSecurity {
    /// In TLS from the first byte on.
    Tls,
    /// In TLS from the first request on (RFC 4511, 4.14).
    StartTls,
    /// In the clear.
    Plain,
}

/// Whose certificates a directory may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LdapAuthority {
    /// Of whom this machine trusts.
    Machine,
    /// Of those in this PEM file.
    File(PathBuf),
    /// Anybody's.
    Unverified,
}

/// As whom a directory is searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LdapAccount {
    /// As nobody.
    Anonymous,
    /// As who is named in this file.
    File(PathBuf),
    /// As this one.
    Named {
        /// A distinguished name.
        dn: String,
        /// Its password.
        password: Secret,
    },
}

/// A token service, and how its tokens are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// Where clients get a token: an http(s) URL.
    pub realm: String,
    /// What tokens must be for (`aud`).
    pub service: String,
    /// Who signs them.
    pub keys: TokenKeys,
}

/// Where the keys are that tokens are signed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKeys {
    /// A PEM file: certificates or public keys.
    Pem(PathBuf),
    /// A JSON Web Key Set (RFC 7517).
    Jwks(PathBuf),
}

/// An issuer of tokens for workloads (OpenID Connect Core 1.0, 2), and what these make of their bearers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its name (`iss`): a URL, below which it publishes its keys.
    pub issuer: String,
    /// Whom tokens must be for: one of these (`aud`). Never empty.
    pub audiences: Vec<String>,
    /// A PEM file of authorities for its certificate; `None` is whom this machine trusts.
    pub authority: Option<PathBuf>,
    /// Who a token's bearer is.
    pub mapping: ClaimMapping,
}

/// What a token's claims make of its bearer. Expressions know `claims`, and `vars` of the variables before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimMapping {
    /// By their names, in order.
    pub variables: Vec<(String, Expression)>,
    /// What must hold, and what is said where it doesn't.
    pub validations: Vec<(Expression, String)>,
    /// The user's name.
    pub username: Expression,
    /// Their groups.
    pub groups: Option<Expression>,
}

/// What of a client's certificate is its holder's name: the first of these that it has.
#[derive(Debug, Clone)]
pub struct CertificateNames {
    /// Never empty.
    pub sources: Vec<CertificateName>,
    /// What of a URI is the name: its first group, where it has one. It covers the whole URI.
    pub uri_pattern: Option<regex_lite::Regex>,
}

/// A field of a certificate; the number says which of several, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateName {
    /// The common name of the subject.
    CommonName,
    /// A DNS name.
    Dns(usize),
    /// A URI, such as a SPIFFE ID.
    Uri(usize),
    /// An e-mail address.
    Email(usize),
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessControl {
    /// The longest pattern first; of equally long ones the first in byte order. The first that matches counts.
    pub rules: Vec<Rule>,
    /// What some may do everywhere, beside the rules.
    pub admin: Option<Policy>,
    /// Groups with their users.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Who may read `/metrics`.
    pub metrics: MetricsAccess,
}

/// What holds for the repositories of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which repositories.
    pub pattern: RepoPattern,
    /// Who may do what; all that fit count.
    pub policies: Vec<Policy>,
    /// What everybody may do who has logged in.
    pub default: Vec<Action>,
    /// What everybody else may do.
    pub anonymous: Vec<Action>,
}

/// Some users, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// By their names.
    pub users: Vec<String>,
    /// By their groups.
    pub groups: Vec<String>,
    /// What they may do.
    pub actions: Vec<Action>,
    /// Under which conditions: all of them.
    pub conditions: Vec<Condition>,
}

/// What must hold of a request for a policy to count for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// It knows [`REQUEST_NAME`], and gives true or false.
    pub expression: Expression,
    /// What is said to who asks where it doesn't hold.
    pub message: Option<Arc<str>>,
}

impl Condition {
    /// Whether it may ask what a token's claims are.
    #[must_use]
    pub fn may_ask_claims(&self) -> bool {
        self.expression.may_ask("req.claims")
    }

    /// Whether it may ask in which groups somebody is.
    #[must_use]
    pub fn may_ask_groups(&self) -> bool {
        self.expression.may_ask("req.user.groups")
    }

    /// Whether it may ask which repository it is about.
    #[must_use]
    pub fn may_ask_repository(&self) -> bool {
        self.expression.may_ask("req.repository")
    }

    /// Whether it may ask which manifest it is about.
    #[must_use]
    pub fn may_ask_manifest(&self) -> bool {
        ["req.reference", "req.referenceType", "req.tag", "req.digest"]
            .iter()
            .any(|field| self.expression.may_ask(field))
    }
}

/// The name by which conditions know a request, as in zot.
pub const REQUEST_NAME: &str = "req";

/// The fields of a request, as in zot.
pub const REQUEST: Shape = Shape::Object(&[
    ("time", Shape::Time),
    ("method", Shape::Text),
    ("userAgent", Shape::Text),
    ("action", Shape::Text),
    ("repository", Shape::Text),
    ("reference", Shape::Text),
    ("referenceType", Shape::Text),
    ("tag", Shape::Text),
    ("digest", Shape::Text),
    (
        "user",
        Shape::Object(&[("username", Shape::Text), ("groups", Shape::List(&Shape::Text))]),
    ),
    (
        "auth",
        Shape::Object(&[("anonymous", Shape::Bool), ("admin", Shape::Bool)]),
    ),
    (
        "client",
        Shape::Object(&[("ip", Shape::Text), ("forwardedFor", Shape::List(&Shape::Text))]),
    ),
    (
        "tls",
        Shape::Object(&[("enabled", Shape::Bool), ("version", Shape::Text)]),
    ),
    ("claims", Shape::Anything),
]);

/// Who may read `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricsAccess {
    /// By their names.
    pub users: Vec<String>,
    /// Whoever asks.
    pub anybody: bool,
}
