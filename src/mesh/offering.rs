//! The request's side of a `Forward` stream, as the front sends it.
//!
//! The client's body gets here through a channel, and only as the front's `go`: while it is on the other side of that
//! channel, not a byte of it can have been read.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use http_body::Body as _;
use tokio::sync::oneshot;

use super::{
    pb,
    wire::{Item, PIECE},
};
use crate::{
    admission::{Body, BodyError, Failure},
    placement::MemberId,
    telemetry::{Direction, Metrics},
};

/// How far the request's body has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    bytes: AtomicU64,
    is_complete: AtomicBool,
    fault: OnceLock<Failure>,
}

impl Progress {
    /// Bytes handed to the connection.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Why the client's body failed, if it did: `end` was not sent then, and never will be.
    pub(super) fn fault(&self) -> Option<Failure> {
        self.fault.get().copied()
    }

    /// Whether `end` was handed to the connection.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Relaxed)
    }
}

/// Counts the bytes of a request's body once the exchange is over, whatever came of it.
#[derive(Debug)]
pub(super) struct Sent {
    metrics: Arc<Metrics>,
    peer: MemberId,
    progress: Arc<Progress>,
}

impl Sent {
    pub(super) fn new(metrics: Arc<Metrics>, peer: MemberId, progress: Arc<Progress>) -> Self {
        Self {
            metrics,
            peer,
            progress,
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let bytes = self.progress.bytes();
        if bytes > 0 {
            self.metrics.forward_bytes(&self.peer, Direction::Upload, bytes);
        }
    }
}

/// Head, then the body once there is a `go`, then `end`.
#[derive(Debug)]
pub(super) struct Offering {
    state: State,
    piece: Bytes,
    progress: Arc<Progress>,
}

#[derive(Debug)]
enum State {
    Head(Box<pb::RequestHead>, Then),
    Waiting(oneshot::Receiver<Body>),
    Body(Body),
    End,
    Over,
}

#[derive(Debug)]
enum Then {
    End,
    Wait(oneshot::Receiver<Body>),
}

impl Offering {
    /// A request that changes nothing: head and `end`.
    pub(super) fn safe(head: pb::RequestHead) -> Self {
        Self::new(head, Then::End)
    }

    /// A request that may change something: after the head it waits for the body, which is sent as the `go`. If the
    /// other end of `go` is dropped, the stream ends there.
    pub(super) fn held(head: pb::RequestHead, go: oneshot::Receiver<Body>) -> Self {
        Self::new(head, Then::Wait(go))
    }

    fn new(head: pb::RequestHead, then: Then) -> Self {
        Self {
            state: State::Head(Box::new(head), then),
            piece: Bytes::new(),
            progress: Arc::default(),
        }
    }

    /// Tells how far it has come.
    pub(super) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    fn poll_body(
        body: &mut Body,
        piece: &mut Bytes,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<(), BodyError>>> {
        loop {
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers of a request mean nothing to a registry.
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        *piece = data;
                        return Poll::Ready(Some(Ok(())));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for Offering {
    type Item = Result<Item<pb::Request>, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let frame = |kind| Poll::Ready(Some(Ok(Item::Message(pb::Request { kind: Some(kind) }))));
        loop {
            if !this.piece.is_empty() {
                let piece = this.piece.split_to(this.piece.len().min(PIECE));
                this.progress
                    .bytes
                    .fetch_add(piece.len() as u64, Ordering::Relaxed);
                return frame(pb::request::Kind::Data(piece));
            }
            match std::mem::replace(&mut this.state, State::Over) {
                State::Head(head, then) => {
                    this.state = match then {
                        Then::End => State::End,
                        Then::Wait(go) => State::Waiting(go),
                    };
                    return frame(pb::request::Kind::Head(*head));
                }
                State::Waiting(mut go) => match Pin::new(&mut go).poll(cx) {
                    Poll::Ready(Ok(body)) => this.state = State::Body(body),
                    Poll::Ready(Err(_)) => {}
                    Poll::Pending => {
                        this.state = State::Waiting(go);
                        return Poll::Pending;
                    }
                },
                State::Body(mut body) => match Self::poll_body(&mut body, &mut this.piece, cx) {
                    Poll::Ready(Some(Ok(()))) => this.state = State::Body(body),
                    Poll::Ready(Some(Err(error))) => {
                        if let Some(fault) = fault_of(&error) {
                            let _ = this.progress.fault.set(fault);
                        }
                        return Poll::Ready(Some(Err(error)));
                    }
                    Poll::Ready(None) => this.state = State::End,
                    Poll::Pending => {
                        this.state = State::Body(body);
                        return Poll::Pending;
                    }
                },
                State::End => {
                    this.progress.is_complete.store(true, Ordering::Relaxed);
                    let bytes = this.progress.bytes();
                    return frame(pb::request::Kind::End(pb::End { bytes }));
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }
}

/// What a failure of the client's own body means to the client; `None` where it isn't the client's doing.
fn fault_of(error: &BodyError) -> Option<Failure> {
    match error {
        BodyError::Client(_) | BodyError::Length { .. } => Some(Failure::BodyBroke),
        BodyError::Stalled(_) => Some(Failure::BodyStalled),
        BodyError::Slow => Some(Failure::BodySlow),
        BodyError::Peer { .. } | BodyError::Store(_) | BodyError::ShuttingDown => None,
    }
}
