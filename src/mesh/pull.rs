//! The body of a forwarded response, on its way to the client.
//!
//! It ends when the owner's `end` came and its count is right, and not before: the last piece of a body of known length
//! is held back until then, because whoever sends it to the client stops asking after it. If the owner's stream breaks
//! in mid-blob, this member fetches the rest itself, through the local service, from the byte the client has reached.
//! One attempt; what doesn't fit exactly aborts the client's connection.
//!
//! Deliberately absent: asking another owner for the rest. The local service reads the same store.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::{
    frames::{Asked, number, unexpected},
    in_flight::Entry,
    offering::Sent,
    parts::Mesh,
    pb::{self, response::Kind},
    peers::StreamSlot,
    wire::Reader,
};
use crate::{
    admission::{BlobSource, Body, BodyError, Service, empty},
    net::Patience,
    oci::Route,
    placement::MemberId,
    telemetry::{Direction, ForwardOutcome},
};

/// The frames of a response.
pub(super) type Responses = Reader<Incoming, pb::Response>;

/// What the stream of a forwarded response takes up until it is over.
type Held = (StreamSlot, Entry, Sent);

/// See the module.
pub(super) struct Pull {
    mesh: Arc<Mesh>,
    peer: MemberId,
    state: State,
    content_length: Option<u64>,
    // Bytes that came from the owner, the held piece included.
    received: u64,
    // Bytes given to the client.
    delivered: u64,
    held: Option<Bytes>,
    resume: Option<Resume>,
    patience: Patience,
    taken: Option<Held>,
}

enum State {
    /// Responses come from the owner.
    Owner(Responses),
    /// `end` came; only the end of the stream is missing.
    Ended(Responses),
    /// The local service is asked for the rest.
    Resuming(BoxFuture<'static, Result<Body, String>>),
    /// The rest comes from the local service.
    Local(Body),
    Over,
}

/// What it takes to finish a pull without its owner.
#[derive(Debug)]
pub(super) struct Resume {
    asked: Asked,
    source: BlobSource,
    span: Span,
}

/// What of the blob the response has.
#[derive(Debug)]
enum Span {
    /// The bytes from `first` to `last`: the rest of them is asked for.
    One { first: u64, last: u64 },
    /// Several parts: the whole answer is asked for again, which is the same anywhere, and what the client has is left out.
    Several {
        content_type: HeaderValue,
        content_length: u64,
    },
}

impl Resume {
    /// For a response with bytes of a blob.
    pub(super) fn of(
        asked: &Asked,
        parts: &http::response::Parts,
        content_length: Option<u64>,
    ) -> Option<Self> {
        let source = parts.extensions.get::<BlobSource>()?.clone();
        let Route::GetBlob { .. } = asked.route else {
            return None;
        };
        let length = content_length.filter(|length| *length > 0)?;
        let one = |first: u64| {
            let last = first.checked_add(length - 1);
            let last = last.filter(|last| *last < source.length)?;
            Some(Span::One { first, last })
        };
        let span = match (parts.status, several(&parts.headers)) {
            (StatusCode::OK, _) if length == source.length => one(0)?,
            (StatusCode::PARTIAL_CONTENT, Some(content_type)) => Span::Several {
                content_type: content_type.clone(),
                content_length: length,
            },
            (StatusCode::PARTIAL_CONTENT, None) => one(content_range(&parts.headers)?.0)?,
            _ => return None,
        };
        Some(Self {
            asked: asked.clone(),
            source,
            span,
        })
    }

