//! One member, put together.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{MemberSpec, StartError, Stores};
use crate::{
    admission::Service,
    auth::AllowAnonymous,
    config::Limits,
    http::{self, FrontLimits, FrontParts, Probes, ServerLimits},
    net::{Drain, IoSettings, Listener, ListenerSettings, Remaining, ServerTls},
    ownership::Incarnation,
    placement::MemberId,
    registry::{Holder, Registry, Settings},
    storage::{Coalesced, MeteredBlobs, MeteredMeta},
    telemetry::Metrics,
};

/// A member whose sockets are open, and that doesn't answer yet.
pub struct App {
    id: MemberId,
    drain: Drain,
    metrics: Arc<Metrics>,
    probes: Probes,
    public: Listener,
    front: http::Front,
    limits: Limits,
}

/// A member that runs.
pub struct Running {
    id: MemberId,
    public: SocketAddr,
    drain: Drain,
    metrics: Arc<Metrics>,
    probes: Probes,
}

impl App {
    /// Builds the member over `stores` and opens its sockets.
    ///
    /// # Errors
    /// [`StartError`]: everything that can be wrong with the specification is found here.
    pub async fn bind(spec: MemberSpec, stores: Stores) -> Result<Self, StartError> {
        let MemberSpec {
            id,
            public,
            public_tls,
            mesh,
            limits,
        } = spec;
        let drain = Drain::new();
        let metrics = Arc::new(Metrics::new());
        let incarnation = Incarnation::random();
        let probes = Probes::new(id.clone(), drain.clone(), stores.clone(), metrics.clone());

        let counted = counted(stores, &metrics);
        let holder = Holder {
            member: id.clone(),
            incarnation,
        };
        let registry = Arc::new(Registry::new(counted, holder, settings(&limits)));
        let local = http::local(registry);

        let _ = mesh;
        let router: Service = local;

        let tls = public_tls.map(ServerTls::load).transpose()?;
        let public = Listener::bind("public", public, tls, public_settings(&limits)).await?;
        let front = http::front(FrontParts {
            me: id.clone(),
            authority: Arc::new(AllowAnonymous),
            probes: probes.clone(),
            metrics: metrics.clone(),
            limits: FrontLimits::from(&limits),
            mesh: router,
        });
        Ok(Self {
            id,
            drain,
            metrics,
            probes,
            public,
            front,
            limits,
        })
    }

    /// Begins to answer.
    pub fn serve(self) -> Running {
        let Self {
            id,
            drain,
            metrics,
            probes,
            public,
            front,
            limits,
        } = self;
        let address = public.address();
        let serving = drain.clone();
        drain.spawn("public listener", async move {
            http::serve(public, &serving, front, ServerLimits::from(&limits)).await;
        });
        tracing::info!(member = %id, public = %address, "serving");
        Running {
            id,
            public: address,
            drain,
            metrics,
            probes,
        }
    }
}

impl Running {
    /// Its name.
    pub fn id(&self) -> &MemberId {
        &self.id
    }

    /// Where clients reach it.
    pub fn public_address(&self) -> SocketAddr {
        self.public
    }

    /// What it has counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether it should be sent requests, and why not.
    ///
    /// # Errors
    /// The reason, for people.
    pub async fn ready(&self) -> Result<(), String> {
        self.probes.readiness().await
    }

    /// Takes nothing new on any more; what is in flight goes on.
    pub fn begin_drain(&self) {
        self.drain.begin();
    }

    /// Takes nothing new on, waits at most `bound` for what is in flight, then ends; gives what had to be cut.
    pub async fn drain(self, bound: Duration) -> Vec<Remaining> {
        let remaining = self.drain.finish(bound).await;
        for cut in &remaining {
            tracing::warn!(member = %self.id, name = %cut.name, count = cut.count, "cut at the end of the drain");
        }
        tracing::info!(member = %self.id, "ended");
        remaining
    }
}

/// Counted where requests leave for the store, and shared before that, so that the counts are those of the store.
fn counted(stores: Stores, metrics: &Arc<Metrics>) -> Stores {
    let meta = Arc::new(MeteredMeta::new(stores.meta, metrics.clone()));
    Stores {
        meta: Arc::new(Coalesced::new(meta)),
        blobs: Arc::new(MeteredBlobs::new(stores.blobs, metrics.clone())),
    }
}

fn settings(limits: &Limits) -> Settings {
    Settings {
        part_size: limits.upload_part_bytes as u64,
        parts_in_flight: limits.upload_parts_in_flight,
        session_ttl: limits.session_expiry,
        link_grace: limits.unreferenced_grace,
        trash_delay: limits.trash_time,
        tombstone: limits.tombstone_time,
        inline_manifest: limits.manifest_inline_bytes,
        attempts: u32::try_from(limits.change_attempts).unwrap_or(u32::MAX),
        ..Settings::default()
    }
}

fn public_settings(limits: &Limits) -> ListenerSettings {
    ListenerSettings {
        connections: limits.public_connections,
        handshake: limits.tls_handshake_timeout,
        io: IoSettings {
            write_stall: limits.no_progress_timeout,
            ..IoSettings::PUBLIC
        },
    }
}
