//! The frames of `Mesh.Forward` as bytes: gRPC's length-prefixed messages, without copying the bodies they carry.
//!
//! On the wire this is plain gRPC of the published proto file. tonic's generated code would copy every piece of a body
//! twice, and would hold a piece back until all of it has arrived; here a piece goes out as the buffer it came in, and
//! comes in as the buffer the connection read it into (a fifth of the CPU time of a forwarded body).
//!
//! Deliberately absent: compression, and any idea of which frame may follow which ([`offer`](super::offer) and
//! [`ingress`](super::ingress) know).

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::Stream;
use http::HeaderMap;
use http_body::{Body, Frame};
use prost::encoding::encoded_len_varint;
use tonic::Status;

use super::pb;

/// Most bytes of a body in one frame.
pub(super) const MAX_PIECE: usize = 256 * 1024;

/// Most bytes of a frame of HTTP/2.
pub(super) const MAX_FRAME: u32 = 256 * 1024;

/// What is sent of a body at a time: with what is in front of it, one frame of HTTP/2. A frame in two costs another round
/// through both connections' tasks and the reader's.
pub(super) const PIECE: usize = MAX_FRAME as usize - PREFIX - 4;

/// Smaller pieces are copied next to their neighbours, and leave with them.
const SMALL: usize = 4 * 1024;

/// What has been gathered leaves when it is this large.
const GATHERED: usize = 16 * 1024;

/// Flag and length in front of a message.
const PREFIX: usize = 5;

/// A message of the protocol, which may be a piece of a body.
pub(super) trait Message: prost::Message + Default + Unpin + Send + 'static {
    /// The key (number and type) of the field that is a piece of a body.
    const PIECE: u8;

    /// A piece of a body.
    fn piece(bytes: Bytes) -> Self;

    /// The bytes, if this is a piece of a body.
    fn as_piece(&self) -> Option<&Bytes>;
}

impl Message for pb::Request {
    const PIECE: u8 = 2 << 3 | 2;

    fn piece(bytes: Bytes) -> Self {
        Self {
            kind: Some(pb::request::Kind::Data(bytes)),
        }
    }

    fn as_piece(&self) -> Option<&Bytes> {
        match &self.kind {
            Some(pb::request::Kind::Data(bytes)) => Some(bytes),
            _ => None,
        }
    }
}

impl Message for pb::Response {
    const PIECE: u8 = 5 << 3 | 2;

    fn piece(bytes: Bytes) -> Self {
        Self {
            kind: Some(pb::response::Kind::Data(bytes)),
        }
    }

    fn as_piece(&self) -> Option<&Bytes> {
        match &self.kind {
            Some(pb::response::Kind::Data(bytes)) => Some(bytes),
            _ => None,
        }
    }
}

/// Why a stream can't be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    /// It ended inside a message.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// A message is larger than any may be.
    #[error("a frame of {bytes} bytes is larger than {limit}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A message is compressed, which was not agreed on.
    #[error("a frame is compressed")]
    Compressed,
    /// A message can't be decoded.
    #[error("a frame is malformed: {0}")]
    Malformed(String),
    /// The connection, or the other side, gave the stream up.
    #[error("the stream broke: {0}")]
    Broken(String),
}

/// Reads messages from the body of a gRPC call.
#[derive(Debug)]
pub(super) struct Reader<B, M> {
    body: B,
    // What arrived and wasn't looked at.
    chunk: Bytes,
    // The beginning of a message that hasn't arrived whole.
    scratch: BytesMut,
    // Bytes missing of the piece whose beginning was given out.
    missing: usize,
    limit: usize,
    is_over: bool,
    status: Option<Status>,
    message: std::marker::PhantomData<fn() -> M>,
}

