//! Read-only answers to an operator's questions. They name no user.
//!
//! Deliberately absent: anything that changes something. An operator's certificate is for looking.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tonic::{Request, Response, Status};

use super::{parts::Mesh, pb};
use crate::{
    oci::RepoName,
    ownership::{LeaseView, Liveness, MemberView, Standing},
};

/// The `Diagnostics` service.
#[derive(Debug)]
pub(super) struct Diagnostics(pub(super) Arc<Mesh>);

#[async_trait::async_trait]
impl pb::diagnostics_server::Diagnostics for Diagnostics {
    async fn members(&self, _: Request<pb::MembersRequest>) -> Result<Response<pb::MembersResponse>, Status> {
        let (me, view) = (self.0.me(), self.0.owners.view());
        let members = view.members();
        let members = members.iter().map(|member| {
            let state = self.0.peers.state(&member.id);
            let why = match member.id == *me {
                true => why_self(view.standing()),
                false => why(member),
            };
            pb::Member {
                name: member.id.as_str().to_owned(),
                mesh_address: member.mesh_address.clone(),
                live: member.liveness == Liveness::Live,
                why: why.to_owned(),
                connections: state.connections,
                last_error: state.last_error.unwrap_or_default(),
                lease: member.lease.as_ref().map(lease),
            }
        });
        Ok(Response::new(pb::MembersResponse {
            self_: me.as_str().to_owned(),
            members: members.collect(),
            view_age_ms: millis(view.age()),
            trouble: view.trouble().unwrap_or_default(),
        }))
    }

    async fn locate(
        &self,
        request: Request<pb::LocateRequest>,
    ) -> Result<Response<pb::LocateResponse>, Status> {
        let repository = request.into_inner().repository;
        let name: RepoName = repository
            .parse()
            .map_err(|error| Status::invalid_argument(format!("{error}")))?;
        let owners = &self.0.owners;
        let holder = owners
            .holder(&name)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?
            .map(|(holder, _)| holder);
        let is_live = |member: &_| owners.view().liveness(member) == Liveness::Live;
        let ranking = owners.ranking(&name);
        let first = owners.first_live(&name);
        let (owner, why) = match (&holder, first) {
            (Some(holder), _) if is_live(holder) => (Some(holder.clone()), "it holds the repository's row"),
            (Some(_), first) => (
                first,
                "it is ranked first among the live members; the row's holder is gone",
            ),
            (None, first) => (
                first,
                "it is ranked first among the live members; the repository has no row",
            ),
        };
        Ok(Response::new(pb::LocateResponse {
            owner: owner.map(|owner| owner.to_string()).unwrap_or_default(),
            why: why.to_owned(),
            holder: holder.as_ref().map(ToString::to_string).unwrap_or_default(),
            ranking: ranking
                .iter()
                .map(|ranked| pb::Rank {
                    member: ranked.member.to_string(),
                    score: ranked.score,
                    live: is_live(&ranked.member),
                })
                .collect(),
            repository,
        }))
    }

    async fn forwards(
        &self,
        _: Request<pb::ForwardsRequest>,
    ) -> Result<Response<pb::ForwardsResponse>, Status> {
        Ok(Response::new(pb::ForwardsResponse {
            forwards: self.0.in_flight.list(),
        }))
    }

    async fn counters(
        &self,
        _: Request<pb::CountersRequest>,
    ) -> Result<Response<pb::CountersResponse>, Status> {
        Ok(Response::new(pb::CountersResponse {
            counters: samples(&self.0.metrics.render()),
        }))
    }

    async fn take_overs(
        &self,
        _: Request<pb::TakeOversRequest>,
    ) -> Result<Response<pb::TakeOversResponse>, Status> {
        let (latest, total) = self.0.take_overs.latest();
        let take_overs = latest.into_iter().map(|take_over| pb::TakeOver {
            repository: take_over.repository.to_string(),
            from: take_over.from,
            by: take_over.by,
            at_ms: take_over.at_ms,
        });
        Ok(Response::new(pb::TakeOversResponse {
            take_overs: take_overs.collect(),
            total,
        }))
    }
}

fn why_self(standing: Standing) -> &'static str {
    match standing {
        Standing::Member => "it answers this",
        Standing::Drained => "it answers this, and was drained",
        Standing::Leaving => "it answers this, and is about to end",
        Standing::Superseded => "it answers this, but another process has started under its name",
    }
}

fn why(member: &MemberView) -> &'static str {
    match (member.liveness, &member.lease) {
        (Liveness::Live, Some(_)) => "its lease is renewed",
        (Liveness::Live, None) => "it is in the list of members",
        (Liveness::Gone, None) => "it has no lease: it isn't there yet, or has long been gone",
        (Liveness::Gone, Some(lease)) if !lease.differs.is_empty() => "its settings are others",
        (Liveness::Gone, Some(lease)) if lease.drained => "it was drained",
        (Liveness::Gone, Some(lease)) if lease.left => "it left",
        (Liveness::Gone, Some(_)) => "its lease isn't renewed",
        (Liveness::Stranger, _) => "it is no member",
    }
}

fn lease(lease: &LeaseView) -> pb::Lease {
    let key = lease.keys.first();
    pb::Lease {
        incarnation: lease.incarnation.to_bytes().to_vec().into(),
        unchanged_ms: millis(lease.unchanged),
        left: lease.left,
        drained: lease.drained,
        protocol_min: lease.protocol.0,
        protocol_max: lease.protocol.1,
        differs: lease.differs.clone(),
        public_key_hash: key.map(|key| key.to_bytes().to_vec().into()).unwrap_or_default(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The samples of a text in the OpenMetrics format, by name with labels.
#[must_use]
pub fn samples(text: &str) -> HashMap<String, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{ForwardOutcome, Metrics};

    #[test]
    fn counters_are_the_samples_of_the_metrics() {
        let metrics = Metrics::new();
        metrics.forward(&"a:1".parse().unwrap(), ForwardOutcome::Answered);
        let counters = samples(&metrics.render());
        let name = r#"portolan_forwards_total{peer="a:1",outcome="answered"}"#;
        assert_eq!(counters.get(name), Some(&1.0), "{counters:?}");
    }
}
