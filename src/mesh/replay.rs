//! A request that was accepted: `go`, the local service, the response.
//!
//! Nothing is called before `go`, the front's first frame after the head. The request's body ends when `end` came and
//! its count is right; whatever else happens is an error inside the body, so that an upload cut short is never a
//! shorter upload.
//!
//! Deliberately absent: retries, and a verdict about the response. What the local service says is passed on.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout};
use tower::ServiceExt as _;

use super::{
    answers::{Answers, Gone, Requests},
    frames::{Offered, number, response_head, unexpected},
    parts::Mesh,
    pb::{self, request, response::Kind},
    wire::PIECE,
};
use crate::{
    admission::{Body, BodyError, empty},
    net::abort_when_stalled,
    oci::leaves_open,
    placement::MemberId,
    storage::StoreErrorKind,
    telemetry::ForwardOutcome,
};

/// What leaves at a time of a blob whose reader is likely to leave in the middle: what is on its way then was in vain.
const SMALL_PIECE: usize = 64 * 1024;

/// `accepted` waits this long for the response's head to go with it, where the front doesn't wait for it.
const TOGETHER: Duration = Duration::from_millis(50);

/// Serves `offered` through the local service.
pub(super) async fn replay(
    mesh: &Arc<Mesh>,
    offered: Offered,
    frames: Requests,
    answers: &mut Answers,
) -> ForwardOutcome {
    let began = Instant::now();
    let Offered { sender, asked, .. } = offered;
    let (method, route) = (asked.parts.method.clone(), asked.route.clone());
    let request_id = asked.request_id.clone();
    let _entry = mesh
        .in_flight
        .enter(pb::Direction::Replayed, &sender, &request_id, &method, &route);
    let is_safe = asked.is_safe();
    let piece = match leaves_open(&asked.parts.headers) {
        true => SMALL_PIECE,
        false => PIECE,
    };

    answers.push(Kind::Accepted(pb::Accepted {}));
    if !is_safe && answers.flush().await == Err(Gone) {
        return ForwardOutcome::Unreachable;
    }
    let announced = number(&asked.parts.headers, header::CONTENT_LENGTH);
    let body = match go(frames, announced, sender.clone(), mesh.stall).await {
        Ok(body) => body,
        Err(reason) => {
            tracing::info!(peer = %sender, request = request_id.as_str(), reason, "a front didn't go on");
            return ForwardOutcome::Unreachable;
        }
    };
    let mut call = std::pin::pin!(mesh.local.clone().oneshot(asked.with(body)));
    let response = match timeout(TOGETHER, call.as_mut()).await {
        Ok(response) => response,
        Err(_) if is_safe && answers.flush().await == Err(Gone) => return ForwardOutcome::Unreachable,
        Err(_) => call.await,
    };
    let (parts, body) = response.unwrap_or_else(|never| match never {}).into_parts();
    let status = parts.status.as_u16();
    // A blob's body doesn't know its length, only its head does.
    let said = number(&parts.headers, header::CONTENT_LENGTH).filter(|_| method != http::Method::HEAD);
    let length = body.size_hint().exact().or(said);
    answers.push(Kind::Head(response_head(&parts, length)));
    let (outcome, bytes) = send(body, answers, piece, mesh.stall).await;
    let outcome = match outcome {
        // Whoever wanted the answer left.
        ForwardOutcome::Broken if is_safe && answers.is_abandoned() => ForwardOutcome::Left,
        outcome => outcome,
    };
    tracing::info!(
        peer = %sender,
        request = request_id.as_str(),
        %method,
        route = route.name(),
        repository = route.repository().map(tracing::field::display),
        status,
        bytes,
        outcome = ?outcome,
        took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "replayed"
    );
    outcome
}

/// Waits for the front's `go`, and gives the body that begins with it.
async fn go(
    mut frames: Requests,
    announced: Option<u64>,
    peer: MemberId,
    within: Duration,
) -> Result<Body, String> {
    let first = timeout(within, frames.next())
        .await
        .map_err(|_| "no go came".to_owned())?;
    let first = first.map_err(|error| error.to_string())?;
    let found = unexpected("data or end", first.as_ref()).to_string();
    match first.and_then(|frame| frame.kind) {
        Some(request::Kind::End(pb::End { bytes: 0 })) if announced.unwrap_or(0) == 0 => {
            frames.finish().await.map_err(|error| error.to_string())?;
            Ok(empty())
        }
        Some(request::Kind::Data(first)) => {
            let body = Replayed::new(frames, first, announced, peer);
            Ok(Body::new(abort_when_stalled(body, within)))
        }
        Some(request::Kind::End(pb::End { bytes })) => Err(format!(
            "the end says {bytes} bytes, {} were announced, none came",
            announced.unwrap_or(0)
        )),
        Some(request::Kind::Head(_)) | None => Err(found),
    }
}