impl<B, M> Reader<B, M>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
    M: Message,
{
    /// Reads from `body`; messages that aren't pieces of a body have at most `limit` bytes.
    pub(super) fn new(body: B, limit: usize) -> Self {
        Self {
            body,
            chunk: Bytes::new(),
            scratch: BytesMut::new(),
            missing: 0,
            limit,
            is_over: false,
            status: None,
            message: std::marker::PhantomData,
        }
    }

    /// The next message, or `None` at the end of the stream. A piece of a body may come as several.
    pub(super) async fn next(&mut self) -> Result<Option<M>, WireError> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next).
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<M>, WireError>> {
        loop {
            if self.missing > 0 && !self.chunk.is_empty() {
                let count = self.missing.min(self.chunk.len());
                self.missing -= count;
                return Poll::Ready(Ok(Some(M::piece(self.chunk.split_to(count)))));
            }
            if self.missing == 0
                && let Some(message) = self.decode()?
            {
                return Poll::Ready(Ok(Some(message)));
            }
            if !ready!(self.poll_fill(cx))? {
                let is_whole = self.missing == 0 && self.scratch.is_empty();
                return Poll::Ready(if is_whole {
                    Ok(None)
                } else {
                    Err(WireError::Truncated)
                });
            }
        }
    }

    /// Reads the next chunk; false at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, WireError>> {
        while !self.is_over {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        self.chunk = data;
                        return Poll::Ready(Ok(true));
                    }
                    Err(frame) => {
                        self.status = frame.trailers_ref().and_then(Status::from_header_map);
                    }
                },
                Some(Err(error)) => {
                    self.is_over = true;
                    return Poll::Ready(Err(WireError::Broken(error.to_string())));
                }
                None => self.is_over = true,
            }
        }
        Poll::Ready(Ok(false))
    }

    /// The message that begins at the front of what has arrived; `None` when more is needed.
    fn decode(&mut self) -> Result<Option<M>, WireError> {
        if !self.gather(PREFIX) {
            return Ok(None);
        }
        if self.scratch[0] != 0 {
            return Err(WireError::Compressed);
        }
        let length = (&self.scratch[1..PREFIX]).get_u32() as usize;
        // Key and length of a piece; enough to tell whether the message is one and nothing else.
        let mut limit = self.limit;
        let mut seen = PREFIX + 1;
        while seen < PREFIX + length.min(6) {
            if !self.gather(seen + 1) {
                return Ok(None);
            }
            if self.scratch[PREFIX] != M::PIECE {
                break;
            }
            seen += 1;
            if self.scratch[seen - 1] < 0x80 {
                if let Some(bytes) = self.piece_alone(length, seen) {
                    return self.begin_piece(bytes);
                }
                // A later version may have put something beside it.
                limit += MAX_PIECE;
                break;
            }
        }
        if length > limit {
            return Err(WireError::TooLarge { bytes: length, limit });
        }
        if !self.gather(PREFIX + length) {
            return Ok(None);
        }
        let mut message = self.scratch.split().freeze();
        message.advance(PREFIX);
        let message = M::decode(message).map_err(|error| WireError::Malformed(error.to_string()))?;
        match message.as_piece().map(Bytes::len) {
            Some(bytes) if bytes > MAX_PIECE => Err(WireError::TooLarge {
                bytes,
                limit: MAX_PIECE,
            }),
            _ => Ok(Some(message)),
        }
    }

    /// The bytes of the piece whose prefix, key and length are the `seen` bytes gathered, if it is all there is in a
    /// message of `length`.
    fn piece_alone(&self, length: usize, seen: usize) -> Option<usize> {
        let bytes = prost::encoding::decode_varint(&mut &self.scratch[PREFIX + 1..seen]).ok()?;
        usize::try_from(bytes)
            .ok()
            .filter(|bytes| length.checked_sub(*bytes) == Some(seen - PREFIX))
    }

    /// Begins a piece of `bytes`, which follow what was gathered.
    fn begin_piece(&mut self, bytes: usize) -> Result<Option<M>, WireError> {
        if bytes > MAX_PIECE {
            return Err(WireError::TooLarge {
                bytes,
                limit: MAX_PIECE,
            });
        }
        self.scratch.clear();
        let now = bytes.min(self.chunk.len());
        self.missing = bytes - now;
        // Without a byte of it there is nothing to give out, unless it has none.
        Ok((now > 0 || bytes == 0).then(|| M::piece(self.chunk.split_to(now))))
    }

    /// Moves bytes to the scratch until it holds `count`, if that many are there.
    fn gather(&mut self, count: usize) -> bool {
        let wanted = count.saturating_sub(self.scratch.len()).min(self.chunk.len());
        self.scratch.extend_from_slice(&self.chunk[..wanted]);
        self.chunk.advance(wanted);
        self.scratch.len() >= count
    }

    /// The failure that the other side ended the call with, if it did.
    pub(super) fn status(&self) -> Option<Status> {
        self.status
            .clone()
            .filter(|status| status.code() != tonic::Code::Ok)
    }

    /// Reads to the end of the stream, which must follow: a stream that isn't read to its end is reset when it is
    /// dropped.
    pub(super) async fn finish(&mut self) -> Result<(), WireError> {
        std::future::poll_fn(|cx| self.poll_finish(cx)).await
    }

    /// As [`finish`](Self::finish).
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        Poll::Ready(match ready!(self.poll_next(cx))? {
            None => Ok(()),
            Some(_) => Err(WireError::Malformed("a frame after the last one".to_owned())),
        })
    }
}

