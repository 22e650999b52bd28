//! OpenID Connect: who proves elsewhere who they are.
//!
//! [`Provider`] is what everything here begins with: an issuer's metadata (OpenID Connect Discovery 1.0) and the keys it signs
//! by, fetched, remembered and fetched anew.

mod fetch;
mod provider;
#[cfg(test)]
mod tests;

pub use self::{
    fetch::{FetchBounds, FetchError},
    provider::{Expected, Metadata, Provider, ProviderError, TokenError},
};
