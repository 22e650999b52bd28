//! Upload sessions: begun, appended to, asked about, finished.

use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;

use super::{Local, Outcome, Refusal, announced, blobs};
use crate::{
    admission::Body,
    http::{error, reply::Reply},
    oci::{Algorithm, ChunkRange, Digest, RangeError, RepoName, UploadId},
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

fn chunk_range(headers: &HeaderMap) -> Result<Option<ChunkRange>, Refusal> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let range = value
        .to_str()
        .map_err(|_| RangeError::ChunkRange)
        .and_then(ChunkRange::parse);
    Ok(Some(range.map_err(|error| error::bad_chunk_range(&error))?))
}
