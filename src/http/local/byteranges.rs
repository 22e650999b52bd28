//! Several ranges of a blob in one answer: `multipart/byteranges` (RFC 9110, 14.6).
//!
//! The same ranges of the same blob are the same bytes wherever they are made, boundary included: so a member whose peer
//! dies in the middle of such an answer can finish it.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    oci::{Digest, MediaType, ResolvedRange},
    storage::{ByteStream, StoreError},
};

/// A boundary has at most 70 characters (RFC 2046, 5.1.1).
const BOUNDARY_LEN: usize = 64;

/// What such an answer consists of.
pub(super) struct Multipart {
    boundary: String,
    // What stands before each part.
    heads: Vec<Bytes>,
    end: Bytes,
    length: u64,
}

impl Multipart {
    /// `parts` of a blob of `size` bytes.
    pub(super) fn new(digest: &Digest, size: u64, parts: &[ResolvedRange]) -> Self {
        // It mustn't occur in a part. Nobody can make a blob that has its own digest in it.
        let hex = digest.hex();
        let boundary = hex.get(..BOUNDARY_LEN).unwrap_or(hex).to_owned();
        let head = |(n, part): (usize, &ResolvedRange)| {
            let before = if n == 0 { "" } else { "\r\n" };
            let (first, last) = (part.first, part.last);
            let kind = MediaType::OCTET_STREAM;
            Bytes::from(format!(
                "{before}--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: bytes {first}-{last}/{size}\r\n\r\n"
            ))
        };
        let heads: Vec<Bytes> = parts.iter().enumerate().map(head).collect();
        let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        let around = heads
            .iter()
            .chain([&end])
            .map(|text| text.len() as u64)
            .sum::<u64>();
        let length = parts.iter().map(|part| part.len()).sum::<u64>() + around;
        Self {
            boundary,
            heads,
            end,
            length,
        }
    }

    /// Its `Content-Type`.
    pub(super) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// The whole of it; `parts` are the bytes of each.
    pub(super) fn around(
        self,
        parts: impl stream::Stream<Item = Result<ByteStream, StoreError>> + Send + 'static,
    ) -> ByteStream {
        let heads = stream::iter(self.heads);
        let with_heads = heads
            .zip(parts)
            .map(|(head, part)| part.map(|part| stream::once(async { Ok(head) }).chain(part)));
        let end = stream::once(async { Ok(self.end) });
        Box::pin(with_heads.try_flatten().chain(end))
    }
}
