//! A payload as the body of a request: its pieces as they are, as often as the SDK wants to send them.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::storage::Payload;

/// `payload`, whose length is known and whose pieces aren't copied together. Each attempt gets its own pass over them.
pub(super) fn stream(payload: &Payload) -> ByteStream {
    let (pieces, length): (Arc<[Bytes]>, u64) = (payload.chunks().into(), payload.len());
    ByteStream::new(SdkBody::retryable(move || {
        SdkBody::from_body_1_x(Pieces {
            pieces: pieces.clone(),
            next: 0,
            left: length,
        })
    }))
}

struct Pieces {
    pieces: Arc<[Bytes]>,
    next: usize,
    left: u64,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.get(self.next).cloned();
        self.next += 1;
        Poll::Ready(piece.map(|piece| {
            self.left -= piece.len() as u64;
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_body_has_its_length_and_can_be_sent_again_without_a_copy() {
        let pieces = [Bytes::from(vec![1; 70_000]), Bytes::from(vec![2; 5])];
        let mut payload = Payload::default();
        pieces.iter().for_each(|piece| payload.push(piece.clone()));
        let first = stream(&payload).into_inner();
        let second = first.try_clone().unwrap();
        for mut body in [first, second] {
            assert_eq!(body.content_length(), Some(70_005));
            // What is in memory in one piece would be hashed to be signed.
            assert!(body.bytes().is_none());
            for piece in &pieces {
                let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
                assert_eq!(frame.as_ptr(), piece.as_ptr());
            }
            assert!(body.frame().await.is_none());
        }
    }

    #[tokio::test]
    async fn an_empty_payload_is_an_empty_body() {
        let mut body = stream(&Payload::default()).into_inner();
        assert_eq!(body.content_length(), Some(0));
        assert!(body.frame().await.is_none());
    }
}
