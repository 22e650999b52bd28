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
mod overview;
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

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

pub use self::{
    blobs::{Blob, BlobParts, MountSource, Mounted, Taken},
    error::{Damage, Needed, RegistryError, Result},
    fsck::{Fate, Fault, FaultKind, FsckOptions, FsckReport},
    hot::{Hot, HotError},
    immutable::Immutable,
    listing::Names,
    manifests::{DeleteManifest, MayBeAbsent, MayPush, Pushed, PutManifest, WhileListed},
    objects::Throttle,
    overview::{Document, Overview, Summary, Tagged},
    preferences::{Preference, Toggle},
    quota::Quotas,
    referrers::{Referrer, Referrers},
    retention::{Applied, PlanItem, PlanPage, PlanStage, Retained, RetentionPlan, new_run},
    undo::{Left, OfDeleted, Restore, Restored, WhyLeft},
    upkeep::{DuePage, DueWork, Tended},
    uploads::{Aside, Upload},
    visits::{Counts, Visit, Visited, Visits},
    whole::Whole,
};
pub use crate::storage::Stores;
use crate::{
    config::Redirects,
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

/// Bounds and times. The defaults are those of the program.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Length of a part of a large blob in bytes, raised to the blob store's least. A blob of at most this length is one
    /// object, written at once.
    pub part_size: u64,
    /// How many parts of one upload are sent at the same time. An upload holds one part more than these in memory.
    pub parts_in_flight: usize,
    /// Bytes of memory for all bodies together that are on their way into the stores.
    pub body_memory: u64,
    /// Bytes of it that a body takes at a time. A quarter of all is for the first of each.
    pub body_piece: u64,
    /// How long a body waits for it.
    pub body_patience: Duration,
    /// Bytes a second below which a body is slow: what of it waits in memory for the rest of its part goes into the store.
    pub slow_body: u64,
    /// Over which time that is measured.
    pub slow_body_window: Duration,
    /// How many bytes are worth that while nobody needs their room.
    pub park_bytes: u64,
    /// How long an upload session lives after its last acknowledged change.
    pub session_ttl: Duration,
    /// How long a link needs no manifest.
    pub link_grace: Duration,
    /// How long what was deleted can be brought back; zero is not at all.
    pub history: Duration,
    /// How long it is told what became of names; `None` is without an end.
    pub history_events: Option<Duration>,
    /// How long batches of feeds are kept at least, and for how long at most for followers that aren't past them.
    pub feed_kept: Duration,
    /// See above.
    pub feed_kept_longest: Duration,
    /// How long the object of a collected blob is kept.
    pub object_delay: Duration,
    /// How long trash lies: longer than any request or presigned URL.
    pub trash_delay: Duration,
    /// After which further time it is deleted once more, for a write that was still on its way.
    pub trash_again: Duration,
    /// By how much members' clocks may differ: nothing is done for being due until it has been for this long.
    pub clock_margin: Duration,
    /// How long the row of a deleted repository is kept, if not for as long as it can be brought back.
    pub tombstone: Duration,
    /// The longest manifest, in bytes, that lies in its row.
    pub inline_manifest: usize,
    /// How many bytes of blobs repositories may hold.
    pub quotas: Quotas,
    /// Which tags nobody moves or deletes.
    pub immutable: Immutable,
    /// Bytes of memory for manifests, links and short blobs that were pulled lately.
    pub remembered: u64,
    /// How many manifests are remembered to have been pulled until that is written.
    pub pulls_counted: usize,
    /// How many plans of retention are kept, and for how long.
    pub plans: usize,
    /// See above.
    pub plan_life: Duration,
    /// How many indexes are looked at to find one that needs a manifest which is to be deleted.
    pub indexes_looked_at: usize,
    /// How many objects are remembered to have been seen, and for how long that counts as a look.
    pub objects_seen: usize,
    /// See above.
    pub seen_for: Duration,
    /// How long a look at an object may take when somebody asks for a blob without its bytes.
    pub look_within: Duration,
    /// Whether blobs of any length are hashed when they are read whole.
    pub verify_reads: bool,
    /// Which blobs those who pull them are sent to the store for.
    pub redirects: Redirects,
    /// How long links there live: less than `object_delay` and `trash_delay`.
    pub link_life: Duration,
    /// How often a change is planned anew when others came first.
    pub attempts: u32,
    /// Bound on a transaction of an upload, which has no deadline of its own.
    pub commit_within: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        Self {
            part_size: 8 << 20,
            parts_in_flight: 2,
            body_memory: 1 << 30,
            body_piece: 64 << 10,
            body_patience: Duration::from_secs(15),
            slow_body: 16 << 10,
            slow_body_window: Duration::from_secs(5),
            park_bytes: 1 << 20,
            session_ttl: 24 * HOUR,
            link_grace: 24 * HOUR,
            history: 14 * 24 * HOUR,
            history_events: None,
            feed_kept: 7 * 24 * HOUR,
            feed_kept_longest: 30 * 24 * HOUR,
            object_delay: 6 * HOUR,
            trash_delay: 2 * HOUR,
            trash_again: 24 * HOUR,
            clock_margin: Duration::from_secs(5 * 60),
            tombstone: 7 * 24 * HOUR,
            inline_manifest: 32 << 10,
            quotas: Quotas::default(),
            immutable: Immutable::default(),
            remembered: 64 << 20,
            pulls_counted: 64 << 10,
            plans: 16,
            plan_life: 7 * 24 * HOUR,
            indexes_looked_at: 1000,
            objects_seen: 32 << 10,
            seen_for: Duration::from_secs(60),
            look_within: Duration::from_secs(5),
            verify_reads: false,
            redirects: Redirects::Off,
            link_life: Duration::from_secs(20 * 60),
            attempts: 5,
            commit_within: Duration::from_secs(15),
        }
    }
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
        settings.part_size = settings.part_size.max(blobs.min_part()).max(1);
        settings.parts_in_flight = settings.parts_in_flight.max(1);
        let piece = settings.body_piece.max(1);
        let rooms = room::Rooms::new(settings.body_memory, piece, settings.body_patience);
        let remembered = remembered::Remembered::new(settings.remembered);
        let seen = Arc::new(objects::Seen::new(settings.objects_seen, settings.seen_for));
        Self {
            meta,
            blobs,
            dues: due::Dues::of(&holder.member),
            pulls: pulls::Pulls::new(settings.pulls_counted),
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
        Instant::now() + self.settings.commit_within
    }
}
