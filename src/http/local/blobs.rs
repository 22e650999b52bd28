//! Blobs: read whole or in part, asked for, mounted, pushed in one go.

use futures_util::TryStreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::time::Instant;

use super::{
    byteranges::Multipart,
    outcome::{Local, Outcome, Refusal},
};
use crate::{
    admission::{self, BlobSource, Body, BodyError, Grants},
    http::{
        error,
        headers::{announced, is_known, preconditions},
        reply::{Reply, etag},
    },
    oci::{Action, ByteRanges, Digest, MediaType, RepoName, ResolvedRange, leaves_open, paths},
    registry::{Blob, MountSource, Mounted, Taken},
    storage::ByteStream,
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
        if is_known(headers, digest)? {
            return Ok(described(StatusCode::NOT_MODIFIED, digest, &etag).empty());
        }
        if !headers.contains_key(header::RANGE)
            && let Some(link) = self.registry.elsewhere(&blob).await
        {
            let reply = Reply::new(StatusCode::TEMPORARY_REDIRECT).content_digest(digest);
            return Ok(reply.location(link.expose()).empty());
        }
        let source = BlobSource {
            digest: digest.clone(),
            length: blob.size,
            object_key: Some(blob.object_key.clone()),
        };
        let typed = |status, content_type: &str| {
            described(status, digest, &etag)
                .header("accept-ranges", "bytes")
                .header("content-type", content_type)
                .extension(source)
        };
        match wanted(headers, &etag, digest, blob.size)? {
            Wanted::Part(range) => {
                let content_range = format!("bytes {}-{}/{}", range.first, range.last, blob.size);
                let taken = match leaves_open(headers) {
                    true => Taken::Perhaps,
                    false => Taken::Whole,
                };
                let body = self.bytes_of(&blob, range, taken).await?;
                let reply = typed(StatusCode::PARTIAL_CONTENT, MediaType::OCTET_STREAM)
                    .header("content-range", content_range);
                Ok(reply.stream(range.len(), body))
            }
            Wanted::Parts(ranges, multipart) => {
                let reply = typed(StatusCode::PARTIAL_CONTENT, &multipart.content_type());
                let length = multipart.len();
                let parts = self.registry.read_each(blob, ranges).await?;
                Ok(reply.stream(length, body_of(multipart.around(parts))))
            }
            Wanted::Whole => {
                let body = match blob.size.checked_sub(1) {
                    Some(last) => {
                        let all = ResolvedRange { first: 0, last };
                        self.bytes_of(&blob, all, Taken::Whole).await?
                    }
                    None => admission::empty(),
                };
                let reply =
                    typed(StatusCode::OK, MediaType::OCTET_STREAM).location(paths::blob(repository, digest));
                Ok(reply.stream(blob.size, body))
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
        if is_known(headers, digest)? {
            return Ok(described(StatusCode::NOT_MODIFIED, digest, &etag).empty());
        }
        let reply = described(StatusCode::OK, digest, &etag)
            .location(paths::blob(repository, digest))
            .header("accept-ranges", "bytes")
            .header("content-type", MediaType::OCTET_STREAM);
        Ok(reply.head(blob.size))
    }

    async fn bytes_of(&self, blob: &Blob, range: ResolvedRange, taken: Taken) -> Result<Body, Refusal> {
        Ok(body_of(self.registry.read(blob, range, taken).await?))
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

fn body_of(stream: ByteStream) -> Body {
    let frames = stream.map_ok(Frame::data).map_err(BodyError::Store);
    StreamBody::new(frames).boxed_unsync()
}

/// What is said of a blob whether or not its bytes follow.
pub(super) fn described(status: StatusCode, digest: &Digest, etag: &HeaderValue) -> Reply {
    let etag = String::from_utf8_lossy(etag.as_bytes());
    Reply::new(status).content_digest(digest).header("etag", etag)
}

/// The answer to a blob that is now in `repository`.
pub(super) fn created(repository: &RepoName, digest: &Digest) -> http::Response<Body> {
    Reply::new(StatusCode::CREATED)
        .location(paths::blob(repository, digest))
        .content_digest(digest)
        .empty()
}

/// What of a blob is asked for.
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// One part.
    Part(ResolvedRange),
    /// Several, and how they are answered.
    Parts(Vec<ResolvedRange>, Multipart),
}

/// All of an empty blob is asked for whatever the range, as Go's servers have it: there is no part of it to begin a fetch in
/// pieces with. So is all of one that is shorter than its parts would be, with what stands around them.
pub(super) fn wanted(
    headers: &HeaderMap,
    etag: &HeaderValue,
    digest: &Digest,
    size: u64,
) -> Result<Wanted, Refusal> {
    let Some(range) = headers.get(header::RANGE) else {
        return Ok(Wanted::Whole);
    };
    if headers
        .get(header::IF_RANGE)
        .is_some_and(|validator| validator != etag)
    {
        return Ok(Wanted::Whole);
    }
    let text = range.to_str().unwrap_or_default();
    let ranges = ByteRanges::parse(text).map_err(|error| error::range_not_satisfiable(size, &error))?;
    let Some(ranges) = ranges.filter(|_| size > 0) else {
        return Ok(Wanted::Whole);
    };
    let parts = ranges.resolve(size);
    let parts = parts.map_err(|error| error::range_not_satisfiable(size, &error))?;
    if let [only] = parts[..] {
        return Ok(Wanted::Part(only));
    }
    let multipart = Multipart::new(digest, size, &parts);
    Ok(match multipart.len() <= size {
        true => Wanted::Parts(parts, multipart),
        false => Wanted::Whole,
    })
}
