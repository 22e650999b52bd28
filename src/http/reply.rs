//! Responses, a header at a time.

use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    admission::{self, Body},
    oci::{Digest, RepoName, UploadId, paths},
};

/// What a query's value may hold unescaped (RFC 3986's unreserved characters).
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A response in the making.
pub(super) struct Reply(Response<Body>);

impl Reply {
    pub(super) fn new(status: StatusCode) -> Self {
        let mut response = Response::new(admission::empty());
        *response.status_mut() = status;
        Self(response)
    }

    /// Adds a header. Values are made of names, digests, media types and numbers: visible ASCII, all of them.
    pub(super) fn header(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.headers_mut().append(name, header_value(value));
        self
    }

    pub(super) fn location(self, path: impl fmt::Display) -> Self {
        self.header("location", path)
    }

    pub(super) fn content_digest(self, digest: &Digest) -> Self {
        self.header("docker-content-digest", digest)
    }

    /// Where an upload session stands and how it goes on.
    pub(super) fn session(self, repository: &RepoName, id: &UploadId, offset: u64) -> Self {
        let mut reply = self
            .location(paths::session(repository, id))
            .header("docker-upload-uuid", id);
        reply.0.headers_mut().insert(header::RANGE, session_range(offset));
        reply
    }

    pub(super) fn extension<T: Clone + Send + Sync + 'static>(mut self, extension: T) -> Self {
        self.0.extensions_mut().insert(extension);
        self
    }

    /// Not to be kept by anybody.
    pub(super) fn no_store(self) -> Self {
        self.header("cache-control", "no-store")
    }

    /// Without a body; its length is said where a status may have one.
    pub(super) fn empty(self) -> Response<Body> {
        match self.0.status() {
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => self.0,
            _ => self.header("content-length", 0).0,
        }
    }

    /// The head of a response whose body has `length` bytes, without the body.
    pub(super) fn head(self, length: u64) -> Response<Body> {
        self.header("content-length", length).0
    }

    pub(super) fn bytes(self, bytes: Bytes) -> Response<Body> {
        let length = bytes.len();
        self.header("content-length", length)
            .0
            .map(|_| admission::full(bytes))
    }

    pub(super) fn stream(self, length: u64, body: Body) -> Response<Body> {
        self.header("content-length", length).0.map(|_| body)
    }

    /// The head of a response whose end nobody knows, without the body.
    pub(super) fn unending(self) -> Response<Body> {
        self.0
    }

    pub(super) fn json(self, value: &serde_json::Value) -> Response<Body> {
        self.json_as("application/json", value)
    }

    pub(super) fn json_as(self, media_type: &'static str, value: &serde_json::Value) -> Response<Body> {
        self.header("content-type", media_type)
            .bytes(value.to_string().into())
    }
}

/// A header's value; of what isn't visible ASCII none.
fn header_value(value: impl fmt::Display) -> HeaderValue {
    HeaderValue::try_from(value.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A digest as a validator.
pub(super) fn etag(digest: &Digest) -> HeaderValue {
    header_value(format_args!("\"{digest}\""))
}

/// A digest as `Docker-Content-Digest` has it.
pub(super) fn content_digest(digest: &Digest) -> HeaderValue {
    header_value(digest)
}

/// What a session of `offset` bytes holds. An empty one says `0-0`, as every registry does: there is no right way.
pub(super) fn session_range(offset: u64) -> HeaderValue {
    header_value(format_args!("0-{}", offset.saturating_sub(1)))
}

/// The `Link` to the next page of `path`, with the parameters that lead there.
pub(super) fn next_page(path: impl fmt::Display, parameters: &[(&str, &str)]) -> String {
    let query: Vec<String> = parameters
        .iter()
        .map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, QUERY_VALUE)))
        .collect();
    format!("<{path}?{}>; rel=\"next\"", query.join("&"))
}
