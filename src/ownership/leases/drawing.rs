//! The view, drawn from what was seen of the leases and from who belongs to the mesh.

use std::{collections::BTreeMap, sync::Arc};

use super::Membership;
use crate::{
    ownership::{
        Announcement, LeaseView, Liveness, MemberView, Standing,
        lease::Lease,
        sightings::{Sighting, Sightings},
    },
    placement::MemberId,
};

/// What it is drawn from.
pub(super) struct Drawing<'a> {
    pub(super) me: &'a MemberId,
    pub(super) said: &'a Announcement,
    pub(super) standing: Standing,
    pub(super) sightings: &'a Sightings,
}

impl Drawing<'_> {
    /// All members, by name.
    pub(super) fn members(&self, membership: &Membership) -> Arc<[MemberView]> {
        let members: BTreeMap<&MemberId, MemberView> = match membership {
            Membership::Listed(listed) => listed
                .iter()
                .map(|(id, address)| (id, self.member(id, Some(address))))
                .collect(),
            Membership::Dynamic { .. } => self
                .sightings
                .iter()
                .map(|sighting| &sighting.lease.member)
                .chain([self.me])
                .map(|id| (id, self.member(id, None)))
                .collect(),
        };
        members.into_values().collect()
    }

    /// One of them. A listed one is where the list says, another one where its lease says.
    fn member(&self, id: &MemberId, listed: Option<&str>) -> MemberView {
        let sighting = self.sightings.get(id);
        let lease = sighting.map(|sighting| self.lease(sighting));
        let liveness = match (id == self.me, self.standing) {
            (true, Standing::Member) => Liveness::Live,
            (true, Standing::Drained | Standing::Leaving | Standing::Superseded) => Liveness::Gone,
            (false, _) => liveness(sighting, lease.as_ref()),
        };
        let announced = match id == self.me {
            true => Some(&*self.said.mesh_address),
            false => sighting.map(|sighting| &*sighting.lease.said.mesh_address),
        };
        MemberView {
            id: id.clone(),
            mesh_address: listed.or(announced).unwrap_or_default().to_owned(),
            liveness,
            lease,
        }
    }

    fn lease(&self, sighting: &Sighting) -> LeaseView {
        let Lease {
            incarnation,
            said,
            keys,
            left,
            drained,
            ..
        } = &sighting.lease;
        LeaseView {
            incarnation: *incarnation,
            unchanged: sighting.unchanged,
            left: *left,
            drained: *drained,
            protocol: said.protocol,
            keys: keys.clone(),
            differs: self.said.differs(said),
            collecting: said.collecting,
        }
    }
}

fn liveness(sighting: Option<&Sighting>, lease: Option<&LeaseView>) -> Liveness {
    match (sighting, lease) {
        (Some(sighting), Some(lease)) if !sighting.is_silent && !lease.left && lease.differs.is_empty() => {
            Liveness::Live
        }
        _ => Liveness::Gone,
    }
}

/// Logs who came, went, and isn't to be trusted with a repository.
pub(super) fn tell_changes(me: &MemberId, before: &[MemberView], after: &[MemberView]) {
    for now in after.iter().filter(|member| member.id != *me) {
        let then = before.iter().find(|member| member.id == now.id);
        if then.is_some_and(|then| then.liveness == now.liveness) {
            continue;
        }
        let (member, lease) = (&now.id, now.lease.as_ref());
        match (now.liveness, lease) {
            (Liveness::Live, _) => tracing::info!(%member, "a member is live"),
            (_, Some(lease)) if !lease.differs.is_empty() => {
                tracing::error!(%member, differs = ?lease.differs, "a member has other settings and is left out");
            }
            (_, Some(lease)) if lease.drained => tracing::info!(%member, "a member was drained"),
            (_, Some(lease)) if lease.left => tracing::info!(%member, "a member has left"),
            (_, Some(_)) => tracing::warn!(%member, "a member is judged dead: it doesn't renew its lease"),
            (_, None) if then.is_some() => tracing::info!(%member, "a member has no lease any more"),
            (_, None) => tracing::info!(%member, "a member isn't there yet"),
        }
    }
    for then in before {
        if !after.iter().any(|now| now.id == then.id) {
            tracing::info!(member = %then.id, "it is no member any more");
        }
    }
}
