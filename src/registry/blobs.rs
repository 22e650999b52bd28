//! Blobs that a repository holds: read, mounted from elsewhere, let go.

use futures_util::stream;
use tokio::time::Instant;

use super::{
    Registry, RegistryError, Result,
    commit::{Change, Current, Plan},
    due,
    links::Recorded,
    pause::Pause,
    quota, row,
};
use crate::{
    oci::{Digest, RepoName, ResolvedRange},
    storage::{
        ByteStream, Expect, MAX_OPS, MetaStore, ObjectKey, Outcome, Space, StoreErrorKind, Version, keys,
        rows,
    },
};

/// A blob that a repository holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its object.
    pub object_key: ObjectKey,
}

/// Where a mount may take a blob from.
#[derive(Clone, Copy, Debug)]
pub enum MountSource<'a> {
    /// From this repository, which the caller may read.
    Repository(&'a RepoName),
    /// From any: the caller may read them all.
    Anywhere,
}

/// How a mount ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// The repository holds the blob.
    Linked,
    /// The source doesn't hold it; the client has to send it.
    NotHere,
}

impl Registry {
    /// The blob, if the repository holds it.
    pub async fn blob(&self, repository: &RepoName, digest: &Digest) -> Result<Blob> {
        let found = self.meta.get(&keys::link(digest, repository)).await?;
        let link: rows::Link = row::read(&found.ok_or(RegistryError::BlobUnknown)?)?;
        let object_key = row::object_key(&link.object_key)?;
        Ok(Blob {
            digest: digest.clone(),
            size: link.size,
            object_key,
        })
    }

    /// The bytes of `blob` in `range`; of an empty blob none, whatever the range.
    pub async fn read(&self, blob: &Blob, range: ResolvedRange) -> Result<ByteStream> {
        if blob.size == 0 {
            return Ok(Box::pin(stream::empty()));
        }
        Ok(self.blobs.get(&blob.object_key, range.first, range.last).await?)
    }

    /// Makes the repository hold a blob that is in the store already.
    pub async fn mount(
        &self,
        repository: &RepoName,
        digest: &Digest,
        from: MountSource<'_>,
    ) -> Result<Mounted> {
        let target = keys::link(digest, repository);
        let mut wanted = vec![target.clone(), keys::blob(digest)];
        if let MountSource::Repository(source) = from
            && source != repository
        {
            wanted.push(keys::link(digest, source));
        }
        let (deadline, mut pause) = (self.commit_deadline(), Pause::new());
        for _ in 0..self.settings.attempts {
            let found = self.meta.get_many(&wanted).await?;
            let [held, Some(record), rest @ ..] = found.as_slice() else {
                return Ok(Mounted::NotHere);
            };
            let source = match from {
                MountSource::Repository(source) if source == repository => held.as_ref(),
                MountSource::Repository(_) => rest.first().and_then(Option::as_ref),
                MountSource::Anywhere => Some(record),
            };
            if source.is_none() {
                return Ok(Mounted::NotHere);
            }
            let to = Recorded::found(digest, record)?;
            let mut held = held.clone();
            let counted = self.count(repository, digest, &mut held, to.size).await?;
            let expect = Expect::unchanged(held.as_ref());
            let mut ops = vec![self.link(repository, digest, &to, counted.place, expect)];
            ops.extend(counted.ops);
            ops.extend(self.beside_link(repository, digest, &to));
            ops.push(to.op);
            let version = Version::random();
            match self.meta.transact(version, &ops).await {
                Ok(Outcome::Committed) => return Ok(Mounted::Linked),
                Ok(Outcome::Refused { .. }) => {}
                // No row fences a mount, so it is not sent again: if it isn't there, the client sends the blob.
                Ok(Outcome::Unknown) => {
                    let now = self
                        .meta
                        .get(&target)
                        .await
                        .map_err(|_| RegistryError::OutcomeUnknown)?;
                    let is_ours = now.is_some_and(|row| row.version == version);
                    return Ok(if is_ours {
                        Mounted::Linked
                    } else {
                        Mounted::NotHere
                    });
                }
                Err(error) if error.kind() == StoreErrorKind::Contended => {}
                Err(error) => return Err(error.into()),
            }
            pause.wait(deadline).await;
        }
        Err(RegistryError::Contended)
    }

    /// Lets the blob go from the repository, if no manifest there refers to it.
    pub async fn delete_blob(&self, repository: &RepoName, digest: &Digest, deadline: Instant) -> Result<()> {
        let due_ms = due::after(self.settings.link_grace);
        self.commit(
            repository,
            deadline,
            Unlink {
                meta: &*self.meta,
                repository,
                digest,
                due_ms,
            },
        )
        .await
    }
}

/// The end of a link (rule G2).
struct Unlink<'a> {
    meta: &'a dyn MetaStore,
    repository: &'a RepoName,
    digest: &'a Digest,
    due_ms: u64,
}

impl Change for Unlink<'_> {
    type Outcome = ();

    async fn plan(&mut self, current: &Current) -> Result<Plan<()>> {
        let key = keys::link(self.digest, self.repository);
        let link = self.meta.get(&key).await?.ok_or(RegistryError::BlobUnknown)?;
        if let Some(manifest) = self.user().await? {
            return Err(RegistryError::Referenced { manifest });
        }
        let mut ops = vec![
            // A link that was made anew meanwhile is another one.
            key.delete(Expect::Version(link.version)),
            keys::linked_blob(self.repository, self.digest).delete(Expect::Any),
            due::digest(self.due_ms, self.digest),
        ];
        ops.extend(quota::discount(self.meta, &link).await?);
        Ok(Plan::Apply {
            ops,
            manifests: current.manifests(),
            outcome: (),
        })
    }
}

impl Unlink<'_> {
    /// A manifest of the repository that refers to the blob. References may outlive their manifests.
    async fn user(&self) -> Result<Option<Digest>> {
        let prefix = keys::references_to(self.digest);
        let mut after: Option<String> = None;
        loop {
            let (space, partition) = (Space::Manifests, self.repository.as_str());
            let page = self
                .meta
                .range(space, partition, &prefix, after.as_deref(), MAX_OPS)
                .await?;
            let parents = page
                .entries
                .iter()
                .map(|entry| row::digest(&entry.sort[prefix.len()..]));
            let parents = parents.collect::<Result<Vec<_>>>()?;
            let wanted: Vec<_> = parents
                .iter()
                .map(|parent| keys::manifest(self.repository, parent))
                .collect();
            if !wanted.is_empty() {
                let found = self.meta.get_many(&wanted).await?;
                for (parent, found) in parents.into_iter().zip(found) {
                    if super::manifests::live(found.as_ref())?.is_some() {
                        return Ok(Some(parent));
                    }
                }
            }
            after = match page.entries.into_iter().next_back() {
                Some(last) if page.more => Some(last.sort),
                _ => return Ok(None),
            };
        }
    }
}
