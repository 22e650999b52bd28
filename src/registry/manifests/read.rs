//! Reading manifests, by digest or by tag.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::{
    super::{Registry, RegistryError, Result, pause::Pause, row},
    recent::Held,
};
use crate::{
    oci::{Descriptor, Digest, Reference, RepoName, Tag},
    storage::{StoreErrorKind, keys, rows, rows::manifest::Body},
};

/// How often a tag whose manifest isn't there is read again: a store may show one row of a transaction before another.
const REREADS: usize = 3;

impl Registry {
    /// What the reference names: one read, or two for a digest whose repository has changed since it was read last.
    pub async fn describe_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<Descriptor> {
        let digest = match reference {
            Reference::Tag(tag) => return self.tagged(repository, tag).await,
            Reference::Digest(digest) => digest,
        };
        if let Some(held) = self.still_held(repository, digest).await? {
            return Ok(held.descriptor.clone());
        }
        let manifest = self.live_manifest(repository, digest).await?;
        describe(digest, &manifest.ok_or(RegistryError::ManifestUnknown)?)
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
            let recent = self.recent.find(repository, &tagged.digest);
            if let Some(held) = recent.filter(|held| held.descriptor == tagged) {
                return Ok(held);
            }
            if let Some(held) = self.hold(repository, &tagged.digest).await? {
                return Ok(held);
            }
            if reads == REREADS {
                return Err(RegistryError::ManifestUnknown);
            }
            reads += 1;
            pause.wait(Instant::now() + self.settings.commit_within).await;
        }
    }

    /// The manifest, if it was read lately and the repository hasn't changed since.
    async fn still_held(&self, repository: &RepoName, digest: &Digest) -> Result<Option<Arc<Held>>> {
        let Some(held) = self.recent.find(repository, digest) else {
            return Ok(None);
        };
        let row = self.meta.get(&keys::repository(repository)).await?;
        let is_unchanged = row.is_some_and(|row| Some(row.version) == held.repository);
        Ok(is_unchanged.then_some(held))
    }

    /// Reads the manifest, and keeps it for those who ask next.
    async fn hold(&self, repository: &RepoName, digest: &Digest) -> Result<Option<Arc<Held>>> {
        let wanted = [keys::repository(repository), keys::manifest(repository, digest)];
        let (version, manifest) = match self.meta.snapshot(&wanted).await {
            Ok(rows) => match rows.as_slice() {
                [Some(row), manifest] => (Some(row.version), super::live(manifest.as_ref())?),
                _ => (None, None),
            },
            // Pushes never leave the repository alone. Nothing is known of it then, but the manifest can be read.
            Err(error) if error.kind() == StoreErrorKind::Contended => {
                (None, self.live_manifest(repository, digest).await?)
            }
            Err(error) => return Err(error.into()),
        };
        let Some(manifest) = manifest else {
            return Ok(None);
        };
        let descriptor = describe(digest, &manifest)?;
        // A document stays as it is, whatever becomes of the repository.
        let kept = self.recent.find(repository, digest);
        let document = match kept.filter(|kept| kept.descriptor == descriptor) {
            Some(kept) => kept.document.clone(),
            None => self.document(manifest).await?,
        };
        let held = Arc::new(Held {
            descriptor,
            document,
            repository: version,
        });
        if held.repository.is_some() {
            self.recent.keep(repository, held.clone());
        }
        Ok(Some(held))
    }

    async fn tagged(&self, repository: &RepoName, tag: &Tag) -> Result<Descriptor> {
        let found = self.meta.get(&keys::tag(repository, tag)).await?;
        let tag: rows::Tag = row::read(&found.ok_or(RegistryError::ManifestUnknown)?)?;
        Ok(Descriptor {
            media_type: row::media_type(&tag.media_type)?,
            digest: row::digest(&tag.digest)?,
            size: tag.size,
        })
    }

    /// The manifest's row, unless it is absent or deleted.
    pub(in crate::registry) async fn live_manifest(
        &self,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<Option<rows::Manifest>> {
        super::live(self.meta.get(&keys::manifest(repository, digest)).await?.as_ref())
    }

    /// The manifest's bytes.
    pub(in crate::registry) async fn document(&self, manifest: rows::Manifest) -> Result<Bytes> {
        let size = manifest.size;
        let document = match manifest.body {
            Some(Body::Inline(document)) => document,
            Some(Body::ObjectKey(key)) => self.object(&key, size).await?,
            None => return Err(row::corrupt("read a manifest", "no body")),
        };
        match document.len() as u64 {
            length if length == size => Ok(document),
            _ => Err(row::corrupt("read a manifest", "its length is wrong")),
        }
    }

    /// The bytes of a manifest that is too long for its row. Those who want it at the same time share one read.
    async fn object(&self, key: &str, size: u64) -> Result<Bytes> {
        let Some(last) = size.checked_sub(1) else {
            return Ok(Bytes::new());
        };
        let key = row::object_key(key)?;
        let read = || {
            let (blobs, key) = (self.blobs.clone(), key.clone());
            async move {
                let mut stream = blobs.get(&key, 0, last).await?;
                let mut document = BytesMut::new();
                while let Some(chunk) = stream.next().await {
                    document.extend_from_slice(&chunk?);
                }
                Ok(document.freeze())
            }
        };
        Ok(self.documents.wait(&key, "get", read).await?)
    }
}

fn describe(digest: &Digest, manifest: &rows::Manifest) -> Result<Descriptor> {
    let media_type = row::media_type(&manifest.media_type)?;
    Ok(Descriptor {
        media_type,
        digest: digest.clone(),
        size: manifest.size,
    })
}
