//! Who asks, and what they may do: decided once, at the front.
//!
//! Deliberately absent: users. Everyone is anonymous and may do everything until policies come; what is fixed here is
//! where they will decide, from what, and what they give.

use async_trait::async_trait;
use http::HeaderMap;

use crate::{
    admission::{Grants, Identity},
    oci::{Action, Route},
};

/// A decision about a request that may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Who asks.
    pub identity: Identity,
    /// What they may do in the repositories the route names.
    pub grants: Grants,
}

/// Why a request may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// They may not.
    #[error("the requested access is denied")]
    Denied,
}

/// Decides about requests.
#[async_trait]
pub trait Authority: Send + Sync + 'static {
    /// Who asks with these headers, and what they may do in the repositories of `route`.
    async fn decide(&self, headers: &HeaderMap, route: &Route) -> Result<Decision, AuthError>;
}

/// Lets everyone do everything, as nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAnonymous;

#[async_trait]
impl Authority for AllowAnonymous {
    async fn decide(&self, _headers: &HeaderMap, route: &Route) -> Result<Decision, AuthError> {
        let mut grants = Grants::none();
        for permission in route.permissions() {
            grants.grant(permission.repository, Action::ALL);
        }
        Ok(Decision {
            identity: Identity::default(),
            grants,
        })
    }
}
