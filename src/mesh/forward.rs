//! The front's side: which member serves a request, and what happens when it doesn't.
//!
//! A disagreement never refuses a client. The request is offered to the member its repository was last found at, then
//! down the ranking; one `not_owner` is followed; a member that is busy or can't be reached is passed over; and when
//! nobody is left, this member serves it, which is always right because the store decides. While it looks, the
//! client waits.
//!
//! Deliberately absent: a limit on concurrent forwards (the front's permits admit requests, the streams of
//! [`Peers`](super::Peers) bound each peer), and credentials (they ended at the front).

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tower::{ServiceExt as _, service_fn, util::BoxCloneSyncService};

use super::{
    frames::Asked,
    offer::{Offer, offer},
    parts::Mesh,
    peers::jittered,
};
use crate::{
    admission::{Admitted, Body, Service},
    oci::{Effect, RepoName, Route},
    ownership::{Claim, Liveness, Reachability},
    placement::MemberId,
};

/// First pause before busy members are asked again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Where a request runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Here.
    Local,
    /// At one of these members, the first that takes it.
    Owners(Vec<MemberId>),
}

/// How the search for a member ended.
enum Found {
    /// A member answered, or nobody can tell what it did.
    Response(http::Response<Body>),
    /// This member is to serve the request.
    Local,
    /// Everyone was busy.
    NoRoom,
}

impl Mesh {
    /// The service for the front: each request is served by the member it belongs to.
    #[must_use]
    pub fn router(self: &Arc<Self>) -> Service {
        let mesh = self.clone();
        BoxCloneSyncService::new(service_fn(move |admitted| {
            let mesh = mesh.clone();
            async move { Ok::<_, Infallible>(mesh.route(admitted).await) }
        }))
    }

    /// Decides where `route` runs. The only place that does.
    #[must_use]
    pub fn place(&self, route: &Route) -> Forwarding {
        let Some(repository) = route.repository() else {
            return Forwarding::Local;
        };
        let candidates = self.owners.candidates(repository);
        let is_alone = candidates.iter().all(|candidate| candidate == self.me());
        // The first candidate of a read is right wherever it is.
        let is_mine = route.effect() == Effect::Safe && candidates.first() == Some(self.me());
        if is_alone || is_mine {
            Forwarding::Local
        } else {
            Forwarding::Owners(candidates)
        }
    }

    async fn route(self: Arc<Self>, admitted: Admitted) -> http::Response<Body> {
        let (candidates, repository) = match (self.place(&admitted.route), admitted.route.repository()) {
            (Forwarding::Owners(candidates), Some(repository)) => (candidates, repository.clone()),
            _ => return self.serve(admitted).await,
        };
        let until = (Instant::now() + self.limits.hold).min(admitted.deadline);
        let (asked, body) = Asked::split(admitted);
        let mut search = Search {
            mesh: &self,
            repository,
            asked: &asked,
            body: Some(body),
            unreachable: HashSet::new(),
            named: HashSet::new(),
            until,
        };
        let mut pause = FIRST_PAUSE;
        loop {
            match search.round(candidates.clone()).await {
                Found::Response(response) => return response,
                Found::NoRoom if Instant::now() + pause < until => {
                    sleep(jittered(pause)).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Found::NoRoom | Found::Local => break,
            }
        }
        let body = search.body.unwrap_or_else(crate::admission::empty);
        self.serve(asked.with(body)).await
    }

    async fn serve(&self, admitted: Admitted) -> http::Response<Body> {
        self.local
            .clone()
            .oneshot(admitted)
            .await
            .unwrap_or_else(|never| match never {})
    }
}

/// One request looking for the member that serves it.
struct Search<'a> {
    mesh: &'a Arc<Mesh>,
    repository: RepoName,
    asked: &'a Asked,
    // Here until it is handed over.
    body: Option<Body>,
    unreachable: HashSet<MemberId>,
    // Members that another one named as the holder.
    named: HashSet<MemberId>,
    until: Instant,
}

impl Search<'_> {
    /// Asks every candidate once, and whom one of them names as the holder.
    async fn round(&mut self, candidates: Vec<MemberId>) -> Found {
        let mut asked = HashSet::new();
        let mut queue: std::collections::VecDeque<_> = candidates.into();
        let mut hints = self.mesh.limits.hints;
        let mut is_busy = false;
        let mut holder = Reachability::Unknown;
        while let Some(member) = queue.pop_front() {
            if Instant::now() >= self.until {
                break;
            }
            if !asked.insert(member.clone()) || self.unreachable.contains(&member) {
                continue;
            }
            let named = if member == *self.mesh.me() {
                match claim(self.mesh, self.asked, &self.unreachable, holder).await {
                    Some(named) => named,
                    None => return Found::Local,
                }
            } else {
                match offer(self.mesh, &member, self.asked, &mut self.body, holder).await {
                    Offer::Answered(response) => {
                        self.learn(&member);
                        return Found::Response(response);
                    }
                    Offer::Lost(failure) => return Found::Response(failure.into_response()),
                    Offer::NotOwner(named) => {
                        self.mesh.owners.hints().forget(&self.repository, &member);
                        named
                    }
                    Offer::Busy => {
                        is_busy = true;
                        continue;
                    }
                    Offer::Failed => {
                        self.mesh.owners.hints().forget(&self.repository, &member);
                        self.unreachable.insert(member);
                        continue;
                    }
                }
            };
            if self.unreachable.contains(&named) {
                // The holder is gone for this member: whoever named it may take over, if it is gone for it, too.
                if holder == Reachability::Unknown {
                    holder = Reachability::UnreachableForFront;
                    asked.remove(&member);
                    queue.push_front(member);
                }
            } else if hints > 0 && !asked.contains(&named) && is_member(self.mesh, &named).await {
                hints -= 1;
                self.named.insert(named.clone());
                queue.push_front(named);
            }
        }
        if is_busy { Found::NoRoom } else { Found::Local }
    }

    /// Remembers where the repository was found, if that isn't where the ranking leads.
    fn learn(&self, member: &MemberId) {
        let hints = self.mesh.owners.hints();
        if self.named.contains(member) {
            hints.learn(&self.repository, member.clone());
        }
        let first = self.mesh.owners.ranking(&self.repository).into_iter().next();
        if first.is_some_and(|first| first.member == *member) {
            hints.forget(&self.repository, member);
        }
    }
}

/// Whether the member that another one named is one: it may have come a moment ago.
async fn is_member(mesh: &Mesh, named: &MemberId) -> bool {
    let view = mesh.owners.view();
    if view.liveness(named) == Liveness::Stranger {
        view.look().await;
    }
    view.liveness(named) != Liveness::Stranger
}

/// The member that holds the repository, unless this one may serve the request.
async fn claim(
    mesh: &Mesh,
    asked: &Asked,
    unreachable: &HashSet<MemberId>,
    holder: Reachability,
) -> Option<MemberId> {
    let reaches = |member: &MemberId| !unreachable.contains(member);
    match mesh.owners.claim(&asked.route, holder, reaches).await {
        Ok(Claim::Held(holder)) => Some(holder),
        // Without the store nobody can serve it; the local service says so.
        Ok(Claim::Mine) | Err(_) => None,
    }
}
