//! Which members there are and which of them live, as this member sees it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{config::Collecting, placement::MemberId, storage::Version};

/// The mesh as one member sees it: by leases ([`Leases`](super::Leases)), or a fixed list.
///
/// Contract:
/// - Whatever it says steers requests only. A wrong answer costs a hop or a retry, never data.
/// - Nothing but [`look`](Self::look) waits.
#[async_trait]
pub trait View: Send + Sync + 'static {
    /// This member.
    fn me(&self) -> &MemberId;

    /// This start of this member.
    fn incarnation(&self) -> Incarnation;

    /// Every member that may own repositories, this one included, sorted by name.
    fn members(&self) -> Arc<[MemberView]>;

    /// What this member is to the others.
    fn standing(&self) -> Standing;

    /// What makes a certificate a member's.
    fn proof(&self) -> Proof;

    /// What keeps this member from seeing the others, or from being seen by them.
    fn trouble(&self) -> Option<String>;

    /// For how long nothing was seen of the others.
    fn age(&self) -> Duration;

    /// Gives up what this member owns, and takes nothing on until [`undrain`](Self::undrain). Drained already, it says so once more.
    async fn drain(&self) -> Result<(), DrainError> {
        Err(DrainError::Alone)
    }

    /// Takes repositories on again; without effect on a member that isn't drained.
    async fn undrain(&self) -> Result<(), DrainError> {
        Ok(())
    }

    /// Looks again now, if that can tell more: returns once what was true when it was called is seen, or can't be.
    async fn look(&self);

    /// Whether `member` lives.
    fn liveness(&self, member: &MemberId) -> Liveness {
        self.members()
            .iter()
            .find(|known| known.id == *member)
            .map_or(Liveness::Stranger, |known| known.liveness)
    }
}

/// A member, seen from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Its name.
    pub id: MemberId,
    /// `host:port` of its mesh listener.
    pub mesh_address: String,
    /// Whether it lives.
    pub liveness: Liveness,
    /// Its lease, where there are leases and it has one.
    pub lease: Option<LeaseView>,
}

/// A lease, as it was last read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// The start that wrote it.
    pub incarnation: Incarnation,
    /// For how long it is known not to have been renewed.
    pub unchanged: Duration,
    /// The member said that it takes no repository on: it ends, or was drained.
    pub left: bool,
    /// It was drained.
    pub drained: bool,
    /// Oldest and newest version of the mesh protocol that it speaks.
    pub protocol: (u32, u32),
    /// Its public keys, the current one first.
    pub keys: Vec<KeyHash>,
    /// What should be the same there and here, and isn't: keys of the configuration.
    pub differs: Vec<String>,
    /// Whether it collects.
    pub collecting: Collecting,
}

/// What is known of a member's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Believed to be alive.
    Live,
    /// Judged dead, or said that it left.
    Gone,
    /// Not a member of this mesh (any more).
    Stranger,
}

/// What this member is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// One of them.
    Member,
    /// Taken out by an administrator: it still serves what it is asked, and takes no repository on.
    Drained,
    /// About to end; otherwise as drained.
    Leaving,
    /// Another process has started under its name since; that one is the member now.
    Superseded,
}

/// Why a member can't be drained, or put back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// Nobody would serve what it owns.
    #[error("no other member is live")]
    Alone,
    /// It takes nothing on any more, whatever one says.
    #[error("it is about to end")]
    Ending,
    /// Another process has started under its name.
    #[error("another process has started under its name: that one is the member")]
    Superseded,
    /// It is done here, and the others don't know yet. They are told again with each heartbeat.
    #[error("the others can't be told yet: {0}")]
    Untold(String),
}

/// What makes a certificate of the cluster's authority a member's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It names the host of a member.
    Host,
    /// It has this name (`*.` in front stands for one label), and its public key stands in the member's lease.
    Lease {
        /// `cluster.tls.memberSan`.
        san: String,
    },
}

/// SHA-256 of a certificate's public key (its SubjectPublicKeyInfo).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// From its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As it stands in rows.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// One start of a member, told apart from its former and later ones by 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation([u8; 16]);

impl Incarnation {
    /// A new one.
    pub fn random() -> Self {
        Self(Version::random().to_bytes())
    }

    /// As it stands in rows.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// From a row.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A fixed list of members, all of them believed to be alive: of a member by itself, and for tests.
#[derive(Debug)]
pub struct StaticView {
    me: MemberId,
    incarnation: Incarnation,
    members: Arc<[MemberView]>,
}

impl StaticView {
    /// A view of `members` (name and mesh address), one of which is `me`.
    pub fn new(me: MemberId, members: impl IntoIterator<Item = (MemberId, String)>) -> Self {
        let mut members: Vec<_> = members
            .into_iter()
            .map(|(id, mesh_address)| MemberView {
                id,
                mesh_address,
                liveness: Liveness::Live,
                lease: None,
            })
            .collect();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        members.dedup_by(|a, b| a.id == b.id);
        Self {
            me,
            incarnation: Incarnation::random(),
            members: members.into(),
        }
    }
}

#[async_trait]
impl View for StaticView {
    fn me(&self) -> &MemberId {
        &self.me
    }

    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn members(&self) -> Arc<[MemberView]> {
        self.members.clone()
    }

    fn standing(&self) -> Standing {
        Standing::Member
    }

    fn proof(&self) -> Proof {
        Proof::Host
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    fn age(&self) -> Duration {
        Duration::ZERO
    }

    async fn look(&self) {}
}
