//! Upload sessions: begun, appended to, asked about, finished.

use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;

use super::{
    blobs,
    outcome::{Local, Outcome, Refusal},
};
use crate::{
    admission::Body,
    http::{
        error,
        headers::{announced, chunk_range},
        reply::Reply,
    },
    oci::{Algorithm, Digest, RepoName, UploadId},
    registry::RegistryError,
};

/// What a client should send at least in one chunk: the store's least part. Less is accepted.
const CHUNK_MIN_LENGTH: u64 = 5 * 1024 * 1024;

impl Local {
    pub(super) async fn start_upload(&self, repository: &RepoName, algorithm: Option<Algorithm>) -> Outcome {
        let upload = self.registry.start_upload(repository, algorithm).await?;
        let reply = Reply::new(StatusCode::ACCEPTED)
            .session(repository, &upload.id, upload.offset)
            .header("oci-chunk-min-length", CHUNK_MIN_LENGTH);
        Ok(reply.empty())
    }

    pub(super) async fn upload_status(&self, repository: &RepoName, id: &UploadId) -> Outcome {
        let upload = self.registry.upload(repository, id).await?;
        Ok(Reply::new(StatusCode::NO_CONTENT)
            .session(repository, id, upload.offset)
            .empty())
    }

    pub(super) async fn upload_chunk(
        &self,
        repository: &RepoName,
        id: &UploadId,
        headers: &HeaderMap,
        body: Body,
    ) -> Outcome {
        let range = chunk_range(headers)?;
        let length = announced(headers, &body);
        let appended = self
            .registry
            .append(repository, id, range, length, body.into_data_stream())
            .await;
        let upload = appended.map_err(|error| out_of_step(error, repository, id))?;
        Ok(Reply::new(StatusCode::ACCEPTED)
            .session(repository, id, upload.offset)
            .empty())
    }

    pub(super) async fn finish_upload(
        &self,
        repository: &RepoName,
        id: &UploadId,
        digest: &Digest,
        headers: &HeaderMap,
        body: Body,
    ) -> Outcome {
        let range = chunk_range(headers)?;
        let length = announced(headers, &body);
        let body = body.into_data_stream();
        let finished = self
            .registry
            .finish(repository, id, digest, range, length, body)
            .await;
        finished.map_err(|error| out_of_step(error, repository, id))?;
        Ok(blobs::created(repository, digest))
    }
}

/// A chunk that doesn't fit on is told where the session stands and goes on.
fn out_of_step(error: RegistryError, repository: &RepoName, id: &UploadId) -> Refusal {
    match error {
        RegistryError::RangeMismatch { offset } => error::out_of_step(repository, id, offset).into(),
        error => error.into(),
    }
}
