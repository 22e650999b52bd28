//! Upload sessions.

use bytes::Bytes;
use futures_util::Stream;

use super::{Registry, Result};
use crate::{
    admission::BodyError,
    oci::{Algorithm, ChunkRange, Digest, RepoName, UploadId},
};

/// An upload session as its client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its name.
    pub id: UploadId,
    /// Bytes acknowledged.
    pub offset: u64,
}

impl Registry {
    /// Begins an upload. Its digest runs with `algorithm` (SHA-256 without); the digest that ends it may still be of
    /// another, at the price of reading everything again.
    pub async fn start_upload(&self, repository: &RepoName, algorithm: Option<Algorithm>) -> Result<Upload> {
        let _ = (repository, algorithm);
        todo!()
    }

    /// How far an upload got.
    pub async fn upload(&self, repository: &RepoName, id: &UploadId) -> Result<Upload> {
        let _ = (repository, id);
        todo!()
    }

    /// Adds the body to the upload: all of it, or nothing.
    pub async fn append<B>(
        &self,
        repository: &RepoName,
        id: &UploadId,
        range: Option<ChunkRange>,
        length: Option<u64>,
        body: B,
    ) -> Result<Upload>
    where
        B: Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin,
    {
        let _ = (repository, id, range, length, body);
        todo!()
    }

    /// Adds the body, and makes the repository hold the blob if it all has `digest`.
    pub async fn finish<B>(
        &self,
        repository: &RepoName,
        id: &UploadId,
        digest: &Digest,
        range: Option<ChunkRange>,
        length: Option<u64>,
        body: B,
    ) -> Result<()>
    where
        B: Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin,
    {
        let _ = (repository, id, digest, range, length, body);
        todo!()
    }

    /// Ends the upload and throws away what came.
    pub async fn cancel(&self, repository: &RepoName, id: &UploadId) -> Result<()> {
        let _ = (repository, id);
        todo!()
    }

    /// Takes a whole blob in one request.
    pub async fn push_blob<B>(
        &self,
        repository: &RepoName,
        digest: &Digest,
        length: Option<u64>,
        body: B,
    ) -> Result<()>
    where
        B: Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin,
    {
        let _ = (repository, digest, length, body);
        todo!()
    }
}
