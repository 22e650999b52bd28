//! One request offered to one member.
//!
//! Up to `go` nothing has had an effect and the client's body is untouched, so every failure leaves the request free
//! for another member. `go` is this side's own act: for a request that may change something, handing the body over.
//! After it the outcome is what the owner says, or unknown.
//!
//! Deliberately absent: whom to offer it to next ([`forward`](super::forward)).

use std::{sync::Arc, time::Duration};

use http_body::Body as _;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};

use super::{
    frames::{Asked, Kind as _, ProtocolError, read_response, request_head, unexpected},
    offering::{Offering, Progress, Sent},
    parts::Mesh,
    pb::{self, response::Kind},
    peers::{Lane, StreamSlot, Unsent, describe},
    pull::{self, Pull, Responses},
    wire::{WireError, Writer},
};
use crate::{
    admission::{Body, Failure, empty, is_small},
    oci::{Route, leaves_open},
    ownership::Reachability,
    placement::MemberId,
    telemetry::ForwardOutcome,
};

/// How long the end of a stream that was refused may take: it comes with the refusal.
const GOODBYE: Duration = Duration::from_millis(500);

/// What became of an offer.
pub(super) enum Offer {
    /// The member answered.
    Answered(http::Response<Body>),
    /// Nothing happened: another member holds the repository.
    NotOwner(MemberId),
    /// Nothing happened: the member has no room.
    Busy,
    /// Nothing happened, or nothing that matters: the member can't be reached, broke off or refused.
    Failed,
    /// The request was handed over, and there is no answer.
    Lost(Failure),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("no answer in time")]
    Late,
    #[error("no progress")]
    Stalled,
    #[error("the stream couldn't be opened: {0}")]
    Open(String),
    #[error("the peer says: {0}")]
    Refused(tonic::Status),
}

impl Fault {
    fn outcome(&self) -> ForwardOutcome {
        match self {
            Self::Protocol(_) | Self::Refused(_) => ForwardOutcome::Refused,
            Self::Wire(_) | Self::Late | Self::Stalled | Self::Open(_) => ForwardOutcome::Unreachable,
        }
    }
}

/// What came first on a stream.
enum First {
    Accepted,
    NotOwner(MemberId),
    Busy,
}

