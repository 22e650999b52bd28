//! Why a login at an identity provider came to nothing.

use super::{
    fetch::FetchError,
    provider::{ProviderError, TokenError},
};

/// Why a login came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LoginFault {
    /// There is no such provider here.
    #[error("no such provider is configured: give one of {0} as ?provider=")]
    NoProvider(String),
    /// The page to go on with is somebody else's.
    #[error("callback_ui is a path of this registry, such as /home")]
    WrongPage,
    /// The browser shows nothing of having begun it, or something else.
    #[error("this login wasn't begun in this browser, or too long ago, or is over already: begin again")]
    Unbegun,
    /// The provider said no.
    #[error("the provider refused the login ({0})")]
    Refused(String),
    /// What came back proves nothing.
    #[error("the provider's answer proves nothing: {0}")]
    Unproven(&'static str),
    /// It doesn't say who it is.
    #[error("the provider says no usable name by the claim {0:?} (claimMapping.username)")]
    NoName(String),
    /// Anybody could have given this address there.
    #[error("the provider hasn't verified that the e-mail address is yours")]
    UnverifiedEmail,
    /// They don't fit into a cookie.
    #[error(
        "the provider names too many groups for a session: have it tell fewer, such as those of this application alone"
    )]
    TooManyGroups,
    /// The provider can't be asked, or doesn't say what is needed.
    #[error("the identity provider can't be asked")]
    Provider(#[source] ProviderError),
}

impl LoginFault {
    /// Whether it is for who comes with it to do better.
    pub(in crate::auth) fn is_the_clients(&self) -> bool {
        match self {
            Self::Provider(_) => false,
            Self::NoProvider(_)
            | Self::WrongPage
            | Self::Unbegun
            | Self::Refused(_)
            | Self::Unproven(_)
            | Self::NoName(_)
            | Self::UnverifiedEmail
            | Self::TooManyGroups => true,
        }
    }
}

impl From<ProviderError> for LoginFault {
    fn from(error: ProviderError) -> Self {
        Self::Provider(error)
    }
}

impl From<FetchError> for LoginFault {
    fn from(error: FetchError) -> Self {
        Self::Provider(error.into())
    }
}

impl From<TokenError> for LoginFault {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Wrong => {
                Self::Unproven("its ID token isn't one of the issuer's for this client, or is over")
            }
            TokenError::Unavailable(error) => Self::Provider(error),
        }
    }
}
