//! Which members there are and which of them live, as this member sees it.

use std::fmt;

use crate::{placement::MemberId, storage::Version};

/// The mesh as one member sees it. The static view below is for a mesh whose members are listed and believed; leases
/// are another implementation.
pub trait View: Send + Sync + 'static {
    /// This member.
    fn me(&self) -> &MemberId;

    /// This start of this member.
    fn incarnation(&self) -> Incarnation;

    /// Every member that may own repositories, this one included, sorted by name.
    fn members(&self) -> Vec<MemberView>;

    /// Whether `member` is alive, with the incarnation that a row names.
    fn liveness(&self, member: &MemberId) -> Liveness;
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
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A fixed list of members, all of them believed to be alive.
#[derive(Debug)]
pub struct StaticView {
    me: MemberId,
    incarnation: Incarnation,
    members: Vec<MemberView>,
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
            })
            .collect();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        members.dedup_by(|a, b| a.id == b.id);
        Self {
            me,
            incarnation: Incarnation::random(),
            members,
        }
    }
}

impl View for StaticView {
    fn me(&self) -> &MemberId {
        &self.me
    }

    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn members(&self) -> Vec<MemberView> {
        self.members.clone()
    }

    fn liveness(&self, member: &MemberId) -> Liveness {
        self.members
            .iter()
            .find(|known| known.id == *member)
            .map_or(Liveness::Stranger, |known| known.liveness)
    }
}
