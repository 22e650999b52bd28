//! Reading manifests, by digest or by tag.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::super::{
    Damage, Registry, RegistryError, Result,
    noted::Noted,
    objects::{READS, Written, is},
    pause::Pause,
    row,
};
use crate::{
    oci::{Descriptor, Digest, Reference, RepoName, Tag},
    storage::{keys, rows, rows::manifest::Body},
};

/// How often a tag whose manifest isn't there is read again: a store may show one row of a transaction before another.
const REREADS: usize = 3;

/// A manifest that was read.
#[derive(Clone, Debug)]
pub(in crate::registry) struct Held {
    pub(in crate::registry) descriptor: Descriptor,
    pub(in crate::registry) document: Bytes,
    /// Where the document lies that is too long for its row.
    object: Option<Written>,
}

impl Registry {
    /// What the reference names: one read, or two for a digest whose repository has changed since it was read last, and a
    /// look at the object of a document that is too long for its row. One that is lost or damaged isn't known: who pushes
    /// is to send it again.
    pub async fn describe_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<Descriptor> {
        let (descriptor, object) = match reference {
            Reference::Tag(tag) => {
                let descriptor = self.tagged(repository, tag).await?;
                let object = self.object_of(repository, &descriptor).await?;
                (descriptor, object)
            }
            Reference::Digest(digest) => match self.still_held(repository, digest).await? {
                Some(held) => (held.descriptor.clone(), held.object.clone()),
                None => {
                    let manifest = self.live_manifest(repository, digest).await?;
                    let manifest = manifest.ok_or(RegistryError::ManifestUnknown)?;
                    (describe(digest, &manifest)?, written(&manifest)?)
                }
            },
        };
        let digest = &descriptor.digest;
        if let Some(object) = object
            && let Some(damage) = self.look(&object).await
            // It may have been pushed again meanwhile.
            && self.object_of_row(repository, digest).await? == Some(object.clone())
        {
            tracing::warn!(%repository, %digest, key = %object.key, %damage, "a manifest counts as unknown");
            return Err(RegistryError::ManifestUnknown);
        }
        Ok(descriptor)
    }

    /// The object of a manifest that a tag names, if the manifest is too long for its row.
    async fn object_of(&self, repository: &RepoName, tagged: &Descriptor) -> Result<Option<Written>> {
        if tagged.size <= self.settings.limits.inline_manifest as u64 {
            return Ok(None);
        }
        // What is known of the object may have changed since it was read.
        match self.still_held(repository, &tagged.digest).await? {
            Some(held) => Ok(held.object.clone()),
            None => self.object_of_row(repository, &tagged.digest).await,
        }
    }

    async fn object_of_row(&self, repository: &RepoName, digest: &Digest) -> Result<Option<Written>> {
        let manifest = self.live_manifest(repository, digest).await?;
        Ok(manifest.as_ref().map(written).transpose()?.flatten())
    }

    /// What the reference names, and its document.
    pub async fn manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<(Descriptor, Bytes)> {
        let held = match reference {
            Reference::Tag(tag) => self.follow(repository, tag).await?,
            Reference::Digest(digest) => match self.still_held(repository, digest).await? {
                Some(held) => held,
                None => self
                    .hold(repository, digest)
                    .await?
                    .ok_or(RegistryError::ManifestUnknown)?,
            },
        };
        Ok((held.descriptor.clone(), held.document.clone()))
    }

    /// The manifest that the tag names. That it does means that the manifest is there: they go together.
    async fn follow(&self, repository: &RepoName, tag: &Tag) -> Result<Arc<Held>> {
        let mut pause = Pause::new();
        let mut reads = 0;
        loop {
            let tagged = self.tagged(repository, tag).await?;
            if let Some(Noted { value: held, .. }) = self.find_manifest(repository, &tagged.digest)
                && held.descriptor == tagged
            {
                return Ok(held);
            }
            if let Some(held) = self.hold(repository, &tagged.digest).await? {
                return Ok(held);
            }
            if reads == REREADS {
                return Err(RegistryError::ManifestUnknown);
            }
            reads += 1;
            pause
                .wait(Instant::now() + self.settings.limits.commit_within)
                .await;
        }
    }

