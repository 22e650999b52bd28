//! Logging in by an identity provider, as a valid configuration says it (`http.auth.openid`).
//!
//! Deliberately absent: asking providers, and reading files with secrets. `auth` does.

use std::{path::PathBuf, time::Duration};

use super::secret::Secret;

/// Providers, and what comes of a login at one of them.
#[derive(Debug, Clone)]
pub struct OpenId {
    /// At least one, each of another kind.
    pub providers: Vec<OpenIdProvider>,
    /// What a login becomes.
    pub sessions: Sessions,
}

/// An identity provider.
#[derive(Debug, Clone)]
pub struct OpenIdProvider {
    /// Which one: zot has a fixed name for each.
    pub kind: ProviderKind,
    /// As people see it.
    pub name: String,
    /// As whom the registry comes to it.
    pub client: ClientCredentials,
    /// What it is asked to tell.
    pub scopes: Vec<String>,
    /// The claim that is the user's name.
    pub username_claim: String,
    /// The claim that names their groups.
    pub groups_claim: String,
    /// Who signs its certificate, beside nobody else; `None` is whomever this machine trusts.
    pub authority: Option<PathBuf>,
    /// Where it is.
    pub place: Place,
}

/// The providers that zot knows, by the names that stand in URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// Any that speaks OpenID Connect.
    Oidc,
    /// Google's.
    Google,
    /// GitLab's, or a GitLab's.
    Gitlab,
    /// GitHub's, or a GitHub Enterprise's, which speaks OAuth 2.0.
    Github,
}

impl ProviderKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Oidc, Self::Google, Self::Gitlab, Self::Github];

    /// As the configuration and `/zot/auth/login?provider=` name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oidc => "oidc",
            Self::Google => "google",
            Self::Gitlab => "gitlab",
            Self::Github => "github",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Where a provider is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The issuer, which says all else itself.
    Issuer(String),
    /// Three URLs.
    OAuth {
        /// Where browsers are sent.
        authorize: String,
        /// Where codes become tokens.
        token: String,
        /// Where more is said of who logged in, without a slash at its end.
        api: String,
    },
}

/// As whom the registry comes to a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCredentials {
    /// These.
    Given {
        /// Its name there.
        id: String,
        /// And what proves it; a public client has nothing.
        secret: Option<Secret>,
    },
    /// `clientid` and `clientsecret` in a JSON file, which a start reads.
    File(PathBuf),
}

/// Sessions of people who have logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sessions {
    /// How long one lasts.
    pub length: Duration,
    /// Whether its cookie is for https alone even where clients come by plain HTTP.
    pub is_secure: bool,
    /// A JSON file with `hashKey` and perhaps `encryptKey`; without it members make their keys themselves.
    pub keys: Option<PathBuf>,
}
