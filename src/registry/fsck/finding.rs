//! A fault that was seen, what would make it none, and how to repair it.

use super::{Fate, Fault, FaultKind};
use crate::{
    oci::{Digest, RepoName, Tag},
    storage::{
        Op,
        keys::{Queue, due_kind},
        rows::DueKind,
    },
};

#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) fault: Fault,
    /// It is none if there is a due-row about this.
    pub(super) unless_due: Option<About>,
    pub(super) mend: Option<Mend>,
}

/// What a due-row is about: in which queue, of which kind, about what.
pub(super) type About = (Queue, &'static str, String);

/// How something is repaired.
#[derive(Clone, Debug)]
pub(super) enum Mend {
    /// By this transaction, which expects what was read.
    Ops(Vec<Op>),
    /// By a change of the repository (rule R2), which looks anew.
    Tidy(RepoName, Tidy),
    /// The repository holds the blob again, which is still in the store (rule G1).
    Hold(RepoName, Digest),
}

/// Rows that follow from others, brought in line with them.
#[derive(Clone, Debug)]
pub(super) enum Tidy {
    TagOf(Digest, Tag),
    /// That of a manifest, the latter, to the former.
    Reference(Digest, Digest),
    /// All those of a manifest.
    References(Digest),
    /// That a manifest, the latter, is about the former.
    Referrer(Digest, Digest),
    /// The link of a blob that no manifest uses: when it is looked at.
    Unused(Digest),
    /// The number of manifests, and the entry in the catalogue.
    Repository,
}

impl Finding {
    pub(super) fn new(kind: FaultKind, repository: Option<&RepoName>, said: impl Into<String>) -> Self {
        let fault = Fault {
            kind,
            repositories: repository.map(ToString::to_string).into_iter().collect(),
            digest: None,
            tags: Vec::new(),
            said: said.into(),
            fate: Fate::Unrepairable,
        };
        Self {
            fault,
            unless_due: None,
            mend: None,
        }
    }

    pub(super) fn of(mut self, digest: &Digest) -> Self {
        self.fault.digest = Some(digest.to_string());
        self
    }

    pub(super) fn tagged(mut self, tags: impl IntoIterator<Item = Tag>) -> Self {
        self.fault
            .tags
            .extend(tags.into_iter().map(|tag| tag.to_string()));
        self
    }

    pub(super) fn unless_due(mut self, kind: DueKind, subject: impl Into<String>) -> Self {
        self.unless_due = Some((Queue::of(kind), due_kind(kind), subject.into()));
        self
    }

    pub(super) fn mend(mut self, mend: Mend) -> Self {
        self.mend = Some(mend);
        self.fault.fate = Fate::Repairable;
        self
    }
}
