//! What can go wrong, one variant per condition. What a client sees of it is one table in `http`.

use std::fmt;

use crate::{
    admission::BodyError,
    oci::{Digest, ManifestError, RepoName, Tag, Timestamp},
    storage::StoreError,
};

/// Result of the registry's operations.
pub type Result<T> = std::result::Result<T, RegistryError>;

/// Why the registry didn't do what it was asked to.
///
/// Nothing was changed, unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The repository has no manifest, so it doesn't exist.
    #[error("the repository is not known")]
    NameUnknown,
    /// The repository has no such manifest or tag.
    #[error("the manifest is not known")]
    ManifestUnknown,
    /// Of very many names that were looked at none is for who asks, who may ask for those after a later one.
    #[error(
        "too many repositories come before the first that is for you: ask for those after a name near it (last)"
    )]
    NoneInSight,
    /// The repository doesn't hold the blob.
    #[error("the blob is not known to the repository")]
    BlobUnknown,
    /// There is no such upload session in the repository: it never was, or it is closed, expired, or broken by a
    /// member that died while finishing it. The client starts again.
    #[error("the upload is not known")]
    UploadUnknown,
    /// The blob store has lost parts of the upload, or can't put them together. The session is over; the client starts
    /// again.
    #[error("the upload can't be completed any more")]
    UploadLost,
    /// The content isn't what its digest says. An upload that ends so is closed.
    #[error("the content has the digest {actual}, not {expected}")]
    DigestMismatch {
        /// As the client said.
        expected: Digest,
        /// Of what came.
        actual: Digest,
    },
    /// The chunk doesn't begin where the upload stands, or another request carried the upload on meanwhile.
    #[error("the upload stands at {offset} bytes")]
    RangeMismatch {
        /// How many bytes are acknowledged.
        offset: u64,
    },
    /// The body has another length than was announced.
    #[error("{received} bytes came where {announced} were announced")]
    SizeMismatch {
        /// As a header said.
        announced: u64,
        /// What came; when more came than was announced, what came until that was seen.
        received: u64,
    },
    /// The blob is longer than the blob store can hold in one object.
    #[error("a blob has at most {limit} bytes")]
    BlobTooLarge {
        /// The longest that fits, about.
        limit: u64,
    },
    /// The manifest is longer than [`MAX_MANIFEST_BYTES`](crate::oci::MAX_MANIFEST_BYTES).
    #[error("the manifest is too large")]
    ManifestTooLarge,
    /// The manifest isn't one.
    #[error("the manifest is invalid")]
    ManifestInvalid(#[source] ManifestError),
    /// The manifest refers to a blob or a manifest that the repository doesn't hold.
    #[error("the manifest refers to {digest}, which the repository doesn't hold")]
    ManifestBlobUnknown {
        /// The first that is missing.
        digest: Digest,
    },
    /// One push names more tags than [`MAX_TAGS_PER_PUT`](crate::oci::MAX_TAGS_PER_PUT), and one.
    #[error("too many tags in one push")]
    TooManyTags,
    /// The blob can't be deleted while a manifest of the repository refers to it.
    #[error("manifest {manifest} refers to the blob")]
    Referenced {
        /// One that does.
        manifest: Digest,
    },
    /// The manifest can't be deleted while an index lists it that is tagged, or that such an index lists in its turn.
    #[error("the index {index} lists the manifest and {why}")]
    Listed {
        /// The index that lists it.
        index: Digest,
        /// Why that counts.
        why: Box<Needed>,
    },
    /// A condition of the request doesn't hold of what the reference names.
    #[error("a condition of the request doesn't hold")]
    PreconditionFailed {
        /// What it names, if anything.
        current: Option<Digest>,
    },
    /// A change of several transactions made some of them, and then failed. What is done stays; asked for again, it goes on.
    #[error("some of the manifest's tags are gone, and then it failed")]
    Unfinished(#[source] Box<RegistryError>),
    /// The push would create or overwrite what the caller may not.
    #[error("the caller may not create or overwrite this")]
    Denied,
    /// The tag is there, and a rule lets nobody move or delete it.
    #[error("the tag {tag} can't be moved or deleted: storage.immutableTags has the rule {rule:?}")]
    Immutable {
        /// Which tag.
        tag: Tag,
        /// What the rule is called.
        rule: String,
    },
    /// The repositories below `prefix` hold as much as they may.
    #[error(
        "{prefix} and what is below it may hold {allowed} bytes and holds {used}: {}",
        NoRoomFor(*asked)
    )]
    QuotaExceeded {
        /// The prefix that the quota is of.
        prefix: RepoName,
        /// Bytes that they hold.
        used: u64,
        /// Bytes that they may hold.
        allowed: u64,
        /// Bytes that they would hold besides; `None` where that isn't known.
        asked: Option<u64>,
    },
    /// A repository is to be as it was at a time of which not all is kept that was there.
    #[error(
        "what was deleted is kept since {oldest} (storage.history): a repository can't be restored to a time before that"
    )]
    NotKept {
        /// From when on it is.
        oldest: Timestamp,
    },
    /// There is no such plan of retention: it never was, or it has ended.
    #[error("the plan is not known, or has ended")]
    PlanUnknown,
    /// The plan isn't whole yet.
    #[error("the plan is not ready to be applied: it has to be carried on until it is")]
    PlanUnready,
    /// Others changed the repository, or the blob's record, at the same time, again and again.
    #[error("too many changes at once: not applied, try again")]
    Contended,
    /// Bodies of other requests have all the memory there is for them. Nothing was made of this one's.
    #[error("too many bodies are being received at once; nothing was changed, try again")]
    NoRoom,
    /// The deadline passed before anything was changed.
    #[error("the deadline has passed: not applied")]
    Deadline,
    /// The change was applied, or will be, or never: it isn't known. It is applied at most once.
    #[error("it is not known whether the change was applied")]
    OutcomeUnknown,
    /// The blob store has lost or damaged what a blob or a manifest holds. Pushed again, it is whole again.
    #[error("the content of {digest} in the blob store {damage}; pushing it again restores it")]
    ContentLost {
        /// Of what.
        digest: Digest,
        /// What was seen.
        damage: Damage,
    },
    /// The row was written by a newer release, which forbids this one to rewrite it.
    #[error(
        "the row is of schema {min_reader}, this release knows {}",
        crate::storage::rows::SCHEMA
    )]
    NewerSchema {
        /// The oldest schema that may rewrite it.
        min_reader: u32,
    },
    /// The request's body broke off.
    #[error("the body broke off")]
    Body(#[source] BodyError),
    /// A store failed.
    #[error("a store failed")]
    Store(#[from] StoreError),
}

impl From<ManifestError> for RegistryError {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::TooLarge => Self::ManifestTooLarge,
            other => Self::ManifestInvalid(other),
        }
    }
}

/// Why an index needs what it lists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Needed {
    /// It has this tag.
    #[error("is tagged '{0}': delete the index, or its tags, first")]
    Tagged(Tag),
    /// It is listed, if not directly, by another one that has this tag.
    #[error("belongs to {0}, which is tagged '{1}': delete that, or its tags, first")]
    Within(Digest, Tag),
    /// Nobody knows: so many indexes that aren't tagged were looked at, and there are more.
    #[error("so do more than {0} others: delete those that aren't needed first")]
    Many(usize),
}

/// What doesn't fit into a quota.
struct NoRoomFor(Option<u64>);

impl fmt::Display for NoRoomFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes} more don't fit"),
            None => f.write_str("no more fits"),
        }
    }
}

/// What is wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// There is none.
    Missing,
    /// It is shorter or longer than what was written.
    Length,
    /// By its ETag it is another one.
    Replaced,
    /// Its bytes have another digest.
    Bytes,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Length => "has another length than was written",
            Self::Replaced => "is another one than was written",
            Self::Bytes => "has other bytes than were written",
        })
    }
}
