//! The composition root: what a member is made of, and how it starts and ends.
//!
//! This is the only place that knows every module. [`MemberSpec`] and [`Stores`] say what to build; [`App::bind`] builds
//! it and opens its sockets, so that every fault is seen before the first request; [`App::serve`] lets it run;
//! [`Running::drain`] ends it. `portolan serve` runs one member, [`dev`] a whole mesh in one process, and tests as many
//! as they like, over whatever stores they like.

mod care;
mod certificates;
pub mod dev;
mod expiry;
mod fsck;
mod member;
mod mesh_door;
mod overview;
mod members;
mod scrub;
mod serve;
mod signals;
mod spec;
mod verify;

use std::{io, net::SocketAddr};

pub use self::{
    care::CareError,
    certificates::{CertificateError, DevCertificates, Pair},
    fsck::{FsckRun, fsck},
    member::{App, Running},
    scrub::{ScrubRun, scrub},
    serve::{Bound, bind, serve},
    spec::{Host, MemberSpec, MeshSpec},
    verify::{Finding, Findings, Reach, Verdict, verify},
};
pub use crate::storage::Stores;
use crate::{
    auth::{FileFault, oidc::Misconfigured},
    config::identity::IdentityError,
    events::SinkError,
    net::{BindError, TlsError},
    ownership::JoinError,
    registry::HotError,
    replication::ReplicationError,
    storage::OpenError,
    sync::MirrorError,
};

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address can't be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A certificate can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file with passwords, keys or policies can't be used.
    #[error(transparent)]
    Access(#[from] FileFault),
    /// What is to be mirrored can't be set up.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// An identity provider is configured so that nobody could log in there.
    #[error(transparent)]
    Provider(#[from] Misconfigured),
    /// A sink of events can't be used.
    #[error("extensions.events: a sink can't be used")]
    Sink(#[from] SinkError),
    /// A registry that gets changes can't be asked.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    /// The other members can't be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Nobody knows which member this is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What was compiled in for reflection is broken.
    #[error("the mesh can't describe itself")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Certificates can't be made.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// An address can't be found out.
    #[error("can't resolve {name}")]
    Resolve {
        /// As it was configured.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder for hot content can't be used.
    #[error(transparent)]
    Cache(#[from] HotError),
    /// What is stored can't be reached or used.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// The operating system doesn't say who we are.
    #[error("can't ask the operating system for this machine's name, addresses or signals")]
    Machine(#[source] io::Error),
    /// A name that is no name of a member.
    #[error("{address} can't be a member's name")]
    Name {
        /// The public address it was made of.
        address: SocketAddr,
    },
    /// Neither a list of members nor what makes one.
    #[error("neither cluster.members nor cluster.tls.memberSan says who the members are")]
    NoMembers,
}