    /// The manifest as it was read last.
    fn find_manifest(&self, repository: &RepoName, digest: &Digest) -> Option<Noted<Held>> {
        let name = (repository.clone(), digest.clone());
        self.remembered.manifests.find(&name)
    }

    /// The manifest, if it was read lately and the repository hasn't changed since.
    async fn still_held(&self, repository: &RepoName, digest: &Digest) -> Result<Option<Arc<Held>>> {
        self.recall(repository, self.find_manifest(repository, digest))
            .await
    }

    /// Reads the manifest, and keeps it for those who ask next.
    async fn hold(&self, repository: &RepoName, digest: &Digest) -> Result<Option<Arc<Held>>> {
        let key = keys::manifest(repository, digest);
        let (found, version) = self.read_to_remember(repository, key).await?;
        let Some(manifest) = row::live(found.as_ref())? else {
            return Ok(None);
        };
        let descriptor = describe(digest, &manifest)?;
        // A document stays as it is, whatever becomes of the repository.
        let kept = self.find_manifest(repository, digest);
        let document = match kept.filter(|kept| kept.value.descriptor == descriptor) {
            Some(kept) => kept.value.document.clone(),
            None => self.document(repository, digest, manifest.clone()).await?,
        };
        let held = Arc::new(Held {
            descriptor,
            document,
            object: written(&manifest)?,
        });
        if let Some(version) = version {
            let value = held.clone();
            let name = (repository.clone(), digest.clone());
            self.remembered.manifests.keep(name, Noted { value, version });
        }
        Ok(Some(held))
    }

    async fn tagged(&self, repository: &RepoName, tag: &Tag) -> Result<Descriptor> {
        let found = self.meta.get(&keys::tag(repository, tag)).await?;
        tagged(&row::read(&found.ok_or(RegistryError::ManifestUnknown)?)?)
    }

    /// The manifest's row, unless it is absent or deleted.
    pub(in crate::registry) async fn live_manifest(
        &self,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<Option<rows::Manifest>> {
        row::live(self.meta.get(&keys::manifest(repository, digest)).await?.as_ref())
    }

    /// The manifest's bytes, which have its digest. Where they don't, the row is read again: a row may be read wrongly, too,
    /// or the document have been pushed again.
    pub(in crate::registry) async fn document(
        &self,
        repository: &RepoName,
        digest: &Digest,
        mut manifest: rows::Manifest,
    ) -> Result<Bytes> {
        let mut reads = 1;
        loop {
            let damage = match self.body(digest, &manifest).await? {
                Ok(document) => return Ok(document),
                Err(damage) => damage,
            };
            match self.live_manifest(repository, digest).await? {
                Some(now) if now.body != manifest.body && reads < READS => manifest = now,
                Some(_) | None => {
                    let digest = digest.clone();
                    return Err(RegistryError::ContentLost { digest, damage });
                }
            }
            reads += 1;
        }
    }

    async fn body(
        &self,
        digest: &Digest,
        manifest: &rows::Manifest,
    ) -> Result<std::result::Result<Bytes, Damage>> {
        match (&manifest.body, written(manifest)?) {
            (_, Some(object)) => self.whole(&object, digest).await,
            (Some(Body::Inline(document)), None) => Ok(match is(document, digest).await? {
                true => Ok(document.clone()),
                false => Err(Damage::Bytes),
            }),
            (_, None) => Err(row::corrupt("read a manifest", "no body")),
        }
    }
}

/// What a tag names, as its row says.
pub(super) fn tagged(tag: &rows::Tag) -> Result<Descriptor> {
    Ok(Descriptor {
        media_type: row::media_type(&tag.media_type)?,
        digest: row::digest(&tag.digest)?,
        size: tag.size,
    })
}

/// The object of a manifest that is too long for its row.
pub(in crate::registry) fn written(manifest: &rows::Manifest) -> Result<Option<Written>> {
    let Some(Body::ObjectKey(key)) = &manifest.body else {
        return Ok(None);
    };
    Ok(Some(Written {
        key: row::object_key(key)?,
        size: manifest.size,
        etag: manifest.object_etag.clone(),
    }))
}

pub(super) fn describe(digest: &Digest, manifest: &rows::Manifest) -> Result<Descriptor> {
    let media_type = row::media_type(&manifest.media_type)?;
    Ok(Descriptor {
        media_type,
        digest: digest.clone(),
        size: manifest.size,
    })
}