/// Offers `asked` to `peer`. `body` is taken if the request may change something and the peer accepted it.
pub(super) async fn offer(
    mesh: &Arc<Mesh>,
    peer: &MemberId,
    asked: &Asked,
    body: &mut Option<Body>,
    holder: Reachability,
) -> Offer {
    let slot = match mesh.peers.slot(peer, lane(asked, body.as_ref())).await {
        Ok(slot) => slot,
        Err(Unsent::Full) => return done(mesh, peer, ForwardOutcome::Busy, Offer::Busy),
        Err(Unsent::Unreachable(_)) => return done(mesh, peer, ForwardOutcome::Unreachable, Offer::Failed),
    };
    let entry = mesh.in_flight.enter(
        pb::Direction::Forwarded,
        peer,
        &asked.request_id,
        &asked.parts.method,
        &asked.route,
    );
    let began = Instant::now();
    let head = request_head(asked, mesh.me(), peer, holder);
    let (go, held) = oneshot::channel();
    let offering = if asked.is_safe() {
        Offering::safe(head)
    } else {
        Offering::held(head, held)
    };
    let progress = offering.progress();
    let sent = Sent::new(mesh.metrics.clone(), peer.clone(), progress.clone());
    let mut stream = Stream {
        slot,
        patience: mesh.stall,
    };

    let opened = stream
        .open(offering, mesh.limits.head_bytes, mesh.limits.accept)
        .await;
    let mut frames = match opened {
        Ok((frames, First::Accepted)) => frames,
        Ok((frames, First::NotOwner(holder))) => {
            goodbye(frames).await;
            return done(mesh, peer, ForwardOutcome::NotOwner, Offer::NotOwner(holder));
        }
        Ok((frames, First::Busy)) => {
            goodbye(frames).await;
            return done(mesh, peer, ForwardOutcome::Busy, Offer::Busy);
        }
        Err(fault) => {
            if matches!(fault, Fault::Late) {
                mesh.peers.suspect(peer, "it doesn't answer");
            }
            log(peer, asked, &fault);
            return done(mesh, peer, fault.outcome(), Offer::Failed);
        }
    };
    mesh.peers.answered(peer);

    if !asked.is_safe() {
        let Some(client) = body.take() else {
            return Offer::Failed;
        };
        if let Err(client) = go.send(client) {
            // The stream is gone, and the body still here.
            *body = Some(client);
            return done(mesh, peer, ForwardOutcome::Unreachable, Offer::Failed);
        }
    }
    let head = match stream.head(&mut frames, asked, &progress).await {
        Ok(head) => head,
        Err(fault) => {
            if let Some(failure) = progress.fault() {
                return done(mesh, peer, ForwardOutcome::Broken, Offer::Lost(failure));
            }
            log(peer, asked, &fault);
            return match (asked.is_safe(), fault) {
                (false, _) => done(
                    mesh,
                    peer,
                    ForwardOutcome::Unknown,
                    Offer::Lost(Failure::OutcomeUnknown),
                ),
                (true, Fault::Late) => done(
                    mesh,
                    peer,
                    ForwardOutcome::Unreachable,
                    Offer::Lost(Failure::HoldTimeUp),
                ),
                (true, fault) => done(mesh, peer, fault.outcome(), Offer::Failed),
            };
        }
    };
    mesh.metrics.forward_took(peer, began.elapsed());
    let (parts, content_length) = match read_response(head, peer) {
        Ok(head) => head,
        Err(error) => {
            log(peer, asked, &Fault::Protocol(error));
            let lost = if asked.is_safe() {
                Offer::Failed
            } else {
                Offer::Lost(Failure::OutcomeUnknown)
            };
            return done(mesh, peer, ForwardOutcome::Refused, lost);
        }
    };
    if content_length == Some(0) {
        // Whoever sends such a response may never ask for its body (HEAD, 204, 304): it is read to its end here.
        return match timeout(mesh.limits.accept, no_body(&mut frames))
            .await
            .unwrap_or(Err(Fault::Late))
        {
            Ok(()) => {
                let response = http::Response::from_parts(parts, empty());
                done(mesh, peer, ForwardOutcome::Answered, Offer::Answered(response))
            }
            Err(fault) => {
                log(peer, asked, &fault);
                let lost = if asked.is_safe() {
                    Offer::Failed
                } else {
                    Offer::Lost(Failure::OutcomeUnknown)
                };
                done(mesh, peer, ForwardOutcome::Broken, lost)
            }
        };
    }
    let resume = pull::Resume::of(asked, &parts, content_length);
    let pull = Pull::new(
        mesh.clone(),
        peer.clone(),
        frames,
        content_length,
        resume,
        (stream.slot, entry, sent),
    );
    let body = Body::new(pull);
    done(
        mesh,
        peer,
        ForwardOutcome::Answered,
        Offer::Answered(http::Response::from_parts(parts, body)),
    )
}

/// Bodies of blobs have connections of their own.
fn lane(asked: &Asked, body: Option<&Body>) -> Lane {
    let is_large = |body: &Body| !is_small(body.size_hint().upper());
    match asked.route {
        Route::GetBlob { .. } if leaves_open(&asked.parts.headers) => Lane::Pieces,
        Route::GetBlob { .. } => Lane::Pulls,
        _ if !asked.is_safe() && body.is_some_and(is_large) => Lane::Pushes,
        _ => Lane::Control,
    }
}

struct Stream {
    slot: StreamSlot,
    patience: Duration,
}

