//! Whether an index needs a manifest: it lists it, and it is tagged, or listed by one that is.
//!
//! Nobody who deletes what is untagged, platform by platform, means to tear a tagged image apart. What an index lists is in
//! the rows of references ([`keys::reference`]), by what is referenced; so the way goes up, from the manifest to whatever
//! lists it. References may outlive their manifests, and images have them, too: each one's row is looked at.
//!
//! Whoever plans a change on what is found here must have read the repository's row before, and expect it (rule R2): an
//! index that comes, or a tag, replaces it.

use std::{
    collections::{BTreeSet, VecDeque},
    pin::pin,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::super::{Registry, RegistryError, Result, error::Needed, row};
use crate::{
    oci::{Digest, ManifestKind, RepoName, Tag},
    storage::{MAX_OPS, Space, keys},
};

/// How many indexes' tags are asked for at once.
const AT_ONCE: usize = 16;

impl Registry {
    /// # Errors
    /// [`RegistryError::Listed`] if an index needs the manifest, or so many list it that nobody looks at them all.
    pub(in crate::registry) async fn check_unlisted(
        &self,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<()> {
        let most = self.settings.limits.indexes_looked_at;
        let mut seen = BTreeSet::from([digest.clone()]);
        // What is listed, and the index that lists the manifest itself, on the way there.
        let mut wanted = VecDeque::from([(digest.clone(), None::<Digest>)]);
        while let Some((listed, index)) = wanted.pop_front() {
            let mut after = None;
            loop {
                let (indexes, more) = self.indexes_of(repository, &listed, after.as_deref()).await?;
                let unseen: Vec<_> = indexes
                    .into_iter()
                    .filter(|index| seen.insert(index.clone()))
                    .collect();
                let tags = stream::iter(unseen).map(|parent| async move {
                    let tag = self.some_tag(repository, &parent).await?;
                    Ok::<_, RegistryError>((parent, tag))
                });
                let mut tags = pin!(tags.buffered(AT_ONCE));
                while let Some((parent, tag)) = tags.try_next().await? {
                    let direct = index.clone().unwrap_or_else(|| parent.clone());
                    let why = match tag {
                        Some(tag) if direct == parent => Needed::Tagged(tag),
                        Some(tag) => Needed::Within(parent, tag),
                        None if seen.len() > most => Needed::Many(most),
                        None => {
                            wanted.push_back((parent, Some(direct)));
                            continue;
                        }
                    };
                    return Err(RegistryError::Listed {
                        index: direct,
                        why: Box::new(why),
                    });
                }
                after = more;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Indexes that list the manifest: some of them, and where the others begin.
    async fn indexes_of(
        &self,
        repository: &RepoName,
        listed: &Digest,
        after: Option<&str>,
    ) -> Result<(Vec<Digest>, Option<String>)> {
        let prefix = keys::references_to(listed);
        let (space, partition) = (Space::Manifests, repository.as_str());
        let page = self.meta.range(space, partition, &prefix, after, MAX_OPS).await?;
        let parents = page
            .entries
            .iter()
            .map(|entry| row::digest(&entry.sort[prefix.len()..]));
        let parents = parents.collect::<Result<Vec<_>>>()?;
        let wanted: Vec<_> = parents
            .iter()
            .map(|parent| keys::manifest(repository, parent))
            .collect();
        let mut indexes = Vec::new();
        for (parent, found) in parents.into_iter().zip(self.get_all(&wanted).await?) {
            let Some(manifest) = row::live(found.as_ref())? else {
                continue;
            };
            match row::media_type(&manifest.media_type)?.manifest_kind() {
                Some(ManifestKind::Index | ManifestKind::DockerList) => indexes.push(parent),
                Some(ManifestKind::Image | ManifestKind::DockerManifest) | None => {}
            }
        }
        let last = page.entries.into_iter().next_back();
        Ok((indexes, last.filter(|_| page.more).map(|last| last.sort)))
    }

    /// One of the tags that name the manifest, if any does.
    async fn some_tag(&self, repository: &RepoName, digest: &Digest) -> Result<Option<Tag>> {
        let prefix = keys::tags_of(digest);
        let (space, partition) = (Space::Repositories, repository.as_str());
        let page = self.meta.range(space, partition, &prefix, None, 1).await?;
        let tag = page
            .entries
            .first()
            .map(|entry| Tag::parse(&entry.sort[prefix.len()..]));
        tag.transpose()
            .map_err(|error| row::corrupt("read a manifest's tags", error))
    }
}

#[cfg(test)]
mod tests;
