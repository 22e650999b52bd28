//! Who serves a repository.
//!
//! Placement ranks the members; a repository's row names the member that made its last change, the holder. Leases tell
//! which members live. Everything here steers requests towards one member and away from dead ones. None of it makes
//! writing safe: that is the row's version, compared in the transaction itself ([`crate::registry`]). So a wrong answer
//! costs a hop or a retry, never data.

mod claim;
mod hints;
mod lease;
mod leases;
mod sightings;
mod take_overs;
mod view;

pub use self::{
    claim::{Claim, HOLD_DOWN, Owners, Reachability},
    hints::Hints,
    lease::{Announcement, SharedSettings},
    leases::{JoinError, Joining, Leases, Membership, OwnKey},
    take_overs::{TakeOver, TakeOvers},
    view::{
        DrainError, Incarnation, KeyHash, LeaseView, Liveness, MemberView, Proof, Standing, StaticView, View,
    },
};
