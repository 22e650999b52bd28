//! What both sides of the mesh are made of.

use std::{sync::Arc, time::Duration};

use super::{Peers, in_flight::InFlight};
use crate::{
    admission::Service,
    config::{Limits, limits::MeshLimits},
    ownership::{Owners, TakeOvers},
    placement::MemberId,
    telemetry::Metrics,
    upstream::Budgets,
};

/// What both sides of the mesh share. Made once, in the composition root.
pub struct Mesh {
    pub(super) owners: Arc<Owners>,
    pub(super) peers: Arc<Peers>,
    pub(super) local: Service,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: MeshLimits,
    /// How long a transfer may make no progress, either way.
    pub(super) stall: Duration,
    pub(super) in_flight: InFlight,
    pub(super) take_overs: TakeOvers,
    pub(super) budgets: Arc<Budgets>,
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh")
            .field("me", self.me())
            .finish_non_exhaustive()
    }
}

impl Mesh {
    /// `local` is the local service, without any forwarding in it.
    #[must_use]
    pub fn new(
        owners: Arc<Owners>,
        peers: Arc<Peers>,
        local: Service,
        metrics: Arc<Metrics>,
        limits: &Limits,
    ) -> Self {
        Self {
            owners,
            peers,
            local,
            metrics,
            limits: limits.mesh,
            stall: limits.net.stall,
            in_flight: InFlight::default(),
            take_overs: TakeOvers::default(),
            budgets: Arc::default(),
        }
    }

    /// Places in these are lent to the other members.
    #[must_use]
    pub fn lending(mut self, budgets: Arc<Budgets>) -> Self {
        self.budgets = budgets;
        self
    }

    /// Whoever asks is told of these.
    #[must_use]
    pub fn telling(mut self, take_overs: TakeOvers) -> Self {
        self.take_overs = take_overs;
        self
    }

    /// This member.
    pub(super) fn me(&self) -> &MemberId {
        self.owners.view().me()
    }
}