    /// The bytes after the first `delivered`.
    async fn rest(mut self, delivered: u64, local: Service, within: Duration) -> Result<Body, String> {
        let headers = &mut self.asked.parts.headers;
        for conditional in [
            header::IF_RANGE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_UNMODIFIED_SINCE,
        ] {
            headers.remove(conditional);
        }
        if let Span::One { first, last } = self.span {
            let range = format!("bytes={}-{last}", first + delivered);
            headers.insert(
                header::RANGE,
                HeaderValue::from_str(&range).map_err(|error| error.to_string())?,
            );
        }
        self.asked.deadline = Instant::now() + within;
        let (source, span) = (self.source, self.span);
        let asked = local.oneshot(self.asked.with(empty()));
        let response = tokio::time::timeout(within, asked)
            .await
            .map_err(|error| error.to_string())?;
        let response = response.unwrap_or_else(|never| match never {});
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(format!("the local service answered {}", response.status()));
        }
        let found = response.extensions().get::<BlobSource>();
        let is_same =
            found.is_some_and(|found| found.digest == source.digest && found.length == source.length);
        let headers = response.headers();
        let (fits, skip) = match &span {
            Span::One { first, last } => {
                let rest = Some((first + delivered, *last, source.length));
                (content_range(headers) == rest, 0)
            }
            Span::Several {
                content_type,
                content_length,
            } => {
                let fits = several(headers) == Some(content_type)
                    && number(headers, header::CONTENT_LENGTH) == Some(*content_length);
                (fits, delivered)
            }
        };
        match is_same && fits {
            true => Ok(without_first(skip, response.into_body())),
            false => Err("the local service has other bytes".to_owned()),
        }
    }
}

/// The `Content-Type` of an answer with several parts. It holds the boundary between them.
fn several(headers: &HeaderMap) -> Option<&HeaderValue> {
    let value = headers.get(header::CONTENT_TYPE)?;
    value
        .as_bytes()
        .starts_with(b"multipart/byteranges")
        .then_some(value)
}

/// `body` without its first `skip` bytes.
fn without_first(mut skip: u64, body: Body) -> Body {
    let left = move |frame: Frame<Bytes>| {
        frame.map_data(|mut piece| {
            let here = piece.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
            piece.advance(here);
            skip -= here as u64;
            piece
        })
    };
    body.map_frame(left).boxed_unsync()
}

/// First, last and length of `Content-Range: bytes first-last/length`.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, length) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, length.parse().ok()?))
}

impl Pull {
    /// The body that `frames` bring from `peer`. `taken` is given back when they have ended.
    pub(super) fn new(
        mesh: Arc<Mesh>,
        peer: MemberId,
        frames: Responses,
        content_length: Option<u64>,
        resume: Option<Resume>,
        taken: Held,
    ) -> Self {
        let patience = Patience::new(mesh.stall);
        Self {
            mesh,
            peer,
            state: State::Owner(frames),
            content_length,
            received: 0,
            delivered: 0,
            held: None,
            resume,
            patience,
            taken: Some(taken),
        }
    }

