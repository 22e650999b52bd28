//! Tags that nobody moves or deletes, whatever they may do (`storage.immutableTags`).
//!
//! Who makes a tag decides once what it names: only then may anyone rely on it. So a rule says nothing about creating one. It is
//! asked where the change is planned, after the repository's row was read: a tag can't come between (rule R2).

use crate::{
    config::ImmutableTags,
    oci::{RepoName, Tag},
};

use super::{RegistryError, Result};

/// All the rules of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Immutable(Vec<ImmutableTags>);

impl Immutable {
    /// By these rules, in their order.
    #[must_use]
    pub fn new(rules: Vec<ImmutableTags>) -> Self {
        Self(rules)
    }

    /// Whether any rule is about the repository.
    pub(super) fn concerns(&self, repository: &RepoName) -> bool {
        self.0.iter().any(|rule| rule.concerns(repository))
    }

    /// Refuses to let a tag that is there name something else, or nothing.
    ///
    /// # Errors
    /// [`RegistryError::Immutable`], which names the first rule that says so.
    pub(super) fn check(&self, repository: &RepoName, tag: &Tag) -> Result<()> {
        match self
            .0
            .iter()
            .find(|rule| rule.concerns(repository) && rule.keeps(tag))
        {
            None => Ok(()),
            Some(rule) => Err(RegistryError::Immutable {
                tag: tag.clone(),
                rule: rule.name.clone(),
            }),
        }
    }
}
