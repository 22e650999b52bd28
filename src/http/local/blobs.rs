//! Blobs: read whole or in part, asked for, mounted, pushed in one go.

use futures_util::TryStreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::time::Instant;

use super::{
    Local, Outcome, Refusal, announced, is_known, preconditions,
    reply::{Reply, blob_path, etag},
};
use crate::{
    admission::{self, BlobSource, Body, BodyError, Grants},
    http::error,
    oci::{Action, ByteRange, Digest, MediaType, RepoName, ResolvedRange},
    registry::{Blob, MountSource, Mounted},
};

impl Local {
    pub(super) async fn get_blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        headers: &HeaderMap,
    ) -> Outcome {
        let blob = self.registry.blob(repository, digest).await?;
        let etag = etag(digest);
        if is_known(headers, &etag) {
            return Ok(described(StatusCode::NOT_MODIFIED, digest, &etag).empty());
        }
        let source = BlobSource {
            digest: digest.clone(),
            length: blob.size,
            object_key: blob.object_key.clone(),
        };
        let typed = |status| {
            described(status, digest, &etag)
                .header("accept-ranges", "bytes")
                .header("content-type", MediaType::OCTET_STREAM)
                .extension(source)
        };
        match wanted_range(headers, &etag, blob.size)? {
            Some(range) => {
                let content_range = format!("bytes {}-{}/{}", range.first, range.last, blob.size);
                let body = self.bytes_of(&blob, range).await?;
                let reply = typed(StatusCode::PARTIAL_CONTENT).header("content-range", content_range);
                Ok(reply.stream(range.len(), body))
            }
            None => {
                let body = match blob.size.checked_sub(1) {
                    Some(last) => self.bytes_of(&blob, ResolvedRange { first: 0, last }).await?,
                    None => admission::empty(),
                };
                Ok(typed(StatusCode::OK).stream(blob.size, body))
            }
        }
    }

    pub(super) async fn head_blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        headers: &HeaderMap,
    ) -> Outcome {
        let blob = self.registry.whole_blob(repository, digest).await?;
        let etag = etag(digest);
        if is_known(headers, &etag) {
            return Ok(described(StatusCode::NOT_MODIFIED, digest, &etag).empty());
        }
        let reply = described(StatusCode::OK, digest, &etag)
            .header("accept-ranges", "bytes")
            .header("content-type", MediaType::OCTET_STREAM);
        Ok(reply.head(blob.size))
    }

    async fn bytes_of(&self, blob: &Blob, range: ResolvedRange) -> Result<Body, Refusal> {
        let stream = self.registry.read(blob, range).await?;
        let frames = stream.map_ok(Frame::data).map_err(BodyError::Store);
        Ok(StreamBody::new(frames).boxed_unsync())
    }

    pub(super) async fn push_blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        headers: &HeaderMap,
        body: Body,
    ) -> Outcome {
        let length = announced(headers, &body);
        self.registry
            .push_blob(repository, digest, length, body.into_data_stream())
            .await?;
        Ok(created(repository, digest))
    }

    pub(super) async fn delete_blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        headers: &HeaderMap,
        deadline: Instant,
    ) -> Outcome {
        // Content under a digest is never another, so the condition holds or not whatever happens meanwhile.
        if !preconditions(headers)?.hold(Some(digest)) {
            let there = self.registry.blob(repository, digest).await?;
            return Err(error::precondition_failed(&there.digest).into());
        }
        self.registry.delete_blob(repository, digest, deadline).await?;
        Ok(Reply::new(StatusCode::ACCEPTED).empty())
    }

    /// A mount that can't happen, for whatever reason, is a session: containerd gives up on anything else. So "there is
    /// no such blob" and "you may not read it there" look the same.
    pub(super) async fn mount_blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        from: Option<RepoName>,
        grants: &Grants,
    ) -> Outcome {
        let source = match &from {
            Some(from) if grants.allows(from, Action::Read) => Some(MountSource::Repository(from)),
            None if grants.visible().is_everything() => Some(MountSource::Anywhere),
            Some(_) | None => None,
        };
        if let Some(source) = source {
            match self.registry.mount(repository, digest, source).await? {
                Mounted::Linked => return Ok(created(repository, digest)),
                Mounted::NotHere => {}
            }
        }
        self.start_upload(repository, Some(digest.algorithm())).await
    }
}

/// What is said of a blob whether or not its bytes follow. They never change.
fn described(status: StatusCode, digest: &Digest, etag: &HeaderValue) -> Reply {
    let etag = String::from_utf8_lossy(etag.as_bytes());
    Reply::new(status)
        .content_digest(digest)
        .header("etag", etag)
        .header("cache-control", "public, max-age=31536000, immutable")
}

/// The answer to a blob that is now in `repository`.
pub(super) fn created(repository: &RepoName, digest: &Digest) -> http::Response<Body> {
    Reply::new(StatusCode::CREATED)
        .location(blob_path(repository, digest))
        .content_digest(digest)
        .empty()
}

/// The part of the blob that is asked for; `None` is all of it. Several ranges at once are answered with all of it.
fn wanted_range(
    headers: &HeaderMap,
    etag: &HeaderValue,
    size: u64,
) -> Result<Option<ResolvedRange>, Refusal> {
    let Some(range) = headers.get(header::RANGE) else {
        return Ok(None);
    };
    if headers
        .get(header::IF_RANGE)
        .is_some_and(|validator| validator != etag)
    {
        return Ok(None);
    }
    let text = range.to_str().unwrap_or_default();
    let range = ByteRange::parse(text).map_err(|error| error::range_not_satisfiable(size, &error))?;
    let resolve = |range: ByteRange| range.resolve(size);
    Ok(range
        .map(resolve)
        .transpose()
        .map_err(|error| error::range_not_satisfiable(size, &error))?)
}
