//! Manifests.

use bytes::Bytes;
use tokio::time::Instant;

use super::{Registry, Result};
use crate::oci::{Descriptor, Digest, MediaType, Reference, RepoName, Tag};

/// A manifest to be pushed.
#[derive(Clone, Debug)]
pub struct PutManifest<'a> {
    /// Where.
    pub repository: &'a RepoName,
    /// Under which tag or digest.
    pub reference: &'a Reference,
    /// Further tags that shall name it.
    pub tags: &'a [Tag],
    /// As what, if the client says.
    pub media_type: Option<MediaType>,
    /// The document.
    pub body: Bytes,
    /// Who pushes, for people to read.
    pub pushed_by: &'a str,
    /// What the caller may.
    pub may: MayPush,
    /// When nobody waits for the answer any more.
    pub deadline: Instant,
}

/// What the caller of a push may do. Which of them it takes is only known inside the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MayPush {
    /// Push what is new.
    pub create: bool,
    /// Let a tag name something else than before.
    pub update: bool,
}

/// A manifest that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its digest.
    pub digest: Digest,
    /// What it refers to.
    pub subject: Option<Digest>,
    /// The further tags ([`PutManifest::tags`]) that name it now, each once.
    pub tags: Vec<Tag>,
}

impl Registry {
    /// What the reference names.
    pub async fn describe_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<Descriptor> {
        let _ = (repository, reference);
        todo!()
    }

    /// What the reference names, and its document.
    pub async fn manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<(Descriptor, Bytes)> {
        let _ = (repository, reference);
        todo!()
    }

    /// Stores a manifest, and lets its tags name it.
    pub async fn put_manifest(&self, push: PutManifest<'_>) -> Result<Pushed> {
        let _ = push;
        todo!()
    }

    /// Deletes the tag, or the manifest with all its tags.
    pub async fn delete_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
        deadline: Instant,
    ) -> Result<()> {
        let _ = (repository, reference, deadline);
        todo!()
    }
}