    /// The next frame of the owner's. `Ok(None)`: the state has changed.
    fn poll_owner(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, String>> {
        let State::Owner(frames) = &mut self.state else {
            return Poll::Ready(Ok(None));
        };
        let Poll::Ready(frame) = frames.poll_next(cx) else {
            ready!(self.patience.poll_over(cx));
            return Poll::Ready(Err("no progress".to_owned()));
        };
        self.patience.progressed();
        let frame = frame.map_err(|error| error.to_string())?;
        let found = unexpected("data or end", frame.as_ref()).to_string();
        match frame.and_then(|frame| frame.kind) {
            Some(Kind::Data(piece)) => {
                self.received += piece.len() as u64;
                if self
                    .content_length
                    .is_some_and(|announced| self.received > announced)
                {
                    return Poll::Ready(Err("more bytes than announced".to_owned()));
                }
                if self.content_length == Some(self.received) {
                    self.held = Some(piece);
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Ok(Some(piece)))
            }
            Some(Kind::End(pb::End { bytes })) => {
                let announced = self.content_length.unwrap_or(bytes);
                if bytes != self.received || announced != self.received {
                    let received = self.received;
                    return Poll::Ready(Err(format!(
                        "{received} bytes of {announced}, and the end says {bytes}"
                    )));
                }
                if let State::Owner(frames) = std::mem::replace(&mut self.state, State::Over) {
                    self.state = State::Ended(frames);
                }
                Poll::Ready(Ok(None))
            }
            Some(Kind::Abort(abort)) => {
                if abort.is_final {
                    self.resume = None;
                }
                Poll::Ready(Err(format!("aborted: {}", abort.reason)))
            }
            Some(Kind::Accepted(_) | Kind::NotOwner(_) | Kind::Busy(_) | Kind::Head(_)) | None => {
                Poll::Ready(Err(found))
            }
        }
    }

    /// The owner's stream broke: this member goes on, or the client's connection is aborted.
    fn broke(&mut self, reason: String) -> Result<(), BodyError> {
        let (peer, delivered) = (&self.peer, self.delivered);
        self.mesh.metrics.forward(peer, ForwardOutcome::Broken);
        self.held = None;
        self.state = State::Over;
        self.release();
        let Some(resume) = self.resume.take() else {
            return Err(BodyError::Peer {
                peer: self.peer.clone(),
                reason,
            });
        };
        let request = resume.asked.request_id.as_str();
        tracing::warn!(peer = %self.peer, request, delivered, reason, "a pull broke, this member finishes it");
        self.mesh.metrics.resumed_pull();
        let (local, within) = (self.mesh.local.clone(), self.mesh.limits.resume_within);
        self.state = State::Resuming(Box::pin(resume.rest(delivered, local, within)));
        Ok(())
    }

    /// The owner's stream is over: gives back what it took, and counts its bytes.
    fn release(&mut self) {
        if let Some((_slot, _entry, _sent)) = self.taken.take() {
            self.mesh
                .metrics
                .forward_bytes(&self.peer, Direction::Download, self.received);
        }
    }

    fn poll_local(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let State::Local(body) = &mut self.state else {
            return Poll::Ready(None);
        };
        loop {
            let Some(frame) = ready!(Pin::new(&mut *body).poll_frame(cx)).transpose()? else {
                // It began as the rest of a known length.
                let announced = self.content_length.unwrap_or_default();
                let received = self.delivered;
                let is_whole = received == announced;
                self.state = State::Over;
                return Poll::Ready((!is_whole).then_some(Err(BodyError::Length { announced, received })));
            };
            if let Ok(piece) = frame.into_data()
                && !piece.is_empty()
            {
                let announced = self.content_length.unwrap_or_default();
                let received = self.delivered + piece.len() as u64;
                if received > announced {
                    self.state = State::Over;
                    return Poll::Ready(Some(Err(BodyError::Length { announced, received })));
                }
                return Poll::Ready(Some(Ok(piece)));
            }
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match &mut self.state {
                State::Owner(_) => match ready!(self.poll_owner(cx)) {
                    Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                    Ok(None) => {}
                    Err(reason) => self.broke(reason)?,
                },
                State::Ended(frames) => {
                    // All bytes are here; the rest is only read so that the stream needn't be reset.
                    if frames.poll_finish(cx).is_pending() {
                        ready!(self.patience.poll_over(cx));
                    }
                    self.state = State::Over;
                    self.release();
                    return Poll::Ready(self.held.take().map(Ok));
                }
                State::Resuming(rest) => match ready!(rest.as_mut().poll(cx)) {
                    Ok(body) => self.state = State::Local(body),
                    Err(reason) => {
                        tracing::warn!(peer = %self.peer, reason, "a broken pull can't be finished");
                        self.state = State::Over;
                        return Poll::Ready(Some(Err(BodyError::Peer {
                            peer: self.peer.clone(),
                            reason,
                        })));
                    }
                },
                State::Local(_) => return self.poll_local(cx),
                State::Over => return Poll::Ready(None),
            }
        }
    }
}

impl http_body::Body for Pull {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let piece = ready!(this.poll_piece(cx)).transpose()?;
        this.delivered += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(Frame::data).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn size_hint(&self) -> SizeHint {
        self.content_length
            .map(|length| SizeHint::with_exact(length.saturating_sub(self.delivered)))
            .unwrap_or_default()
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.release();
    }
}
