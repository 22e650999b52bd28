//! Reading manifests, by digest or by tag.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::super::{Registry, RegistryError, Result, pause::Pause, row};
use crate::{
    oci::{Descriptor, Digest, Reference, RepoName, Tag},
    storage::{keys, rows, rows::manifest::Body},
};

/// How often a tag whose manifest isn't there is read again: a store may show one row of a transaction before another.
const REREADS: usize = 3;

impl Registry {
    /// What the reference names: one read.
    pub async fn describe_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<Descriptor> {
        match reference {
            Reference::Tag(tag) => self.tagged(repository, tag).await,
            Reference::Digest(digest) => {
                let manifest = self.live_manifest(repository, digest).await?;
                describe(digest, manifest.as_ref().ok_or(RegistryError::ManifestUnknown)?)
            }
        }
    }

    /// What the reference names, and its document.
    pub async fn manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<(Descriptor, Bytes)> {
        let (digest, manifest) = match reference {
            Reference::Tag(tag) => self.follow(repository, tag).await?,
            Reference::Digest(digest) => (digest.clone(), self.live_manifest(repository, digest).await?),
        };
        let manifest = manifest.ok_or(RegistryError::ManifestUnknown)?;
        let descriptor = describe(&digest, &manifest)?;
        Ok((descriptor, self.document(manifest).await?))
    }

    /// The manifest that the tag names.
    async fn follow(&self, repository: &RepoName, tag: &Tag) -> Result<(Digest, Option<rows::Manifest>)> {
        let mut pause = Pause::new();
        let mut reads = 0;
        loop {
            let digest = self.tagged(repository, tag).await?.digest;
            let manifest = self.live_manifest(repository, &digest).await?;
            if manifest.is_some() || reads == REREADS {
                return Ok((digest, manifest));
            }
            reads += 1;
            pause.wait(Instant::now() + self.settings.commit_within).await;
        }
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

    async fn object(&self, key: &str, size: u64) -> Result<Bytes> {
        let Some(last) = size.checked_sub(1) else {
            return Ok(Bytes::new());
        };
        let mut stream = self.blobs.get(&row::object_key(key)?, 0, last).await?;
        let mut document = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            document.extend_from_slice(&chunk?);
        }
        Ok(document.freeze())
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
