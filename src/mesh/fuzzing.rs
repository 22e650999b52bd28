//! What the tests and fuzz targets throw bytes at: a peer's stream, from bytes on the wire to values. Compiled for them
//! alone, since nothing else outside this module has to see frames.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body::Frame;
use http_body_util::StreamBody;

use super::{
    frames::{Asked, Offered, read_request, read_response, request_head, response_head},
    pb,
    wire::{MAX_PIECE, Message, Reader},
};
use crate::placement::MemberId;

/// Bound of a head here.
const HEAD_BYTES: usize = 64 * 1024;

/// Reads `bytes`, which arrive `chunk` at a time, as what a front sends. Every head that is understood says the same
/// when it is written and read again.
pub fn requests(bytes: &[u8], chunk: usize) {
    for message in messages::<pb::Request>(bytes, chunk) {
        if let Ok(offered) = read_request(Some(message)) {
            let written = rendered(&offered);
            let again = read_request(Some(pb::Request {
                kind: Some(pb::request::Kind::Head(written.clone())),
            }));
            assert_eq!(again.map(|again| rendered(&again)).ok(), Some(written));
        }
    }
}

/// As [`requests`], of what an owner sends.
pub fn responses(bytes: &[u8], chunk: usize, peer: &MemberId) {
    for message in messages::<pb::Response>(bytes, chunk) {
        let Some(pb::response::Kind::Head(head)) = message.kind else {
            continue;
        };
        if let Ok((parts, length)) = read_response(head, peer) {
            let written = response_head(&parts, length);
            let again = read_response(written.clone(), peer);
            let again = again.map(|(parts, length)| response_head(&parts, length));
            assert_eq!(again.ok(), Some(written));
        }
    }
}

/// The messages that can be read, up to the first fault.
fn messages<M: Message>(bytes: &[u8], chunk: usize) -> Vec<M> {
    let chunks: Vec<_> = bytes
        .chunks(chunk.max(1))
        .map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect();
    let mut reader = Reader::<_, M>::new(StreamBody::new(futures_util::stream::iter(chunks)), HEAD_BYTES);
    let mut messages = Vec::new();
    // All of it is there, so nothing is waited for.
    while let Some(Ok(Some(message))) = reader.next().now_or_never() {
        assert!(message.as_piece().is_none_or(|piece| piece.len() <= MAX_PIECE));
        messages.push(message);
    }
    messages
}

/// The head that this one would be forwarded with. When nobody waits any more is counted from now, so it differs.
fn rendered(offered: &Offered) -> pb::RequestHead {
    let Offered {
        sender,
        recipient,
        asked,
        holder,
    } = offered;
    let asked: &Asked = asked;
    let mut head = request_head(asked, sender, recipient, *holder);
    head.deadline_ms = 0;
    head
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(n: u8) -> String {
        format!("127.0.0.{n}:5000")
    }

    prop_compose! {
        /// A head, most parts of which are as they should be.
        fn head()(
            method in "GET|PUT|POST|DELETE|P OST|",
            target in "/v2/(a/){1,3}(manifests/v1|tags/list|blobs/uploads/)|/v2/|[a-z/?%]{0,20}",
            headers in prop::collection::vec(("[a-z-]{1,8}|[A-Z: ]{0,3}", prop::collection::vec(any::<u8>(), 0..12)), 0..4),
            identity in prop::option::of(("[a-z]{0,5}", prop::collection::vec("[a-z]{0,3}", 0..3))),
            grants in prop::collection::vec(("a|a/a|[A-Z]", prop::collection::vec(-1..7i32, 0..4)), 0..3),
            words in ("127.0.0.1:1|[a-z: ]{0,5}", "[a-z,]{0,9}", "[ -~\n]{0,9}"),
            numbers in (0..3u32, 0..3u32, any::<u64>(), any::<bool>()),
            scheme in "http|https|[a-z]{0,3}",
        ) -> pb::RequestHead {
            pb::RequestHead {
                protocol_min: numbers.0,
                protocol_max: numbers.1,
                sender: member(1),
                recipient: member(2),
                method,
                target,
                headers: headers.into_iter().map(|(name, value)| pb::Header { name, value: value.into() }).collect(),
                identity: identity.map(|(user, groups)| pb::Identity { user, groups }),
                grants: grants.into_iter().map(|(repository, actions)| pb::Grant { repository, actions }).collect(),
                client_address: words.0,
                request_id: words.1,
                traceparent: words.2,
                deadline_ms: numbers.2,
                holder_unreachable: numbers.3,
                reads_everything: numbers.0 == 0,
                scheme,
            }
        }
    }

    fn framed(message: &impl prost::Message) -> Vec<u8> {
        let bytes = message.encode_to_vec();
        let mut framed = vec![0];
        framed.extend((bytes.len() as u32).to_be_bytes());
        framed.extend(bytes);
        framed
    }

    proptest! {
        #[test]
        fn any_head_of_a_request_is_refused_or_says_the_same_again(head in head(), chunk in 1..100usize) {
            let message = pb::Request { kind: Some(pb::request::Kind::Head(head)) };
            requests(&framed(&message), chunk);
        }

        #[test]
        fn any_head_of_a_response_is_refused_or_says_the_same_again(
            status in 90..700u32,
            headers in prop::collection::vec(("[a-z-]{1,8}|[A-Z: ]{0,3}", prop::collection::vec(any::<u8>(), 0..12)), 0..4),
            blob in prop::option::of(("sha256:[0-9a-f]{64}|[a-z:]{0,9}", any::<u64>(), "uploads/[0-9a-f/.]{0,9}")),
            content_length in prop::option::of(any::<u64>()),
            times in (any::<u64>(), any::<u64>(), any::<u64>()),
            chunk in 1..100usize,
        ) {
            let head = pb::ResponseHead {
                status,
                headers: headers.into_iter().map(|(name, value)| pb::Header { name, value: value.into() }).collect(),
                owner_us: times.0,
                store_us: times.1,
                upstream_us: times.2,
                blob: blob.map(|(digest, length, object_key)| pb::BlobSource { digest, length, object_key }),
                content_length,
            };
            let message = pb::Response { kind: Some(pb::response::Kind::Head(head)) };
            responses(&framed(&message), chunk, &member(2).parse().unwrap());
        }

        #[test]
        fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), chunk in 1..50usize) {
            requests(&bytes, chunk);
            responses(&bytes, chunk, &member(2).parse().unwrap());
        }
    }
}
