//! What pushing, pulling and deleting mean: the domain, above the two stores and below both doors.
//!
//! Invariants:
//! - What a name means (a manifest, a tag, that a blob belongs to the repository no more) changes only in [`commit`]: one
//!   transaction that replaces the repository's row, if the row still has the version that was read before anything was
//!   validated.
//! - What only adds content by its digest (a link to a blob, an upload session) is fenced by a record of its own: the
//!   session's row, the blob's record. Every such transaction replaces the row that fences it, so it can win once.
//! - An object is written once, under a key that was drawn for that one attempt, below a prefix that a row (session or
//!   due-row) named before. It becomes visible through a row, after its digest was verified, or never.
//! - A link means that the object is whole, unless the blob store lost it. Its key changes only when it did and the content
//!   was pushed again, in a transaction that replaces the repository's row.
//! - A transaction whose outcome is unknown is resolved by a strong read of the row that fences it; what can't be
//!   resolved is reported as such and never sent anew under another version.
//! - Nothing here relies on being run to its end: a future may be dropped at any await.
//!
//! - What nobody needs any more is named by a due-row, written in the transaction that made it so. [`upkeep`] looks at those
//!   rows; it removes links and references in transactions of [`commit`]'s kind,
//!   or they could vanish under a push. [`collect`] is what it does about blobs.
//!
//! Absent on purpose: HTTP and gRPC, who may do what (but for creating against overwriting, which only the transaction
//! knows), which member should serve a repository, when due-rows are looked at and by whom.

mod blobs;
mod catalog;
pub mod changes;
mod collect;
mod commit;
mod downloads;
mod due;
mod elsewhere;
mod error;
mod fence;
mod fsck;
mod hash;
mod hot;
mod immutable;
mod links;
mod listing;
mod manifests;
mod noted;
mod objects;
mod orders;
mod overview;
mod pages;
mod pieces;
mod preferences;
mod pulls;
mod quota;
mod references;
mod referrers;
mod remembered;
mod retention;
mod room;
mod row;
mod scrub;
mod shelf;
mod tags;
#[cfg(test)]
mod testing;
mod turns;
mod undo;
mod upkeep;
mod uploads;
mod visits;
mod whole;

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

pub use self::{
    blobs::{Blob, BlobParts, MountSource, Mounted, Taken},
    downloads::{PULLED_KEPT, Pulled},
    error::{Damage, Needed, RegistryError, Result},
    fsck::{Fate, Fault, FaultKind, FsckOptions, FsckReport},
    hot::{Hot, HotError},
    immutable::Immutable,
    listing::{Digests, Names},
    manifests::{DeleteManifest, MayBeAbsent, MayPush, Pushed, PutManifest, WhileListed},
    objects::Throttle,
    orders::{Order, Orders},
    overview::{Asked, Document, Listed, Overview, Referring, Summary, Tagged, Told},
    preferences::{Preference, Toggle},
    quota::Quotas,
    referrers::{Referrer, Referrers},
    retention::{Applied, PlanItem, PlanPage, PlanStage, Retained, RetentionPlan, new_run},
    scrub::{Damaged, Scrub, ScrubNews, ScrubPlace, ScrubSums},
    undo::{Left, OfDeleted, Restore, Restored, WhyLeft},
    upkeep::{DuePage, DueWork, Later, Tended},
    uploads::{Aside, Upload},
    visits::{Counts, Visit, Visited, Visits},
    whole::Whole,
};
pub use crate::storage::Stores;
use crate::{
    config::{
        Redirects,
        limits::{NetLimits, RegistryLimits},
    },
    ownership::{Incarnation, TakeOvers},
    placement::MemberId,
    storage::{BlobStore, MetaStore, ObjectKey, Reads, pause},
};

/// In whose name repositories are changed.
#[derive(Clone, Debug)]
pub struct Holder {
    /// This member.
    pub member: MemberId,
    /// This start of it.
    pub incarnation: Incarnation,
}

/// What is asked of it, and its bounds. The defaults are those of the program.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How many bytes of blobs repositories may hold.
    pub quotas: Quotas,
    /// Which tags nobody moves or deletes.
    pub immutable: Immutable,
    /// Whether blobs of any length are hashed when they are read whole.
    pub verify_reads: bool,
    /// Which blobs those who pull them are sent to the store for.
    pub redirects: Redirects,
    /// Of what is pushed, pulled and deleted. Parts are as long as the blob store's least, at least.
    pub limits: RegistryLimits,
    /// Of these, what a slow body is.
    pub net: NetLimits,
}

/// The registry over two stores. All members run one over the same stores.
pub struct Registry {
    meta: Arc<dyn MetaStore>,
    blobs: Arc<dyn BlobStore>,
    holder: Holder,
    settings: Settings,
    dues: due::Dues,
    pulls: pulls::Pulls,
    turns: turns::Turns,
    rooms: room::Rooms,
    remembered: remembered::Remembered,
    /// Objects that are being read whole.
    documents: Reads<ObjectKey, std::result::Result<Bytes, Damage>>,
    seen: Arc<objects::Seen>,
    hot: Option<Hot>,
    abandoned: uploads::Waiting,
    unsettled: changes::Unsettled,
    take_overs: TakeOvers,
    days: changes::Days,
}

impl Registry {
    /// Over `stores`, changing repositories in the name of `holder`.
    pub fn new(stores: Stores, holder: Holder, mut settings: Settings) -> Self {
        let Stores { meta, blobs } = stores;
        let limits = &mut settings.limits;
        limits.part_size = limits.part_size.max(blobs.min_part()).max(1);
        limits.parts_in_flight = limits.parts_in_flight.max(1);
        let piece = limits.body_piece.max(1);
        let rooms = room::Rooms::new(limits.body_memory, piece, limits.body_patience);
        let remembered = remembered::Remembered::new(limits.remembered);
        let seen = Arc::new(objects::Seen::new(limits.objects_seen, limits.seen_for));
        Self {
            meta,
            blobs,
            dues: due::Dues::of(&holder.member),
            pulls: pulls::Pulls::new(limits.pulls_counted),
            holder,
            settings,
            turns: turns::Turns::default(),
            rooms,
            remembered,
            documents: Reads::default(),
            seen,
            hot: None,
            abandoned: uploads::Waiting::default(),
            unsettled: changes::Unsettled::default(),
            take_overs: TakeOvers::default(),
            days: changes::Days::default(),
        }
    }

    /// The repositories that this member took over from others lately.
    pub fn take_overs(&self) -> &TakeOvers {
        &self.take_overs
    }

    /// With blobs on this machine's disk.
    #[must_use]
    pub fn with_hot(self, hot: Option<Hot>) -> Self {
        Self { hot, ..self }
    }

    /// Until when a transaction is tried that has no deadline of its own.
    fn commit_deadline(&self) -> Instant {
        Instant::now() + self.settings.limits.commit_within
    }
}
