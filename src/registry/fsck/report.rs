//! What can be wrong, and what is told of it.

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, Serializer};

/// What is wrong, in kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A blob's object is missing, or isn't what was written.
    BlobObject,
    /// A manifest's document is missing, or isn't what was pushed.
    ManifestDocument,
    /// A manifest refers to a blob that its repository doesn't hold, or an index that is needed lists a manifest that isn't there.
    ManifestLacks,
    /// A manifest lacks the rows that keep what it refers to from collection.
    ReferenceMissing,
    /// A tag names a manifest that isn't there.
    TagDangling,
    /// A repository holds a blob of which there is no record.
    LinkWithoutRecord,
    /// A link names another object than the blob's record, and nothing brings it there.
    LinkElsewhere,
    /// A link without its reverse, or the reverse without a link.
    LinkReverse,
    /// A blob that no manifest uses, or no repository holds, and that nothing collects.
    Uncollected,
    /// Something that has ended and that nothing removes: a deleted manifest, an upload, a deleted repository.
    Unremoved,
    /// A tag without its reverse, or the reverse without a tag.
    TagReverse,
    /// A list of referrers has a manifest that isn't there, or lacks one that is.
    Referrer,
    /// A repository's row has another number of manifests than there are, or the catalogue lacks it, or has one that isn't there.
    Repository,
    /// What is counted for a quota isn't the sum of the links.
    QuotaCount,
    /// An object, or an unfinished upload, that no row names.
    ObjectUnnamed,
    /// A row that can't be read.
    RowUnreadable,
    /// No fault: a reference of a manifest that never came to be. A push that failed leaves it, and it costs one row.
    ReferenceLeft,
    /// No fault: an object in the same place that isn't of this registry. It is never touched.
    ObjectForeign,
}

impl FaultKind {
    /// What it is called, in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BlobObject => "blob-object",
            Self::ManifestDocument => "manifest-document",
            Self::ManifestLacks => "manifest-lacks",
            Self::ReferenceMissing => "reference-missing",
            Self::TagDangling => "tag-dangling",
            Self::LinkWithoutRecord => "link-without-record",
            Self::LinkElsewhere => "link-elsewhere",
            Self::LinkReverse => "link-reverse",
            Self::Uncollected => "uncollected",
            Self::Unremoved => "unremoved",
            Self::TagReverse => "tag-reverse",
            Self::Referrer => "referrer",
            Self::Repository => "repository",
            Self::QuotaCount => "quota-count",
            Self::ObjectUnnamed => "object-unnamed",
            Self::RowUnreadable => "row-unreadable",
            Self::ReferenceLeft => "reference-left",
            Self::ObjectForeign => "object-foreign",
        }
    }

    /// Whether it is a fault at all, not only worth to be known.
    #[must_use]
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::ReferenceLeft | Self::ObjectForeign)
    }

    /// What to do about one that can't be repaired from what is there.
    fn advice(self) -> &'static str {
        match self {
            Self::BlobObject => "push the blob again, into any repository that has it",
            Self::ManifestDocument => "push the manifest again",
            Self::ManifestLacks => "push it into the repository again",
            Self::TagDangling => "push the tag again, or delete it",
            Self::LinkWithoutRecord | Self::LinkElsewhere => "push the blob into the repository again",
            Self::RowUnreadable => "restore the row from a backup of the table",
            Self::ObjectForeign => "nothing; delete it if it isn't needed",
            Self::ObjectUnnamed => "see whether the metadata belongs to this bucket",
            Self::ReferenceMissing
            | Self::LinkReverse
            | Self::Uncollected
            | Self::Unremoved
            | Self::TagReverse
            | Self::Referrer
            | Self::Repository
            | Self::QuotaCount
            | Self::ReferenceLeft => "see what else is wrong there",
        }
    }
}

impl Serialize for FaultKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It can be repaired, and was only looked for.
    Repairable,
    /// It is repaired, or the members are told to.
    Repaired,
    /// Only whoever has the content can repair it, or nobody.
    Unrepairable,
    /// What it is about changed meanwhile: look again.
    Moved,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// In kinds.
    pub kind: FaultKind,
    /// Where.
    pub repositories: Vec<String>,
    /// Of what.
    pub digest: Option<String>,
    /// By which tags that is reached.
    pub tags: Vec<String>,
    /// What was seen.
    pub said: String,
    /// What became of it.
    pub fate: Fate,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:20} ", self.kind.name())?;
        if !self.repositories.is_empty() {
            write!(f, "{} ", self.repositories.join(","))?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "{digest} ")?;
        }
        if !self.tags.is_empty() {
            write!(f, "({}) ", self.tags.join(", "))?;
        }
        let what_now = match self.fate {
            Fate::Repairable => "--repair",
            Fate::Repaired => "repaired",
            Fate::Unrepairable => self.kind.advice(),
            Fate::Moved => "it has changed meanwhile: look again",
        };
        write!(f, "- {} -> {what_now}", self.said)
    }
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FsckReport {
    /// Rows that were looked at.
    pub rows: u64,
    /// Objects likewise.
    pub objects: u64,
    /// How much of each kind was found.
    pub found: BTreeMap<FaultKind, u64>,
    /// The first of them, 10,000 at most.
    pub faults: Vec<Fault>,
    /// Faults that are still there.
    pub left: u64,
}

impl fmt::Display for FsckReport {
    /// A table for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(f, "{fault}")?;
        }
        let found: u64 = self.found.values().sum();
        let untold = found.saturating_sub(self.faults.len() as u64);
        if untold > 0 {
            writeln!(f, "and {untold} more")?;
        }
        let Self {
            rows, objects, left, ..
        } = self;
        write!(f, "{rows} rows, {objects} objects: {left} faults are left")
    }
}
