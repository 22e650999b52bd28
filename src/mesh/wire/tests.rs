use std::convert::Infallible;

use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

type Source = futures_util::stream::Iter<std::vec::IntoIter<Result<Item<pb::Response>, Infallible>>>;

fn writer(messages: Vec<pb::Response>) -> Writer<Source> {
    Writer::response(futures_util::stream::iter(
        messages
            .into_iter()
            .map(|message| Ok(Item::Message(message)))
            .collect::<Vec<_>>(),
    ))
}

fn end(bytes: u64) -> pb::Response {
    pb::Response {
        kind: Some(pb::response::Kind::End(pb::End { bytes })),
    }
}

fn written(messages: Vec<pb::Response>) -> Vec<u8> {
    let collected = futures_util::FutureExt::now_or_never(writer(messages).collect())
        .unwrap()
        .unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    collected.to_bytes().to_vec()
}

/// Reads `bytes`, arriving in chunks of `chunk`, and joins the pieces that follow each other.
fn read(bytes: &[u8], chunk: usize) -> Result<Vec<pb::Response>, WireError> {
    let chunks: Vec<_> = bytes
        .chunks(chunk)
        .map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect();
    let mut reader =
        Reader::<_, pb::Response>::new(StreamBody::new(futures_util::stream::iter(chunks)), 1000);
    let mut messages = Vec::<pb::Response>::new();
    while let Some(message) = futures_util::FutureExt::now_or_never(reader.next()).unwrap()? {
        let joined = messages
            .last()
            .and_then(Message::as_piece)
            .zip(message.as_piece());
        if let Some((former, piece)) = joined {
            let joined = [&former[..], piece].concat();
            messages.pop();
            messages.push(pb::Response::piece(joined.into()));
        } else {
            messages.push(message);
        }
    }
    Ok(messages)
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_arrives(
        sizes in prop::collection::vec(prop_oneof![0usize..300, 4000usize..5000, 16000usize..20000], 0..6),
        chunk in prop_oneof![1usize..20, 1000usize..40000],
    ) {
        let mut messages = vec![];
        for (n, size) in sizes.iter().enumerate() {
            messages.push(pb::Response::piece(vec![n as u8; *size].into()));
            messages.push(end(*size as u64));
        }
        prop_assert_eq!(read(&written(messages.clone()), chunk).unwrap(), messages);
    }

    #[test]
    fn anything_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), zeros in 0usize..5) {
        let mut stream = vec![0; zeros];
        stream.extend(bytes);
        let _ = read(&stream, 7);
    }

    #[test]
    fn a_stream_cut_inside_a_frame_is_an_error(at in 1usize..5000) {
        let bytes = written(vec![pb::Response::piece(vec![7; 5000].into())]);
        prop_assert_eq!(read(&bytes[..at], 100), Err(WireError::Truncated));
    }
}

#[test]
fn the_bytes_are_those_of_prost() {
    for messages in [
        vec![pb::Response::piece(vec![7; 5000].into())],
        vec![end(300)],
        vec![pb::Response::default()],
    ] {
        let mut expected = vec![0];
        expected.put_u32(messages[0].encoded_len() as u32);
        expected.extend(prost::Message::encode_to_vec(&messages[0]));
        assert_eq!(written(messages), expected);
    }
}

#[test]
fn frames_have_bounds() {
    let large = written(vec![pb::Response::piece(vec![7; MAX_PIECE + 1].into())]);
    assert!(matches!(read(&large, 1 << 20), Err(WireError::TooLarge { .. })));
    assert!(
        read(
            &written(vec![pb::Response::piece(vec![7; MAX_PIECE].into())]),
            1 << 20
        )
        .is_ok()
    );
    let reason = "x".repeat(2000);
    let abort = pb::Response {
        kind: Some(pb::response::Kind::Abort(pb::Abort {
            reason,
            is_final: false,
        })),
    };
    assert!(matches!(
        read(&written(vec![abort]), 1 << 20),
        Err(WireError::TooLarge { limit: 1000, .. })
    ));
    // A huge length is refused before anything is allocated for it.
    assert!(matches!(
        read(&[0, 255, 255, 255, 255, 8, 0], 100),
        Err(WireError::TooLarge { .. })
    ));
    assert_eq!(read(&[1, 0, 0, 0, 0], 100), Err(WireError::Compressed));
}

#[tokio::test]
async fn small_frames_leave_with_the_next_piece_which_is_not_copied() {
    let piece = Bytes::from(vec![7; 100_000]);
    let mut body = writer(vec![end(1), end(2), pb::Response::piece(piece.clone()), end(3)]);
    let mut lengths = vec![];
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.unwrap().data_ref() {
            let (before, carried) = (data.first_ref(), data.last_ref());
            assert!(
                carried.is_empty() || carried.as_ptr() == piece.as_ptr(),
                "it was copied"
            );
            lengths.push((before.len(), carried.len()));
        }
    }
    assert_eq!(lengths, [(9 + 9 + 9, 100_000), (9, 0)]);
}

#[test]
fn a_piece_and_what_is_in_front_of_it_fill_a_frame() {
    let written = written(vec![pb::Response::piece(vec![7; PIECE].into())]);
    assert_eq!(written.len(), MAX_FRAME as usize);
}

#[test]
fn a_piece_with_something_beside_it_is_understood() {
    // As a later version may send it: field 5 (the piece) and field 9, unknown here.
    for length in [3usize, 5000] {
        let mut message = pb::Response::piece(vec![7; length].into()).encode_to_vec();
        message.extend([9 << 3, 1]);
        let mut stream = vec![0];
        stream.put_u32(message.len() as u32);
        stream.extend(message);
        for chunk in [1, 7, 100_000] {
            assert_eq!(
                read(&stream, chunk).unwrap(),
                [pb::Response::piece(vec![7; length].into())]
            );
        }
    }
}