/// Sends the response's body in pieces of at most `piece` bytes, then `end` or `abort`.
async fn send(mut body: Body, answers: &mut Answers, piece: usize, stall: Duration) -> (ForwardOutcome, u64) {
    let mut bytes = 0;
    let mut gathered = 0;
    loop {
        // What is there at once leaves with what has gathered.
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            // A front that takes nothing doesn't keep the body from being asked: others may wait for what it has begun to read.
            None => {
                let next = async { Ok(timeout(stall, body.frame()).await) };
                let Ok(((), next)) = tokio::try_join!(answers.flush(), next) else {
                    return (ForwardOutcome::Broken, bytes);
                };
                gathered = 0;
                next.unwrap_or_else(|_| Some(Err(BodyError::Stalled(stall))))
            }
        };
        let data = match frame.transpose() {
            Ok(Some(frame)) => frame.into_data().unwrap_or_default(),
            Ok(None) => {
                answers.push(Kind::End(pb::End { bytes }));
                let sent = answers.flush().await;
                return (
                    if sent.is_ok() {
                        ForwardOutcome::Answered
                    } else {
                        ForwardOutcome::Broken
                    },
                    bytes,
                );
            }
            Err(error) => {
                tracing::warn!(%error, "the body of a replayed response broke off");
                answers.push(Kind::Abort(pb::Abort {
                    reason: error.to_string(),
                    is_final: is_final(&error),
                }));
                let _ = answers.flush().await;
                return (ForwardOutcome::Broken, bytes);
            }
        };
        let mut data: Bytes = data;
        while !data.is_empty() {
            let next = data.split_to(data.len().min(piece));
            bytes += next.len() as u64;
            gathered += next.len();
            answers.push(Kind::Data(next));
            if gathered >= piece {
                if answers.flush().await == Err(Gone) {
                    return (ForwardOutcome::Broken, bytes);
                }
                gathered = 0;
            }
        }
    }
}

/// Whether the body ended because the store holds other bytes than it should: nobody else can finish it.
fn is_final(error: &BodyError) -> bool {
    matches!(error, BodyError::Store(error) if error.kind() == StoreErrorKind::Corrupt)
}

/// The body of a replayed request.
struct Replayed {
    frames: Requests,
    state: State,
    // Given out next.
    piece: Option<Bytes>,
    received: u64,
    announced: Option<u64>,
    peer: MemberId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
    Over,
}

impl Replayed {
    fn new(frames: Requests, first: Bytes, announced: Option<u64>, peer: MemberId) -> Self {
        let received = first.len() as u64;
        Self {
            frames,
            state: State::Reading,
            piece: Some(first),
            received,
            announced,
            peer,
        }
    }

    fn broke(&mut self, reason: String) -> BodyError {
        self.state = State::Over;
        BodyError::Peer {
            peer: self.peer.clone(),
            reason,
        }
    }

    /// Whether the piece at hand may be given out: the last of an announced length only goes out once `end` came,
    /// because a reader may stop asking after it.
    fn is_free(&self) -> bool {
        self.state != State::Reading || self.announced.is_none_or(|announced| self.received < announced)
    }

    fn take(&mut self, frame: Option<pb::Request>) -> Result<(), BodyError> {
        let found = unexpected("data or end", frame.as_ref()).to_string();
        match frame.and_then(|frame| frame.kind) {
            Some(request::Kind::Data(piece)) => {
                self.received += piece.len() as u64;
                let held = self.piece.take().unwrap_or_default();
                // The piece held back was the last: what follows it can only be too much.
                if !held.is_empty() && !piece.is_empty() {
                    return Err(self.length(self.announced.unwrap_or_default()));
                }
                self.piece = Some(if held.is_empty() { piece } else { held });
                Ok(())
            }
            Some(request::Kind::End(pb::End { bytes })) => {
                let announced = self.announced.unwrap_or(bytes);
                if bytes != self.received || announced != self.received {
                    return Err(self.length(announced.max(bytes)));
                }
                self.state = State::Ended;
                Ok(())
            }
            Some(request::Kind::Head(_)) | None => Err(self.broke(found)),
        }
    }

    fn length(&mut self, announced: u64) -> BodyError {
        self.state = State::Over;
        BodyError::Length {
            announced,
            received: self.received,
        }
    }
}

impl http_body::Body for Replayed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            if this.state == State::Ended {
                // Only so that the stream needn't be reset; all bytes are here.
                let finished = ready!(this.frames.poll_finish(cx));
                if let Err(error) = finished {
                    return Poll::Ready(Some(Err(this.broke(error.to_string()))));
                }
                this.state = State::Over;
            }
            if this.is_free()
                && let Some(piece) = this.piece.take().filter(|piece| !piece.is_empty())
            {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.state == State::Over {
                return Poll::Ready(None);
            }
            match ready!(this.frames.poll_next(cx)) {
                Ok(frame) => this.take(frame)?,
                Err(error) => return Poll::Ready(Some(Err(this.broke(error.to_string())))),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map(SizeHint::with_exact).unwrap_or_default()
    }
}
