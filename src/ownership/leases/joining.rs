//! What a member joins a mesh with.

use std::sync::Arc;

use crate::{
    config::limits::LeaseLimits,
    ownership::{Announcement, KeyHash},
    placement::MemberId,
    storage::{MetaStore, StoreError},
    telemetry::Metrics,
};

/// Who belongs to the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// These, by name and the `host:port` at which others reach them.
    Listed(Vec<(MemberId, String)>),
    /// Whoever has a lease, proven by a certificate with this name (`*.` in front stands for one label).
    Dynamic {
        /// `cluster.tls.memberSan`.
        san: String,
    },
}

/// Tells the public key of the certificate that this member shows now.
pub type OwnKey = Arc<dyn Fn() -> Option<KeyHash> + Send + Sync>;

/// Why a member can't join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The store doesn't give the leases.
    #[error("the leases of the members can't be read")]
    Store(#[source] StoreError),
    /// A live member has other settings.
    #[error(
        "member {member}, which is live, has another {}: it must be the same on all members; correct it here, or stop \
         {member} if that one is wrong",
        differs.join(" and another ")
    )]
    Differs {
        /// Who.
        member: MemberId,
        /// Keys of the configuration.
        differs: Vec<String>,
    },
}

/// What a member joins with.
pub struct Joining {
    /// Its name.
    pub me: MemberId,
    /// The store of the leases.
    pub meta: Arc<dyn MetaStore>,
    /// What it says of itself.
    pub said: Announcement,
    /// Its certificate's key.
    pub own_key: OwnKey,
    /// Who the others are.
    pub membership: Membership,
    /// Bounds.
    pub limits: LeaseLimits,
    /// Counts.
    pub metrics: Arc<Metrics>,
}
