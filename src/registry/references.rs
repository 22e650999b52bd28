//! Who references a blob of a repository.

use super::{Registry, Result, pages::Pages, row};
use crate::{
    oci::{Digest, RepoName},
    storage::{Key, MAX_OPS, MetaStore, Space, keys},
};

/// Orphaned references that are told at once: as many as go in a transaction beside what they are told for.
const ORPHANS: usize = 50;

/// Who keeps a blob in its repository.
pub(super) enum User {
    /// A manifest that is there: this one, perhaps with others.
    Live(Digest),
    /// Manifests that were deleted, whose references are yet to be collected.
    Deleted,
    /// No manifest.
    Nobody {
        /// References of manifests that never came to be, some of them: what failed pushes left. Whoever removes one replaces the
        /// repository's row, so that a push which is yet to commit writes it again.
        orphans: Vec<Key>,
    },
}

impl Registry {
    /// Whether a manifest that is there names this content of the repository, a manifest or a blob.
    pub async fn is_named(&self, repository: &RepoName, digest: &Digest) -> Result<bool> {
        let user = user_of(&*self.meta, repository, digest).await?;
        Ok(matches!(user, User::Live(_)))
    }
}

/// The manifests of `repository` that reference the blob, looked for until one is found that lives.
pub(super) async fn user_of(meta: &dyn MetaStore, repository: &RepoName, digest: &Digest) -> Result<User> {
    let prefix = keys::references_to(digest);
    let mut references = Pages::of(Space::Manifests, repository.as_str(), &prefix, MAX_OPS);
    let (mut is_kept, mut orphans) = (false, Vec::new());
    while let Some(page) = references.next(meta).await? {
        let parents = page.iter().map(|entry| row::digest(&entry.sort[prefix.len()..]));
        let parents = parents.collect::<Result<Vec<_>>>()?;
        let wanted: Vec<_> = parents
            .iter()
            .map(|parent| keys::manifest(repository, parent))
            .collect();
        if !wanted.is_empty() {
            let found = meta.get_many(&wanted).await?;
            for (parent, found) in parents.into_iter().zip(found) {
                if row::live(found.as_ref())?.is_some() {
                    return Ok(User::Live(parent));
                }
                if found.is_some() {
                    is_kept = true;
                } else if orphans.len() < ORPHANS {
                    orphans.push(keys::reference(repository, digest, &parent));
                }
            }
        }
    }
    Ok(match is_kept {
        true => User::Deleted,
        false => User::Nobody { orphans },
    })
}
