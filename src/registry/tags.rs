//! The list of a repository's tags.

use super::{Names, Registry, RegistryError, Result, row};
use crate::{
    oci::{Page, RepoName},
    storage::{keys, rows},
};

impl Registry {
    /// The repository's tags in byte order. A repository without manifests isn't known; one without tags has none.
    pub async fn tags(&self, repository: &RepoName, page: &Page) -> Result<Names> {
        let key = keys::repository(repository);
        let (found, names) = tokio::join!(
            self.meta.get(&key),
            self.names(repository.as_str(), keys::TAGS, page)
        );
        let repository: Option<rows::Repository> = found?.as_ref().map(row::read).transpose()?;
        if repository.is_none_or(|row| row.manifests == 0) {
            return Err(RegistryError::NameUnknown);
        }
        names
    }
}
