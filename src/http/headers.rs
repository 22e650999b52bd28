//! Headers of requests as values.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::error::{self, Answer};
use crate::{
    admission::Body,
    oci::{ChunkRange, Digest, EntityTags, Preconditions, RangeError},
};

/// `Content-Length`, which hyper has already held against the rest of the head.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim_ascii()
        .parse()
        .ok()
}

/// How long the body will be, where that is known beforehand.
pub(super) fn announced(headers: &HeaderMap, body: &Body) -> Option<u64> {
    content_length(headers).or_else(|| http_body::Body::size_hint(body).exact())
}

/// Under which conditions a change is asked for. What can't be read is refused: without it the change would be made.
pub(super) fn preconditions(headers: &HeaderMap) -> Result<Preconditions, Answer> {
    let read = |name: HeaderName| -> Result<Option<EntityTags>, Answer> {
        let values = headers.get_all(&name).into_iter().map(HeaderValue::as_bytes);
        EntityTags::parse(values).map_err(|error| error::bad_precondition(&name, &error))
    };
    Ok(Preconditions {
        if_match: read(header::IF_MATCH)?,
        if_none_match: read(header::IF_NONE_MATCH)?,
    })
}

/// Whether a read that finds `digest` finds what its client has already (`If-None-Match`).
///
/// A list that can't be read is no condition: there is nothing that a read could harm.
///
/// # Errors
/// 412 where it isn't what the client wants to read (`If-Match`: RFC 9110, 13.1.1).
pub(super) fn is_known(headers: &HeaderMap, digest: &Digest) -> Result<bool, Answer> {
    let read = |name: HeaderName| {
        let values = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
        EntityTags::parse(values).unwrap_or_default()
    };
    let conditions = Preconditions {
        if_match: read(header::IF_MATCH),
        if_none_match: read(header::IF_NONE_MATCH),
    };
    if !conditions.if_match_holds(Some(digest)) {
        return Err(error::precondition_failed(digest));
    }
    Ok(!conditions.hold(Some(digest)))
}

/// Which part of a blob a request brings, where it says so.
pub(super) fn chunk_range(headers: &HeaderMap) -> Result<Option<ChunkRange>, Answer> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let range = value
        .to_str()
        .map_err(|_| RangeError::ChunkRange)
        .and_then(ChunkRange::parse);
    range.map(Some).map_err(|error| error::bad_chunk_range(&error))
}
