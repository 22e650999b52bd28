//! Blobs that a repository holds: read, mounted from elsewhere, let go.

use tokio::time::Instant;

use super::{Registry, Result};
use crate::{
    oci::{Digest, RepoName, ResolvedRange},
    storage::{ByteStream, ObjectKey},
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
        let _ = (repository, digest);
        todo!()
    }

    /// The bytes of `blob` in `range`; of an empty blob none, whatever the range.
    pub async fn read(&self, blob: &Blob, range: ResolvedRange) -> Result<ByteStream> {
        let _ = (blob, range);
        todo!()
    }

    /// Makes the repository hold a blob that is in the store already.
    pub async fn mount(
        &self,
        repository: &RepoName,
        digest: &Digest,
        from: MountSource<'_>,
    ) -> Result<Mounted> {
        let _ = (repository, digest, from);
        todo!()
    }

    /// Lets the blob go from the repository.
    pub async fn delete_blob(&self, repository: &RepoName, digest: &Digest, deadline: Instant) -> Result<()> {
        let _ = (repository, digest, deadline);
        todo!()
    }
}
