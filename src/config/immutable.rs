//! `storage.immutableTags`, as values.

use crate::oci::{RepoName, RepoPattern, Tag, TagPattern};

/// One rule: which tags of which repositories nobody moves or deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImmutableTags {
    /// What refusals call it.
    pub name: String,
    /// Of which repositories: those that any of these is for.
    pub repositories: Vec<RepoPattern>,
    /// Which tags: those like any of these,
    pub tags: Vec<TagPattern>,
    /// but for those like any of these.
    pub except: Vec<TagPattern>,
}

impl ImmutableTags {
    /// Whether it is about tags of the repository.
    #[must_use]
    pub fn concerns(&self, repository: &RepoName) -> bool {
        self.repositories
            .iter()
            .any(|pattern| pattern.matches(repository))
    }

    /// Whether it is about the tag.
    #[must_use]
    pub fn keeps(&self, tag: &Tag) -> bool {
        let like = |patterns: &[TagPattern]| patterns.iter().any(|pattern| pattern.matches(tag));
        like(&self.tags) && !like(&self.except)
    }
}
