//! OpenID Connect: who proves elsewhere who they are.
//!
//! [`Provider`] is what everything here begins with: an issuer's metadata (OpenID Connect Discovery 1.0) and the keys it signs
//! by, fetched, remembered and fetched anew. [`People`] are those who log in by a browser.

mod client;
mod fault;
mod fetch;
mod people;
mod provider;
#[cfg(test)]
mod tests;

pub(super) use self::client::Client;
pub use self::{
    fault::LoginFault,
    fetch::FetchError,
    people::{Arrived, Begun, CALLBACK_PATH, Misconfigured, People, Returned, examine},
    provider::{Expected, Metadata, Provider, ProviderError, TokenError},
};
