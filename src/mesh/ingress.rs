//! The owner's side of `Forward`, up to `accepted`.
//!
//! That the peer is a member was decided before any byte of the call was read ([`server`](super::server)). Here the
//! head is read, within a time and a size, and everything it says is checked: that the sender is one its certificate
//! vouches for, that this member is meant, that the grants cover the route. Then there must be room, at once: a member
//! that let others wait for permits would wait for them in turn. Then the repository must be this member's to change.
//!
//! Deliberately absent: forwarding. A request that isn't for this member is answered with the one it is for.

use std::sync::Arc;

use hyper::body::Incoming;
use tokio::time::timeout;
use tonic::Status;

use super::{
    answers::{Answers, Batches, Requests},
    frames::{Asked, Offered, ProtocolError, number, read_request},
    identity::{Names, vouches},
    parts::Mesh,
    pb::{self, response::Kind},
    replay::replay,
    wire::Writer,
};
use crate::{
    admission::is_small,
    net::{Caller, Drain, Permit, Purpose, Shares, Supply},
    ownership::{Claim, Reachability},
    placement::MemberId,
    telemetry::ForwardOutcome,
};

/// Serves requests that other members forward.
#[derive(Debug)]
pub(super) struct Ingress {
    mesh: Arc<Mesh>,
    permits: Shares,
    drain: Drain,
}

impl Ingress {
    /// At most [`MeshLimits::replays`](crate::config::limits::MeshLimits::replays) at a time, as tasks of `drain`.
    pub(super) fn new(mesh: Arc<Mesh>, drain: Drain) -> Self {
        let permits = Shares::new(Supply::of(mesh.limits.replays));
        Self { mesh, permits, drain }
    }

    /// One call of a member whose certificate has `names`.
    pub(super) fn forward(
        self: &Arc<Self>,
        names: Arc<Names>,
        request: http::Request<Incoming>,
    ) -> http::Response<Writer<Batches>> {
        let (answers, batches) = Answers::new(self.mesh.stall);
        let ingress = self.clone();
        self.drain.spawn("replay", async move {
            let gone = answers.sender();
            tokio::select! {
                biased;
                // The front gave the stream up: so does the local service.
                () = gone.closed() => {}
                () = ingress.serve(&names, request.into_body(), answers) => {}
            }
        });
        let mut response = http::Response::new(Writer::response(batches));
        let grpc = http::HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
        response
    }

    async fn serve(&self, names: &Names, body: Incoming, mut answers: Answers) {
        let mut frames = Requests::new(body, self.mesh.limits.head_bytes);
        let offered = match self.offered(names, &mut frames).await {
            Ok(offered) => offered,
            Err(status) => {
                tracing::warn!(?names, %status, "a forward was refused");
                answers.refuse(status).await;
                return;
            }
        };
        let peer = offered.sender.clone();
        let outcome = self.admitted(offered, frames, &mut answers).await;
        self.mesh.metrics.replay(&peer, outcome);
    }

    /// Reads and checks the head.
    async fn offered(&self, names: &Names, frames: &mut Requests) -> Result<Offered, Status> {
        let head = timeout(self.mesh.limits.head_within, frames.next());
        let head = head
            .await
            .map_err(|_| Status::deadline_exceeded("no head came"))?;
        let head = head.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let offered = read_request(head).map_err(|error| match error {
            ProtocolError::Version { .. } => Status::failed_precondition(error.to_string()),
            ProtocolError::Frame { .. } | ProtocolError::Field { .. } => {
                Status::invalid_argument(error.to_string())
            }
        })?;
        let (sender, recipient) = (&offered.sender, &offered.recipient);
        if !vouches(names, sender, self.mesh.owners.view().as_ref()) {
            return Err(Status::permission_denied(format!(
                "the certificate is not {sender}'s"
            )));
        }
        let me = self.mesh.me();
        if recipient != me {
            return Err(Status::failed_precondition(format!(
                "this is {me}, not {recipient}"
            )));
        }
        if !offered.asked.is_covered() {
            return Err(Status::permission_denied("the grants don't cover the request"));
        }
        Ok(offered)
    }

    /// Room, ownership, then the local service.
    async fn admitted(&self, offered: Offered, frames: Requests, answers: &mut Answers) -> ForwardOutcome {
        let Some(_permit) = self.permit(&offered.asked) else {
            answers.push(Kind::Busy(pb::Busy {
                reason: "replays".to_owned(),
            }));
            answers.last().await;
            return ForwardOutcome::Busy;
        };
        if let Some(holder) = self.holder(&offered).await {
            answers.push(Kind::NotOwner(pb::NotOwner {
                holder: holder.as_str().to_owned(),
            }));
            answers.last().await;
            return ForwardOutcome::NotOwner;
        }
        replay(&self.mesh, offered, frames, answers).await
    }

    /// One that is shared out by client, as the front's are: a client may come through all fronts at once.
    fn permit(&self, asked: &Asked) -> Option<Permit> {
        let caller = Caller::of(asked.identity.user.as_deref(), asked.client.parse().ok());
        let announced = number(&asked.parts.headers, http::header::CONTENT_LENGTH);
        let has_none = asked.is_safe() || asked.parts.method == http::Method::DELETE;
        let purpose = match has_none || is_small(announced) {
            true => Purpose::Other,
            false => Purpose::Upload,
        };
        self.permits.try_take(&caller, purpose)
    }

    /// The member that should make the change instead of this one.
    async fn holder(&self, offered: &Offered) -> Option<MemberId> {
        let owners = &self.mesh.owners;
        let route = &offered.asked.route;
        let held = owners.claim(route, Reachability::Unknown, |_| true).await;
        let holder = match held {
            Ok(Claim::Held(holder)) => holder,
            // Without the store nobody can make the change; the local service says so.
            Ok(Claim::Mine) | Err(_) => return None,
        };
        if offered.holder == Reachability::Unknown {
            return Some(holder);
        }
        // The front can't reach it. Whether this member can is found out now, not remembered.
        let is_reached = self.mesh.peers.probe(&holder).await;
        match owners.claim(route, offered.holder, |_| is_reached).await {
            Ok(Claim::Held(holder)) => Some(holder),
            Ok(Claim::Mine) | Err(_) => None,
        }
    }
}
