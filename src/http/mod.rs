//! HTTP: the local service that answers the distribution API, and the public front that clients talk to.
//!
//! Between the two lies the mesh, which this module doesn't know: the front hands an admitted request to a
//! [`Service`](crate::admission::Service) that `app` gives it.

mod error;
mod front;
mod headers;
mod local;
mod reply;
mod server;
mod unread;

pub use self::{
    front::{Arrival, ExtensionParts, Front, FrontParts, PageParts, Probes, RetentionParts, front},
    local::local,
    server::serve,
};