/// What a [`Writer`] sends.
#[derive(Debug)]
pub(super) enum Item<M> {
    /// A message.
    Message(M),
    /// The end of a call's response.
    Status(Status),
}

/// What leaves at a time: small messages and the beginning of one that carries a piece, then the piece as it is.
pub(super) type Gathered = bytes::buf::Chain<Bytes, Bytes>;

/// What was gathered elsewhere.
pub(super) fn alone(frame: Frame<Bytes>) -> Frame<Gathered> {
    frame.map_data(|data| data.chain(Bytes::new()))
}

/// A stream of messages as the body of a gRPC call.
#[derive(Debug)]
pub(super) struct Writer<S> {
    source: Option<S>,
    gathered: BytesMut,
    ready: VecDeque<Frame<Gathered>>,
    needs_status: bool,
}

impl<S> Writer<S> {
    /// The body of a request.
    pub(super) fn request(source: S) -> Self {
        Self {
            source: Some(source),
            gathered: BytesMut::new(),
            ready: VecDeque::new(),
            needs_status: false,
        }
    }

    /// The body of a response: after the messages there is a status, "ok" where the source gives none.
    pub(super) fn response(source: S) -> Self {
        Self {
            needs_status: true,
            ..Self::request(source)
        }
    }

    fn append<M: Message>(&mut self, message: &M) {
        let length = message.encoded_len();
        if let Some(piece) = message.as_piece()
            && piece.len() > SMALL
        {
            self.gathered
                .reserve(PREFIX + 1 + encoded_len_varint(piece.len() as u64));
            self.put_prefix(length);
            self.gathered.put_u8(M::PIECE);
            prost::encoding::encode_varint(piece.len() as u64, &mut self.gathered);
            self.leave(piece.clone());
            return;
        }
        self.gathered.reserve(PREFIX + length);
        self.put_prefix(length);
        // There is room: it was reserved, and the buffer grows.
        message.encode_raw(&mut self.gathered);
    }

    fn put_prefix(&mut self, length: usize) {
        self.gathered.put_u8(0);
        self.gathered.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    }

    fn flush(&mut self) {
        if !self.gathered.is_empty() {
            self.leave(Bytes::new());
        }
    }

    /// Lets `piece` leave after what was gathered.
    fn leave(&mut self, piece: Bytes) {
        let before = self.gathered.split().freeze();
        self.ready.push_back(Frame::data(before.chain(piece)));
    }

    fn end(&mut self, status: Option<&Status>) {
        self.source = None;
        self.flush();
        if self.needs_status {
            let mut trailers = HeaderMap::new();
            if status
                .unwrap_or(&Status::ok(""))
                .add_header(&mut trailers)
                .is_err()
            {
                trailers.clear();
                trailers.insert("grpc-status", http::HeaderValue::from_static("13"));
            }
            self.ready.push_back(Frame::trailers(trailers));
        }
    }
}

impl<S, M, E> Body for Writer<S>
where
    S: Stream<Item = Result<Item<M>, E>> + Unpin,
    M: Message,
{
    type Data = Gathered;
    type Error = E;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Gathered>, E>>> {
        let this = &mut *self;
        loop {
            if let Some(frame) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            let Some(source) = &mut this.source else {
                return Poll::Ready(None);
            };
            match Pin::new(source).poll_next(cx) {
                Poll::Ready(Some(Ok(Item::Message(message)))) => {
                    this.append(&message);
                    if this.gathered.len() >= GATHERED {
                        this.flush();
                    }
                }
                Poll::Ready(Some(Ok(Item::Status(status)))) => this.end(Some(&status)),
                Poll::Ready(Some(Err(error))) => {
                    this.source = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => this.end(None),
                Poll::Pending if this.gathered.is_empty() => return Poll::Pending,
                Poll::Pending => this.flush(),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none() && self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests;