impl Stream {
    /// Sends the head and waits for the owner's decision.
    async fn open(
        &mut self,
        offering: Offering,
        head_bytes: usize,
        within: Duration,
    ) -> Result<(Responses, First), Fault> {
        let deadline = Instant::now() + within;
        let request = http::Request::post("https://portolan/portolan.mesh.v1.Mesh/Forward")
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .header(http::header::TE, "trailers")
            .body(Writer::request(offering))
            .map_err(|error| Fault::Open(error.to_string()))?;
        let response = timeout_at(deadline, self.slot.sender.send_request(request))
            .await
            .map_err(|_| Fault::Late)?
            .map_err(|error| Fault::Open(describe(&error)))?;
        let status = tonic::Status::from_header_map(response.headers());
        if let Some(status) = status.filter(|status| status.code() != tonic::Code::Ok) {
            return Err(Fault::Refused(status));
        }
        if response.status() != http::StatusCode::OK {
            return Err(Fault::Open(format!("HTTP status {}", response.status())));
        }
        let mut frames = Responses::new(response.into_body(), head_bytes);
        let first = timeout_at(deadline, frames.next())
            .await
            .map_err(|_| Fault::Late)??;
        let first = match first.and_then(|frame| frame.kind) {
            Some(Kind::Accepted(_)) => First::Accepted,
            Some(Kind::NotOwner(not_owner)) => {
                let holder = not_owner.holder.parse();
                First::NotOwner(holder.map_err(|_| ProtocolError::Field {
                    field: "not_owner.holder",
                })?)
            }
            Some(Kind::Busy(_)) => First::Busy,
            kind => {
                let found = kind.map(|kind| pb::Response { kind: Some(kind) });
                let error = unexpected("accepted, not_owner or busy", found.as_ref());
                // A refusal with a status ends the stream before any frame.
                return Err(frames.status().map_or(Fault::Protocol(error), Fault::Refused));
            }
        };
        Ok((frames, first))
    }

    /// Waits for the response's head: as long as the body moves, and then until nobody waits any more.
    async fn head(
        &self,
        frames: &mut Responses,
        asked: &Asked,
        progress: &Progress,
    ) -> Result<pb::ResponseHead, Fault> {
        let head = async {
            match frames.next().await?.map(|frame| (frame.kind(), frame.kind)) {
                Some((_, Some(Kind::Head(head)))) => Ok(head),
                Some((found, _)) => Err(ProtocolError::Frame {
                    expected: "head",
                    found,
                }
                .into()),
                None => Err(Fault::from(unexpected("head", None::<&pb::Response>))),
            }
        };
        let late = async {
            if !asked.is_safe() {
                let mut seen = None;
                while !progress.is_complete() {
                    let now = progress.bytes();
                    if seen.replace(now) == Some(now) {
                        return Fault::Stalled;
                    }
                    tokio::time::sleep(self.patience).await;
                }
            }
            let least = if asked.is_safe() {
                Duration::ZERO
            } else {
                self.patience
            };
            tokio::time::sleep_until(asked.deadline.max(Instant::now() + least)).await;
            Fault::Late
        };
        tokio::select! {
            biased;
            head = head => head,
            fault = late => Err(fault),
        }
    }
}

/// Reads the end of a response without a body.
async fn no_body(frames: &mut Responses) -> Result<(), Fault> {
    match frames.next().await? {
        Some(pb::Response {
            kind: Some(Kind::End(pb::End { bytes: 0 })),
        }) => Ok(frames.finish().await?),
        frame => Err(unexpected("the end of no bytes", frame.as_ref()).into()),
    }
}

/// Reads a refused stream to its end, which is here already: a stream dropped before its end is reset.
async fn goodbye(mut frames: Responses) {
    let _ = timeout(GOODBYE, frames.finish()).await;
}

fn done(mesh: &Mesh, peer: &MemberId, outcome: ForwardOutcome, offer: Offer) -> Offer {
    mesh.metrics.forward(peer, outcome);
    offer
}

fn log(peer: &MemberId, asked: &Asked, fault: &Fault) {
    let (request, route) = (asked.request_id.as_str(), asked.route.name());
    tracing::warn!(%peer, request, route, error = %fault, "a forward failed");
}
