//! The protocol between members: `portolan.mesh.v1`, over HTTP/2 and mutual TLS.
//!
//! | file | what it is |
//! |---|---|
//! | `forward` | the front's side: which member serves a request, and what if it doesn't |
//! | `offer`, `offering` | one request offered to one member: head, `accepted`, `go`, response head |
//! | `pull` | the body of a forwarded response, finished by this member if its owner dies |
//! | `ingress`, `replay` | the owner's side: checks, `accepted`, then the local service |
//! | `peers` | connections to the other members |
//! | `budgets` | what registries that are mirrored may be asked, kept by one member for all |
//! | `sight` | what all members say of themselves at one moment, for the page |
//! | `probe` | one question to another member's mesh port, for `portolan verify` |
//! | `server`, `diagnostics`, `administration`, `readiness` | the mesh listener and what it answers besides |
//! | `frames`, `wire` | messages as the program's types, and as bytes |
//! | `identity` | who a peer is |
//! | `fuzzing` | frames as tests and fuzz targets see them; not part of the program |
//!
//! Invariants:
//! - Not a byte of the client's body is read before the owner has accepted the request; before that it may be offered
//!   elsewhere. After that only a request that changes nothing is offered twice.
//! - A stream that ends without `end`, or with another count of bytes than `end` names, has failed.
//! - What arrives here is replayed against the local service, which has no forwarding in it: there is no second hop.
//!
//! Deliberately absent: HTTP towards clients (this module and `http` don't know each other), a cache, and a retry of
//! anything that may have had an effect.

mod administration;
mod answers;
mod budgets;
mod diagnostics;
mod forward;
mod frames;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod identity;
mod in_flight;
mod ingress;
mod offer;
mod offering;
mod parts;
mod peers;
mod probe;
mod pull;
mod readiness;
mod replay;
mod server;
mod settings;
mod sight;
mod wire;

#[cfg(test)]
mod tests;

/// The messages of `proto/portolan/mesh/v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]
pub mod pb {
    tonic::include_proto!("portolan.mesh.v1");

    /// Descriptors of all of `proto/`, for reflection.
    pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptors");
}

/// The versions of the protocol that this release speaks, the oldest and the newest.
pub const PROTOCOL: (u32, u32) = frames::PROTOCOL;

pub use self::{
    budgets::Borrowing,
    diagnostics::samples,
    forward::Forwarding,
    identity::{Rights, key_hash, member_name},
    parts::Mesh,
    peers::Peers,
    probe::{ProbeError, probe},
    readiness::Readiness,
    server::MeshServer,
    settings::listener_settings,
    sight::{Sight, Told},
};
