//! Tags of a repository: the list of all, and those that lead to a digest.

use super::{Names, Registry, RegistryError, Result, row};
use crate::{
    oci::{Digest, Page, RepoName, Tag},
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

    /// Tags that name the digest, or lead to it by an image or by an index that lists one, some of them: at most `most`.
    pub(super) async fn tags_over(
        &self,
        repository: &RepoName,
        digest: &Digest,
        most: usize,
    ) -> Result<Vec<Tag>> {
        let mut tags = self.tags_of(repository, digest, most).await?;
        let mut above = vec![digest.clone()];
        for _ in 0..2 {
            let mut parents = Vec::new();
            for child in above.iter().take(most) {
                if tags.len() >= most {
                    break;
                }
                for parent in self.parents(repository, child, most).await? {
                    tags.extend(self.tags_of(repository, &parent, most).await?);
                    parents.push(parent);
                }
            }
            above = parents;
        }
        tags.truncate(most);
        Ok(tags)
    }
}
